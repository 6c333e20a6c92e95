//! One node's exchange. Any node answers any call: it finds the cell, asks the cell's leader
//! (itself, or over the mesh, see `routing`), and retries inside the caller's deadline when
//! leadership moves, so that a client sees a slow answer rather than an error.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use stakehold_raft::{CellId, Cells, NodeId, host::Host, mistake, seam::World, timer};
use tokio::sync::oneshot;

use super::{
    admission::{Limits, Urgency},
    desk::{Desk, ExchangeMachine, Landing},
    feed::MarketFeed,
    market::MarketMessage,
    order::Line,
    relay::Relay,
    rights::permitted,
    wallet::WalletMessage,
    wire::Failure,
};
use crate::{
    api::{ApiError, Call, CancelReport, PlaceReport, Request, Response},
    domain::{
        command::{Command, Instruction, Replacement, Verdict},
        types::{AccountId, MarketId, OrderRequest, Refusal},
    },
};

/// Between two tries at a cell whose leader is not known or has just changed.
pub(super) const RETRY: Duration = Duration::from_millis(10);
pub struct Exchange {
    pub(super) world: World,
    pub(super) host: Arc<Host<ExchangeMachine>>,
    pub(super) cells: Cells,
    pub(super) limits: Limits,
    pub(super) desks: BTreeMap<CellId, Arc<Desk>>,
    /// Of the cells without a desk.
    relays: BTreeMap<CellId, Arc<Relay>>,
    pub(super) audits: AtomicU64,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("node", &self.world.node).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Opens the desks of all cells that have a replica here and begins to answer other nodes.
    pub fn start(world: World, host: Arc<Host<ExchangeMachine>>, cells: Cells, limits: Limits) -> Arc<Self> {
        let desks: BTreeMap<CellId, Arc<Desk>> = cells
            .all()
            .filter_map(|cell| host.cell(cell))
            .map(|group| (group.id(), Arc::new(Desk::new(group.clone(), world.clone(), limits.clone()))))
            .collect();
        let relays = Relay::all(cells.all().filter(|cell| !desks.contains_key(cell)));
        let exchange = Arc::new(Self { world, host, cells, limits, desks, relays, audits: AtomicU64::new(0) });
        for desk in exchange.desks.values() {
            tokio::spawn(desk.clone().follow());
            tokio::spawn(desk.clone().follow_leadership());
            tokio::spawn(desk.clone().sweep());
        }
        let serving = Arc::downgrade(&exchange);
        exchange.host.serve(move |_, body, replier| {
            if let Some(exchange) = serving.upgrade() {
                tokio::spawn(async move { replier.reply(&exchange.answer(&body).await) });
            }
        });
        exchange
    }

    /// Answers a client's call. Returns by the call's `good_until`, shortly after at the latest.
    ///
    /// # Errors
    /// A refusal of the rules, or why there is no answer: see [`ApiError`].
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<Response, ApiError> {
        permitted(call.principal, &call.request)?;
        match &call.request {
            Request::ListMarkets => self.list_markets(&call).await,
            Request::ListOrders { account, market: None } => self.list_orders(&call, *account).await,
            Request::Status => self.status().await,
            Request::Audit => self.audit(call.good_until).await,
            _ => {
                let cell = self.cell_of(&call.request)?;
                self.at_leader(cell, call).await
            }
        }
    }

    /// Follows a market: from this node's replica, or, where there is none, through a node that has one.
    ///
    /// # Errors
    /// When there is no such market, as far as this node can say.
    pub fn feed(self: &Arc<Self>, market: MarketId) -> Result<MarketFeed, ApiError> {
        let cell = self.market_cell(market)?;
        if let Some(desk) = self.desks.get(&cell) {
            return MarketFeed::here(desk, market);
        }
        let relay = self.relays.get(&cell).ok_or(ApiError::Unavailable)?;
        Ok(MarketFeed::elsewhere(self, relay, market))
    }

    /// Milliseconds since the Unix epoch by which a call without a deadline must have its answer.
    pub fn usual_deadline(&self) -> u64 {
        self.world.clock.now_ms() + self.limits.deadline_ms
    }

    pub(super) fn desk(&self, cell: CellId) -> Result<&Arc<Desk>, Failure> {
        self.desks.get(&cell).ok_or(Failure::NotLeader(None))
    }

    pub(super) async fn serve(self: &Arc<Self>, cell: CellId, call: Call) -> Result<Response, Failure> {
        let desk = self.desk(cell)?;
        let stamps = (call.request_id, call.good_until);
        match call.request {
            Request::Place { account, market, reference, orders } => {
                let instructions = orders.into_iter().zip(0..).map(|(order, index)| {
                    Instruction::Place(OrderRequest {
                        account,
                        market,
                        runner: order.runner,
                        side: order.side,
                        price: order.price,
                        size: order.size,
                        persistence: order.persistence,
                        fill_or_kill: order.fill_or_kill,
                        min_fill: order.min_fill,
                        post_only: order.post_only,
                        reference: reference.clone(),
                        index,
                    })
                });
                let replies = self.execute(desk, market, instructions.collect(), stamps)?;
                // A reply that nobody gives: no actor ever took the order out of its mailbox.
                let landed = |reply: Result<Landing, _>| reply.unwrap_or(Err(Failure::NotLeader(None)));
                let landings: Vec<Landing> = futures::future::join_all(replies).await.into_iter().map(landed).collect();
                let outcomes = if mistake!("place.part_is_nothing") {
                    landings.into_iter().collect::<Result<Vec<_>, _>>()?
                } else {
                    all_or_unknown(landings)?
                };
                let report = |(outcome, index)| PlaceReport { index, outcome };
                let reports = outcomes.into_iter().zip(0..).map(report).collect();
                Ok(Response::Placed { market, reference, reports })
            }
            Request::Replace { account, market, order, price, reference } => {
                let instruction = Instruction::Replace(Replacement { account, market, order, price, reference });
                let replies = self.execute(desk, market, vec![instruction], stamps)?;
                let mut outcome = Err(Failure::NotLeader(None));
                for reply in replies {
                    outcome = reply.await.map_err(|_| Failure::NotLeader(None))?;
                }
                outcome?.map(Response::Order).map_err(refused)
            }
            Request::Cancel { account, market, orders } => self.cancel(desk, account, market, orders).await,
            Request::CancelAll { account, market: Some(market) } => {
                match self.market_command(desk, market, Command::CancelAll { account, market }).await? {
                    Verdict::CancelledAll { orders, released } => {
                        let funds_pending = !self.money_is_back(desk, account, released).await;
                        let reports = orders
                            .into_iter()
                            .map(|(order, cancelled)| CancelReport { order: Some(order), outcome: Ok(cancelled) })
                            .collect();
                        Ok(Response::Cancelled { reports, funds_pending })
                    }
                    verdict => plain(verdict),
                }
            }
            request => match self.command_for(&request) {
                Some((Owner::Market(market), command)) => {
                    plain_or_view(self.market_command(desk, market, command).await?, desk, Some(market))
                }
                Some((Owner::Wallet(account), command @ Command::CancelEverywhere { .. })) => {
                    plain(self.wallet_command(desk, account, command).await?)?;
                    // Each market cancels when the word reaches it.
                    let entered =
                        desk.read(|cell| cell.account_view(account)).is_some_and(|view| !view.markets.is_empty());
                    Ok(Response::Cancelled { reports: Vec::new(), funds_pending: entered })
                }
                Some((Owner::Wallet(account), command)) => {
                    let verdict = self.wallet_command(desk, account, command).await?;
                    let shows_account = matches!(
                        (&verdict, &request),
                        (Verdict::Done, Request::CreateAccount { .. })
                            | (Verdict::Wallet(_), Request::SetAccountCap { .. } | Request::SetAccountDiscount { .. })
                    );
                    if shows_account {
                        return Self::look(desk, &Request::GetAccount { account });
                    }
                    plain_or_view(verdict, desk, None)
                }
                None => {
                    if !(matches!(request, Request::ListOrders { .. }) && mistake!("list.without_quorum")) {
                        desk.fresh().await?;
                    }
                    Self::look(desk, &request)
                }
            },
        }
    }

    /// The command that carries out a request which is neither an order nor a read.
    fn command_for(&self, request: &Request) -> Option<(Owner, Command)> {
        use Request as R;
        Some(match request.clone() {
            R::CreateAccount { account, name } => (Owner::Wallet(account), Command::CreateAccount { account, name }),
            R::Deposit { account, amount, reference } => {
                (Owner::Wallet(account), Command::Deposit { account, amount, reference })
            }
            R::Withdraw { account, amount, reference } => {
                (Owner::Wallet(account), Command::Withdraw { account, amount, reference })
            }
            R::SetAccountCap { account, cap, reference } => {
                (Owner::Wallet(account), Command::SetCap { account, cap, reference })
            }
            R::SetAccountDiscount { account, discount_bp, reference } => {
                (Owner::Wallet(account), Command::SetDiscount { account, discount_bp, reference })
            }
            R::Heartbeat { account, timeout_ms } => {
                (Owner::Wallet(account), Command::Heartbeat { account, timeout_ms })
            }
            R::CancelAll { account, market: None } => (Owner::Wallet(account), Command::CancelEverywhere { account }),
            // Its number is not known yet; creation is as rare as it is brief.
            R::CreateMarket { definition, reference } => {
                (Owner::Market(MarketId(0)), Command::CreateMarket { definition, reference })
            }
            R::OpenMarket { market } => (Owner::Market(market), Command::Open { market }),
            R::SuspendMarket { market } => (Owner::Market(market), Command::Suspend { market }),
            R::TurnInPlay { market, bet_delay_s } => {
                (Owner::Market(market), Command::TurnInPlay { market, bet_delay_s })
            }
            R::Settle { market, result, reference } => {
                (Owner::Market(market), Command::Settle { market, result, reference })
            }
            R::Resettle { market, result, reference } => {
                (Owner::Market(market), Command::Resettle { market, result, reference })
            }
            R::Finalise { market } => (Owner::Market(market), Command::Finalise { market }),
            R::RemoveRunner { market, runner, factor, reference } => {
                (Owner::Market(market), Command::RemoveRunner { market, runner, factor, reference })
            }
            R::SetPersistence { account, market, order, persistence } => {
                (Owner::Market(market), Command::SetPersistence { account, market, order, persistence })
            }
            _ => return None,
        })
    }

    fn execute(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        market: MarketId,
        instructions: Vec<Instruction>,
        (request_id, good_until): (u64, u64),
    ) -> Result<Vec<oneshot::Receiver<Landing>>, Failure> {
        if !desk.group().is_leader() {
            return Err(Failure::NotLeader(self.host.leader_of(desk.id).map(|NodeId(n)| n)));
        }
        self.room_for_orders()?;
        // Room for all of them, or for none: of a call that is refused for want of room nothing is done.
        let room = || desk.admission.enter(Urgency::NewOrder);
        let permits = std::iter::repeat_with(room).take(instructions.len()).collect::<Result<Vec<_>, _>>()?;
        let line = Line::form(instructions.len());
        let sent = instructions.into_iter().zip(line).zip(permits).map(|((instruction, line), permit)| {
            let (reply, receiver) = oneshot::channel();
            // What cannot be sent drops its reply, and is seen to have done nothing where it is awaited.
            let _ = desk.to_market(market, |busy| MarketMessage::Execute {
                exchange: self.clone(),
                request_id,
                instruction,
                good_until,
                line,
                reply,
                permit,
                busy,
            });
            receiver
        });
        Ok(sent.collect())
    }

    pub(super) async fn market_command(
        &self,
        desk: &Arc<Desk>,
        market: MarketId,
        command: Command,
    ) -> Result<Verdict, Failure> {
        if mistake!("disk.full_refuses_cancels") {
            self.room_for_orders()?;
        }
        let permit = desk.admission.enter(Urgency::Other)?;
        let (reply, receiver) = oneshot::channel();
        desk.to_market(market, |busy| MarketMessage::Command { command, reply, permit, busy })?;
        receiver.await.map_err(|_| Failure::NotLeader(None))?
    }

    pub(super) async fn wallet_command(
        &self,
        desk: &Arc<Desk>,
        account: AccountId,
        command: Command,
    ) -> Result<Verdict, Failure> {
        let urgency = if matches!(command, Command::Fund(_)) { Urgency::Funding } else { Urgency::Other };
        if urgency == Urgency::Funding {
            self.room_for_orders()?;
        }
        let permit = desk.admission.enter(urgency)?;
        let (reply, receiver) = oneshot::channel();
        desk.to_wallet(account, |busy| WalletMessage { command, reply, permit, busy })?;
        receiver.await.map_err(|_| Failure::NotLeader(None))?
    }

    async fn cancel(
        &self,
        desk: &Arc<Desk>,
        account: AccountId,
        market: MarketId,
        orders: Vec<crate::api::CancelOrder>,
    ) -> Result<Response, Failure> {
        let mut reports = Vec::with_capacity(orders.len());
        let mut money = crate::domain::types::Minor::ZERO;
        let verdicts = futures::future::join_all(orders.into_iter().map(|order| {
            let command =
                Command::Cancel { account, market, which: order.which, reduction: order.reduction, in_funding: false };
            self.market_command(desk, market, command)
        }))
        .await;
        let verdicts = if mistake!("cancel.part_is_nothing") {
            verdicts.into_iter().collect::<Result<Vec<_>, _>>()?
        } else {
            all_or_unknown(verdicts)?
        };
        for verdict in verdicts {
            reports.push(match verdict {
                Verdict::Cancelled { order, cancelled, released } => {
                    money += released;
                    CancelReport { order, outcome: Ok(cancelled) }
                }
                Verdict::Refused(refusal) => CancelReport { order: None, outcome: Err(refusal) },
                other => unreachable!("a cancel was answered with {other:?}"),
            });
        }
        let funds_pending = !self.money_is_back(desk, account, money).await;
        Ok(Response::Cancelled { reports, funds_pending })
    }

    /// Waits, for a moment, until the wallet's cell has taken in what was released.
    async fn money_is_back(&self, desk: &Arc<Desk>, account: AccountId, released: crate::domain::types::Minor) -> bool {
        let wallet = self.wallet_cell(account);
        if released == crate::domain::types::Minor::ZERO || wallet == desk.id || mistake!("cancel.money_not_awaited") {
            return true;
        }
        let sent = desk.group().read(|replica| replica.streams().get(&wallet).map_or(0, |(_, last, _)| *last));
        let patience = Duration::from_millis(self.limits.cancel_wait_ms);
        timer::timeout(patience, desk.group().delivered(wallet, sent)).await.is_ok_and(|delivered| delivered)
            && !mistake!("cancel.money_always_pending")
    }
}

enum Owner {
    Wallet(AccountId),
    Market(MarketId),
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Api(ApiError::Refused(refusal))
}

/// The verdicts on what one call asks for, or why there are none. That nothing has happened, and all may be
/// asked again, is said only where it is so of each: with a part of it done, or perhaps done, the
/// outcome is open.
fn all_or_unknown<T>(verdicts: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let open = Failure::Api(ApiError::Unknown);
    let done = verdicts.iter().any(|verdict| verdict.as_ref().map_or_else(|why| *why == open, |_| true));
    verdicts.into_iter().map(|verdict| verdict.map_err(|why| why.if_open(done))).collect()
}

/// The answer that says no more than the verdict.
fn plain(verdict: Verdict) -> Result<Response, Failure> {
    match verdict {
        Verdict::Done => Ok(Response::Done),
        Verdict::Refused(refusal) => Err(refused(refusal)),
        Verdict::Wallet(receipt) => Ok(Response::Wallet(receipt)),
        Verdict::Order(order) | Verdict::Accepted(order) => Ok(Response::Order(order)),
        other => unreachable!("a plain command was answered with {other:?}"),
    }
}

/// After a change of a market, the answer shows the market.
fn plain_or_view(verdict: Verdict, desk: &Desk, market: Option<MarketId>) -> Result<Response, Failure> {
    let market = match verdict {
        Verdict::MarketCreated(market) => market,
        Verdict::Done => match market {
            Some(market) => market,
            None => return Ok(Response::Done),
        },
        verdict => return plain(verdict),
    };
    desk.read(|cell| cell.market_view(market))
        .map(|view| Response::Market(Box::new(view)))
        .ok_or(refused(Refusal::UnknownMarket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_which_a_part_is_done_is_not_one_of_which_nothing_has_happened() {
        let (nowhere, busy) = (Failure::NotLeader(None), Failure::Api(ApiError::Busy { retry_after_ms: 20 }));
        let unknown = Failure::Api(ApiError::Unknown);
        let done = || Ok(Verdict::Done);
        assert_eq!(all_or_unknown(vec![done(), done()]), Ok(vec![Verdict::Done, Verdict::Done]));
        for (verdicts, why) in [
            (vec![done(), Err(busy.clone())], &unknown),
            (vec![Err(nowhere.clone()), done()], &unknown),
            (vec![Err(nowhere.clone()), Err(unknown.clone())], &unknown),
            (vec![Err(nowhere.clone()), Err(busy)], &nowhere),
        ] {
            assert_eq!(all_or_unknown(verdicts).as_ref(), Err(why));
        }
    }
}
