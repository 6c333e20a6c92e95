//! Histories that are known to be good, histories that are known to be bad, and random ones that are good
//! until one answer is changed.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const ACCOUNT: AccountId = AccountId(7);
const MARKET: MarketId = MarketId(100_001_024);

fn named(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

fn call((invoked, returned): (u64, u64), op: Op, answer: Answer) -> Call {
    Call { client: 1, invoked, returned: Some(returned), op, answer: Some(answer) }
}

/// Nobody heard what became of it.
fn unheard(invoked: u64, op: Op) -> Call {
    Call { client: 1, invoked, returned: None, op, answer: None }
}

fn moving(reference: &str, change: i64) -> Op {
    Op::Move { account: ACCOUNT, reference: named(reference), change: Minor(change) }
}

fn moved(span: (u64, u64), reference: &str, change: i64, available: i64) -> Call {
    call(span, moving(reference, change), Answer::Receipt { available: Minor(available) })
}

fn line(number: u64, change: i64, available: i64, reference: Option<&str>) -> Line {
    Line {
        number,
        change: Minor(change),
        available: Minor(available),
        owed: Minor::ZERO,
        reference: reference.map(named),
    }
}

fn statement(span: (u64, u64), lines: &[Line]) -> Call {
    let count = lines.last().map_or(0, |line| line.number);
    call(span, Op::Statement { account: ACCOUNT }, Answer::Lines { count, lines: lines.to_vec() })
}

fn balance(span: (u64, u64), available: i64) -> Call {
    let answer = Answer::Balance { available: Minor(available), owed: Minor::ZERO };
    call(span, Op::Balance { account: ACCOUNT }, answer)
}

fn operate(span: (u64, u64), op: Op) -> Call {
    call(span, op, Answer::Done)
}

fn look(span: (u64, u64), status: MarketStatus, epoch: u64) -> Call {
    call(span, Op::Look { market: MARKET }, Answer::Market { status, in_play: false, epoch })
}

fn placing(reference: &str) -> Op {
    Op::Place(OrderKey { account: ACCOUNT, market: MARKET, reference: named(reference), index: 0 })
}

fn good(calls: &[Call]) {
    assert_eq!(check(calls), Ok(vec![]));
    let mut backwards = calls.to_vec();
    backwards.reverse();
    assert_eq!(check(&backwards), Ok(vec![]), "their order in the list means nothing");
}

fn bad(calls: &[Call], why: &str) {
    let violation = check(calls).unwrap_err();
    assert_eq!(violation.oracle, "Linearizability");
    assert!(violation.message.contains(why), "{violation}");
}

const NO_ORDER: &str = "no order of its calls";
const OPEN: Op = Op::Open { market: MARKET };
const SUSPEND: Op = Op::Suspend { market: MARKET };

#[test]
fn a_wallet_that_keeps_what_it_confirmed() {
    let (a, b) = (line(1, 100, 100, Some("a")), line(2, 50, 150, Some("b")));
    good(&[moved((0, 10), "a", 100, 100), balance((20, 30), 100), statement((20, 30), std::slice::from_ref(&a))]);
    // Two at once, in either order; the one who looks meanwhile sees none, one or both.
    for seen in [&[][..], std::slice::from_ref(&a), &[a.clone(), b.clone()]] {
        good(&[moved((0, 50), "a", 100, 100), moved((0, 50), "b", 50, 150), statement((10, 40), seen)]);
    }
    // A market takes a part and gives it back; who looks sees any of it.
    let lines = [a.clone(), line(2, -60, 40, None), line(3, 60, 100, None), line(4, -100, 0, Some("w"))];
    for seen in [100, 40] {
        good(&[
            moved((0, 10), "a", 100, 100),
            balance((20, 30), seen),
            moved((40, 50), "w", -100, 0),
            statement((60, 70), &lines),
        ]);
    }
}

#[test]
fn a_wallet_that_forgets_shows_it() {
    let a = line(1, 100, 100, Some("a"));
    let first = moved((0, 10), "a", 100, 100);
    bad(&[first.clone(), statement((20, 30), &[])], NO_ORDER);
    let b = line(1, 50, 50, Some("b"));
    bad(&[first.clone(), moved((20, 30), "b", 50, 50), statement((40, 50), &[b])], NO_ORDER);
    // Back in time, between two clients.
    let both = [a.clone(), line(2, 50, 150, Some("b"))];
    let writing = moved((0, 100), "b", 50, 150);
    bad(
        &[first.clone(), writing.clone(), statement((20, 30), &both), statement((40, 50), std::slice::from_ref(&a))],
        NO_ORDER,
    );
    good(&[first.clone(), writing, statement((20, 45), &both), statement((40, 50), std::slice::from_ref(&a))]);
    // Not the balance after any line that was shown.
    bad(&[first.clone(), balance((20, 30), 99), statement((40, 50), std::slice::from_ref(&a))], NO_ORDER);
    // In the other order than it was confirmed.
    let turned = [line(1, 50, 50, Some("b")), line(2, 100, 150, Some("a"))];
    bad(&[moved((0, 10), "a", 100, 150), moved((20, 30), "b", 50, 50), statement((40, 50), &turned)], NO_ORDER);
}

#[test]
fn a_statement_is_one_list() {
    let first = moved((0, 10), "a", 100, 100);
    let a = line(1, 100, 100, Some("a"));
    bad(&[first.clone(), statement((20, 30), &[a.clone(), line(2, 100, 200, Some("a"))])], "took effect twice");
    bad(&[first.clone(), statement((20, 30), &[a.clone(), line(2, -30, 80, None)])], "does not follow");
    let other = line(1, 90, 90, Some("a"));
    bad(
        &[first.clone(), statement((20, 30), std::slice::from_ref(&a)), statement((20, 30), &[other])],
        "two statements differ",
    );
    bad(&[first.clone(), statement((20, 30), &[a, line(2, 5, 105, Some("x"))])], "nobody used");
    bad(&[first.clone(), moved((20, 30), "a", 100, 200)], "two receipts");
    bad(&[moved((0, 10), "a", 100, 120), statement((20, 30), &[line(1, 100, 100, Some("a"))])], "by its receipt");
}

#[test]
fn a_repeat_has_the_first_answer() {
    let (refused, reused) = (Answer::Refused(Refusal::InsufficientFunds), Answer::Refused(Refusal::ReferenceReused));
    let withdrawn = |span, answer: &Answer| call(span, moving("w", -10), answer.clone());
    good(&[withdrawn((0, 10), &refused), moved((20, 30), "a", 100, 100), withdrawn((40, 50), &refused)]);
    bad(
        &[
            moved((0, 10), "a", 100, 100),
            withdrawn((20, 30), &refused),
            balance((20, 30), 100),
            statement((40, 50), &[line(1, 100, 100, Some("a"))]),
        ],
        NO_ORDER,
    );
    bad(
        &[withdrawn((0, 10), &refused), moved((20, 30), "a", 100, 100), moved((40, 50), "w", -10, 90)],
        "refused, and done",
    );
    good(&[
        moved((0, 10), "a", 100, 100),
        moved((20, 30), "a", 100, 100),
        call((20, 30), moving("a", 5), reused.clone()),
    ]);
    bad(&[call((0, 10), moving("a", 5), reused), moved((20, 30), "a", 100, 100)], NO_ORDER);
}

#[test]
fn what_nobody_heard_of_may_have_happened_at_any_time_or_never() {
    let a = line(1, 100, 100, Some("a"));
    good(&[unheard(0, moving("a", 100)), statement((20, 30), &[])]);
    good(&[unheard(0, moving("a", 100)), statement((20, 30), &[]), statement((900, 910), std::slice::from_ref(&a))]);
    good(&[
        unheard(0, moving("a", 100)),
        moved((500, 510), "a", 100, 100),
        statement((520, 530), std::slice::from_ref(&a)),
    ]);
    // Not before it was asked for, and not undone.
    bad(&[unheard(50, moving("a", 100)), statement((20, 30), std::slice::from_ref(&a))], NO_ORDER);
    bad(
        &[unheard(0, moving("a", 100)), statement((20, 30), std::slice::from_ref(&a)), statement((40, 50), &[])],
        NO_ORDER,
    );
    // An order of which the first answer was lost: taken while the market was open, told after.
    let accepted = |span| call(span, placing("o"), Answer::Accepted);
    let closed = [operate((0, 10), OPEN), operate((40, 50), SUSPEND)];
    good(&[closed[0].clone(), unheard(20, placing("o")), closed[1].clone(), accepted((60, 70))]);
    bad(&[closed[0].clone(), unheard(55, placing("o")), closed[1].clone(), accepted((60, 70))], NO_ORDER);
}

#[test]
fn a_market_is_in_one_state_at_a_time() {
    use MarketStatus::{Open, Suspended};
    let start = [operate((0, 10), OPEN), look((20, 30), Open, 1), operate((40, 60), SUSPEND)];
    let after = |calls: &[Call]| [&start[..], calls].concat();
    good(&after(&[look((70, 80), Suspended, 2), operate((90, 95), OPEN), look((96, 99), Open, 3)]));
    good(&after(&[look((45, 55), Open, 1), look((56, 59), Suspended, 2)]));
    bad(&after(&[look((70, 80), Open, 1)]), NO_ORDER);
    bad(&after(&[look((45, 50), Suspended, 2), look((52, 55), Open, 1)]), NO_ORDER);
    // It suspended itself at its start.
    let start = unheard(62, Op::Start { market: MARKET });
    let opened = operate((61, 61), OPEN);
    good(&after(&[opened.clone(), start, look((70, 80), Suspended, 4)]));
    bad(&after(&[opened, look((70, 80), Suspended, 4)]), NO_ORDER);
    // Settled twice by one reference is settled once.
    let close = Op::Close { market: MARKET, reference: named("s"), void: false };
    good(&after(&[
        operate((70, 75), close.clone()),
        operate((80, 85), close.clone()),
        look((86, 90), MarketStatus::Closed, 3),
    ]));
    bad(&after(&[operate((70, 75), close), look((86, 90), MarketStatus::Closed, 4)]), NO_ORDER);
}

#[test]
fn a_refusal_that_nobody_heard_is_remembered() {
    let close = |void| Op::Close { market: MARKET, reference: named("s"), void };
    let told = |span, op, why| call(span, op, Answer::Refused(why));
    // Refused before the market opened, and told so again after: that the reference was used for
    // something else meanwhile shows that the first was decided.
    let calls = [
        unheard(0, close(false)),
        told((5, 20), close(true), Refusal::ReferenceReused),
        operate((10, 20), OPEN),
        told((30, 40), close(false), Refusal::WrongState),
    ];
    good(&calls);
    bad(&calls[1..], NO_ORDER);
    // A result that does not fit is refused in any state, and what was refused changed nothing.
    let [first, reused, opened, _] = calls;
    let calls = [first, reused, opened, told((30, 40), close(false), Refusal::InvalidRunner)];
    good(&calls);
    let closed = look((50, 60), MarketStatus::Closed, 2);
    bad(&[&calls[..], &[closed]].concat(), NO_ORDER);
}

#[test]
fn an_order_is_taken_only_while_the_market_is_open() {
    let accepted = |span| call(span, placing("o"), Answer::Accepted);
    let refused = |span, why| call(span, placing("o"), Answer::Refused(why));
    let start = [operate((0, 10), OPEN), operate((40, 60), SUSPEND)];
    let with = |order: Call| [&start[..], &[order]].concat();
    good(&with(accepted((20, 30))));
    good(&with(accepted((30, 90))));
    good(&with(refused((45, 50), Refusal::MarketSuspended)));
    bad(&with(accepted((70, 80))), NO_ORDER);
    bad(&with(refused((20, 30), Refusal::MarketSuspended)), NO_ORDER);
    bad(&with(refused((70, 80), Refusal::InvalidOdds)), NO_ORDER);
    // The first answer stands, whatever has become of the market.
    good(&[&with(accepted((20, 30)))[..], &[accepted((70, 80))]].concat());
    bad(&[&with(accepted((20, 30)))[..], &[refused((70, 80), Refusal::MarketSuspended)]].concat(), "several answers");
}

/// A good history of one wallet and one market: each call takes effect at its own instant, some time
/// after it was asked and before it was answered. At the end somebody looks at everything.
fn history(seed: u64, calls: u64, spread: u64) -> Vec<Call> {
    let mut rng = Rng::new(seed);
    let mut history = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    let mut receipts: BTreeMap<Reference, Answer> = BTreeMap::new();
    let (mut status, mut in_play, mut epoch) = (MarketStatus::Inactive, false, 0);
    let mut verdicts: BTreeMap<Reference, Answer> = BTreeMap::new();
    for n in 0..calls {
        let now = |lines: &[Line]| lines.last().map_or(Minor::ZERO, |line| line.available);
        let put = |lines: &mut Vec<Line>, change: Minor, reference: Option<Reference>| {
            let (number, available) = (lines.len() as u64 + 1, now(lines) + change);
            lines.push(Line { number, change, available, owed: Minor::ZERO, reference });
            available
        };
        while rng.percent(40) {
            let change = Minor(rng.between(-40, 60)).max(-now(&lines));
            put(&mut lines, change, None);
        }
        let reference = named(&format!("r{}", rng.below(n / 2 + 1)));
        let (op, answer) = match rng.below(9) {
            0..=2 => {
                let size = (reference.as_str().len() as i64) * 37 % 90 + 10;
                let change = Minor(if reference.as_str().ends_with(['1', '4', '7']) { -size } else { size });
                let answer = receipts.entry(reference.clone()).or_insert_with(|| {
                    if now(&lines) + change < Minor::ZERO {
                        return Answer::Refused(Refusal::InsufficientFunds);
                    }
                    Answer::Receipt { available: put(&mut lines, change, Some(reference.clone())) }
                });
                (Op::Move { account: ACCOUNT, reference, change }, answer.clone())
            }
            3 => {
                let shown = lines.iter().rev().take(5).cloned().collect();
                (Op::Statement { account: ACCOUNT }, Answer::Lines { count: lines.len() as u64, lines: shown })
            }
            4 => {
                let answer = Answer::Balance { available: now(&lines), owed: Minor::ZERO };
                (Op::Balance { account: ACCOUNT }, answer)
            }
            5 => (Op::Look { market: MARKET }, Answer::Market { status, in_play, epoch }),
            6 => {
                let op = match rng.below(5) {
                    0 | 1 => OPEN,
                    2 | 3 => SUSPEND,
                    _ => Op::TurnInPlay { market: MARKET },
                };
                let refused = op != OPEN && status == MarketStatus::Inactive;
                let before = (status, in_play);
                match &op {
                    _ if refused => {}
                    Op::Open { .. } => status = MarketStatus::Open,
                    Op::Suspend { .. } => status = MarketStatus::Suspended,
                    _ => in_play = true,
                }
                epoch += u64::from(before != (status, in_play));
                (op, if refused { Answer::Refused(Refusal::MarketNotOpen) } else { Answer::Done })
            }
            _ => {
                let answer = verdicts.entry(reference.clone()).or_insert(match status {
                    MarketStatus::Open if n % 5 == 0 => Answer::Refused(Refusal::NotFilled),
                    MarketStatus::Open => Answer::Accepted,
                    MarketStatus::Suspended => Answer::Refused(Refusal::MarketSuspended),
                    _ => Answer::Refused(Refusal::MarketNotOpen),
                });
                (placing(reference.as_str()), answer.clone())
            }
        };
        let at = 10_000 + 10 * n;
        let (invoked, returned) = (at - rng.below(spread), at + rng.below(spread));
        let heard = !rng.percent(10);
        history.push(Call {
            client: n,
            invoked,
            returned: heard.then_some(returned),
            op,
            answer: heard.then_some(answer),
        });
    }
    let end = 10 * calls + 20_000;
    history.push(statement((end, end + 1), &lines));
    let answer = Answer::Market { status, in_play, epoch };
    history.push(call((end, end + 1), Op::Look { market: MARKET }, answer));
    history
}

/// Something that can never have been, given that everything is looked at in the end.
fn impossible(answer: &Answer, by: i64) -> Answer {
    match answer.clone() {
        Answer::Receipt { .. } if by % 2 == 0 => Answer::Refused(Refusal::InvalidAmount),
        Answer::Receipt { available } => Answer::Receipt { available: available + Minor(by) },
        Answer::Balance { available, owed } => Answer::Balance { available: available + Minor(1_000_000 + by), owed },
        Answer::Lines { count, lines } => Answer::Lines { count: count + 1_000 + by as u64, lines },
        Answer::Market { status, in_play, epoch } => {
            Answer::Market { status, in_play, epoch: epoch + 1_000 + by as u64 }
        }
        Answer::Accepted | Answer::Done => Answer::Refused(Refusal::MarketClosed),
        // The statement has no line of it; the market was never closed.
        Answer::Refused(Refusal::InsufficientFunds) => Answer::Receipt { available: Minor(1_000_000 + by) },
        Answer::Refused(_) => Answer::Refused(Refusal::MarketClosed),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_happened_one_after_the_other_is_explained_and_one_wrong_answer_is_not(
        seed in any::<u64>(), calls in 1..120_u64, which in any::<prop::sample::Index>(), by in 1..50_i64,
    ) {
        let mut history = history(seed, calls, 60);
        prop_assert_eq!(check(&history), Ok(vec![]));
        let heard: Vec<usize> = (0..history.len()).filter(|n| history[*n].answer.is_some()).collect();
        let wrong = *which.get(&heard);
        let answer = history[wrong].answer.clone().unwrap();
        history[wrong].answer = Some(impossible(&answer, by));
        prop_assert!(check(&history).is_err(), "{:?} in place of {:?}", history[wrong], answer);
    }
}

#[test]
fn a_long_history_is_decided_quickly() {
    for seed in 0..5 {
        assert_eq!(check(&history(seed, 4_000, 60)), Ok(vec![]));
    }
}

/// A burst on one wallet: whoever looks could have been told what anybody was.
#[test]
fn a_wallet_that_hundreds_ask_at_once_is_decided() {
    for seed in 0..20 {
        let mut history = history(seed, 1_000, 9_000);
        history.retain(|call| matches!(call.op.object(), Object::Wallet(_)));
        assert_eq!(check(&history), Ok(vec![]), "{seed}");
    }
}
