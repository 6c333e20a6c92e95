//! What must be true of a log while it runs: when it has failed, when it has come to rest, when it is closed.

use std::sync::Arc;

use stakehold_raft::{
    disk::Faults,
    wal::{Record, Wal},
};
use tokio::{sync::oneshot, time};

use super::{BLOCK, PATIENCE, REST, SEALED_KEPT, SEGMENTS_KEPT, Story, asks::fact, contents, is_segment};
use crate::{
    cluster::SimFate,
    disk::{harm::written_bytes, model::GROUPS},
    oracles::{Violation, ensure},
};

impl Story<'_> {
    /// What nobody waits for is written when somebody asks for it.
    pub async fn write_out(&mut self, wal: &Wal, fate: &SimFate) {
        self.tell("has it all written out");
        wal.write_out();
        time::sleep(REST).await;
        if fate.reason().is_none() && !wal.stats().full {
            self.certain = self.states.len() - 1;
            self.count("written out");
        }
    }

    /// After a failure the node is ended, and nothing is taken or written any more.
    pub async fn refuses_everything(&mut self, wal: &Wal, fate: &Arc<SimFate>) -> Result<(), Violation> {
        self.count("write failed");
        ensure!(fate.reason().is_some(), "Disk", "the log has failed, and its node goes on");
        time::sleep(REST).await;
        let before = contents(&self.disk);
        let submitted = self.answers.len();
        for group in GROUPS {
            self.submit(wal, group, Record::Vote { vote: fact(1) }, true);
        }
        time::sleep(REST).await;
        for (_, mut answer) in self.answers.split_off(submitted) {
            let told = answer.try_recv();
            ensure!(matches!(told, Ok(Err(_))), "Disk", "a log that has failed says of a new record {told:?}");
        }
        // What a failed log does not take is not submitted.
        self.states.truncate(self.states.len() - GROUPS.len());
        ensure!(contents(&self.disk) == before, "Disk", "a log that has failed goes on writing");
        Ok(())
    }

    /// Whether old segments go when nobody needs them, and what the log says of itself is true. False when the
    /// log has failed.
    pub async fn tidy(&mut self, wal: &Wal, fate: &Arc<SimFate>, delays: &Faults) -> Result<bool, Violation> {
        // Behind everything that was submitted.
        self.submit(wal, GROUPS[0], Record::Vote { vote: fact(2) }, true);
        if !self.settle(wal, delays).await? {
            return Ok(false);
        }
        time::sleep(REST).await;
        if fate.reason().is_some() {
            return Ok(true);
        }
        let (stats, pinning) = (wal.stats(), wal.pinning(SEALED_KEPT));
        ensure!(
            stats.segments <= SEGMENTS_KEPT || !pinning.is_empty(),
            "Disk",
            "nobody needs the oldest of {} segments, and it is still there",
            stats.segments
        );
        ensure!(
            stats.segments > SEGMENTS_KEPT || pinning.is_empty(),
            "Disk",
            "there are {} segments, and groups {pinning:?} are to let go",
            stats.segments
        );
        for group in pinning {
            let has = self.last().groups.get(&group).is_some_and(|state| !state.entries.is_empty());
            ensure!(has, "Disk", "group {group} has no entries, and is said to need a segment");
        }
        let files = self.disk.names().iter().filter(|name| is_segment(name)).count() as u64;
        ensure!(
            files <= stats.segments + stats.spares + 1,
            "Disk",
            "there are {files} files for {} segments and {} spare ones",
            stats.segments,
            stats.spares
        );
        let taken = (stats.records, stats.entries);
        ensure!(
            taken == self.taken,
            "Disk",
            "{:?} records and entries were written, {taken:?} are counted",
            self.taken
        );
        let least = stats.batches * BLOCK;
        let adds_up = stats.fsyncs == stats.batches && stats.bytes >= least && stats.bytes.is_multiple_of(BLOCK);
        ensure!(adds_up, "Disk", "these figures cannot be: {stats:?}");
        if !self.was_harmed {
            let file = format!("{}/{:016}.wal", self.config.dir, stats.durable.segment);
            let data = self.disk.contents(&file).unwrap_or_default();
            let end = written_bytes(&data) as u64;
            let place = stats.durable.offset;
            ensure!(end.next_multiple_of(BLOCK) == place, "Disk", "{file} ends at {end}, and is said to at {place}");
        }
        self.rested = true;
        self.count("tidied up");
        Ok(true)
    }

    /// A log that is closed has answered all that it took, and takes no more.
    pub async fn close(&mut self, wal: &Wal, fate: &Arc<SimFate>) -> Result<(), Violation> {
        let closed = time::timeout(PATIENCE, wal.close()).await;
        ensure!(closed.is_ok(), "Disk", "a log that is closed does not end");
        self.count("closed");
        let (answer, mut hears) = oneshot::channel();
        let done = Box::new(move |outcome| drop(answer.send(outcome)));
        wal.submit(GROUPS[0], Record::Vote { vote: fact(4) }, Some(done));
        let told = hears.try_recv();
        ensure!(matches!(told, Ok(Err(_))), "Disk", "a log that is closed says of a new record {told:?}");
        for (_, answer) in &mut self.answers {
            ensure!(!answer.is_empty(), "Disk", "a log was closed without an answer to all that it had taken");
        }
        if fate.reason().is_none() {
            self.certain = self.states.len() - 1;
            self.proven = !self.was_harmed;
        }
        Ok(())
    }
}
