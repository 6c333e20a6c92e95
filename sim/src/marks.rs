//! The places that simulations must reach, and the things that happen seldom and that they make happen
//! often. No behaviour: a test keeps the lists and the code in step. A mark that no run of the corpus
//! reaches is a failure: whatever is behind it was not tried.

/// A place in the code that says when it was reached, or asks whether something seldom is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Area and what, as `reached!` and `seldom!` have it.
    pub name: &'static str,
    /// When it is reached, or what happens there.
    pub what: &'static str,
}

const fn mark(name: &'static str, what: &'static str) -> Mark {
    Mark { name, what }
}

/// What must be reached.
#[rustfmt::skip]
pub const MARKS: &[Mark] = &[
    // -- money on its way to a market --
    mark("fund.sent", "Money has left a wallet with an order, for another cell."),
    mark("fund.within_a_cell", "Wallet and market are in one cell, and the order is decided in the same apply."),
    mark("fund.wallet_could_not_pay", "An order goes to its market without the money."),
    mark("fund.arrived", "An order with its money has come to its market's cell."),
    mark("fund.pending", "What came is not enough any more: it is held, and more is asked for."),
    mark("fund.second", "More money has come for a pending order."),
    mark("fund.same_again", "The same funding has come twice."),
    mark("fund.already_decided", "Money has come for an order that has its verdict."),
    mark("fund.returned", "Money that came for an order goes back."),
    mark("pending.expired", "A pending order's time is over."),
    mark("pending.outdated", "A pending order ends because its market has changed."),
    mark("pending.cancelled", "A pending order is cancelled by its reference."),
    mark("cancel.tombstone", "An order is cancelled whose money is on its way."),
    mark("cancel.tombstone_met", "A call comes whose verdict stood before it."),
    mark("final.forgotten", "A market becomes final, and what it answered is forgotten."),
    mark("final.asked_again", "An instruction comes for a market that has forgotten what it answered."),
    mark("references.index_split", "Answers are so many that a page of their index is split."),
    mark("cancel.sent_to_another_cell", "A wallet sends word to a market to cancel everything."),
    mark("order.expired", "An order comes past its deadline."),
    mark("order.cancelled_on_its_way", "An order comes that was taken in before a cancel-all."),
    mark("order.market_changed_meanwhile", "An order comes that was taken in before its market changed."),
    mark("order.bet_delay_served", "An order in play has waited for the bet delay."),
    mark("order.waited_for_room", "An order's bet delay is over, and there is no room for it yet."),
    mark("order.leadership_lost_in_funding", "The node that waits for an order's verdict leads its market no longer."),

    // -- money on its way back --
    mark("money.sent_back", "Money goes back to a wallet in another cell."),
    mark("money.paid_a_debt", "Money that comes back pays what the account owes."),
    mark("money.collected", "A market takes money back from a wallet."),
    mark("money.owed", "A market takes more back than there is, and the account owes the rest."),
    mark("audit.crossed_by_money", "An audit counts money that crosses its cut."),

    // -- a market's life --
    mark("market.suspended_at_its_start", "A market suspends itself at its start."),
    mark("market.lapsed_in_play", "Orders lapse at the in-play turn."),
    mark("match.own_order_cancelled", "An order meets one of the same account, which is cancelled."),
    mark("heartbeat.expired", "A heartbeat was not renewed."),
    mark("removal.reduces", "A non-runner shortens the price of a bet on another runner."),
    mark("removal.collects", "A non-runner raises an exposure above what the account has in the market."),
    mark("settle.in_steps", "A settlement is not through after a step."),
    mark("settle.resumed", "A node begins to lead a cell in the middle of a settlement."),
    mark("settle.paid", "A settlement is through."),
    mark("settle.corrected", "A corrected settlement is through."),
    mark("settle.final", "A settlement is made final."),

    // -- streams between cells --
    mark("stream.gap_refused", "A run of messages comes before the one in front of it."),
    mark("stream.duplicate_skipped", "A run of messages comes that was taken in before."),
    mark("stream.overlap_skipped", "Of a run of messages a part was taken in before."),
    mark("stream.paused", "A stream waits before it is tried again."),

    // -- the write-ahead log --
    mark("wal.segment_unlinked", "A segment that nobody needs is gone."),
    mark("wal.torn_tail_cut", "A write that a crash stopped is cut off."),
    mark("wal.damage_found", "Recovery finds that something acknowledged is lost."),
    mark("wal.sync_failed", "A write or its sync failed, and the node ends."),
    mark("wal.disk_full", "There is no room for another segment."),
    mark("wal.room_again", "There is room for a segment where there was none."),
    mark("log.truncated", "Another leader's entries take the place of some that were not committed."),
    mark("log.purged", "Entries are forgotten that a snapshot replaces."),

    // -- snapshots --
    mark("snapshot.built", "A snapshot is on the disk."),
    mark("snapshot.disk_full", "A snapshot finds no room."),
    mark("snapshot.received", "A whole snapshot has come from a peer."),
    mark("snapshot.read_back", "A snapshot is read back: a replica starts from it, or a peer needs it."),

    // -- leaders and replicas --
    mark("vote.refused", "A vote is refused."),
    mark("vote.pre_vote_refused", "A pre-vote is refused."),
    mark("lead.lost", "A leader that takes proposals is one no longer."),
    mark("lead.lost_with_rounds_under_way", "A leader loses its cell, and whoever waits there does not know the outcome."),
    mark("lead.alone", "A leader that no quorum has answered lately takes nothing in."),
    mark("lead.transferred", "A replica is handed leadership."),
    mark("lead.kept_after_hand_over", "A hand-over did not come about."),
    mark("round.rejected", "A leader proposes, and its consensus does not take it: it has lost its quorum, or the cell."),
    mark("read.index_shared", "Several readers share one confirmation of the leader."),
    mark("read.no_quorum", "A leader asks for its confirmation, and no quorum answers."),
    mark("clock.ahead_so_leads_nothing", "A node's clock is too far ahead, and it leads nothing."),
    mark("rejoin.new_incarnation", "A replica that lost its data comes back under another name."),
    mark("rejoin.voter_replaced", "A rebuilt replica votes in the place of its former incarnation."),
    mark("rejoin.former_incarnation_ignored", "Something was said to or by a former incarnation, or to another one than this."),

    // -- actors, gateway, feeds --
    mark("retry.joined", "A call joins the one with its reference that is under way."),
    mark("retry.with_another_content", "A call has the reference of another one that is under way."),
    mark("format.raised", "A cell is raised to a newer format."),
    mark("format.not_known_to_all", "A node knows a newer format than another one."),
    mark("busy.refused", "There are too many calls under way in a cell."),
    mark("busy.cell_refused", "There is too much waiting for a round of a cell."),
    mark("busy.disk_full", "An order is refused because the disk is full."),
    mark("actor.passivated", "An idle actor is put to sleep."),
    mark("actor.let_go_with_its_cell", "An actor ends because its node leads the cell no longer."),
    mark("gateway.asks_again", "The outcome of a call is not known, and the gateway asks again."),
    mark("gateway.busy_when_asked_again", "A call whose outcome is not known is asked again, and there is no room for it."),
    mark("gateway.nobody_leads", "A call finds no leader for so long that it is told so."),
    mark("gateway.gave_up_with_the_outcome_open", "A call whose outcome is not known is asked again until its deadline, and nobody answers."),
    mark("mesh.replies_kept", "Replies for which the transport has no room are sent later."),
    mark("feed.lagged", "Whoever follows a market has missed something and gets the whole book."),
    mark("feed.relayed", "A node without a replica of a market told what it heard from another one."),
    mark("feed.relay_lost_touch", "The node that was asked did not know what came before, and whoever follows gets the whole book."),
    mark("feed.cell_jumped", "A snapshot took the place of changes that a cell's followers were to see."),
];

/// What happens seldom, and in a simulation as often as its plan says. None of it is in the pure code of
/// a cell, whose replicas would differ.
#[rustfmt::skip]
pub const SELDOM: &[Mark] = &[
    mark("wal.slow_sync", "A write to the log begins a few milliseconds later."),
    mark("wal.small_batch", "Entries begin a batch of their own."),
    mark("log.commit_not_noted", "The commit index is not noted in the log."),
    mark("snapshot.early", "A cell makes a snapshot, or lets go of entries behind one, before it must."),
    mark("snapshot.transfer_given_up", "A snapshot is given up on its way to a peer."),
    mark("round.delayed", "A round waits a few milliseconds between its making and its proposal."),
    mark("round.small", "A round takes only one of what waits."),
    mark("read.late_round", "A reader's confirmation begins a few milliseconds later."),
    mark("lead.given_away", "A node hands over a cell that it should lead."),
    mark("lead.hand_over_lost", "A hand-over does not reach anybody."),
    mark("mesh.no_room", "The transport has no room for a frame, and the connection stays."),
    mark("pump.small_run", "A run of messages is one message."),
    mark("pump.sends_again", "Messages that are not acknowledged are sent once more."),
    mark("busy.at_once", "A call is refused as if too many were under way."),
    mark("busy.queue_full", "A command or a message is refused as if too much waited."),
    mark("actor.passivated_at_once", "Actors are put to sleep as soon as they have nothing to do."),
    mark("gateway.answer_lost", "The answer of another node is lost, and the gateway asks again."),
    mark("fund.answer_lost", "That money is on its way is not heard, and it is sent again."),
    mark("feed.image_at_once", "Whoever follows a market gets the whole book in place of the next change."),
    mark("feed.recent_forgotten", "A replica that tells others what its markets do has forgotten what came before."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sources;

    fn listed(marks: &[Mark]) -> BTreeSet<String> {
        let names: BTreeSet<String> = marks.iter().map(|mark| mark.name.to_owned()).collect();
        assert_eq!(names.len(), marks.len(), "a name is listed twice");
        assert!(marks.iter().all(|mark| mark.name.contains('.') && mark.what.ends_with('.')));
        names
    }

    #[test]
    fn every_mark_in_the_code_is_listed_and_every_listed_one_is_in_the_code() {
        assert_eq!(sources::names("reached"), listed(MARKS));
        assert_eq!(sources::names("seldom"), listed(SELDOM));
    }
}
