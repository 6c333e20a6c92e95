//! A market's life: states, epochs, the in-play turn.

use super::*;

#[test]
fn the_epoch_and_the_sequence_rise_with_every_change_of_state_and_only_then() {
    let mut desk = Desk::unopened(definition(3));
    type Act = fn(&mut Desk);
    let steps: [(&str, bool, Act); 9] = [
        ("open", true, |d| d.open()),
        ("open again", false, |d| d.open()),
        ("suspend", true, |d| d.suspend()),
        ("suspend again", false, |d| d.suspend()),
        ("in-play", true, |d| d.turn_in_play()),
        ("in-play again", false, |d| d.turn_in_play()),
        ("reopen", true, |d| d.open()),
        ("non-runner", true, |d| d.remove(C, 0).unwrap()),
        ("close", true, |d| d.market.begin_settlement(MarketResult::Void, &mut d.out).unwrap()),
    ];
    for (name, changes, act) in steps {
        let (epoch, sequence) = (desk.market.epoch(), desk.market.sequence());
        act(&mut desk);
        let rise = u64::from(changes);
        assert_eq!((desk.market.epoch(), desk.market.sequence()), (epoch + rise, sequence + rise), "{name}");
    }
    assert_eq!((desk.market.status(), desk.market.in_play()), (MarketStatus::Closed, true));
}

#[test]
fn a_removal_suspends_an_open_market() {
    let mut desk = Desk::new(definition(3));
    desk.remove(C, 10_000).unwrap();
    assert_eq!(desk.market.status(), MarketStatus::Suspended);
    let mut desk = Desk::unopened(definition(3));
    desk.remove(C, 10_000).unwrap();
    assert_eq!(desk.market.status(), MarketStatus::Inactive);
    desk.open();
}

#[test]
fn turning_in_play_lapses_what_did_not_ask_to_persist() {
    let mut desk = Desk::new(definition(2));
    let lapse = desk.lay(U, A, 300, 500).order;
    let persist = OrderRequest { persistence: Persistence::Persist, ..request(U, B, Side::Lay, 300, 200) };
    let persist = desk.submit(&persist).unwrap().order;
    let swapped = desk.back(V, A, 400, 100).order;
    let set = desk.set_persistence(V, swapped, Persistence::Persist).unwrap();
    assert_eq!((set.persistence, desk.changed()), (Persistence::Persist, vec![swapped]));
    assert_eq!(desk.market.bet_delay_ms(), 0);
    desk.turn_in_play();
    assert_eq!(desk.market.bet_delay_ms(), 5000);
    let view = |order| desk.market.order(order).unwrap();
    assert_eq!((view(lapse).lapsed, view(lapse).remaining), (Minor(500), Minor(0)));
    assert_eq!((view(persist).remaining, view(swapped).remaining), (Minor(200), Minor(100)));
    assert_eq!(desk.cash(U), -400);

    // What is placed in play stays until the close, whatever it asked for.
    let order = desk.lay(U, A, 300, 100).order;
    desk.turn_in_play();
    assert_eq!(desk.market.order(order).unwrap().remaining, Minor(100));
}

#[test]
fn orders_survive_a_suspension_and_lapse_on_close() {
    let mut desk = Desk::new(definition(2));
    let order = desk.lay(U, A, 300, 500).order;
    desk.suspend();
    desk.open();
    assert_eq!(desk.market.order(order).unwrap().remaining, Minor(500));
    desk.back(V, A, 300, 200);
    desk.settle(fractions(&[(A, 0, 1), (B, 1, 1)])).unwrap();
    let view = desk.market.order(order).unwrap();
    assert_eq!((view.matched, view.lapsed, view.remaining), (Minor(200), Minor(300), Minor(0)));
    assert_eq!(desk.cash(U), 200);
    assert!(desk.market.book().runners.iter().all(|r| r.to_back.is_empty() && r.to_lay.is_empty()));
}

#[test]
fn states_refuse_what_they_do_not_allow() {
    let win = || fractions(&[(A, 1, 1), (B, 0, 1)]);
    let mut desk = Desk::unopened(definition(2));
    assert_eq!(desk.market.suspend(&mut desk.out), Err(Refusal::MarketNotOpen));
    assert_eq!(desk.market.turn_in_play(1, &mut desk.out), Err(Refusal::MarketNotOpen));
    assert_eq!(desk.settle(win()), Err(Refusal::WrongState));
    assert_eq!(desk.market.resettle(win(), &mut desk.out), Err(Refusal::WrongState));
    assert_eq!(desk.market.finalise(), Err(Refusal::WrongState));
    desk.open();
    desk.fill(U, V, A, 300, 100);
    desk.market.begin_settlement(win(), &mut desk.out).unwrap();
    assert_eq!(desk.market.begin_settlement(win(), &mut desk.out), Err(Refusal::WrongState));
    assert_eq!(desk.market.resettle(win(), &mut desk.out), Err(Refusal::WrongState), "still under way");
    assert_eq!(desk.market.finalise(), Err(Refusal::WrongState), "still under way");
    while !desk.market.settlement_step(1, &mut desk.out) {
        desk.out.clear();
    }
    desk.out.clear();
    assert_eq!(desk.market.open(&mut desk.out), Err(Refusal::MarketClosed));
    assert_eq!(desk.market.suspend(&mut desk.out), Err(Refusal::MarketClosed));
    assert_eq!(desk.market.turn_in_play(1, &mut desk.out), Err(Refusal::MarketClosed));
    assert_eq!(desk.market.remove_runner(A, 0, &mut desk.out), Err(Refusal::MarketClosed));
    assert_eq!(desk.market.cancel(U, OrderId(1), None, &mut desk.out), Err(Refusal::MarketClosed));
    assert_eq!(desk.market.finalise(), Ok(()));
    assert_eq!(desk.market.finalise(), Ok(()), "said twice");
    assert_eq!(desk.market.resettle(win(), &mut desk.out), Err(Refusal::WrongState));
    assert!(desk.market.settlement_step(1, &mut desk.out));
    assert_eq!((desk.market.orders_of(U).len(), desk.market.accounts().count()), (0, 0));
    assert_eq!(desk.market.view().runners[0].matched, Minor(100));
}

#[test]
fn a_market_survives_its_snapshot() {
    let mut desk = Desk::new(definition(3));
    desk.fill(U, V, A, 300, 1000);
    desk.lay(X, B, 500, 300);
    desk.back(X, C, 120, 700);
    desk.remove(C, 20_000).unwrap();
    desk.market.begin_settlement(fractions(&[(A, 1, 1), (B, 0, 1)]), &mut desk.out).unwrap();
    desk.out.clear();
    assert!(!desk.market.settlement_step(1, &mut desk.out));
    let bytes = postcard::to_stdvec(&desk.market).unwrap();
    assert_eq!(postcard::from_bytes::<Market>(&bytes).unwrap(), desk.market);
}

#[test]
fn a_bet_delay_is_not_an_hour() {
    assert!(Market::new(MarketId(1), MarketDefinition { bet_delay_s: 31, ..definition(2) }).is_err());
    let mut desk = Desk::new(definition(2));
    assert_eq!(desk.market.turn_in_play(31, &mut desk.out), Err(Refusal::InvalidDefinition));
    assert!(!desk.market.in_play());
    desk.market.turn_in_play(30, &mut desk.out).unwrap();
}
