//! Whether this node leads a cell: what openraft says of it, what that means for whoever waits, and handing
//! it over.

use std::mem;

use tokio::{sync::watch, time::Duration};

use super::{Group, Queue};
use crate::{
    consensus::{At, Lead},
    host::{error::ProposeError, status::Halted, turn::Alarm},
    ids::{CellId, RaftId},
    machine::Machine,
    mistake, reached,
};

/// Who leads and whether proposals are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leading {
    /// The term this node leads in.
    pub term: Option<u64>,
    /// It has applied an entry of that term: everything before is applied, its outbox is whole.
    pub ready: bool,
}

/// Whether this node leads a cell and takes its proposals, and in which term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leading: bool,
    pub term: u64,
}

impl<M: Machine> Group<M> {
    /// openraft says who leads.
    pub(crate) fn lead_changed(&self, lead: Lead) {
        let mut failed = Vec::new();
        let mut unknown = Vec::new();
        {
            let mut q = self.queue();
            q.leader = lead.leader;
            let term = lead.here.then_some(lead.term);
            if q.leading.term != term {
                reached!("lead.lost", q.leading.ready);
                reached!("lead.lost_with_rounds_under_way", !q.under_way.is_empty());
                q.leading = Leading { term, ready: false };
                q.handing_over = false;
                q.ticking &= mistake!("lead.ticking_stays");
                q.acks.clear();
                let in_doubt = if mistake!("lead.unknown_is_refused") { &mut failed } else { &mut unknown };
                in_doubt.extend(mem::take(&mut q.under_way).into_values().flat_map(|round| round.waiters));
                if !mistake!("lead.queue_kept") {
                    failed.extend(q.waiting.drain(..).map(|(_, waiter)| waiter));
                }
                self.turn.set_alarm(Alarm::Deadline(self.id), None);
                self.leadership.send_replace(Leadership { leading: false, term: lead.term });
                self.receipts.send_replace(());
                self.become_ready(&mut q);
            }
        }
        let leader = lead.leader.map(RaftId::node).filter(|_| !lead.here);
        for waiter in failed {
            waiter.fail(ProposeError::NotLeader { leader });
        }
        for waiter in unknown {
            waiter.fail(ProposeError::Unknown);
        }
    }

    /// A leader takes proposals when it has applied an entry of its own term.
    pub(super) fn become_ready(&self, q: &mut Queue<M>) {
        let Some(term) = q.leading.term else { return };
        if q.leading.ready || q.applied.term < term || q.halted.is_some() {
            return;
        }
        q.leading.ready = true;
        self.leadership.send_replace(Leadership { leading: true, term });
        self.arm(q, Duration::ZERO);
        if !mistake!("lead.nothing_taken_up") {
            self.begin_anew();
        }
    }

    /// Looks at everything that may have been put off: a hand-over or a fast clock kept it back, and
    /// nothing else may ever ask for it.
    pub(crate) fn begin_anew(&self) {
        self.turn.mark_cell(self.id);
        let to: Vec<CellId> = self.shared.read(|replica| replica.outbox_depths().map(|(to, ..)| to).collect());
        self.turn.mark_streams(self.id, to);
    }

    /// openraft has stopped the group: nobody may wait for it any longer.
    pub(crate) fn stopped(&self) {
        let term = self.queue().leading.term.unwrap_or_default();
        self.lead_changed(Lead { term, leader: None, here: false });
    }

    /// openraft has stopped the group, and nobody asked it to. The reason, unless it is known already
    /// that this replica goes no further.
    pub(crate) fn died(&self) -> Option<String> {
        let reason = {
            let mut q = self.queue();
            let At { term, index } = q.applied;
            let message = format!("the consensus of {} has ended by itself; the node's log says why", self.id);
            let new = q.halted.is_none().then(|| message.clone());
            q.halted.get_or_insert(Halted { term, index, message });
            new
        };
        self.stopped();
        reason
    }

    /// Follows whether this node leads the cell.
    pub fn on_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Stops taking proposals and hands leadership to `to`.
    pub(crate) async fn hand_over(&self, to: RaftId) {
        self.queue().handing_over = true;
        if let Some(engine) = self.engine() {
            engine.hand_over(to).await;
        }
    }

    /// A hand-over that did not come about: take proposals again, if openraft does.
    pub(crate) fn keep_leading(&self) {
        reached!("lead.kept_after_hand_over");
        self.queue().handing_over = false;
        self.begin_anew();
    }
}
