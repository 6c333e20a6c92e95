//! The order of the checks, caps, and what a definition must be.

use super::*;

#[test]
fn the_first_rule_that_is_broken_is_the_verdict() {
    // Each step breaks one more rule, from the last check to the first.
    let mut desk = Desk::new(MarketDefinition { market_cap: Some(Minor(1000)), ..definition(3) });
    desk.remove(C, 0).unwrap();
    desk.open();
    desk.lay(V, A, 150, 100);
    let mut order = request(U, A, Side::Back, 150, 5000);
    let verdict = |desk: &mut Desk, order: &OrderRequest| desk.submit_with(order, Minor::ZERO, Minor::ZERO);
    let refused = |refusal| Err(PlaceError::Refused(refusal));

    assert_eq!(
        verdict(&mut desk, &OrderRequest { size: Minor(1000), ..order.clone() }),
        Err(PlaceError::Short(Minor(1000)))
    );
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::MarketCap));
    order.fill_or_kill = true;
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::NotFilled));
    order.post_only = true;
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::Conflict));
    order.fill_or_kill = false;
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::WouldMatch));
    order.min_fill = Some(Minor(0));
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::InvalidMinFill));
    order.size = Minor(0);
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::InvalidSize));
    order.price = 15_100;
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::InvalidOdds));
    order.runner = C;
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::RunnerRemoved));
    order.runner = RunnerId(99);
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::InvalidRunner));
    desk.suspend();
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::MarketSuspended));
    desk.settle(MarketResult::Void).unwrap();
    assert_eq!(verdict(&mut desk, &order), refused(Refusal::MarketClosed));
}

#[test]
fn a_minimum_fill_comes_before_a_profit_ratio() {
    let mut desk = Desk::new(MarketDefinition { min_stake: Minor(1), ..definition(2) });
    let mut order = request(U, A, Side::Back, 110, 9);
    for side in [Side::Back, Side::Lay] {
        order.side = side;
        assert_eq!(desk.submit(&order), Err(Refusal::InvalidProfitRatio), "{side:?}");
    }
    order.min_fill = Some(Minor(1));
    assert_eq!(desk.submit(&order), Err(Refusal::InvalidMinFill), "only with fill-or-kill");
    order.fill_or_kill = true;
    assert_eq!(desk.submit(&order), Err(Refusal::InvalidProfitRatio));
    order.min_fill = Some(Minor(10));
    assert_eq!(desk.submit(&order), Err(Refusal::InvalidMinFill), "more than the size");
    assert!(desk.place(U, A, Side::Back, 110, 10).is_ok());
}

#[test]
fn a_market_that_has_not_opened_takes_no_orders() {
    let mut desk = Desk::unopened(definition(2));
    assert_eq!(desk.place(U, A, Side::Back, 200, 100), Err(Refusal::MarketNotOpen));
}

#[test]
fn caps_stop_what_raises_an_exposure_and_nothing_else() {
    let caps = MarketDefinition { market_cap: Some(Minor(1000)), event_cap: Some(Minor(1500)), ..definition(3) };
    let mut desk = Desk::new(caps);
    let back = request(U, A, Side::Back, 200, 1000);
    let cap = |refusal| Err(PlaceError::Refused(refusal));
    assert_eq!(desk.submit_with(&back, Minor(1000), Minor(501)), cap(Refusal::EventCap));
    assert!(desk.submit_with(&back, Minor(1000), Minor(500)).is_ok());

    let more = request(U, A, Side::Back, 200, 100);
    assert_eq!(desk.submit_with(&more, Minor(100), Minor::ZERO), cap(Refusal::MarketCap));
    // A hedge passes, however much is at stake elsewhere by now.
    let hedge = request(U, A, Side::Lay, 190, 1000);
    assert!(desk.submit_with(&hedge, Minor::ZERO, Minor(1_000_000)).is_ok());

    // An account with under 1,000 is not let in for 600 million.
    let wild = request(V, A, Side::Lay, 100_000, 60_000_000);
    assert_eq!(desk.submit_with(&wild, Minor(99_900), Minor::ZERO), cap(Refusal::MarketCap));
}

#[test]
fn a_move_that_raises_an_exposure_meets_the_caps_and_the_funds() {
    let mut desk = Desk::new(MarketDefinition { market_cap: Some(Minor(1000)), ..definition(2) });
    let order = desk.lay(U, A, 200, 500).order;
    let to = |price| ReplaceRequest { account: U, order, price, reference: Reference::new("moved").unwrap(), index: 0 };
    assert_eq!(desk.replace_with(&to(250), Minor(249), Minor::ZERO), Err(PlaceError::Short(Minor(1))));
    let refused = Err(PlaceError::Refused(Refusal::MarketCap));
    assert_eq!(desk.replace_with(&to(310), Minor(1000), Minor::ZERO), refused);
    assert!(desk.replace_with(&to(300), Minor(500), Minor::ZERO).is_ok());
}

#[test]
fn no_sequence_of_orders_exceeds_the_volume() {
    let huge = Minor::MAX_AMOUNT;
    let mut market = Desk::new(MarketDefinition { max_stake: huge, ..definition(2) }).market;
    let (mut out, mut taken) = (Changes::default(), 0);
    let verdict = loop {
        let (account, side) = if taken % 2 == 0 { (U, Side::Back) } else { (V, Side::Lay) };
        let order = request(account, A, side, 100_000, huge.0);
        let funded = Minor(huge.0 * 1000);
        match market.place(0, OrderId(taken + 1), &order, funded, Minor::ZERO, &mut out) {
            Ok(_) => taken += 1,
            Err(refusal) => break refusal,
        }
        out.clear();
    };
    let matched = Minor(taken as i64 / 2 * huge.0);
    assert_eq!(verdict, PlaceError::Refused(Refusal::MarketCap));
    assert_eq!((matched, market.summary().matched), (VOLUME_MAX - huge, matched));
    assert_eq!(market.exposure(V), Minor(matched.0 * 999));
    market.begin_settlement(fractions(&[(A, 1, 1), (B, 0, 1)]), &mut out).unwrap();
    out.clear();
    assert!(market.settlement_step(2, &mut out));
    assert_eq!(out.releases, [(U, Minor(VOLUME_MAX.0 + matched.0 * 999))]);
}

#[test]
fn a_definition_must_be_possible() {
    let runner = |n| RunnerDefinition { id: RunnerId(n), name: "x".into() };
    for (name, bad) in [
        ("no runner", MarketDefinition { runners: vec![], ..definition(2) }),
        ("the same runner twice", MarketDefinition { runners: vec![runner(1), runner(2), runner(1)], ..definition(2) }),
        ("a runner's number too large", MarketDefinition { runners: vec![runner(1 << 31)], ..definition(2) }),
        ("too many runners", definition(1001)),
        ("no winner", MarketDefinition { winners: 0, ..definition(2) }),
        ("no minimum stake", MarketDefinition { min_stake: Minor(0), ..definition(2) }),
        ("maximum below minimum", MarketDefinition { max_stake: Minor(99), ..definition(2) }),
        ("a huge maximum", MarketDefinition { max_stake: Minor(Minor::MAX_AMOUNT.0 + 1), ..definition(2) }),
        ("more than all as commission", MarketDefinition { commission_bp: 10_001, ..definition(2) }),
        ("a negative cap", MarketDefinition { event_cap: Some(Minor(-1)), ..definition(2) }),
    ] {
        assert_eq!(Market::new(MarketId(1), bad).err(), Some(Refusal::InvalidDefinition), "{name}");
    }
    assert!(Market::new(MarketId(1), definition(1000)).is_ok());
}

#[test]
fn whoever_comes_into_a_market_brings_a_penny_of_his_wallet_even_without_a_risk() {
    // Both win whatever happens: who backs one cannot lose.
    let mut desk = Desk::new(MarketDefinition { winners: 2, ..definition(2) });
    let back = |account| request(account, A, Side::Back, 300, 100);
    assert_eq!(desk.market.exposure_with(&back(U)), Ok(Minor(0)));
    assert_eq!(desk.submit_with(&back(U), Minor(0), Minor::ZERO), Err(PlaceError::Short(Minor(1))));
    desk.submit_with(&back(U), Minor(1), Minor::ZERO).unwrap();
    assert_eq!(desk.market.margin(U), Minor(0), "it goes back at once");
    // Who is in needs no more.
    desk.submit_with(&back(U), Minor(0), Minor::ZERO).unwrap();
}
