//! One cell with a replica on this node: gathering, proposing, waiting for verdicts, reading.
//!
//! What must hold here: a waiter is answered exactly once; `Unknown` is never said of something
//! that was certainly not proposed as if it might not have been, nor the reverse; a verdict is
//! given only when the entry has been applied here, hence is committed.

mod leading;
mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    sync::{broadcast, oneshot, watch},
    time::{Duration, Instant},
};

use super::{
    config::HostConfig,
    effects::{Effects, Subscription, Told},
    error::ProposeError,
    status::Halted,
    turn::{Alarm, Turn},
};
use crate::{
    consensus::{At, BATCH, Engine, Rejected, Shared, Watcher},
    ids::{CellId, NodeId, RaftId},
    machine::{Machine, Stamp},
    mistake, reached,
    replica::{Ack, Applied, Batch, Delivery, Item, Origin, Outcome, Receipt, Replica},
    seldom, timer,
};
pub use leading::Leadership;
use leading::Leading;
use view::Readers;

/// After a rejected round, a deadline that is due is tried again no earlier than this.
const REJECTED_WAIT: Duration = Duration::from_millis(20);
/// How long a round is put off when a simulation asks for it.
const DELAY: Duration = Duration::from_millis(3);
/// Bytes of most items in a batch: growing the buffer costs more than asking for a little too much.
const USUAL_ITEM: usize = 128;

/// Who waits for what becomes of an item.
enum Waiter<M: Machine> {
    Client(oneshot::Sender<Result<M::Verdict, ProposeError>>),
    /// A delivery from another cell: its receipt, or nothing.
    Stream(Box<dyn FnOnce(Option<Receipt>) + Send>),
    Nobody,
}

impl<M: Machine> Waiter<M> {
    fn answer(self, outcome: Outcome<M>) {
        match (self, outcome) {
            // A client may have gone away.
            (Waiter::Client(tx), Outcome::Verdict(verdict)) => drop(tx.send(Ok(verdict))),
            (Waiter::Stream(done), Outcome::Receipt(receipt)) => done(Some(receipt)),
            (waiter, _) => waiter.fail(ProposeError::Unknown),
        }
    }

    fn fail(self, why: ProposeError) {
        match self {
            Waiter::Client(tx) => drop(tx.send(Err(why))),
            Waiter::Stream(done) => done(None),
            Waiter::Nobody => {}
        }
    }
}

struct Round<M: Machine> {
    began: Instant,
    waiters: Vec<Waiter<M>>,
    acks: Vec<Ack>,
    ticks: bool,
}

struct Queue<M: Machine> {
    waiting: VecDeque<(Item<M::Command>, Waiter<M>)>,
    under_way: BTreeMap<u64, Round<M>>,
    acks: BTreeMap<CellId, Ack>,
    acks_due: bool,
    ticking: bool,
    next_deadline: Option<Stamp>,
    leading: Leading,
    leader: Option<RaftId>,
    applied: At,
    halted: Option<Halted>,
    handing_over: bool,
}

/// A cell's replica on this node.
pub struct Group<M: Machine> {
    id: CellId,
    pub(crate) raft_id: RaftId,
    turn: Arc<Turn>,
    max_queue: usize,
    max_in_flight: usize,
    gather: usize,
    max_round: usize,
    idle_ack: Duration,
    /// A round that takes longer is looked into.
    slow: Duration,
    shared: Arc<Shared<M>>,
    engine: OnceLock<Engine<M>>,
    queue: Mutex<Queue<M>>,
    effects: broadcast::Sender<Told<M::Effect>>,
    leadership: watch::Sender<Leadership>,
    /// Changes with every receipt for this cell's messages.
    receipts: watch::Sender<()>,
    readers: Mutex<Readers>,
}

impl<M: Machine> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).field("raft_id", &self.raft_id).finish_non_exhaustive()
    }
}

/// A command on its way: resolves to its verdict once it is committed and applied here.
#[must_use = "a command without anyone to hear its verdict is still carried out"]
#[derive(Debug)]
pub struct Proposal<V>(oneshot::Receiver<Result<V, ProposeError>>);

impl<V> Future for Proposal<V> {
    type Output = Result<V, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(ProposeError::Unknown)))
    }
}

impl<M: Machine> Group<M> {
    pub(crate) fn new(id: CellId, raft_id: RaftId, replica: Replica<M>, turn: Arc<Turn>, config: &HostConfig) -> Self {
        Self {
            id,
            raft_id,
            turn,
            max_queue: config.max_queue,
            max_in_flight: config.max_in_flight,
            gather: config.gather,
            max_round: config.max_round,
            idle_ack: config.idle_ack,
            slow: config.election.1,
            shared: Arc::new(Shared::new(replica)),
            engine: OnceLock::new(),
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                under_way: BTreeMap::new(),
                acks: BTreeMap::new(),
                acks_due: false,
                ticking: false,
                next_deadline: None,
                leading: Leading::default(),
                leader: None,
                applied: At::default(),
                halted: None,
                handing_over: false,
            }),
            effects: broadcast::Sender::new(config.effects_kept),
            leadership: watch::Sender::new(Leadership::default()),
            receipts: watch::Sender::new(()),
            readers: Mutex::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }

    pub(crate) fn set_engine(&self, engine: Engine<M>) {
        assert!(self.engine.set(engine).is_ok(), "a group is started once");
    }

    pub(crate) fn engine(&self) -> Option<&Engine<M>> {
        self.engine.get()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().expect("no code that holds this lock panics")
    }

    pub fn id(&self) -> CellId {
        self.id
    }

    /// This replica's name in its group.
    pub fn raft_id(&self) -> RaftId {
        self.raft_id
    }

    /// Whether this node leads the cell and takes proposals now.
    pub fn is_leader(&self) -> bool {
        self.takes_proposals(&self.queue())
    }

    fn takes_proposals(&self, q: &Queue<M>) -> bool {
        q.leading.ready && !q.handing_over && self.turn.clocks.ahead().is_none()
    }

    /// The newest format that all nodes of the cluster know, as far as this one can say.
    pub fn agreed_format(&self) -> u16 {
        self.turn.formats.agreed()
    }

    /// The leader, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.queue().leader.map(RaftId::node)
    }

    /// Gathers the command with everything else that arrives for the cell; several rounds may be
    /// under way at once, and what arrives meanwhile makes up the next.
    ///
    /// # Errors
    /// At once, and then certainly nothing was proposed: Busy, NotLeader, Halted. Later, from the
    /// future: the same, or Unknown.
    pub fn propose(&self, command: M::Command) -> Result<Proposal<M::Verdict>, ProposeError> {
        let (tx, rx) = oneshot::channel();
        self.enqueue(Item::Command(command), Waiter::Client(tx))?;
        Ok(Proposal(rx))
    }

    /// Takes in a run of messages from another cell's outbox.
    pub(crate) fn deliver(
        &self,
        delivery: Delivery,
        done: impl FnOnce(Option<Receipt>) + Send + 'static,
    ) -> Result<(), ProposeError> {
        self.enqueue(Item::Deliver(delivery), Waiter::Stream(Box::new(done)))
    }

    fn enqueue(&self, item: Item<M::Command>, waiter: Waiter<M>) -> Result<(), ProposeError> {
        let mut q = self.queue();
        if q.halted.is_some() {
            return Err(ProposeError::Halted);
        }
        if !self.takes_proposals(&q) {
            let leader = q.leader.map(RaftId::node).filter(|leader| *leader != self.raft_id.node());
            return Err(ProposeError::NotLeader { leader });
        }
        if self.is_alone(&q) {
            reached!("lead.alone");
            return Err(ProposeError::NotLeader { leader: None });
        }
        if q.waiting.len() >= self.max_queue || seldom!("busy.queue_full") {
            reached!("busy.cell_refused");
            return Err(ProposeError::Busy(self.id));
        }
        q.waiting.push_back((item, waiter));
        if self.may_begin(&q) {
            self.turn.mark_cell(self.id);
        }
        Ok(())
    }

    /// Whether no quorum has answered lately: what is taken in now would wait for one, and its outcome be open
    /// as long. Looked into when a cell that was idle gets something to do, and when a round takes too long.
    fn is_alone(&self, q: &Queue<M>) -> bool {
        let suspicious = match q.under_way.first_key_value() {
            Some((_, oldest)) => oldest.began.elapsed() > self.slow,
            None => q.waiting.is_empty(),
        };
        suspicious && !self.is_led()
    }

    /// Returns once the cell `to` has committed this cell's messages up to `number`; false when this
    /// node stops leading before that is known.
    pub async fn delivered(&self, to: CellId, number: u64) -> bool {
        let mut receipts = self.receipts.subscribe();
        loop {
            {
                let q = self.queue();
                if !q.leading.ready {
                    return false;
                }
                let through = q.acks.get(&to).map_or(0, |ack| ack.through);
                if through >= number || self.read(|replica| replica.acknowledged(to)) >= number {
                    return true;
                }
            }
            if receipts.changed().await.is_err() {
                return false;
            }
        }
    }

    /// A committed watermark of a receiver, to ride on the next entry.
    pub(crate) fn acknowledge(&self, ack: Ack) {
        self.receipts.send_replace(());
        let mut q = self.queue();
        tracing::debug!(cell = %self.id, ?ack, ready = q.leading.ready, known = ?q.acks, "acknowledged");
        if !q.leading.ready {
            return;
        }
        if q.acks.is_empty() {
            self.turn.set_alarm_by(Alarm::Acks(self.id), self.idle_ack);
        }
        let known = q.acks.entry(ack.by).or_insert(ack);
        if ack.through > known.through {
            *known = ack;
        }
    }

    /// An alarm of this cell went off.
    pub(crate) fn alarm(&self, alarm: Alarm) {
        let mut q = self.queue();
        match alarm {
            Alarm::Acks(_) => q.acks_due = true,
            Alarm::Deadline(_) => {
                if q.leading.ready && !q.ticking {
                    q.ticking = true;
                    q.waiting.push_back((Item::Tick, Waiter::Nobody));
                }
            }
            Alarm::Stream(..) => return,
        }
        self.turn.mark_cell(self.id);
    }

    /// Proposes what has gathered, as far as rounds may be under way.
    pub(crate) async fn propose_rounds(self: &Arc<Self>) {
        while let Some((number, body)) = self.next_round() {
            if seldom!("round.delayed") {
                timer::sleep(DELAY).await;
            }
            let Some(engine) = self.engine() else { return };
            let group = self.clone();
            engine.propose(body, move |why| group.rejected(number, why)).await;
        }
    }

    /// Whether another round may begin: always when none is under way.
    fn may_begin(&self, q: &Queue<M>) -> bool {
        q.under_way.is_empty() || (q.under_way.len() < self.max_in_flight && q.waiting.len() >= self.gather)
    }

    fn next_round(&self) -> Option<(u64, Bytes)> {
        let mut q = self.queue();
        if !q.leading.ready || self.turn.clocks.ahead().is_some() || !self.may_begin(&q) {
            return None;
        }
        let acks_alone = q.acks_due && !q.acks.is_empty();
        if q.waiting.is_empty() && !acks_alone && !mistake!("round.of_nothing") {
            return None;
        }
        let number = self.turn.next_number();
        let count = q.waiting.len().min(if seldom!("round.small") { 1 } else { self.max_round });
        let (items, waiters): (Vec<_>, Vec<_>) = q.waiting.drain(..count).unzip();
        let acks: Vec<Ack> = mem::take(&mut q.acks).into_values().collect();
        q.acks_due = false;
        let ticks = items.iter().any(|item| matches!(item, Item::Tick));
        q.under_way.insert(number, Round { began: Instant::now(), waiters, acks: acks.clone(), ticks });
        drop(q);
        let batch =
            Batch { stamp: self.turn.clock.now_ms(), origin: Origin { node: self.turn.life, number }, acks, items };
        let mut body = Vec::with_capacity(USUAL_ITEM * (1 + batch.items.len()));
        body.push(BATCH);
        let body = postcard::to_extend(&batch, body).expect("a batch is plain data");
        Some((number, body.into()))
    }

    fn rejected(&self, number: u64, why: Rejected) {
        let mut q = self.queue();
        let Some(round) = q.under_way.remove(&number) else { return };
        let error = match why {
            Rejected::NotLeader(leader) => {
                let leader = leader.map(RaftId::node).filter(|leader| *leader != self.raft_id.node());
                ProposeError::NotLeader { leader }
            }
            Rejected::Discarded => ProposeError::Unknown,
        };
        reached!("round.rejected");
        q.ticking &= !round.ticks;
        // What was not said can be said again.
        for ack in round.acks {
            let known = q.acks.entry(ack.by).or_insert(ack);
            if ack.through > known.through {
                *known = ack;
            }
        }
        if q.leading.ready {
            // A leader that has lost touch with its quorum rejects at once, and would be asked at once again.
            let again = if q.waiting.is_empty() { self.idle_ack } else { REJECTED_WAIT };
            self.turn.set_alarm_by(Alarm::Acks(self.id), again);
            let least = if mistake!("lead.spins_without_quorum") { Duration::ZERO } else { REJECTED_WAIT };
            self.arm(&mut q, least);
        }
        drop(q);
        for waiter in round.waiters {
            waiter.fail(error.clone());
        }
    }

    /// Sets the alarm for the machine's next deadline, on the leader, no earlier than after `least`.
    fn arm(&self, q: &mut Queue<M>, least: Duration) {
        if !q.leading.ready || q.ticking || mistake!("lead.never_ticks") {
            return;
        }
        let at = q.next_deadline.map(|due| {
            let wait = due.saturating_sub(self.turn.clock.now_ms());
            Instant::now() + Duration::from_millis(wait).max(least)
        });
        self.turn.set_alarm(Alarm::Deadline(self.id), at);
    }

    /// What this replica has applied, perhaps a little behind the leader.
    pub fn read<R>(&self, f: impl FnOnce(&Replica<M>) -> R) -> R {
        self.shared.read(f)
    }

    /// The effects of entries as this replica applies them, from now on.
    pub fn subscribe(&self) -> Subscription<M::Effect> {
        Subscription::new(self.effects.subscribe())
    }

    /// Replaces a voter by another incarnation, or by another node's: the new one learns first and
    /// votes when it has caught up. A learner that is silent for `stall` is given up. May be called
    /// again for a change that was interrupted.
    ///
    /// # Errors
    /// A sentence, when this node does not lead the cell or another change is under way.
    pub async fn replace(&self, old: RaftId, new: RaftId, stall: Duration) -> Result<(), String> {
        match self.engine() {
            Some(engine) => engine.replace(old, new, stall).await,
            None => Err("the cell is not running here".into()),
        }
    }

    /// Commands that wait for their verdict here.
    pub(crate) fn in_flight(&self) -> usize {
        let q = self.queue();
        q.waiting.len() + q.under_way.values().map(|round| round.waiters.len()).sum::<usize>()
    }

    /// Nothing of this node's is under way in the cell.
    pub(crate) fn is_idle(&self) -> bool {
        let q = self.queue();
        q.waiting.is_empty() && q.under_way.is_empty()
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.queue().halted.is_some()
    }
}

impl<M: Machine> Watcher<M> for Group<M> {
    fn applied(&self, at: At, applied: Option<Applied<M>>, next_deadline: Option<Stamp>) {
        let mut answers = None;
        let mut sent_to = Vec::new();
        let mut effects = Vec::new();
        {
            let mut q = self.queue();
            q.applied = at;
            q.next_deadline = next_deadline;
            if let Some(applied) = applied {
                sent_to.extend(applied.sent_to);
                effects = applied.effects;
                if applied.origin.node == self.turn.life
                    && let Some(round) = q.under_way.remove(&applied.origin.number)
                {
                    self.turn.round_took(round.began.elapsed());
                    q.ticking &= !round.ticks;
                    // What became due while the round was under way is not due again.
                    if !q.waiting.is_empty() || (q.acks_due && !mistake!("round.due_acknowledgement_lost")) {
                        self.turn.mark_cell(self.id);
                    }
                    answers = Some((round.waiters, applied.outcomes));
                }
            }
            self.arm(&mut q, Duration::ZERO);
            if !q.leading.ready {
                sent_to.clear();
            }
            self.become_ready(&mut q);
        }
        if let Some((waiters, outcomes)) = answers {
            for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
                waiter.answer(outcome);
            }
        }
        if !sent_to.is_empty() {
            self.turn.mark_streams(self.id, sent_to);
        }
        if !effects.is_empty() && self.effects.receiver_count() > 0 {
            // Nobody may have stayed to listen.
            let _ = self.effects.send(Told::Effects(Effects { index: at.index, effects: Arc::new(effects) }));
        }
    }

    fn restored(&self, at: At) {
        let next_deadline = self.shared.read(|replica| replica.machine().next_deadline());
        let mut q = self.queue();
        let missed = at.index.saturating_sub(q.applied.index);
        q.applied = at;
        q.next_deadline = next_deadline;
        drop(q);
        if missed > 0 && !mistake!("feed.gap_not_told") {
            // Nobody may be listening.
            let _ = self.effects.send(Told::Gap(missed));
        }
    }

    fn halted(&self, at: At, message: String) {
        self.queue().halted = Some(Halted { term: at.term, index: at.index, message });
        self.stopped();
    }
}
