//! What can be read of a cell: copies, in the words of the API.

use stakehold_raft::mistake;

use super::{Cell, answers::Told};
use crate::{
    api::{AccountView, BookView, MarketSummary, MarketView, StatementLine},
    domain::{
        command::{Admission, Instruction},
        market::{Market, ReplaceRequest},
        references::Key,
        types::{AccountId, EventId, MarketId, Minor, OrderId, OrderView, Refusal},
        wallet::Wallet,
    },
};

/// What an instruction needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Nothing: it has its verdict.
    Verdict(Result<OrderView, Refusal>),
    /// It is held since its `attempt`-th funding: fund `short` with the next attempt.
    More { short: Minor, attempt: u8 },
    /// So much from the wallet, with attempt 1; at zero, execute it (also when the rules refuse it:
    /// then that records the refusal).
    Funds(Minor),
}

impl Cell {
    pub fn account_view(&self, account: AccountId) -> Option<AccountView> {
        self.wallets.get(account).map(|wallet| wallet.view(account))
    }

    /// The wallet as it stands, not copied.
    pub fn wallet(&self, account: AccountId) -> Option<&Wallet> {
        self.wallets.get(account)
    }

    /// The newest lines first; see [`Wallet::statement`].
    pub fn statement(&self, account: AccountId, before: Option<u64>, limit: usize) -> Option<Vec<StatementLine>> {
        self.wallets.get(account).map(|wallet| wallet.statement(before, limit))
    }

    pub fn accounts(&self) -> impl Iterator<Item = AccountId> + '_ {
        self.wallets.iter().map(|(account, _)| account)
    }

    /// How many accounts a settlement pays out at once.
    pub fn accounts_per_step(&self) -> u32 {
        self.head.accounts_per_step
    }

    /// How many wallets, markets and remembered references the cell holds.
    pub fn sizes(&self) -> (u64, u64, u64) {
        (self.wallets.count(), self.markets.len() as u64, self.answers_count())
    }

    pub fn market(&self, market: MarketId) -> Option<&Market> {
        self.markets.get(&market).map(|slot| &*slot.market)
    }

    pub fn market_ids(&self) -> impl Iterator<Item = MarketId> + '_ {
        self.markets.keys().copied()
    }

    pub fn market_summaries(&self) -> Vec<MarketSummary> {
        self.markets.values().map(|slot| slot.market.summary()).collect()
    }

    pub fn market_view(&self, market: MarketId) -> Option<MarketView> {
        self.market(market).map(Market::view)
    }

    pub fn book(&self, market: MarketId) -> Option<BookView> {
        self.market(market).map(Market::book)
    }

    /// Orders of the account in one market of this cell, or in all of them.
    pub fn orders_of(&self, account: AccountId, market: Option<MarketId>) -> Vec<OrderView> {
        match market {
            Some(market) => self.market(market).map_or(Vec::new(), |market| market.orders_of(account)),
            None => self.markets.values().flat_map(|slot| slot.market.orders_of(account)).collect(),
        }
    }

    /// An order and whose it is.
    pub fn order(&self, market: MarketId, order: OrderId) -> Option<(AccountId, OrderView)> {
        let market = self.market(market)?;
        Some((market.owner(order)?, market.order(order)?))
    }

    /// What an order that comes now has seen. `None` when there is no such market.
    pub fn admission(&self, account: AccountId, market: MarketId, good_until: u64) -> Option<Admission> {
        let slot = self.markets.get(&market)?;
        let (mut epoch, cancel_epoch) = (slot.market.epoch(), slot.funding.cancel_epoch(account));
        if mistake!("admission.epochs_stop") {
            epoch = epoch.min(3);
        }
        Some(Admission { epoch, cancel_epoch, good_until })
    }

    /// What the instruction needs next, as things stand. `REFERENCE_REUSED` is a verdict here that
    /// is not remembered.
    pub fn needed(&self, instruction: &Instruction) -> Needed {
        let key = Key::order(instruction);
        match self.told(instruction.market(), key, instruction.content()) {
            Told::Not(refusal) => return Needed::Verdict(Err(refusal)),
            Told::Before(verdict) => return Needed::Verdict(verdict.outcome(instruction)),
            Told::New => {}
        }
        let Some(slot) = self.markets.get(&instruction.market()) else { return Needed::Funds(Minor::ZERO) };
        if let Some(pending) = slot.funding.pending(key) {
            if pending.instruction != *instruction {
                return Needed::Verdict(Err(Refusal::ReferenceReused));
            }
            return Needed::More { short: pending.short, attempt: pending.attempt };
        }
        let exposure = match instruction {
            Instruction::Place(order) => slot.market.exposure_with(order),
            Instruction::Replace(replacement) => slot.market.exposure_with_replacement(&ReplaceRequest {
                account: replacement.account,
                order: replacement.order,
                price: replacement.price,
                reference: replacement.reference.clone(),
                index: 0,
            }),
        };
        let mut margin = slot.market.margin(instruction.account());
        if mistake!("needed.margin_not_counted") {
            margin = Minor::ZERO;
        }
        let least = slot.market.entrance(instruction.account());
        Needed::Funds(exposure.map_or(Minor::ZERO, |exposure| (exposure.max(least) - margin).or_zero()))
    }

    /// What is held for the account's instructions in a market, beside its margin there.
    pub fn held(&self, account: AccountId, market: MarketId) -> Minor {
        self.markets.get(&market).map_or(Minor::ZERO, |slot| slot.funding.held_by(account))
    }

    /// The account's exposure over the event's markets: they are all in this cell.
    pub fn event_exposure(&self, event: EventId, account: AccountId) -> Minor {
        let markets = self.head.events.get(&event).into_iter().flatten();
        markets.filter_map(|market| self.market(*market)).map(|market| market.exposure(account)).sum()
    }
}
