//! What an exhibit is: a known mistake, which simulation shows it, who must see it, and what a run must
//! contain for it to show. Which there are is in [`catalogue`](super::catalogue).

/// Which simulation is enough to show a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What a node keeps on its disk, alone.
    Disk,
    /// Cells alone with an ideal log.
    Core,
    /// Whole nodes.
    Cluster,
    /// Whole nodes, in the plan of the corpus that guards against it: others show it too seldom.
    Plan,
}

/// What a run must contain, or the mistake has no occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nodes are killed and come back with what was written.
    Restarts,
    /// Disks run full, and have room again.
    FullDisks,
    /// All nodes of the cluster lose power at once.
    PowerLoss,
    /// A node comes back with an empty directory.
    Wipe,
    /// Bytes change in the log at rest.
    LogRot,
    /// Bytes change in a snapshot at rest.
    SnapshotRot,
    /// Leaders are cut off from the others, or followers fall behind.
    Partitions,
    /// Frames are lost or late, so that messages between cells are sent again.
    Loss,
    /// Nodes drain: they hand over what they lead, and take nothing meanwhile.
    HandOvers,
    /// Nodes come back with a newer program, one by one, and some with the older one again.
    Upgrades,
    /// A node's clock jumps ahead, further than is tolerated.
    ClockJumps,
    /// Snapshots are taken every few entries, and restored.
    Snapshots,
    /// Segments of the log are so small that old ones are unlinked.
    SmallSegments,
    /// Segments are as small, and snapshots so rare that entries keep many of them.
    RareSnapshots,
    /// Nothing else happens.
    Calm,
    /// Few calls may be under way in a cell.
    SmallQueues,
    /// References come again: with the same content, with another, and at other nodes.
    Retries,
    /// Cancels and cancel-alls while money is on its way.
    CancelsInFunding,
    /// Orders that come when their deadline has passed.
    LateOrders,
    /// Fundings that turn out to be too small, because margin was released meanwhile.
    Pending,
    /// Orders are reduced.
    Reductions,
    FillOrKill,
    /// Accounts and markets with caps that are reached.
    Caps,
    Suspensions,
    InPlay,
    /// Markets that suspend themselves at their start.
    ScheduledStarts,
    Heartbeats,
    Removals,
    Settlements,
    /// Settlements of more accounts than one step pays.
    ManySteps,
    DeadHeats,
    /// Accounts with a discount on commission.
    Discounts,
    Resettlements,
    Audits,
    /// Somebody follows the markets' changes.
    Feeds,
    /// Somebody follows them on nodes without a replica.
    Relays,
}

/// A mistake that is known.
#[derive(Clone, Copy, Debug)]
pub struct Exhibit {
    /// As `mistake!` has it.
    pub name: &'static str,
    /// Where in the program it is made.
    pub layer: &'static str,
    pub level: Level,
    /// The oracle that must see it.
    pub oracle: &'static str,
    /// Oracles that may see it first, because the mistake breaks what they watch as well.
    pub also: &'static [&'static str],
    pub needs: &'static [Need],
    /// What is done wrong.
    pub what: &'static str,
}

impl Exhibit {
    /// Whether the oracle is one that is named for the mistake.
    pub fn names(&self, oracle: &str) -> bool {
        self.oracle == oracle || self.also.contains(&oracle)
    }
}
