//! I1: Σ available + Σ margin + Σ held + house + in flight between cells (signed: a collection carries
//! −x) − Σ owed = deposits − withdrawals (architecture, invariants; exchange rules, section 5).
//!
//! Counted one by one from wallets, margins and messages, at every entry: what the entry names is
//! counted anew, and the cell's own totals say at once if anything else has changed. The outside
//! world is what was answered to deposits and withdrawals. Only the house accounts are taken from
//! the cell, because they exist nowhere else.

use std::collections::BTreeMap;

use stakehold_actors::domain::{
    command::{AuditPart, Command, Effect, Message, Verdict},
    types::{AccountId, MarketId},
};
use stakehold_raft::{
    CellId, Cells,
    replica::{Item, Outcome},
};

use super::{Violation, ensure, facts::Facts};
use crate::books::Books;

/// Audits whose parts are remembered.
const AUDITS_KEPT: usize = 16;

/// What a cell holds, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    available: i128,
    owed: i128,
    margin: i128,
    held: i128,
    clearing: i128,
    /// The house accounts, commission and rounding.
    house: i128,
    /// −(deposits − withdrawals), as answered.
    external: i128,
}

impl Sums {
    fn total(&self) -> i128 {
        self.available - self.owed + self.margin + self.held + self.clearing + self.house + self.external
    }
}

#[derive(Debug)]
pub struct Money {
    cells: Cells,
    sums: BTreeMap<CellId, Sums>,
    /// (available, owed)
    wallets: BTreeMap<AccountId, (i64, i64)>,
    /// (margin, held)
    stakes: BTreeMap<(MarketId, AccountId), (i64, i64)>,
    clearing: BTreeMap<MarketId, i64>,
    /// Of every account's margin, by market.
    margins: BTreeMap<MarketId, i128>,
    /// Σ of all cells, without what is in flight.
    total: i128,
    in_flight: i128,
    /// The parts of each audit, by cell; None when it was begun twice, and the parts may be of two cuts.
    audits: BTreeMap<u64, Option<BTreeMap<CellId, AuditPart>>>,
    /// Audits that were complete since somebody asked.
    audited: u64,
}

/// The money in a message, signed.
fn value(message: &Message) -> i128 {
    match message {
        Message::Funded(funded) => i128::from(funded.amount.0),
        Message::Credits { lines, .. } => lines.iter().map(|line| i128::from(line.amount.0)).sum(),
        Message::Collect { lines, .. } => -lines.iter().map(|line| i128::from(line.amount.0)).sum::<i128>(),
        Message::CancelAll { .. } | Message::Left { .. } | Message::Marker { .. } => 0,
    }
}

impl Money {
    pub fn new(cells: Cells) -> Self {
        Self {
            cells,
            sums: BTreeMap::new(),
            wallets: BTreeMap::new(),
            stakes: BTreeMap::new(),
            clearing: BTreeMap::new(),
            margins: BTreeMap::new(),
            total: 0,
            in_flight: 0,
            audits: BTreeMap::new(),
            audited: 0,
        }
    }

    pub fn entry(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let cell = facts.entry.cell;
        let before = self.sums.get(&cell).copied().unwrap_or_default();
        let mut sums = before;
        sums.external += external(facts);
        for account in &facts.accounts {
            self.count_wallet(books, cell, *account, &mut sums);
        }
        for (market, account) in &facts.stakes {
            self.count_stake(books, cell, *market, *account, &mut sums);
        }
        for market in &facts.markets {
            self.count_clearing(books, cell, *market, &mut sums);
            let margins = self.margins.get(market).copied().unwrap_or_default();
            let known = books.cell(cell).market(*market).map_or(0, |market| market.margins_total());
            ensure!(margins == known, "I1", "the margins of {market} are {margins}; it believes {known}");
        }
        let totals = books.cell(cell).totals();
        sums.house = totals.commission + totals.rounding;
        let known = Sums {
            available: totals.wallet,
            owed: -totals.owed,
            margin: totals.margin,
            held: totals.held,
            clearing: totals.clearing,
            house: sums.house,
            external: totals.external,
        };
        ensure!(sums == known, "I1", "{cell} holds {sums:?}, and believes {known:?}");
        self.total += sums.total() - before.total();
        self.in_flight += facts.sent.iter().map(|(_, message)| value(message)).sum::<i128>();
        self.in_flight -= facts.taken.iter().map(|taken| value(&taken.message)).sum::<i128>();
        self.sums.insert(cell, sums);
        ensure!(
            self.total + self.in_flight == 0,
            "I1",
            "{} was made (or lost, if negative) in {cell}: {sums:?}, in flight {}",
            self.total + self.in_flight,
            self.in_flight
        );
        for effect in facts.entry.effects {
            if let Effect::Audited(part) = effect {
                self.part(part)?;
            }
        }
        Ok(())
    }

    fn count_wallet(&mut self, books: &Books, cell: CellId, account: AccountId, sums: &mut Sums) {
        let Some(wallet) = books.cell(cell).wallet(account) else { return };
        let now = (wallet.available().0, wallet.owed().0);
        let known = self.wallets.entry(account).or_default();
        sums.available += i128::from(now.0) - i128::from(known.0);
        sums.owed += i128::from(now.1) - i128::from(known.1);
        *known = now;
    }

    fn count_stake(&mut self, books: &Books, cell: CellId, market: MarketId, account: AccountId, sums: &mut Sums) {
        let Some(state) = books.cell(cell).market(market) else { return };
        let now = (state.margin(account).0, books.cell(cell).held(account, market).0);
        let known = self.stakes.entry((market, account)).or_default();
        if now == *known {
            return;
        }
        let more = i128::from(now.0) - i128::from(known.0);
        sums.margin += more;
        *self.margins.entry(market).or_default() += more;
        sums.held += i128::from(now.1) - i128::from(known.1);
        *known = now;
    }

    fn count_clearing(&mut self, books: &Books, cell: CellId, market: MarketId, sums: &mut Sums) {
        let Some(state) = books.cell(cell).market(market) else { return };
        let known = self.clearing.entry(market).or_default();
        sums.clearing += i128::from(state.clearing().0) - i128::from(*known);
        *known = state.clearing().0;
    }

    /// The parts of all cells at one cut add up to zero.
    fn part(&mut self, part: &AuditPart) -> Result<(), Violation> {
        let audit = self.audits.entry(part.audit).or_insert_with(|| Some(BTreeMap::new()));
        if let Some(parts) = audit {
            let twice = parts.insert(part.cell, part.clone()).is_some();
            if parts.len() == usize::from(self.cells.count()) {
                let sum: i128 = parts.values().map(AuditPart::sum).sum();
                ensure!(twice || sum == 0, "I1", "the cut of an audit adds up to {sum}: {parts:?}");
                self.audited += u64::from(!twice);
            }
            if twice {
                *audit = None;
            }
        }
        while self.audits.len() > AUDITS_KEPT {
            self.audits.pop_first();
        }
        Ok(())
    }

    /// How many audits were complete since the last call.
    pub fn take_audits(&mut self) -> u64 {
        std::mem::take(&mut self.audited)
    }

    /// All of a cell: nothing has changed that no entry named.
    pub fn cell(&mut self, books: &Books, cell: CellId) -> Result<(), Violation> {
        let state = books.cell(cell);
        for account in state.accounts() {
            let known = self.wallets.get(&account).copied().unwrap_or_default();
            let now = state.wallet(account).map_or((0, 0), |wallet| (wallet.available().0, wallet.owed().0));
            ensure!(now == known, "I1", "the wallet of {account} was {known:?} and is {now:?}, and no entry says why");
        }
        for id in state.market_ids() {
            let market = state.market(id).into_iter().flat_map(|market| market.accounts());
            let stakes = self.stakes.range((id, AccountId(0))..=(id, AccountId(u64::MAX)));
            for account in market.chain(stakes.map(|((_, account), _)| *account)) {
                let known = self.stakes.get(&(id, account)).copied().unwrap_or_default();
                let margin = state.market(id).map_or(0, |market| market.margin(account).0);
                let now = (margin, state.held(account, id).0);
                ensure!(
                    now == known,
                    "I1",
                    "{account} had (margin, held) {known:?} in {id} and has {now:?}, and no entry says why"
                );
            }
        }
        Ok(())
    }

    /// Every wallet knows where its money is, and nothing is in flight but what is in the streams.
    pub fn at_rest(&self, books: &Books) -> Result<(), Violation> {
        let pairs = books.cells.all().flat_map(|from| books.cells.all().map(move |to| (from, to)));
        let in_flight: i128 = pairs
            .filter(|(from, to)| from != to)
            .flat_map(|(from, to)| books.in_flight(from, to))
            .map(|message| value(&message))
            .sum();
        ensure!(in_flight == self.in_flight, "I1", "{} is in flight; found is {in_flight}", self.in_flight);
        let mut in_markets: BTreeMap<AccountId, i64> = BTreeMap::new();
        for ((_, account), (margin, held)) in &self.stakes {
            *in_markets.entry(*account).or_default() += margin + held;
        }
        for cell in books.cells.all().map(|id| books.cell(id)) {
            for account in cell.accounts() {
                let known = cell.wallet(account).map_or(0, |wallet| wallet.in_markets().0);
                let found = in_markets.get(&account).copied().unwrap_or_default();
                ensure!(known == found, "I1", "{account} has {found} in markets; the wallet believes {known}");
            }
        }
        Ok(())
    }
}

/// −(deposits − withdrawals) of an entry, by its answers: the first one of each reference counts.
fn external(facts: &Facts<'_>) -> i128 {
    let entry = facts.entry;
    let answers = entry.items.iter().zip(entry.outcomes).zip(&facts.first);
    answers
        .filter(|(_, first)| **first)
        .map(|((item, outcome), _)| match (item, outcome) {
            (Item::Command(Command::Deposit { amount, .. }), Outcome::Verdict(Verdict::Wallet(_))) => {
                -i128::from(amount.0)
            }
            (Item::Command(Command::Withdraw { amount, .. }), Outcome::Verdict(Verdict::Wallet(_))) => {
                i128::from(amount.0)
            }
            _ => 0,
        })
        .sum()
}
