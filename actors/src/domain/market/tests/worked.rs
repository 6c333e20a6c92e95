//! The worked examples of the exchange rules, sections 2 to 4, with their numbers.

use super::*;

/// Five percent.
fn with_commission(runners: u64) -> MarketDefinition {
    MarketDefinition { commission_bp: 500, ..definition(runners) }
}

#[test]
fn a_fill_pays_the_winner_less_commission() {
    for (name, result, backer, layer, commission) in [
        ("winner", [(A, 1, 1), (B, 0, 1)], 2000 - 100, -2000, 100),
        ("loser", [(A, 0, 1), (B, 1, 1)], -1000, 1000 - 50, 50),
    ] {
        let mut desk = Desk::new(with_commission(2));
        desk.fill(U, V, A, 300, 1000);
        assert_eq!((desk.exposure(U), desk.exposure(V)), (1000, 2000), "{name}");
        desk.settle(fractions(&result)).unwrap();
        let figures = (desk.cash(U), desk.cash(V), desk.commission(), desk.rounding());
        assert_eq!(figures, (backer, layer, commission, 0), "{name}");
    }
}

#[test]
fn a_dead_heat_of_two_for_one_place() {
    for (name, price, stake, liability, backer, layer) in
        [("333 @ 1.57", 157, 333, 189, -72, 72), ("1000 @ 3.00", 300, 1000, 2000, 500, -500)]
    {
        let mut desk = Desk::new(definition(3));
        desk.fill(U, V, A, price, stake);
        assert_eq!(desk.exposure(V), liability, "{name}");
        desk.settle(fractions(&[(A, 1, 2), (B, 1, 2), (C, 0, 1)])).unwrap();
        assert_eq!((desk.cash(U), desk.cash(V)), (backer, layer), "{name}");
    }
}

#[test]
fn one_floor_an_account_keeps_the_loss_within_the_exposure() {
    let mut desk = Desk::new(MarketDefinition { min_stake: Minor(1), ..definition(2) });
    for backer in [V, X, V] {
        desk.lay(backer, A, 300, 1);
        desk.back(U, A, 300, 1);
    }
    desk.back(X, A, 300, 3);
    desk.lay(U, A, 300, 3);
    assert_eq!(desk.exposure(U), 0);
    desk.settle(fractions(&[(A, 1, 2), (B, 1, 2)])).unwrap();
    assert_eq!(desk.cash(U), 0, "a floor a fill would owe 1");
}

#[test]
fn a_non_runner_shortens_the_price_of_what_was_matched() {
    // (price, factors in thousandths of a percent, prices after each)
    for (price, factors, reduced) in [
        (1100, vec![20_000], vec![880]),
        (860, vec![16_200], vec![721]),
        (1200, vec![21_080], vec![947]),
        (137, vec![16_200, 10_000], vec![115, 104]),
        (101, vec![50_000], vec![101]),
        (300, vec![0], vec![300]),
        (300, vec![2_499], vec![300]),
        (300, vec![2_500], vec![293]),
    ] {
        let mut desk = Desk::new(definition(4));
        desk.fill(U, V, A, price, 1000);
        let order = desk.market.orders_of(U)[0].order;
        for ((factor, expected), runner) in factors.iter().zip(reduced).zip([B, C]) {
            desk.remove(runner, *factor).unwrap();
            assert_eq!(desk.market.order(order).unwrap().matched_value, 1000 * i128::from(expected), "{price}");
            assert_eq!(desk.exposure(V), 1000 * i64::from(expected - 100) / 100, "{price} by {factor}");
        }
    }
}

#[test]
fn a_reduction_of_twenty_percent_computes_the_liability_again() {
    let mut desk = Desk::new(definition(3));
    desk.fill(U, V, A, 1100, 1000);
    assert_eq!(desk.exposure(V), 10_000);
    desk.remove(B, 20_000).unwrap();
    assert_eq!(desk.exposure(V), 7_800);
    assert_eq!(desk.last.releases, [(V, Minor(2_200))]);
}

#[test]
fn a_removal_can_raise_an_exposure() {
    for (factor, exposure) in [(20_000, 400), (30_000, 100), (2_000, 1000)] {
        let mut desk = Desk::new(definition(3));
        for runner in [A, B, C] {
            desk.fill(V, U, runner, 300, 1000);
        }
        assert_eq!(desk.exposure(U), 0);
        desk.remove(C, factor).unwrap();
        assert_eq!((desk.exposure(U), desk.market.margin(U)), (exposure, Minor(exposure)), "{factor}");
        assert!(desk.last.collects.contains(&(U, Minor(exposure))), "{factor}");
    }
}

#[test]
fn a_removal_in_a_market_with_three_winners() {
    let mut desk = Desk::new(MarketDefinition { winners: 3, ..definition(5) });
    for runner in 12..16 {
        desk.fill(U, V, RunnerId(runner), 200, 1000);
    }
    assert_eq!(desk.exposure(U), 0);
    desk.remove(A, 40_000).unwrap();
    assert_eq!(desk.market.orders_of(U)[0].matched_value, 1000 * 120);
    assert_eq!((desk.exposure(U), desk.cash(U)), (400, -400));
}

#[test]
fn what_a_corrected_result_takes_back_was_withdrawn() {
    let mut desk = Desk::new(with_commission(2));
    desk.fill(U, V, A, 300, 1000);
    desk.settle(fractions(&[(A, 1, 1), (B, 0, 1)])).unwrap();
    assert_eq!(desk.cash(U), 1900);
    let payout = desk.cash(U) + 1000;
    assert_eq!(payout, 2900, "the stake and what it won, withdrawn");
    desk.market.resettle(fractions(&[(A, 0, 1), (B, 1, 1)]), &mut desk.out).unwrap();
    assert!(desk.out.collects.is_empty());
    desk.out.clear();
    assert!(desk.market.settlement_step(10, &mut desk.out));
    assert_eq!(desk.out.collects, [(U, Minor(2900))]);
    assert_eq!(desk.out.releases, [(V, Minor(2950))]);
    assert_eq!(desk.out.commission, Minor(50 - 100));
}

#[test]
fn a_hedge_needs_no_more_money_and_frees_it_when_it_fills() {
    let mut desk = Desk::new(definition(3));
    desk.fill(U, V, A, 300, 1000);
    assert_eq!(desk.exposure(U), 1000);
    let hedge = request(U, A, Side::Lay, 250, 1000);
    assert_eq!(desk.market.exposure_with(&hedge), Ok(Minor(1000)));
    desk.submit_with(&hedge, Minor::ZERO, Minor::ZERO).unwrap();
    assert_eq!(desk.exposure(U), 1000);
    desk.back(X, A, 250, 1000);
    assert_eq!((desk.exposure(U), desk.cash(U)), (0, 0));
    assert!(desk.last.releases.contains(&(U, Minor(1000))));
    desk.settle(fractions(&[(A, 1, 1), (B, 0, 1), (C, 0, 1)])).unwrap();
    assert_eq!(desk.cash(U), 500);
}

#[test]
fn funds_are_checked_for_the_full_size_at_the_limit() {
    let mut desk = Desk::new(definition(2));
    let lay = request(U, A, Side::Lay, 150, 101);
    assert_eq!(desk.submit_with(&lay, Minor(49), Minor::ZERO), Err(PlaceError::Short(Minor(1))));
    assert!(desk.submit_with(&lay, Minor(50), Minor::ZERO).is_ok());

    // A better price matches, and what was not needed comes back in the same step.
    desk.place(V, B, Side::Back, 200, 500).unwrap();
    let lay = request(X, B, Side::Lay, 300, 500);
    assert_eq!(desk.submit_with(&lay, Minor(999), Minor::ZERO), Err(PlaceError::Short(Minor(1))));
    desk.submit_with(&lay, Minor(1000), Minor::ZERO).unwrap();
    assert_eq!(desk.last.releases, [(X, Minor(500))]);
    assert_eq!(desk.last.trades.len(), 1);
}

#[test]
fn a_small_stake_is_taken_when_it_stands_to_pay_enough() {
    let mut desk = Desk::new(definition(2));
    for (size, price, taken) in
        [(50, 2000, true), (49, 2000, false), (100, 101, true), (99, 1000, false), (100_000_000_000, 200, false)]
    {
        let verdict = desk.place(U, A, Side::Back, price, size).map(|_| ());
        assert_eq!(verdict, if taken { Ok(()) } else { Err(Refusal::InvalidSize) }, "{size} @ {price}");
    }
}

#[test]
fn an_own_order_is_cancelled_when_the_walk_reaches_it() {
    for (size, matched, own_left, rests) in [(300, 300, 300, 0), (400, 300, 0, 100), (700, 300, 0, 400)] {
        let mut desk = Desk::new(definition(2));
        desk.lay(V, A, 310, 300);
        let own = desk.lay(U, A, 300, 300).order;
        let order = desk.back(U, A, 300, size);
        assert_eq!((order.matched, order.remaining), (Minor(matched), Minor(rests)), "{size}");
        let own = desk.market.order(own).unwrap();
        assert_eq!((own.remaining, own.cancelled), (Minor(own_left), Minor(300 - own_left)), "{size}");
    }
}
