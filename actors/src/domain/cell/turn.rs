//! The one way money moves in a cell: what a turn pays and collects is posted, put into one message
//! a wallet cell and market, and counted as in flight; what a market did is taken over here.

use std::{collections::BTreeMap, sync::Arc};

use stakehold_raft::{CellId, Out, machine::Stamp, mistake, reached};

use super::Cell;
use crate::{
    api::MarketDelta,
    domain::{
        command::{CollectKind, CollectLine, CreditKind, CreditLine, Effect, Message},
        funding::Funding,
        ledger::{Account, Posting},
        market::{Changes, Market, MarketAccount},
        types::{AccountId, MarketId, Minor},
        wallet::LineKind,
    },
};

/// Lines in one message, so that none grows without bound.
const MAX_LINES: usize = 1_024;
/// How many messages back a credit looks for one to join.
const MERGE_WITHIN: usize = 32;

/// What one turn has gathered.
pub(super) struct Turn<'a> {
    pub stamp: Stamp,
    out: &'a mut Out<Cell>,
    postings: Vec<Posting>,
    credits: BTreeMap<(CellId, MarketId), Vec<CreditLine>>,
    collects: BTreeMap<(CellId, MarketId), Vec<CollectLine>>,
    left: BTreeMap<(CellId, MarketId), Vec<AccountId>>,
}

impl<'a> Turn<'a> {
    pub fn new(stamp: Stamp, out: &'a mut Out<Cell>) -> Self {
        Self {
            stamp,
            out,
            // A bet makes four to six.
            postings: Vec::with_capacity(8),
            credits: BTreeMap::new(),
            collects: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    pub fn post(&mut self, debit: Account, credit: Account, amount: Minor) {
        if amount != Minor::ZERO {
            self.postings.push(Posting::new(debit, credit, amount));
        }
    }

    pub fn tell(&mut self, effect: Effect) {
        self.out.tell(effect);
    }

    pub fn congested(&self, to: CellId) -> bool {
        self.out.congested(to)
    }
}

/// What a market's releases and collections are called in the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub credit: CreditKind,
    pub collect: CollectKind,
}

/// While the market lives.
pub(super) const TRADING: Names = Names { credit: CreditKind::Release, collect: CollectKind::NonRunner };

impl Message {
    /// The money in the message, signed: a collection is money that must come back.
    fn money(&self) -> i128 {
        match self {
            Message::Funded(funded) => i128::from(funded.amount.0),
            Message::Credits { lines, .. } => lines.iter().map(|line| i128::from(line.amount.0)).sum(),
            Message::Collect { lines, .. } => -lines.iter().map(|line| i128::from(line.amount.0)).sum::<i128>(),
            Message::CancelAll { .. } | Message::Left { .. } | Message::Marker { .. } => 0,
        }
    }
}

impl Cell {
    /// Sends to another cell; the money in it is in transit from now on.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>, to: CellId, message: Message) {
        self.head.books.measured.transit += message.money();
        // One apply may take in many messages: what goes back to one wallet cell travels together.
        // Credits may change places with each other, but with nothing else (a marker is a cut).
        if let Message::Credits { market, lines } = &message {
            let sent = turn.out.messages.iter_mut().rev().filter(|(cell, _)| *cell == to).map(|(_, sent)| sent);
            let gathered = sent
                .map_while(|sent| match sent {
                    Message::Credits { market, lines } => Some(Some((*market, lines))),
                    _ => mistake!("credits.overtake_a_marker").then_some(None),
                })
                .flatten()
                .take(MERGE_WITHIN)
                .find(|(of, gathered)| of == market && gathered.len() + lines.len() <= MAX_LINES);
            if let Some((_, gathered)) = gathered {
                return gathered.extend_from_slice(lines);
            }
        }
        turn.out.send(to, message);
    }

    /// A message has come: its money is here now, and belongs to any audit whose cut it crossed.
    pub(super) fn take_in(&mut self, from: CellId, message: &Message) {
        let money = message.money();
        self.head.books.measured.transit -= money;
        self.head.audits.crossed(from, money);
    }

    pub(super) fn transit_to(&self, to: CellId) -> Account {
        Account::Transit { from: self.head.id, to }
    }

    pub(super) fn transit_from(&self, from: CellId) -> Account {
        Account::Transit { from, to: self.head.id }
    }

    /// Money of a market goes to the wallet, out of the account `source` of this cell's books.
    pub(super) fn pay(&mut self, turn: &mut Turn<'_>, source: Account, market: MarketId, line: CreditLine) {
        let to = self.wallet_cell(line.account);
        if to == self.head.id {
            self.credit_wallet(turn, source, market, &line);
        } else {
            turn.post(source, self.transit_to(to), line.amount);
            turn.credits.entry((to, market)).or_default().push(line);
        }
    }

    /// The wallet must give money to a market, into the account `target` of this cell's books.
    fn charge(&mut self, turn: &mut Turn<'_>, target: Account, market: MarketId, line: CollectLine) {
        let to = self.wallet_cell(line.account);
        if to == self.head.id {
            self.charge_wallet(turn, target, market, &line);
        } else {
            turn.post(self.transit_to(to), target, line.amount);
            turn.collects.entry((to, market)).or_default().push(line);
        }
    }

    /// The accounts have nothing in the market any more: their wallets may forget it.
    pub(super) fn tell_left(
        &self,
        turn: &mut Turn<'_>,
        market: MarketId,
        accounts: impl IntoIterator<Item = AccountId>,
    ) {
        for account in accounts {
            turn.left.entry((self.wallet_cell(account), market)).or_default().push(account);
        }
    }

    pub(super) fn credit_wallet(&mut self, turn: &mut Turn<'_>, source: Account, market: MarketId, line: &CreditLine) {
        let (account, stamp) = (line.account, turn.stamp);
        let kind = match line.kind {
            CreditKind::Release => LineKind::Release,
            CreditKind::Return => LineKind::Return,
            CreditKind::Settlement => LineKind::Settle,
            CreditKind::Correction => LineKind::Correct,
        };
        let split = self.wallets.change(account, |wallet| {
            let split = wallet.credit(line.amount);
            wallet.moved(market, -line.left_market);
            // Who lost all he had in the market reads of it too: a settlement of nothing.
            if line.amount.is_positive() || line.kind == CreditKind::Settlement {
                wallet.note(stamp, kind, line.amount, Some(market), None);
            }
            split
        });
        let split = split
            .unwrap_or_else(|| panic!("money comes back only to a wallet that gave some, not to account {account}"));
        reached!("money.paid_a_debt", split.owed.is_positive());
        turn.post(source, Account::Wallet(account), split.available);
        turn.post(source, Account::Owed(account), split.owed);
        turn.tell(Effect::Credited { account, market });
    }

    pub(super) fn charge_wallet(&mut self, turn: &mut Turn<'_>, target: Account, market: MarketId, line: &CollectLine) {
        let (account, stamp) = (line.account, turn.stamp);
        let split = self.wallets.change(account, |wallet| {
            let split = wallet.collect(line.amount);
            if line.kind == CollectKind::NonRunner {
                wallet.moved(market, line.amount);
            }
            if !mistake!("statement.collection_not_noted") {
                wallet.note(stamp, LineKind::Collect, line.amount, Some(market), None);
            }
            split
        });
        let split = split.unwrap_or_else(|| {
            panic!("a market collects only from a wallet that gave some, not from account {account}")
        });
        reached!("money.collected", split.available.is_positive());
        reached!("money.owed", split.owed.is_positive());
        turn.post(Account::Wallet(account), target, split.available);
        turn.post(Account::Owed(account), target, split.owed);
        turn.tell(Effect::Credited { account, market });
    }

    /// Lets a market do something and takes over what that means for money, feeds and books.
    /// `None` when there is no such market.
    pub(super) fn on_market<R>(
        &mut self,
        turn: &mut Turn<'_>,
        id: MarketId,
        names: Names,
        act: impl FnOnce(&mut Market, &mut Changes) -> R,
    ) -> Option<R> {
        let slot = self.markets.get_mut(&id)?;
        let market = Arc::make_mut(&mut slot.market);
        let mut changes = Changes::default();
        let before = (market.margins_total(), market.clearing(), market.sequence());
        let result = act(market, &mut changes);
        let measured = &mut self.head.books.measured;
        measured.margin += market.margins_total() - before.0;
        measured.clearing += i128::from(market.clearing().0) - i128::from(before.1.0);
        measured.commission += i128::from(changes.commission.0);
        measured.rounding += i128::from(changes.rounding.0);
        for order in changes.orders.drain(..) {
            let (account, order) = market.changed(order);
            turn.tell(Effect::Order { account, order });
        }
        if market.sequence() != before.2 {
            turn.tell(Effect::Market(MarketDelta {
                market: id,
                sequence: market.sequence(),
                at: turn.stamp,
                status: market.status(),
                in_play: market.in_play(),
                levels: std::mem::take(&mut changes.levels),
                trades: std::mem::take(&mut changes.trades),
            }));
        }
        self.absorb(turn, id, names, &changes);
        Some(result)
    }

    fn absorb(&mut self, turn: &mut Turn<'_>, market: MarketId, names: Names, changes: &Changes) {
        // What a settlement moved out of each margin, beside what it pays out below.
        let mut moved: BTreeMap<AccountId, Minor> = BTreeMap::new();
        for posting in &changes.postings {
            let account = |side| match side {
                MarketAccount::Margin(account) => Account::Margin(market, account),
                MarketAccount::Clearing => Account::Clearing(market),
                MarketAccount::Commission => Account::Commission,
                MarketAccount::Rounding => Account::Rounding,
            };
            if let MarketAccount::Margin(account) = posting.debit {
                *moved.entry(account).or_default() -= posting.amount;
            }
            if let MarketAccount::Margin(account) = posting.credit {
                *moved.entry(account).or_default() += posting.amount;
            }
            turn.post(account(posting.debit), account(posting.credit), posting.amount);
        }
        for (account, amount) in &changes.collects {
            let line = CollectLine { account: *account, amount: *amount, kind: names.collect };
            moved.remove(account);
            self.charge(turn, Account::Margin(market, *account), market, line);
        }
        for (account, amount) in &changes.releases {
            let left_market = *amount - moved.remove(account).unwrap_or_default();
            let line = CreditLine { account: *account, amount: *amount, kind: names.credit, left_market };
            self.pay(turn, Account::Margin(market, *account), market, line);
        }
        // Who lost all there was gets nothing, but the wallet must know that it is gone.
        for (account, change) in moved {
            if change != Minor::ZERO {
                let line = CreditLine { account, amount: Minor::ZERO, kind: names.credit, left_market: -change };
                self.pay(turn, Account::Margin(market, account), market, line);
            }
        }
    }

    /// Changes a market's side of the money protocol.
    pub(super) fn on_funding<R>(&mut self, id: MarketId, act: impl FnOnce(&mut Funding) -> R) -> Option<R> {
        let funding = Arc::make_mut(&mut self.markets.get_mut(&id)?.funding);
        let before = funding.held();
        let result = act(funding);
        self.head.books.measured.held += funding.held() - before;
        Some(result)
    }

    /// Sends what the turn has gathered and posts it.
    pub(super) fn finish(&mut self, mut turn: Turn<'_>) {
        for ((to, market), lines) in std::mem::take(&mut turn.credits) {
            reached!("money.sent_back");
            for chunk in lines.chunks(MAX_LINES) {
                self.send(&mut turn, to, Message::Credits { market, lines: chunk.to_vec() });
            }
        }
        for ((to, market), lines) in std::mem::take(&mut turn.collects) {
            for chunk in lines.chunks(MAX_LINES) {
                self.send(&mut turn, to, Message::Collect { market, lines: chunk.to_vec() });
            }
        }
        for ((to, market), accounts) in std::mem::take(&mut turn.left) {
            if to == self.head.id {
                self.left(market, &accounts);
            } else {
                for chunk in accounts.chunks(MAX_LINES) {
                    self.send(&mut turn, to, Message::Left { market, accounts: chunk.to_vec() });
                }
            }
        }
        for posting in &turn.postings {
            self.head.books.posted.post(posting);
            self.head.books.journal.note(posting);
        }
        if !turn.postings.is_empty() {
            let postings = std::mem::take(&mut turn.postings);
            turn.tell(Effect::Posted(postings));
        }
    }
}
