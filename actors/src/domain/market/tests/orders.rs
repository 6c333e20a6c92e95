//! How orders match, move, shrink and leave.

use super::*;

#[test]
fn the_best_price_goes_first_and_the_oldest_at_a_price() {
    let mut desk = Desk::new(definition(2));
    let late_best = (desk.lay(V, A, 300, 100), desk.lay(X, A, 300, 100), desk.lay(V, A, 310, 100));
    let order = desk.back(U, A, 200, 250);
    assert_eq!((order.matched, order.matched_value), (Minor(250), 100 * 310 + 150 * 300));
    let left = |order: &OrderView| desk.market.order(order.order).unwrap().remaining;
    assert_eq!((left(&late_best.0), left(&late_best.1), left(&late_best.2)), (Minor(0), Minor(50), Minor(0)));
    let prices: Vec<_> = desk.last.trades.iter().map(|trade| (trade.price, trade.size)).collect();
    assert_eq!(prices, [(310, Minor(100)), (300, Minor(100)), (300, Minor(50))]);
    assert_eq!(desk.market.traded(A), [(300, Minor(150)), (310, Minor(100))]);
}

#[test]
fn a_lay_takes_the_lowest_backs_up_to_its_price() {
    let mut desk = Desk::new(definition(2));
    for price in [210, 190, 200] {
        desk.back(U, A, price, 100);
    }
    let lay = desk.lay(V, A, 200, 300);
    assert_eq!((lay.matched, lay.matched_value, lay.remaining), (Minor(200), 100 * 390, Minor(100)));
    let book = desk.market.book();
    assert_eq!(book.runners[0].to_back, [(200, Minor(100))]);
    assert_eq!(book.runners[0].to_lay, [(210, Minor(100))]);
    assert_eq!((book.runners[0].last_price, book.runners[0].matched), (Some(200), Minor(200)));
}

#[test]
fn fill_or_kill_takes_its_minimum_or_changes_nothing() {
    // (size, minimum, own lay, verdict, matched)
    for (size, least, own, matched) in [
        (300, None, None, Ok(300)),
        (301, None, None, Err(Refusal::NotFilled)),
        (500, Some(300), None, Ok(300)),
        (500, Some(301), None, Err(Refusal::NotFilled)),
        (500, Some(301), Some(305), Err(Refusal::NotFilled)),
        (500, Some(1), Some(305), Ok(300)),
        (200, None, Some(305), Ok(200)),
    ] {
        let mut desk = Desk::new(definition(2));
        desk.lay(V, A, 310, 200);
        let own = own.map(|price| desk.lay(U, A, price, 900).order);
        desk.lay(V, A, 300, 100);
        desk.lay(V, A, 290, 1000);
        let order =
            OrderRequest { fill_or_kill: true, min_fill: least.map(Minor), ..request(U, A, Side::Back, 300, size) };
        let placed = desk.submit(&order);
        assert_eq!(placed.as_ref().map(|order| order.matched.0).map_err(|&e| e), matched, "{size} {least:?} {own:?}");
        if let Ok(placed) = placed {
            assert_eq!((placed.remaining, placed.cancelled), (Minor(0), placed.size - placed.matched));
            assert!(desk.market.book().runners[0].to_lay.is_empty(), "the rest is cancelled");
            if let Some(own) = own {
                let reached = size > 200;
                assert_eq!(desk.market.order(own).unwrap().remaining, Minor(if reached { 0 } else { 900 }));
            }
        }
    }
}

#[test]
fn post_only_meets_nothing_not_even_its_owner() {
    let mut desk = Desk::new(definition(2));
    desk.lay(U, A, 300, 100);
    let post = |price| OrderRequest { post_only: true, ..request(U, A, Side::Back, price, 100) };
    assert_eq!(desk.submit(&post(300)), Err(Refusal::WouldMatch));
    assert!(desk.submit(&post(305)).is_ok());
}

#[test]
fn a_reduction_keeps_the_place_and_leaves_what_could_be_placed() {
    let mut desk = Desk::new(definition(2));
    let first = desk.lay(U, A, 300, 500).order;
    desk.lay(V, A, 300, 500);
    for (reduction, verdict) in [
        (0, Err(Refusal::InvalidReduction)),
        (-5, Err(Refusal::InvalidReduction)),
        (i64::MIN, Err(Refusal::InvalidReduction)),
        (401, Err(Refusal::InvalidReduction)),
        (400, Ok(400)),
        (50, Err(Refusal::InvalidReduction)),
    ] {
        assert_eq!(desk.cancel(U, first, Some(reduction)), verdict, "{reduction}");
    }
    desk.back(X, A, 300, 150);
    let first = desk.market.order(first).unwrap();
    assert_eq!((first.matched, first.cancelled), (Minor(100), Minor(400)), "it was still the first");

    let order = desk.back(X, A, 1000, 300).order;
    assert_eq!(desk.cancel(X, order, Some(200)), Ok(200));
    assert_eq!(desk.cancel(X, order, Some(1000)), Ok(100), "more than there is takes all");
    assert_eq!(desk.cancel(X, order, None), Err(Refusal::OrderDone));
}

#[test]
fn only_the_owner_can_touch_an_order() {
    let mut desk = Desk::new(definition(2));
    let order = desk.lay(U, A, 300, 500).order;
    let unknown = Err(Refusal::UnknownOrder);
    assert_eq!(desk.cancel(V, order, None), unknown);
    assert_eq!(desk.cancel(U, OrderId(1), None), unknown);
    assert_eq!(desk.replace(V, order, 310).map(|_| 0), unknown);
    let set = desk.set_persistence(V, order, Persistence::Persist);
    assert_eq!(set.map(|_| 0), unknown);
    assert_eq!((desk.market.owner(order), desk.market.owner(OrderId(1))), (Some(U), None));
}

#[test]
fn a_new_price_loses_the_place_and_takes_a_new_id() {
    let mut desk = Desk::new(definition(2));
    let first = desk.lay(U, A, 300, 500).order;
    desk.lay(V, A, 310, 500);
    let moved = desk.replace(U, first, 310).unwrap();
    assert_eq!((moved.size, moved.remaining, moved.price, moved.index), (Minor(500), Minor(500), 310, 3));
    assert_eq!(desk.changed(), [first, moved.order]);
    let old = desk.market.order(first).unwrap();
    assert_eq!((old.cancelled, old.remaining), (Minor(500), Minor(0)));
    desk.back(X, A, 300, 500);
    assert_eq!(desk.market.order(moved.order).unwrap().matched, Minor(0), "it queued behind");
}

#[test]
fn a_move_that_is_refused_leaves_the_order_in_its_place() {
    let mut desk = Desk::new(definition(2));
    let first = desk.lay(U, A, 300, 500).order;
    desk.lay(V, A, 300, 500);
    assert_eq!(desk.replace(U, first, 301).map(|_| ()), Err(Refusal::InvalidOdds));
    desk.suspend();
    assert_eq!(desk.replace(U, first, 310).map(|_| ()), Err(Refusal::MarketSuspended));
    desk.open();
    desk.back(X, A, 300, 500);
    assert_eq!(desk.market.order(first).unwrap().matched, Minor(500));
}

#[test]
fn a_moved_order_may_match_and_a_small_remainder_may_move() {
    let mut desk = Desk::new(definition(2));
    let order = desk.lay(U, A, 200, 500).order;
    desk.back(V, A, 200, 470);
    desk.back(X, A, 250, 100);
    let moved = desk.replace(U, order, 260).unwrap();
    assert_eq!((moved.size, moved.matched, moved.matched_value), (Minor(30), Minor(30), 30 * 250));
}

#[test]
fn cancel_all_takes_one_accounts_orders_and_frees_its_money() {
    let mut desk = Desk::new(definition(3));
    let orders = [desk.lay(U, A, 300, 500).order, desk.back(U, B, 300, 200).order];
    desk.back(V, A, 400, 100);
    desk.suspend();
    assert_eq!(desk.cancel_all(U), [(orders[0], Minor(500)), (orders[1], Minor(200))]);
    assert_eq!((desk.cash(U), desk.cash(V)), (0, -100));
    assert_eq!(desk.changed(), orders);
    assert_eq!(desk.cancel_all(U), []);
    assert_eq!(desk.cancel_all(X), []);
}

#[test]
fn changes_tell_each_level_once_with_its_new_total() {
    let mut desk = Desk::new(definition(2));
    desk.lay(V, A, 300, 100);
    desk.lay(X, A, 300, 200);
    desk.lay(V, A, 310, 100);
    let before = desk.market.sequence();
    desk.back(U, A, 300, 250);
    assert_eq!(desk.market.sequence(), before + 1);
    let levels: Vec<_> = desk.last.levels.iter().map(|l| (l.runner, l.side, l.price, l.size)).collect();
    assert_eq!(levels, [(A, Side::Lay, 300, Minor(150)), (A, Side::Lay, 310, Minor(0))]);
    assert_eq!(desk.last.orders.len(), 4);
}

#[test]
#[should_panic(expected = "were not taken")]
fn changes_that_nobody_took_stop_the_market() {
    let mut desk = Desk::new(definition(2));
    desk.out.releases.push((U, Minor(1)));
    desk.market.cancel_all(U, &mut desk.out);
}

#[test]
#[should_panic(expected = "order ids rise")]
fn order_ids_rise() {
    let mut desk = Desk::new(definition(2));
    let order = request(U, A, Side::Back, 300, 100);
    for id in [5, 5] {
        desk.out.clear();
        desk.market.place(0, OrderId(id), &order, Minor(100), Minor::ZERO, &mut desk.out).unwrap();
    }
}
