//! What a call says, as one number: the same reference with another content is another call (invariant I4).

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// A hash of a call's content; never [`ANY_CONTENT`].
pub fn content<T: Serialize>(call: &T) -> u64 {
    // Nearly all calls are this short, and asking for memory costs more than hashing them.
    let mut short = [0; 192];
    let hash = match postcard::to_slice(call, &mut short) {
        Ok(bytes) => xxh3_64(bytes),
        Err(_) => xxh3_64(&postcard::to_stdvec(call).expect("calls are plain data")),
    };
    hash.max(1)
}

/// The content of a verdict that was given before its call came (a cancel by reference).
pub const ANY_CONTENT: u64 = 0;
