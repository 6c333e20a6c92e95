//! What stands in front of libc in this test's program: the calls that change files. Everything is handed on,
//! and noted if it succeeds below the directory that is watched.
//!
//! What never lives here: what is right. All that is unsafe is here.

#![expect(unsafe_code, reason = "libc's functions can be replaced in no other way")]

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    fs,
    mem::transmute,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Mutex,
        atomic::{AtomicPtr, Ordering},
    },
};

use super::Change;

/// The directory that is watched, and what was changed below it.
static WATCHED: Mutex<Option<(PathBuf, Vec<Change>)>> = Mutex::new(None);

/// From now on what is changed below `root` is noted.
pub fn watch(root: &Path) {
    *WATCHED.lock().unwrap() = Some((root.to_owned(), Vec::new()));
}

/// What was changed since this was last asked, in its order.
pub fn take() -> Vec<Change> {
    WATCHED.lock().unwrap().as_mut().map(|(_, changes)| std::mem::take(changes)).unwrap_or_default()
}

fn note(path: &Path, change: impl FnOnce() -> Change) {
    if let Some((root, changes)) = &mut *WATCHED.lock().unwrap()
        && path.starts_with(root)
    {
        changes.push(change());
    }
}

fn path_of(file: c_int) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default()
}

/// # Safety
/// It is a string that ends with a zero.
unsafe fn named(name: *const c_char) -> PathBuf {
    // SAFETY: whoever calls says so.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

/// libc's own function: its name, with the zero that C wants, and where it is.
struct Libc(&'static str, AtomicPtr<c_void>);

impl Libc {
    fn address(&self) -> *mut c_void {
        let known = self.1.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.0.as_ptr().cast()) };
        if found.is_null() {
            std::process::abort();
        }
        self.1.store(found, Ordering::Relaxed);
        found
    }
}

/// Stands in for a function of libc: hands the call on, and notes it if it did what it should.
macro_rules! interpose {
    (fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $done:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> $result {
            static LIBC: Libc = Libc(concat!(stringify!($name), "\0"), AtomicPtr::new(ptr::null_mut()));
            // SAFETY: this is how libc declares it, and the arguments are the caller's own.
            let result =
                unsafe { transmute::<*mut c_void, extern "C" fn($($type),*) -> $result>(LIBC.address())($($argument),*) };
            if result >= 0 {
                // Whoever looks at what the call came to finds what libc has left there.
                let error = std::io::Error::last_os_error();
                $done;
                // SAFETY: the place belongs to this thread.
                unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(0) };
            }
            result
        }
    };
}

interpose!(fn write(file: c_int, bytes: *const c_void, len: usize) -> isize, {
    let path = path_of(file);
    note(&path, || Change::Written(path.clone()));
});
interpose!(fn pwrite64(file: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize, {
    let path = path_of(file);
    note(&path, || Change::Written(path.clone()));
});
interpose!(fn fsync(file: c_int) -> c_int, {
    let path = path_of(file);
    note(&path, || Change::Synced(path.clone()));
});
interpose!(fn fdatasync(file: c_int) -> c_int, {
    let path = path_of(file);
    note(&path, || Change::Synced(path.clone()));
});
interpose!(fn rename(from: *const c_char, to: *const c_char) -> c_int, {
    // SAFETY: libc has just read both.
    let (from, to) = unsafe { (named(from), named(to)) };
    note(&to, || Change::Renamed(from, to.clone()));
});
interpose!(fn unlink(name: *const c_char) -> c_int, {
    // SAFETY: libc has just read it.
    let name = unsafe { named(name) };
    note(&name, || Change::Named(name.clone()));
});
interpose!(fn mkdir(name: *const c_char, mode: libc::mode_t) -> c_int, {
    // SAFETY: libc has just read it.
    let name = unsafe { named(name) };
    note(&name, || Change::Named(name.clone()));
});
