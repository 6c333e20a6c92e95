//! What the oracles stand on: the words of a panic, exposures, and that they say nothing when all is right.

use std::panic::catch_unwind;

use super::*;
use crate::oracles::bets::Pitch;

#[test]
fn a_panic_is_named_by_what_it_says() {
    let named = |panic: fn()| {
        let payload = catch_unwind(panic).expect_err("it panics");
        Violation::of_panic(&*payload).oracle
    };
    assert_eq!(named(|| panic!("I2: account 5 has -1")), "I2");
    assert_eq!(named(|| assert_eq!(1, 2, "I4: twice")), "I4");
    assert_eq!(named(|| assert_ne!(1, 1, "I1: {}", "books")), "I1");
    assert_eq!(named(|| assert_eq!(1, 2)), "Crash");
    assert_eq!(named(|| panic!("index out of bounds, I2 or not")), "Crash");
}

#[test]
fn nothing_is_said_of_a_history_that_is_right() {
    let mut case = Case::new();
    case.place(case.one, Side::Back, 300, 1_000);
    case.place(case.two, Side::Lay, 300, 600);
    let resting = case.place(case.two, Side::Lay, 250, 400);
    // A batch: an order is accepted, and then the market is suspended, and then another comes.
    let (early, late) = (case.order(case.one, Side::Back, 310, 5), case.order(case.one, Side::Back, 320, 5));
    case.fund(&early, 5);
    let there = case.waiting(WALLETS, MARKETS);
    let market = case.market;
    let late = case.execute(&late);
    let items = vec![there, Item::Command(Command::Suspend { market }), late];
    let outcomes = case.items(MARKETS, items);
    assert!(matches!(outcomes[2], Outcome::Verdict(Verdict::Refused(_))));
    let cancel = case.cancel(&resting);
    case.items(MARKETS, vec![cancel]);
    let remove = Command::RemoveRunner { market, runner: RunnerId(3), factor: 20_000, reference: case.name() };
    case.command(MARKETS, remove);
    let settle = Command::Settle { market, result: MarketResult::Void, reference: case.name() };
    case.command(MARKETS, settle);
    case.items(MARKETS, vec![Item::Tick]);
    let result = MarketResult::Fractions(
        [(1, 1), (2, 0)].map(|(n, wins)| (RunnerId(n), WinFraction { numerator: wins, denominator: 1 })).to_vec(),
    );
    let resettle = Command::Resettle { market, result, reference: case.name() };
    case.command(MARKETS, resettle);
    case.items(MARKETS, vec![Item::Tick]);
    let back = case.waiting(MARKETS, WALLETS);
    case.items(WALLETS, vec![back]);
    let ack = case.books.replica(WALLETS).acknowledgement(MARKETS);
    case.altered(MARKETS, vec![ack], vec![Item::Tick], |_| {}).map(|_| ()).expect("it is true");
    case.oracles.at_rest(&case.books).expect("all is right");
    assert_eq!((case.oracles.counts()["accepted"], case.oracles.counts()["matched"]), (4, 1));
}

/// Exchange rules, sections 3 and 4: the numbers of the examples.
#[test]
fn exposures_are_those_of_the_rules() {
    let case = Case::new();
    let market = case.books.cell(MARKETS).market(case.market).expect("it is there");
    let mut pitch = Pitch::new(market.definition());
    let fill = |pitch: &mut Pitch, runner: u64, number: u64| {
        let view = |order, side| {
            let mut view = order_view(case.market, order, side);
            view.runner = RunnerId(runner);
            view
        };
        let (back, lay) = (view(number * 2, Side::Back), view(number * 2 + 1, Side::Lay));
        pitch.enter(case.one, &back);
        pitch.enter(case.two, &lay);
        pitch.fill(lay.order, back.order, 1_000, 300);
    };
    fill(&mut pitch, 1, 1);
    assert_eq!((pitch.exposure(case.one), pitch.exposure(case.two)), (Minor(1_000), Minor(2_000)));
    fill(&mut pitch, 2, 2);
    fill(&mut pitch, 3, 3);
    assert_eq!(pitch.exposure(case.two), Minor(0), "laid each of three");
    pitch.remove(RunnerId(3), 20_000);
    assert_eq!(pitch.exposure(case.two), Minor(400));
}

fn order_view(market: MarketId, order: u64, side: Side) -> stakehold_actors::domain::types::OrderView {
    stakehold_actors::domain::types::OrderView {
        order: stakehold_actors::domain::types::OrderId(order),
        market,
        runner: RunnerId(1),
        side,
        price: 300,
        size: Minor(1_000),
        persistence: Persistence::Lapse,
        matched: Minor(1_000),
        matched_value: 300_000,
        remaining: Minor(0),
        cancelled: Minor(0),
        lapsed: Minor(0),
        voided: Minor(0),
        placed: 0,
        reference: reference("o"),
        index: 0,
    }
}
