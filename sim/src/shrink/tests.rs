use stakehold_actors::api::Request;

use super::*;
use crate::{
    generate::{self, Scenario, Wish},
    plan::Fault,
};

fn plan(mistake: Option<&str>) -> Plan {
    let wish = Wish { nodes: Some(5), cells: Some(2), until_ms: Some(4_000), rate: Some(60), ..Wish::default() };
    let mut plan = generate::plan(Scenario::named("swarm").expect("it is one"), 1, &wish);
    plan.setup.mistake = mistake.map(str::to_owned);
    plan
}

/// A plan with a slow link in the middle, and nothing else that goes wrong.
fn with_a_slow_link() -> Plan {
    let mut plan = plan(None);
    plan.steps.retain(|step| matches!(step.what, What::Call(_)));
    let fault = Fault::Slow { a: 1, b: 2, more_ms: 400 };
    plan.steps.push(Step { at: 2_500_000, what: What::Fault(fault) });
    plan.steps.push(Step { at: 2_600_000, what: What::Fault(Fault::HealAll) });
    plan.steps.sort_by_key(|step| step.at);
    plan
}

/// Two things that must come together, in this order: a slow link, and an order of some size after it.
fn slow_link_then_order(plan: &Plan, limit: u64) -> Option<(Violation, u64)> {
    let slow = plan.faults().find(|(_, fault)| matches!(fault, Fault::Slow { more_ms: 50.., .. }))?.0;
    let order = plan.calls().filter(|(at, _)| *at > slow).find(|(_, call)| match &call.request {
        Request::Place { orders, .. } => orders.iter().any(|order| order.size.0 >= 300),
        _ => false,
    });
    let at = order?.0;
    (at < limit).then(|| (Violation::new("I1", "both came"), at))
}

#[test]
fn only_what_is_needed_is_left_and_that_as_simple_as_can_be() {
    let large = with_a_slow_link();
    let mut heard = 0;
    let small = shrink_by(&large, &slow_link_then_order, &mut |_| {
        heard += 1;
        true
    });
    let Smaller { plan, runs, at, .. } = small.expect("it fails");
    assert_eq!(runs, heard + 1);
    assert_eq!(plan.steps.len(), 2, "{plan}");
    assert!(matches!(plan.steps[0].what, What::Fault(Fault::Slow { more_ms: 50, .. })), "{plan}");
    let What::Call(call) = &plan.steps[1].what else { panic!("{plan}") };
    let Request::Place { orders, .. } = &call.request else { panic!("{plan}") };
    assert_eq!(orders.len(), 1);
    assert!((300..600).contains(&orders[0].size.0) && !orders[0].fill_or_kill && !orders[0].post_only, "{plan}");
    assert_eq!((plan.setup.nodes, plan.setup.cells, plan.setup.seldom, plan.setup.net.lost), (3, 1, 0, 0));
    assert_eq!(plan.setup.until_ms, 4_000.min(at / 1_000 + SLACK_MS));
    assert_eq!(plan.setup.rest_ms, large.setup.rest_ms);
}

#[test]
fn only_what_never_comes_to_rest_is_waited_for_less() {
    let never = |plan: &Plan, _| {
        let after = (plan.setup.until_ms + plan.setup.rest_ms) * 1_000;
        plan.calls().next().map(|_| (Violation::new("L1", "a call has no answer"), after))
    };
    let large = plan(None);
    let small = shrink_by(&large, &never, &mut |_| true).expect("it fails");
    assert_eq!(small.plan.steps.len(), 1);
    assert!(small.plan.setup.rest_ms < large.setup.rest_ms && small.plan.setup.until_ms < large.setup.until_ms);
}

#[test]
fn what_is_too_slow_with_less_time_to_rest_is_not_taken_for_what_never_rests() {
    // With half a minute to rest, only a plan with a fault does not come to rest.
    let slow = |plan: &Plan, _| {
        let restless = plan.setup.rest_ms < 30_000 || plan.faults().next().is_some();
        let after = (plan.setup.until_ms + plan.setup.rest_ms) * 1_000;
        restless.then(|| (Violation::new("L1", "a call has no answer"), after))
    };
    let large = with_a_slow_link();
    let small = shrink_by(&large, &slow, &mut |_| true).expect("it fails");
    assert_eq!(small.plan.faults().count(), 1);
    let mut whole = small.plan;
    whole.setup.rest_ms = large.setup.rest_ms;
    assert!(slow(&whole, 0).is_some());
}

#[test]
fn whoever_asked_may_end_it_and_has_what_stands_so_far() {
    let large = plan(Some("pump.receipt_before_commit"));
    let small = shrink(&large, &mut |smaller| smaller.runs < 8).expect("it fails");
    assert_eq!((small.runs, small.violation.oracle), (8, "I3"));
    assert!(small.plan.steps.len() < large.steps.len());
    assert_eq!(fails(&small.plan, u64::MAX), Some((small.violation, small.at)));
}

#[test]
fn a_plan_that_does_not_fail_is_refused() {
    assert!(shrink_by(&plan(None), &|_, _| None, &mut |_| true).is_err());
}

#[test]
fn panics_are_the_same_up_to_numbers_and_others_by_their_oracle() {
    let crash = |message: &str| Violation::new("Crash", message);
    assert!(same(&crash("no room for 7 (a.rs:12)"), &crash("no room for 31 (a.rs:9)")));
    assert!(!same(&crash("no room for 7"), &crash("no time for 7")));
    assert!(same(&Violation::new("I1", "one"), &Violation::new("I1", "another")));
    assert!(!same(&Violation::new("I1", "one"), &Violation::new("I2", "one")));
}
