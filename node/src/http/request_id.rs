//! How a request is named. Whatever the caller called it, the log of every node says it as sixteen
//! hex digits ([`RequestId`]), so that one search finds all that was done for it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use stakehold_actors::api::RequestId;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a caller; of a longer one nothing is kept.
pub const GIVEN_MAX: usize = 64;

/// Request ids: a random start, then a bijection of a counter. Unique here, and different from
/// another node's with all probability; no draw of randomness per request.
#[derive(Debug)]
pub struct Ids {
    start: u64,
    count: AtomicU64,
}

impl Ids {
    pub fn new(start: u64) -> Self {
        Self { start, count: AtomicU64::new(0) }
    }

    pub fn next(&self) -> u64 {
        let n = self.start.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed));
        // The finaliser of splitmix64, which is a bijection.
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }
}

/// How a request is named: inside by a number, outside by what the caller sent, if anything.
#[derive(Debug)]
pub struct Identity {
    pub id: u64,
    pub text: HeaderValue,
    pub fresh: u64,
}

impl Identity {
    pub fn new(headers: &HeaderMap, fresh: u64) -> Self {
        let usable =
            |v: &&HeaderValue| (1..=GIVEN_MAX).contains(&v.len()) && v.as_bytes().iter().all(u8::is_ascii_graphic);
        let Some(given) = headers.get(REQUEST_ID).filter(usable) else {
            let text = Bytes::from(RequestId(fresh).to_string());
            let text = HeaderValue::from_maybe_shared(text).expect("hex digits");
            return Self { id: fresh, text, fresh };
        };
        let identity = Self { id: number(given.as_bytes()), text: given.clone(), fresh };
        let request_id = identity.logged();
        if identity.as_str() != request_id.to_string() {
            // The only line with both: it leads from the caller's name to everything else.
            tracing::debug!(given = identity.as_str(), %request_id, "the caller names its request");
        }
        identity
    }

    pub fn as_str(&self) -> &str {
        self.text.to_str().unwrap_or_default()
    }

    /// As it stands in the log.
    pub fn logged(&self) -> RequestId {
        RequestId(self.id)
    }
}

/// Sixteen hex digits are the number itself; of anything else it is the hash.
fn number(given: &[u8]) -> u64 {
    let hex = given.len() == 16 && given.iter().all(u8::is_ascii_hexdigit);
    let parsed = std::str::from_utf8(given).ok().filter(|_| hex).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    parsed.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(given: Option<&'static str>) -> Identity {
        let named = given.map(|given| (REQUEST_ID, HeaderValue::from_static(given)));
        Identity::new(&named.into_iter().collect(), 0xfe)
    }

    #[test]
    fn sixteen_hex_digits_are_the_same_in_the_header_and_in_the_log() {
        for (given, answered) in [
            (Some("feed0000deadbeef"), "feed0000deadbeef"),
            (Some("00000000000000ff"), "00000000000000ff"),
            (None, "00000000000000fe"),
            (Some(""), "00000000000000fe"),
            (Some("with space"), "00000000000000fe"),
        ] {
            let identity = named(given);
            assert_eq!((identity.as_str(), &*identity.logged().to_string()), (answered, answered), "{given:?}");
        }
    }

    #[test]
    fn any_other_name_comes_back_and_has_one_number_in_the_log() {
        for given in ["my-trace", "ff", "+0000000000000ff", "zzzzzzzzzzzzzzzz"] {
            let identity = named(Some(given));
            assert_eq!(identity.as_str(), given);
            assert_eq!(identity.logged(), named(Some(given)).logged(), "{given}");
            assert_ne!(identity.id, 0xff, "{given}");
        }
        assert_eq!(named(Some("FEED0000DEADBEEF")).logged().to_string(), "feed0000deadbeef", "digits are digits");
    }

    #[test]
    fn ids_are_not_given_twice() {
        let ids = Ids::new(7);
        let given: std::collections::BTreeSet<u64> = (0..1_000).map(|_| ids.next()).collect();
        assert_eq!(given.len(), 1_000);
    }
}
