//! One simulated node: its disk, which outlives it, and its life, which is a runtime of its own with
//! virtual time. A crash is dropping that runtime, and every task of the node with it.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use stakehold::kernel::{Kernel, Record};
use stakehold_actors::{
    api::{ApiError, Call, Principal, Request, Response},
    domain::{cell::Cell, types::MarketId},
    shell::{FeedEvent, Limits},
};
use stakehold_raft::{
    CellId, Cells, HostConfig, NodeId,
    disk::MemDisk,
    host::Role,
    seam::{Class, Clock, Inbound, World},
};
use tokio::{
    runtime::{Builder, EnterGuard, RngSeed, Runtime},
    time::Instant,
};

use super::{
    seam::{Plug, SimClock, SimEntropy, SimFate, TracedDisk, lock},
    watch,
};
use crate::rng;

/// The longest pause of a follower that reads slowly.
const SLOW_US: u64 = 300_000;

/// An attempt's answer, and when the node gave it, in virtual microseconds.
#[derive(Debug)]
pub struct Answer {
    pub attempt: u64,
    pub at: u64,
    pub outcome: Result<Response, ApiError>,
}

/// A kernel, and what the wires feed.
type Started = (Kernel, Arc<dyn Inbound>);

/// What a node's tasks leave for the driver.
#[derive(Default)]
struct Left {
    started: Mutex<Option<Result<Started, String>>>,
    answers: Mutex<Vec<Answer>>,
    fed: Mutex<Vec<(MarketId, FeedEvent)>>,
    settled: AtomicBool,
    /// The cells that a node still led when it had drained.
    drained: Mutex<Option<Vec<CellId>>>,
}

/// A life of a node, from its start to its end.
pub struct Life {
    runtime: Option<Runtime>,
    clock: Arc<SimClock>,
    plug: Arc<Plug>,
    fate: Arc<SimFate>,
    left: Arc<Left>,
    kernel: Option<Started>,
    /// Frames since it ran last, and (without one) connections that were lost, in their order.
    arrived: Vec<(NodeId, Option<(Class, Bytes)>)>,
    began: Instant,
    began_us: u64,
    pub paused: bool,
}

#[derive(Debug)]
pub struct SimNode {
    pub id: NodeId,
    pub disk: MemDisk,
    pub ahead_ms: Arc<AtomicI64>,
    /// It has founded its cells, or joined: an empty directory would mean that everything was lost.
    pub member: bool,
    pub lives: u64,
    pub life: Option<Life>,
    /// Its disk does what it should not, since this life began.
    pub disk_fails: bool,
    /// What it once wrote is not what is on its disk.
    pub disk_harmed: bool,
    /// The same of its log alone, of which each start reads all: until it has started on that.
    pub log_harmed: bool,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("began_us", &self.began_us).finish_non_exhaustive()
    }
}

/// Settlements take few accounts a step, so that much gets in between.
pub fn empty_cell(id: CellId, cells: Cells) -> Cell {
    Cell::with_settlement_step(id, cells, 3)
}

/// Why a life ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The node ended itself, as it should when it may not go on.
    Fate(String),
    /// It could not be started on what is on its disk.
    NoStart(String),
    /// It panicked.
    Panic(String),
    /// It drained, as it was asked to, and still led these cells.
    Drained(Vec<CellId>),
}

impl SimNode {
    pub fn new(id: NodeId, disk_seed: u64) -> Self {
        Self {
            id,
            disk: MemDisk::new(disk_seed),
            ahead_ms: Arc::default(),
            member: false,
            lives: 0,
            life: None,
            disk_fails: false,
            disk_harmed: false,
            log_harmed: false,
        }
    }

    /// What it runs, while it lives and has started.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.life.as_ref()?.kernel()
    }

    /// As long as this is kept, its time is the time.
    pub fn enter(&self) -> Option<EnterGuard<'_>> {
        self.life.as_ref()?.runtime.as_ref().map(Runtime::enter)
    }

    /// The cells it says it leads.
    pub fn leads(&self) -> Vec<CellId> {
        let cells = self.kernel().into_iter().flat_map(|kernel| kernel.host.cells());
        cells.filter(|group| group.on_leadership().borrow().leading).map(|group| group.id()).collect()
    }

    /// Whether it may say that it cannot start on what is on its disk.
    pub fn is_excused(&self) -> bool {
        self.disk_fails || self.disk_harmed || self.log_harmed
    }

    /// Begins a life on what is on the disk.
    pub fn start(&mut self, now_us: u64, choices: u64, mut config: HostConfig, limits: Limits, record: Record) {
        self.lives += 1;
        config.found = !self.member;
        let seed = rng::of(choices, &[0x11FE, u64::from(self.id.0), self.lives]);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .on_before_task_poll(watch::poll)
            .build()
            .expect("a runtime without I/O can always be made");
        let began = {
            let _inside = runtime.enter();
            Instant::now()
        };
        let clock = Arc::new(SimClock { began_us: now_us, began, ahead_ms: self.ahead_ms.clone() });
        let plug = Arc::new(Plug::default());
        let fate = Arc::new(SimFate::default());
        let left = Arc::new(Left::default());
        let world = World {
            node: self.id,
            clock: clock.clone(),
            entropy: Arc::new(SimEntropy { seed, drawn: AtomicU64::new(0) }),
            disk: Arc::new(TracedDisk { disk: self.disk.boot() }),
            net: plug.clone(),
            fate: fate.clone(),
        };
        let starting = left.clone();
        runtime.spawn(async move {
            let started = Kernel::start(world, config, limits, empty_cell).await.map_err(|error| error.to_string());
            let kernel = started.as_ref().ok().map(|(kernel, _)| kernel.clone());
            *lock(&starting.started) = Some(started);
            if let Some(kernel) = kernel {
                kernel.settle(&record).await;
                starting.settled.store(true, Ordering::Relaxed);
            }
        });
        self.life = Some(Life {
            runtime: Some(runtime),
            clock,
            plug,
            fate,
            left,
            kernel: None,
            arrived: Vec::new(),
            began,
            began_us: now_us,
            paused: false,
        });
    }

    /// Ends the life without a word to anyone.
    pub fn end(&mut self) {
        if let Some(life) = &mut self.life {
            // Its tasks are dropped inside its own time: some look at the clock as they go.
            life.finish();
        }
        self.life = None;
    }

    /// Runs the node until `to_us`; how its life ended, if it did.
    pub fn run(&mut self, to_us: u64) -> Option<End> {
        let member = &mut self.member;
        let life = self.life.as_mut().filter(|life| !life.paused)?;
        watch::window();
        let until = life.began + Duration::from_micros(to_us - life.began_us);
        let (arrived, inbound) =
            (std::mem::take(&mut life.arrived), life.kernel.as_ref().map(|(_, inbound)| inbound.clone()));
        let window = async move {
            // By a task of the node's, as its transport does it: whoever polls anything outside of them throws dice
            // of the thread's own, which fall otherwise in every process.
            for (from, frame) in arrived {
                match (&inbound, frame) {
                    (Some(inbound), Some((class, frame))) => inbound.frame(from, class, frame),
                    (Some(inbound), None) => inbound.disconnected(from),
                    (None, _) => {}
                }
            }
            tokio::time::sleep_until(until).await;
        };
        if let Err(panic) = life.block_on(window) {
            return Some(End::Panic(panic));
        }
        *member |= life.left.settled.load(Ordering::Relaxed);
        if let Some(reason) = life.fate.reason() {
            return Some(End::Fate(reason));
        }
        if let Some(led) = lock(&life.left.drained).take() {
            return Some(End::Drained(led));
        }
        if life.kernel.is_none()
            && let Some(started) = lock(&life.left.started).take()
        {
            match started {
                Ok(started) => life.kernel = Some(started),
                Err(reason) => return Some(End::NoStart(reason)),
            }
        }
        None
    }
}

/// How a follower of a market reads.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    AtOnce,
    /// With a pause after each change, until some moment of the run.
    Slowly {
        seed: u64,
        until_us: u64,
    },
}

impl Life {
    /// What it runs, once it has started.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref().map(|(kernel, _)| kernel)
    }

    pub fn plug(&self) -> &Plug {
        &self.plug
    }

    pub fn clock_ms(&self) -> u64 {
        let _inside = self.runtime.as_ref().map(Runtime::enter);
        self.clock.now_ms()
    }

    pub fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut lock(&self.left.answers))
    }

    /// Somebody follows a market on this node, through another one if it has no replica of it. False if it knows
    /// nothing of the market, or not yet.
    pub fn follow(&self, market: MarketId, reads: Reads) -> bool {
        let (Some((kernel, _)), Some(runtime)) = (&self.kernel, &self.runtime) else { return false };
        let _inside = runtime.enter();
        let Ok(mut feed) = kernel.exchange.feed(market) else { return false };
        let (left, clock) = (self.left.clone(), self.clock.clone());
        runtime.spawn(async move {
            let mut read = 0;
            while let Some(event) = feed.next().await {
                lock(&left.fed).push((market, event));
                read += 1;
                if let Reads::Slowly { seed, until_us } = reads {
                    let left_us = until_us.saturating_sub(clock.now_us());
                    let pause = Duration::from_micros(left_us.min(rng::of(seed, &[read]) % SLOW_US));
                    tokio::time::sleep(pause).await;
                }
            }
        });
        true
    }

    /// What those who follow were told.
    pub fn take_fed(&self) -> Vec<(MarketId, FeedEvent)> {
        std::mem::take(&mut lock(&self.left.fed))
    }

    /// A frame arrives: the node takes it when it runs next. One that has not started hears nothing.
    pub fn frame(&mut self, from: NodeId, class: Class, frame: Bytes) {
        self.arrive(from, Some((class, frame)));
    }

    pub fn disconnected(&mut self, from: NodeId) {
        self.arrive(from, None);
    }

    fn arrive(&mut self, from: NodeId, frame: Option<(Class, Bytes)>) {
        if self.kernel.is_some() {
            self.arrived.push((from, frame));
        }
    }

    /// A client's call arrives; the answer is among those that are taken later. False if the node does
    /// not answer yet.
    pub fn call(&self, attempt: u64, principal: Principal, request: Request, good_until: u64) -> bool {
        let (Some((kernel, _)), Some(runtime)) = (&self.kernel, &self.runtime) else { return false };
        let (exchange, left, clock) = (kernel.exchange.clone(), self.left.clone(), self.clock.clone());
        let _inside = runtime.enter();
        runtime.spawn(async move {
            let outcome = exchange.call(Call { principal, request_id: attempt, good_until, request }).await;
            lock(&left.answers).push(Answer { attempt, at: clock.now_us(), outcome });
        });
        true
    }

    /// Asks the node to leave.
    pub fn drain(&self, limit: Duration) {
        let (Some((kernel, _)), Some(runtime)) = (&self.kernel, &self.runtime) else { return };
        let (host, left) = (kernel.host.clone(), self.left.clone());
        runtime.spawn(async move {
            host.drain(limit).await;
            let led =
                host.cells().filter(|group| group.status().role == Role::Leader).map(|group| group.id()).collect();
            host.stop().await;
            *lock(&left.drained) = Some(led);
        });
    }

    /// The node hears again: its clocks have gone on meanwhile.
    pub fn resume(&mut self, now_us: u64) -> Result<(), String> {
        self.paused = false;
        let lived = self.clock_us();
        let missed = Duration::from_micros(now_us.saturating_sub(lived));
        self.block_on(async move { tokio::time::advance(missed).await })
    }

    fn clock_us(&self) -> u64 {
        let _inside = self.runtime.as_ref().map(Runtime::enter);
        self.clock.now_us()
    }

    /// The message if a task of the node panicked. The others go on until the window ends: to drop them
    /// where the one was running makes those panic that wake each other, and a second panic aborts.
    fn block_on(&mut self, future: impl Future<Output = ()>) -> Result<(), String> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        // What is from before is not this node's.
        watch::last_panic();
        let run = catch_unwind(AssertUnwindSafe(|| runtime.block_on(future)));
        match (run, watch::last_panic()) {
            (Ok(()), None) => Ok(()),
            (_, Some(message)) => Err(message),
            (Err(panic), None) => Err(text(&*panic)),
        }
    }

    fn finish(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        {
            let _inside = runtime.enter();
            self.kernel = None;
            lock(&self.left.started).take();
        }
        // What panics while it is torn down has nothing left to say.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.finish();
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&'static str>().copied()).unwrap_or("a panic without a message").to_owned()
}
