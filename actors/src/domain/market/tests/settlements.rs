//! Results, dead heats, corrections, void.

use super::*;

const D: RunnerId = RunnerId(14);

#[test]
fn a_result_must_fit_the_market() {
    let three = |shares: &[(u32, u32)]| {
        let named: Vec<_> = [A, B, C].into_iter().zip(shares).map(|(r, &(n, d))| (r, n, d)).collect();
        fractions(&named)
    };
    for (name, winners, complete, result, fits) in [
        ("a winner", 1, true, three(&[(1, 1), (0, 1), (0, 1)]), true),
        ("two winners of one", 1, true, three(&[(1, 1), (1, 1), (0, 1)]), false),
        ("no winner", 1, true, three(&[(0, 1), (0, 1), (0, 1)]), false),
        ("no listed winner", 1, false, three(&[(0, 1), (0, 1), (0, 1)]), true),
        ("too many, not complete", 1, false, three(&[(1, 1), (1, 2), (0, 1)]), false),
        ("a dead heat", 1, true, three(&[(1, 3), (1, 3), (1, 3)]), true),
        ("a dead heat written oddly", 1, true, three(&[(2, 6), (1, 3), (4, 12)]), true),
        ("almost a dead heat", 1, true, three(&[(1, 3), (1, 3), (33, 100)]), false),
        ("three for two places", 2, true, three(&[(2, 3), (2, 3), (2, 3)]), true),
        ("two for the second place", 2, true, three(&[(1, 1), (1, 2), (1, 2)]), true),
        ("more places than runners", 5, true, three(&[(1, 1), (1, 1), (1, 1)]), true),
        ("more than a whole", 2, true, three(&[(3, 2), (1, 2), (0, 1)]), false),
        ("by nothing", 1, true, three(&[(1, 1), (0, 0), (0, 1)]), false),
        ("a runner is missing", 1, true, three(&[(1, 1), (0, 1)]), false),
        ("a runner twice", 1, true, fractions(&[(A, 1, 1), (B, 0, 1), (B, 0, 1)]), false),
        ("an unknown runner", 1, true, fractions(&[(A, 1, 1), (B, 0, 1), (D, 0, 1)]), false),
        ("one too many", 1, true, fractions(&[(A, 1, 1), (B, 0, 1), (C, 0, 1), (D, 0, 1)]), false),
        ("no common ground", 2, true, three(&[(1, 4294967291), (1, 4294967279), (1, 4294967231)]), false),
    ] {
        let mut desk = Desk::new(MarketDefinition { winners, complete, ..definition(3) });
        let verdict = if fits { Ok(()) } else { Err(Refusal::InvalidResult) };
        assert_eq!(desk.settle(result), verdict, "{name}");
        let status = if fits { MarketStatus::Closed } else { MarketStatus::Open };
        assert_eq!(desk.market.status(), status, "{name}");
    }
}

#[test]
fn a_removed_runner_is_not_named() {
    let mut desk = Desk::new(definition(3));
    desk.remove(C, 0).unwrap();
    let with = fractions(&[(A, 1, 1), (B, 0, 1), (C, 0, 1)]);
    assert_eq!(desk.settle(with), Err(Refusal::InvalidResult));
    assert_eq!(desk.settle(fractions(&[(A, 1, 1), (B, 0, 1)])), Ok(()));
}

#[test]
fn a_dead_heat_of_k_runners_for_j_places_pays_j_kths() {
    for (k, j) in [(2, 1), (3, 1), (3, 2), (4, 3), (5, 2)] {
        let mut desk = Desk::new(MarketDefinition { winners: j, ..definition(6) });
        desk.fill(U, V, A, 400, 1000);
        let shares: Vec<_> =
            (0..6).map(|n| (RunnerId(11 + n), if n < k { u32::from(j) } else { 0 }, k as u32)).collect();
        desk.settle(fractions(&shares)).unwrap();
        // j/k × 3000 − (1 − j/k) × 1000, each rounded down for its account.
        let exact = 4000 * i64::from(j) - 1000 * k as i64;
        let floor = |n: i64| n.div_euclid(k as i64);
        assert_eq!((desk.cash(U), desk.cash(V)), (floor(exact), floor(-exact)), "{j} of {k}");
        assert_eq!(desk.rounding(), -floor(exact) - floor(-exact));
    }
}

#[test]
fn in_a_market_that_is_not_complete_everybody_may_lose() {
    let mut desk = Desk::new(MarketDefinition { complete: false, ..definition(2) });
    desk.fill(U, V, A, 200, 1000);
    desk.fill(U, V, B, 200, 1000);
    assert_eq!((desk.exposure(U), desk.exposure(V)), (2000, 0));
    desk.settle(fractions(&[(A, 0, 1), (B, 0, 1)])).unwrap();
    assert_eq!((desk.cash(U), desk.cash(V)), (-2000, 2000));
}

#[test]
fn corrections_reverse_what_was_posted_also_to_void_and_from_void() {
    let first = || fractions(&[(A, 1, 1), (B, 0, 1), (C, 0, 1)]);
    let heat = || fractions(&[(A, 1, 3), (B, 1, 3), (C, 1, 3)]);
    let play = |results: &[MarketResult]| {
        let mut desk = Desk::new(MarketDefinition { commission_bp: 500, ..definition(3) });
        desk.fill(U, V, A, 310, 1003);
        desk.fill(X, U, B, 157, 333);
        for result in results {
            desk.settle(result.clone()).unwrap();
        }
        desk
    };
    for history in [
        vec![MarketResult::Void, first()],
        vec![first(), MarketResult::Void],
        vec![heat(), MarketResult::Void, heat(), first()],
        vec![first(), heat()],
        vec![heat(), heat()],
    ] {
        let (corrected, at_once) = (play(&history), play(&history[history.len() - 1..]));
        let figures =
            |desk: &Desk| (desk.cash.clone(), desk.commission(), desk.rounding(), desk.market.margins_total());
        assert_eq!(figures(&corrected), figures(&at_once), "{history:?}");
        assert_eq!(corrected.market.settlement() as usize, history.len());
        for order in corrected.market.orders_of(U) {
            assert_eq!(Some(&order), at_once.market.order(order.order).as_ref());
        }
    }
}

#[test]
fn void_gives_everybody_back_what_they_put_in() {
    let mut desk = Desk::new(MarketDefinition { commission_bp: 500, ..definition(3) });
    desk.fill(U, V, A, 310, 1003);
    let rests = desk.lay(X, A, 300, 500).order;
    desk.settle(MarketResult::Void).unwrap();
    assert_eq!((desk.cash(U), desk.cash(V), desk.cash(X), desk.commission()), (0, 0, 0, 0));
    assert_eq!(desk.market.order(rests).unwrap().lapsed, Minor(500));
    let bet = &desk.market.orders_of(U)[0];
    assert_eq!((bet.matched, bet.voided, bet.matched_value), (Minor(0), Minor(1003), 0));
    desk.settle(fractions(&[(A, 0, 1), (B, 1, 1), (C, 0, 1)])).unwrap();
    let bet = &desk.market.orders_of(U)[0];
    assert_eq!((bet.matched, bet.voided, bet.matched_value), (Minor(1003), Minor(0), 1003 * 310));
}

#[test]
fn a_correction_takes_from_those_it_makes_worse_off() {
    let mut desk = Desk::new(definition(2));
    desk.fill(U, V, A, 300, 1000);
    desk.settle(fractions(&[(A, 1, 1), (B, 0, 1)])).unwrap();
    assert_eq!((desk.exposure(U), desk.exposure(V)), (0, 0));
    desk.settle(fractions(&[(A, 0, 1), (B, 1, 1)])).unwrap();
    assert_eq!((desk.cash(U), desk.cash(V)), (-1000, 1000));
    assert_eq!(desk.exposure(V), 0);
}

#[test]
fn steps_settle_at_most_as_many_accounts_as_asked() {
    let mut desk = Desk::new(definition(2));
    for n in 0..10 {
        desk.fill(AccountId(100 + n), AccountId(200 + n), A, 300, 100);
    }
    desk.market.begin_settlement(fractions(&[(A, 0, 1), (B, 1, 1)]), &mut desk.out).unwrap();
    let mut paid = 0;
    for step in 1.. {
        desk.out.clear();
        let finished = desk.market.settlement_step(7, &mut desk.out);
        assert!(desk.out.releases.len() <= 7);
        paid += desk.out.releases.len();
        let waiting = desk.market.accounts().filter(|&a| desk.market.margin(a) > Minor::ZERO).count();
        let at_stake = desk.market.accounts().filter(|&a| desk.exposure(a) > 0).count();
        assert_eq!((waiting, at_stake), (20 - (7 * step).min(20), waiting));
        if finished {
            break;
        }
    }
    assert_eq!(paid, 10, "the layers; the backers lost all they had there");
}
