//! Whoever opens a log that is not its own, or of which nobody can say whose it is, is told so, and changes
//! nothing.

use std::sync::Arc;

use stakehold_raft::{
    NodeId,
    disk::Faults,
    wal::{Wal, WalError},
};

use super::{Story, contents, is_segment};
use crate::{
    disk::world,
    oracles::{Violation, ensure},
};

impl Story<'_> {
    /// Now and then, between two lives, somebody else tries; on a copy of the disk.
    pub async fn strangers(&mut self) -> Result<(), Violation> {
        let tries = self.rng.percent(10);
        let kind = self.rng.below(3);
        let label = format!("{}/superblock", self.config.dir);
        let names = self.disk.names();
        if !tries || !names.contains(&label) {
            return Ok(());
        }
        let disk = self.disk.copy();
        disk.set_faults(Faults::default());
        let mut world = world(&disk, Arc::default());
        let mut config = self.config.clone();
        match kind {
            0 => config.identity[0] ^= 1,
            1 => world.node = NodeId(2),
            _ if !names.iter().any(|name| is_segment(name)) => return Ok(()),
            _ => {
                let removed = world.disk.remove(&label).await;
                ensure!(removed.is_ok(), "Disk", "{label} cannot be removed: {removed:?}");
            }
        }
        let before = contents(&disk);
        let opened = Wal::open(&world, config).await.map(|_| ());
        let refused = match kind {
            0 | 1 => matches!(opened, Err(WalError::OtherOwner { .. })),
            _ => matches!(opened, Err(WalError::Superblock { .. })),
        };
        ensure!(refused, "Disk", "a stranger opens a log ({kind}), and is told {opened:?}");
        ensure!(contents(&disk) == before, "Disk", "a stranger opens a log, is refused, and has changed it");
        self.count("kept from strangers");
        Ok(())
    }
}
