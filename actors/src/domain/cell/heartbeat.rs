//! Dead man's switch: a client that stops renewing has its unmatched orders cancelled, in every
//! market it has entered. The wallet's cell knows which; each market's cell does it.

use stakehold_raft::{machine::Stamp, mistake, reached};

use super::{Cell, turn::Turn};
use crate::domain::{
    command::{Effect, Message, Verdict},
    deadlines::Deadline,
    types::{AccountId, MarketId, Refusal},
    wallet::Heartbeat,
};

/// Below this, network and commits would trip it.
pub const MIN_HEARTBEAT_MS: u64 = 500;
/// Above this it protects nobody.
pub const MAX_HEARTBEAT_MS: u64 = 24 * 3_600_000;

impl Cell {
    /// Arms it, renews it, or with 0 disarms it.
    pub(super) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        timeout_ms: u64,
    ) -> Result<Verdict, Refusal> {
        if timeout_ms != 0 && !(MIN_HEARTBEAT_MS..=MAX_HEARTBEAT_MS).contains(&timeout_ms) {
            return Err(Refusal::InvalidAmount);
        }
        let next = (timeout_ms != 0).then(|| Heartbeat { timeout_ms, due: turn.stamp.saturating_add(timeout_ms) });
        let before = self
            .wallets
            .change(account, |wallet| std::mem::replace(&mut wallet.heartbeat, next))
            .ok_or(Refusal::UnknownAccount)?;
        if let Some(before) = before {
            self.head.deadlines.clear(before.due, Deadline::Heartbeat(account));
        }
        if let Some(next) = next.filter(|_| !mistake!("heartbeat.never_fires")) {
            self.head.deadlines.set(next.due, Deadline::Heartbeat(account));
        }
        Ok(Verdict::Done)
    }

    pub(super) fn heartbeat_expired(&mut self, turn: &mut Turn<'_>, account: AccountId, due: Stamp) {
        let disarmed = self.wallets.change(account, |wallet| wallet.heartbeat.take());
        assert!(
            disarmed.flatten().is_some_and(|heartbeat| heartbeat.due == due),
            "a heartbeat of account {account} expired that was not armed"
        );
        if mistake!("heartbeat.fires_again")
            && let Some(heartbeat) = disarmed.flatten()
        {
            // An account that has just had a heartbeat can have one.
            let _ = self.heartbeat(turn, account, heartbeat.timeout_ms);
        }
        reached!("heartbeat.expired");
        turn.tell(Effect::HeartbeatExpired { account });
        self.cancel_in_all(turn, account);
    }

    pub(super) fn cancel_everywhere(&mut self, turn: &mut Turn<'_>, account: AccountId) -> Result<Verdict, Refusal> {
        if self.wallets.get(account).is_none() {
            return Err(Refusal::UnknownAccount);
        }
        self.cancel_in_all(turn, account);
        Ok(Verdict::Done)
    }

    fn cancel_in_all(&mut self, turn: &mut Turn<'_>, account: AccountId) {
        let entered: Vec<MarketId> = self.wallets.get(account).map_or(Vec::new(), |wallet| wallet.markets().collect());
        for market in entered {
            match self.market_cell(market) {
                Some(to) if to == self.head.id => self.cancel_all_here(turn, account, market),
                Some(to) => {
                    reached!("cancel.sent_to_another_cell");
                    self.send(turn, to, Message::CancelAll { account, market });
                }
                None => {}
            }
        }
    }
}
