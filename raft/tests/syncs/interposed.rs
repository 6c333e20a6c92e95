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
    sync::Mutex,
};

use super::{Change, libc_own::Libc};

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

fn note(change: Change) {
    let (Change::Written(path) | Change::Synced(path) | Change::Named(path) | Change::Renamed(_, path)) = &change;
    if let Some((root, changes)) = &mut *WATCHED.lock().unwrap()
        && path.starts_with(root)
    {
        changes.push(change);
    }
}

/// Notes what was done to an open file.
fn opened(file: c_int, change: fn(PathBuf) -> Change) {
    note(change(fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default()));
}

/// # Safety
/// It is a string that ends with a zero.
unsafe fn named(name: *const c_char) -> PathBuf {
    // SAFETY: whoever calls says so.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

/// Stands in for a function of libc: hands the call on, and notes it if it did what it should.
macro_rules! interpose {
    (fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $done:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> $result {
            static LIBC: Libc = Libc::named(concat!(stringify!($name), "\0"));
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

interpose!(fn write(file: c_int, bytes: *const c_void, len: usize) -> isize, opened(file, Change::Written));
interpose!(fn pwrite64(file: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize, opened(file, Change::Written));
interpose!(fn fsync(file: c_int) -> c_int, opened(file, Change::Synced));
interpose!(fn fdatasync(file: c_int) -> c_int, opened(file, Change::Synced));
interpose!(fn rename(from: *const c_char, to: *const c_char) -> c_int, {
    // SAFETY: libc has just read both.
    let (from, to) = unsafe { (named(from), named(to)) };
    note(Change::Renamed(from, to));
});
interpose!(fn unlink(name: *const c_char) -> c_int, {
    // SAFETY: libc has just read it.
    note(Change::Named(unsafe { named(name) }));
});
interpose!(fn mkdir(name: *const c_char, mode: libc::mode_t) -> c_int, {
    // SAFETY: libc has just read it.
    note(Change::Named(unsafe { named(name) }));
});
