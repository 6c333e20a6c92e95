//! An order's way: the bet delay, then either one commit in the market's cell (no more money
//! needed), or a commit in the wallet's cell that sends money and order together, and the verdict
//! that comes back from the market's cell (architecture, section 2).

use std::{sync::Arc, time::Duration};

use super::{
    desk::{Decision, Desk},
    exchange::Exchange,
    wire::Failure,
};
use crate::{
    api::ApiError,
    domain::{
        cell::views::Needed,
        command::{Admission, Command, Fund, Instruction, OrderKey, Verdict},
        types::{Minor, OrderView, Refusal},
    },
};

/// Fundings of one order before its market's cell gives up on it.
const ATTEMPTS: u8 = 3;
/// Time past an order's deadline in which its verdict (EXPIRED, most likely) may still arrive.
const GRACE_MS: u64 = 500;

/// An order between its arrival and its verdict.
pub(super) struct Run {
    /// Follows the bet through the logs of both cells.
    request_id: u64,
    instruction: Instruction,
    key: OrderKey,
    /// What the order saw when it arrived; checked again when it is applied.
    admission: Admission,
    delay: Duration,
}

impl Run {
    /// Stamps the order with the market as it is now. The bet delay prolongs its deadline.
    pub(super) fn begin(desk: &Desk, request_id: u64, instruction: Instruction, good_until: u64) -> Self {
        let key = instruction.key();
        let (admission, delay_ms) = desk.read(|cell| {
            let delay_ms = cell.market(key.market).map_or(0, |market| market.bet_delay_ms());
            // An unknown market refuses the order whatever it carries.
            let unseen = Admission { epoch: 0, cancel_epoch: 0, good_until };
            (cell.admission(key.account, key.market, good_until + delay_ms).unwrap_or(unseen), delay_ms)
        });
        Self { request_id, instruction, key, admission, delay: Duration::from_millis(delay_ms) }
    }

    pub(super) async fn fly(self, desk: &Desk, exchange: &Arc<Exchange>) {
        let result = self.decide(desk, exchange).await;
        tracing::debug!(request_id = self.request_id, cell = %desk.id, result = ?result.as_ref().map(Result::is_ok), "landed");
        desk.land(&self.key, &result);
    }

    async fn decide(&self, desk: &Desk, exchange: &Arc<Exchange>) -> Result<Result<OrderView, Refusal>, Failure> {
        if !self.delay.is_zero() {
            // Nothing is promised meanwhile: no money moves before the delay is over.
            tokio::time::sleep(self.delay).await;
        }
        let (mut amount, mut attempt) = match desk.read(|cell| cell.needed(&self.instruction)) {
            Needed::Verdict(outcome) => return Ok(outcome),
            Needed::Funds(amount) => (amount, 1),
            Needed::More { short, attempt } => (short, attempt + 1),
        };
        loop {
            if attempt == 1 && amount == Minor::ZERO {
                // What the rules refuse goes through the log too, to be remembered.
                let command = Command::Execute { instruction: self.instruction.clone(), admission: self.admission };
                match desk.propose(command).await? {
                    Verdict::Accepted(order) => return Ok(Ok(order)),
                    Verdict::Refused(refusal) => return Ok(Err(refusal)),
                    Verdict::NeedsFunds(more) => amount = more,
                    Verdict::Pending { short, attempt: last } => (amount, attempt) = (short, last + 1),
                    other => unreachable!("an execute was answered with {other:?}"),
                }
                continue;
            }
            if attempt > ATTEMPTS {
                // The reservation's end in the market's cell decides it, and the money returns.
                return Ok(Err(Refusal::InsufficientFunds));
            }
            let decision = desk.wait_for(&self.instruction);
            let fund = Fund { instruction: self.instruction.clone(), admission: self.admission, attempt, amount };
            exchange.fund(fund, self.request_id).await?;
            tracing::debug!(request_id = self.request_id, cell = %desk.id, attempt, "funded");
            match self.until_decided(desk, decision).await? {
                Decision::Decided(outcome) => return Ok(outcome),
                Decision::Pending { short, attempt: last } => (amount, attempt) = (short, last + 1),
            }
        }
    }

    async fn until_decided(
        &self,
        desk: &Desk,
        decision: tokio::sync::oneshot::Receiver<Decision>,
    ) -> Result<Decision, Failure> {
        let now = desk.world.clock.now_ms();
        let left = Duration::from_millis((self.admission.good_until + GRACE_MS).saturating_sub(now));
        match tokio::time::timeout(left, decision).await {
            Ok(Ok(decision)) => Ok(decision),
            // This node no longer leads, or missed the effect: the reference finds the verdict.
            Ok(Err(_)) => Err(Failure::NotLeader(None)),
            Err(_) => Err(Failure::Api(ApiError::Unknown)),
        }
    }
}
