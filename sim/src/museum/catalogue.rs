//! The exhibits: which mistake, where, what it does, who must see it, and what a run must contain for
//! it to show. No behaviour: a test keeps the list and the code in step.

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

/// The exhibit of this name.
pub fn find(name: &str) -> Option<&'static Exhibit> {
    EXHIBITS.iter().find(|exhibit| exhibit.name == name)
}

use Level::{Cluster, Core, Disk, Plan};
use Need::*;

/// All of them, from the disk up to the feeds.
#[rustfmt::skip]
pub const EXHIBITS: &[Exhibit] = &[
    // -- the write-ahead log --
    Exhibit { name: "wal.acknowledge_before_sync", layer: "log", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[PowerLoss],
        what: "A batch of the log is acknowledged before it is on the disk." },
    Exhibit { name: "wal.trust_corrupt_batch", layer: "log", level: Cluster, oracle: "Raft", also: &["I7", "L1", "Crash"], needs: &[LogRot, Restarts],
        what: "Recovery takes a batch whose body does not match its checksum." },
    Exhibit { name: "wal.vote_lost_with_segment", layer: "log", level: Cluster, oracle: "Raft", also: &["I8", "Crash"], needs: &[SmallSegments, PowerLoss],
        what: "With the segment that is unlinked goes the only vote of a group." },
    Exhibit { name: "wal.unlink_needed_segment", layer: "log", level: Cluster, oracle: "L1", also: &["I8", "Raft"], needs: &[SmallSegments, PowerLoss],
        what: "A segment is unlinked that holds live entries: after a power loss nobody has them." },
    Exhibit { name: "wal.purge_point_lost_with_segment", layer: "log", level: Cluster, oracle: "L1", also: &["Raft", "Crash"], needs: &[SmallSegments, Restarts],
        what: "A checkpoint's purge point is not taken over." },
    Exhibit { name: "wal.notes_lost_with_segment", layer: "log", level: Cluster, oracle: "L1", also: &["Raft"], needs: &[SmallSegments, Wipe, Restarts],
        what: "A checkpoint's notes are not taken over, the incarnation among them." },
    Exhibit { name: "wal.damage_not_noted", layer: "log", level: Cluster, oracle: "Raft", also: &["I7", "I8", "L1", "Crash"], needs: &[LogRot, Restarts],
        what: "Nobody hears which cells have lost something." },
    Exhibit { name: "wal.rot_taken_for_torn", layer: "log", level: Cluster, oracle: "Raft", also: &["I8", "L1"], needs: &[LogRot, Restarts],
        what: "A last batch that has rotted is cut off as if it had never been whole." },

    // -- what a disk alone can show --
    Exhibit { name: "wal.last_batch_not_synced_again", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Recovery believes a last batch that may be in the page cache alone." },
    Exhibit { name: "wal.remains_written_over", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "The log goes on where the remains of a stopped write are." },
    Exhibit { name: "wal.remains_name_the_missing", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A batch is missing, and the remains of a stopped write with its number say whose it was." },
    Exhibit { name: "wal.stopped_write_missed", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "The number of a stopped write behind a rotten batch is not taken again, and then missed." },
    Exhibit { name: "wal.rotten_segment_left", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A segment without anything good in it stays when those around it go, and these are missed." },
    Exhibit { name: "wal.forgotten_group_is_back", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Recovery keeps what a group had before it was forgotten." },
    Exhibit { name: "wal.removed_note_is_back", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Recovery keeps a note that was removed." },
    Exhibit { name: "wal.commit_lost_with_segment", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A checkpoint's commit index is not taken over." },
    Exhibit { name: "wal.mark_not_read", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Recovery does not look at the mark that says how far the log was durable." },
    Exhibit { name: "wal.telling_mark_written_over", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A mark that alone says whose a missing batch was is written over." },
    Exhibit { name: "wal.verdict_not_synced", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "What says that something is missing is in the page cache alone, and looks otherwise next time." },
    Exhibit { name: "wal.filler_stays_lost", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A batch that is whole but for its filler goes on looking like a stopped write." },
    Exhibit { name: "wal.beginning_missed", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "What was before a rotten segment is missed, although it was unlinked." },
    Exhibit { name: "wal.hole_left_alone", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Segments before one that cannot be read are unlinked, and with them goes what is known of it." },
    Exhibit { name: "wal.unlinked_before_durable", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A segment is unlinked before the batch is durable that says it is not needed." },
    Exhibit { name: "wal.label_has_one_copy", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Of the two copies of the log's label only the first is looked at." },
    Exhibit { name: "wal.full_not_told", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Nobody hears that the disk is full while the log waits for room." },
    Exhibit { name: "snapshot.ids_not_verified", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A snapshot's log id and membership are not in its checksum." },
    Exhibit { name: "snapshot.remains_stay", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "A snapshot that was never finished stays on the disk." },
    Exhibit { name: "snapshot.older_ones_stay", layer: "log", level: Disk, oracle: "Disk", also: &[], needs: &[],
        what: "Snapshots that a newer one replaces stay on the disk." },

    // -- consensus --
    Exhibit { name: "log.vote_not_persisted", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8", "Crash"], needs: &[PowerLoss, Restarts],
        what: "A vote is kept in memory only." },
    Exhibit { name: "log.flush_not_awaited", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[PowerLoss],
        what: "An entry counts as flushed as soon as it is handed to the log." },
    Exhibit { name: "log.truncate_committed", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[PowerLoss],
        what: "A replica that starts drops its last entry, committed or not." },
    Exhibit { name: "log.tail_taken_for_committed", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I7"], needs: &[Restarts, Partitions],
        what: "A replica that starts applies everything in its log, committed or not." },
    Exhibit { name: "raft.leader_restore", layer: "consensus", level: Cluster, oracle: "I8", also: &["Raft"], needs: &[PowerLoss, Restarts],
        what: "A leader that restarts leads on in its own term, with a log that lost what was not flushed." },
    Exhibit { name: "raft.vote_without_log", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[Partitions, Restarts],
        what: "A voter does not ask whether the candidate's log is as long as its own." },
    Exhibit { name: "members.removed_voter_alive", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[Wipe, Partitions],
        what: "A rebuilt replica goes on answering in the name of the voter that it was before it lost its data." },
    Exhibit { name: "rejoin.notice_stays", layer: "consensus", level: Cluster, oracle: "L1", also: &[], needs: &[Wipe],
        what: "A replica that votes again is said to be rebuilt for ever." },
    Exhibit { name: "rejoin.keeps_its_vote", layer: "consensus", level: Cluster, oracle: "Raft", also: &["I8"], needs: &[Wipe, Partitions],
        what: "A replica that lost its data comes back under its old name, and votes at once." },
    Exhibit { name: "members.change_not_kept", layer: "consensus", level: Cluster, oracle: "L1", also: &["Raft", "I8"], needs: &[Wipe, Restarts],
        what: "A replica does not keep who its members are when that changes." },
    Exhibit { name: "read.without_quorum", layer: "consensus", level: Cluster, oracle: "I8", also: &["Linearizability"], needs: &[Partitions],
        what: "Who was a leader answers a read without asking whether it still is." },
    Exhibit { name: "list.without_quorum", layer: "actors", level: Cluster, oracle: "I8", also: &["Linearizability"], needs: &[Partitions],
        what: "Who was a leader lists an account's orders without asking whether it still is." },
    Exhibit { name: "list.leaves_out_a_cell", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[Partitions],
        what: "Of a list of all markets those of a cell that does not answer are left out." },
    Exhibit { name: "clock.fast_leader_leads", layer: "consensus", level: Cluster, oracle: "L1", also: &[], needs: &[ClockJumps],
        what: "A leader whose clock is far ahead goes on proposing, and takes the cell's time with it." },
    Exhibit { name: "lead.never_ticks", layer: "consensus", level: Cluster, oracle: "L1", also: &["Reference"], needs: &[Settlements, Heartbeats],
        what: "Deadlines wait until somebody wants something of the cell." },
    Exhibit { name: "lead.ticking_stays", layer: "consensus", level: Plan, oracle: "L1", also: &[], needs: &[],
        what: "A leader that lost its place over a tick waits for that tick when it leads again." },
    Exhibit { name: "lead.queue_kept", layer: "consensus", level: Cluster, oracle: "L1", also: &["I8", "Gateway"], needs: &[Partitions, Restarts],
        what: "What waits for a round when leadership is lost goes on waiting." },
    Exhibit { name: "lead.unknown_is_refused", layer: "consensus", level: Cluster, oracle: "Gateway", also: &["I8", "I4"], needs: &[Partitions, Reductions, PowerLoss],
        what: "Of what was proposed when leadership was lost it is said that nothing has happened." },
    Exhibit { name: "lead.nothing_taken_up", layer: "consensus", level: Cluster, oracle: "L1", also: &[], needs: &[Partitions, Restarts],
        what: "A new leader does not look for what the one before left to be done." },
    Exhibit { name: "lead.spins_without_quorum", layer: "consensus", level: Cluster, oracle: "Crash", also: &[], needs: &[HandOvers, InPlay],
        what: "A leader that has lost its quorum proposes a due deadline again, and again, without a pause." },
    Exhibit { name: "incarnation.not_noted", layer: "consensus", level: Cluster, oracle: "L1", also: &["Raft"], needs: &[Wipe, Restarts],
        what: "A new incarnation is not written down." },
    Exhibit { name: "incarnation.same_again", layer: "consensus", level: Cluster, oracle: "Raft", also: &["L1", "I8"], needs: &[Wipe, Restarts],
        what: "A replica that lost its data twice comes back as the same." },
    Exhibit { name: "mesh.same_numbers_in_every_life", layer: "consensus", level: Plan, oracle: "Raft", also: &["I3", "I8", "L1", "I7", "Crash"], needs: &[Restarts, Partitions, Restarts, Reductions],
        what: "An answer to a question of an earlier life is taken for one to a question of this life." },

    // -- snapshots --
    Exhibit { name: "snapshot.says_less", layer: "snapshots", level: Cluster, oracle: "I7", also: &["I1", "I3", "I4"], needs: &[Snapshots, Restarts],
        what: "A snapshot contains one entry more than it says: after a restart that one is applied twice." },
    Exhibit { name: "snapshot.watermarks_lost", layer: "snapshots", level: Core, oracle: "I7", also: &["I3", "L1"], needs: &[Snapshots, Restarts],
        what: "A snapshot leaves out how far messages from other cells were taken in." },
    Exhibit { name: "snapshot.outbox_dropped", layer: "snapshots", level: Core, oracle: "I3", also: &["I1", "I7"], needs: &[Snapshots, Restarts],
        what: "A snapshot leaves out the messages that are not acknowledged yet." },
    Exhibit { name: "snapshot.references_forgotten", layer: "snapshots", level: Core, oracle: "I7", also: &["I3", "I4"], needs: &[Snapshots, Restarts],
        what: "What was answered under which reference is forgotten when a snapshot is restored." },
    Exhibit { name: "snapshot.deadlines_lost", layer: "snapshots", level: Core, oracle: "I7", also: &["I3", "L1"], needs: &[Snapshots, Restarts],
        what: "A restored cell has no deadlines any more." },
    Exhibit { name: "snapshot.not_synced", layer: "snapshots", level: Cluster, oracle: "L1", also: &["I8", "Raft"], needs: &[Snapshots, PowerLoss],
        what: "The log forgets what a snapshot replaces before that is on the disk." },
    Exhibit { name: "snapshot.body_not_verified", layer: "snapshots", level: Cluster, oracle: "I7", also: &["I1", "L1"], needs: &[SnapshotRot, Restarts],
        what: "A damaged snapshot is restored as if it were whole." },
    Exhibit { name: "snapshot.missing_not_noticed", layer: "snapshots", level: Cluster, oracle: "L1", also: &["Raft", "Crash", "I7"], needs: &[SnapshotRot, Snapshots, Restarts],
        what: "Nobody looks whether there is a snapshot for what the log left out." },
    Exhibit { name: "snapshot.newest_removed_too", layer: "snapshots", level: Cluster, oracle: "Raft", also: &["L1"], needs: &[Snapshots, Restarts],
        what: "With the older snapshots goes the newest." },
    Exhibit { name: "install.members_forgotten", layer: "snapshots", level: Cluster, oracle: "L1", also: &["Raft", "I7"], needs: &[Snapshots, Wipe, Partitions, Restarts],
        what: "A snapshot's members are not taken over." },
    Exhibit { name: "install.not_kept", layer: "snapshots", level: Cluster, oracle: "Raft", also: &["L1"], needs: &[Snapshots, Partitions, Restarts],
        what: "A snapshot that a peer has sent is taken in and not written to the disk." },

    // -- streams between cells --
    Exhibit { name: "stream.gap_accepted", layer: "streams", level: Core, oracle: "I3", also: &["I1"], needs: &[Loss],
        what: "A cell takes in a message though the one before it is missing." },
    Exhibit { name: "stream.overlap_taken_twice", layer: "streams", level: Core, oracle: "I3", also: &["I1", "I4"], needs: &[Loss],
        what: "Of messages that are sent again, those that are known are taken in again with the new ones." },
    Exhibit { name: "pump.receipt_before_commit", layer: "streams", level: Cluster, oracle: "I3", also: &["I1", "I8"], needs: &[Loss],
        what: "Messages are acknowledged when they arrive, not when they are committed." },
    Exhibit { name: "pump.refusal_blocks", layer: "streams", level: Cluster, oracle: "L1", also: &[], needs: &[Loss],
        what: "A message that was refused once is never sent again, nor what follows it." },

    // -- apply --
    Exhibit { name: "ledger.block_not_chained", layer: "money", level: Core, oracle: "I9", also: &[], needs: &[],
        what: "A checkpoint says nothing of what was posted before its last block." },
    Exhibit { name: "snapshot.ledger_begins_anew", layer: "snapshots", level: Core, oracle: "I7", also: &["I9"], needs: &[],
        what: "A snapshot does not carry the ledger's hash." },
    Exhibit { name: "apply.time_goes_back", layer: "apply", level: Cluster, oracle: "I6", also: &["Reference"], needs: &[ClockJumps],
        what: "A cell's time is the clock of whoever leads it, and goes back when another one does." },
    Exhibit { name: "apply.wall_clock", layer: "apply", level: Core, oracle: "I7", also: &["Reference"], needs: &[],
        what: "An order is dated by the clock of the node that applies it." },
    Exhibit { name: "meta.sent_before_is_hidden", layer: "apply", level: Cluster, oracle: "I3", also: &["I7"], needs: &[Settlements],
        what: "A cell behind the meta cell's wrapper does not see what its entry has sent, and sends more beside it." },
    Exhibit { name: "apply.hash_order", layer: "apply", level: Cluster, oracle: "I7", also: &["I3"], needs: &[],
        what: "Margins are released in an order that differs from node to node." },
    Exhibit { name: "apply.deadline_after_command", layer: "apply", level: Core, oracle: "I6", also: &["Reference"], needs: &[ScheduledStarts],
        what: "A command is applied before a deadline that has come." },

    // -- references --
    Exhibit { name: "wallet.reference_not_remembered", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[Retries],
        what: "A deposit that comes again is credited again." },
    Exhibit { name: "execute.not_remembered", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[Retries],
        what: "An order that needed no money is placed a second time when its reference comes again." },
    Exhibit { name: "reference.content_not_compared", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[Retries],
        what: "Another call under a used reference gets the first one's answer." },

    Exhibit { name: "operator.content_not_compared", layer: "references", level: Cluster, oracle: "I4", also: &["Reference"], needs: &[],
        what: "An operator who says something else under a used reference gets the first one's answer." },

    // -- wallets --
    Exhibit { name: "statement.collection_not_noted", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[Resettlements],
        what: "What is collected from a wallet is in no line of its statement." },
    Exhibit { name: "statement.page_overlaps", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "A page of a statement begins with the line that ended the one before." },
    Exhibit { name: "discount.first_one_stays", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[Discounts],
        what: "In a market that an account has entered, another discount never counts." },
    Exhibit { name: "wallet.pays_what_is_in_markets", layer: "wallets", level: Core, oracle: "I2", also: &["Reference"], needs: &[],
        what: "Money that stands in markets can be withdrawn." },
    Exhibit { name: "wallet.debt_not_paid_first", layer: "wallets", level: Core, oracle: "I2", also: &["Reference"], needs: &[Resettlements],
        what: "Money that comes in is available although the account owes." },
    Exhibit { name: "wallet.cap_not_checked", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[Caps],
        what: "An account may have more in markets than its cap allows." },
    Exhibit { name: "wallet.cap_refuses_what_fits", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "An order that brings an account exactly to its cap is refused." },
    Exhibit { name: "heartbeat.never_fires", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[Heartbeats],
        what: "A heartbeat that is not renewed cancels nothing." },
    Exhibit { name: "heartbeat.fires_again", layer: "wallets", level: Core, oracle: "Reference", also: &[], needs: &[Heartbeats],
        what: "A heartbeat that has expired stays armed, and cancels what is placed later." },

    // -- the money protocol --
    Exhibit { name: "fund.refused_and_kept", layer: "money", level: Core, oracle: "I1", also: &["Reference"], needs: &[],
        what: "Money that came for an order is kept when the market refuses the order." },
    Exhibit { name: "pending.held_is_lost", layer: "money", level: Core, oracle: "I1", also: &["Reference"], needs: &[Pending],
        what: "What is held for a pending order does not go back when the wait ends." },
    Exhibit { name: "pending.never_ends", layer: "money", level: Core, oracle: "Reference", also: &["L1"], needs: &[Pending],
        what: "A pending order waits for its money for ever." },
    Exhibit { name: "order.funded_epoch_ignored", layer: "money", level: Core, oracle: "I6", also: &["Reference"], needs: &[Suspensions],
        what: "An order whose money was on its way during a suspension is accepted after it." },
    Exhibit { name: "order.deadline_ignored", layer: "money", level: Core, oracle: "I6", also: &["Reference"], needs: &[LateOrders],
        what: "An order matches past its deadline." },
    Exhibit { name: "cancel.no_tombstone", layer: "money", level: Core, oracle: "I4", also: &["Reference"], needs: &[CancelsInFunding],
        what: "An order that was cancelled while its money was on its way is placed when that comes." },
    Exhibit { name: "cancel.tombstone_takes_any_content", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[],
        what: "Under the reference of an order that was cancelled before it came, any other order is told that it is cancelled." },
    Exhibit { name: "final.forgotten_when_settled", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[],
        what: "A market forgets what it answered as soon as it is settled." },
    Exhibit { name: "final.decides_anew", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[],
        what: "A final market gives what it has forgotten a second verdict." },
    Exhibit { name: "references.split_loses_one", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[],
        what: "When a page of the index of answers is split, one answer is no longer found." },
    Exhibit { name: "raise.answers_forgotten", layer: "references", level: Core, oracle: "I4", also: &["Reference"], needs: &[],
        what: "A cell that gets a newer format forgets what it answered in the older one." },
    Exhibit { name: "cancel_all.misses_what_is_in_funding", layer: "money", level: Core, oracle: "I6", also: &["Reference"], needs: &[CancelsInFunding],
        what: "Cancel-all misses an order whose money is on its way." },
    Exhibit { name: "audit.in_flight_forgotten", layer: "money", level: Core, oracle: "I1", also: &[], needs: &[Audits],
        what: "An audit leaves out the money that crosses its cut." },

    Exhibit { name: "needed.margin_not_counted", layer: "money", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "An order asks the wallet for its whole worst case, although margin is there." },
    Exhibit { name: "credits.overtake_a_marker", layer: "money", level: Core, oracle: "I1", also: &[], needs: &[Audits],
        what: "Money joins a message that was sent before an audit's marker." },

    // -- markets --
    Exhibit { name: "admission.epochs_stop", layer: "markets", level: Core, oracle: "Reference", also: &[], needs: &[Suspensions],
        what: "After its second suspension a market lets orders in as of before it, and refuses each of them." },
    Exhibit { name: "order.of_another_account", layer: "markets", level: Cluster, oracle: "Reference", also: &["I8"], needs: &[],
        what: "Anybody can cancel, move and change anybody's order." },
    Exhibit { name: "order.small_stake_refused", layer: "markets", level: Cluster, oracle: "Reference", also: &[], needs: &[],
        what: "A stake below the minimum that stands to pay enough is refused." },
    Exhibit { name: "order.late_one_let_in", layer: "markets", level: Core, oracle: "I6", also: &["Reference"], needs: &[Suspensions],
        what: "An order that needs no money and was taken in before a suspension is accepted after it." },
    Exhibit { name: "market.takes_orders_while_suspended", layer: "markets", level: Core, oracle: "I6", also: &["Reference"], needs: &[Suspensions],
        what: "A suspended market takes orders." },
    Exhibit { name: "market.epoch_stays_in_play", layer: "markets", level: Core, oracle: "I6", also: &["Reference"], needs: &[InPlay],
        what: "An order that was taken in before the in-play turn is accepted after it." },
    Exhibit { name: "market.lapse_orders_stay", layer: "markets", level: Core, oracle: "Reference", also: &[], needs: &[InPlay],
        what: "Orders that should lapse at the in-play turn stay." },
    Exhibit { name: "market.start_forgotten", layer: "markets", level: Core, oracle: "I6", also: &["Reference"], needs: &[ScheduledStarts],
        what: "A market does not suspend itself at its start." },

    // -- matching --
    Exhibit { name: "match.own_order", layer: "matching", level: Core, oracle: "I5", also: &["Reference"], needs: &[],
        what: "An order matches another one of the same account." },
    Exhibit { name: "match.latest_first", layer: "matching", level: Core, oracle: "I5", also: &["Reference"], needs: &[],
        what: "Of the orders at a price the latest is matched first." },
    Exhibit { name: "match.at_takers_price", layer: "matching", level: Core, oracle: "I5", also: &["Reference"], needs: &[],
        what: "A match is made at the price of the order that came, not of the one that rested." },
    Exhibit { name: "match.rounded_up_for_both", layer: "matching", level: Core, oracle: "I2", also: &["I5", "Reference"], needs: &[Settlements],
        what: "What a match can bring is rounded in favour of both sides." },
    Exhibit { name: "cancel.subtracts_before_it_checks", layer: "markets", level: Plan, oracle: "Crash", also: &[], needs: &[],
        what: "A reduction is taken off before anybody looks whether it is a number that makes sense." },
    Exhibit { name: "reference.of_any_market", layer: "references", level: Core, oracle: "Reference", also: &["I4"], needs: &[],
        what: "An order's reference means the same in all of a cell's markets." },
    Exhibit { name: "removal.small_and_a_bit", layer: "markets", level: Core, oracle: "Reference", also: &["I5", "I2"], needs: &[Removals],
        what: "A reduction factor that is just no longer small reduces no price." },
    Exhibit { name: "replace.rounds_the_price", layer: "market", level: Core, oracle: "Reference", also: &["I5"], needs: &[],
        what: "A new price for an order that is between two steps of the ladder is rounded." },
    Exhibit { name: "replace.for_no_gain", layer: "market", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "An order is moved to a price where what is left of it can bring nobody a penny." },
    Exhibit { name: "order.enters_without_a_wallet", layer: "markets", level: Core, oracle: "Reference", also: &["Crash"], needs: &[],
        what: "An order without risk lets in an account that no wallet knows." },
    Exhibit { name: "order.persistence_not_told", layer: "market", level: Core, oracle: "I5", also: &[], needs: &[],
        what: "Who listens to an account's orders is not told that one of them is to stay in play." },
    Exhibit { name: "order.highest_stake_refused", layer: "market", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "A stake that is just what may be is refused." },
    Exhibit { name: "market.runner_by_its_place", layer: "market", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "A runner is looked up by its place and not by its number." },
    Exhibit { name: "removal.suspends_the_unopened", layer: "market", level: Core, oracle: "I6", also: &["Reference"], needs: &[],
        what: "A runner that is removed before the market opens suspends it." },
    Exhibit { name: "result.all_winners_wanted", layer: "settlement", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "A market in which others may win is not settled without as many winners as it has." },
    Exhibit { name: "result.winner_beside_a_dead_heat", layer: "settlement", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "A result with a winner and a dead heat for the next place is refused." },
    Exhibit { name: "queue.place_lost_by_reduction", layer: "matching", level: Core, oracle: "I5", also: &["Reference"], needs: &[Reductions],
        what: "An order that is reduced goes to the end of its queue." },
    Exhibit { name: "fill_or_kill.rest_stays", layer: "matching", level: Core, oracle: "Reference", also: &[], needs: &[FillOrKill],
        what: "What is left of a fill-or-kill order rests in the book." },
    Exhibit { name: "fill_or_kill.counts_own_orders", layer: "matching", level: Core, oracle: "Reference", also: &[], needs: &[FillOrKill],
        what: "The account's own orders count as an offer for its fill-or-kill." },

    Exhibit { name: "runner.traded_at_takers_price", layer: "matching", level: Core, oracle: "Reference", also: &[], needs: &[],
        what: "What was traded is shown at the price of the order that came." },

    // -- exposure --
    Exhibit { name: "exposure.unmatched_lay_forgotten", layer: "exposure", level: Core, oracle: "I2", also: &["Reference"], needs: &[],
        what: "An unmatched lay does not count in the worst case." },
    Exhibit { name: "market.releases_twice", layer: "exposure", level: Core, oracle: "I2", also: &["Reference"], needs: &[],
        what: "Margin that is no longer needed is released twice." },
    Exhibit { name: "cap.event_not_checked", layer: "exposure", level: Core, oracle: "Reference", also: &[], needs: &[Caps],
        what: "An account may have more at stake in an event than its markets allow." },

    // -- settlement --
    Exhibit { name: "settlement.step_begins_with_one_paid", layer: "settlement", level: Core, oracle: "I2", also: &["I5", "I6", "Reference"], needs: &[Settlements, ManySteps],
        what: "A settlement that is resumed pays again the account that was the last before." },
    Exhibit { name: "resettlement.without_reversal", layer: "settlement", level: Core, oracle: "Reference", also: &["I1", "I2", "I5", "I6"], needs: &[Resettlements],
        what: "A corrected result is paid on top of the wrong one." },
    Exhibit { name: "commission.on_a_loss", layer: "settlement", level: Core, oracle: "Reference", also: &["I2"], needs: &[Settlements],
        what: "Who loses pays commission too." },
    Exhibit { name: "commission.discount_twice", layer: "settlement", level: Core, oracle: "Reference", also: &[], needs: &[Settlements, Discounts],
        what: "A discount on commission is taken off twice." },
    Exhibit { name: "dead_heat.floor_for_each_runner", layer: "settlement", level: Core, oracle: "Reference", also: &["I2", "I5"], needs: &[DeadHeats],
        what: "A dead heat is rounded down for each runner, not once." },
    Exhibit { name: "removal.lays_stay", layer: "settlement", level: Core, oracle: "Reference", also: &[], needs: &[Removals],
        what: "Unmatched lays on the other runners survive a non-runner." },
    Exhibit { name: "removal.layers_not_reduced", layer: "settlement", level: Core, oracle: "Reference", also: &["I2", "I5"], needs: &[Removals],
        what: "A non-runner takes from the backers' winnings and leaves the layers' liabilities." },

    Exhibit { name: "result.void_not_told", layer: "settlement", level: Core, oracle: "I5", also: &[], needs: &[],
        what: "Who listens to an account's orders is not told that a result makes them void." },
    Exhibit { name: "result.too_many_winners", layer: "settlement", level: Cluster, oracle: "Reference", also: &["I1", "I2", "I5"], needs: &[Settlements],
        what: "A result may name more winners than the market has places." },
    Exhibit { name: "resettlement.after_final", layer: "settlement", level: Cluster, oracle: "Reference", also: &["I6"], needs: &[Resettlements],
        what: "A result that was final can be corrected." },

    // -- actors, gateway, feeds --
    Exhibit { name: "market.answers_before_commit", layer: "actors", level: Cluster, oracle: "Linearizability", also: &["I6", "I8"], needs: &[Suspensions],
        what: "A suspension is confirmed before it is committed." },
    Exhibit { name: "market.deposed_activation_answers", layer: "actors", level: Cluster, oracle: "I4", also: &["I8", "Linearizability"], needs: &[Partitions, Restarts],
        what: "A market's actor that loses its cell refuses what its successor accepts." },
    Exhibit { name: "start.a_cell_short", layer: "consensus", level: Plan, oracle: "L1", also: &[], needs: &[],
        what: "A node that cannot read the disk under one of its cells starts with the others." },
    Exhibit { name: "format.raised_without_asking", layer: "consensus", level: Cluster, oracle: "Format", also: &["Crash"], needs: &[Upgrades],
        what: "A leader raises its cell to the newest format that it knows itself." },
    Exhibit { name: "format.agreed_at_once", layer: "consensus", level: Plan, oracle: "Format", also: &[], needs: &[],
        what: "A format is agreed upon as soon as each node's last word knows it, be the node down and its program another." },
    Exhibit { name: "format.rule_before_its_time", layer: "wallets", level: Cluster, oracle: "Reference", also: &["I7"], needs: &[Upgrades],
        what: "A newer program applies its own rule to a cell whose format is older." },
    Exhibit { name: "format.snapshot_before_its_time", layer: "snapshots", level: Cluster, oracle: "Format", also: &["I7", "L1"], needs: &[Upgrades, Snapshots, Restarts],
        what: "A newer program writes snapshots that the older ones in the cluster cannot read." },
    Exhibit { name: "format.lost_in_the_snapshot", layer: "snapshots", level: Cluster, oracle: "I7", also: &["Reference", "I8"], needs: &[Upgrades, Snapshots],
        what: "A replica that is restored from a snapshot has the first format again." },
    Exhibit { name: "cancel.money_always_pending", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[Calm],
        what: "Whoever cancels is told that the money is on its way, although it is there." },
    Exhibit { name: "list.unsorted", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[],
        what: "The markets of all cells are listed by cell and not by number." },
    Exhibit { name: "statement.limit_ignored", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[],
        what: "A statement has more lines than were asked for." },
    Exhibit { name: "pump.every_round_is_this_one", layer: "streams", level: Cluster, oracle: "Crash", also: &["L1"], needs: &[],
        what: "An answer to what was sent before a stream began anew counts for what is sent now." },
    Exhibit { name: "fund.second_asks_for_all", layer: "actors", level: Cluster, oracle: "Gateway", also: &["Linearizability"], needs: &[],
        what: "When money was short, all of it is asked for once more, and not what is missing." },
    Exhibit { name: "order.cancel_in_its_delay_overlooked", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[InPlay],
        what: "An order in its bet delay outlives a cancel-all." },
    Exhibit { name: "order.nothing_done_although_short", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[SmallQueues, Pending, Retries],
        what: "Whose money is held, and more of it is short, is told that nothing was done." },
    Exhibit { name: "gateway.says_it_again", layer: "actors", level: Cluster, oracle: "Linearizability", also: &["Gateway"], needs: &[Suspensions, Partitions, Restarts],
        what: "A word of an operator whose answer was lost is said again, over what was said since." },
    Exhibit { name: "market.permit_leaked", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[SmallQueues],
        what: "An order that has its verdict keeps its place among those under way." },
    Exhibit { name: "admission.waiter_not_woken", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[InPlay, SmallQueues],
        what: "An order whose bet delay is over is told of room only by a call that leaves a cell full to the last place." },
    Exhibit { name: "order.bet_delay_skipped", layer: "actors", level: Cluster, oracle: "I6", also: &["Gateway"], needs: &[InPlay],
        what: "An order in play does not wait for the bet delay." },
    Exhibit { name: "rights.account_brings_money_in", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[],
        what: "An account credits itself." },
    Exhibit { name: "gateway.reduces_again", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[Reductions, Partitions, Restarts],
        what: "A reduction whose answer was lost is said again, and taken off twice." },
    Exhibit { name: "place.part_is_nothing", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[SmallQueues],
        what: "Of the orders of a call some are placed, and the call is answered as if none were." },
    Exhibit { name: "gateway.forgets_what_it_asked", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[SmallQueues, Partitions],
        what: "A call whose answer was lost is asked again, finds no room, and is answered as if it had never been asked." },
    Exhibit { name: "gateway.gives_up_on_what_it_asked", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[Partitions, Restarts, LateOrders],
        what: "A call whose answer was lost is asked again, finds no leader by its deadline, and is answered as if it had never been asked." },
    Exhibit { name: "cancel.part_is_nothing", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[Reductions, SmallQueues],
        what: "Of two reductions one is done, and the call is answered as if none were." },
    Exhibit { name: "cancel.money_not_awaited", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[CancelsInFunding],
        what: "A cancel is answered as if the money were back in the wallet, and it is on its way." },
    Exhibit { name: "retry.joins_another_content", layer: "actors", level: Cluster, oracle: "I8", also: &["I4"], needs: &[Retries],
        what: "Another order under a reference that is under way gets the first one's answer." },
    Exhibit { name: "heartbeat.answered_before_commit", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[Heartbeats, Partitions, Restarts],
        what: "A heartbeat is confirmed before it is committed." },
    Exhibit { name: "market.stays_awake", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[],
        what: "A market's actor is never put to sleep." },
    Exhibit { name: "disk.full_takes_orders", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[FullDisks, SmallSegments],
        what: "A node whose disk is full takes new orders, and there is soon no room for cancels." },
    Exhibit { name: "order.change_told_as_expiry", layer: "actors", level: Cluster, oracle: "I4", also: &[], needs: &[Suspensions, InPlay],
        what: "An order that came too late for its market as it was is told that its deadline had passed." },
    Exhibit { name: "disk.full_refuses_cancels", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[FullDisks, SmallSegments],
        what: "A node whose disk is full refuses cancels and settlements too." },
    Exhibit { name: "admission.no_limit", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[SmallQueues],
        what: "A cell takes in more calls than it has room for." },
    Exhibit { name: "order.admitted_after_its_delay", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[InPlay, Suspensions],
        what: "An order in play sees its market when its delay is over, not when it came." },
    Exhibit { name: "order.deadline_not_prolonged", layer: "actors", level: Cluster, oracle: "Gateway", also: &["I6"], needs: &[InPlay],
        what: "The bet delay is taken off an order's time." },
    Exhibit { name: "order.sends_without_waiting", layer: "actors", level: Cluster, oracle: "I5", also: &[], needs: &[Calm],
        what: "An order of a call is sent to be funded before the one in front of it." },
    Exhibit { name: "order.free_one_goes_ahead", layer: "actors", level: Cluster, oracle: "I5", also: &[], needs: &[Calm],
        what: "An order that needs no money goes to its market before those in front of it have come back from the wallet." },
    Exhibit { name: "admission.delayed_count_for_ever", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[InPlay],
        what: "Orders whose bet delay is over go on counting as delayed." },
    Exhibit { name: "status.digest_of_an_older_entry", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[Audits],
        what: "A status shows the hash of an earlier state beside a later entry." },
    Exhibit { name: "status.followed_counts_as_led", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[Calm],
        what: "Of a node it is said that it leads the cells it follows." },
    Exhibit { name: "drain.hands_nothing_over", layer: "raft", level: Cluster, oracle: "L1", also: &[], needs: &[HandOvers],
        what: "A node that drains keeps what it leads until it stops." },
    Exhibit { name: "reference.case_is_ignored", layer: "actors", level: Cluster, oracle: "I1", also: &["Reference", "I4", "I8"], needs: &[],
        what: "References that differ in capitals alone are one." },
    Exhibit { name: "mesh.refused_replies_are_lost", layer: "raft", level: Cluster, oracle: "L1", also: &[], needs: &[Relays],
        what: "Replies are lost for which the transport has no room, while the connection stays: whoever asked waits for ever." },
    Exhibit { name: "disk.full_is_called_busy", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[FullDisks, Calm],
        what: "Whoever bets on a node with a full disk is told that it is busy." },
    Exhibit { name: "admission.others_shed_like_orders", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[SmallQueues, Calm],
        what: "Cancels and settlement find no room when orders find none." },
    Exhibit { name: "outbox.age_never_ends", layer: "actors", level: Cluster, oracle: "L1", also: &[], needs: &[],
        what: "Messages that have arrived count as waiting for ever." },
    Exhibit { name: "token.unknown_is_the_first", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[],
        what: "A token that nobody made is taken for the first that was made." },
    Exhibit { name: "gateway.gives_up_at_once", layer: "actors", level: Cluster, oracle: "Gateway", also: &[], needs: &[Partitions, Restarts],
        what: "A call is told that nobody leads as soon as nobody does." },
    Exhibit { name: "lead.never_spread", layer: "consensus", level: Cluster, oracle: "L1", also: &[], needs: &[Calm, Restarts],
        what: "A leader that is not where the placement has it stays." },
    Exhibit { name: "alarm.earlier_one_not_heard", layer: "consensus", level: Cluster, oracle: "L1", also: &[], needs: &[Calm, Heartbeats, Pending],
        what: "An alarm that is set for before the next one waits for that." },
    Exhibit { name: "log.never_compacted", layer: "log", level: Cluster, oracle: "L1", also: &[], needs: &[Calm, RareSnapshots],
        what: "Nobody is asked to let go of the entries that keep an old segment." },
    Exhibit { name: "log.purge_asked_for_ever", layer: "log", level: Cluster, oracle: "L1", also: &[], needs: &[Partitions, Restarts, Suspensions],
        what: "A purge that consensus has put off and forgotten is asked for again and again, and no newer snapshot is taken." },
    Exhibit { name: "log.purge_waits_for_company", layer: "log", level: Cluster, oracle: "L1", also: &[], needs: &[Calm, RareSnapshots],
        what: "That entries are purged is written only with what somebody waits for." },
    Exhibit { name: "order.silence_is_expired", layer: "actors", level: Cluster, oracle: "Linearizability", also: &["I4", "I8"], needs: &[Partitions, Loss, Retries, LateOrders, Pending],
        what: "No verdict in time is taken for the verdict that the order came too late." },
    Exhibit { name: "audit.asks_who_led_before", layer: "actors", level: Plan, oracle: "L1", also: &[], needs: &[Partitions],
        what: "A node without a replica of a cell goes on asking whom it once knew to lead it." },
    Exhibit { name: "audit.commission_left_out", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[Audits, Settlements],
        what: "An audit's answer leaves out the commission." },
    Exhibit { name: "orders.of_a_market_left_out", layer: "actors", level: Cluster, oracle: "I8", also: &[], needs: &[],
        what: "The list of an account's orders lacks a market." },
    Exhibit { name: "feed.delta_out_of_order", layer: "feeds", level: Cluster, oracle: "Feed", also: &[], needs: &[Feeds],
        what: "Changes of a market reach its followers out of order." },
    Exhibit { name: "feed.image_skips_one", layer: "feeds", level: Cluster, oracle: "Feed", also: &[], needs: &[Feeds],
        what: "The first change after an image is taken for one that the image has." },
    Exhibit { name: "feed.gap_not_told", layer: "feeds", level: Cluster, oracle: "Feed", also: &[], needs: &[Feeds, Snapshots, Partitions],
        what: "Nobody who follows a market hears that its replica jumped." },
    Exhibit { name: "feed.relay_gap_not_told", layer: "feeds", level: Cluster, oracle: "Feed", also: &[], needs: &[Relays],
        what: "Nobody who follows a market through another node hears that this one does not know what came before." },

    // -- what the corpus remembers --
    Exhibit { name: "wal.written_elsewhere_and_not_missed", layer: "log", level: Plan, oracle: "Raft", also: &[], needs: &[],
        what: "The last batch of the log was written to the wrong place, and nobody misses it." },
    Exhibit { name: "lead.node_goes_on_without_a_cell", layer: "consensus", level: Plan, oracle: "Crash", also: &["L1"], needs: &[],
        what: "A node whose disk has ended the consensus of a cell goes on with the others." },
    Exhibit { name: "rejoin.asks_in_its_first_second", layer: "consensus", level: Plan, oracle: "Raft", also: &[], needs: &[],
        what: "A node that is wiped twice within a second comes back as the same incarnation twice." },
    Exhibit { name: "wal.failed_sync_is_tried_again", layer: "log", level: Plan, oracle: "Raft", also: &[], needs: &[],
        what: "A batch whose sync failed is written once more, and the node goes on." },
    Exhibit { name: "tick.before_its_line", layer: "consensus", level: Plan, oracle: "Crash", also: &[], needs: &[],
        what: "A sleep that is nearly over is over: consensus ticks for the same moment, and again." },
    Exhibit { name: "clock.right_again_and_nothing_taken_up", layer: "consensus", level: Plan, oracle: "L1", also: &[], needs: &[],
        what: "A node whose clock is right again does not look for what was kept back meanwhile." },
    Exhibit { name: "round.due_acknowledgement_lost", layer: "streams", level: Plan, oracle: "L1", also: &[], needs: &[],
        what: "An acknowledgement that became due during a round is forgotten." },
    Exhibit { name: "order.repeat_serves_its_delay_again", layer: "actors", level: Plan, oracle: "L1", also: &[], needs: &[],
        what: "Whoever asks for a verdict again serves the bet delay again." },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sources;

    #[test]
    fn every_mistake_in_the_code_is_an_exhibit_and_every_exhibit_is_in_the_code() {
        let listed: BTreeSet<String> = EXHIBITS.iter().map(|exhibit| exhibit.name.to_owned()).collect();
        assert_eq!(listed.len(), EXHIBITS.len(), "a name is listed twice");
        assert_eq!(sources::names("mistake"), listed);
    }

    #[test]
    fn there_are_enough_of_them_in_every_layer() {
        assert!(EXHIBITS.len() >= 45, "{} exhibits", EXHIBITS.len());
        for level in [Core, Cluster] {
            assert!(EXHIBITS.iter().filter(|exhibit| exhibit.level == level).count() >= 20);
        }
        for exhibit in EXHIBITS {
            assert!(exhibit.what.ends_with('.') && !exhibit.also.contains(&exhibit.oracle), "{}", exhibit.name);
            assert_eq!(find(exhibit.name).map(|found| found.what), Some(exhibit.what));
        }
    }
}
