//! Who should lead: founding groups, following leadership, keeping leaders spread over the nodes,
//! and handing everything over before a node goes.
//!
//! Leadership moves gently: to a voter that has nearly everything, one cell of a node at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use super::{Group, Host, incarnation::Standing, rejoin};
use crate::{
    consensus::Facts,
    ids::{CellId, NodeId, RaftId},
    machine::Machine,
    mistake, seldom, timer,
};

/// A voter may be this many entries behind to be handed leadership.
const NEAR: u64 = 100;
/// How often a node looks whether it leads what another should.
const REBALANCE: Duration = Duration::from_secs(1);

/// How a replica begins.
pub(super) enum Beginning {
    /// With what the log has of it.
    Again,
    /// With nothing, having lost nothing: it may found the group.
    New,
    /// Under a later incarnation than the first, and why if that was found out just now.
    Rebuilt(Option<String>),
}

impl Beginning {
    pub fn of(standing: &Standing) -> Self {
        match standing.incarnation {
            0 if standing.may_be_founded() => Self::New,
            0 => Self::Again,
            _ => Self::Rebuilt(standing.lost.clone()),
        }
    }
}

pub(super) fn spawn<M: Machine>(host: &Arc<Host<M>>, beginnings: BTreeMap<CellId, Beginning>) {
    for (cell, beginning) in beginnings {
        let Some(group) = host.groups.get(&cell) else { continue };
        host.spawn(follow(Arc::downgrade(host), group.clone()));
        match beginning {
            Beginning::Again => {}
            Beginning::New => host.spawn(found(Arc::downgrade(host), group.clone())),
            Beginning::Rebuilt(why) => {
                if let Some(why) = why {
                    host.rejoins.lost(cell, group.raft_id, why);
                }
                host.spawn(rejoin::ask(Arc::downgrade(host), group.clone()));
            }
        }
    }
    host.spawn(rebalance(Arc::downgrade(host)));
}

async fn follow<M: Machine>(host: Weak<Host<M>>, group: Arc<Group<M>>) {
    let Some(engine) = group.engine() else { return };
    engine
        .follow_leadership(|lead| {
            if let Some(host) = host.upgrade() {
                host.pump.reset(group.id());
                group.lead_changed(lead);
                host.moves.send_replace(());
            } else {
                group.lead_changed(lead);
            }
        })
        .await;
    // Whoever stops the host has ended this task before. What ends a group is its disk: the node must
    // not go on with the others and be a replica short; started again, it is whole again or says why.
    if let (Some(reason), Some(host)) = (group.died(), host.upgrade())
        && !mistake!("lead.node_goes_on_without_a_cell")
    {
        tracing::error!(cell = %group.id(), %reason, "this node ends");
        host.world.fate.end(&reason);
    }
}

/// The preferred leader founds a group at once; the others only if nobody has after a while.
async fn found<M: Machine>(host: Weak<Host<M>>, group: Arc<Group<M>>) {
    let Some(engine) = group.engine() else { return };
    let Some((replicas, rank, election)) = host.upgrade().and_then(|host| {
        let replicas = host.placement.get(&group.id())?.clone();
        let rank = replicas.iter().position(|node| *node == host.world.node)?;
        Some((replicas, rank as u32, host.config.election.1))
    }) else {
        return;
    };
    timer::sleep(election * 4 * rank).await;
    if engine.is_founded().await {
        return;
    }
    if let Err(reason) = engine.found(replicas.into_iter().map(|node| RaftId::new(node, 0))).await {
        tracing::error!(cell = %group.id(), %reason, "the group could not be founded");
    }
}

/// The voter to hand leadership to: the first of `preferred` that is connected and near.
fn heir<M: Machine>(host: &Host<M>, facts: &Facts, preferred: &[NodeId]) -> Option<RaftId> {
    preferred.iter().find_map(|node| {
        // While an incarnation is being replaced, its successor.
        let id = facts.members.target().into_iter().rfind(|id| id.node() == *node)?;
        let matched = facts.matched.get(&id)?;
        let near = facts.last_log.saturating_sub(*matched) <= NEAR;
        let fit = near && host.world.net.connected(*node) && !host.turn.clocks.is_fast(*node);
        (*node != host.world.node && fit).then_some(id)
    })
}

async fn rebalance<M: Machine>(host: Weak<Host<M>>) {
    loop {
        timer::sleep(REBALANCE).await;
        let Some(host) = host.upgrade() else { return };
        if host.draining.load(Ordering::Relaxed) || mistake!("lead.never_spread") {
            return;
        }
        for group in host.groups.values().filter(|group| group.is_leader()) {
            let (Some(engine), Some(replicas)) = (group.engine(), host.placement.get(&group.id())) else { continue };
            let mut better = replicas.iter().position(|node| *node == host.world.node).unwrap_or(replicas.len());
            if seldom!("lead.given_away") {
                better = replicas.len();
            }
            let Some(to) = heir(&host, &engine.facts(), &replicas[..better]) else { continue };
            tracing::info!(cell = %group.id(), %to, "handing leadership to its preferred node");
            hand_over(&host, group, to).await;
            break;
        }
    }
}

/// Hands one cell over and waits until it has another leader, or keeps it.
async fn hand_over<M: Machine>(host: &Host<M>, group: &Group<M>, to: RaftId) {
    let mut leadership = group.on_leadership();
    if seldom!("lead.hand_over_lost") {
        tracing::info!(cell = %group.id(), "a hand-over is lost");
    } else {
        group.hand_over(to).await;
    }
    let gone = leadership.wait_for(|lead| !lead.leading);
    if timer::timeout(host.config.election.1 * 4, gone).await.is_err() {
        group.keep_leading();
    }
}

/// Hands over every cell this node leads, if there is somebody to take it.
pub(super) async fn give_up<M: Machine>(host: &Host<M>) {
    for group in host.groups.values().filter(|group| group.on_leadership().borrow().leading) {
        let (Some(engine), Some(replicas)) = (group.engine(), host.placement.get(&group.id())) else { continue };
        match heir(host, &engine.facts(), replicas) {
            Some(to) => hand_over(host, group, to).await,
            None => tracing::warn!(cell = %group.id(), "nobody is near enough to be handed leadership"),
        }
    }
}

/// Hands over every cell this node leads, then waits for what is under way.
pub(super) async fn drain<M: Machine>(host: &Host<M>) {
    if !mistake!("drain.hands_nothing_over") {
        give_up(host).await;
    }
    while host.groups.values().any(|group| !group.is_idle()) {
        timer::sleep(Duration::from_millis(5)).await;
    }
}
