//! Non-runners: what is void, what is cancelled, who covers what.

use super::*;

#[test]
fn the_removed_runners_bets_are_void_and_its_orders_lapse() {
    let mut desk = Desk::new(definition(3));
    desk.fill(U, V, C, 300, 1000);
    let order = desk.back(U, C, 400, 200).order;
    let partly = desk.lay(V, C, 300, 500).order;
    desk.back(U, C, 300, 100);
    desk.remove(C, 20_000).unwrap();
    assert_eq!((desk.cash(U), desk.cash(V)), (0, 0));
    assert_eq!(desk.market.order(order).unwrap().lapsed, Minor(200));
    let view = desk.market.order(partly).unwrap();
    assert_eq!((view.matched, view.voided, view.lapsed, view.matched_value), (Minor(0), Minor(100), Minor(400), 0));
    assert_eq!(desk.market.view().runners[2].removed, Some(20_000));
    assert_eq!(desk.place(U, C, Side::Back, 300, 100), Err(Refusal::MarketSuspended));
}

#[test]
fn unmatched_lays_on_the_others_are_cancelled_and_backs_stay() {
    for factor in [0, 2_499, 20_000] {
        let mut desk = Desk::new(definition(3));
        let (lay, back) = (desk.lay(U, A, 300, 500).order, desk.back(V, B, 300, 500).order);
        desk.remove(C, factor).unwrap();
        assert_eq!(desk.market.order(lay).unwrap().cancelled, Minor(500), "{factor}");
        assert_eq!(desk.market.order(back).unwrap().remaining, Minor(500), "{factor}");
        assert_eq!((desk.cash(U), desk.cash(V)), (0, -500), "{factor}");
    }
}

#[test]
fn a_small_factor_counts_where_several_win() {
    let mut desk = Desk::new(MarketDefinition { winners: 2, ..definition(4) });
    desk.fill(U, V, A, 1000, 1000);
    desk.remove(B, 1_000).unwrap();
    assert_eq!(desk.exposure(V), 8_900);
}

#[test]
fn a_shortfall_is_covered_by_excess_then_by_cancelling_then_by_collecting() {
    // U laid all three at 3.00: nothing at stake, and 400 once C goes with 20 %.
    let all_three = || {
        let mut desk = Desk::new(definition(3));
        for runner in [A, B, C] {
            desk.fill(V, U, runner, 300, 1000);
        }
        desk
    };
    // An unmatched back of 300 on A hurts if A loses: it is cancelled, its money is used.
    let mut desk = all_three();
    let back = desk.back(U, A, 500, 300).order;
    assert_eq!(desk.market.margin(U), Minor(300));
    desk.remove(C, 20_000).unwrap();
    assert_eq!(desk.market.order(back).unwrap().cancelled, Minor(300));
    assert_eq!(desk.market.margin(U), Minor(400));
    assert!(desk.last.collects.contains(&(U, Minor(100))));

    // All are cancelled, also where one would do; what that frees beyond what is lacking goes back.
    let mut desk = all_three();
    let backs = [desk.back(U, A, 500, 500).order, desk.back(U, A, 510, 200).order];
    desk.remove(C, 20_000).unwrap();
    assert!(backs.iter().all(|&order| desk.market.order(order).unwrap().remaining == Minor::ZERO));
    assert!(desk.last.releases.contains(&(U, Minor(300))));
    assert_eq!(desk.cash(U), -400);

    // Where the margin suffices, unmatched backs stay.
    let mut desk = all_three();
    let backs = [desk.back(U, A, 500, 500).order, desk.back(U, B, 500, 400).order];
    assert_eq!(desk.market.margin(U), Minor(900));
    desk.remove(C, 20_000).unwrap();
    assert!(backs.iter().all(|&order| desk.market.order(order).unwrap().remaining.is_positive()));
    assert_eq!(desk.cash(U), -900);

    // Lays on the others are cancelled in any case; what they free is excess, and the back stays.
    let mut desk = all_three();
    let back = desk.back(U, A, 500, 100).order;
    desk.lay(U, B, 140, 5000);
    assert_eq!(desk.market.margin(U), Minor(2_100));
    desk.remove(C, 20_000).unwrap();
    assert_eq!(desk.market.order(back).unwrap().remaining, Minor(100));
    assert_eq!((desk.exposure(U), desk.cash(U)), (500, -500));
}

#[test]
fn caps_do_not_apply_to_a_removal() {
    let mut desk = Desk::new(MarketDefinition { market_cap: Some(Minor(4000)), ..definition(3) });
    for runner in [A, B, C] {
        desk.fill(V, U, runner, 100_000, 4);
    }
    assert!(desk.remove(C, 20_000).is_ok());
    assert!(desk.exposure(U) > 0);
}

#[test]
fn removals_until_no_runner_is_left_give_everything_back() {
    let mut desk = Desk::new(definition(2));
    desk.fill(U, V, A, 300, 1000);
    desk.remove(B, 50_000).unwrap();
    assert_eq!((desk.exposure(U), desk.exposure(V)), (0, 500), "A is bound to win");
    desk.remove(A, 20_000).unwrap();
    assert_eq!((desk.cash(U), desk.cash(V)), (0, 0));
    desk.settle(fractions(&[])).unwrap();
}

#[test]
fn a_removal_that_cannot_be_is_refused() {
    let mut desk = Desk::new(definition(3));
    assert_eq!(desk.remove(RunnerId(99), 0), Err(Refusal::InvalidRunner));
    assert_eq!(desk.remove(A, 100_000), Err(Refusal::InvalidFactor));
    assert_eq!(desk.market.status(), MarketStatus::Open);
    desk.remove(A, 99_999).unwrap();
    assert_eq!(desk.remove(A, 0), Err(Refusal::RunnerRemoved));
}
