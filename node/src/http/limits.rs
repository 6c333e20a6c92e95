//! Every limit of the front ends, with its reason, and the counters that keep them. Full means a
//! quick answer that says when to come back, never a queue.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stakehold_actors::domain::types::AccountId;

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// 200 orders take 30 KiB; nobody needs more than this in one request.
    pub body_bytes_max: usize,
    /// A client that trickles its header or body would hold a connection for nothing.
    pub header_time: Duration,
    pub body_time: Duration,
    /// Each costs a file descriptor and about 20 KiB.
    pub connections_max: usize,
    /// Requests in flight on one connection (HTTP/2 streams, calls of a QUIC client).
    pub per_connection_max: u32,
    /// Requests in flight in all; beyond it latency only grows.
    pub in_flight_max: usize,
    /// Bytes of all bodies that are being read or answered; without a bound in_flight_max bodies of
    /// the largest size would fill the memory.
    pub body_bytes_in_flight_max: usize,
    /// Requests per second of one account in the long run, and at once. Each order of a batch counts.
    pub account_rate: u32,
    pub account_burst: u32,
    /// What a call may take by itself; a bet delay comes on top.
    pub deadline: Duration,
    /// When to stop waiting for a backend that does not keep its deadline.
    pub answer_time_max: Duration,
    /// Keeps idle feeds alive through proxies, and finds dead ones.
    pub feed_heartbeat: Duration,
    /// How long a drain waits for what is in flight.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(10),
            connections_max: 8_192,
            per_connection_max: 1_024,
            in_flight_max: 16_384,
            body_bytes_in_flight_max: 64 << 20,
            account_rate: 2_000,
            account_burst: 4_000,
            deadline: Duration::from_secs(10),
            answer_time_max: Duration::from_secs(90),
            feed_heartbeat: Duration::from_secs(15),
            drain_time: Duration::from_secs(10),
        }
    }
}

/// Counts what is in flight, in requests or in bytes. The permit gives its place back when it is
/// dropped.
#[derive(Debug)]
pub struct InFlight {
    now: AtomicUsize,
    max: usize,
}

#[derive(Debug)]
pub struct Permit<'a> {
    of: &'a InFlight,
    weight: usize,
}

impl InFlight {
    pub fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }

    /// Takes `weight` places, if there are as many.
    pub fn enter(&self, weight: usize) -> Option<Permit<'_>> {
        let permit = Permit { of: self, weight };
        // The permit is counted before the check, and gives its places back if there were too few.
        let before = self.now.fetch_add(weight, Ordering::Relaxed);
        (before.saturating_add(weight) <= self.max).then_some(permit)
    }

    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.now.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// One token bucket per account that asked lately. Integers: a token is a second's worth of
/// microseconds, divided by the rate.
#[derive(Debug)]
pub struct Buckets {
    rate: u64,
    burst: u64,
    by_account: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    buckets: BTreeMap<AccountId, Bucket>,
    /// Full buckets are forgotten when there are this many.
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a request.
    level: u64,
    /// When it was last filled, in milliseconds.
    at: u64,
}

const SWEEP_MIN: usize = 4_096;

impl Buckets {
    pub fn new(rate: u32, burst: u32) -> Self {
        let by_account = Mutex::new(Accounts { buckets: BTreeMap::new(), sweep_at: SWEEP_MIN });
        Self { rate: u64::from(rate.max(1)), burst: u64::from(burst.max(1)) * 1000, by_account }
    }

    /// Takes `cost` requests from the account's bucket.
    ///
    /// # Errors
    /// The milliseconds until there is enough.
    pub fn take(&self, account: AccountId, cost: u32, now_ms: u64) -> Result<(), u64> {
        let cost = (u64::from(cost) * 1000).min(self.burst);
        let mut accounts = self.by_account.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if accounts.buckets.len() >= accounts.sweep_at {
            accounts.buckets.retain(|_, bucket| self.level(*bucket, now_ms) < self.burst);
            accounts.sweep_at = (accounts.buckets.len() * 2).max(SWEEP_MIN);
        }
        let bucket = accounts.buckets.entry(account).or_insert(Bucket { level: self.burst, at: now_ms });
        *bucket = Bucket { level: self.level(*bucket, now_ms), at: bucket.at.max(now_ms) };
        if bucket.level < cost {
            return Err((cost - bucket.level).div_ceil(self.rate).max(1));
        }
        bucket.level -= cost;
        Ok(())
    }

    /// A millisecond fills `rate` thousandths.
    fn level(&self, bucket: Bucket, now_ms: u64) -> u64 {
        let filled = now_ms.saturating_sub(bucket.at).saturating_mul(self.rate);
        bucket.level.saturating_add(filled).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_gives_its_place_back() {
        let in_flight = InFlight::new(2);
        let (one, two) = (in_flight.enter(1), in_flight.enter(1));
        assert!(one.is_some() && two.is_some() && in_flight.enter(1).is_none());
        assert_eq!(in_flight.now(), 2);
        drop(one);
        assert!(in_flight.enter(2).is_none() && in_flight.enter(1).is_some());
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(100, 5);
        let (ada, bob) = (AccountId(1), AccountId(2));
        for _ in 0..5 {
            assert_eq!(buckets.take(ada, 1, 1000), Ok(()));
        }
        assert_eq!(buckets.take(ada, 1, 1000), Err(10));
        assert_eq!(buckets.take(bob, 1, 1000), Ok(()), "another account's bucket is another one");
        assert_eq!(buckets.take(ada, 1, 1009), Err(1));
        assert_eq!(buckets.take(ada, 1, 1010), Ok(()));
        assert_eq!(buckets.take(ada, 3, 1020), Err(20));
        assert_eq!(buckets.take(ada, 200, 1070), Ok(()), "a batch above the burst takes all there is");
        assert_eq!(buckets.take(ada, 1, 900), Err(10), "a clock that goes back fills nothing");
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let buckets = Buckets::new(1_000, 1);
        for n in 0..3 * SWEEP_MIN as u64 {
            assert_eq!(buckets.take(AccountId(n), 1, n), Ok(()));
        }
        assert!(buckets.by_account.lock().unwrap().buckets.len() <= SWEEP_MIN);
    }
}
