//! One cell on this node: the actors of its markets and wallets while it leads, the clients that
//! wait for a verdict, and the feeds that any replica serves. Owns no truth.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::FutureExt;
use ractor::{Actor, ActorRef, Message};
use stakehold_raft::{
    CellId, Machine, NodeId,
    host::{EffectsError, Group, Proposal, ProposeError, ReadError},
    meta::{MetaOr, WithMeta},
    mistake, reached,
    seam::World,
    seldom, timer,
};
use tokio::sync::oneshot;

use super::{
    admission::{Admission, Limits},
    feed::FeedHub,
    gauges::Latency,
    market::{MarketActor, MarketMessage},
    relay::Recent,
    wallet::{WalletActor, WalletMessage},
    wire::Failure,
};
use crate::{
    api::{ApiError, MarketDelta},
    domain::{
        cell::Cell,
        command::{Command, Effect, Instruction, OrderKey, Verdict},
        types::{AccountId, MarketId, Minor, OrderView, Refusal},
    },
};

/// The machine that every group of an exchange replicates.
pub(super) type ExchangeMachine = WithMeta<Cell>;

/// A newer format that was proposed.
type Raising = Proposal<<ExchangeMachine as Machine>::Verdict>;

/// What became of an instruction that was sent to be funded.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    Decided(Result<OrderView, Refusal>),
    Pending { short: Minor, attempt: u8 },
}

/// An instruction's verdict, or why there is none.
pub(super) type Landing = Result<Result<OrderView, Refusal>, Failure>;
pub(super) type OrderReply = oneshot::Sender<Landing>;
/// Someone who waits for the verdict on what it sent: a content, and where to tell.
type Waiting = (u64, oneshot::Sender<Decision>);

/// An instruction between its arrival and its verdict.
struct Flight {
    instruction: Instruction,
    /// The first caller and everyone who repeated the reference meanwhile.
    replies: Vec<OrderReply>,
}

/// An actor, and how much it has to do.
struct Entry<M: Message> {
    actor: ActorRef<M>,
    busy: Busy,
}

/// Counts what was sent to an actor and is not finished; notes when it last had something to do.
#[derive(Clone, Default)]
pub(super) struct Busy(Arc<(AtomicUsize, AtomicU64)>);

impl Busy {
    fn begin(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, now_ms: u64) {
        self.0.1.store(now_ms, Ordering::Relaxed);
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn idle_since(&self) -> Option<u64> {
        (self.0.0.load(Ordering::Relaxed) == 0).then(|| self.0.1.load(Ordering::Relaxed))
    }
}

/// The hash of a state, kept for whoever asks again.
#[derive(Debug, Default)]
pub(super) struct Hashed(Mutex<Option<(u64, u64, String)>>);

impl Hashed {
    /// The hash of the state that entry `applied` has made; empty if another one was taken less than `every_ms`
    /// ago, by a clock that only goes on.
    pub(super) fn at(&self, applied: u64, now_ms: u64, every_ms: u64, hash: impl FnOnce() -> String) -> String {
        let mut last = lock(&self.0);
        match &*last {
            Some((at, _, digest)) if *at == applied => digest.clone(),
            Some((_, when, digest)) if now_ms < when + every_ms => {
                if mistake!("status.digest_of_an_older_entry") {
                    digest.clone()
                } else {
                    String::new()
                }
            }
            _ => {
                let digest = hash();
                *last = Some((applied, now_ms, digest.clone()));
                digest
            }
        }
    }
}

pub(super) struct Desk {
    pub(super) id: CellId,
    group: Arc<Group<ExchangeMachine>>,
    pub(super) world: World,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) feeds: FeedHub,
    pub(super) recent: Recent,
    pub(super) latency: Latency,
    pub(super) hashed: Hashed,
    /// Acknowledged messages when the outbox was last looked at, and since when none was.
    outbox_at: AtomicU64,
    outbox_since: AtomicU64,
    /// By reference, with the content that the caller sent under it.
    waiting: Mutex<BTreeMap<OrderKey, Vec<Waiting>>>,
    flights: Mutex<BTreeMap<OrderKey, Flight>>,
    markets: Mutex<BTreeMap<MarketId, Entry<MarketMessage>>>,
    wallets: Mutex<BTreeMap<AccountId, Entry<WalletMessage>>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("id", &self.id).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds a desk's lock")
}

impl Desk {
    pub(super) fn new(group: Arc<Group<ExchangeMachine>>, world: World, limits: Limits) -> Self {
        Self {
            id: group.id(),
            group,
            world,
            admission: Admission::new(&limits),
            limits,
            feeds: FeedHub::default(),
            recent: Recent::default(),
            latency: Latency::default(),
            hashed: Hashed::default(),
            outbox_at: AtomicU64::new(0),
            outbox_since: AtomicU64::new(u64::MAX),
            waiting: Mutex::default(),
            flights: Mutex::default(),
            markets: Mutex::default(),
            wallets: Mutex::default(),
        }
    }

    pub(super) fn group(&self) -> &Arc<Group<ExchangeMachine>> {
        &self.group
    }

    /// What this replica has applied. Not linearizable by itself: see [`Desk::fresh`].
    pub(super) fn read<R>(&self, look: impl FnOnce(&Cell) -> R) -> R {
        self.group().read(|replica| look(replica.machine().cell()))
    }

    /// Returns once a read here sees everything that was acknowledged before the call.
    pub(super) async fn fresh(&self) -> Result<(), Failure> {
        self.group().read_index().await.map_err(|error| match error {
            ReadError::NotLeader { leader } => Failure::NotLeader(leader.map(|NodeId(n)| n)),
            ReadError::NoQuorum | ReadError::Halted => Failure::Api(ApiError::Unavailable),
        })
    }

    /// Proposes a command and waits for its verdict. `Busy` of the cell is a failure here: nothing
    /// happened, and nothing is remembered.
    pub(super) async fn propose(&self, command: Command) -> Result<Verdict, Failure> {
        let begun = self.world.clock.monotonic_ns();
        let proposal = self.group().propose(MetaOr::Cell(command)).map_err(failure)?;
        let verdict = proposal.await.map_err(failure)?;
        self.latency.note(self.world.clock.monotonic_ns().saturating_sub(begun));
        match verdict {
            MetaOr::Cell(Verdict::Busy) => Err(Failure::Api(ApiError::Busy { retry_after_ms: 20 })),
            MetaOr::Cell(verdict) => Ok(verdict),
            MetaOr::Meta(_) => Err(Failure::Api(ApiError::Unavailable)),
        }
    }

    // -- waiting for the verdict of something that was funded --

    pub(super) fn wait_for(&self, instruction: &Instruction) -> oneshot::Receiver<Decision> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        let queue = waiting.entry(instruction.key()).or_default();
        queue.retain(|(_, sender)| !sender.is_closed());
        queue.push((instruction.content(), sender));
        receiver
    }

    /// A verdict for `content` (0: for whatever was sent) under a reference.
    fn decide(&self, key: &OrderKey, content: u64, decision: impl Fn() -> Decision) {
        let mut waiting = lock(&self.waiting);
        let Some(queue) = waiting.get_mut(key) else { return };
        for (_, sender) in queue.extract_if(.., |(sent, _)| content == 0 || *sent == content) {
            // Whoever stopped waiting asks again with the same reference.
            let _ = sender.send(decision());
        }
        if queue.is_empty() {
            waiting.remove(key);
        }
    }

    // -- instructions in flight --

    /// Takes in an instruction. True if it is new; else the reply is kept for the one in flight,
    /// or answered at once when the same reference carries another content.
    pub(super) fn take_off(&self, instruction: &Instruction, reply: OrderReply) -> bool {
        let mut flights = lock(&self.flights);
        match flights.get_mut(&instruction.key()) {
            Some(flight) if flight.instruction == *instruction || mistake!("retry.joins_another_content") => {
                reached!("retry.joined");
                flight.replies.push(reply);
                false
            }
            Some(_) => {
                reached!("retry.with_another_content");
                let _ = reply.send(Ok(Err(Refusal::ReferenceReused)));
                false
            }
            None => {
                let flight = Flight { instruction: instruction.clone(), replies: vec![reply] };
                flights.insert(instruction.key(), flight);
                true
            }
        }
    }

    pub(super) fn in_flight(&self, key: &OrderKey) -> bool {
        lock(&self.flights).contains_key(key)
    }

    pub(super) fn land(&self, key: &OrderKey, result: &Landing) {
        let flight = lock(&self.flights).remove(key);
        for reply in flight.into_iter().flat_map(|flight| flight.replies) {
            let _ = reply.send(result.clone());
        }
    }

    // -- actors --

    /// Sends to the market's actor, waking it if need be. Take a permit first.
    pub(super) fn to_market(
        self: &Arc<Self>,
        market: MarketId,
        make: impl FnOnce(Busy) -> MarketMessage,
    ) -> Result<(), Failure> {
        deliver(&self.markets, market, || (MarketActor, (self.clone(), market)), make)
    }

    /// Sends to the wallet's actor, waking it if need be. Take a permit first.
    pub(super) fn to_wallet(
        self: &Arc<Self>,
        account: AccountId,
        make: impl FnOnce(Busy) -> WalletMessage,
    ) -> Result<(), Failure> {
        deliver(&self.wallets, account, || (WalletActor, self.clone()), make)
    }

    /// Stops the actors that have had nothing to do for a while, or all of them.
    pub(super) fn passivate(&self, all: bool) {
        let idle_ms = if seldom!("actor.passivated_at_once") { 0 } else { self.limits.idle_ms };
        let before = self.world.clock.now_ms().saturating_sub(idle_ms);
        stop_idle(&mut lock(&self.markets), all, before);
        stop_idle(&mut lock(&self.wallets), all, before);
    }

    pub(super) fn actors(&self) -> (usize, usize) {
        (lock(&self.markets).len(), lock(&self.wallets).len())
    }

    // -- following the cell --

    /// Hands the cell's effects to whoever waits for them, until the cell stops.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut effects = self.group().subscribe();
        self.recent.begin(self.group().status().applied);
        loop {
            let observe = |effect| self.observe(effect);
            match effects.next().await {
                Ok(entry) if mistake!("feed.delta_out_of_order") => entry.effects.iter().rev().for_each(observe),
                Ok(entry) => {
                    entry.effects.iter().for_each(observe);
                    self.recent.note(entry.index, entry.effects.iter().filter_map(market_change));
                }
                Err(EffectsError::Lagged(_)) => {
                    // Whoever waited asks again, and finds the verdict in the state.
                    reached!("feed.cell_jumped");
                    lock(&self.waiting).clear();
                    self.feeds.reset();
                    self.recent.begin(self.group().status().applied);
                }
                Err(EffectsError::Closed) => return,
            }
        }
    }

    fn observe(&self, effect: &Effect) {
        match effect {
            Effect::OrderDecided { key, content, outcome } => {
                let OrderKey { account, market, reference, index } = key;
                // On every replica, so that it can be seen what was decided before a leader died.
                tracing::debug!(cell = %self.id, %account, %market, %reference, index, taken = outcome.is_ok(), "decided");
                self.decide(key, *content, || Decision::Decided(outcome.clone()));
            }
            Effect::OrderPending { key, content, short, attempt } => {
                self.decide(key, *content, || Decision::Pending { short: *short, attempt: *attempt });
            }
            Effect::Market(delta) => self.feeds.publish(delta),
            Effect::Order { .. }
            | Effect::Settled { .. }
            | Effect::Credited { .. }
            | Effect::HeartbeatExpired { .. }
            | Effect::Posted(_)
            | Effect::Audited(_) => {}
        }
    }

    /// Lets go of everything when leadership is lost: the new leader's actors take over, and
    /// whoever waited here asks there.
    pub(super) async fn follow_leadership(self: Arc<Self>) {
        let mut leadership = self.group().on_leadership();
        loop {
            let leading = leadership.borrow_and_update().leading;
            reached!(
                "settle.resumed",
                leading
                    && self.read(|cell| {
                        cell.market_ids().any(|id| cell.market(id).is_some_and(|market| market.settling()))
                    })
            );
            if !leading {
                lock(&self.waiting).clear();
                self.passivate(true);
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// Proposes a newer format once all nodes know it. What is under way is not proposed again.
    fn raise_format(&self, under_way: Option<Raising>) -> Option<Raising> {
        if let Some(mut raising) = under_way
            && (&mut raising).now_or_never().is_none()
        {
            return Some(raising);
        }
        let format = self.group.agreed_format();
        if !self.group.is_leader() || self.read(Cell::format) >= format {
            return None;
        }
        // Whoever does not take it now is asked again.
        let raising = self.group.propose(MetaOr::Cell(Command::Raise { format })).ok()?;
        tracing::info!(cell = %self.id, format, "all nodes know a newer format: the cell is to be raised to it");
        Some(raising)
    }

    /// Puts idle actors to sleep, and looks after what nobody asks for, now and then.
    pub(super) async fn sweep(self: Arc<Self>) {
        let pause = std::time::Duration::from_millis(self.limits.idle_ms.max(10));
        let mut raising = None;
        loop {
            self.passivate(false);
            self.watch_outbox();
            raising = self.raise_format(raising);
            timer::sleep(pause).await;
        }
    }

    /// Notes whether messages to other cells wait, and whether any of them got through.
    fn watch_outbox(&self) {
        let (waiting, acknowledged) = self.group.read(|replica| {
            let streams = replica.streams();
            let waiting = streams.values().any(|(acked, last, _)| acked < last);
            (waiting, streams.values().map(|(acked, ..)| acked).sum::<u64>())
        });
        let moved = self.outbox_at.swap(acknowledged, Ordering::Relaxed) != acknowledged;
        if !waiting && !mistake!("outbox.age_never_ends") {
            self.outbox_since.store(u64::MAX, Ordering::Relaxed);
        } else if moved || self.outbox_since.load(Ordering::Relaxed) == u64::MAX {
            self.outbox_since.store(self.world.clock.now_ms(), Ordering::Relaxed);
        }
    }

    /// For how long messages have waited without any of them getting through.
    pub(super) fn outbox_age_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.outbox_since.load(Ordering::Relaxed))
    }
}

fn market_change(effect: &Effect) -> Option<&MarketDelta> {
    match effect {
        Effect::Market(delta) => Some(delta),
        _ => None,
    }
}

fn deliver<K: Ord, M: Message, A>(
    actors: &Mutex<BTreeMap<K, Entry<M>>>,
    key: K,
    make_actor: impl FnOnce() -> (A, A::Arguments),
    make: impl FnOnce(Busy) -> M,
) -> Result<(), Failure>
where
    A: Actor<Msg = M>,
{
    let mut actors = lock(actors);
    let entry = actors.entry(key).or_insert_with(|| {
        let (actor, arguments) = make_actor();
        // Without a name: ractor's registry is process-wide. Messages sent before the actor has
        // started wait in its mailbox.
        let (actor, _) = ractor::ActorRuntime::spawn_instant(None, actor, arguments)
            .expect("an actor without a name cannot collide");
        Entry { actor, busy: Busy::default() }
    });
    entry.busy.begin();
    entry.actor.send_message(make(entry.busy.clone())).map_err(|_| Failure::Api(ApiError::Unavailable))
}

fn stop_idle<K: Ord, M: Message>(actors: &mut BTreeMap<K, Entry<M>>, all: bool, before: u64) {
    actors.retain(|_, entry| {
        // Only what has nothing in its mailbox may stop, or a message would be lost; when
        // leadership is lost, that is what should happen.
        let stop = all || entry.busy.idle_since().is_some_and(|since| since <= before);
        if stop {
            reached!("actor.passivated", !all);
            reached!("actor.let_go_with_its_cell", all);
            entry.actor.stop(None);
        }
        !stop
    });
}

pub(super) fn failure(error: ProposeError) -> Failure {
    match error {
        ProposeError::Busy(_) => Failure::Api(ApiError::Busy { retry_after_ms: 20 }),
        ProposeError::NotLeader { leader } => Failure::NotLeader(leader.map(|NodeId(n)| n)),
        ProposeError::Unknown => Failure::Api(ApiError::Unknown),
        ProposeError::Halted => Failure::Api(ApiError::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_changes_is_hashed_now_and_then_and_one_that_does_not_once() {
        let (hashed, mut count) = (Hashed::default(), 0);
        let mut at = |applied, now_ms| {
            hashed.at(applied, now_ms, 1_000, || {
                count += 1;
                format!("{count}")
            })
        };
        assert_eq!(at(7, 5_000), "1");
        assert_eq!(at(7, 5_001), "1");
        assert_eq!(at(8, 5_999), "", "too early");
        assert_eq!(at(7, 5_999), "1");
        assert_eq!(at(8, 6_000), "2");
        assert_eq!(at(8, 60_000), "2");
    }
}
