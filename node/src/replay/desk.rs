//! Places and cancels a plan's orders in one market, in as few calls as the interface allows.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use stakehold_actors::{
    api::{CancelOrder, NewOrder, Request, Response, WhichOrder},
    domain::types::{AccountId, MarketId, OrderView, Persistence, Refusal, RunnerId, Side},
};

use super::{
    caller::{Caller, MAKERS_MAX, MAKERS_MIN},
    planner::{Cut, Sized},
};
use crate::client::ClientError;

/// Orders in one call.
pub const BATCH_MAX: usize = 60;

/// Whose orders make the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makers {
    /// Each message's orders come from one account, the next message's from the next.
    InTurn,
    /// One account for each side of each runner. A removal raises the exposure of accounts whose
    /// bets hedge each other, and covers it by cancelling their orders; these have nothing to hedge.
    BySide(Vec<RunnerId>),
}

#[derive(Clone, Debug)]
pub struct Desk {
    pub caller: Arc<Caller>,
    pub market: MarketId,
    pub makers: Makers,
}

impl Desk {
    /// Who is to place which orders, in as few calls as can be.
    pub fn share_out(&self, additions: &[Sized]) -> Vec<(AccountId, Vec<Sized>)> {
        let runners = match &self.makers {
            Makers::InTurn => {
                return additions.chunks(BATCH_MAX).map(|sized| (self.caller.next_maker(), sized.to_vec())).collect();
            }
            Makers::BySide(runners) => runners,
        };
        let mut by_account: BTreeMap<AccountId, Vec<Sized>> = BTreeMap::new();
        for added in additions {
            let runner = runners.iter().position(|runner| *runner == added.level.runner).unwrap_or_default() as u64;
            let n = 2 * runner + u64::from(added.level.side == Side::Back);
            by_account.entry(self.caller.maker(n % self.makers_count())).or_default().push(*added);
        }
        let chunks = |(account, sized): (AccountId, Vec<Sized>)| {
            sized.chunks(BATCH_MAX).map(|chunk| (account, chunk.to_vec())).collect::<Vec<_>>()
        };
        by_account.into_iter().flat_map(chunks).collect()
    }

    /// How many accounts may have orders in this market.
    pub fn makers_count(&self) -> u64 {
        match &self.makers {
            Makers::InTurn => MAKERS_MIN,
            Makers::BySide(runners) => (2 * runners.len() as u64).clamp(MAKERS_MIN, MAKERS_MAX),
        }
    }

    /// Places orders in one call and pairs them with what became of each.
    ///
    /// # Errors
    /// When the call as a whole fails; the refusal of an order is its outcome.
    pub async fn place<'s>(
        &self,
        account: AccountId,
        sized: &'s [Sized],
        order: fn(&Sized) -> NewOrder,
    ) -> Result<Vec<(&'s Sized, Result<OrderView, Refusal>)>, ClientError> {
        let orders = sized.iter().map(order).collect();
        let request = Request::Place { account, market: self.market, reference: self.caller.reference(), orders };
        match self.caller.timed(request).await? {
            Response::Placed { reports, .. } if reports.len() == sized.len() => {
                let accepted = reports.iter().filter(|report| report.outcome.is_ok()).count();
                self.caller.tally.orders.fetch_add(accepted as u64, Ordering::Relaxed);
                Ok(sized.iter().zip(reports.into_iter().map(|report| report.outcome)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Cancels in one call an account, all at once, and pairs each call's cuts with its answer.
    pub async fn cancel(&self, cuts: &[Cut]) -> Vec<(Vec<Cut>, Result<Response, ClientError>)> {
        let mut by_account: BTreeMap<AccountId, Vec<Cut>> = BTreeMap::new();
        for cut in cuts {
            by_account.entry(cut.account).or_default().push(*cut);
        }
        let calls = by_account.iter().flat_map(|(account, cuts)| cuts.chunks(BATCH_MAX).map(|cuts| (*account, cuts)));
        futures::future::join_all(calls.map(|(account, cuts)| self.cancel_batch(account, cuts.to_vec()))).await
    }

    async fn cancel_batch(&self, account: AccountId, cuts: Vec<Cut>) -> (Vec<Cut>, Result<Response, ClientError>) {
        let order =
            |cut: &Cut| CancelOrder { which: WhichOrder::Id(cut.order), reduction: (!cut.whole).then_some(cut.amount) };
        let orders = cuts.iter().map(order).collect();
        let request = Request::Cancel { account, market: self.market, orders };
        // A reduction repeated would reduce twice.
        let repeatable = cuts.iter().all(|cut| cut.whole);
        let answer = if repeatable { self.caller.timed(request).await } else { self.caller.once(request).await };
        (cuts, answer)
    }
}

/// A maker's order on the level. Post-only, so that a mistake shows as a refusal and not as a bet.
pub fn maker(sized: &Sized) -> NewOrder {
    NewOrder {
        runner: sized.level.runner,
        side: sized.level.side,
        price: sized.level.price,
        size: sized.size,
        persistence: Persistence::Persist,
        fill_or_kill: false,
        min_fill: None,
        post_only: true,
    }
}

/// A taker's order against the level.
pub fn taker(sized: &Sized) -> NewOrder {
    let side = match sized.level.side {
        Side::Back => Side::Lay,
        Side::Lay => Side::Back,
    };
    NewOrder { side, fill_or_kill: true, post_only: false, ..maker(sized) }
}

/// The cluster answered something else than was asked.
pub fn unexpected(response: &Response) -> ClientError {
    let text: String = format!("{response:?}").chars().take(80).collect();
    ClientError::Protocol(format!("The cluster answered something else than was asked: {text}."))
}
