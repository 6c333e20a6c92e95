//! The end of a run (L1): faults stop, and then everything must come to rest, in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use stakehold_actors::{
    api::{Principal, Request},
    shell::CellGauge,
};
use stakehold_raft::{
    CellId, NodeId,
    host::{CellStatus, Role},
    ids::RaftId,
};

use super::{Run, TOKEN_HASH, l1_work::STAGE_US, ruin};
use crate::{cluster::node::SimNode, oracles::Violation, plan::PlannedCall};

/// The calls that audit everything at the end, through each node: this less the node's number.
const AUDITS: u64 = u64::MAX;
/// As many calls that ask for the state of the whole cluster.
pub(super) const STATUSES: u64 = AUDITS - 64;

/// So many segments a log that has nothing to do may have besides those that nobody hurries to let go: the newest,
/// and what those end in that do.
const SEGMENTS: u64 = 4;

/// A node that cannot serve, says of a cell what is no longer so, still has something to do for a client, keeps
/// awake what has nothing to do, or in its log what nobody needs.
fn busy(id: NodeId, node: &SimNode) -> Option<String> {
    let kernel = node.kernel()?;
    let exchange = &kernel.exchange;
    // By the node's own clock.
    let _inside = node.enter();
    if let Err(why) = exchange.ready() {
        return Some(format!("{id} cannot serve: {why}"));
    }
    if let Some((cell, told)) = kernel.host.notices().into_iter().next() {
        return Some(format!("{id} says of {cell}, where every replica votes: {told}"));
    }
    let load = exchange.load();
    if load.calls > 0 {
        return Some(format!("{id} has {} calls under way that nobody waits for", load.calls));
    }
    if load.delayed > 0 {
        return Some(format!("{id} has {} orders in a bet delay that nobody waits for", load.delayed));
    }
    let quiet = |gauge: &CellGauge| gauge.outbox_depth == 0 && gauge.outbox_age_ms > 0;
    if let Some(gauge) = exchange.cell_gauges().into_iter().find(quiet) {
        return Some(format!(
            "{id} says that messages of {} wait for {} ms, and there are none",
            gauge.cell, gauge.outbox_age_ms
        ));
    }
    let log = kernel.host.status().log;
    if log.segments > log.segments_kept as u64 + SEGMENTS {
        return Some(format!("the log of {id} still has {} segments", log.segments));
    }
    let awake = load.markets + load.wallets;
    (awake > 0).then(|| format!("{id} keeps {awake} actors awake that have nothing to do"))
}

impl Run {
    /// Faults stop, and everything must come to rest.
    pub(super) fn rest(&mut self) {
        self.resting = true;
        self.watch.note("rest", None, &[], String::new);
        self.clients.close();
        self.watch.faults_end();
        self.wires.heal_all(self.now);
        self.cut_off.clear();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.nodes[&id].ahead_ms.store(0, Ordering::Relaxed);
            self.disk(id.0, |_| ());
            self.resume(id);
            self.start(id);
        }
    }

    fn all_told(&self) -> bool {
        self.watch.books(|books| self.feeds.all_told(books))
    }

    /// True when everything has come to rest and has worked again since, or the time for that is over.
    pub(super) fn rested(&mut self) -> bool {
        if self.ruin.cells() > 0 {
            return self.refused();
        }
        let until = self.work_until().unwrap_or((self.setup.until_ms + self.setup.rest_ms) * 1_000);
        let over = self.now >= until;
        if self.works() && !over {
            if self.answered() {
                self.work_on();
            }
            return false;
        }
        match self.unrest() {
            // Whoever follows is told of the last change in one of the next windows.
            None if self.audited.len() == self.nodes.len() && !self.all_told() && !over => false,
            None if self.audited.len() < self.nodes.len() => {
                self.audit();
                false
            }
            None if !self.worked() => {
                if self.work_until().is_none() {
                    self.compare_all();
                }
                self.work_on();
                false
            }
            None => {
                self.compare_replicas(None);
                self.compare_feeds();
                self.watch.at_rest();
                true
            }
            Some(why) if over => {
                let message = match self.work_until() {
                    None => format!("{} ms after the last fault {why}", self.setup.rest_ms),
                    Some(_) => format!(
                        "all was at rest, and then, {} s after there was work again, {why}",
                        STAGE_US / 1_000_000
                    ),
                };
                self.watch.violated(Violation::new("L1", message));
                true
            }
            Some(_) => false,
        }
    }

    /// All is at rest: whatever can be held against something else.
    fn compare_all(&mut self) {
        if let Some(id) = self.audited.iter().find(|id| self.clients.gave_up(AUDITS - u64::from(id.0))) {
            let message = format!("all is at rest, and an audit through {id} had no answer in 10 s");
            self.watch.violated(Violation::new("L1", message));
        }
        self.compare_replicas(None);
        self.compare_records();
        self.compare_statuses();
        self.compare_feeds();
        self.check_history();
        self.watch.at_rest();
    }

    fn compare_feeds(&self) {
        if let Err(violation) = self.watch.books(|books| self.feeds.at_rest(books)) {
            self.watch.violated(violation);
        }
    }

    /// Where most is lost there is no rest: the cells that are whole must go on. True when that was looked
    /// at for long enough.
    fn refused(&mut self) -> bool {
        let over = self.now >= (self.setup.until_ms + self.setup.rest_ms.min(ruin::LOOK_MS)) * 1_000;
        if over && let Some(why) = self.beside_the_ruins() {
            self.watch.violated(Violation::new("L1", format!("some cells have lost most replicas, and {why}")));
        }
        if over {
            self.compare_replicas(None);
            self.check_history();
        }
        over
    }

    fn check_history(&mut self) {
        match self.clients.history().check() {
            Ok(undecided) => self.undecided = undecided.len(),
            Err(violation) => self.watch.violated(violation),
        }
    }

    /// What is not at rest yet, in a sentence.
    fn unrest(&self) -> Option<String> {
        if let Some((cell, known)) = self.programs.behind(self.formats().into_iter()) {
            return Some(format!("{cell} has an older format than {known}, which all nodes know"));
        }
        if self.clients.open() > 0 {
            let first: Vec<String> =
                self.clients.unanswered().take(3).map(|call| format!("{:?}", call.request)).collect();
            return Some(format!("{} calls have no answer: {}", self.clients.open(), first.join("; ")));
        }
        let mut statuses: BTreeMap<CellId, Vec<(NodeId, CellStatus)>> = BTreeMap::new();
        for (id, node) in &self.nodes {
            let Some(kernel) = node.kernel() else {
                return Some(format!("{id} does not run"));
            };
            for group in kernel.host.cells() {
                statuses.entry(group.id()).or_default().push((*id, group.status()));
            }
        }
        for (cell, replicas) in self.config.placement() {
            let here = statuses.remove(&cell).unwrap_or_default();
            if here.len() != replicas.len() {
                return Some(format!("{cell} has replicas on {} nodes, not on {}", here.len(), replicas.len()));
            }
            if let Some((id, status)) = here.iter().find(|(_, status)| status.halted.is_some()) {
                return Some(format!("{id} has halted {cell}: {:?}", status.halted));
            }
            let Some((leader, _)) = here.iter().find(|(_, status)| status.role == Role::Leader) else {
                return Some(format!("{cell} has no leader"));
            };
            if replicas.first() != Some(leader) {
                return Some(format!("{cell} is led by {leader}, and its place is on {:?}", replicas.first()));
            }
            let applied = here[0].1.applied;
            let replicas: BTreeSet<RaftId> = here.iter().map(|(_, status)| status.id).collect();
            for (id, status) in &here {
                if status.role == Role::Learner {
                    return Some(format!("{id} does not vote in {cell} again"));
                }
                // No change of members is left half done, and nobody learns who will never vote.
                if !status.voters.iter().eq(&replicas) || !status.learners.is_empty() {
                    return Some(format!(
                        "{id} knows {:?} as voters of {cell} and {:?} as learners; its replicas are {replicas:?}",
                        status.voters, status.learners
                    ));
                }
                if status.applied != applied || status.last_log != applied {
                    return Some(format!(
                        "{id} has applied {} of {} in {cell}, another {applied}",
                        status.applied, status.last_log
                    ));
                }
                if let Some((to, waiting)) = status.outbox.iter().next() {
                    let (sent, taken) = self.watch.books(|books| {
                        let sent = books.replica(cell).streams().get(to).map_or(0, |stream| stream.1);
                        (sent, books.replica(*to).acknowledgement(cell).through)
                    });
                    return Some(format!(
                        "{waiting} messages of {cell} to {to} are not acknowledged ({sent} sent, {taken} taken in; {id} is {:?} \
                         with {} waiting and {} under way)",
                        status.role, status.waiting, status.in_flight
                    ));
                }
            }
        }
        if let Some(why) = self.nodes.iter().find_map(|(id, node)| busy(*id, node)) {
            return Some(why);
        }
        if let Some(why) = self.unfollowed() {
            return Some(why);
        }
        let held = self.watch.books(|books| {
            books.cells.all().find(|id| {
                let cell = books.cell(*id);
                cell.totals().held != 0
                    || cell.market_ids().any(|market| cell.market(market).is_some_and(|market| market.settling()))
            })
        });
        held.map(|cell| format!("{cell} still holds money or settles"))
    }

    /// Every node knows whose the operator's token is and what the cluster was founded with.
    fn compare_records(&self) {
        let record = self.record();
        for (id, node) in &self.nodes {
            let Some(kernel) = node.kernel() else { continue };
            if let Some(whose) = kernel.exchange.principal(&[7; 32]) {
                let message = format!("{id} takes a token that nobody made for one of {whose:?}");
                self.watch.violated(Violation::new("Gateway", message));
            }
            let meta = kernel.host.cell(CellId::META);
            let founding = meta.and_then(|meta| meta.read(|replica| replica.machine().meta().founding().cloned()));
            let founded = founding.is_some_and(|founding| {
                let zones = founding.members.iter().map(|(node, member)| (*node, member.zone.clone()));
                founding.cluster == record.cluster
                    && founding.cells == self.config.cells
                    && zones.collect::<BTreeMap<_, _>>() == record.members
            });
            let wrong = match kernel.exchange.principal(&TOKEN_HASH) {
                Some(Principal::Operator) if founded => continue,
                Some(Principal::Operator) => "has another record of the founding".to_owned(),
                whose => format!("takes the operator's token for one of {whose:?}"),
            };
            self.watch.violated(Violation::new("Gateway", format!("{id} {wrong}")));
        }
    }

    /// The books, summed by the cluster itself, through the next node: each can find every cell.
    fn audit(&mut self) {
        let Some(id) = self.nodes.keys().copied().find(|id| !self.audited.contains(id)) else { return };
        self.audited.insert(id);
        for (calls, request) in [(AUDITS, Request::Audit), (STATUSES, Request::Status)] {
            let call = PlannedCall {
                id: calls - u64::from(id.0),
                client: 0,
                node: id.0,
                operator: true,
                patience_ms: 10_000,
                request,
            };
            self.clients.plan(self.now, call);
        }
    }
}
