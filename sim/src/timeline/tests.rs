//! Whole runs of small plans, one of which must fail: the page and the story must show why.

use super::*;
use crate::{
    cluster::run,
    explain::{LINES, explain},
    generate::{self, KINDS, Scenario, Wish},
    trace::Trace,
};

fn plan(seed: u64, mistake: Option<&str>, until_ms: u64) -> Plan {
    let wish = Wish {
        nodes: Some(3),
        cells: Some(2),
        clients: Some(4),
        until_ms: Some(until_ms),
        rate: Some(40),
        faults: Some(
            KINDS.into_iter().filter(|kind| ["power", "cut", "pause", "clock"].contains(&kind.name())).collect(),
        ),
    };
    let mut plan = generate::plan(Scenario::named("swarm").unwrap(), seed, &wish);
    plan.setup.mistake = mistake.map(str::to_owned);
    plan
}

/// The data in a page.
fn data(page: &str) -> serde_json::Value {
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_known_mistake_is_seen_in_the_page_and_in_the_story() {
    let plan = plan(4, Some("market.releases_twice"), 4_000);
    let (outcome, events) = run::kept(&plan);
    let violation = outcome.violation.clone().expect("the mistake shows");
    let page = page(&plan, &outcome, &events, "sim run");
    let data = data(&page);
    assert_eq!(data["verdict"], violation.to_string());
    assert_eq!(data["ok"], false);
    assert_eq!(data["end"], outcome.at);
    for (list, least) in [("lives", 3), ("leads", 2), ("entries", 20), ("money", 10), ("bets", 2), ("story", 5)] {
        assert!(data[list].as_array().unwrap().len() >= least, "{list}: {}", data[list]);
    }
    assert!(data["frames"]["lines"].as_array().unwrap().len() > 100);

    let story = explain(&plan, &events, &violation);
    assert!(story.lines.len() <= LINES && story.lines.is_sorted_by_key(|line| line.at));
    let told = story.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.ends_with(&format!("VIOLATION  {violation}")), "{told}");
    // The account and the market that it names, the entry in which it was seen, and the call behind it.
    for what in ["leads c", "asks n", " for account ", " of market ", " entry ", "came to:"] {
        assert!(told.contains(what), "{what} in {told}");
    }
}

#[test]
fn a_crash_in_an_apply_is_told_with_the_entry_that_was_applied() {
    let plan = include_str!("../../corpus/reduction-that-makes-no-sense-is-refused.plan");
    let plan = Plan::parse(plan).unwrap().with_mistake("cancel.subtracts_before_it_checks");
    let (outcome, events) = run::kept(&plan);
    let violation = outcome.violation.expect("the mistake shows");
    assert_eq!(violation.oracle, "Crash");
    let story = explain(&plan, &events, &violation);
    let told = story.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for what in [" applies entry ", "cancel id order ", "reduction -92233720368547758.08"] {
        assert!(told.contains(what), "{what} in {told}");
    }
}

#[test]
fn a_page_needs_nothing_from_outside_and_is_the_same_every_time() {
    let plan = plan(7, None, 2_000);
    let (outcome, events) = run::kept(&plan);
    let first = page(&plan, &outcome, &events, "sim run");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "import(", "fetch("] {
        assert!(!first.contains(outside), "{outside}");
    }
    // Nothing of a run can end the script element that it is in.
    assert_eq!(first.matches("</script>").count(), 2);
    let (outcome, events) = run::kept(&plan);
    assert!(page(&plan, &outcome, &events, "sim run") == first, "the same plan gave another page");
    // That it is kept changes nothing.
    assert_eq!(run::run(&plan, Trace::default()).digest, outcome.digest);
}

#[test]
fn a_node_is_in_one_state_at_a_time_and_in_some_state_always() {
    let plan = plan(4, None, 6_000);
    let (outcome, events) = run::kept(&plan);
    let drawing = draw(&plan, &outcome, &events, "");
    assert!(drawing.marks.iter().any(|(_, _, kind, _)| *kind == "power"), "nobody lost power: choose another seed");
    for node in 0..3 {
        let mut at = 0;
        for history::Life(_, from, to, _) in drawing.lives.iter().filter(|life| life.0 == node) {
            assert!(*from == at && from < to, "n{} at {at}", node + 1);
            at = *to;
        }
        assert_eq!(at, outcome.at);
    }
    for history::Span(from, to, kind, text) in &drawing.faults {
        assert!(from <= to && to <= &outcome.at && (from < to || *kind == "moment"), "{text}: {from} to {to}");
    }
}
