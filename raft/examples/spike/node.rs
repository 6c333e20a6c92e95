//! One of the three processes: a host, clients in closed loops, and figures on request.

#![expect(clippy::disallowed_methods, reason = "the spike measures the real world, beside the seam")]

use std::{
    collections::BTreeMap,
    io::BufRead,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::{BufMut, Bytes};
use rand::TryRng;
use stakehold_raft::{
    CellId, Cells, Host, HostConfig, NodeId,
    disk::RealDisk,
    seam::{Clock, Entropy, Fate, World},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    NODES,
    machine::{Begin, Empty, Operation},
    net::{self, Net},
};

struct RealClock(Instant);

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

struct OsEntropy;

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        rand::rngs::SysRng.try_next_u64().expect("the system has randomness")
    }
}

struct Exit;

impl Fate for Exit {
    fn end(&self, reason: &str) {
        eprintln!("a node ends: {reason}");
        std::process::exit(1);
    }
}

struct Client {
    host: Arc<Host<Empty>>,
    cells: u16,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

const BEGIN: u8 = 1;
const DONE: u8 = 2;

impl Client {
    fn done(&self, number: u64) {
        if let Some(waiter) = self.waiting.lock().unwrap().remove(&number) {
            let _ = waiter.send(());
        }
    }

    fn begin(&self, from: CellId, begin: Begin) -> bool {
        self.host.cell(from).is_some_and(|group| group.propose((begin, [u64::MAX; 12])).is_ok())
    }

    /// One operation; its latency, or None if it failed.
    async fn operate(&self) -> Option<Duration> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17;
        let from = CellId((random % u64::from(self.cells)) as u16);
        let step = if self.cells > 1 { 1 + (random >> 20) % u64::from(self.cells - 1) } else { 0 };
        let to = CellId(((u64::from(from.0) + step) % u64::from(self.cells)) as u16);
        let begin = Begin { operation: Operation { number, origin: self.host.node().0 }, to };
        let (tx, rx) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, tx);
        let started = Instant::now();
        let accepted = match self.host.leader_of(from) {
            Some(leader) if leader == self.host.node() => self.begin(from, begin),
            Some(leader) => {
                let mut body = vec![BEGIN];
                body.put_u16_le(from.0);
                let body = postcard::to_extend(&begin, body).expect("plain data");
                let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
                self.host.request(leader, body.into(), deadline).await.is_ok()
            }
            None => false,
        };
        if !accepted || tokio::time::timeout(Duration::from_secs(5), rx).await.is_err() {
            self.waiting.lock().unwrap().remove(&number);
            tokio::time::sleep(Duration::from_millis(5)).await;
            return None;
        }
        Some(started.elapsed())
    }

    fn serve(self: &Arc<Self>) {
        let this = self.clone();
        self.host.serve(move |_, body: Bytes, replier| match body[0] {
            BEGIN => {
                let from = CellId(u16::from_le_bytes([body[1], body[2]]));
                if postcard::from_bytes(&body[3..]).is_ok_and(|begin| this.begin(from, begin)) {
                    replier.reply(&[]);
                }
            }
            DONE => {
                for number in body[1..].chunks_exact(8) {
                    this.done(u64::from_le_bytes(number.try_into().expect("eight bytes")));
                }
                replier.reply(&[]);
            }
            other => panic!("request {other}"),
        });
    }

    /// Tells clients, here and elsewhere, of what is done: each cell's leader does.
    fn tell(self: &Arc<Self>) {
        for group in self.host.cells() {
            let (this, group, mut effects) = (self.clone(), group.clone(), group.subscribe());
            tokio::spawn(async move {
                loop {
                    let Ok(entry) = effects.next().await else { continue };
                    if !group.is_leader() {
                        continue;
                    }
                    let mut far: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
                    for operation in entry.effects.iter() {
                        if operation.origin == this.host.node().0 {
                            this.done(operation.number);
                        } else {
                            let body = far.entry(operation.origin).or_insert_with(|| vec![DONE]);
                            body.extend_from_slice(&operation.number.to_le_bytes());
                        }
                    }
                    for (node, body) in far {
                        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
                        tokio::spawn(this.host.request(NodeId(node), body.into(), deadline));
                    }
                }
            });
        }
    }
}

/// What is counted, at one moment: CPU, fsyncs, frames, messages, entries and commands led here.
struct Figures([f64; 6]);

fn figures(host: &Host<Empty>) -> Figures {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    let status = host.status();
    let led: Vec<_> = host.cells().filter(|group| group.is_leader()).collect();
    let entries: u64 = led.iter().map(|group| group.status().applied).sum();
    let commands: u64 = led.iter().map(|group| group.read(|replica| replica.machine().commands)).sum();
    let mesh = status.mesh;
    Figures([
        ticks * 10_000.0,
        status.log.syncs as f64,
        mesh.frames_sent as f64,
        mesh.messages_sent as f64,
        entries as f64,
        commands as f64,
    ])
}

pub fn main(args: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(args));
    std::process::exit(0);
}

async fn run(args: &[String]) {
    let me = NodeId(args[0].parse().expect("a node id"));
    let addresses: BTreeMap<NodeId, SocketAddr> = args[1]
        .split(',')
        .zip(1..)
        .map(|(port, n)| (NodeId(n), SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))))
        .collect();
    let cells: u16 = args[2].parse().expect("a number of cells");
    let dir = PathBuf::from(&args[3]);
    let mut config = HostConfig::new(Cells::new(cells).expect("a power of two"), (1..=NODES).map(NodeId));
    for setting in args[4].split(',').filter(|s| !s.is_empty()) {
        let (name, value) = setting.split_once('=').expect("name=value");
        let value: u64 = value.parse().expect("a number");
        match name {
            "in_flight" => config.max_in_flight = value as usize,
            "gather" => config.gather = value as usize,
            "runs" => config.max_runs = value as usize,
            "segment_mb" => config.segment_bytes = value << 20,
            other => panic!("no setting {other}"),
        }
    }
    let net = Arc::new(Net::default());
    let world = World {
        node: me,
        clock: Arc::new(RealClock(Instant::now())),
        entropy: Arc::new(OsEntropy),
        disk: disk(&dir.join(me.0.to_string())),
        net: net.clone(),
        fate: Arc::new(Exit),
    };
    let (plug, inbound) = watch::channel(None);
    net::start(me, &addresses, &dir, net, inbound).await;
    let (host, inlet) = Host::start(world, config, Empty::new).await.expect("the host starts");
    plug.send_replace(Some(inlet));
    let client = Arc::new(Client {
        host: host.clone(),
        cells,
        waiting: Mutex::default(),
        next: AtomicU64::new(u64::from(me.0) << 48),
    });
    client.serve();
    client.tell();
    while host.cells().any(|group| group.leader().is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Leaders move to where they belong, one a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("ready");

    let (lines, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    while let Some(line) = commands.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        let clients: u64 = words[1].parse().expect("clients");
        let secs: f64 = words[2].parse().expect("seconds");
        println!("{}", measure(&client, clients, secs).await);
    }
}

async fn measure(client: &Arc<Client>, clients: u64, secs: f64) -> String {
    let mine = (0..clients).filter(|c| c % u64::from(NODES) + 1 == u64::from(client.host.node().0)).count();
    let (stop, stopped) = watch::channel(false);
    let latencies: Arc<Mutex<Vec<u64>>> = Arc::default();
    let tasks: Vec<_> = (0..mine)
        .map(|_| {
            let (client, latencies, stopped) = (client.clone(), latencies.clone(), stopped.clone());
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    if let Some(latency) = client.operate().await {
                        latencies.lock().unwrap().push(latency.as_micros() as u64);
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    latencies.lock().unwrap().clear();
    let before = figures(&client.host);
    tokio::time::sleep(Duration::from_secs_f64(secs)).await;
    let after = figures(&client.host);
    let got = latencies.lock().unwrap().clone();
    stop.send_replace(true);
    for task in tasks {
        task.await.expect("clients do not panic");
    }
    let mut line = format!("{}", got.len());
    for (after, before) in after.0.iter().zip(before.0) {
        line.push_str(&format!(" {}", after - before));
    }
    line.push('|');
    let step = (got.len() / 20_000).max(1);
    for latency in got.iter().step_by(step) {
        line.push_str(&format!("{latency} "));
    }
    line
}

fn disk(dir: &std::path::Path) -> Arc<dyn stakehold_raft::seam::Disk> {
    Arc::new(RealDisk::open(dir.to_owned()).expect("a data directory"))
}
