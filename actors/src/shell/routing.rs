//! Finding the leader of what a call is about and asking it, again if leadership moves, until the
//! caller's deadline; and answering other nodes that ask here.

use std::{sync::Arc, time::Duration};

use stakehold_raft::{CellId, NodeId, host::RequestError, ids::kind, mistake, reached, seldom, timer};

use super::{
    exchange::{Exchange, RETRY},
    patience::answered_by,
    wire::{Answer, Ask, Failure, decode, encode},
};
use crate::{
    api::{ApiError, Call, Request, RequestId, Response},
    domain::{
        command::{Command, Fund, OrderKey, Verdict},
        types::{AccountId, MarketId, Refusal},
    },
};

impl Exchange {
    pub(super) fn cell_of(&self, request: &Request) -> Result<CellId, ApiError> {
        use Request as R;
        let of_account = |account: &AccountId| Ok(self.wallet_cell(*account));
        let of_market = |market: &MarketId| self.market_cell(*market);
        match request {
            R::CreateAccount { account, .. }
            | R::GetAccount { account }
            | R::Deposit { account, .. }
            | R::Withdraw { account, .. }
            | R::SetAccountCap { account, .. }
            | R::SetAccountDiscount { account, .. }
            | R::Statement { account, .. }
            | R::Heartbeat { account, .. }
            | R::CancelAll { account, market: None }
            | R::ListOrders { account, market: None } => of_account(account),
            R::CreateMarket { definition, .. } => Ok(self.cells.cell_of(kind::EVENT, definition.event.0)),
            R::GetMarket { market }
            | R::Book { market }
            | R::OpenMarket { market }
            | R::SuspendMarket { market }
            | R::TurnInPlay { market, .. }
            | R::Settle { market, .. }
            | R::Resettle { market, .. }
            | R::Finalise { market }
            | R::RemoveRunner { market, .. }
            | R::Place { market, .. }
            | R::Cancel { market, .. }
            | R::CancelAll { market: Some(market), .. }
            | R::Replace { market, .. }
            | R::SetPersistence { market, .. }
            | R::ListOrders { market: Some(market), .. } => of_market(market),
            R::ListMarkets | R::Status | R::Audit => Err(ApiError::Unavailable),
        }
    }

    pub(super) fn wallet_cell(&self, account: AccountId) -> CellId {
        self.cells.cell_of(kind::ACCOUNT, account.0)
    }

    pub(super) fn market_cell(&self, market: MarketId) -> Result<CellId, ApiError> {
        market
            .cell()
            .filter(|cell| *cell < self.cells.count())
            .map(CellId)
            .ok_or(ApiError::Refused(Refusal::UnknownMarket))
    }

    /// Asks the cell's leader, and again if leadership moves, until the deadline.
    pub(super) async fn at_leader(self: &Arc<Self>, cell: CellId, call: Call) -> Result<Response, ApiError> {
        let good_until = call.good_until;
        let (repeatable, reads) = (repeatable(&call.request), call.request.is_read());
        // What was asked before may have been carried out.
        let mut open = false;
        let mut hint = None;
        let mut patience = self.patience();
        loop {
            let leader = hint.take().or_else(|| self.host.leader_of(cell));
            let failure = match leader {
                Some(node) if node == self.world.node => match self.serve_in_time(cell, call.clone()).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                },
                Some(node) => {
                    let ask = Ask::Call { cell, call: call.clone() };
                    let asked = self.ask(node, &ask, answered_by(&call));
                    let answer = if repeatable { self.while_leading(cell, node, asked).await } else { asked.await };
                    match answer {
                        Ok(Answer::Response(_)) if repeatable && seldom!("gateway.answer_lost") => {
                            Failure::Api(ApiError::Unknown)
                        }
                        Ok(Answer::Response(response)) => return Ok(response),
                        Ok(Answer::Failed(failure)) => failure,
                        Ok(_) => Failure::Api(ApiError::Unavailable),
                        Err(failure) => failure,
                    }
                }
                None => Failure::NotLeader(None),
            };
            match failure {
                Failure::NotLeader(Some(next)) if leader != Some(NodeId(next)) => {
                    self.remember_leader(cell, NodeId(next));
                    hint = Some(NodeId(next));
                }
                Failure::NotLeader(_) | Failure::Api(ApiError::Unavailable) => {}
                Failure::Api(ApiError::Unknown) if repeatable => {
                    reached!("gateway.asks_again");
                    open = !reads;
                    patience.was_taken_in();
                }
                // Nothing was done this time.
                Failure::Api(ApiError::Busy { .. } | ApiError::DiskFull { .. })
                    if open && !mistake!("gateway.forgets_what_it_asked") =>
                {
                    reached!("gateway.busy_when_asked_again");
                    return Err(ApiError::Unknown);
                }
                Failure::Api(error) => return Err(error),
            }
            // With the outcome open there may yet be an answer, as long as anybody waits for it.
            let in_vain = !open && (patience.is_over() || mistake!("gateway.gives_up_at_once"));
            reached!("gateway.nobody_leads", in_vain);
            if in_vain || self.world.clock.now_ms() + RETRY.as_millis() as u64 >= good_until {
                if open && !mistake!("gateway.gives_up_on_what_it_asked") {
                    reached!("gateway.gave_up_with_the_outcome_open");
                    return Err(ApiError::Unknown);
                }
                return Err(ApiError::Unavailable);
            }
            if hint.is_none() {
                timer::sleep(RETRY).await;
            }
        }
    }

    /// Somebody says who leads the cell: where there is no replica here, nobody else does.
    pub(super) fn remember_leader(&self, cell: CellId, leader: NodeId) {
        let new = self.host.cell(cell).is_none() && self.host.leader_of(cell) != Some(leader);
        if new && !mistake!("audit.asks_who_led_before") {
            self.host.hint_leader(cell, leader);
        }
    }

    /// One question to another node. What the network did to it is told apart: `Unavailable` when
    /// it was never sent, `Unknown` when it may have been carried out.
    pub(super) async fn ask(&self, node: NodeId, ask: &Ask, good_until: u64) -> Result<Answer, Failure> {
        let left = good_until.saturating_sub(self.world.clock.now_ms());
        let deadline = tokio::time::Instant::now() + Duration::from_millis(left);
        match self.host.request(node, encode(ask), deadline).await {
            Ok(body) => decode(&body).ok_or(Failure::Api(ApiError::Unavailable)),
            Err(RequestError::NotConnected(_) | RequestError::Refused(_)) => Err(Failure::Api(ApiError::Unavailable)),
            Err(RequestError::Busy(_)) => Err(Failure::Api(ApiError::Busy { retry_after_ms: 20 })),
            Err(RequestError::NoAnswer(_)) => Err(Failure::Api(ApiError::Unknown)),
        }
    }

    /// Answers another node.
    pub(super) async fn answer(self: &Arc<Self>, body: &[u8]) -> bytes::Bytes {
        let answer = match decode(body) {
            Some(Ask::Call { cell, call }) => {
                self.serve_in_time(cell, call).await.map_or_else(Answer::Failed, Answer::Response)
            }
            Some(Ask::Fund { cell, fund, request_id }) => {
                self.fund_here(cell, fund, request_id).await.map_or_else(Answer::Failed, |()| Answer::Funding)
            }
            Some(Ask::Meta(command)) => self.meta_here(command).await.map_or_else(Answer::Failed, Answer::Meta),
            Some(Ask::Audit { cell, audit, begin }) => {
                self.audit_here(cell, audit, begin).await.map_or_else(Answer::Failed, Answer::Audit)
            }
            Some(Ask::Status) => Answer::Status(self.report()),
            Some(Ask::Follow { cell, after }) => match self.desk(cell) {
                Ok(desk) => Answer::Told(desk.recent.since(after).await),
                Err(failure) => Answer::Failed(failure),
            },
            None => Answer::Failed(Failure::Api(ApiError::Invalid("this node does not know that question".into()))),
        };
        encode(&answer)
    }

    /// Has the wallet's cell send money and order to the market's cell.
    pub(super) async fn fund(self: &Arc<Self>, fund: Fund, request_id: u64) -> Result<(), Failure> {
        let cell = self.wallet_cell(fund.instruction.account());
        let good_until = fund.admission.good_until;
        // What was asked before may have been carried out.
        let mut open = false;
        let mut hint = None;
        let mut patience = self.patience();
        loop {
            let leader = hint.take().or_else(|| self.host.leader_of(cell));
            let failure = match leader {
                Some(node) if node == self.world.node => match self.fund_here(cell, fund.clone(), request_id).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
                Some(node) => {
                    let ask = Ask::Fund { cell, fund: fund.clone(), request_id };
                    match self.while_leading(cell, node, self.ask(node, &ask, good_until)).await {
                        Ok(Answer::Funding) if seldom!("fund.answer_lost") => Failure::Api(ApiError::Unknown),
                        Ok(Answer::Funding) => return Ok(()),
                        Ok(Answer::Failed(failure)) => failure,
                        Ok(_) => Failure::Api(ApiError::Unavailable),
                        Err(failure) => failure,
                    }
                }
                None => Failure::NotLeader(None),
            };
            match failure {
                Failure::NotLeader(Some(next)) if leader != Some(NodeId(next)) => {
                    self.remember_leader(cell, NodeId(next));
                    hint = Some(NodeId(next));
                }
                // Taking the money twice is harmless: what finds its reference decided returns.
                Failure::Api(ApiError::Unknown) => open = true,
                Failure::NotLeader(_) | Failure::Api(ApiError::Unavailable) => {}
                failure @ Failure::Api(_) => return Err(failure.if_open(open)),
            }
            if self.world.clock.now_ms() >= good_until || (!open && patience.is_over()) {
                return Err(Failure::Api(ApiError::Unavailable).if_open(open));
            }
            if hint.is_none() {
                timer::sleep(RETRY).await;
            }
        }
    }

    async fn fund_here(&self, cell: CellId, fund: Fund, request_id: u64) -> Result<(), Failure> {
        let desk = self.desk(cell)?;
        let OrderKey { account, market, reference, index } = fund.instruction.key();
        match self.wallet_command(desk, account, Command::Fund(fund)).await? {
            Verdict::Funding => {
                let request_id = RequestId(request_id);
                tracing::debug!(%request_id, %cell, %account, %market, %reference, index, "fund committed");
                Ok(())
            }
            other => unreachable!("a funding was answered with {other:?}"),
        }
    }
}

/// Whether asking again cannot do more than asking once.
fn repeatable(request: &Request) -> bool {
    match request {
        Request::Cancel { orders, .. } => {
            orders.iter().all(|order| order.reduction.is_none()) || mistake!("gateway.reduces_again")
        }
        // Somebody may have said otherwise in between: a market that was suspended since would be opened
        // again by a call that was made before.
        Request::OpenMarket { .. }
        | Request::SuspendMarket { .. }
        | Request::TurnInPlay { .. }
        | Request::SetPersistence { .. } => mistake!("gateway.says_it_again"),
        _ => true,
    }
}
