//! A cell: many wallets and many markets in one pure machine, replicated by one Raft group.
//!
//! How to use it: feed commands and messages through [`Machine`] (or better, through
//! [`Replica`](stakehold_raft::replica::Replica), which adds the streams to other cells), read with
//! the views in [`views`]. A command is answered by its verdict; what it causes in other cells
//! travels as messages, and everyone who listens hears effects.
//!
//! What lives in the modules: [`turn`] the one way money moves; `accounts`, `fund`, `heartbeat` a
//! wallet's commands; `orders`, `cancel`, `life`, `settle` a market's; `answers` what was said before;
//! `audit` the cut; `snapshot` the bytes.
//!
//! What must never be here: a clock, I/O, a panic that input can reach. The assertions at the end of
//! every apply guard money (invariant I1): one that fails halts this replica of the cell.

mod accounts;
mod answers;
mod audit;
mod cancel;
mod fund;
mod heartbeat;
mod life;
mod orders;
mod settle;
mod snapshot;
mod turn;
pub mod views;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use stakehold_raft::{
    CellId, Cells, Machine, Out,
    ids::kind,
    machine::{Chunks, Stamp},
    reached,
};

use self::{answers::Answers, audit::Audits, settle::ACCOUNTS_PER_STEP, turn::Turn};
use super::{
    command::{Command, Effect, Message, Verdict},
    deadlines::{Deadline, Deadlines},
    format,
    funding::Funding,
    ledger::{Checkpoint, Journal, Totals},
    market::Market,
    references::References,
    types::{AccountId, EventId, MarketId, OrderId, Refusal},
    wallet::Wallets,
};

#[derive(Clone, Debug)]
pub struct Cell {
    /// See [`format`](mod@super::format).
    format: u16,
    /// The newest format that whoever keeps this replica knows: not state, and the same on all replicas only
    /// when no upgrade is under way.
    knows: u16,
    head: Head,
    wallets: Wallets,
    answers: Answers,
    markets: BTreeMap<MarketId, Slot>,
}

/// Everything but the large maps.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    id: CellId,
    cells: Cells,
    /// How much of a settlement is done at once.
    accounts_per_step: u32,
    /// How many markets and orders there ever were.
    markets: u64,
    orders: u64,
    /// The markets of each event, in the order of their creation.
    events: BTreeMap<EventId, Vec<MarketId>>,
    deadlines: Deadlines,
    audits: Audits,
    books: Books,
}

/// A market, its side of the money protocol, and what was answered to its instructions; each is copied only
/// when it changes after a freeze.
#[derive(Clone, Debug)]
struct Slot {
    market: Arc<Market>,
    funding: Arc<Funding>,
    answers: Arc<References>,
}

/// The same totals twice: as they were posted, and as they are found in the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Books {
    posted: Totals,
    /// Wallets and debts are measured in [`Wallets`] and are zero here.
    measured: Totals,
    journal: Journal,
    /// Pennies that a test put in from nowhere.
    #[cfg(any(test, feature = "mispost"))]
    misposted: i128,
}

impl Cell {
    /// An empty cell of a cluster with so many cells.
    pub fn new(id: CellId, cells: Cells) -> Self {
        Self::with_settlement_step(id, cells, ACCOUNTS_PER_STEP)
    }

    /// The same, with settlements in steps of so many accounts. Every replica of a cell must be made
    /// with the same number.
    pub fn with_settlement_step(id: CellId, cells: Cells, accounts_per_step: u32) -> Self {
        Self {
            format: format::FIRST,
            knows: format::NEWEST,
            head: Head {
                id,
                cells,
                accounts_per_step,
                markets: 0,
                orders: 0,
                events: BTreeMap::new(),
                deadlines: Deadlines::default(),
                audits: Audits::default(),
                books: Books::default(),
            },
            wallets: Wallets::default(),
            answers: Answers::default(),
            markets: BTreeMap::new(),
        }
    }

    /// The same, kept by a program that knows formats up to this one only.
    #[must_use]
    pub fn knowing(self, knows: u16) -> Self {
        Self { knows, ..self }
    }

    pub fn id(&self) -> CellId {
        self.head.id
    }

    /// See [`format`](mod@super::format).
    pub fn format(&self) -> u16 {
        self.format
    }

    /// The cell of an account's wallet.
    fn wallet_cell(&self, account: AccountId) -> CellId {
        self.head.cells.cell_of(kind::ACCOUNT, account.0)
    }

    fn holds_wallet(&self, account: AccountId) -> bool {
        self.wallet_cell(account) == self.head.id
    }

    /// The cell of a market; `None` when no market can have this number.
    fn market_cell(&self, market: MarketId) -> Option<CellId> {
        market.cell().filter(|cell| *cell < self.head.cells.count()).map(CellId)
    }

    fn next_order(&self) -> OrderId {
        OrderId::new(self.head.id.0, self.head.orders + 1)
    }

    /// The cell's books as they are found in its state.
    pub fn totals(&self) -> Totals {
        Totals { wallet: self.wallets.available(), owed: -self.wallets.owed(), ..self.head.books.measured }
    }

    /// All that was ever posted here, as a number and a hash.
    pub fn checkpoint(&self) -> Checkpoint {
        self.head.books.journal.checkpoint()
    }

    /// How many postings there ever were.
    pub fn postings(&self) -> u64 {
        self.head.books.journal.postings()
    }

    fn dispatch(&mut self, command: Command, turn: &mut Turn<'_>) -> Result<Verdict, Refusal> {
        match command {
            Command::CreateAccount { account, name } => self.create_account(account, &name),
            Command::Deposit { account, amount, reference } => self.deposit(turn, account, amount, &reference),
            Command::Withdraw { account, amount, reference } => self.withdraw(turn, account, amount, &reference),
            Command::SetCap { account, cap, reference } => self.set_cap(account, cap, &reference),
            Command::SetDiscount { account, discount_bp, reference } => {
                self.set_discount(account, discount_bp, &reference)
            }
            Command::Fund(fund) => self.fund(turn, fund),
            Command::Heartbeat { account, timeout_ms } => self.heartbeat(turn, account, timeout_ms),
            Command::CancelEverywhere { account } => self.cancel_everywhere(turn, account),
            Command::CreateMarket { definition, reference } => self.create_market(turn, *definition, &reference),
            Command::Open { market } => self.open(turn, market),
            Command::Suspend { market } => self.suspend(turn, market),
            Command::TurnInPlay { market, bet_delay_s } => self.turn_in_play(turn, market, bet_delay_s),
            Command::Execute { instruction, admission } => self.execute(turn, &instruction, admission),
            Command::Cancel { account, market, which, reduction, in_funding } => {
                self.cancel(turn, account, market, which, reduction, in_funding)
            }
            Command::CancelAll { account, market } => self.cancel_all(turn, account, market),
            Command::SetPersistence { account, market, order, persistence } => {
                self.set_persistence(turn, account, market, order, persistence)
            }
            Command::RemoveRunner { market, runner, factor, reference } => {
                self.remove_runner(turn, market, runner, factor, &reference)
            }
            Command::Settle { market, result, reference } => self.settle(turn, market, result, &reference),
            Command::Resettle { market, result, reference } => self.resettle(turn, market, result, &reference),
            Command::Finalise { market } => self.finalise(turn, market),
            Command::Marker { audit } => {
                self.start_audit(turn, audit);
                Ok(Verdict::Done)
            }
            Command::Raise { format } => {
                self.raise(format);
                Ok(Verdict::Done)
            }
        }
    }

    /// # Panics
    /// When whoever keeps this replica does not know the format: it may not guess what comes after.
    fn raise(&mut self, format: u16) {
        reached!("format.raised", format > self.format);
        if self.format < format::ANSWERS_BY_MARKET && format >= format::ANSWERS_BY_MARKET {
            self.put_answers_in_order();
        }
        self.format = self.format.max(format);
        assert!(self.format <= self.knows, "{}", snapshot::too_new(self.format, self.knows));
    }

    /// One turn of the machine: whatever `act` does, its money has gone out and the books agree
    /// when this returns.
    fn turn<R>(&mut self, stamp: Stamp, out: &mut Out<Self>, act: impl FnOnce(&mut Self, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn::new(stamp, out);
        let result = act(self, &mut turn);
        self.finish(turn);
        self.assert_books();
        result
    }

    /// I1, for this cell: what was posted adds up to zero, and is what the state holds.
    fn assert_books(&self) {
        let books = &self.head.books;
        #[cfg_attr(not(any(test, feature = "mispost")), expect(unused_mut, reason = "only a test misposts"))]
        let mut found = self.totals();
        #[cfg(any(test, feature = "mispost"))]
        {
            found.wallet -= books.misposted;
        }
        assert_eq!(books.posted, found, "I1: the books of {} are not what its state holds", self.head.id);
        assert_eq!(books.posted.sum(), 0, "I1: the books of {} do not add up to zero", self.head.id);
    }
}

impl Machine for Cell {
    type Command = Command;
    type Verdict = Verdict;
    type Message = Message;
    type Effect = Effect;
    type Frozen = Cell;

    fn apply(&mut self, stamp: Stamp, command: Command, out: &mut Out<Self>) -> Verdict {
        self.turn(stamp, out, |cell, turn| cell.dispatch(command, turn).unwrap_or_else(Verdict::Refused))
    }

    fn receive(&mut self, stamp: Stamp, from: CellId, message: Message, out: &mut Out<Self>) {
        self.turn(stamp, out, |cell, turn| {
            cell.take_in(from, &message);
            match message {
                Message::Funded(funded) => cell.funded(turn, from, funded),
                Message::Credits { market, lines } => cell.credits(turn, from, market, &lines),
                Message::Collect { market, lines } => cell.collect(turn, from, market, &lines),
                Message::CancelAll { account, market } => cell.cancel_all_here(turn, account, market),
                Message::Left { market, accounts } => cell.left(market, &accounts),
                Message::Marker { audit } => cell.marker(turn, from, audit),
            }
        });
    }

    fn next_deadline(&self) -> Option<Stamp> {
        self.head.deadlines.next()
    }

    fn fire(&mut self, stamp: Stamp, out: &mut Out<Self>) {
        for (due, deadline) in self.head.deadlines.due(stamp) {
            self.turn(stamp, out, |cell, turn| match deadline {
                Deadline::Start(market) => cell.start(turn, market),
                Deadline::Heartbeat(account) => cell.heartbeat_expired(turn, account, due),
                Deadline::Pending(market, key) => {
                    reached!("pending.expired");
                    cell.end_pending(turn, market, key, Refusal::InsufficientFunds);
                }
                Deadline::Settlement(market) => cell.settlement_step(turn, market),
            });
        }
    }

    fn freeze(&self) -> Cell {
        self.clone()
    }

    fn snapshot(frozen: &Cell) -> Chunks<'_> {
        frozen.chunks()
    }

    fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        self.read(bytes)
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for chunk in self.chunks() {
            hasher.update(&chunk);
        }
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests;
