//! What a plan does to its cluster: each fault, as it is carried out.

use std::{sync::atomic::Ordering, time::Duration};

use stakehold_raft::{
    NodeId,
    disk::{Faults, MemDisk},
};

use super::{Run, usual};
use crate::{
    cluster::node::{End, Life, SimNode},
    plan::Fault,
    rng,
};

/// How long a node that leaves may take, in milliseconds.
const DRAIN_MS: u64 = 2_000;
/// The last bytes of a log, which are its last batch or two.
const LOG_END: usize = 4_096;

impl Run {
    pub(super) fn fault(&mut self, fault: &Fault) {
        let now = self.now;
        match *fault {
            Fault::Kill { node } => self.end(NodeId(node), false),
            Fault::PowerLoss { node } => self.end(NodeId(node), true),
            Fault::PowerLossOfAll => {
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    self.end(id, true);
                }
            }
            Fault::Start { node } => self.start(NodeId(node)),
            Fault::Pause { node } => {
                if let Some(life) = self.life(node) {
                    life.paused = true;
                    self.wires.pause(now, NodeId(node));
                }
            }
            Fault::Resume { node } => self.resume(NodeId(node)),
            Fault::Drain { node } => {
                if let Some(life) = self.life(node) {
                    life.drain(Duration::from_millis(DRAIN_MS));
                }
            }
            Fault::Install { node, format } => self.programs.install(NodeId(node), format),
            Fault::Cut { from, to } => self.wires.cut(now, NodeId(from), NodeId(to)),
            Fault::Heal { from, to } => self.wires.heal(now, NodeId(from), NodeId(to)),
            Fault::HealAll => self.wires.heal_all(now),
            Fault::Reset { a, b } => {
                let (a, b) = (NodeId(a.min(b)), NodeId(a.max(b)));
                if let Some(change) = self.wires.reset(now, a, b) {
                    self.changed(&change);
                }
            }
            Fault::ResetBulk { a, b } => {
                let (a, b) = (NodeId(a.min(b)), NodeId(a.max(b)));
                if let Some(change) = self.wires.reset_bulk(now, a, b) {
                    self.changed(&change);
                }
            }
            Fault::Slow { a, b, more_ms } => self.wires.slow(NodeId(a), NodeId(b), more_ms * 1_000),
            Fault::CutClients { node } => {
                self.cut_off.insert(NodeId(node));
            }
            Fault::HealClients { node } => {
                self.cut_off.remove(&NodeId(node));
            }
            Fault::Clock { node, ahead_ms } => {
                if let Some(node) = self.nodes.get(&NodeId(node)) {
                    node.ahead_ms.store(ahead_ms, Ordering::Relaxed);
                }
                self.clocks_changed();
            }
            Fault::FailWrite { node, after } => self.disk(node, |faults| faults.fail_write = Some(after)),
            Fault::FailSync { node, after } => self.disk(node, |faults| faults.fail_sync = Some(after)),
            Fault::FailRead { node, after } => self.disk(node, |faults| faults.fail_read = Some(after)),
            Fault::Misdirect { node, after } => {
                self.harmed(NodeId(node), true);
                self.disk(node, |faults| faults.misdirect = Some(after));
            }
            Fault::SlowDisk { node, sync_ms } => {
                let sync = Duration::from_millis(sync_ms);
                self.disk(node, |faults| faults.sync_delay = (sync, sync * 2));
            }
            Fault::FullDisk { node, room } => {
                let used = self.nodes.get(&NodeId(node)).map_or(0, |node| node.disk.used());
                self.disk(node, |faults| faults.capacity = Some(used + room));
            }
            Fault::HealDisk { node } => self.disk(node, |_| ()),
            Fault::Rot { node, snapshot, place } => self.rot(NodeId(node), snapshot, place),
            Fault::Wipe { node } => self.wipe(NodeId(node)),
        }
    }

    /// A node's clock was set, or one whose clock is wrong has just started and does not know it yet.
    pub(super) fn clocks_changed(&self) {
        // Nobody can tell who is right when several are wrong.
        let right = |node: &&SimNode| node.ahead_ms.load(Ordering::Relaxed) == 0;
        let wrong = self.nodes.len() - self.nodes.values().filter(right).count();
        self.watch.clocks_changed(self.now, wrong);
    }

    fn life(&mut self, node: u16) -> Option<&mut Life> {
        self.nodes.get_mut(&NodeId(node))?.life.as_mut()
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let now = self.now;
        let Some(life) = self.nodes.get_mut(&id).and_then(|node| node.life.as_mut()).filter(|life| life.paused) else {
            return;
        };
        self.watch.enter(Some(id), life.clock_ms());
        let resumed = life.resume(now);
        self.wires.resume(now, id);
        if let Err(message) = resumed {
            self.ended(id, End::Panic(message));
        }
    }

    pub(super) fn disk(&mut self, node: u16, change: impl FnOnce(&mut Faults)) {
        let mut faults = usual(&self.setup);
        change(&mut faults);
        if let Some(node) = self.nodes.get_mut(&NodeId(node)) {
            node.disk.set_faults(faults);
            node.disk_fails = true;
        }
    }

    /// What was synced on the node's disk, and not in its log alone, is no longer sure to be there.
    fn harmed(&mut self, id: NodeId, snapshots: bool) {
        self.watch.disk_damaged(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk_harmed |= snapshots;
            node.log_harmed = true;
        }
    }

    /// A bit changes in something that was written: where, `place` decides.
    fn rot(&mut self, id: NodeId, snapshot: bool, place: u64) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.life.is_none()) else { return };
        let dir = if snapshot { "snapshots/" } else { "wal/" };
        let names: Vec<String> = node.disk.names().into_iter().filter(|name| name.starts_with(dir)).collect();
        if names.is_empty() {
            return;
        }
        // Behind its end a file may have room that nothing was written to yet.
        let contents = |name: &String| {
            let mut contents = node.disk.contents(name).unwrap_or_default();
            contents.truncate(contents.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1));
            contents
        };
        // The end of the log is where rot and a write that was stopped look most alike.
        let newest = names.iter().rfind(|name| name.ends_with(".wal") && contents(name).len() > 1);
        let (name, within) = match newest.filter(|_| (place >> 12).is_multiple_of(4)) {
            Some(newest) => (newest, LOG_END),
            None => (&names[place as usize % names.len()], usize::MAX),
        };
        let contents = contents(name);
        let written = contents.len();
        let from = written.saturating_sub(within);
        let set = |at: usize| (at..written).chain(0..at).find(|at| contents[*at] != 0);
        for n in 0..1 + (place >> 4) % 8 {
            let at = if n == 0 { place } else { rng::of(place, &[n]) } >> 16;
            if let Some(at) = set(from + at as usize % (written - from)) {
                node.disk.flip(name, at, 1 << ((place >> 8) % 8));
                self.watch.note("rot", Some(id), &[at as u64], || name.clone());
            }
        }
        self.harmed(id, snapshot);
    }

    fn wipe(&mut self, id: NodeId) {
        self.end(id, true);
        self.empty(id);
        self.start(id);
    }

    /// The node's disk is replaced by an empty one.
    pub(super) fn empty(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of the plan");
        let seed = rng::of(self.setup.choices, &[0x317E, u64::from(id.0), node.lives]);
        node.disk = MemDisk::new(seed);
        (node.member, node.disk_harmed, node.log_harmed) = (true, false, false);
        self.watch.disk_damaged(id);
        self.emptied(id);
    }
}
