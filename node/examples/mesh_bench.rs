//! How many frames a second the mesh carries: 200 bytes there and back between two nodes, each on
//! a thread of its own, over loopback with mutual TLS.
//!
//! `cargo run --release --example mesh_bench [seconds per figure]`
#![expect(clippy::disallowed_methods, reason = "a measurement takes real time")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use stakehold::{
    identity::ClusterId,
    mesh::{Limits, Mesh, MeshConfig},
    pki::{Authority, Credentials},
};
use stakehold_raft::{
    NodeId,
    seam::{Class, Inbound, Transport},
};

const CLUSTER: ClusterId = ClusterId(1);
const NOW: u64 = 1_790_000_000_000;

/// Sends every frame back.
struct Echo {
    mesh: Arc<Mesh>,
    frames: AtomicU64,
}

impl Inbound for Echo {
    fn frame(&self, from: NodeId, class: Class, frame: Bytes) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        // False only when the measurement is over and the connection is being closed.
        self.mesh.send(from, class, frame);
    }

    fn disconnected(&self, from: NodeId) {
        eprintln!("{from} is gone");
    }
}

fn node(node: u16, credentials: Credentials, peer: (u16, String), tell: mpsc::Sender<Arc<Echo>>, listen: String) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let config = MeshConfig {
                node: NodeId(node),
                cluster: CLUSTER,
                life: NOW,
                listen: listen.parse().expect("an address"),
                limits: Limits::default(),
            };
            let mesh = Mesh::bind(config, credentials, NOW).expect("a free port");
            let echo = Arc::new(Echo { mesh: mesh.clone(), frames: AtomicU64::new(0) });
            mesh.start(BTreeMap::from([(NodeId(peer.0), peer.1)]), echo.clone()).expect("TLS");
            tell.send(echo).expect("the main thread waits");
            std::future::pending::<()>().await;
        });
    });
}

fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|f| f.parse::<u64>().ok()).sum();
    ticks * 10_000
}

fn main() {
    let seconds: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(4);
    println!("{:>12} {:>12} {:>12} {:>16}", "outstanding", "echoes/s", "round trip", "CPU per frame");
    for outstanding in [1u64, 64, 1024] {
        let ca = Authority::create(CLUSTER, NOW).expect("randomness");
        let credentials = |n: u16| {
            let issued = ca.issue(NodeId(n), &[], NOW).expect("randomness");
            Credentials::from_pem(ca.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes())
                .expect("as written")
        };
        let (tell, told) = mpsc::channel();
        let (one, two) = (free_port(), free_port());
        node(1, credentials(1), (2, two.clone()), tell.clone(), one.clone());
        node(2, credentials(2), (1, one), tell, two);
        let echoes = [told.recv().expect("n1"), told.recv().expect("n2")];
        while !echoes.iter().all(|e| e.mesh.connected(NodeId(1)) || e.mesh.connected(NodeId(2))) {
            std::thread::yield_now();
        }
        // Whoever reaches n2 is n1.
        let first = echoes.iter().find(|e| e.mesh.connected(NodeId(2))).expect("connected");
        for _ in 0..outstanding {
            assert!(first.mesh.send(NodeId(2), Class::Raft, Bytes::from_static(&[0x5a; 200])));
        }
        std::thread::sleep(Duration::from_millis(500));
        let (before, cpu, since) = (first.frames.load(Ordering::Relaxed), cpu_us(), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let count = first.frames.load(Ordering::Relaxed) - before;
        let (cpu, took) = (cpu_us() - cpu, since.elapsed());
        let rate = count as f64 / took.as_secs_f64();
        println!(
            "{outstanding:>12} {rate:>12.0} {:>9.0} us {:>13.2} us",
            1e6 * outstanding as f64 / rate,
            cpu as f64 / count as f64 / 2.0
        );
        // Let these two idle: their frames stop with the connection.
        let stop = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for echo in &echoes {
            stop.block_on(echo.mesh.close());
        }
    }
}

fn free_port() -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").to_string()
}
