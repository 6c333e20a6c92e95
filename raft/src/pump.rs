//! The outbox pump: carries messages from the outboxes of the cells that this node leads to the
//! leaders of the cells they are for.
//!
//! What must hold here: runs of one stream are sent in order, and an acknowledgement is passed on
//! only from a receipt, that is, from a committed watermark. Losing everything in this module
//! loses nothing: the outbox is in the cell's state, and a receiver takes in each message once.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    host::{Alarm, Group, ProposeError, Turn},
    ids::{CellId, NodeId},
    machine::Machine,
    mesh::{Incoming, Kind, Mesh},
    mistake, plain, reached,
    replica::{Ack, Delivery, Receipt},
    seldom,
};

/// A stream that got no answer, or a refusal without progress, is tried again after this, doubling.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// What the pump needs of the node's cells.
pub(crate) trait Cells<M: Machine>: Send + Sync + 'static {
    fn group(&self, cell: CellId) -> Option<Arc<Group<M>>>;
    /// The node that leads the cell, or the one to ask next.
    fn route(&self, cell: CellId, attempt: u32) -> Option<NodeId>;
    /// Another node named a leader.
    fn hint(&self, cell: CellId, leader: NodeId);
    fn here(&self) -> NodeId;
}

/// The answer to a delivery, on the wire.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Receipt(Receipt),
    NotLeader(Option<NodeId>),
    TryLater,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Number of the last message sent.
    sent: u64,
    /// Runs sent and not answered.
    under_way: usize,
    /// Rises whenever the stream starts again from a watermark: answers to what was sent before
    /// no longer steer it.
    round: u64,
    failures: u32,
    /// Waiting for an alarm before the next try.
    paused: bool,
}

pub(crate) struct Pump<M: Machine> {
    cells: Weak<dyn Cells<M>>,
    mesh: Arc<Mesh>,
    turn: Arc<Turn>,
    max_run: usize,
    max_runs: usize,
    streams: Mutex<BTreeMap<(CellId, CellId), Stream>>,
    /// For answers to find their way back.
    this: Weak<Self>,
}

impl<M: Machine> fmt::Debug for Pump<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").finish_non_exhaustive()
    }
}

impl<M: Machine> Pump<M> {
    pub fn new(
        cells: Weak<dyn Cells<M>>,
        mesh: Arc<Mesh>,
        turn: Arc<Turn>,
        (max_run, max_runs): (usize, usize),
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            cells,
            mesh,
            turn,
            max_run,
            max_runs,
            streams: Mutex::default(),
            this: this.clone(),
        })
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<(CellId, CellId), Stream>> {
        self.streams.lock().expect("no code that holds this lock panics")
    }

    /// This node leads `cell` anew, or no longer: its streams start again from what is acknowledged.
    pub fn reset(&self, cell: CellId) {
        let mut streams = self.streams();
        for ((_, _), stream) in streams.range_mut((cell, CellId(0))..=(cell, CellId(u16::MAX))) {
            *stream = Stream { round: stream.round + 1, ..Stream::default() };
        }
    }

    /// A paused stream may go on.
    pub fn resume(&self, from: CellId, to: CellId) {
        if let Some(stream) = self.streams().get_mut(&(from, to)) {
            stream.paused = false;
        }
        self.turn.mark_streams(from, [to]);
    }

    /// Sends what waits in the outbox of `from` for `to`, as far as runs may be under way.
    pub fn send(&self, from: CellId, to: CellId) {
        let Some(cells) = self.cells.upgrade() else { return };
        let Some(group) = cells.group(from).filter(|group| group.is_leader()) else { return };
        loop {
            let (delivery, round, attempt) = {
                let mut streams = self.streams();
                let stream = streams.entry((from, to)).or_default();
                if stream.paused || stream.under_way >= self.max_runs {
                    return;
                }
                if seldom!("pump.sends_again") {
                    stream.sent = 0;
                }
                let max_run = if seldom!("pump.small_run") { 1 } else { self.max_run };
                let Some(delivery) = group.read(|replica| replica.outgoing(to, stream.sent, max_run)) else {
                    return;
                };
                stream.sent = delivery.first + delivery.messages.len() as u64 - 1;
                stream.under_way += 1;
                (delivery, stream.round, stream.failures)
            };
            self.dispatch(&*cells, from, to, round, attempt, delivery);
        }
    }

    fn dispatch(&self, cells: &dyn Cells<M>, from: CellId, to: CellId, round: u64, attempt: u32, delivery: Delivery) {
        let this = self.this.clone();
        let answered = move |answer: Option<Answer>| {
            if let Some(pump) = this.upgrade() {
                pump.answered(from, to, round, answer);
            }
        };
        let route = cells.route(to, attempt);
        tracing::debug!(%from, %to, round, first = delivery.first, ?route, "sending messages");
        match route {
            Some(node) if node == cells.here() => {
                let Some(group) = cells.group(to) else { return answered(None) };
                let later = answered.clone();
                let done = move |receipt: Option<Receipt>| later(receipt.map(Answer::Receipt));
                if let Err(why) = group.deliver(delivery, done) {
                    answered(Some(refusal(why)));
                }
            }
            Some(node) => {
                self.mesh.request(
                    node,
                    Kind::Deliver,
                    to.0,
                    |body| {
                        let all = std::mem::take(body);
                        *body = postcard::to_extend(&delivery, all).expect("a delivery is plain data");
                    },
                    move |reply| answered(reply.ok().and_then(|bytes| plain::read(&bytes).ok())),
                );
            }
            None => answered(None),
        }
    }

    fn answered(&self, from: CellId, to: CellId, round: u64, answer: Option<Answer>) {
        let Some(cells) = self.cells.upgrade() else { return };
        tracing::debug!(%from, %to, round, ?answer, "messages are answered");
        let mut pause = None;
        {
            let mut streams = self.streams();
            let Some(stream) = streams.get_mut(&(from, to)) else { return };
            let current = stream.round == round || mistake!("pump.every_round_is_this_one");
            match &answer {
                // What is committed is committed, whichever round asked.
                Some(Answer::Receipt(receipt)) => {
                    if let Some(group) = cells.group(from) {
                        group.acknowledge(Ack { by: to, through: receipt.watermark, hash: receipt.hash });
                    }
                    if current && receipt.refused {
                        let failures = stream.failures + 1;
                        let sent = receipt.watermark;
                        *stream = Stream { sent, round: stream.round + 1, failures, ..Stream::default() };
                        // The first refusal says where to go on; a second in a row is a sign of trouble.
                        pause = (failures > 1).then_some(failures);
                    } else if current {
                        stream.under_way -= 1;
                        stream.failures = 0;
                    }
                }
                Some(Answer::NotLeader(_) | Answer::TryLater) | None if current => {
                    let failures = stream.failures + 1;
                    *stream = Stream { round: stream.round + 1, failures, ..Stream::default() };
                    pause = Some(failures);
                }
                Some(_) | None => {}
            }
            if pause.is_some() {
                reached!("stream.paused");
                stream.paused = true;
            }
        }
        if let Some(Answer::NotLeader(Some(leader))) = answer {
            cells.hint(to, leader);
        }
        match pause {
            Some(_) if mistake!("pump.refusal_blocks") => {}
            Some(failures) => {
                let wait = FIRST_RETRY.saturating_mul(1 << failures.clamp(1, 8).saturating_sub(1)).min(LAST_RETRY);
                self.turn.set_alarm_by(Alarm::Stream(from, to), wait);
            }
            None => self.turn.mark_streams(from, [to]),
        }
    }

    /// A delivery from another node: proposed here if this node leads the cell it is for.
    pub fn incoming(&self, incoming: &Incoming) {
        let Some(cells) = self.cells.upgrade() else { return };
        let (mesh, reply) = (self.mesh.clone(), incoming.reply);
        let answer = move |answer: &Answer| {
            let bytes = postcard::to_stdvec(answer).expect("an answer is plain data");
            mesh.reply(reply, |to| to.extend_from_slice(&bytes));
        };
        let Ok(delivery) = plain::read::<Delivery>(&incoming.body) else {
            return answer(&Answer::TryLater);
        };
        let to = CellId(incoming.group);
        let Some(group) = cells.group(to) else {
            return answer(&Answer::NotLeader(cells.route(to, 0).filter(|node| *node != cells.here())));
        };
        if mistake!("pump.receipt_before_commit") {
            let taken = delivery.messages.len() as u64;
            let watermark = delivery.first + taken - 1;
            answer(&Answer::Receipt(Receipt { watermark, hash: delivery.hash, taken, refused: false }));
        }
        let later = answer.clone();
        let done = move |receipt: Option<Receipt>| match receipt {
            Some(receipt) => later(&Answer::Receipt(receipt)),
            None => later(&Answer::TryLater),
        };
        if let Err(why) = group.deliver(delivery, done) {
            answer(&refusal(why));
        }
    }
}

fn refusal(why: ProposeError) -> Answer {
    match why {
        ProposeError::NotLeader { leader } => Answer::NotLeader(leader),
        ProposeError::Busy(_) | ProposeError::Unknown | ProposeError::Halted => Answer::TryLater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{check, variants};

    #[test]
    fn an_answer_to_a_delivery_is_what_it_ever_was() {
        let receipt = |refused| Receipt { watermark: 1_000, hash: 0x0123_4567_89ab_cdef, taken: 3, refused };
        check("deliveries.txt", include_str!("../tests/golden/deliveries.txt"), |lines| {
            variants!(lines, Answer {
                "receipt": Answer::Receipt(_) => Answer::Receipt(receipt(false)),
                "refused": Answer::Receipt(_) => Answer::Receipt(receipt(true)),
                "not the leader": Answer::NotLeader(_) => Answer::NotLeader(Some(NodeId(300))),
                "no leader": Answer::NotLeader(_) => Answer::NotLeader(None),
                "try later": Answer::TryLater => Answer::TryLater,
            });
            let messages = vec![vec![5, 200, 1].into(), vec![].into()];
            lines.value("delivery", &Delivery { from: CellId(37), first: 1_000, hash: 7, messages });
        });
    }
}
