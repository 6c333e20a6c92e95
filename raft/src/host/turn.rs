//! One turn of the node's scheduler: what has become ready is gathered and sent together.
//!
//! Proposals, deliveries and frames are not sent where they arise: their cell or stream is marked,
//! and one task looks at all marks when everything that was ready to run has run. That is what
//! makes one entry of many commands, and one frame of many messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::{clocks::Clocks, config::HostConfig, formats::Formats};
use crate::{
    ids::CellId,
    mistake,
    seam::{Clock, Entropy, World},
    timer,
};

/// What a command in flight is worth waiting. A round costs its node and its peers about half a
/// millisecond of work, whatever it carries.
const WORTH: Duration = Duration::from_micros(400);
const LINGER_MAX: Duration = Duration::from_millis(5);
/// The runtime's timers are no finer.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// What a turn finds to do.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Cells whose queue may be proposed.
    pub cells: BTreeSet<CellId>,
    /// Streams between cells (from, to) with messages to send.
    pub streams: BTreeSet<(CellId, CellId)>,
}

/// Why an alarm was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// The machine of the cell has a deadline.
    Deadline(CellId),
    /// Acknowledgements of the cell have waited for an entry to ride on.
    Acks(CellId),
    /// A stream is to be tried again.
    Stream(CellId, CellId),
}

#[derive(Default)]
struct Alarms {
    by_time: BTreeSet<(Instant, Alarm)>,
    by_alarm: BTreeMap<Alarm, Instant>,
}

/// What all cells of a node share: marks, alarms, the clock, and a number for each proposal.
pub(crate) struct Turn {
    /// Notified for marks here and for messages in the mesh alike: one task, one wake-up.
    pub wake: Arc<Notify>,
    pub clock: Arc<dyn Clock>,
    pub clocks: Clocks,
    pub formats: Formats,
    /// A random number of this life of the node: entries of an earlier life have another.
    pub life: u64,
    numbers: AtomicU64,
    /// Microseconds from a round's beginning to its apply here, lately.
    round_us: AtomicU64,
    marks: Mutex<Marks>,
    alarms: Mutex<Alarms>,
    alarm_set: Notify,
}

impl Turn {
    pub fn new(world: &World, config: &HostConfig) -> Self {
        let entropy: &dyn Entropy = &*world.entropy;
        let peers = config.members.iter().map(|member| member.node).filter(|peer| *peer != world.node);
        Self::with(world.clock.clone(), entropy.next_u64(), Formats::new(config.format, peers))
    }

    fn with(clock: Arc<dyn Clock>, life: u64, formats: Formats) -> Self {
        Self {
            wake: Arc::default(),
            clock,
            clocks: Clocks::default(),
            formats,
            life,
            numbers: AtomicU64::new(0),
            round_us: AtomicU64::new(0),
            marks: Mutex::default(),
            alarms: Mutex::default(),
            alarm_set: Notify::new(),
        }
    }

    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A round of this node's was applied so long after it began.
    pub fn round_took(&self, time: Duration) {
        let (known, now) = (self.round_us.load(Ordering::Relaxed), time.as_micros() as u64);
        self.round_us.store(known - known / 8 + now / 8, Ordering::Relaxed);
    }

    /// How long the cells' rounds are put off after the last ones began, so that more share them.
    /// Never longer than two rounds take anyway, nor than the commands in flight here are worth: a
    /// cluster with time to spare, or with few clients, does not wait at all.
    pub fn linger(&self, in_flight: usize) -> Duration {
        let worth = WORTH.saturating_mul(u32::try_from(in_flight).unwrap_or(u32::MAX));
        let twice = Duration::from_micros(2 * self.round_us.load(Ordering::Relaxed));
        let wait = twice.min(worth).min(LINGER_MAX);
        if wait < TIMER_GRAIN { Duration::ZERO } else { wait }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().expect("no code that holds this lock panics")
    }

    pub fn mark_cell(&self, cell: CellId) {
        if self.marks().cells.insert(cell) {
            self.wake.notify_one();
        }
    }

    pub fn mark_streams(&self, from: CellId, to: impl IntoIterator<Item = CellId>) {
        let mut marks = self.marks();
        let before = marks.streams.len();
        marks.streams.extend(to.into_iter().map(|to| (from, to)));
        if marks.streams.len() > before {
            self.wake.notify_one();
        }
    }

    pub fn take_marks(&self) -> Marks {
        mem::take(&mut *self.marks())
    }

    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().expect("no code that holds this lock panics")
    }

    /// Sets, moves or (with None) clears an alarm.
    pub fn set_alarm(&self, alarm: Alarm, at: Option<Instant>) {
        let mut alarms = self.alarms();
        let before = alarms.by_time.first().map(|(at, _)| *at);
        let old = match at {
            Some(at) => alarms.by_alarm.insert(alarm, at),
            None => alarms.by_alarm.remove(&alarm),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            alarms.by_time.remove(&(old, alarm));
        }
        if let Some(at) = at {
            alarms.by_time.insert((at, alarm));
            if before.is_none_or(|before| at < before && !mistake!("alarm.earlier_one_not_heard")) {
                self.alarm_set.notify_one();
            }
        }
    }

    /// An alarm after `wait`, unless an earlier one is set.
    pub fn set_alarm_by(&self, alarm: Alarm, wait: Duration) {
        let at = Instant::now() + wait;
        if self.alarms().by_alarm.get(&alarm).is_none_or(|set| *set > at) {
            self.set_alarm(alarm, Some(at));
        }
    }

    /// Waits for alarms and takes all that are due.
    pub async fn due_alarms(&self) -> Vec<Alarm> {
        loop {
            let first = {
                let mut alarms = self.alarms();
                let now = Instant::now();
                let mut due = Vec::new();
                while let Some((at, alarm)) = alarms.by_time.first().copied() {
                    if at > now {
                        break;
                    }
                    alarms.by_time.pop_first();
                    alarms.by_alarm.remove(&alarm);
                    due.push(alarm);
                }
                if !due.is_empty() {
                    return due;
                }
                alarms.by_time.first().map(|(at, _)| *at)
            };
            match first {
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.alarm_set.notified() => {}
                        () = timer::sleep_until(at) => {}
                    }
                }
                None => self.alarm_set.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_where_rounds_are_quick_or_clients_few() {
        let ms = Duration::from_millis;
        let turn = Turn::with(Arc::new(Still), 1, Formats::new(1, [].into_iter()));
        assert_eq!(turn.linger(1_000), Duration::ZERO, "nothing is known of rounds yet");
        for _ in 0..100 {
            turn.round_took(ms(3));
        }
        assert_eq!([turn.linger(0), turn.linger(2)], [Duration::ZERO; 2]);
        assert_eq!(turn.linger(10), ms(4));
        assert_eq!(turn.linger(usize::MAX), LINGER_MAX);
        for _ in 0..100 {
            turn.round_took(Duration::from_micros(400));
        }
        assert_eq!(turn.linger(1_000), Duration::ZERO, "two rounds are over before the timer goes off");
    }

    struct Still;

    impl Clock for Still {
        fn now_ms(&self) -> u64 {
            0
        }

        fn monotonic_ns(&self) -> u64 {
            0
        }
    }
}
