//! How a replica that lost its data is taken in again under its new incarnation.
//!
//! It starts empty, follows nobody, and asks the cell's other replicas until the committed
//! membership says that it votes ([`ask`]). The leader sees that the cell stands without it, lets it learn, and then
//! puts it in the place of the incarnation before ([`Group::replace`]): one replica of a cell at a
//! time and a few cells at a time. Everything is asked again until it is done, so nothing here
//! needs to survive: not the asking, not the leader.
//!
//! What must hold here: nobody but the leader, with a quorum of others it has just heard, decides;
//! and a cell without a quorum stays as it is and says so, for whoever voted in it and lost what
//! it knew may be the only one who knew it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use super::{Group, Host, incarnation::second};
use crate::{
    ids::{CellId, NodeId, RaftId},
    machine::Machine,
    mesh::{Incoming, Kind},
    mistake, plain, timer,
};

/// How often a replica asks, and how long it waits for an answer.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A replica that has asked within this time has lost its data and is not a voter again yet.
const ASKS_STILL: Duration = Duration::from_secs(3);
/// Elections take a moment; a cell without a leader for longer is worth a sentence.
const NO_LEADER_AFTER: Duration = Duration::from_secs(5);
/// Cells in which a replica is being replaced at once, on one leading node: each may be sent a
/// whole snapshot.
const AT_ONCE: usize = 4;

/// What a replica says when it asks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Join {
    id: RaftId,
    /// It does not vote, as far as it knows: it has lost its data and not caught up yet.
    lost: bool,
}

/// What a node says to a replica that asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Reply {
    /// This node leads, and the asking replica is a voter, as it will learn from its log.
    Voter,
    /// This node leads, and is at it.
    Working,
    /// This node leads, and others come first.
    Waits,
    /// This node leads, and will not, for this reason.
    Refused(String),
    /// This node has a replica with its data, and this is the leader it knows.
    Follows(Option<NodeId>),
    /// This node's replica has lost its data as well.
    LostToo,
}

impl Reply {
    /// There is a leader, and not the earlier incarnation of the one who asks.
    fn knows_leader(&self, asker: NodeId) -> bool {
        match self {
            Reply::Voter | Reply::Working | Reply::Waits | Reply::Refused(_) => true,
            Reply::Follows(leader) => leader.is_some_and(|leader| leader != asker),
            Reply::LostToo => false,
        }
    }
}

/// What a host knows of replicas that are being rebuilt, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Rejoins(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Replicas here that are not voters yet.
    here: BTreeMap<CellId, Rebuilding>,
    /// Replicas elsewhere that have lost their data and ask.
    asking: BTreeMap<(CellId, NodeId), (RaftId, Instant)>,
    /// Cells in which this node is replacing a replica.
    under_way: BTreeSet<CellId>,
}

#[derive(Debug, Default)]
struct Rebuilding {
    /// What was found to be lost, if it was at this start.
    why: Option<String>,
    /// How it stands.
    stage: String,
}

impl Rejoins {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no code that holds this lock panics")
    }

    /// A replica here lost what it had, and begins anew as `new`.
    pub fn lost(&self, cell: CellId, new: RaftId, why: String) {
        let stage = format!("the replica of cell {cell} lost its data and is rebuilt as {new}");
        self.lock().here.insert(cell, Rebuilding { why: Some(why), stage });
    }

    /// How a replica here stands; into the log only if it is new.
    fn say(&self, cell: CellId, stage: String) {
        let mut inner = self.lock();
        let known = inner.here.entry(cell).or_default();
        if known.stage != stage {
            tracing::warn!(%cell, "{stage}");
            known.stage = stage;
        }
    }

    fn done(&self, cell: CellId) {
        self.lock().here.remove(&cell);
    }

    /// Replicas of the cell that have lost their data and ask to be taken in.
    fn asking(&self, cell: CellId) -> BTreeSet<RaftId> {
        let inner = self.lock();
        let of_cell = inner.asking.range((cell, NodeId(0))..=(cell, NodeId(u16::MAX)));
        of_cell.filter(|(_, (_, at))| at.elapsed() <= ASKS_STILL).map(|(_, (id, _))| *id).collect()
    }

    /// Takes one of the places for replacing; false if there is none.
    fn begin(&self, cell: CellId) -> bool {
        let mut inner = self.lock();
        inner.under_way.len() < AT_ONCE && inner.under_way.insert(cell)
    }
}

/// Gives its place back, however the replacing ends.
struct Place(Arc<Rejoins>, CellId);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().under_way.remove(&self.1);
    }
}

/// "n1", "n1 and n2", "n1, n2 and n3".
fn list(nodes: &BTreeSet<NodeId>, last: &str) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    match names.split_last() {
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => "nobody".into(),
    }
}

fn no_quorum(cell: CellId, lost: &BTreeSet<NodeId>) -> String {
    format!(
        "cell {cell} has no quorum without the replicas on {}, which lost their data: restore the data directory of {}; until then the cell stands still, and what the others hold is untouched",
        list(lost, "and"),
        list(lost, "or"),
    )
}

impl<M: Machine> Host<M> {
    /// Sentences about cells whose replicas are being rebuilt, or cannot be.
    pub fn notices(&self) -> BTreeMap<CellId, String> {
        let sentence = |(cell, known): (&CellId, &Rebuilding)| match &known.why {
            Some(why) => (*cell, format!("{} ({why})", known.stage)),
            None => (*cell, known.stage.clone()),
        };
        let mut notices: BTreeMap<CellId, String> = self.rejoins.lock().here.iter().map(sentence).collect();
        for (cell, group) in &self.groups {
            let voters = group.engine().map(|engine| engine.members().voters()).unwrap_or_default();
            if !voters.contains(&group.raft_id) {
                continue;
            }
            let asking = self.rejoins.asking(*cell);
            let lost: BTreeSet<NodeId> = asking.difference(&voters).map(|id| id.node()).collect();
            let replicas = self.placement.get(cell).map_or(0, Vec::len);
            if replicas - lost.len().min(replicas) <= replicas / 2 {
                notices.insert(*cell, no_quorum(*cell, &lost));
            }
        }
        notices
    }

    /// Another node's replica asks to be taken in.
    pub(super) fn take_join(&self, incoming: &Incoming) {
        let cell = CellId(incoming.group);
        let join = plain::read::<Join>(&incoming.body).ok().filter(|join| join.id.node() == incoming.from);
        let reply = join.map(|join| self.consider(cell, join));
        self.mesh.reply(incoming.reply, |to| {
            if let Some(reply) = &reply {
                to.extend_from_slice(&postcard::to_stdvec(reply).expect("plain data"));
            }
        });
    }

    fn consider(&self, cell: CellId, join: Join) -> Reply {
        let Some(group) = self.groups.get(&cell) else { return Reply::Follows(self.leader_of(cell)) };
        let Some(engine) = group.engine() else { return Reply::Follows(None) };
        let asker = join.id;
        if join.lost {
            self.rejoins.lock().asking.insert((cell, asker.node()), (asker, Instant::now()));
        }
        let members = engine.members();
        if !group.is_leader() {
            let lost = group.raft_id.incarnation() > 0 && !members.voters().contains(&group.raft_id);
            return if lost { Reply::LostToo } else { Reply::Follows(group.leader()) };
        }
        if members.settled && members.target().contains(&asker) {
            return Reply::Voter;
        }
        let of_node = |id: &RaftId| id.node() == asker.node();
        let Some(old) = members.target().into_iter().rfind(of_node) else {
            return Reply::Refused(format!("{} is not a member of cell {cell}", asker.node()));
        };
        let latest = members.voters().into_iter().chain(members.learners.iter().copied()).filter(of_node).max();
        let latest = latest.unwrap_or(old);
        if latest > asker {
            return Reply::Refused(format!(
                "cell {cell} knows {latest}, which is later than {asker}: set the clock of {} right, empty its data directory and start it again",
                asker.node()
            ));
        }
        let mut healthy = engine.heard(self.config.election.1 * 2);
        healthy.retain(|id| id.node() != asker.node());
        if !members.is_quorum(&healthy) {
            return Reply::Refused(format!(
                "cell {cell} has no quorum without this replica: restore a data directory, or start the nodes that are away"
            ));
        }
        if self.rejoins.lock().under_way.contains(&cell) {
            return Reply::Working;
        }
        if !self.rejoins.begin(cell) {
            return Reply::Waits;
        }
        let place = Place(self.rejoins.clone(), cell);
        self.spawn(replace(place, group.clone(), old, asker, self.config.snapshot_stall));
        Reply::Working
    }
}

async fn replace<M: Machine>(place: Place, group: Arc<Group<M>>, old: RaftId, new: RaftId, stall: Duration) {
    let cell = place.1;
    tracing::info!(%cell, %old, %new, "replacing a replica that lost its data");
    match group.replace(old, new, stall).await {
        Ok(()) => tracing::info!(%cell, %old, %new, "the replica is replaced"),
        Err(reason) => tracing::warn!(%cell, %old, %new, reason, "the replica is not replaced yet"),
    }
}

/// Asks until this replica is a voter again.
pub(super) async fn ask<M: Machine>(host: Weak<Host<M>>, group: Arc<Group<M>>) {
    let (cell, me) = (group.id(), group.raft_id);
    let Some(engine) = group.engine() else { return };
    let mut led = Instant::now();
    loop {
        let Some(host) = host.upgrade() else { return };
        let members = engine.members();
        let settled = members.settled || mistake!("members.change_left_half_done");
        if settled && members.target().contains(&me) {
            tracing::info!(%cell, %me, "the rebuilt replica is a voter");
            if !mistake!("rejoin.notice_stays") {
                host.rejoins.done(cell);
            }
            return;
        }
        if group.is_leader() {
            // It was promoted and elected before the change ended: nobody else can end it now.
            if let Err(reason) = group.replace(me, me, host.config.snapshot_stall).await {
                tracing::warn!(%cell, %me, reason, "the change of members is not ended yet");
            }
        }
        // A directory wiped twice within a second must not come up with one incarnation twice.
        let again = mistake!("rejoin.asks_in_its_first_second");
        if second(&*host.world.clock) != me.incarnation() || again {
            let lost = !members.voters().contains(&me);
            let replies = ask_all(&host, cell, Join { id: me, lost }).await;
            if replies.values().any(|reply| reply.knows_leader(me.node())) {
                led = Instant::now();
            }
            if let Some(sentence) = sentence(&host, cell, me, &replies, led.elapsed()).filter(|_| lost) {
                host.rejoins.say(cell, sentence);
            }
        }
        drop(host);
        timer::sleep(ASK_EVERY).await;
    }
}

/// Asks every other replica of the cell: the leader is one of them, whoever it is by now, and
/// those who do not lead tell how the cell stands.
async fn ask_all<M: Machine>(host: &Host<M>, cell: CellId, join: Join) -> BTreeMap<NodeId, Reply> {
    let body = postcard::to_stdvec(&join).expect("plain data");
    let others = host.placement.get(&cell).into_iter().flatten().filter(|node| **node != join.id.node());
    let calls = others.map(|node| {
        let call = host.mesh.call(*node, Kind::Join, cell.0, |to| to.extend_from_slice(&body));
        async move {
            let answer = timer::timeout(ANSWER_WITHIN, call).await.ok()?.ok()?;
            Some((*node, plain::read(&answer).ok()?))
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

/// What to tell an operator, if these replies say anything new.
fn sentence<M: Machine>(
    host: &Host<M>,
    cell: CellId,
    me: RaftId,
    replies: &BTreeMap<NodeId, Reply>,
    leaderless: Duration,
) -> Option<String> {
    for (node, reply) in replies {
        match reply {
            Reply::Working => return Some(format!("{node} takes the replica of cell {cell} in again as {me}")),
            Reply::Waits => return Some(format!("the replica of cell {cell} waits for its turn to come back as {me}")),
            Reply::Refused(why) => return Some(why.clone()),
            Reply::Voter | Reply::Follows(_) | Reply::LostToo => {}
        }
    }
    let replicas: BTreeSet<NodeId> = host.placement.get(&cell)?.iter().copied().collect();
    let lost: BTreeSet<NodeId> = replicas
        .iter()
        .copied()
        .filter(|node| *node == me.node() || replies.get(node) == Some(&Reply::LostToo))
        .collect();
    if replicas.len() - lost.len() <= replicas.len() / 2 {
        return Some(no_quorum(cell, &lost));
    }
    (leaderless > NO_LEADER_AFTER).then(|| {
        let silent =
            replicas.iter().copied().filter(|node| *node != me.node() && !replies.contains_key(node)).collect();
        format!("cell {cell} has no leader that could take {me} in; no answer from {}", list(&silent, "and"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{check, variants};

    #[test]
    fn who_asks_to_be_taken_in_speaks_as_ever() {
        check("rejoin.txt", include_str!("../../tests/golden/rejoin.txt"), |lines| {
            lines.value("join", &Join { id: RaftId::new(NodeId(2), 1_700_000_000), lost: true });
            variants!(lines, Reply {
                "voter": Reply::Voter => Reply::Voter,
                "working": Reply::Working => Reply::Working,
                "waits": Reply::Waits => Reply::Waits,
                "refused": Reply::Refused(_) => Reply::Refused("a reason".into()),
                "follows": Reply::Follows(_) => Reply::Follows(Some(NodeId(300))),
                "follows nobody": Reply::Follows(_) => Reply::Follows(None),
                "lost too": Reply::LostToo => Reply::LostToo,
            });
        });
    }
}
