//! What can be seen of one cell alone; what happens between cells is in `tests/examples`, and in the simulator.

use std::collections::BTreeSet;

use super::*;
use crate::domain::{
    command::{Admission, AuditPart, Fund, Funded, Instruction},
    types::{MarketDefinition, MarketResult, Minor, OrderRequest, Persistence, Reference, RunnerId, Side, WinFraction},
};

const NOW: Stamp = 1_000;

/// Applies a command as a replica does: what is due fires first.
fn told(cell: &mut Cell, stamp: Stamp, command: Command) -> (Verdict, Vec<(CellId, Message)>, Vec<Effect>) {
    let mut out = Out::new(BTreeSet::new());
    if cell.next_deadline().is_some_and(|due| due <= stamp) {
        cell.fire(stamp, &mut out);
    }
    let verdict = cell.apply(stamp, command, &mut out);
    (verdict, out.messages, out.effects)
}

fn run(cell: &mut Cell, command: Command) -> Verdict {
    told(cell, NOW, command).0
}

fn reference(text: impl ToString) -> Reference {
    Reference::new(&text.to_string()).unwrap()
}

fn alone() -> Cell {
    Cell::new(CellId(0), Cells::new(1).unwrap())
}

fn account(cell: &mut Cell, account: u64, deposit: i64) -> AccountId {
    let id = AccountId(account);
    assert_eq!(run(cell, Command::CreateAccount { account: id, name: "u".into() }), Verdict::Done);
    let deposit = Command::Deposit { account: id, amount: Minor(deposit), reference: reference("in") };
    assert!(matches!(run(cell, deposit), Verdict::Wallet(_)));
    id
}

fn definition(event: u64) -> MarketDefinition {
    MarketDefinition {
        min_stake: Minor(1),
        ..MarketDefinition::win(EventId(event), "event", (1..=3).map(|n| (n, n.to_string())))
    }
}

fn market(cell: &mut Cell, name: &str, definition: MarketDefinition) -> MarketId {
    let create = Command::CreateMarket { definition: Box::new(definition), reference: reference(name) };
    let Verdict::MarketCreated(market) = run(cell, create.clone()) else { panic!("no market") };
    assert_eq!(run(cell, create), Verdict::MarketCreated(market), "the same reference, the same market");
    assert_eq!(run(cell, Command::Open { market }), Verdict::Done);
    market
}

fn order(account: AccountId, market: MarketId, side: Side, size: i64, name: impl ToString) -> Instruction {
    Instruction::Place(OrderRequest {
        account,
        market,
        runner: RunnerId(1),
        side,
        price: 200,
        size: Minor(size),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
        reference: reference(name),
        index: 0,
    })
}

fn fund(cell: &Cell, instruction: Instruction, amount: i64) -> Command {
    let admission = cell.admission(instruction.account(), instruction.market(), NOW + 1_000).unwrap();
    Command::Fund(Fund { instruction, admission, attempt: 1, amount: Minor(amount) })
}

fn outcome(effects: &[Effect]) -> Result<crate::domain::types::OrderView, Refusal> {
    let decided = effects.iter().find_map(|effect| match effect {
        Effect::OrderDecided { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    decided.expect("the order has a verdict")
}

#[test]
fn where_wallet_and_market_share_a_cell_it_is_one_apply() {
    let mut cell = alone();
    let (u, m) = (account(&mut cell, 1, 500), market(&mut cell, "m", definition(1)));
    let command = fund(&cell, order(u, m, Side::Back, 200, "a"), 200);
    let (verdict, messages, effects) = told(&mut cell, NOW, command);
    assert_eq!((verdict, messages), (Verdict::Funding, vec![]));
    assert_eq!(outcome(&effects).unwrap().remaining, Minor(200));
    assert_eq!(cell.account_view(u).unwrap().available, Minor(300));
    assert_eq!((cell.totals().margin, cell.totals().external, cell.totals().sum()), (200, -500, 0));
}

#[test]
fn a_congested_stream_refuses_funding_and_remembers_nothing() {
    let cells = Cells::new(2).unwrap();
    let mut cell = Cell::new(CellId(0), cells);
    let id = (1..).find(|key| cells.cell_of(kind::ACCOUNT, *key) == CellId(0)).unwrap();
    let u = account(&mut cell, id, 500);
    let instruction = order(u, MarketId::new(1, 1), Side::Back, 200, "a");
    let admission = Admission { epoch: 1, cancel_epoch: 0, good_until: NOW };
    let command = Command::Fund(Fund { instruction, admission, attempt: 1, amount: Minor(200) });
    let (before, mut out) = (cell.digest(), Out::new(BTreeSet::from([CellId(1)])));
    assert_eq!(cell.apply(NOW, command.clone(), &mut out), Verdict::Busy);
    assert_eq!(cell.digest(), before);
    let (verdict, messages, _) = told(&mut cell, NOW, command);
    assert_eq!((verdict, messages.len()), (Verdict::Funding, 1));
}

#[test]
fn what_nobody_can_mean_is_refused_and_changes_nothing() {
    let mut cell = Cell::new(CellId(0), Cells::new(2).unwrap());
    let cells = Cells::new(2).unwrap();
    let key = |kind, cell| (1..).find(|key| cells.cell_of(kind, *key) == CellId(cell)).unwrap();
    let mine = account(&mut cell, key(kind::ACCOUNT, 0), 500);
    let elsewhere = AccountId(key(kind::ACCOUNT, 1));
    let event_elsewhere = Box::new(definition(key(kind::EVENT, 1)));
    let unknown = MarketId::new(0, 9);
    let admission = Admission { epoch: 1, cancel_epoch: 0, good_until: NOW };
    let nowhere = order(mine, MarketId(5), Side::Back, 1, "n");
    let bad_fund = |instruction: &Instruction, amount, attempt| {
        let instruction = instruction.clone();
        Command::Fund(Fund { instruction, admission, attempt, amount: Minor(amount) })
    };
    let cases = [
        (Command::CreateAccount { account: elsewhere, name: "u".into() }, Refusal::UnknownAccount),
        (Command::CreateAccount { account: mine, name: "other".into() }, Refusal::AccountExists),
        (Command::CreateAccount { account: AccountId(0), name: "u".into() }, Refusal::UnknownAccount),
        (Command::Heartbeat { account: elsewhere, timeout_ms: 1000 }, Refusal::UnknownAccount),
        (Command::Heartbeat { account: mine, timeout_ms: 1 }, Refusal::InvalidAmount),
        (Command::Heartbeat { account: mine, timeout_ms: u64::MAX }, Refusal::InvalidAmount),
        (Command::CancelEverywhere { account: elsewhere }, Refusal::UnknownAccount),
        (Command::Open { market: unknown }, Refusal::UnknownMarket),
        (Command::CancelAll { account: mine, market: unknown }, Refusal::UnknownMarket),
        (Command::Finalise { market: unknown }, Refusal::UnknownMarket),
        (bad_fund(&nowhere, 5, 1), Refusal::UnknownMarket),
        (bad_fund(&nowhere, 0, 1), Refusal::UnknownMarket),
        (bad_fund(&order(mine, unknown, Side::Back, 1, "x"), 0, 1), Refusal::InvalidAmount),
        (bad_fund(&order(mine, unknown, Side::Back, 1, "x"), i64::MIN, 1), Refusal::InvalidAmount),
        (bad_fund(&order(mine, unknown, Side::Back, 1, "x"), i64::MAX, 1), Refusal::InvalidAmount),
        (bad_fund(&order(mine, unknown, Side::Back, 1, "x"), 5, 0), Refusal::InvalidAmount),
        (Command::Execute { instruction: nowhere.clone(), admission }, Refusal::UnknownMarket),
        (Command::Deposit { account: elsewhere, amount: Minor(1), reference: reference("d") }, Refusal::UnknownAccount),
    ];
    let before = cell.digest();
    for (command, refusal) in cases {
        let text = format!("{command:?}");
        assert_eq!(run(&mut cell, command), Verdict::Refused(refusal), "{text}");
        assert_eq!(cell.digest(), before, "{text}");
    }
    // These are verdicts under a reference: remembered, and no money has moved.
    let amounts = [0, -1, i64::MIN, i64::MAX, Minor::MAX_AMOUNT.0 + 1];
    for (n, amount) in amounts.into_iter().enumerate() {
        for withdraw in [false, true] {
            let (amount, reference) = (Minor(amount), reference(format!("bad{n}{withdraw}")));
            let command = match withdraw {
                false => Command::Deposit { account: mine, amount, reference },
                true => Command::Withdraw { account: mine, amount, reference },
            };
            assert_eq!(run(&mut cell, command), Verdict::Refused(Refusal::InvalidAmount));
        }
    }
    let create = Command::CreateMarket { definition: event_elsewhere, reference: reference("m") };
    assert_eq!(run(&mut cell, create), Verdict::Refused(Refusal::InvalidDefinition));
    assert_eq!(cell.account_view(mine).unwrap().available, Minor(500));
}

#[test]
fn a_wallet_call_has_one_effect_and_one_answer() {
    let mut cell = alone();
    let u = account(&mut cell, 1, 500);
    let withdraw = |amount| Command::Withdraw { account: u, amount: Minor(amount), reference: reference("w") };
    let first = run(&mut cell, withdraw(400));
    assert!(matches!(&first, Verdict::Wallet(receipt) if receipt.available == Minor(100)));
    assert_eq!(run(&mut cell, withdraw(400)), first);
    assert_eq!(run(&mut cell, withdraw(401)), Verdict::Refused(Refusal::ReferenceReused));
    let too_much = Command::Withdraw { account: u, amount: Minor(400), reference: reference("w2") };
    assert_eq!(run(&mut cell, too_much.clone()), Verdict::Refused(Refusal::InsufficientFunds));
    let more = Command::Deposit { account: u, amount: Minor(900), reference: reference("d2") };
    run(&mut cell, more);
    assert_eq!(run(&mut cell, too_much), Verdict::Refused(Refusal::InsufficientFunds), "a refusal is remembered");
    assert_eq!(cell.account_view(u).unwrap().available, Minor(1_000));
}

#[test]
fn other_commands_get_in_between_the_steps_of_a_settlement() {
    let mut cell = Cell::with_settlement_step(CellId(0), Cells::new(1).unwrap(), 2);
    let (m, other) = (market(&mut cell, "m", definition(1)), market(&mut cell, "o", definition(2)));
    let accounts: Vec<AccountId> = (1..=5).map(|n| account(&mut cell, n, 100)).collect();
    for u in &accounts {
        let command = fund(&cell, order(*u, m, Side::Back, 60, u), 60);
        run(&mut cell, command);
    }
    // The unmatched orders lapse when it begins; nothing is left for the steps but to close.
    let settle = Command::Settle { market: m, result: MarketResult::Void, reference: reference("s") };
    assert_eq!(run(&mut cell, settle), Verdict::Done);
    let mut settled = 0;
    for n in 0..4 {
        assert!(settled > 0 || cell.next_deadline() == Some(NOW), "the next step is due now");
        let command = fund(&cell, order(accounts[0], other, Side::Back, 10, format!("between{n}")), 10);
        let (_, _, effects) = told(&mut cell, NOW, command);
        assert!(outcome(&effects).is_ok());
        let paid = Effect::Settled { market: m, version: 1 };
        settled += effects.iter().filter(|effect| **effect == paid).count();
        assert_eq!(settled == 1, n >= 2, "five accounts are three steps of two");
    }
}

#[test]
fn who_loses_everything_reads_of_the_settlement_too() {
    let mut cell = alone();
    let m = market(&mut cell, "m", definition(1));
    let [backer, layer, aside] = [1, 2, 3].map(|n| account(&mut cell, n, 500));
    let place = |cell: &mut Cell, instruction| {
        let command = fund(cell, instruction, 200);
        run(cell, command);
    };
    place(&mut cell, order(aside, m, Side::Back, 200, "c"));
    run(&mut cell, Command::CancelAll { account: aside, market: m });
    for instruction in [order(backer, m, Side::Back, 200, "a"), order(layer, m, Side::Lay, 200, "b")] {
        place(&mut cell, instruction);
    }
    let fraction = |id| WinFraction { numerator: u32::from(id == 2), denominator: 1 };
    let result = MarketResult::Fractions((1..=3).map(|id| (RunnerId(id), fraction(id))).collect());
    let settle = Command::Settle { market: m, result, reference: reference("s") };
    assert_eq!(run(&mut cell, settle), Verdict::Done);
    // Whatever comes next has the settlement pay first.
    account(&mut cell, 4, 1);
    let settled = |account| {
        let lines = cell.statement(account, None, 50).unwrap();
        lines.into_iter().filter(|line| line.kind == "settle").map(|line| line.amount.0).collect::<Vec<_>>()
    };
    let (lost, won, nothing) = (settled(backer), settled(layer), settled(aside));
    assert_eq!((lost, nothing), (vec![0], vec![]), "nothing came back of what was there; nothing was there");
    assert!(won.len() == 1 && won[0] > 200, "{won:?}");
}

#[test]
fn a_heartbeat_and_a_start_that_are_due_fire_in_order_before_the_command() {
    let mut cell = alone();
    let (u, m) = (
        account(&mut cell, 1, 500),
        market(&mut cell, "m", MarketDefinition { start: Some(NOW + 50), ..definition(1) }),
    );
    run(&mut cell, Command::Heartbeat { account: u, timeout_ms: 500 });
    let command = fund(&cell, order(u, m, Side::Back, 200, "a"), 200);
    let (_, _, effects) = told(&mut cell, NOW + 50, command);
    assert_eq!(outcome(&effects), Err(Refusal::MarketChanged), "the start came first");
    assert_eq!(cell.account_view(u).unwrap().available, Minor(500));
    let (_, _, effects) = told(&mut cell, NOW + 500, Command::Marker { audit: 1 });
    assert_eq!(effects[0], Effect::HeartbeatExpired { account: u });
}

#[test]
fn an_events_exposure_is_the_sum_over_its_markets_and_its_cap_counts_them_all() {
    let mut cell = alone();
    let u = account(&mut cell, 1, 1_000);
    let capped = || MarketDefinition { event_cap: Some(Minor(300)), ..definition(1) };
    let (a, b) = (market(&mut cell, "a", capped()), market(&mut cell, "b", capped()));
    let elsewhere = market(&mut cell, "c", definition(2));
    let mut place = |market, size, name: &str| {
        let command = fund(&cell, order(u, market, Side::Back, size, name), size);
        outcome(&told(&mut cell, NOW, command).2)
    };
    assert!(place(a, 200, "1").is_ok());
    assert!(place(elsewhere, 200, "2").is_ok());
    assert_eq!(place(b, 101, "3"), Err(Refusal::EventCap));
    assert!(place(b, 100, "4").is_ok());
    assert_eq!(cell.event_exposure(EventId(1), u), Minor(300));
}

/// Runs an audit over both cells by hand; the sum of its parts.
fn audit(cells: &mut [Cell; 2], number: u64) -> i128 {
    let mut parts: Vec<AuditPart> = Vec::new();
    let (_, messages, _) = told(&mut cells[0], NOW, Command::Marker { audit: number });
    let mut queue: Vec<_> = messages.into_iter().map(|(to, message)| (CellId(0), to, message)).collect();
    while let Some((from, to, message)) = queue.pop() {
        let mut out = Out::new(BTreeSet::new());
        cells[usize::from(to.0)].receive(NOW, from, message, &mut out);
        queue.extend(out.messages.into_iter().map(|(next, message)| (to, next, message)));
        parts.extend(out.effects.into_iter().filter_map(|effect| match effect {
            Effect::Audited(part) => Some(part),
            _ => None,
        }));
    }
    assert_eq!(parts.len(), 2);
    assert_eq!(cells[0].audit(number).as_ref(), parts.iter().find(|part| part.cell == CellId(0)));
    parts.iter().map(AuditPart::sum).sum()
}

#[test]
fn a_penny_from_nowhere_turns_the_audit_non_zero() {
    let two = Cells::new(2).unwrap();
    let mut cells = [CellId(0), CellId(1)].map(|id| Cell::new(id, two));
    let id = (1..).find(|key| two.cell_of(kind::ACCOUNT, *key) == CellId(1)).unwrap();
    let u = account(&mut cells[1], id, 500);
    assert_eq!(audit(&mut cells, 1), 0);
    let deposit = |name: &str| Command::Deposit { account: u, amount: Minor(100), reference: reference(name) };
    run(&mut cells[1], deposit("right"));
    assert_eq!(audit(&mut cells, 2), 0);
    run(&mut cells[1], deposit("mispost-1"));
    assert_eq!(audit(&mut cells, 3), 1);
}

#[test]
fn what_travels_together_never_overtakes_the_marker_of_an_audit() {
    let two = Cells::new(2).unwrap();
    let mut cell = Cell::new(CellId(0), two);
    let u = AccountId((1..).find(|key| two.cell_of(kind::ACCOUNT, *key) == CellId(1)).unwrap());
    let funded = |name: &str| {
        let instruction = order(u, MarketId::new(0, 9), Side::Back, 5, name);
        let admission = Admission { epoch: 1, cancel_epoch: 0, good_until: NOW };
        Message::Funded(Funded { instruction, admission, attempt: 1, amount: Minor(5), refusal: None, discount_bp: 0 })
    };
    // One delivery: its messages share what goes out.
    let mut out = Out::new(BTreeSet::new());
    for message in [funded("a"), funded("b"), Message::Marker { audit: 1 }, funded("c"), funded("d")] {
        cell.receive(NOW, CellId(1), message, &mut out);
    }
    let money: Vec<i64> = out
        .messages
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Credits { lines, .. } => Some(lines.iter().map(|line| line.amount.0).sum()),
            Message::Marker { .. } => Some(-1),
            _ => None,
        })
        .collect();
    assert_eq!(money.iter().filter(|money| **money > 0).sum::<i64>(), 20);
    let marker = money.iter().position(|money| *money == -1).unwrap();
    assert_eq!(money[..marker].iter().sum::<i64>(), 10, "{money:?}");
}

#[test]
fn only_the_last_audits_are_kept_and_a_late_marker_starts_none_again() {
    let mut cell = alone();
    for number in 1..=6 {
        run(&mut cell, Command::Marker { audit: number });
    }
    let kept: Vec<u64> = (1..=6).filter(|number| cell.audit(*number).is_some()).collect();
    assert_eq!(kept, [3, 4, 5, 6]);
    let (_, _, effects) = told(&mut cell, NOW, Command::Marker { audit: 2 });
    assert_eq!((effects, cell.audit(2)), (vec![], None));
}

#[test]
fn a_snapshot_comes_in_bounded_chunks_and_only_into_its_own_cell() {
    let mut cell = alone();
    let m = market(&mut cell, "m", definition(1));
    for n in 1..=3_000 {
        let u = account(&mut cell, n, 100);
        let command = fund(&cell, order(u, m, Side::Back, 60, n), 60);
        run(&mut cell, command);
    }
    let frozen = cell.freeze();
    let bytes: Vec<u8> =
        Cell::snapshot(&frozen).inspect(|chunk| assert!(chunk.len() <= 256 * 1024)).flatten().collect();
    let restored = alone().restore(&bytes).unwrap();
    assert_eq!((restored.digest(), restored.totals()), (cell.digest(), cell.totals()));
    let other = Cell::new(CellId(1), Cells::new(2).unwrap()).restore(&bytes).unwrap_err();
    assert_eq!(other, "the snapshot is of cell c0 of 1, not c1 of 2");
    for (bytes, complaint) in [
        (&bytes[..bytes.len() - 1], "cannot be read"),
        (&[&bytes[..], b"x"].concat()[..], "1 bytes too many"),
        (&[9], "version 9"),
        (&[], "empty"),
    ] {
        let error = alone().restore(bytes).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_cell_is_raised_to_a_newer_format_once_and_its_snapshots_say_so() {
    let mut cell = alone();
    let bytes = |cell: &Cell| cell.chunks().flatten().collect::<Vec<u8>>();
    let old = |cell: &Cell| alone().knowing(format::FIRST).restore(&bytes(cell));
    // 100 characters, 200 bytes.
    let named = |account| Command::CreateAccount { account: AccountId(account), name: "é".repeat(100) };
    assert_eq!(run(&mut cell, named(1)), Verdict::Refused(Refusal::InvalidDefinition));
    assert_eq!(old(&cell).unwrap().digest(), cell.digest(), "an older program reads what a newer one has written");

    let raise = |format| Command::Raise { format };
    assert_eq!(run(&mut cell, raise(format::NEWEST)), Verdict::Done);
    assert_eq!(run(&mut cell, raise(format::FIRST)), Verdict::Done);
    assert_eq!(cell.format(), format::NEWEST, "a leader that has not heard of it yet takes nothing back");
    assert_eq!(run(&mut cell, named(1)), Verdict::Done);
    let restored = alone().restore(&bytes(&cell)).unwrap();
    assert_eq!((restored.format(), restored.digest()), (cell.format(), cell.digest()));
    let refused = old(&cell).unwrap_err();
    assert!(refused.contains("has format 3") && refused.contains("up to 1: run the newer program"), "{refused}");
}

#[test]
#[should_panic(expected = "has format 4, and this node knows formats up to 3")]
fn a_format_that_is_not_known_halts_the_replica() {
    run(&mut alone(), Command::Raise { format: format::NEWEST + 1 });
}

#[test]
fn a_final_market_forgets_what_it_answered_and_does_nothing_twice() {
    for format in [format::NAMES_IN_CHARACTERS, format::ANSWERS_BY_MARKET] {
        let mut cell = alone();
        run(&mut cell, Command::Raise { format });
        let (u, m) = (account(&mut cell, 1, 500), market(&mut cell, "m", definition(1)));
        let (bet, late) = (order(u, m, Side::Back, 200, "a"), order(u, m, Side::Back, 100, "late"));
        let (bet, late) = (fund(&cell, bet, 200), fund(&cell, late, 100));
        let first = outcome(&told(&mut cell, NOW, bet.clone()).2);
        assert!(first.is_ok());
        let settle = Command::Settle { market: m, result: MarketResult::Void, reference: reference("s") };
        for command in [settle.clone(), Command::Finalise { market: m }] {
            // Until it is final, the first answer stands, and money that came again goes back.
            assert_eq!(outcome(&told(&mut cell, NOW, bet.clone()).2), first);
            assert_eq!(run(&mut cell, command), Verdict::Done);
        }
        let (answers, balance) = (cell.sizes().2, cell.account_view(u).unwrap());
        let by_reference = Command::Cancel {
            account: u,
            market: m,
            which: crate::api::WhichOrder::Reference(reference("a"), 0),
            reduction: None,
            in_funding: true,
        };
        if format == format::NAMES_IN_CHARACTERS {
            assert_eq!(outcome(&told(&mut cell, NOW, bet).2), first);
            assert_eq!(outcome(&told(&mut cell, NOW, late).2), Err(Refusal::MarketClosed));
            continue;
        }
        for command in [bet, late] {
            let Command::Fund(Fund { instruction, admission, .. }) = &command else { panic!() };
            assert_eq!(outcome(&told(&mut cell, NOW, command.clone()).2), Err(Refusal::MarketFinal));
            assert_eq!(cell.needed(instruction), views::Needed::Verdict(Err(Refusal::MarketFinal)));
            let execute = Command::Execute { instruction: instruction.clone(), admission: *admission };
            assert_eq!(run(&mut cell, execute), Verdict::Refused(Refusal::MarketFinal));
        }
        assert_eq!(run(&mut cell, by_reference), Verdict::Refused(Refusal::MarketFinal));
        assert_eq!(cell.sizes().2, answers, "nothing is remembered there any more");
        assert_eq!(cell.account_view(u).unwrap().available, balance.available);
        assert_eq!(run(&mut cell, settle), Verdict::Done, "the operator's calls are the cell's");
    }
}

#[test]
fn what_was_answered_before_a_raise_stays_answered_and_replicas_agree_whatever_they_were_read_from() {
    let mut cell = alone();
    let (u, m) = (account(&mut cell, 1, 100_000), market(&mut cell, "m", definition(1)));
    let bet = |cell: &Cell, n: u64| fund(cell, order(u, m, Side::Back, 10, n), 10);
    let mut answers = vec![];
    for n in 0..100 {
        let command = bet(&cell, n);
        answers.push((command.clone(), outcome(&told(&mut cell, NOW, command).2)));
    }
    let read = |cell: &Cell| alone().restore(&cell.chunks().flatten().collect::<Vec<u8>>()).unwrap();
    let mut other = read(&cell);
    for cell in [&mut cell, &mut other] {
        run(cell, Command::Raise { format: format::ANSWERS_BY_MARKET });
    }
    assert_eq!(cell.digest(), other.digest());
    for n in 100..200 {
        let command = bet(&cell, n);
        answers.push((command.clone(), outcome(&told(&mut cell, NOW, command.clone()).2)));
        told(&mut other, NOW, command);
        if n % 30 == 0 {
            other = read(&other);
        }
    }
    assert_eq!(cell.digest(), other.digest());
    for (command, answer) in answers {
        assert_eq!(outcome(&told(&mut cell, NOW, command).2), answer);
    }
}
