//! Compares the cluster's book with the recorded one, message by message, from the market's feed.
//!
//! A feed comes from a follower, which learns of a commit with the leader's next append: waiting
//! for it after every message would cost a heartbeat each time. So messages are checked in their
//! order while later ones are already being followed. A message is reproduced when the book that
//! the feed rebuilds is the recorded one, level by level, with the market in the recorded state,
//! at a moment after all messages before it were checked. Whatever the cluster did too much or too
//! little stays in the book and is found at the latest with the message after.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use stakehold_actors::{
    api::ApiError,
    domain::types::{MarketId, MarketStatus, Minor, Refusal, Side},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    mirror::Mirror,
    report::{Notes, Verdict},
};
use crate::{
    client::ClientError,
    exchange::{Exchange, is_transient},
    recording::book::Level,
};

/// How long the feed may take to show what has been acknowledged: longer than a cell is without a
/// leader. Then it is asked for a fresh image, and when that does not help the cluster is blamed.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_FOR_IMAGE: Duration = Duration::from_secs(5);
/// The same while the message before was not as recorded either: it is not for lack of time.
const PATIENCE_LOST: Duration = Duration::from_secs(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Messages that may wait to be checked, and changes of levels in them: a feed forgets changes
/// that nobody fetches.
const LAG_MESSAGES_MAX: usize = 32;
const LAG_CHANGES_MAX: usize = 120;

const DIFFERS: &str = "the cluster's book differs from the recorded one";
const UNSEEN: &str = "the feed skipped changes, so that the book after the message was not seen";

/// A message that has been followed: what the cluster should look like now.
#[derive(Debug)]
pub struct Check {
    pub message: u64,
    pub line: u64,
    /// Recorded sizes of the levels that the message changed.
    pub levels: Vec<(Level, Minor)>,
    pub status: MarketStatus,
    pub in_play: bool,
    pub judgement: Judgement,
}

#[derive(Debug)]
pub enum Judgement {
    /// The recorded book is crossed: not compared.
    Crossed,
    /// Calls failed: not compared.
    Failed(String),
    /// To be compared.
    Compare {
        /// Levels on which the cluster is known to differ, with the size it has there.
        pending: BTreeMap<Level, Minor>,
        /// Why the message does not count as reproduced although the cluster did as told.
        fault: Option<String>,
    },
}

/// How long the first check has been waiting.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    asked_again: bool,
}

#[derive(Debug)]
pub struct Checker {
    name: String,
    mirror: Mirror,
    queue: VecDeque<Check>,
    /// Changes of levels in the queue.
    lag_changes: usize,
    /// Set when the first check's levels have been taken in.
    waiting: Option<Waiting>,
    /// An image has replaced deltas: states between are lost.
    skipping: bool,
    /// The next message is already being followed: the book may be ahead of what waits.
    ahead: bool,
    /// The book was not as recorded after the message before.
    out_of_line: bool,
    /// And that was the cluster's fault.
    blamed: bool,
    /// A check failed that should not have: our idea of what rests may be wrong.
    surprised: bool,
    notes: Arc<Notes>,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
}

impl Checker {
    pub fn new(
        name: &str,
        market: MarketId,
        notes: Arc<Notes>,
        verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            mirror: Mirror::new(market),
            queue: VecDeque::new(),
            lag_changes: 0,
            waiting: None,
            skipping: false,
            ahead: false,
            out_of_line: false,
            blamed: false,
            surprised: false,
            notes,
            verdicts,
        }
    }

    /// Waits for the feed's first image, so that no change goes unseen.
    ///
    /// # Errors
    /// When there is no feed to be had.
    pub async fn begin(&mut self, exchange: &dyn Exchange) -> Result<(), ClientError> {
        let deadline = Instant::now() + PATIENCE;
        while self.mirror.images() == 0 {
            match self.mirror.advance(exchange).await {
                Err(error) if !may_come(&error) || Instant::now() > deadline => return Err(error),
                Err(_) => sleep(PAUSE_AFTER_ERROR).await,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Whether something unexpected happened since this was last asked.
    pub fn take_surprise(&mut self) -> bool {
        std::mem::take(&mut self.surprised)
    }

    /// Puts a followed message in line, checks what can be checked now, and waits while too many
    /// are in line.
    pub async fn push(&mut self, check: Check, exchange: &dyn Exchange) {
        self.ahead = false;
        self.lag_changes += check.levels.len();
        self.queue.push_back(check);
        // Once round without waiting: what is dropped here is safe to be dropped.
        let _ = self.settle(0, exchange).now_or_never();
        while self.queue.len() > LAG_MESSAGES_MAX || (self.queue.len() > 1 && self.lag_changes > LAG_CHANGES_MAX) {
            self.settle(self.queue.len() - 1, exchange).await;
        }
    }

    /// Checks until no more than `left` messages wait. Safe to be dropped at any time.
    pub async fn settle(&mut self, left: usize, exchange: &dyn Exchange) {
        while self.queue.len() > left {
            self.first(exchange).await;
        }
    }

    /// Takes in what the feed says and checks what waits; `ahead` says that a further message is
    /// being followed meanwhile. Never ends; safe to be dropped.
    pub async fn listen(&mut self, exchange: &dyn Exchange, ahead: bool) {
        self.ahead = ahead;
        loop {
            self.settle(0, exchange).await;
            if self.mirror.advance(exchange).await.is_err() {
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    /// Checks the first message in line, to its verdict.
    async fn first(&mut self, exchange: &dyn Exchange) {
        loop {
            let Some(check) = self.queue.front() else { return };
            if self.waiting.is_none() {
                for &(level, size) in &check.levels {
                    self.mirror.expect(level, size);
                }
                self.waiting = Some(Waiting { since: Instant::now(), asked_again: false });
            }
            if let Some(verdict) = verdict(check, &self.mirror) {
                return self.decide(verdict);
            }
            let waiting = self.waiting.as_mut().expect("set above");
            if self.skipping && (self.ahead || self.queue.len() > 1) {
                // An image that was asked for in vain is the cluster's fault, one that came by
                // itself the feed's.
                let why = if waiting.asked_again { DIFFERS } else { UNSEEN };
                return self.decide(Verdict::Unreproduced(why.into()));
            }
            let patience = if self.blamed { PATIENCE_LOST } else { PATIENCE };
            let patience = if waiting.asked_again { patience + PATIENCE_FOR_IMAGE } else { patience };
            let images = self.mirror.images();
            match timeout_at(waiting.since + patience, self.mirror.advance(exchange)).await {
                Ok(Ok(())) => self.skipping |= self.mirror.images() > images,
                Ok(Err(error)) if !may_come(&error) => {
                    self.surprised = true;
                    return self.decide(Verdict::Unreproduced(error.to_string()));
                }
                Ok(Err(_)) => sleep(PAUSE_AFTER_ERROR).await,
                Err(_) if !waiting.asked_again => {
                    waiting.asked_again = true;
                    self.mirror.ask_again();
                }
                Err(_) => {
                    self.surprised = true;
                    self.note_difference();
                    return self.decide(Verdict::Unreproduced(DIFFERS.into()));
                }
            }
        }
    }

    fn decide(&mut self, verdict: Verdict) {
        let Some(check) = self.queue.pop_front() else { return };
        self.lag_changes -= check.levels.len();
        self.waiting = None;
        self.skipping &= !self.queue.is_empty();
        self.blamed = matches!(&verdict, Verdict::Unreproduced(why) if why == DIFFERS);
        match &verdict {
            Verdict::Reproduced => {
                if std::mem::take(&mut self.out_of_line) {
                    self.notes.resynchronised(&self.name, check.line);
                }
            }
            Verdict::Crossed | Verdict::Unreproduced(_) => self.out_of_line = true,
        }
        // Nobody listens any more when the replay was given up.
        let _ = self.verdicts.send((check.message, verdict));
    }

    fn note_difference(&self) {
        let Some(level) = self.mirror.different().first() else { return };
        self.notes.add(format!(
            "{}: runner {} at {}.{:02} ({}): recorded {}, in the cluster {} minor units",
            self.name,
            level.runner,
            level.price / 100,
            level.price % 100,
            if level.side == Side::Lay { "to back" } else { "to lay" },
            self.mirror.recorded_size(level).0,
            self.mirror.cluster_size(level).0,
        ));
    }
}

/// What becomes of a check, if that can be said already.
fn verdict(check: &Check, mirror: &Mirror) -> Option<Verdict> {
    let (pending, fault) = match &check.judgement {
        Judgement::Crossed => return Some(Verdict::Crossed),
        Judgement::Failed(why) => return Some(Verdict::Unreproduced(why.clone())),
        Judgement::Compare { pending, fault } => (pending, fault),
    };
    let as_told = mirror.status() == check.status
        && mirror.in_play() == check.in_play
        && mirror.different().iter().eq(pending.keys())
        && pending.iter().all(|(level, size)| mirror.cluster_size(level) == *size);
    as_told.then(|| match fault {
        Some(fault) => Verdict::Unreproduced(fault.clone()),
        None if mirror.different().is_empty() => Verdict::Reproduced,
        None => Verdict::Unreproduced(DIFFERS.into()),
    })
}

/// Whether a feed that failed so may be had a little later.
fn may_come(error: &ClientError) -> bool {
    // A follower may not have applied the market's creation yet.
    is_transient(error) || matches!(error, ClientError::Api(ApiError::Refused(Refusal::UnknownMarket)))
}
