//! Histories that must not be, one alteration each.

use stakehold_actors::domain::types::Refusal;
use stakehold_raft::replica::Replica;

use super::*;

/// The market's cell takes in what is under way, and the entry is shown altered.
fn on_arrival(case: &mut Case, alter: impl FnOnce(&mut Shown)) -> Violation {
    let there = case.waiting(WALLETS, MARKETS);
    case.caught(MARKETS, vec![there], alter)
}

/// An order with its money on its way, in a market where another waits for it.
fn under_way(case: &mut Case) -> Instruction {
    case.place(case.one, Side::Back, 300, 1_000);
    let order = case.order(case.two, Side::Lay, 300, 400);
    case.fund(&order, 800);
    order
}

#[test]
fn i1_a_deposit_of_another_amount_than_was_answered() {
    let mut case = Case::new();
    let (account, reference) = (case.one, case.name());
    let deposit = Command::Deposit { account, amount: Minor(500), reference };
    let violation = case.caught(WALLETS, vec![Item::Command(deposit)], |shown| {
        let Item::Command(Command::Deposit { amount, .. }) = &mut shown.items[0] else { unreachable!() };
        *amount = Minor(501);
    });
    assert_eq!(violation.oracle, "I1", "{violation}");
}

#[test]
fn i1_money_that_no_entry_brought() {
    let mut case = Case::new();
    let mut other = Case::new();
    other.deposit(other.one, 1);
    other.command(WALLETS, Command::Withdraw { account: other.two, amount: Minor(1), reference: reference("w") });
    case.books.replace(WALLETS, other.books.replica(WALLETS).restore(&bytes(other.books.replica(WALLETS))).unwrap());
    let violation = case.oracles.cell(&case.books, WALLETS).expect_err("a penny moved");
    assert_eq!(violation.oracle, "I1", "{violation}");
}

#[test]
fn i1_a_margin_that_another_market_has() {
    let mut case = Case::new();
    case.place(case.one, Side::Back, 300, 1_000);
    let mut other = Case::new();
    other.place(other.one, Side::Back, 300, 999);
    case.books.replace(MARKETS, other.books.replica(MARKETS).restore(&bytes(other.books.replica(MARKETS))).unwrap());
    let violation = case.caught(MARKETS, vec![Item::Tick], |_| {});
    assert_eq!(violation.oracle, "I1", "{violation}");
}

#[test]
fn i1_a_cut_that_does_not_add_up() {
    let mut case = Case::new();
    case.command(WALLETS, Command::Marker { audit: 1 });
    let there = case.waiting(WALLETS, MARKETS);
    case.items(MARKETS, vec![there]);
    let back = case.waiting(MARKETS, WALLETS);
    let violation = case.caught(WALLETS, vec![back], |shown| {
        let part = shown.effects.iter_mut().find_map(|effect| match effect {
            Effect::Audited(part) => Some(part),
            _ => None,
        });
        part.expect("the second part").in_flight += 1;
    });
    assert_eq!(violation.oracle, "I1", "{violation}");
}

#[test]
fn i2_an_order_for_which_too_little_was_put_up() {
    let mut case = Case::new();
    let order = case.order(case.one, Side::Back, 300, 100);
    case.fund(&order, 100);
    let violation = on_arrival(&mut case, |shown| {
        for effect in &mut shown.effects {
            match effect {
                Effect::Order { order, .. } | Effect::OrderDecided { outcome: Ok(order), .. } => {
                    (order.size, order.remaining) = (Minor(1_000), Minor(1_000));
                }
                Effect::Market(delta) => delta.levels[0].size = Minor(1_000),
                _ => {}
            }
        }
    });
    assert_eq!(violation.oracle, "I2", "{violation}");
}

#[test]
fn i3_a_message_that_was_not_sent_so() {
    let mut case = Case::new();
    under_way(&mut case);
    let violation = on_arrival(&mut case, |shown| {
        let Item::Deliver(delivery) = &mut shown.items[0] else { unreachable!() };
        let mut body = delivery.messages[0].to_vec();
        *body.last_mut().unwrap() ^= 1;
        delivery.messages[0] = body.into();
    });
    assert_eq!(violation.oracle, "I3", "{violation}");
}

#[test]
fn i3_a_delivery_taken_in_twice() {
    let mut case = Case::new();
    under_way(&mut case);
    let there = case.waiting(WALLETS, MARKETS);
    let again = case.waiting(WALLETS, MARKETS);
    case.items(MARKETS, vec![there]);
    let violation = case.caught(MARKETS, vec![again], |shown| {
        let Outcome::Receipt(receipt) = &mut shown.outcomes[0] else { unreachable!() };
        receipt.taken = 1;
    });
    assert_eq!(violation.oracle, "I3", "{violation}");
}

#[test]
fn i3_a_gap_that_was_accepted() {
    let mut case = Case::new();
    under_way(&mut case);
    let more = case.order(case.one, Side::Back, 310, 10);
    case.fund(&more, 10);
    let violation = on_arrival(&mut case, |shown| {
        let Item::Deliver(delivery) = &mut shown.items[0] else { unreachable!() };
        delivery.messages.remove(0);
        delivery.first += 1;
        let Outcome::Receipt(receipt) = &mut shown.outcomes[0] else { unreachable!() };
        receipt.taken = 1;
    });
    assert_eq!(violation.oracle, "I3", "{violation}");
}

#[test]
fn i3_the_next_message_refused() {
    let mut case = Case::new();
    under_way(&mut case);
    let violation = on_arrival(&mut case, |shown| {
        let Outcome::Receipt(receipt) = &mut shown.outcomes[0] else { unreachable!() };
        (receipt.taken, receipt.watermark, receipt.refused) = (0, receipt.watermark - 1, true);
    });
    assert_eq!(violation.oracle, "I3", "{violation}");
}

#[test]
fn i3_an_acknowledgement_of_what_was_not_taken_in() {
    let mut case = Case::new();
    under_way(&mut case);
    let through = case.books.replica(MARKETS).acknowledgement(WALLETS).through + 1;
    let violation = case.caught(WALLETS, vec![Item::Tick], |shown| {
        shown.acks.push(Ack { by: MARKETS, through, hash: 0 });
    });
    assert_eq!(violation.oracle, "I3", "{violation}");
}

#[test]
fn i4_another_answer_to_a_repeated_call() {
    let mut case = Case::new();
    let deposit = Command::Deposit { account: case.one, amount: Minor(5), reference: reference("once") };
    case.command(WALLETS, deposit.clone());
    let violation = case.caught(WALLETS, vec![Item::Command(deposit)], |shown| {
        let Outcome::Verdict(Verdict::Wallet(receipt)) = &mut shown.outcomes[0] else { unreachable!() };
        receipt.available += Minor(5);
    });
    assert_eq!(violation.oracle, "I4", "{violation}");
}

#[test]
fn i4_a_reference_used_for_something_else() {
    let mut case = Case::new();
    let call = |amount| Command::Deposit { account: case.one, amount: Minor(amount), reference: reference("once") };
    let (first, second) = (call(5), call(6));
    case.command(WALLETS, first);
    let violation = case.caught(WALLETS, vec![Item::Command(second)], |shown| {
        shown.outcomes[0] = Outcome::Verdict(Verdict::Done);
    });
    assert_eq!(violation.oracle, "I4", "{violation}");
}

#[test]
fn i4_an_order_placed_twice() {
    let mut case = Case::new();
    let order = case.place(case.one, Side::Back, 300, 1_000);
    let again = case.execute(&order);
    let violation = case.caught(MARKETS, vec![again], |shown| {
        for effect in &mut shown.effects {
            if let Effect::OrderDecided { outcome: Ok(view), .. } = effect {
                view.order.0 += 1;
            }
        }
    });
    assert_eq!(violation.oracle, "I4", "{violation}");
}

#[test]
fn i4_an_answer_that_is_not_what_was_decided() {
    let mut case = Case::new();
    let order = case.order(case.one, Side::Back, 301, 10);
    let execute = case.execute(&order);
    let violation = case.caught(MARKETS, vec![execute], |shown| {
        shown.outcomes[0] = Outcome::Verdict(Verdict::Refused(Refusal::Expired));
    });
    assert_eq!(violation.oracle, "I4", "{violation}");
}

#[test]
fn i4_an_order_that_is_gone() {
    let mut case = Case::new();
    case.place(case.one, Side::Back, 300, 1_000);
    let other = Case::new();
    case.books.replace(MARKETS, other.books.replica(MARKETS).restore(&bytes(other.books.replica(MARKETS))).unwrap());
    let violation = case.oracles.answers.at_rest(&case.books).expect_err("an order is gone");
    assert_eq!(violation.oracle, "I4", "{violation}");
}

#[test]
fn i5_a_trade_at_another_price() {
    let mut case = Case::new();
    under_way(&mut case);
    let violation = on_arrival(&mut case, |shown| {
        for effect in &mut shown.effects {
            if let Effect::Market(delta) = effect {
                delta.trades[0].price = 295;
            }
        }
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

#[test]
fn i5_a_younger_order_before_an_older() {
    let mut case = Case::new();
    let old = case.place(case.one, Side::Back, 300, 1_000);
    let young = case.place(case.one, Side::Back, 300, 1_000);
    let order = case.order(case.two, Side::Lay, 300, 400);
    case.fund(&order, 800);
    let names = [old, young].map(|order| order.reference().0.clone());
    let orders = case.books.cell(MARKETS).orders_of(case.one, None);
    let younger = orders.iter().find(|order| order.reference == names[1]).expect("it rests").order;
    let violation = on_arrival(&mut case, |shown| {
        for effect in &mut shown.effects {
            if let Effect::Order { order, .. } = effect
                && order.reference == names[0]
            {
                (order.order, order.reference) = (younger, names[1].clone());
            }
        }
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

#[test]
fn i5_a_book_left_crossed() {
    let mut case = Case::new();
    let order = under_way(&mut case);
    let violation = on_arrival(&mut case, |shown| {
        // The new order is said to rest, and the one that waited to be untouched.
        shown.effects.retain(
            |effect| !matches!(effect, Effect::Order { order: other, .. } if other.reference != *order.reference().0),
        );
        for effect in &mut shown.effects {
            match effect {
                Effect::Order { order, .. } | Effect::OrderDecided { outcome: Ok(order), .. } => {
                    (order.matched, order.matched_value, order.remaining) = (Minor(0), 0, order.size);
                }
                Effect::Market(delta) => delta.trades.clear(),
                _ => {}
            }
        }
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

#[test]
fn i5_a_level_that_is_not_what_its_orders_are() {
    let mut case = Case::new();
    under_way(&mut case);
    let violation = on_arrival(&mut case, |shown| {
        for effect in &mut shown.effects {
            if let Effect::Market(delta) = effect {
                delta.levels[0].size += Minor(1);
            }
        }
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

#[test]
fn i5_a_change_that_feeds_were_not_told() {
    let mut case = Case::new();
    let market = case.market;
    let violation = case.caught(MARKETS, vec![Item::Command(Command::Suspend { market })], |shown| {
        shown.effects.clear();
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

#[test]
fn i5_nets_that_do_not_cancel_out() {
    let mut case = Case::new();
    case.place(case.one, Side::Back, 300, 1_000);
    case.place(case.two, Side::Lay, 300, 1_000);
    case.settle();
    let violation = case.caught(MARKETS, vec![Item::Tick], |shown| {
        for effect in &mut shown.effects {
            if let Effect::Posted(postings) = effect {
                postings.iter_mut().find(|posting| posting.amount.0 == 2_000).expect("a net").amount += Minor(1);
            }
        }
    });
    assert_eq!(violation.oracle, "I5", "{violation}");
}

/// Shows that something came before the order, in the same entry.
fn after(case: &mut Case, command: Command, verdict: Verdict) -> Violation {
    let order = case.order(case.one, Side::Back, 300, 100);
    case.fund(&order, 100);
    on_arrival(case, |shown| {
        let Item::Deliver(delivery) = shown.items.remove(0) else { unreachable!() };
        shown.items = vec![Item::Command(command), Item::Deliver(delivery)];
        shown.outcomes.insert(0, Outcome::Verdict(verdict));
    })
}

#[test]
fn i6_an_order_accepted_after_a_suspension_or_a_turn_or_a_cancel_all() {
    let case = Case::new();
    let (market, account) = (case.market, case.one);
    let all = Verdict::CancelledAll { orders: vec![], released: Minor(0) };
    for (command, verdict) in [
        (Command::Suspend { market }, Verdict::Done),
        (Command::TurnInPlay { market, bet_delay_s: 1 }, Verdict::Done),
        (Command::CancelAll { account, market }, all),
    ] {
        let violation = after(&mut Case::new(), command, verdict);
        assert_eq!(violation.oracle, "I6", "{violation}");
        assert!(violation.message.contains("was accepted"), "{violation}");
    }
}

#[test]
fn i6_an_order_accepted_past_its_time() {
    let mut case = Case::new();
    let order = case.place(case.one, Side::Back, 300, 100);
    let cancel = case.cancel(&order);
    case.items(MARKETS, vec![cancel]);
    case.place(case.one, Side::Back, 300, 100);
    // A hedge needs no money, so it is one command.
    let hedge = case.order(case.one, Side::Lay, 200, 50);
    let execute = case.execute(&hedge);
    let violation = case.caught(MARKETS, vec![execute], |shown| {
        let Item::Command(Command::Execute { admission, .. }) = &mut shown.items[0] else { unreachable!() };
        admission.good_until = 0;
    });
    assert_eq!(violation.oracle, "I6", "{violation}");
}

#[test]
fn i6_a_suspension_that_did_nothing() {
    let mut case = Case::new();
    let market = case.market;
    let violation = case.caught(MARKETS, vec![Item::Tick], |shown| {
        shown.items = vec![Item::Command(Command::Suspend { market })];
        shown.outcomes = vec![Outcome::Verdict(Verdict::Done)];
    });
    assert_eq!(violation.oracle, "I6", "{violation}");
}

#[test]
fn i6_a_settlement_that_paid_twice() {
    for again in [
        |effect: &Effect| matches!(effect, Effect::Posted(_)),
        |effect: &Effect| matches!(effect, Effect::Settled { .. }),
    ] {
        let mut case = Case::new();
        case.place(case.one, Side::Back, 300, 1_000);
        case.place(case.two, Side::Lay, 300, 1_000);
        case.settle();
        let violation = case.caught(MARKETS, vec![Item::Tick], |shown| {
            let effect = shown.effects.iter().find(|effect| again(effect)).expect("it was settled").clone();
            shown.effects.insert(0, effect);
        });
        assert_eq!(violation.oracle, "I6", "{violation}");
    }
}

#[test]
fn reference_another_refusal() {
    let mut case = Case::new();
    let order = case.order(case.one, Side::Back, 301, 10);
    let execute = case.execute(&order);
    let violation = case.caught(MARKETS, vec![execute], |shown| {
        shown.outcomes[0] = Outcome::Verdict(Verdict::Refused(Refusal::InvalidSize));
        for effect in &mut shown.effects {
            if let Effect::OrderDecided { outcome, .. } = effect {
                *outcome = Err(Refusal::InvalidSize);
            }
        }
    });
    assert_eq!(violation.oracle, "Reference", "{violation}");
}

#[test]
fn reference_another_sum_that_is_needed_or_released() {
    let mut case = Case::new();
    let order = case.order(case.one, Side::Back, 300, 10);
    let execute = case.execute(&order);
    let violation = case.caught(MARKETS, vec![execute], |shown| {
        shown.outcomes[0] = Outcome::Verdict(Verdict::NeedsFunds(Minor(9)));
    });
    assert_eq!(violation.oracle, "Reference", "{violation}");

    let mut case = Case::new();
    let order = case.place(case.one, Side::Back, 300, 10);
    let cancel = case.cancel(&order);
    let violation = case.caught(MARKETS, vec![cancel], |shown| {
        let Outcome::Verdict(Verdict::Cancelled { released, .. }) = &mut shown.outcomes[0] else { unreachable!() };
        *released = Minor(11);
    });
    assert_eq!(violation.oracle, "Reference", "{violation}");
}

/// A settlement pays by one result, and the reference was told of another.
#[test]
fn reference_a_settlement_by_another_result() {
    let mut case = Case::new();
    let settle = Command::Settle { market: case.market, result: winner(1), reference: case.name() };
    let violation = case.caught(MARKETS, vec![Item::Command(settle)], |shown| {
        let Item::Command(Command::Settle { result, .. }) = &mut shown.items[0] else { unreachable!() };
        *result = winner(2);
    });
    assert_eq!(violation.oracle, "Reference", "{violation}");
    assert!(violation.message.contains("result"), "{violation}");
}

/// A settlement pays who backed, and in the reference the other one had.
#[test]
fn reference_a_settlement_that_pays_the_wrong_accounts() {
    let settled = |one, two| {
        let mut case = Case::new();
        case.place(case.one, one, 300, 1_000);
        case.place(case.two, two, 300, 1_000);
        let settle = Command::Settle { market: case.market, result: winner(1), reference: reference("settle") };
        let shown = case.altered(MARKETS, vec![], vec![Item::Command(settle)], |_| {});
        assert!(shown.is_ok(), "nothing is paid yet");
        case
    };
    let (mut case, other) = (settled(Side::Back, Side::Lay), settled(Side::Lay, Side::Back));
    case.oracles.exchange = other.oracles.exchange;
    let violation = case.caught(MARKETS, vec![Item::Tick], |_| {});
    assert_eq!(violation.oracle, "Reference", "{violation}");
    assert!(violation.message.contains("sent was"), "{violation}");
}

#[test]
fn reference_a_commission_with_another_discount() {
    let mut case = Case::new();
    let discount = |discount_bp| Command::SetDiscount { account: case.one, discount_bp, reference: reference("less") };
    let (half, none) = (Item::Command(discount(5_000)), Item::Command(discount(0)));
    let violation = case.caught(WALLETS, vec![half], |shown| shown.items = vec![none]);
    assert_eq!(violation.oracle, "Reference", "{violation}");
}

#[test]
fn reference_orders_and_margins_of_another_past() {
    let mut case = Case::new();
    case.place(case.one, Side::Back, 300, 1_000);
    let mut other = Case::new();
    other.place(other.one, Side::Back, 310, 1_000);
    case.books.replace(MARKETS, other.books.replica(MARKETS).restore(&bytes(other.books.replica(MARKETS))).unwrap());
    let violation =
        case.oracles.exchange.as_ref().unwrap().cell(&case.books, MARKETS).expect_err("the price is another");
    assert_eq!(violation.oracle, "Reference", "{violation}");
}

fn bytes(replica: &Replica<Cell>) -> Vec<u8> {
    replica.freeze().snapshot().flatten().collect()
}
