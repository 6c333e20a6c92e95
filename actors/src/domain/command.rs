//! The words between a cell and the world: what can be proposed to it, what it answers, what it
//! sends to other cells, and what it tells whoever listens. Plain data, no behaviour beyond
//! reading a field; the meaning of each command is implemented in [`super::cell`].
//!
//! Commands and messages are in the log and on the wire: variants are only ever added at the end, and fields
//! never, for what was written before could not be read with them. What is new is not said before all
//! nodes know it: see [`super::format`].

use serde::{Deserialize, Serialize};
use stakehold_raft::{CellId, machine::Stamp};

use super::{
    content::content,
    ledger::{Checkpoint, Posting, Totals},
    types::{
        AccountId, MarketDefinition, MarketId, MarketResult, Minor, OrderId, OrderRequest, OrderView, Persistence,
        Reference, Refusal, RunnerId,
    },
};
use crate::api::{MarketDelta, WalletReceipt, WhichOrder};

/// What a client's order saw when it was taken in: the market's cell refuses it if that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// [`MarketView::epoch`](crate::api::MarketView): another one is `MARKET_CHANGED`.
    pub epoch: u64,
    /// The account's cancel epoch in this market: an older one is `CANCELLED`.
    pub cancel_epoch: u64,
    /// A later stamp is `EXPIRED`. Retries of a reference keep it.
    pub good_until: Stamp,
}

/// An instruction that may need money from the wallet before it can be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instruction {
    Place(OrderRequest),
    Replace(Replacement),
}

/// An unmatched rest moves to another price, atomically, under a new order id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    pub account: AccountId,
    pub market: MarketId,
    pub order: OrderId,
    /// Hundredths.
    pub price: u32,
    pub reference: Reference,
}

/// Names one order instruction: the reference is per account and market, and a call with several
/// orders gives each its index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    pub account: AccountId,
    pub market: MarketId,
    pub reference: Reference,
    pub index: u16,
}

impl Instruction {
    pub fn account(&self) -> AccountId {
        match self {
            Instruction::Place(order) => order.account,
            Instruction::Replace(replacement) => replacement.account,
        }
    }

    pub fn market(&self) -> MarketId {
        match self {
            Instruction::Place(order) => order.market,
            Instruction::Replace(replacement) => replacement.market,
        }
    }

    /// The caller's name for it, and its position in the call.
    pub fn reference(&self) -> (&Reference, u16) {
        match self {
            Instruction::Place(order) => (&order.reference, order.index),
            Instruction::Replace(replacement) => (&replacement.reference, 0),
        }
    }

    pub fn key(&self) -> OrderKey {
        let (reference, index) = self.reference();
        OrderKey { account: self.account(), market: self.market(), reference: reference.clone(), index }
    }

    /// A hash of everything the client said: the same reference with another content is an error.
    /// Never 0.
    pub fn content(&self) -> u64 {
        content(self)
    }
}

/// What can be proposed to a cell. Those above the line concern a wallet and go to the account's
/// cell; those below concern a market and go to its cell. In any other cell they are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The same account with the same name again is the same answer; with another, `ACCOUNT_EXISTS`.
    CreateAccount {
        account: AccountId,
        name: String,
    },
    Deposit {
        account: AccountId,
        amount: Minor,
        reference: Reference,
    },
    /// Takes from what is available, never from margins.
    Withdraw {
        account: AccountId,
        amount: Minor,
        reference: Reference,
    },
    /// The most that may be in markets at once; `None` lifts it.
    SetCap {
        account: AccountId,
        cap: Option<Minor>,
        reference: Reference,
    },
    /// How much less commission the account pays, in basis points of it. It holds in a market from the
    /// account's next funded order there.
    SetDiscount {
        account: AccountId,
        discount_bp: u32,
        reference: Reference,
    },
    /// Moves `amount` from the wallet to the market's cell, together with the instruction. The
    /// verdict says only that it is on its way: what became of the instruction is an
    /// [`Effect::OrderDecided`] or [`Effect::OrderPending`] of the market's cell.
    Fund(Fund),
    /// Cancels everything of the account unless called again within `timeout_ms`; 0 disarms.
    Heartbeat {
        account: AccountId,
        timeout_ms: u64,
    },
    /// Cancels in every market the account has entered, wherever it is.
    CancelEverywhere {
        account: AccountId,
    },

    // -- a market's --
    CreateMarket {
        definition: Box<MarketDefinition>,
        reference: Reference,
    },
    Open {
        market: MarketId,
    },
    Suspend {
        market: MarketId,
    },
    TurnInPlay {
        market: MarketId,
        bet_delay_s: u16,
    },
    /// Carries out an instruction with the money that is already in the market. When that does not
    /// suffice the verdict is [`Verdict::NeedsFunds`], which is not remembered.
    Execute {
        instruction: Instruction,
        admission: Admission,
    },
    /// Takes `reduction` off what is unmatched, or all of it. `in_funding`: the caller knows that
    /// the reference is under way from the wallet; then one that has not arrived yet is dead
    /// before it does.
    Cancel {
        account: AccountId,
        market: MarketId,
        which: WhichOrder,
        reduction: Option<Minor>,
        in_funding: bool,
    },
    /// Everything unmatched of the account here, also what is still being funded.
    CancelAll {
        account: AccountId,
        market: MarketId,
    },
    SetPersistence {
        account: AccountId,
        market: MarketId,
        order: OrderId,
        persistence: Persistence,
    },
    RemoveRunner {
        market: MarketId,
        runner: RunnerId,
        factor: u32,
        reference: Reference,
    },
    /// Begins a settlement; it is finished with [`Effect::Settled`].
    Settle {
        market: MarketId,
        result: MarketResult,
        reference: Reference,
    },
    Resettle {
        market: MarketId,
        result: MarketResult,
        reference: Reference,
    },
    Finalise {
        market: MarketId,
    },

    // -- any cell's --
    /// Starts (or joins) the audit of this number here: see [`Effect::Audited`].
    Marker {
        audit: u64,
    },
    /// From here on the cell has this format, if its own is older: see [`super::format`].
    Raise {
        format: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fund {
    pub instruction: Instruction,
    pub admission: Admission,
    /// 1 at first; [`Effect::OrderPending`] names the one that was short.
    pub attempt: u8,
    pub amount: Minor,
}

/// A cell's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Refused(Refusal),
    /// Too much is in flight to that market's cell. Nothing happened and nothing is remembered.
    Busy,
    /// Of a deposit, a withdrawal or a cap: the first call's receipt, however often it is called.
    Wallet(WalletReceipt),
    MarketCreated(MarketId),
    /// Of a fund: the money is on its way (or already there, in this cell).
    Funding,
    /// Of an execute: the order as it was right after its own matching.
    Accepted(OrderView),
    /// Of an execute: this much more must come from the wallet first. Not remembered.
    NeedsFunds(Minor),
    /// Of an execute: the same instruction waits for this much more since its `attempt`-th funding.
    Pending {
        short: Minor,
        attempt: u8,
    },
    /// Of a cancel: what was taken off, and how much money goes back to the wallet for it (an
    /// [`Effect::Credited`] of the wallet's cell says when it is there).
    Cancelled {
        order: Option<OrderId>,
        cancelled: Minor,
        released: Minor,
    },
    /// Of a cancel-all.
    CancelledAll {
        orders: Vec<(OrderId, Minor)>,
        released: Minor,
    },
    /// Of a change of persistence.
    Order(OrderView),
}

/// What travels from cell to cell. Each is consumable, whatever the business says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Wallet to market: money and the instruction it is for.
    Funded(Funded),
    /// Market to wallets: money that comes back.
    Credits { market: MarketId, lines: Vec<CreditLine> },
    /// Market to wallets: money that must come; in flight it counts −amount.
    Collect { market: MarketId, lines: Vec<CollectLine> },
    /// Wallet to market: a heartbeat has expired, or the account wants everything cancelled.
    CancelAll { account: AccountId, market: MarketId },
    /// Market to wallets: these accounts have nothing here any more and never will.
    Left { market: MarketId, accounts: Vec<AccountId> },
    /// The cut of an audit in this stream.
    Marker { audit: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funded {
    pub instruction: Instruction,
    pub admission: Admission,
    pub attempt: u8,
    /// Zero when the wallet could not pay.
    pub amount: Minor,
    /// Why it could not; the market's cell decides whether that matters.
    pub refusal: Option<Refusal>,
    /// The account's discount on commission, in basis points, as the wallet knows it now.
    pub discount_bp: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditLine {
    pub account: AccountId,
    pub amount: Minor,
    pub kind: CreditKind,
    /// How much less of the account's money is now in the market: the amount of a release, the
    /// whole margin at a settlement, whatever was paid out.
    pub left_market: Minor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CreditKind {
    /// Margin that is no longer needed.
    Release,
    /// Money that came for an instruction and was not needed or not accepted.
    Return,
    Settlement,
    /// A resettlement's difference.
    Correction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectLine {
    pub account: AccountId,
    pub amount: Minor,
    pub kind: CollectKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CollectKind {
    /// A removal raised the exposure; the money is in the market's margin.
    NonRunner,
    /// A resettlement's difference.
    Correction,
}

/// What a cell tells whoever listens: the same on every replica, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// An instruction has its verdict: after a fund, an execute, a cancel of what was in funding,
    /// an end of its time. Repeated when the reference comes again. `content` is the
    /// [`Instruction::content`] it is the answer to: a reference that was used twice with another
    /// content has two callers. 0 when only the reference is known (a cancel in funding).
    OrderDecided {
        key: OrderKey,
        content: u64,
        outcome: Result<OrderView, Refusal>,
    },
    /// An instruction is held, and needs `short` more by a fund with `attempt` + 1.
    OrderPending {
        key: OrderKey,
        content: u64,
        short: Minor,
        attempt: u8,
    },
    /// An order changed (matched, cancelled, lapsed, voided).
    Order {
        account: AccountId,
        order: OrderView,
    },
    /// A market's book or state changed.
    Market(MarketDelta),
    /// A settlement (version 1) or resettlement (2, …) has been paid out.
    Settled {
        market: MarketId,
        version: u32,
    },
    /// Money of this market has reached the wallet, or been collected from it.
    Credited {
        account: AccountId,
        market: MarketId,
    },
    HeartbeatExpired {
        account: AccountId,
    },
    /// What one apply did to the books.
    Posted(Vec<Posting>),
    /// This cell's part of an audit is complete.
    Audited(AuditPart),
}

/// A cell's part of the cut: the parts of all cells add up to zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPart {
    pub audit: u64,
    pub cell: CellId,
    /// The cell's books when its state was recorded, without what is in flight to or from others.
    pub totals: Totals,
    /// All that was posted here until then.
    pub checkpoint: Checkpoint,
    /// Money that was on its way into this cell at the cut, signed: collections count −.
    pub in_flight: i128,
}

impl AuditPart {
    /// This cell's contribution to the sum over all cells, which must be zero.
    pub fn sum(&self) -> i128 {
        self.totals.sum() + self.in_flight
    }
}
