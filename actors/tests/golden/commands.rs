//! Entries of a cell's log: a batch of items, each a command of a cell or of the meta cell, a delivery
//! of messages, or a tick.

use std::collections::BTreeMap;

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::Cell,
        command::{Command, Fund},
        types::{EventId, MarketDefinition, MarketResult, Minor, Persistence, RunnerDefinition, RunnerId, WinFraction},
    },
};
use stakehold_raft::{
    CellId, Cells, Machine, NodeId,
    meta::{Founding, Member, MetaCommand, MetaOr, WithMeta},
    replica::{Ack, Batch, Delivery, Item, Origin},
};

use crate::{
    ACCOUNT, MARKET, ORDER, RUNNER, admission,
    lines::{check, variants},
    place, reference, replace,
};

/// What the log of a node that runs the exchange holds.
type Logged = <WithMeta<Cell> as Machine>::Command;

pub(crate) fn definition() -> MarketDefinition {
    let runner = |id, name: &str| RunnerDefinition { id: RunnerId(id), name: name.into() };
    MarketDefinition {
        event: EventId(12),
        event_name: "The 3.30".into(),
        name: "to be placed".into(),
        market_type: "PLACE".into(),
        runners: vec![runner(301, "First"), runner(302, "Second"), runner(303, "Third")],
        winners: 2,
        complete: true,
        bet_delay_s: 5,
        min_stake: Minor(100),
        max_stake: Minor(1_000_000),
        commission_bp: 500,
        start: Some(1_700_000_060_000),
        market_cap: Some(Minor(300_000)),
        event_cap: None,
    }
}

pub(crate) fn dead_heat() -> MarketResult {
    let fraction = |id, numerator, denominator| (RunnerId(id), WinFraction { numerator, denominator });
    MarketResult::Fractions(vec![fraction(301, 1, 1), fraction(302, 1, 2), fraction(303, 1, 2)])
}

#[test]
fn a_command_is_in_the_log_as_it_ever_was() {
    check("commands.txt", include_str!("commands.txt"), |lines| {
        variants!(lines, Command {
            "create account": Command::CreateAccount { .. } =>
                Command::CreateAccount { account: ACCOUNT, name: "Ada".into() },
            "deposit": Command::Deposit { .. } =>
                Command::Deposit { account: ACCOUNT, amount: Minor(50_000), reference: reference("deposit-1") },
            "withdraw": Command::Withdraw { .. } =>
                Command::Withdraw { account: ACCOUNT, amount: Minor(700), reference: reference("withdraw-1") },
            "set cap": Command::SetCap { .. } =>
                Command::SetCap { account: ACCOUNT, cap: Some(Minor(9_000)), reference: reference("cap-1") },
            "lift cap": Command::SetCap { .. } =>
                Command::SetCap { account: ACCOUNT, cap: None, reference: reference("cap-2") },
            "set discount": Command::SetDiscount { .. } =>
                Command::SetDiscount { account: ACCOUNT, discount_bp: 2_500, reference: reference("discount-1") },
            "fund": Command::Fund(_) =>
                Command::Fund(Fund { instruction: place(), admission: admission(), attempt: 2, amount: Minor(5_000) }),
            "heartbeat": Command::Heartbeat { .. } => Command::Heartbeat { account: ACCOUNT, timeout_ms: 5_000 },
            "cancel everywhere": Command::CancelEverywhere { .. } => Command::CancelEverywhere { account: ACCOUNT },
            "create market": Command::CreateMarket { .. } =>
                Command::CreateMarket { definition: Box::new(definition()), reference: reference("market-1") },
            "open": Command::Open { .. } => Command::Open { market: MARKET },
            "suspend": Command::Suspend { .. } => Command::Suspend { market: MARKET },
            "turn in-play": Command::TurnInPlay { .. } => Command::TurnInPlay { market: MARKET, bet_delay_s: 8 },
            "execute": Command::Execute { .. } =>
                Command::Execute { instruction: place(), admission: admission() },
            "execute a replacement": Command::Execute { .. } =>
                Command::Execute { instruction: replace(), admission: admission() },
            "cancel by id": Command::Cancel { .. } => Command::Cancel {
                account: ACCOUNT,
                market: MARKET,
                which: WhichOrder::Id(ORDER),
                reduction: Some(Minor(400)),
                in_funding: false,
            },
            "cancel by reference": Command::Cancel { .. } => Command::Cancel {
                account: ACCOUNT,
                market: MARKET,
                which: WhichOrder::Reference(reference("place-1"), 3),
                reduction: None,
                in_funding: true,
            },
            "cancel all": Command::CancelAll { .. } => Command::CancelAll { account: ACCOUNT, market: MARKET },
            "set persistence": Command::SetPersistence { .. } => Command::SetPersistence {
                account: ACCOUNT,
                market: MARKET,
                order: ORDER,
                persistence: Persistence::Persist,
            },
            "remove runner": Command::RemoveRunner { .. } => Command::RemoveRunner {
                market: MARKET,
                runner: RUNNER,
                factor: 12_500,
                reference: reference("remove-1"),
            },
            "settle": Command::Settle { .. } =>
                Command::Settle { market: MARKET, result: dead_heat(), reference: reference("settle-1") },
            "resettle": Command::Resettle { .. } =>
                Command::Resettle { market: MARKET, result: MarketResult::Void, reference: reference("resettle-1") },
            "finalise": Command::Finalise { .. } => Command::Finalise { market: MARKET },
            "marker": Command::Marker { .. } => Command::Marker { audit: 300 },
            "raise": Command::Raise { .. } => Command::Raise { format: 2 },
        });
    });
}

fn member(incarnation: u32) -> Member {
    Member { incarnation, zone: "north".into(), weight: 100 }
}

#[test]
fn a_change_of_the_meta_cell_is_in_the_log_as_it_ever_was() {
    check("meta.txt", include_str!("meta.txt"), |lines| {
        variants!(lines, MetaCommand {
            "found": MetaCommand::Found(_) => MetaCommand::Found(Founding {
                cluster: "a-cluster".into(),
                cells: Cells::new(64).unwrap(),
                members: BTreeMap::from([(NodeId(1), member(0)), (NodeId(300), member(1_700_000_000))]),
                placement: BTreeMap::from([
                    (CellId(0), vec![NodeId(1), NodeId(300)]),
                    (CellId::META, vec![NodeId(300), NodeId(1)]),
                ]),
            }),
            "set member": MetaCommand::SetMember(..) => MetaCommand::SetMember(NodeId(300), member(7)),
            "set placement": MetaCommand::SetPlacement(..) =>
                MetaCommand::SetPlacement(CellId(5), vec![NodeId(300), NodeId(2)]),
            "put": MetaCommand::Put { .. } => MetaCommand::Put {
                space: "token".into(),
                key: vec![1, 2, 3],
                value: vec![1, 77],
                expect: Some(6),
            },
            "put whatever is there": MetaCommand::Put { .. } =>
                MetaCommand::Put { space: "token".into(), key: vec![4], value: vec![], expect: None },
            "remove": MetaCommand::Remove { .. } => MetaCommand::Remove { space: "token".into(), key: vec![1, 2, 3] },
        });
    });
}

#[test]
fn a_batch_is_in_the_log_as_it_ever_was() {
    let command = || MetaOr::Cell(Command::Open { market: MARKET });
    let meta = || MetaOr::Meta(MetaCommand::Remove { space: "token".into(), key: vec![1] });
    let delivery = || Delivery {
        from: CellId(37),
        first: 1_000,
        hash: 0x0123_4567_89ab_cdef,
        messages: vec![vec![5, 200, 1].into(), vec![].into(), vec![5, 1].into()],
    };
    check("batches.txt", include_str!("batches.txt"), |lines| {
        variants!(lines, Logged {
            "of a cell": MetaOr::Cell(_) => command(),
            "of the meta cell": MetaOr::Meta(_) => meta(),
        });
        variants!(lines, Item<Logged> {
            "command": Item::Command(_) => Item::Command(command()),
            "delivery": Item::Deliver(_) => Item::Deliver(delivery()),
            "tick": Item::Tick => Item::Tick,
        });
        let items = vec![Item::Command(command()), Item::Deliver(delivery()), Item::Tick, Item::Command(meta())];
        let batch: Batch<Logged> = Batch {
            stamp: 1_700_000_000_000,
            origin: Origin { node: 0xfeed_0000_0000_0001, number: 42 },
            acks: vec![Ack { by: CellId(3), through: 999, hash: u64::MAX }, Ack { by: CellId(4), through: 0, hash: 0 }],
            items,
        };
        lines.value("batch", &batch);
        lines.value(
            "batch of nothing",
            &Batch::<Logged> { stamp: 0, origin: Origin::default(), acks: vec![], items: vec![] },
        );
    });
}
