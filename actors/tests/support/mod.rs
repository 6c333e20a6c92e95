//! Nodes of an exchange in one process, on virtual time: wires, clocks and disks in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::BoxFuture;
use stakehold_actors::{
    api::{ApiError, Call, Principal, Request, Response},
    domain::cell::Cell,
    shell::{Exchange, Limits},
};
use stakehold_raft::{
    CellId, Cells, Host, HostConfig, NodeId,
    disk::MemDisk,
    meta::{Meta, WithMeta},
    seam::{Class, Clock, Entropy, Fate, Inbound, Transport, World},
};
use tokio::{sync::mpsc, time::Instant};

struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> u64 {
        1_000_000_000 + self.0.elapsed().as_millis() as u64
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }
}

struct NoEnd;

impl Fate for NoEnd {
    fn end(&self, reason: &str) {
        panic!("a node ended: {reason}");
    }
}

type Frame = (u64, Class, Bytes);

#[derive(Default)]
struct Wires {
    inbound: BTreeMap<NodeId, Arc<dyn Inbound>>,
    away: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), mpsc::UnboundedSender<Frame>>,
    /// Rises with each cut: what was under way then does not arrive.
    cuts: u64,
}

impl Wires {
    fn up(&self, a: NodeId, b: NodeId) -> bool {
        self.inbound.contains_key(&b) && !self.away.contains(&a) && !self.away.contains(&b)
    }
}

#[derive(Default)]
struct Switchboard(Mutex<Wires>);

impl Switchboard {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }
}

struct Port(NodeId, Arc<Switchboard>);

impl Transport for Port {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        let mut wires = self.1.wires();
        if !wires.up(self.0, to) {
            return false;
        }
        let cuts = wires.cuts;
        let (board, from) = (self.1.clone(), self.0);
        let link = wires.links.entry((from, to)).or_insert_with(|| {
            let (sender, mut receiver) = mpsc::unbounded_channel::<Frame>();
            tokio::spawn(async move {
                while let Some((cuts, class, frame)) = receiver.recv().await {
                    let inbound = {
                        let wires = board.wires();
                        (wires.cuts == cuts && wires.up(from, to)).then(|| wires.inbound[&to].clone())
                    };
                    if let Some(inbound) = inbound {
                        inbound.frame(from, class, frame);
                    }
                }
            });
            sender
        });
        link.send((cuts, class, frame)).is_ok()
    }

    fn connected(&self, to: NodeId) -> bool {
        self.1.wires().up(self.0, to)
    }
}

struct Node {
    host: Arc<Host<WithMeta<Cell>>>,
    exchange: Arc<Exchange>,
}

pub struct Cluster {
    board: Arc<Switchboard>,
    clock: Arc<TokioClock>,
    config: HostConfig,
    disks: BTreeMap<NodeId, MemDisk>,
    nodes: BTreeMap<NodeId, Node>,
    lives: u64,
    calls: AtomicU64,
}

impl Cluster {
    /// Three nodes.
    pub async fn start(cells: u16) -> Self {
        Self::of(3, cells).await
    }

    /// A snapshot every 50 entries, so that commit, release, trim and snapshot are all in play from the
    /// start.
    pub async fn of(nodes: u16, cells: u16) -> Self {
        let mut config = HostConfig::new(Cells::new(cells).unwrap(), (1..=nodes).map(NodeId));
        config.extra = vec![CellId::META];
        config.snapshot_every = 50;
        config.keep_log = 100;
        config.segment_bytes = 1 << 20;
        config.reserve_bytes = 1 << 20;
        let mut cluster = Self {
            board: Arc::default(),
            clock: Arc::new(TokioClock(Instant::now())),
            config,
            disks: (1..=nodes).map(|n| (NodeId(n), MemDisk::new(u64::from(n)))).collect(),
            nodes: BTreeMap::new(),
            lives: 0,
            calls: AtomicU64::new(0),
        };
        for node in 1..=nodes {
            cluster.boot(node).await;
        }
        cluster
    }

    pub async fn boot(&mut self, node: u16) {
        let node = NodeId(node);
        self.lives += 1;
        let world = World {
            node,
            clock: self.clock.clone(),
            entropy: Arc::new(Seeded(AtomicU64::new(u64::from(node.0) << 32 | self.lives))),
            disk: Arc::new(self.disks[&node].boot()),
            net: Arc::new(Port(node, self.board.clone())),
            fate: Arc::new(NoEnd),
        };
        let cells = self.config.cells;
        let make = move |cell| match cell {
            CellId::META => WithMeta::Meta(Meta::default()),
            cell => WithMeta::Cell(Cell::new(cell, cells)),
        };
        let (host, inbound) = Host::start(world.clone(), self.config.clone(), make).await.expect("the node starts");
        let exchange = Exchange::start(world, host.clone(), cells, Limits::default());
        {
            let mut wires = self.board.wires();
            wires.inbound.insert(node, inbound);
            wires.away.remove(&node);
        }
        self.nodes.insert(node, Node { host, exchange });
    }

    /// The node is gone without a word; what was not synced is lost.
    pub async fn crash(&mut self, node: u16) {
        let node = NodeId(node);
        let others: Vec<Arc<dyn Inbound>> = {
            let mut wires = self.board.wires();
            wires.cuts += 1;
            wires.away.insert(node);
            wires.inbound.remove(&node);
            wires.inbound.values().cloned().collect()
        };
        for other in others {
            other.disconnected(node);
        }
        self.disks[&node].kill();
        self.nodes.remove(&node).expect("it lives").host.stop().await;
        self.disks[&node].crash(self.lives);
    }

    /// A node's disk, to do something to it.
    pub fn disk(&self, node: u16) -> &MemDisk {
        &self.disks[&NodeId(node)]
    }

    pub fn exchange(&self, node: u16) -> &Arc<Exchange> {
        &self.nodes[&NodeId(node)].exchange
    }

    /// Whether the node has a replica of the cell.
    pub fn holds(&self, node: u16, cell: CellId) -> bool {
        self.nodes.get(&NodeId(node)).is_some_and(|node| node.host.cell(cell).is_some())
    }

    pub fn leader(&self, cell: CellId) -> Option<u16> {
        self.nodes.iter().find(|(_, n)| n.host.cell(cell).is_some_and(|g| g.is_leader())).map(|(id, _)| id.0)
    }

    /// Resolves when, from now on, some cell applies something that has an effect, or is led by another
    /// node.
    pub fn stir(&self) -> impl Future<Output = ()> + use<> {
        let mut stirs: Vec<BoxFuture<'static, ()>> = Vec::new();
        for group in self.nodes.values().flat_map(|node| node.host.cells()) {
            let (mut effects, mut leadership) = (group.subscribe(), group.on_leadership());
            leadership.mark_unchanged();
            // One that has stopped stirs too: its node is looked at no longer.
            stirs.push(Box::pin(async move { drop(effects.next().await) }));
            stirs.push(Box::pin(async move { drop(leadership.changed().await) }));
        }
        async move { drop(futures::future::select_all(stirs).await) }
    }

    /// A call of the operator through a node.
    pub async fn call(&self, node: u16, request: Request) -> Result<Response, ApiError> {
        self.call_as(Principal::Operator, node, request).await
    }

    pub async fn call_as(&self, principal: Principal, node: u16, request: Request) -> Result<Response, ApiError> {
        let exchange = self.exchange(node);
        let request_id = self.calls.fetch_add(1, Ordering::Relaxed);
        exchange.call(Call { principal, request_id, good_until: exchange.usual_deadline(), request }).await
    }
}
