//! The log's story: opened, written by several groups, stopped at any moment, opened again. Writes fail,
//! syncs fail, space runs out, a write goes to another place, a byte rots while nobody looks; and each
//! time what is found is held against what was answered.

mod asks;
mod checks;
mod strangers;
mod trouble;

use std::{io, sync::Arc, time::Duration};

use stakehold_raft::{
    disk::{Faults, MemDisk},
    wal::{Record, Recovered, Wal, WalConfig, WalError},
};
use tokio::{sync::oneshot, time};

use self::{asks::fact, trouble::Trouble};
use super::{
    harm,
    model::{GROUPS, State, is_lost},
    runtime, world,
};
use crate::{
    cluster::SimFate,
    oracles::{Counts, Violation, ensure},
    rng::Rng,
};

/// What must happen in a hundred episodes.
#[cfg(test)]
pub const HAPPENS: [&str; 17] = [
    "answered",
    "crashed",
    "killed",
    "closed",
    "found again",
    "lost what was not answered",
    "opening was stopped",
    "opening failed",
    "write failed",
    "disk was full",
    "byte rotted",
    "written elsewhere",
    "damage named",
    "harm outlived",
    "group forgotten",
    "written out",
    "kept from strangers",
];

const IDENTITY: [u8; 32] = [7; 32];
const BLOCK: u64 = 4096;
/// In virtual time, nothing takes as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long all of the log's tasks have come to rest.
const REST: Duration = Duration::from_millis(100);
/// Sealed segments that may lie about before groups are asked to let go, as a node has it whose snapshots are small.
const SEALED_KEPT: usize = 2;
/// Segments that may lie about although nobody needs them: those, and the newest.
const SEGMENTS_KEPT: u64 = SEALED_KEPT as u64 + 1;

type Answers = Vec<(usize, oneshot::Receiver<io::Result<()>>)>;

struct Story<'a> {
    rng: Rng,
    disk: MemDisk,
    counts: &'a mut Counts,
    /// What was done, a line each: for whoever wants to understand a violation.
    told: &'a mut Vec<String>,
    config: WalConfig,
    /// The state after each record that may still be lost.
    states: Vec<State>,
    /// The last of them that cannot be.
    certain: usize,
    /// Of those that wait: after which record, and where they hear.
    answers: Answers,
    /// Something was done to what was synced, since the log was last opened.
    harmed: bool,
    /// And ever before, in segments of which one is still there.
    was_harmed: bool,
    /// The newest segment that there was then: their names are in the order of their numbers.
    harmed_through: Option<String>,
    label_harmed: bool,
    /// The log was closed, and has noted how far it was durable.
    proven: bool,
    /// The log came to rest, nothing was asked of it since, and so has noted the same, for as long as the
    /// machine is there.
    rested: bool,
    /// Only that tells of damage that was done: the machine stays until the log was opened.
    relies_on_rest: bool,
    /// The records that the log took, and the entries in them.
    taken: (u64, u64),
    term: u64,
}

/// One log's lives.
///
/// # Errors
/// The first thing that must not be.
pub fn live(seed: u64, counts: &mut Counts, told: &mut Vec<String>) -> Result<(), Violation> {
    let mut rng = Rng::new(seed);
    let segment_bytes = *rng.pick(&[8_u64 << 10, 16 << 10, 32 << 10]);
    let config = WalConfig {
        segment_bytes,
        reserve_bytes: *rng.pick(&[0, segment_bytes, 3 * segment_bytes]),
        max_batch_bytes: *rng.pick(&[2 << 10, 8 << 10, 64 << 10]),
        linger: Duration::from_micros(*rng.pick(&[0, 0, 200])),
        ..WalConfig::new(IDENTITY)
    };
    let (disk, lives, rots) = (MemDisk::new(rng.draw()), rng.between(4, 14), rng.percent(70));
    let mut story = Story {
        rng,
        disk,
        counts,
        told,
        config,
        states: vec![State::default()],
        certain: 0,
        answers: Vec::new(),
        harmed: false,
        was_harmed: false,
        harmed_through: None,
        label_harmed: false,
        proven: false,
        rested: false,
        relies_on_rest: false,
        taken: (0, 0),
        term: 1,
    };
    for _ in 0..lives {
        let runtime = runtime(story.rng.draw());
        runtime.block_on(story.life(rots))?;
        drop(runtime);
        story.between_lives(rots);
        story.outlive_harm();
    }
    // What is there in the end is there for whoever comes last, too.
    for _ in 0..2 {
        runtime(story.rng.draw()).block_on(async {
            story.disk.set_faults(Faults::default());
            let (_, found) = story.open(&Arc::default()).await.map_err(does_not_open)?;
            story.judge(&found)
        })?;
        story.disk.kill();
    }
    Ok(())
}

fn does_not_open(error: WalError) -> Violation {
    Violation::new("Disk", format!("a log does not open, and nothing has happened to its disk: {error}"))
}

impl Story<'_> {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn tell(&mut self, line: impl Into<String>) {
        self.told.push(line.into());
    }

    fn last(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    fn delays(&mut self) -> Faults {
        let slowest = *self.rng.pick(&[0, 300, 3_000]);
        Faults {
            write_delay: (Duration::ZERO, Duration::from_micros(slowest / 10)),
            sync_delay: (Duration::from_micros(slowest / 20), Duration::from_micros(slowest)),
            ..Faults::default()
        }
    }

    async fn open(&self, fate: &Arc<SimFate>) -> Result<(Wal, Recovered), WalError> {
        Wal::open(&world(&self.disk, fate.clone()), self.config.clone()).await
    }

    /// From its opening to its end, whichever that is.
    async fn life(&mut self, harms: bool) -> Result<(), Violation> {
        let fate = Arc::new(SimFate::default());
        let delays = self.delays();
        self.taken = (0, 0);
        self.strangers().await?;
        let Some((wal, found)) = self.begin(&fate, &delays).await? else {
            self.stop();
            return Ok(());
        };
        let before = (self.states.clone(), self.certain);
        self.judge(&found)?;
        if !self.last().broken.is_empty() && !self.begin_anew(&wal, &delays).await? {
            // That something is lost is not on the disk yet: it may look otherwise next time.
            self.harmed = true;
            let forgotten = std::mem::replace(&mut self.states, before.0);
            self.states.extend(forgotten.into_iter().skip(1));
            self.certain = before.1;
            // A process that is gone leaves all that it had written: more often it is the power.
            if self.rng.percent(50) {
                self.lose_power();
            } else {
                self.stop();
            }
            return Ok(());
        }
        let trouble = self.trouble(harms, &delays);
        let mut goes_on = true;
        let steps = *self.rng.pick(&[1, 6, 60, 60]);
        for _ in 0..self.rng.between(1, steps) {
            if !self.step(&wal, &fate, &delays).await? {
                // A batch that is larger than a segment finds no place on a full disk.
                let excused = matches!(trouble, Trouble::Full(_)) || !self.disk.failed().is_empty();
                ensure!(excused, "Disk", "a record failed, and nothing has happened to the disk");
                self.refuses_everything(&wal, &fate).await?;
                goes_on = false;
                break;
            }
        }
        // Whether the log went on, whatever it said.
        let asked_to_fail = matches!(trouble, Trouble::FailWrite(_) | Trouble::FailSync(_));
        if goes_on && asked_to_fail && !self.disk.failed().is_empty() {
            time::sleep(REST).await;
            ensure!(fate.reason().is_some(), "Disk", "a write of the log failed, and its node goes on");
        }
        if goes_on && matches!(trouble, Trouble::WriteElsewhere(_)) {
            // A write that is stopped may cover what went astray, or what lay where it went, and nothing is left
            // that says so. Behind everything that was submitted:
            self.submit(&wal, GROUPS[0], Record::Vote { vote: fact(3) }, true);
            self.settle(&wal, &delays).await?;
        }
        if goes_on && self.rng.percent(20) {
            self.close(&wal, &fate).await?;
        }
        self.end()
    }

    /// Opens the log, which may go wrong or be stopped half-way.
    async fn begin(&mut self, fate: &Arc<SimFate>, delays: &Faults) -> Result<Option<(Wal, Recovered)>, Violation> {
        let mut faults = delays.clone();
        let fails = self.rng.percent(15);
        let number = Some(1 + self.rng.below(6));
        match self.rng.below(3) {
            _ if !fails => {}
            0 => faults.fail_read = number,
            1 => faults.fail_write = number,
            _ => faults.fail_sync = number,
        }
        self.tell(format!("opens the log; {faults:?}"));
        self.disk.set_faults(faults);
        let stopped = self.rng.percent(15).then(|| Duration::from_micros(self.rng.below(4_000)));
        let opened = match stopped {
            Some(after) => match time::timeout(after, self.open(fate)).await {
                Ok(opened) => opened,
                Err(_) => {
                    self.tell(format!("it is stopped after {after:?}"));
                    self.count("opening was stopped");
                    return Ok(None);
                }
            },
            None => self.open(fate).await,
        };
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(WalError::Io { what, source }) if fails => {
                self.tell(format!("{what}: {source}"));
                self.count("opening failed");
                Ok(None)
            }
            Err(error) => Err(does_not_open(error)),
        }
    }

    /// What was found is what some prefix of the records makes, and nothing that was answered is missing.
    fn judge(&mut self, found: &Recovered) -> Result<(), Violation> {
        let files = contents(&self.disk)
            .into_iter()
            .map(|(name, data)| format!("{name} {}/{}", harm::written_bytes(&data), data.len()));
        let files = files.collect::<Vec<_>>().join(", ");
        self.tell(format!("it is open: {} bytes cut; there are {files}", found.cut_bytes));
        for group in GROUPS.into_iter().filter(|group| is_lost(found, *group)) {
            let why = found.damaged.get(&group).or(found.lost.as_ref());
            self.tell(format!("group {group} is lost: {}", why.map_or("", String::as_str)));
        }
        let fits = self.states.iter().rposition(|state| state.fits(found, self.harmed));
        ensure!(fits.is_some_and(|at| at >= self.certain), "Disk", "{}", self.mismatch(found, fits));
        ensure!(
            found.lost.is_none() || self.was_harmed,
            "Disk",
            "a log misses something, and nothing has ever happened to its disk: {:?}",
            found.lost
        );
        self.count("found again");
        if fits.is_some_and(|at| at + 1 < self.states.len()) {
            self.count("lost what was not answered");
        }
        if !found.damaged.is_empty() {
            self.count("damage named");
        }
        (self.states, self.certain) = (vec![State::of(found)], 0);
        (self.harmed, self.label_harmed, self.proven) = (false, false, false);
        (self.rested, self.relies_on_rest) = (false, false);
        Ok(())
    }

    /// In words, what was found and is not what it should be; `fits` is the number of records that make it.
    fn mismatch(&self, found: &Recovered, fits: Option<usize>) -> String {
        let what = match fits {
            Some(at) => format!("what only the first {at} records make"),
            None => format!("what no number of them makes: {}", self.last().differences(found)),
        };
        format!(
            "a log was opened again; of {} records it had answered {}, and now it has {what} ({})",
            self.states.len() - 1,
            self.certain,
            if self.harmed { "its disk was harmed" } else { "nothing has happened to its disk" },
        )
    }

    /// Forgets what is lost, before anything else and in one go, as a node does. False when the life is over
    /// before that is certain.
    async fn begin_anew(&mut self, wal: &Wal, delays: &Faults) -> Result<bool, Violation> {
        // It is stopped before, or while that is written.
        let (stopped, slowest) = (self.rng.below(5), delays.sync_delay.1.as_micros() as u64);
        if stopped == 0 {
            return Ok(false);
        }
        for group in self.last().broken.clone() {
            self.submit(wal, group, Record::Forget, false);
            let incarnation = fact(self.rng.draw());
            self.submit(wal, group, Record::Note { key: "incarnation".into(), value: incarnation }, true);
            self.count("group forgotten");
        }
        // Others need not wait for that.
        if self.rng.percent(50) {
            let group = *self.rng.pick(&GROUPS);
            self.record(wal, group);
        }
        if stopped <= 2 {
            time::sleep(Duration::from_micros(self.rng.below(slowest + 1))).await;
            return Ok(false);
        }
        self.settle(wal, delays).await
    }

    /// False when the log has failed.
    async fn step(&mut self, wal: &Wal, fate: &Arc<SimFate>, delays: &Faults) -> Result<bool, Violation> {
        match self.rng.below(100) {
            0..15 => return self.settle(wal, delays).await,
            15..30 => {
                let us = self.rng.below(5_000);
                self.tell(format!("waits {us} us"));
                time::sleep(Duration::from_micros(us)).await;
            }
            30..35 => {
                for group in wal.pinning(SEALED_KEPT) {
                    let (_, next) = self.last().bounds(group);
                    if next > 0 {
                        self.purge(wal, group, next - 1);
                    }
                }
            }
            35..40 => return self.tidy(wal, fate, delays).await,
            40..43 => self.write_out(wal, fate).await,
            _ => {
                let group = *self.rng.pick(&GROUPS);
                self.record(wal, group);
            }
        }
        Ok(true)
    }

    /// Waits until everything is answered. False when the log has failed.
    async fn settle(&mut self, wal: &Wal, delays: &Faults) -> Result<bool, Violation> {
        self.tell("waits for all answers");
        for (number, mut answer) in std::mem::take(&mut self.answers) {
            let answered = match time::timeout(PATIENCE, &mut answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    ensure!(
                        wal.stats().full,
                        "Disk",
                        "a record was not answered in {PATIENCE:?}, and the disk is not said to be full"
                    );
                    self.count("disk was full");
                    self.disk.set_faults(delays.clone());
                    let late = time::timeout(PATIENCE, &mut answer).await;
                    late.map_err(|_| Violation::new("Disk", "there is room again, and a record is not answered"))?
                }
            };
            match answered {
                Ok(Ok(())) => {
                    self.certain = self.certain.max(number);
                    self.count("answered");
                }
                Ok(Err(_)) => return Ok(false),
                Err(_) => return Err(Violation::new("Disk", "a record's end was never told")),
            }
        }
        Ok(true)
    }

    /// The end of a life: takes down what was answered before.
    fn end(&mut self) -> Result<(), Violation> {
        let mut open = None;
        for (number, mut answer) in std::mem::take(&mut self.answers) {
            match answer.try_recv() {
                Ok(Ok(())) => {
                    ensure!(open.is_none(), "Disk", "record {number} is answered, and record {open:?} is not");
                    self.certain = self.certain.max(number);
                    self.count("answered");
                }
                _ => open = open.or(Some(number)),
            }
        }
        self.stop();
        Ok(())
    }

    /// The process ends, or the machine.
    fn stop(&mut self) {
        if self.rng.percent(60) && !self.relies_on_rest {
            return self.lose_power();
        }
        self.answers.clear();
        self.disk.kill();
        self.count("killed");
        self.tell(format!("the process is gone; {} are certain", self.certain));
    }

    fn lose_power(&mut self) {
        self.answers.clear();
        let seed = self.rng.draw();
        self.disk.crash(seed);
        self.count("crashed");
        self.rested = false;
        self.tell(format!("the power is gone; {} are certain", self.certain));
    }
}

fn contents(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().filter_map(|name| Some((name.clone(), disk.contents(&name)?))).collect()
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".wal")
}
