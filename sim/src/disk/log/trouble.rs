//! What goes wrong with a log's disk: while the log runs, and while nobody runs on it.

use stakehold_raft::disk::Faults;

use super::{Story, is_segment};
use crate::disk::harm;

/// What is to go wrong in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    FailWrite(u64),
    FailSync(u64),
    WriteElsewhere(u64),
    /// There is room for so many bytes more.
    Full(u64),
}

impl Story<'_> {
    /// Chooses what is to go wrong while the log runs, and has the disk do it.
    pub fn trouble(&mut self, harms: bool, delays: &Faults) -> Trouble {
        let latest = *self.rng.pick(&[3, 30]);
        let number = 1 + self.rng.below(latest);
        let trouble = match self.rng.below(12) {
            0 => Trouble::FailWrite(number),
            1 | 6 => Trouble::FailSync(number),
            2 | 3 if harms && !self.was_harmed => Trouble::WriteElsewhere(number),
            4 | 5 => Trouble::Full(self.rng.below(4 * self.config.segment_bytes)),
            _ => Trouble::Nothing,
        };
        self.tell(format!("{trouble:?}"));
        let mut faults = delays.clone();
        match trouble {
            Trouble::Nothing => {}
            Trouble::FailWrite(number) => faults.fail_write = Some(number),
            Trouble::FailSync(number) => faults.fail_sync = Some(number),
            Trouble::WriteElsewhere(number) => {
                faults.misdirect = Some(number);
                (self.harmed, self.was_harmed) = (true, true);
                self.count("written elsewhere");
            }
            Trouble::Full(room) => faults.capacity = Some(self.disk.used() + room),
        }
        self.disk.set_faults(faults);
        trouble
    }

    /// What becomes of the disk while nobody runs on it.
    pub fn between_lives(&mut self, rots: bool) {
        if !rots || !self.rng.percent(35) {
            return;
        }
        let (kind, label_harmed) = (self.rng.below(10), self.label_harmed);
        // Who lost two things may not be able to tell.
        let may_harm = !self.was_harmed;
        let rotted = match kind {
            // Of its two copies the label needs one.
            0 => {
                self.label_harmed = true;
                harm::rot(&self.disk, &mut self.rng, |name| !label_harmed && name.ends_with("superblock"))
            }
            // The mark proves something while it is there, and may be all that says what is missing.
            1 if may_harm => {
                (self.proven, self.rested) = (false, false);
                harm::rot(&self.disk, &mut self.rng, |name| name.ends_with("mark"))
            }
            2 | 3 if may_harm && (self.proven || self.rested) => {
                (self.harmed, self.relies_on_rest) = (true, !self.proven);
                harm::cut(&self.disk, &mut self.rng, is_segment)
            }
            _ if may_harm => {
                self.harmed = true;
                harm::rot(&self.disk, &mut self.rng, is_segment)
            }
            _ => None,
        };
        self.was_harmed |= self.harmed;
        if let Some(place) = rotted {
            self.tell(format!("{place} rots"));
            self.count("byte rotted");
        }
    }

    /// Once no segment is left of those that there were, nothing is left of what was done to them.
    pub fn outlive_harm(&mut self) {
        let names = self.disk.names();
        let mut segments = names.into_iter().filter(|name| is_segment(name));
        if self.harmed {
            self.harmed_through = segments.max();
        } else if self.was_harmed && segments.all(|name| Some(name) > self.harmed_through) {
            self.was_harmed = false;
            self.count("harm outlived");
        }
    }
}
