//! What stands in front of libc in this test's program: its clocks, its randomness, and the allocator.
//! Everything is handed on, and [`calls`](super::calls) is told.
//!
//! What never lives here: what may call, and what is said of it. All that is unsafe is here.

#![expect(unsafe_code, reason = "libc's functions can be replaced in no other way")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::{c_int, c_long, c_uint, c_void},
    hash::RandomState,
    mem::transmute,
};

use super::{
    calls::{self, Source},
    libc_own::Libc,
};

/// Stands in for a function of libc. The program's own comes first for whoever links to it, and for
/// `dlsym`, which is how the crate getrandom asks.
macro_rules! interpose {
    ($source:expr, fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> $result {
            static LIBC: Libc = Libc::named(concat!(stringify!($name), "\0"));
            if let Some(source) = $source {
                calls::called(source);
            }
            // SAFETY: this is how libc declares it, and the arguments are the caller's own.
            unsafe { transmute::<*mut c_void, extern "C" fn($($type),*) -> $result>(LIBC.address())($($argument),*) }
        }
    };
}

interpose!(Some(Source::Clock), fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int);
interpose!(Some(Source::Clock), fn gettimeofday(time: *mut libc::timeval, zone: *mut c_void) -> c_int);
interpose!(Some(Source::Clock), fn time(time: *mut libc::time_t) -> libc::time_t);
interpose!(Some(Source::Randomness), fn getrandom(bytes: *mut c_void, len: usize, flags: c_uint) -> isize);
interpose!(Some(Source::Randomness), fn getentropy(bytes: *mut c_void, len: usize) -> c_int);
// Whatever the number of arguments is, libc's own takes all that could be there from the same places.
interpose!(
    source_of(call),
    fn syscall(call: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long
);

fn source_of(call: c_long) -> Option<Source> {
    match call {
        libc::SYS_clock_gettime | libc::SYS_gettimeofday => Some(Source::Clock),
        libc::SYS_getrandom => Some(Source::Randomness),
        _ => None,
    }
}

unsafe extern "C" {
    fn _Unwind_Backtrace(frame: extern "C" fn(*mut c_void, *mut c_void) -> c_int, to: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Frames that tell stacks apart: who called is among them.
pub const DEPTH: usize = 16;

/// Where this was called from, as addresses.
pub fn stack() -> [usize; DEPTH] {
    extern "C" fn frame(context: *mut c_void, to: *mut c_void) -> c_int {
        // SAFETY: `to` is what is given below, and nobody else has it.
        let (frames, len) = unsafe { &mut *to.cast::<([usize; DEPTH], usize)>() };
        let Some(place) = frames.get_mut(*len) else { return 5 };
        // SAFETY: the context is the unwinder's own.
        *place = unsafe { _Unwind_GetIP(context) };
        *len += 1;
        0
    }
    let mut to = ([0; DEPTH], 0_usize);
    // SAFETY: `frame` takes what it is given here.
    unsafe { _Unwind_Backtrace(frame, (&raw mut to).cast()) };
    to.0
}

/// A word of a thread's memory, and what it was.
type Word = (usize, u64);

thread_local! {
    /// Where std keeps the keys of this thread's hash maps, and what was there before they were drawn.
    static KEYS: Cell<[Word; 3]> = const { Cell::new([(0, 0); 3]) };
}

/// Finds the words that the first `RandomState` of a thread changes. std promises nothing of this: a version
/// that keeps its keys in another way fails here, or where two hash maps are made to be found.
///
/// # Panics
/// When they are not three: the thread had keys before, or std keeps them in another way.
pub fn find_keys() {
    let (start, len) = thread_memory();
    // SAFETY: it is this thread's memory, and there for as long as the thread.
    let now = |at: usize| unsafe { (start as *const u64).add(at).read_volatile() };
    let mut before = vec![0; len];
    before.iter_mut().enumerate().for_each(|(at, word)| *word = now(at));
    std::hint::black_box(RandomState::new());
    let changed = (0..len).filter(|at| before[*at] != now(*at)).map(|at| (start + 8 * at, before[at]));
    let changed: Vec<Word> = changed.collect();
    KEYS.set(changed.try_into().expect("two keys, and that they were drawn"));
}

/// std forgets the keys of this thread's hash maps: the next `RandomState` draws again, and is seen.
fn forget_keys() {
    if calls::inside() {
        for (at, before) in KEYS.get() {
            // SAFETY: found by `find_keys` on this thread, which is not inside `RandomState::new` now.
            unsafe { (at as *mut u64).write_volatile(before) };
        }
    }
}

/// The program's own variables of this thread: where they begin, and how many words they are.
fn thread_memory() -> (usize, usize) {
    extern "C" fn program(info: *mut libc::dl_phdr_info, _: usize, to: *mut c_void) -> c_int {
        // SAFETY: the loader's own, and `to` is what is given below.
        let (info, to) = unsafe { (&*info, &mut *to.cast::<(usize, usize)>()) };
        // SAFETY: so many headers are there.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let memory = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        *to = (info.dlpi_tls_data as usize, memory.map_or(0, |memory| memory.p_memsz as usize / 8));
        // The program comes first.
        1
    }
    let mut to = (0_usize, 0_usize);
    // SAFETY: `program` takes what it is given here.
    unsafe { libc::dl_iterate_phdr(Some(program), (&raw mut to).cast()) };
    to
}

/// The system's allocator. Every call makes std forget its keys: between two hash maps there is nearly
/// always one.
struct Forgetful;

#[global_allocator]
static ALLOCATOR: Forgetful = Forgetful;

// SAFETY: it does what the system's does.
unsafe impl GlobalAlloc for Forgetful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        forget_keys();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        forget_keys();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        forget_keys();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        forget_keys();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}
