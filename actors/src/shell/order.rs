//! An order's way: the bet delay, then either one commit in the market's cell (no more money
//! needed), or a commit in the wallet's cell that sends money and order together, and the verdict
//! that comes back from the market's cell (architecture, section 2).

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::Shared};
use stakehold_raft::{mistake, reached, timer};
use tokio::sync::oneshot;

use super::{
    admission::Permit,
    desk::{Decision, Desk},
    exchange::Exchange,
    wire::Failure,
};
use crate::{
    api::{ApiError, RequestId},
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

type Signal = Shared<oneshot::Receiver<()>>;

/// An order's place among those of its call, which are carried out in the order they were given.
///
/// Those that need money go to the wallet's cell one behind the other and stay in order by themselves;
/// one that needs none would overtake them, so it waits until they have landed.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Of the order before: it is on its way; nothing can come before what follows it any longer.
    before: Option<(Signal, Signal)>,
    sent: Option<oneshot::Sender<()>>,
    passed: Option<oneshot::Sender<()>>,
}

impl Line {
    /// Places for so many orders.
    pub(super) fn form(count: usize) -> Vec<Line> {
        let mut line: Vec<Line> = std::iter::repeat_with(Line::default).take(count).collect();
        for second in 1..count {
            let ((sent, is_sent), (passed, has_passed)) = (oneshot::channel(), oneshot::channel());
            (line[second - 1].sent, line[second - 1].passed) = (Some(sent), Some(passed));
            line[second].before = Some((is_sent.shared(), has_passed.shared()));
        }
        line
    }

    // A signal that is dropped says the same as one that is given: that order is out of the way.

    async fn until_sent(&self) {
        if let Some((sent, _)) = self.before.as_ref().filter(|_| !mistake!("order.sends_without_waiting")) {
            let _ = sent.clone().await;
        }
    }

    async fn until_passed(&self) {
        if let Some((_, passed)) = self.before.as_ref().filter(|_| !mistake!("order.free_one_goes_ahead")) {
            let _ = passed.clone().await;
        }
    }

    fn sent(&mut self) {
        self.sent.take();
    }

    fn passed(&mut self) {
        self.sent();
        self.passed.take();
    }
}

/// An order between its arrival and its verdict.
pub(super) struct Run {
    /// Follows the bet through the logs of both cells.
    request_id: u64,
    instruction: Instruction,
    key: OrderKey,
    /// What the order saw when it arrived; checked again when it is applied.
    admission: Admission,
    delay: Duration,
    line: Line,
}

impl Run {
    /// Stamps the order with the market as it is now. The bet delay prolongs its deadline.
    pub(super) fn begin(desk: &Desk, request_id: u64, instruction: Instruction, good_until: u64, line: Line) -> Self {
        let key = instruction.key();
        let (admission, delay_ms) = desk.read(|cell| {
            let delay_ms = cell.market(key.market).map_or(0, |market| market.bet_delay_ms());
            // An unknown market refuses the order whatever it carries.
            let unseen = Admission { epoch: 0, cancel_epoch: 0, good_until };
            let until = if mistake!("order.deadline_not_prolonged") { good_until } else { good_until + delay_ms };
            (cell.admission(key.account, key.market, until).unwrap_or(unseen), delay_ms)
        });
        Self { request_id, instruction, key, admission, delay: Duration::from_millis(delay_ms), line }
    }

    pub(super) async fn fly(mut self, desk: &Desk, exchange: &Arc<Exchange>, permit: &mut Permit) {
        let result = self.decide(desk, exchange, permit).await;
        let (request_id, result_ok) = (RequestId(self.request_id), result.as_ref().map(Result::is_ok));
        tracing::debug!(%request_id, cell = %desk.id, result = ?result_ok, "landed");
        let result = match result {
            Ok(Err(Refusal::MarketChanged)) if mistake!("order.change_told_as_expiry") => Ok(Err(Refusal::Expired)),
            result => result,
        };
        desk.land(&self.key, &result);
        self.line.until_passed().await;
        self.line.passed();
    }

    async fn decide(
        &mut self,
        desk: &Desk,
        exchange: &Arc<Exchange>,
        permit: &mut Permit,
    ) -> Result<Result<OrderView, Refusal>, Failure> {
        // A verdict stands: whoever asks for it again does not serve the bet delay again.
        if let Needed::Verdict(outcome) = desk.read(|cell| cell.needed(&self.instruction))
            && !mistake!("order.repeat_serves_its_delay_again")
        {
            return Ok(outcome);
        }
        if !self.delay.is_zero() && !mistake!("order.bet_delay_skipped") {
            // Nothing is promised meanwhile: no money moves before the delay is over.
            permit.begin_delay();
            timer::sleep(self.delay).await;
            reached!("order.bet_delay_served");
            let (OrderKey { account, market, .. }, before) = (&self.key, self.admission);
            let now = || desk.read(|cell| cell.admission(*account, *market, before.good_until)).unwrap_or(before);
            if mistake!("order.admitted_after_its_delay") {
                self.admission = now();
            } else if mistake!("order.cancel_in_its_delay_overlooked") {
                self.admission.cancel_epoch = now().cancel_epoch;
            }
        }
        self.line.until_sent().await;
        // Only now: whoever took room and waited for the one in front could keep it from the room it needs.
        permit.end_delay().await;
        let mut needed = desk.read(|cell| cell.needed(&self.instruction));
        if needed == Needed::Funds(Minor::ZERO) {
            self.line.until_passed().await;
            needed = desk.read(|cell| cell.needed(&self.instruction));
        }
        let (mut amount, mut attempt) = match needed {
            Needed::Verdict(outcome) => return Ok(outcome),
            Needed::Funds(amount) => (amount, 1),
            Needed::More { short, attempt } => (short, attempt + 1),
        };
        loop {
            if attempt == 1 && amount == Minor::ZERO {
                // What the rules refuse goes through the log too, to be remembered.
                let command = Command::Execute { instruction: self.instruction.clone(), admission: self.admission };
                // It is in the queue before whoever waits for this runs.
                self.line.passed();
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
            // It is under way before whoever waits for this runs.
            self.line.sent();
            // What it was given before may decide it yet.
            exchange
                .fund(fund, self.request_id)
                .await
                .map_err(|why| why.if_open(attempt > 1 && !mistake!("order.nothing_done_although_short")))?;
            tracing::debug!(request_id = %RequestId(self.request_id), cell = %desk.id, attempt, "funded");
            match self.until_decided(desk, decision).await? {
                Decision::Decided(outcome) => return Ok(outcome),
                Decision::Pending { attempt: last, .. } if mistake!("fund.second_asks_for_all") => attempt = last + 1,
                Decision::Pending { short, attempt: last } => (amount, attempt) = (short, last + 1),
            }
        }
    }

    async fn until_decided(&self, desk: &Desk, decision: oneshot::Receiver<Decision>) -> Result<Decision, Failure> {
        let now = desk.world.clock.now_ms();
        let left = Duration::from_millis((self.admission.good_until + GRACE_MS).saturating_sub(now));
        match timer::timeout(left, decision).await {
            Ok(Ok(decision)) => Ok(decision),
            // This node no longer leads, or missed the effect: the reference finds the verdict.
            Ok(Err(_)) if mistake!("market.deposed_activation_answers") => Ok(Decision::Decided(Err(Refusal::Expired))),
            Ok(Err(_)) => {
                reached!("order.leadership_lost_in_funding");
                Err(Failure::Api(ApiError::Unknown))
            }
            Err(_) if mistake!("order.silence_is_expired") => Ok(Decision::Decided(Err(Refusal::Expired))),
            Err(_) => Err(Failure::Api(ApiError::Unknown)),
        }
    }
}
