//! How many entries a second the log makes durable, with 1, 64 and 1024 in flight, on a real
//! directory: `cargo run --release -p stakehold-raft --example wal_bench -- DIRECTORY`.
//! The directory should be new, and lie on the disk that is meant.

#![expect(clippy::disallowed_methods, reason = "a measurement takes real time")]

use std::{
    collections::VecDeque,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use stakehold_raft::{
    NodeId,
    disk::RealDisk,
    seam::{Class, Clock, Disk, Entropy, Fate, Transport, World},
    wal::{LogEntry, Record, Wal, WalConfig},
};
use tokio::sync::oneshot;

const ENTRY_BYTES: usize = 256;
const GROUPS: u64 = 16;
const LASTS: Duration = Duration::from_secs(4);

/// Of the world the log uses only the disk.
struct Unused;

impl Clock for Unused {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

impl Entropy for Unused {
    fn next_u64(&self) -> u64 {
        0
    }
}

impl Transport for Unused {
    fn send(&self, _: NodeId, _: Class, _: Bytes) -> bool {
        false
    }

    fn connected(&self, _: NodeId) -> bool {
        false
    }
}

impl Fate for Unused {
    fn end(&self, reason: &str) {
        let _ = writeln!(std::io::stderr(), "{reason}");
        std::process::exit(1);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root: PathBuf = std::env::args_os().nth(1).ok_or("usage: wal_bench DIRECTORY")?.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(bench(root))
}

async fn bench(root: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let disk = Arc::new(RealDisk::open(root)?);
    let unused = Arc::new(Unused);
    let world = World {
        node: NodeId(1),
        clock: unused.clone(),
        entropy: unused.clone(),
        disk: disk.clone(),
        net: unused.clone(),
        fate: unused,
    };
    let (wal, found) = Wal::open(&world, WalConfig::new([0; 32])).await?;
    let next = |group: &u16| {
        let state = found.groups.get(group);
        state.and_then(|s| s.entries.back().map(|e| e.index + 1).or(s.purged.as_ref().map(|p| p.0 + 1))).unwrap_or(0)
    };
    let mut indices: Vec<u64> = (0..GROUPS as u16).map(|group| next(&group)).collect();
    let body = Bytes::from(vec![7; ENTRY_BYTES]);
    let mut n = 0;
    for in_flight in [1_usize, 64, 1024] {
        let (stats, syncs, begin) = (wal.stats(), disk.syncs(), Instant::now());
        let mut waiting: VecDeque<(Instant, oneshot::Receiver<Instant>)> = VecDeque::new();
        let mut latencies = Vec::new();
        while begin.elapsed() < LASTS {
            while waiting.len() < in_flight {
                let group = (n % GROUPS) as u16;
                let index = &mut indices[group as usize];
                let (answer, result) = oneshot::channel();
                let done = move |outcome: std::io::Result<()>| {
                    if outcome.is_ok() {
                        let _ = answer.send(Instant::now());
                    }
                };
                waiting.push_back((Instant::now(), result));
                let entries = vec![LogEntry { index: *index, term: 1, body: body.clone() }];
                wal.submit(group, Record::Append { entries }, Some(Box::new(done)));
                if index.is_multiple_of(10_000) {
                    wal.submit(group, Record::Purge { through: *index, id: Bytes::new() }, None);
                }
                *index += 1;
                n += 1;
            }
            while let Some((sent, answer)) = waiting.pop_front() {
                let done = answer.await?;
                latencies.push(done.duration_since(sent));
                if waiting.front_mut().is_some_and(|(_, next)| next.is_empty()) {
                    break;
                }
            }
        }
        for (_, answer) in waiting {
            answer.await?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
        let after = wal.stats();
        let batches = (after.batches - stats.batches) as f64;
        writeln!(
            std::io::stdout(),
            "{in_flight:>5} in flight: {:>9.0} entries/s, p50 {} us, p99 {} us, {:.0} batches/s of {:.1} entries, {:.0} fsyncs/s, {:.0} MB/s",
            (after.entries - stats.entries) as f64 / seconds,
            at(50),
            at(99),
            batches / seconds,
            (after.entries - stats.entries) as f64 / batches,
            (disk.syncs() - syncs) as f64 / seconds,
            (after.bytes - stats.bytes) as f64 / seconds / 1e6,
        )?;
    }
    wal.close().await;
    Ok(())
}
