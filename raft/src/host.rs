//! The group host: all cells of one node over one seam, for any machine.
//!
//! [`Host::start`] opens the log, starts every cell that has a replica here, and returns what the
//! transport must feed. Each cell is a [`Group`]: propose, read, subscribe. The rest keeps the
//! whole moving: `turn` gathers, `lead` founds groups and spreads leaders, `incarnation` and `rejoin`
//! bring back replicas that lost their data, `clocks` keeps fast clocks from leading, `formats` knows what all nodes can read, [`crate::pump`] carries messages between cells. What must never live here: openraft's names, sockets, betting.

mod clocks;
mod config;
mod effects;
mod error;
pub mod formats;
mod group;
mod incarnation;
mod lead;
mod rejoin;
mod requests;
mod status;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

pub use crate::{consensus::Role, mesh::MeshStatus};
pub use config::HostConfig;
pub use effects::{Effects, Subscription};
pub use error::{EffectsError, HostError, ProposeError, ReadError, RequestError};
pub use group::{Group, Leadership, Proposal};
pub use requests::Replier;
pub use status::{CellStatus, Halted, HostStatus, LogStatus};
pub(crate) use turn::{Alarm, Turn};

use crate::{
    consensus::{Answer, Engine, Links, Start, Timing},
    ids::{CellId, NodeId, RaftId},
    machine::Machine,
    mesh::{Incoming, Kind, Mesh},
    mistake,
    placement::Placement,
    pump::{Cells, Pump},
    replica::Replica,
    seam::{Class, Inbound, World},
    seldom,
    snapshots::SnapshotStore,
    timer,
    wal::{Wal, WalConfig},
};

/// All cells of one node.
pub struct Host<M: Machine> {
    world: World,
    config: HostConfig,
    placement: Placement,
    turn: Arc<Turn>,
    mesh: Arc<Mesh>,
    pump: Arc<Pump<M>>,
    wal: Arc<Wal>,
    snapshots: SnapshotStore,
    groups: BTreeMap<CellId, Arc<Group<M>>>,
    rejoins: Arc<rejoin::Rejoins>,
    /// Leaders of cells, as other nodes named them; what a replica here knows is better.
    hints: Mutex<BTreeMap<CellId, NodeId>>,
    /// Told whenever a cell has another leader, as far as this node knows.
    moves: watch::Sender<()>,
    requests: requests::Requests,
    answers: mpsc::UnboundedSender<Answer>,
    draining: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<M: Machine> fmt::Debug for Host<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.world.node)
            .field("cells", &self.groups.len())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Host<M> {
    /// Opens the log and starts every cell with a replica here. What is returned second must be fed
    /// by the transport, from the same runtime.
    ///
    /// # Errors
    /// When the settings do not fit together, or the log or a snapshot cannot be read. A cell that halts
    /// on a committed entry is left out; one whose log or snapshot is damaged or gone comes back under
    /// a new incarnation, empty, and asks to be taken in. Both are named in [`Host::status`].
    pub async fn start(
        world: World,
        config: HostConfig,
        make: impl Fn(CellId) -> M,
    ) -> Result<(Arc<Self>, Arc<dyn Inbound>), HostError> {
        config.check(world.node).map_err(HostError::Config)?;
        let (wal, recovered) =
            Wal::open(&world, wal_config(&config)).await.map_err(|e| HostError::Log(e.to_string()))?;
        let wal = Arc::new(wal);
        let snapshots = SnapshotStore::open(world.disk.clone(), "snapshots")
            .await
            .map_err(|e| HostError::Snapshots(e.to_string()))?;
        let turn = Arc::new(Turn::new(&world, &config));
        let mesh = Arc::new(Mesh::new(world.net.clone(), turn.wake.clone(), config.max_pending, turn.life));
        let placement = config.placement();
        let here = placement.iter().filter(|(_, replicas)| replicas.contains(&world.node)).map(|(cell, _)| *cell);
        let standings = incarnation::settle(&world, &wal, &snapshots, recovered, here, config.found).await?;

        let mut groups = BTreeMap::new();
        let mut beginnings = BTreeMap::new();
        for (cell, standing) in standings {
            let raft_id = RaftId::new(world.node, standing.incarnation);
            let beginning = lead::Beginning::of(&standing);
            let replica = Replica::new(cell, make(cell));
            let group = Arc::new(Group::new(cell, raft_id, replica, turn.clone(), &config));
            let start = Start {
                cell,
                id: raft_id,
                timing: Timing {
                    heartbeat: config.heartbeat,
                    election: config.election,
                    snapshot_every: config.snapshot_every,
                    keep_log: config.keep_log,
                },
                links: Links {
                    mesh: mesh.clone(),
                    group: cell.0,
                    patience: config.election.1 * 2,
                    snapshot_stall: config.snapshot_stall,
                    snapshot_chunk: config.snapshot_chunk,
                },
                wal: wal.clone(),
                found: standing.state,
                snapshots: snapshots.clone(),
                shared: group.shared().clone(),
                watcher: group.clone(),
                entropy: world.entropy.clone(),
            };
            match Engine::start(start).await {
                Ok(engine) => group.set_engine(engine),
                // The group stays, without an engine, to show where it halted.
                Err(_) if group.is_halted() || mistake!("start.a_cell_short") => {}
                // Damage was found before. This is a disk that cannot be read: with some of its cells only,
                // the node would be a replica short for as long as it lives, and nobody would look.
                Err(reason) => {
                    for engine in groups.values().filter_map(|group: &Arc<Group<M>>| group.engine()) {
                        engine.stop().await;
                    }
                    wal.close().await;
                    return Err(HostError::Cell { cell, reason });
                }
            }
            groups.insert(cell, group);
            beginnings.insert(cell, beginning);
        }

        let (answers, to_poll) = mpsc::unbounded_channel();
        let host = Arc::new_cyclic(|this: &Weak<Self>| {
            let pump = Pump::new(this.clone(), mesh.clone(), turn.clone(), (config.max_run, config.max_runs));
            Self {
                world,
                placement,
                turn,
                mesh,
                pump,
                wal,
                snapshots,
                groups,
                rejoins: Arc::default(),
                hints: Mutex::default(),
                moves: watch::Sender::new(()),
                requests: requests::Requests::default(),
                answers,
                draining: AtomicBool::new(false),
                tasks: Mutex::default(),
                config,
            }
        });
        host.spawn(poll_answers(to_poll));
        host.spawn(turns(Arc::downgrade(&host), host.turn.clone()));
        host.spawn(alarms(Arc::downgrade(&host), host.turn.clone()));
        host.spawn(compact(Arc::downgrade(&host)));
        host.spawn(clocks::watch(Arc::downgrade(&host)));
        lead::spawn(&host, beginnings);
        let inbound = Arc::new(Inlet { host: host.clone() });
        Ok((host, inbound))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no code that holds this lock panics");
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }

    fn hints(&self) -> MutexGuard<'_, BTreeMap<CellId, NodeId>> {
        self.hints.lock().expect("no code that holds this lock panics")
    }

    pub fn node(&self) -> NodeId {
        self.world.node
    }

    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The cell's replica on this node, if there is one.
    pub fn cell(&self, id: CellId) -> Option<&Arc<Group<M>>> {
        self.groups.get(&id)
    }

    /// All cells with a replica here.
    pub fn cells(&self) -> impl Iterator<Item = &Arc<Group<M>>> {
        self.groups.values()
    }

    /// The node that leads the cell, to the best of this node's knowledge; None while an election
    /// is under way.
    pub fn leader_of(&self, cell: CellId) -> Option<NodeId> {
        match self.groups.get(&cell) {
            Some(group) => group.leader(),
            None => {
                let hinted = self.hints().get(&cell).copied();
                let replicas = self.placement.get(&cell).into_iter().flatten().copied();
                // Whoever cannot be reached cannot say either who leads by now.
                let mut known = hinted.into_iter().chain(replicas);
                known.clone().find(|node| self.world.net.connected(*node)).or_else(|| known.next())
            }
        }
    }

    /// Another node said who leads a cell: remembered for cells without a replica here.
    pub fn hint_leader(&self, cell: CellId, leader: NodeId) {
        self.hints().insert(cell, leader);
        self.moves.send_replace(());
    }

    /// Changes whenever [`leader_of`](Self::leader_of) may answer otherwise for some cell.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
    }

    /// Whether the log's disk has no room for another segment: refuse new work, and keep what is
    /// prepared for what must get through.
    pub fn disk_is_full(&self) -> bool {
        self.wal.stats().full
    }

    pub fn status(&self) -> HostStatus {
        let log = self.wal.stats();
        HostStatus {
            node: self.world.node,
            cells: self.groups.iter().map(|(cell, group)| (*cell, group.status())).collect(),
            notices: self.notices(),
            clock_ahead_ms: self.turn.clocks.ahead(),
            log: LogStatus {
                syncs: log.fsyncs,
                bytes: log.bytes,
                records: log.records,
                entries: log.entries,
                segments: log.segments,
                segments_kept: self.segments_kept(log.full),
                full: log.full,
            },
            mesh: self.mesh.status(),
        }
    }

    /// Sealed segments that may lie about before groups are asked to make a snapshot and let go.
    fn segments_kept(&self, full: bool) -> usize {
        segments_kept(self.snapshots.bytes(), self.config.segment_bytes, full)
    }

    /// Hands over what this node leads and finishes what is under way, within `limit`.
    pub async fn drain(self: &Arc<Self>, limit: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        // What is not finished in time is finished by the next leader.
        let _ = timer::timeout(limit, lead::drain(self)).await;
    }

    /// Stops every group and closes the log. What was acknowledged is on disk.
    pub async fn stop(&self) {
        for task in self.tasks.lock().expect("no code that holds this lock panics").drain(..) {
            task.abort();
        }
        for group in self.groups.values() {
            if let Some(engine) = group.engine() {
                engine.stop().await;
            }
            group.stopped();
        }
        self.wal.close().await;
    }

    fn take(&self, incoming: Incoming) {
        match incoming.kind {
            Kind::Request => self.requests.take(&self.mesh, incoming),
            Kind::Deliver => self.pump.incoming(&incoming),
            Kind::Join => self.take_join(&incoming),
            Kind::Time => clocks::tell(&self.mesh, &*self.world.clock, self.turn.formats.own(), &incoming),
            Kind::Append | Kind::Vote | Kind::PreVote | Kind::Transfer | Kind::SnapshotChunk => {
                let engine = self.groups.get(&CellId(incoming.group)).and_then(|group| group.engine());
                match engine {
                    Some(engine) => {
                        if let Some(answer) = engine.answer(&self.mesh, incoming) {
                            // The task that polls answers lives as long as the host.
                            let _ = self.answers.send(answer);
                        }
                    }
                    None => self.mesh.reply(incoming.reply, |_| {}),
                }
            }
        }
    }
}

fn wal_config(config: &HostConfig) -> WalConfig {
    WalConfig {
        dir: config.log_dir.clone(),
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.reserve_bytes,
        ..WalConfig::new(config.identity)
    }
}

impl<M: Machine> Cells<M> for Host<M> {
    fn group(&self, cell: CellId) -> Option<Arc<Group<M>>> {
        self.groups.get(&cell).cloned()
    }

    fn route(&self, cell: CellId, attempt: u32) -> Option<NodeId> {
        let replicas = self.placement.get(&cell)?;
        match self.groups.get(&cell) {
            Some(group) => group.leader(),
            // Whoever was named last; after failures, each replica in turn.
            None if attempt == 0 => self.leader_of(cell),
            None => replicas.get(attempt as usize % replicas.len()).copied(),
        }
    }

    fn hint(&self, cell: CellId, leader: NodeId) {
        self.hint_leader(cell, leader);
    }

    fn here(&self) -> NodeId {
        self.world.node
    }
}

/// What the transport feeds.
struct Inlet<M: Machine> {
    host: Arc<Host<M>>,
}

impl<M: Machine> Inbound for Inlet<M> {
    fn frame(&self, from: NodeId, _class: Class, frame: Bytes) {
        self.host.mesh.receive(from, frame, |incoming| self.host.take(incoming));
    }

    fn disconnected(&self, from: NodeId) {
        self.host.mesh.disconnected(from);
    }
}

/// Polls answers to peers until they are sent: one task for all groups.
async fn poll_answers(mut new: mpsc::UnboundedReceiver<Answer>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            answer = new.recv() => match answer {
                Some(answer) => under_way.push(answer),
                None => return,
            },
            Some(()) = under_way.next() => {}
        }
    }
}

/// The turn: deliveries first, because they may become proposals; then proposals; then frames.
///
/// Yielding lets every task that is ready run, and those they wake, before this one goes on: what
/// the groups make of a round (an append to each peer) is in the frames of the same turn.
///
/// All cells begin their rounds together, and not before the last beginning is a [`Turn::linger`] old:
/// what one round costs is then shared by more, and by more cells.
async fn turns<M: Machine>(host: Weak<Host<M>>, turn: Arc<Turn>) {
    let mut held = BTreeSet::new();
    let mut next_round = Instant::now();
    loop {
        if held.is_empty() {
            turn.wake.notified().await;
        } else {
            tokio::select! {
                biased;
                () = turn.wake.notified() => {}
                () = timer::sleep_until(next_round) => {}
            }
        }
        tokio::task::yield_now().await;
        let Some(host) = host.upgrade() else { return };
        loop {
            let marks = turn.take_marks();
            let mut idle = marks.streams.is_empty();
            for (from, to) in marks.streams {
                host.pump.send(from, to);
            }
            held.extend(marks.cells);
            let now = Instant::now();
            if !held.is_empty() && now >= next_round {
                idle = false;
                let in_flight = host.groups.values().map(|group| group.in_flight()).sum();
                next_round = now + turn.linger(in_flight);
                for cell in mem::take(&mut held) {
                    if let Some(group) = host.groups.get(&cell) {
                        group.propose_rounds().await;
                    }
                }
            }
            if !idle {
                tokio::task::yield_now().await;
            }
            // Every turn, not only when nothing is left to do: under load that never comes.
            host.mesh.flush();
            if idle {
                break;
            }
        }
    }
}

async fn alarms<M: Machine>(host: Weak<Host<M>>, turn: Arc<Turn>) {
    loop {
        let due = turn.due_alarms().await;
        let Some(host) = host.upgrade() else { return };
        for alarm in due {
            match alarm {
                Alarm::Stream(from, to) => host.pump.resume(from, to),
                Alarm::Deadline(cell) | Alarm::Acks(cell) => {
                    if let Some(group) = host.groups.get(&cell) {
                        group.alarm(alarm);
                    }
                }
            }
        }
    }
}

/// By how large all snapshots and one segment are, in bytes, and whether the disk is full.
///
/// A snapshot costs as much as its cell holds, so the log is let grow until it is as large as the snapshots
/// that replace it: however much the cells hold, what snapshots cost a call stays what it was. But not without
/// end: a node that starts reads it all. And not on a full disk.
fn segments_kept(snapshots: u64, segment: u64, full: bool) -> usize {
    const LEAST: u64 = 2;
    const MOST: u64 = 16;
    if full { LEAST as usize } else { (snapshots / segment).clamp(LEAST, MOST) as usize }
}

/// Groups whose old entries keep segments of the log from being deleted make a snapshot and let go.
async fn compact<M: Machine>(host: Weak<Host<M>>) {
    const EVERY: Duration = Duration::from_secs(1);
    loop {
        timer::sleep(EVERY).await;
        let Some(host) = host.upgrade() else { return };
        for group in host.groups.values() {
            if seldom!("snapshot.early")
                && let Some(engine) = group.engine()
            {
                engine.compact().await;
            }
        }
        let pinning = host.wal.pinning(host.segments_kept(host.wal.stats().full));
        for group in pinning.iter().filter(|_| !mistake!("log.never_compacted")) {
            if let Some(engine) = host.groups.get(&CellId(*group)).and_then(|group| group.engine()) {
                engine.compact().await;
            }
        }
        // That something was let go is written with what somebody waits for. On a node that has nothing to do,
        // or that takes nothing in because its disk is full, nobody does.
        if !pinning.is_empty() && !mistake!("log.purge_waits_for_company") {
            host.wal.write_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::segments_kept;

    #[test]
    fn the_log_may_grow_as_large_as_the_snapshots_within_bounds() {
        for (snapshots, kept) in [(0, 2), (1000, 2), (5000, 5), (16_999, 16), (1 << 40, 16)] {
            assert_eq!(segments_kept(snapshots, 1000, false), kept);
            assert_eq!(segments_kept(snapshots, 1000, true), 2);
        }
    }
}
