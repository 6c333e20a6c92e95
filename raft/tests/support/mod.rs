//! A few nodes in one process: switchboard, clocks, disks, and a machine whose arithmetic shows
//! every entry that was lost or applied twice.

pub mod tally;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use stakehold_raft::{
    CellId, Cells, Group, Host, HostConfig, NodeId,
    disk::MemDisk,
    host::ProposeError,
    seam::{Class, Clock, Entropy, Fate, Inbound, Transport, World},
};
use tokio::{sync::mpsc, time::Instant};

use tally::{Command, Tally, Verdict};

/// Wall-clock time that follows tokio's, so that pausing one pauses the other.
pub struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> u64 {
        1_000_000 + self.0.elapsed().as_millis() as u64
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// One node's clock, which may be wrong.
pub struct NodeClock {
    right: Arc<TokioClock>,
    pub ahead_ms: AtomicU64,
}

impl Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        self.right.now_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.right.monotonic_ns()
    }
}

/// splitmix64.
pub struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A crashed disk ends its node a second time; one that should live shows in what it fails to do.
struct Quiet;

impl Fate for Quiet {
    fn end(&self, reason: &str) {
        eprintln!("a node ends: {reason}");
    }
}

/// Wires between nodes; any can be cut.
#[derive(Default)]
pub struct Switchboard {
    inner: Mutex<Wires>,
}

type Frame = (u64, Class, Bytes);

#[derive(Default)]
struct Wires {
    inbound: BTreeMap<NodeId, Arc<dyn Inbound>>,
    away: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), mpsc::UnboundedSender<Frame>>,
    /// Rises with each cut: frames of a cut connection do not arrive.
    epoch: u64,
    /// What was sent, while it is recorded: from, to, frame.
    tape: Option<Vec<(NodeId, NodeId, Bytes)>>,
}

impl Switchboard {
    fn wires(&self) -> std::sync::MutexGuard<'_, Wires> {
        self.inner.lock().unwrap()
    }

    pub fn plug(&self, node: NodeId, inbound: Arc<dyn Inbound>) {
        self.wires().inbound.insert(node, inbound);
    }

    /// Cuts a node off from all others, or (with `false`) heals.
    pub fn cut(&self, node: NodeId, cut: bool) {
        let (gone, others) = {
            let mut wires = self.wires();
            wires.epoch += 1;
            if cut {
                wires.away.insert(node)
            } else {
                wires.away.remove(&node)
            };
            let gone = wires.inbound.get(&node).cloned();
            let others: Vec<_> =
                wires.inbound.iter().filter(|(id, _)| **id != node).map(|(id, i)| (*id, i.clone())).collect();
            (gone, others)
        };
        for (other, inbound) in others {
            inbound.disconnected(node);
            if let Some(gone) = &gone {
                gone.disconnected(other);
            }
        }
    }

    /// Records every frame from now on, until [`tape`](Self::tape) takes them.
    pub fn record(&self) {
        self.wires().tape = Some(Vec::new());
    }

    pub fn tape(&self) -> Vec<(NodeId, NodeId, Bytes)> {
        self.wires().tape.take().expect("it is being recorded")
    }

    /// A frame arrives that nobody sends now.
    pub fn inject(&self, from: NodeId, to: NodeId, frame: Bytes) {
        let inbound = self.wires().inbound[&to].clone();
        inbound.frame(from, Class::Raft, frame);
    }

    /// A node is gone, its inbound with it.
    pub fn unplug(&self, node: NodeId) {
        self.cut(node, true);
        self.wires().inbound.remove(&node);
    }
}

struct Port {
    node: NodeId,
    board: Arc<Switchboard>,
}

impl Transport for Port {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        if !self.connected(to) {
            return false;
        }
        let mut wires = self.board.wires();
        let epoch = wires.epoch;
        if let Some(tape) = &mut wires.tape {
            tape.push((self.node, to, frame.clone()));
        }
        let (board, from) = (self.board.clone(), self.node);
        let link = wires.links.entry((from, to)).or_insert_with(|| {
            let (tx, mut rx) = mpsc::unbounded_channel::<Frame>();
            tokio::spawn(async move {
                while let Some((epoch, class, frame)) = rx.recv().await {
                    let inbound = {
                        let wires = board.wires();
                        let up = wires.epoch == epoch && !wires.away.contains(&from) && !wires.away.contains(&to);
                        up.then(|| wires.inbound.get(&to).cloned()).flatten()
                    };
                    if let Some(inbound) = inbound {
                        inbound.frame(from, class, frame);
                    }
                }
            });
            tx
        });
        link.send((epoch, class, frame)).is_ok()
    }

    fn connected(&self, to: NodeId) -> bool {
        let wires = self.board.wires();
        wires.inbound.contains_key(&to) && !wires.away.contains(&self.node) && !wires.away.contains(&to)
    }
}

/// Nodes in one process.
pub struct Cluster {
    pub board: Arc<Switchboard>,
    pub config: HostConfig,
    pub disks: BTreeMap<NodeId, MemDisk>,
    pub hosts: BTreeMap<NodeId, Arc<Host<Tally>>>,
    pub clock: Arc<TokioClock>,
    pub clocks: BTreeMap<NodeId, Arc<NodeClock>>,
    lives: u64,
}

impl Cluster {
    pub fn config(cells: u16, nodes: u16) -> HostConfig {
        let mut config = HostConfig::new(Cells::new(cells).unwrap(), (1..=nodes).map(NodeId));
        config.snapshot_every = 50;
        config.keep_log = 100;
        config.segment_bytes = 1 << 20;
        config.reserve_bytes = 1 << 20;
        config
    }

    pub async fn start(config: HostConfig) -> Self {
        let mut cluster = Self {
            board: Arc::default(),
            disks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            clock: Arc::new(TokioClock(Instant::now())),
            clocks: BTreeMap::new(),
            lives: 0,
            config,
        };
        let nodes: Vec<NodeId> = cluster.config.members.iter().map(|m| m.node).collect();
        for node in nodes {
            cluster.boot(node).await;
        }
        cluster
    }

    /// Starts a node, on whatever its disk holds.
    pub async fn boot(&mut self, node: NodeId) {
        let world = self.world(node);
        let (host, inbound) = Host::start(world, self.config.clone(), |_| Tally::default()).await.expect("starts");
        self.board.plug(node, inbound);
        self.board.cut(node, false);
        self.hosts.insert(node, host);
    }

    /// A node comes back with an empty directory and without a permit to found anything; what it
    /// had is returned.
    pub async fn wipe(&mut self, node: NodeId) -> MemDisk {
        self.crash(node, 0).await;
        let old = self.disks.insert(node, MemDisk::new(77)).expect("it had a disk");
        self.boot(node).await;
        old
    }

    fn world(&mut self, node: NodeId) -> World {
        self.lives += 1;
        let right = self.clock.clone();
        let clock =
            self.clocks.entry(node).or_insert_with(|| Arc::new(NodeClock { right, ahead_ms: AtomicU64::new(0) }));
        let clock = clock.clone();
        let disk = self.disks.entry(node).or_insert_with(|| MemDisk::new(u64::from(node.0))).boot();
        World {
            node,
            clock,
            entropy: Arc::new(Seeded(AtomicU64::new(u64::from(node.0) * 1_000 + self.lives))),
            disk: Arc::new(disk),
            net: Arc::new(Port { node, board: self.board.clone() }),
            fate: Arc::new(Quiet),
        }
    }

    /// Ends a node without a word to anyone; its disk loses what was not synced, as `seed` decides.
    pub async fn crash(&mut self, node: NodeId, seed: u64) {
        self.board.unplug(node);
        self.disks[&node].crash(seed);
        self.hosts.remove(&node).expect("it lives").stop().await;
    }

    pub fn host(&self, node: u16) -> &Arc<Host<Tally>> {
        &self.hosts[&NodeId(node)]
    }

    pub fn group(&self, node: NodeId, cell: CellId) -> Arc<Group<Tally>> {
        self.hosts[&node].cell(cell).expect("a replica").clone()
    }

    /// The node that takes proposals for the cell, once there is one.
    pub async fn leader(&self, cell: CellId) -> NodeId {
        let find = async {
            loop {
                let leads = |host: &Host<Tally>| host.cell(cell).is_some_and(|group| group.is_leader());
                if let Some((node, _)) = self.hosts.iter().find(|(_, host)| leads(host)) {
                    return *node;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), find).await.expect("a leader within 30 s")
    }

    /// Proposes until there is a verdict, through whoever leads.
    pub async fn commit(&self, cell: CellId, command: Command) -> Verdict {
        let attempt = async {
            loop {
                let leader = self.leader(cell).await;
                match self.group(leader, cell).propose(command.clone()) {
                    Ok(proposal) => match proposal.await {
                        Ok(verdict) => return verdict,
                        Err(ProposeError::Halted) => panic!("{cell} has halted"),
                        Err(_) => {}
                    },
                    Err(ProposeError::Halted) => panic!("{cell} has halted"),
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), attempt).await.expect("a verdict within 30 s")
    }

    /// Waits for a condition that must come about.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
            for host in self.hosts.values() {
                eprintln!("{:#?}", host.status());
            }
            panic!("not within 60 s: {what}");
        }
    }

    /// Waits until all replicas of every cell have applied the same and every outbox is empty, then
    /// compares their digests.
    pub async fn settle(&self) {
        self.until("replicas agree and outboxes are empty", |cluster| {
            cluster.config.placement().keys().all(|cell| {
                let replicas: Vec<_> = cluster.hosts.values().filter_map(|host| host.cell(*cell)).collect();
                let states: Vec<_> = replicas.iter().map(|group| group.status()).collect();
                // Right after a restart replicas may agree on what is old: a leader says what is new.
                replicas.iter().any(|group| group.is_leader())
                    && states.iter().all(|s| s.outbox.is_empty() && s.applied == s.last_log)
                    && states.iter().all(|s| s.applied == states[0].applied)
            })
        })
        .await;
        for cell in self.config.placement().keys() {
            let digests: BTreeMap<NodeId, [u8; 32]> = self
                .hosts
                .iter()
                .filter_map(|(node, host)| Some((*node, host.cell(*cell)?.read(|replica| replica.digest()))))
                .collect();
            let distinct: BTreeSet<_> = digests.values().collect();
            assert_eq!(distinct.len(), 1, "I7: replicas of {cell} differ: {digests:?}");
        }
    }

    /// The sum over all cells, as one replica of each has it: nothing is in flight after `settle`.
    pub fn total(&self) -> i64 {
        let placement = self.config.placement();
        placement
            .keys()
            .map(|cell| {
                let group = self.hosts.values().find_map(|host| host.cell(*cell)).expect("a replica");
                group.read(|replica| replica.machine().total)
            })
            .sum()
    }
}
