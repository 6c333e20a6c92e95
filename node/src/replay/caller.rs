//! Calls with retries, references, latencies, and the accounts that a replay bets from.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::types::{AccountId, Minor, Reference, Refusal},
};
use tokio::time::{Instant, sleep};

use crate::{
    client::ClientError,
    exchange::{Exchange, is_transient},
};

/// How long a call is tried again before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Makers' orders go to at least so many in turn, so that a book is made by many.
pub const MAKERS_MIN: u64 = 8;
pub const MAKERS_MAX: u64 = 120;
const TAKERS: u64 = 4;
/// Accounts of one run are numbered from `run × ACCOUNTS_SPAN`.
const ACCOUNTS_SPAN: u64 = TAKERS + MAKERS_MAX + 4;

/// What was ordered, and how long the answers took.
#[derive(Debug)]
pub struct Tally {
    /// Orders that the cluster accepted, fill-or-kills included.
    pub orders: AtomicU64,
    pub cancels: AtomicU64,
    latency_us: Mutex<Histogram<u64>>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds and digits are constants");
        Self { orders: AtomicU64::new(0), cancels: AtomicU64::new(0), latency_us: Mutex::new(latency_us) }
    }
}

impl Tally {
    fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.lock().expect("nobody panics while holding it").saturating_record(micros.max(1));
    }

    /// The latency in milliseconds that this share of the calls stayed within.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let histogram = self.latency_us.lock().expect("nobody panics while holding it");
        histogram.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// The accounts of one run and the way to the cluster.
pub struct Caller {
    exchange: Arc<dyn Exchange>,
    /// Names accounts and references, so that runs on one cluster do not meet.
    run: u64,
    next_reference: AtomicU64,
    next_turn: AtomicU64,
    /// How many accounts there are: takers first, then makers.
    opened: tokio::sync::Mutex<u64>,
    pub tally: Tally,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Caller {
    /// `run` must be below 2^46, so that account numbers stay below 2^53.
    pub fn new(exchange: Arc<dyn Exchange>, run: u64) -> Self {
        assert!(run < 1 << 46, "account numbers must stay below 2^53");
        Self {
            exchange,
            run,
            next_reference: AtomicU64::new(0),
            next_turn: AtomicU64::new(0),
            opened: tokio::sync::Mutex::new(0),
            tally: Tally::default(),
        }
    }

    pub fn exchange(&self) -> &dyn Exchange {
        &*self.exchange
    }

    pub fn reference(&self) -> Reference {
        let n = self.next_reference.fetch_add(1, Ordering::Relaxed);
        Reference::new(&format!("replay-{:x}-{n:x}", self.run)).expect("short visible ASCII")
    }

    fn account(&self, n: u64) -> AccountId {
        AccountId(self.run * ACCOUNTS_SPAN + 1 + n)
    }

    /// The `n`-th maker; there must be so many ([`Caller::open_accounts`]).
    pub fn maker(&self, n: u64) -> AccountId {
        self.account(TAKERS + n)
    }

    pub fn next_maker(&self) -> AccountId {
        self.maker(self.next_turn.fetch_add(1, Ordering::Relaxed) % MAKERS_MIN)
    }

    pub fn next_taker(&self) -> AccountId {
        self.account(self.next_turn.fetch_add(1, Ordering::Relaxed) % TAKERS)
    }

    /// Sees to it that there are so many makers, and takers, with full wallets.
    ///
    /// # Errors
    /// When the cluster refuses or cannot be reached.
    pub async fn open_accounts(&self, makers: u64) -> Result<(), ClientError> {
        assert!((MAKERS_MIN..=MAKERS_MAX).contains(&makers), "{makers} makers have no numbers");
        let mut opened = self.opened.lock().await;
        let missing = (*opened..TAKERS + makers).map(|n| async move {
            let account = self.account(n);
            let kind = if n < TAKERS { "taker" } else { "maker" };
            let create = Request::CreateAccount { account, name: format!("replay {kind} {n}") };
            match self.call(create).await {
                Ok(_) | Err(ClientError::Api(ApiError::Refused(Refusal::AccountExists))) => self.top_up(account).await,
                Err(error) => Err(error),
            }
        });
        futures::future::try_join_all(missing).await?;
        *opened = (*opened).max(TAKERS + makers);
        Ok(())
    }

    /// Puts more money into an account's wallet than most recordings need.
    ///
    /// # Errors
    /// When the cluster refuses or cannot be reached.
    pub async fn top_up(&self, account: AccountId) -> Result<(), ClientError> {
        let deposit = Request::Deposit { account, amount: Minor::MAX_AMOUNT, reference: self.reference() };
        self.call(deposit).await.map(|_| ())
    }

    /// Makes a call that may be repeated (it has a reference, or repeating it changes nothing),
    /// again and again while the cluster is busy or has no leader.
    ///
    /// # Errors
    /// A refusal at once; what is transient, when patience ends.
    pub async fn call(&self, request: Request) -> Result<Response, ClientError> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            match self.exchange.call(request.clone()).await {
                Err(error) if is_transient(&error) && started.elapsed() < PATIENCE => {
                    let wait = match error {
                        ClientError::Api(ApiError::Busy { retry_after_ms } | ApiError::DiskFull { retry_after_ms }) => {
                            Duration::from_millis(retry_after_ms)
                        }
                        _ => pause,
                    };
                    sleep(wait.clamp(PAUSE_MIN, PAUSE_MAX)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                answer => return answer,
            }
        }
    }

    /// As [`Caller::call`], and its latency counts.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn timed(&self, request: Request) -> Result<Response, ClientError> {
        let started = Instant::now();
        let answer = self.call(request).await;
        self.tally.record(started.elapsed());
        answer
    }

    /// Makes a call once; its latency counts. For what must not be repeated blindly.
    ///
    /// # Errors
    /// Whatever the cluster says.
    pub async fn once(&self, request: Request) -> Result<Response, ClientError> {
        let started = Instant::now();
        let answer = self.exchange.call(request).await;
        self.tally.record(started.elapsed());
        answer
    }
}
