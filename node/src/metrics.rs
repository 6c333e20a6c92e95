//! `/metrics`: what the front ends count themselves, and what the node behind them reports.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::http::{
    backend::{Backend, Distribution, Gauges},
    routes::ROUTES,
};

/// Upper bounds in seconds: fine where answers should be, coarse where they should not.
const BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 10.0];

/// Counts with plain atomics, since every request passes here.
pub struct Metrics {
    counts: Arc<Counts>,
    registry: Mutex<Registry>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Counts {
    backend: Arc<dyn Backend>,
    /// By route, the last one for what is no route; by hundreds of the status.
    answers: Vec<[AtomicU64; 6]>,
    times: Vec<Times>,
    connections: AtomicI64,
    turned_away: AtomicU64,
    /// Calls of native clients: refused or failed, and done.
    native: [AtomicU64; 2],
    in_flight: AtomicU64,
    feeds: AtomicU64,
}

#[derive(Default)]
struct Times {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub struct Connection<'a>(&'a AtomicI64);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let counts = Arc::new(Counts {
            backend,
            answers: (0..=ROUTES.len()).map(|_| Default::default()).collect(),
            times: ROUTES.iter().map(|_| Times::default()).collect(),
            connections: AtomicI64::new(0),
            turned_away: AtomicU64::new(0),
            native: Default::default(),
            in_flight: AtomicU64::new(0),
            feeds: AtomicU64::new(0),
        });
        let mut registry = Registry::with_prefix("stakehold");
        registry.register_collector(Box::new(Arc::clone(&counts)));
        Self { counts, registry: Mutex::new(registry) }
    }

    /// One request was answered; `route` is its place in the table.
    pub fn answered(&self, route: Option<usize>, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(5);
        self.counts.answers[route.unwrap_or(ROUTES.len())][class].fetch_add(1, Ordering::Relaxed);
        if let Some(times) = route.and_then(|at| self.counts.times.get(at)) {
            let seconds = took.as_secs_f64();
            let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
            times.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            times.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub fn connection(&self) -> Connection<'_> {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        Connection(&self.counts.connections)
    }

    pub fn turned_away(&self) {
        self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// One call of a native client was answered.
    pub fn called(&self, done: bool) {
        self.counts.native[usize::from(done)].fetch_add(1, Ordering::Relaxed);
    }

    /// All figures in the OpenMetrics text format.
    pub fn text(&self, in_flight: usize, feeds: usize) -> String {
        self.counts.in_flight.store(in_flight as u64, Ordering::Relaxed);
        self.counts.feeds.store(feeds as u64, Ordering::Relaxed);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        match text::encode(&mut out, &registry) {
            Ok(()) => out,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}

/// Something to encode with the encoder of one family.
type Family<'a> = &'a dyn Fn(&mut MetricEncoder<'_>) -> fmt::Result;

struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        unit: Option<&Unit>,
        each: Family<'_>,
    ) -> fmt::Result {
        each(&mut self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, None, &|encoder| encoder.encode_gauge(&value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, None, &|encoder| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn by_cell(
        &mut self,
        name: &str,
        help: &str,
        gauges: &Gauges,
        value: fn(&crate::http::backend::CellGauges) -> i64,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, None, &|encoder| {
            for cell in &gauges.cells {
                encoder.encode_family(&[("cell", cell.cell.as_str())])?.encode_gauge(&value(cell))?;
            }
            Ok(())
        })
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Collector for Counts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Encoder(encoder);
        self.front(&mut to)?;
        node(&mut to, &self.backend.gauges())?;
        let ready = i64::from(self.backend.ready().is_ok());
        to.gauge("ready", "Whether clients should be sent here", ready)
    }
}

impl Counts {
    fn front(&self, to: &mut Encoder<'_>) -> fmt::Result {
        to.family("http_requests", "Requests answered", MetricType::Counter, None, &|encoder| {
            for (at, classes) in self.answers.iter().enumerate() {
                let route = ROUTES.get(at).map_or("none", |route| route.name);
                for (class, count) in classes.iter().enumerate() {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels = [("route", route.to_owned()), ("status", format!("{class}xx"))];
                        encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                    }
                }
            }
            Ok(())
        })?;
        let help = "From a request's head to its answer";
        to.family("http_request", help, MetricType::Histogram, Some(&Unit::Seconds), &|encoder| {
            for (route, times) in ROUTES.iter().zip(&self.times) {
                let counts = times.buckets.iter().map(|count| count.load(Ordering::Relaxed));
                let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
                let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
                let count: u64 = buckets.iter().map(|(_, count)| count).sum();
                if count > 0 {
                    let sum = Duration::from_nanos(times.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
                    let labels = [("route", route.name)];
                    let mut encoder = encoder.encode_family(&labels)?;
                    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
            Ok(())
        })?;
        to.family("native_calls", "Calls of native clients", MetricType::Counter, None, &|encoder| {
            for (outcome, count) in ["refused", "done"].iter().zip(&self.native) {
                let count = count.load(Ordering::Relaxed);
                encoder.encode_family(&[("outcome", *outcome)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
            Ok(())
        })?;
        to.gauge("connections", "Connections of clients", self.connections.load(Ordering::Relaxed))?;
        to.gauge("requests_in_flight", "Requests being answered", signed(self.in_flight.load(Ordering::Relaxed)))?;
        to.gauge("feeds", "Markets that are followed", signed(self.feeds.load(Ordering::Relaxed)))?;
        let turned_away = self.turned_away.load(Ordering::Relaxed);
        to.counter("connections_turned_away", "Connections refused for want of room", turned_away)
    }
}

fn node(to: &mut Encoder<'_>, gauges: &Gauges) -> fmt::Result {
    let help = "From proposal to commit on cells this node leads";
    to.family("commit", help, MetricType::Histogram, Some(&Unit::Seconds), &|encoder| {
        let Distribution { sum_seconds, count, buckets } = &gauges.commit_latency;
        let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
        let mut buckets = buckets.clone();
        buckets.push((f64::MAX, count.saturating_sub(counted)));
        encoder.encode_histogram::<NoLabelSet>(*sum_seconds, *count, &buckets, None)
    })?;
    to.counter("fsyncs", "Calls of fdatasync and the like", gauges.fsyncs)?;
    to.counter("log_bytes", "Bytes written to the log", gauges.log_bytes)?;
    to.by_cell("leader", "1 if this node leads the cell", gauges, |cell| i64::from(cell.leads))?;
    to.by_cell("apply_lag", "Entries committed and not applied", gauges, |cell| signed(cell.apply_lag))?;
    to.by_cell("outbox_depth", "Messages to other cells that wait", gauges, |cell| signed(cell.outbox_depth))?;
    to.by_cell("outbox_age_ms", "Age of the oldest of them", gauges, |cell| signed(cell.outbox_age_ms))?;
    to.by_cell("money_in_flight", "Minor units between cells", gauges, |cell| cell.in_flight)?;
    to.by_cell("conservation", "Sum of a cell's books; anything but 0 is a bug", gauges, |cell| cell.conservation)?;
    to.by_cell("halted", "1 if the replica stopped on an entry", gauges, |cell| i64::from(cell.halted))?;
    to.by_cell("format", "Format of what the cell writes and does", gauges, |cell| i64::from(cell.format))?;
    to.family("queue_depth", "Entries waiting", MetricType::Gauge, None, &|encoder| {
        for (name, depth) in &gauges.queues {
            encoder.encode_family(&[("queue", name.as_str())])?.encode_gauge(&signed(*depth))?;
        }
        Ok(())
    })
}
