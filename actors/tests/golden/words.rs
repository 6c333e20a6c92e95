//! The smaller enums that commands, messages and snapshots are made of, every variant of each.

use stakehold_actors::{
    api::{Principal, WhichOrder},
    domain::{
        command::{CollectKind, CreditKind, Instruction},
        deadlines::Deadline,
        ledger::{Account, Posting},
        references::{Key, Stored},
        types::{MarketResult, MarketStatus, Minor, OrderView, Persistence, Refusal, Side},
        wallet::LineKind,
    },
};
use stakehold_raft::CellId;

use crate::{
    ACCOUNT, MARKET, ORDER, RUNNER,
    commands::dead_heat,
    lines::{check, variants},
    place, reference, replace,
};

/// Compares every variant of an enum whose variants hold nothing.
macro_rules! words {
    ($lines:expr, $type:ident { $($variant:ident)+ }) => {{
        let _: fn(&$type) = |value| match value { $($type::$variant => ()),+ };
        $($lines.value(concat!(stringify!($type), " ", stringify!($variant)), &$type::$variant);)+
    }};
}

#[test]
fn every_word_is_written_as_it_ever_was() {
    check("words.txt", include_str!("words.txt"), |lines| {
        words!(lines, Side { Back Lay });
        words!(lines, Persistence { Lapse Persist });
        words!(lines, MarketStatus { Inactive Open Suspended Closed });
        words!(lines, CreditKind { Release Return Settlement Correction });
        words!(lines, CollectKind { NonRunner Correction });
        words!(lines, LineKind { Deposit Withdraw Fund Release Return Settle Correct Collect });
        words!(lines, Refusal {
            UnknownAccount UnknownMarket UnknownOrder MarketNotOpen MarketSuspended MarketClosed MarketChanged
            InvalidRunner RunnerRemoved InvalidOdds InvalidSize InvalidMinFill InvalidProfitRatio WouldMatch NotFilled
            Conflict AccountCap MarketCap EventCap InsufficientFunds Cancelled Expired Busy InvalidResult
            InvalidReduction InvalidAmount InvalidDefinition AccountExists ReferenceReused WrongState OrderDone
            InvalidFactor MarketFinal
        });
        variants!(lines, Instruction {
            "place": Instruction::Place(_) => place(),
            "replace": Instruction::Replace(_) => replace(),
        });
        variants!(lines, WhichOrder {
            "order by id": WhichOrder::Id(_) => WhichOrder::Id(ORDER),
            "order by reference": WhichOrder::Reference(..) => WhichOrder::Reference(reference("place-1"), 3),
        });
        variants!(lines, MarketResult {
            "result of fractions": MarketResult::Fractions(_) => dead_heat(),
            "void": MarketResult::Void => MarketResult::Void,
        });
        // The meta cell's records of tokens.
        variants!(lines, Principal {
            "operator": Principal::Operator => Principal::Operator,
            "principal of an account": Principal::Account(_) => Principal::Account(ACCOUNT),
        });
    });
}

pub(crate) fn view() -> OrderView {
    OrderView {
        order: ORDER,
        market: MARKET,
        runner: RUNNER,
        side: Side::Lay,
        price: 350,
        size: Minor(2_000),
        persistence: Persistence::Persist,
        matched: Minor(900),
        matched_value: 315_000,
        remaining: Minor(1_100),
        cancelled: Minor(1),
        lapsed: Minor(2),
        voided: Minor(3),
        placed: 1_700_000_000_000,
        reference: reference("place-1"),
        index: 3,
    }
}

#[test]
fn what_a_cell_keeps_is_written_as_it_ever_was() {
    let key = || Key::order(&place());
    check("kept.txt", include_str!("kept.txt"), |lines| {
        lines.value("key of an order", &key());
        lines.value("key of a wallet's call", &Key::wallet(ACCOUNT, &reference("deposit-1")));
        lines.value("key of an operator's call", &Key::operator(&reference("market-1")));
        lines.value("content", &place().content());
        variants!(lines, Stored {
            "rested": Stored::Rested { .. } => Stored::Rested { order: ORDER, placed: 1_700_000_000_000 },
            "accepted": Stored::Accepted(_) => Stored::Accepted(Box::new(view())),
            "refused": Stored::Refused(_) => Stored::Refused(Refusal::NotFilled),
            "wallet": Stored::Wallet { .. } => Stored::Wallet { amount: Minor(700), available: Minor(49_300) },
            "market created": Stored::MarketCreated(_) => Stored::MarketCreated(MARKET),
            "done": Stored::Done => Stored::Done,
        });
        variants!(lines, Deadline {
            "start": Deadline::Start(_) => Deadline::Start(MARKET),
            "heartbeat": Deadline::Heartbeat(_) => Deadline::Heartbeat(ACCOUNT),
            "pending": Deadline::Pending(..) => Deadline::Pending(MARKET, key()),
            "settlement": Deadline::Settlement(_) => Deadline::Settlement(MARKET),
        });
        // The hash of a ledger is taken over postings, and kept for ever.
        variants!(lines, Account {
            "external": Account::External => Account::External,
            "available": Account::Wallet(_) => Account::Wallet(ACCOUNT),
            "owed": Account::Owed(_) => Account::Owed(ACCOUNT),
            "margin": Account::Margin(..) => Account::Margin(MARKET, ACCOUNT),
            "held": Account::Held(..) => Account::Held(MARKET, ACCOUNT),
            "clearing": Account::Clearing(_) => Account::Clearing(MARKET),
            "commission": Account::Commission => Account::Commission,
            "rounding": Account::Rounding => Account::Rounding,
            "transit": Account::Transit { .. } => Account::Transit { from: CellId(3), to: CellId(200) },
        });
        let posting = Posting::new(Account::External, Account::Wallet(ACCOUNT), Minor(50_000));
        lines.value("posting", &posting);
    });
}
