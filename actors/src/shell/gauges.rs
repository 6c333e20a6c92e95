//! Figures for operators: how long a commit takes, how far replicas are behind, what is in flight.
//! Counters are relaxed atomics: a figure may be a moment old, never torn.

use std::sync::atomic::{AtomicU64, Ordering};

use stakehold_raft::CellId;

use super::exchange::Exchange;
use crate::domain::cell::Cell;

/// Upper bounds of the latency buckets, in microseconds; what is longer is in none of them.
const BOUNDS_US: [u64; 12] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 512_000, 2_048_000];

/// From proposal to verdict, on cells this node leads.
#[derive(Debug, Default)]
pub(super) struct Latency {
    sum_us: AtomicU64,
    count: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len()],
}

impl Latency {
    pub(super) fn note(&self, ns: u64) {
        let us = ns / 1_000;
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(bucket) = BOUNDS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A histogram: each bucket counts its own observations only.
#[derive(Clone, Debug, Default)]
pub struct LatencyView {
    pub sum_seconds: f64,
    pub count: u64,
    /// (upper bound in seconds, observations).
    pub buckets: Vec<(f64, u64)>,
}

/// One cell as this node's replica sees it.
#[derive(Clone, Debug)]
pub struct CellGauge {
    pub cell: CellId,
    pub leads: bool,
    /// Entries committed and not yet applied here.
    pub apply_lag: u64,
    /// Messages to other cells that are not acknowledged, and for how long nothing has moved.
    pub outbox_depth: u64,
    pub outbox_age_ms: u64,
    /// What has left this cell less what it has taken in, in minor units: over all cells, the money
    /// between them.
    pub in_flight: i64,
    /// The sum of the cell's books, transit included; anything but zero is a bug.
    pub conservation: i64,
    pub halted: bool,
    /// See [`format`](mod@crate::domain::format).
    pub format: u16,
}

/// What is under way on this node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub calls: usize,
    /// Orders in a bet delay, which are not among the calls.
    pub delayed: usize,
    pub markets: usize,
    pub wallets: usize,
    pub fsyncs: u64,
    pub log_bytes: u64,
}

impl Exchange {
    /// From proposal to verdict, over all cells that this node has led.
    pub fn commit_latency(&self) -> LatencyView {
        let mut view = LatencyView {
            buckets: BOUNDS_US.iter().map(|us| (*us as f64 / 1e6, 0)).collect(),
            ..LatencyView::default()
        };
        for desk in self.desks.values() {
            view.sum_seconds += desk.latency.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
            view.count += desk.latency.count.load(Ordering::Relaxed);
            for (total, bucket) in view.buckets.iter_mut().zip(&desk.latency.buckets) {
                total.1 += bucket.load(Ordering::Relaxed);
            }
        }
        view
    }

    pub fn cell_gauges(&self) -> Vec<CellGauge> {
        let now = self.world.clock.now_ms();
        self.desks
            .values()
            .map(|desk| {
                let status = desk.group().status();
                let totals = desk.read(|cell| cell.totals());
                let clamp = |sum: i128| sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                let outbox_depth: usize = status.outbox.values().sum();
                CellGauge {
                    cell: desk.id,
                    leads: desk.group().is_leader(),
                    apply_lag: status.committed.saturating_sub(status.applied),
                    outbox_depth: outbox_depth as u64,
                    outbox_age_ms: desk.outbox_age_ms(now),
                    in_flight: clamp(totals.transit),
                    conservation: clamp(totals.sum()),
                    halted: status.halted.is_some(),
                    format: desk.read(Cell::format),
                }
            })
            .collect()
    }

    /// Calls that have room, by the cell they are for.
    pub fn under_way(&self) -> impl Iterator<Item = (CellId, usize)> + '_ {
        self.desks.values().map(|desk| (desk.id, desk.admission.under_way()))
    }

    /// Calls and awake actors on this node's desks, and what the log has done.
    pub fn load(&self) -> Load {
        let log = self.host.status().log;
        let mut load = Load { fsyncs: log.syncs, log_bytes: log.bytes, ..Load::default() };
        for desk in self.desks.values() {
            let (markets, wallets) = desk.actors();
            load.calls += desk.admission.under_way();
            load.delayed += desk.admission.delayed();
            load.markets += markets;
            load.wallets += wallets;
        }
        load
    }
}
