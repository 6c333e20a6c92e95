//! libc's own function, behind one of this program's that stands in for it.

#![expect(unsafe_code, reason = "the loader knows it by its name only")]

use std::{
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// Its name, with the zero that C wants, and where it is.
#[derive(Debug)]
pub struct Libc(&'static str, AtomicPtr<c_void>);

impl Libc {
    pub const fn named(name: &'static str) -> Self {
        Self(name, AtomicPtr::new(ptr::null_mut()))
    }

    /// # Panics
    /// Never: without it the program ends.
    pub fn address(&self) -> *mut c_void {
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
