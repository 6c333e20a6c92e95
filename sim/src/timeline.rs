//! A run as a picture: one HTML file that needs nothing but a browser. What is drawn is collected here
//! from the trace; how it is drawn is in `timeline/page.js` and `page.css`,
//! and what a person can do with it in `hands.js`.
//!
//! - `history`: lives of nodes, leaders of cells, faults, as intervals. `frames`: what went over wires.
//!
//! Nothing here decides anything, and the same trace gives the same page, byte for byte.

mod frames;
mod history;

use serde::Serialize;
use stakehold_raft::CellId;

use crate::{
    cluster::run::Outcome,
    explain::{self, Teller},
    plan::{Plan, Setup},
    trace::Event,
};

const PAGE: &str = include_str!("timeline/page.html");
const STYLE: &str = include_str!("timeline/page.css");
const SCRIPT: &str = concat!(include_str!("timeline/page.js"), "\n", include_str!("timeline/hands.js"));

/// Entries whose contents can be read in the page, at most: the last ones.
const TOLD_ENTRIES: usize = 6_000;
/// Characters that are told of each.
const TOLD_LONG: usize = 200;
/// Points of a curve, at most.
const POINTS: usize = 20_000;

/// All that is drawn. Times are virtual microseconds; places are indexes into `nodes` and `cells`.
#[derive(Serialize)]
struct Drawing {
    title: String,
    again: String,
    setup: Vec<(&'static str, String)>,
    numbers: Vec<(&'static str, String)>,
    ok: bool,
    verdict: String,
    /// When it ended, and with it the violation.
    end: u64,
    nodes: Vec<String>,
    cells: Vec<String>,
    lives: Vec<history::Life>,
    leads: Vec<history::Lead>,
    faults: Vec<history::Span>,
    /// Node, when, what kind, in words.
    marks: Vec<(usize, u64, &'static str, String)>,
    /// When faults stopped.
    rest: Option<u64>,
    frames: frames::Frames,
    /// When, on which node first, of which cell, in words.
    entries: Vec<(u64, usize, usize, String)>,
    bets: Vec<(u64, i64)>,
    money: Vec<(u64, i64)>,
    /// What the violation depends on.
    about: Vec<String>,
    story: Vec<(u64, String)>,
    left_out: usize,
}

/// The page of a run that was kept whole; `again` is the command that runs it.
pub fn page(plan: &Plan, outcome: &Outcome, events: &[Event], again: &str) -> String {
    let drawing = draw(plan, outcome, events, again);
    // In a script element a `<` could begin the end of it.
    let data = serde_json::to_string(&drawing).expect("it is plain data").replace('<', "\\u003c");
    let title = drawing.title.replace('<', "&lt;");
    // One pass: what is put in is not looked at again.
    let mut page = String::with_capacity(data.len() + PAGE.len() + STYLE.len() + SCRIPT.len());
    let mut rest = PAGE;
    for (mark, text) in [("{{title}}", &*title), ("{{style}}", STYLE), ("{{data}}", &data), ("{{script}}", SCRIPT)] {
        let (before, after) = rest.split_once(mark).expect("the page has each of its marks, in this order");
        page += before;
        page += text;
        rest = after;
    }
    page + rest
}

fn draw(plan: &Plan, outcome: &Outcome, events: &[Event], again: &str) -> Drawing {
    let setup = &plan.setup;
    let teller = Teller::new(plan, events);
    let story = outcome.violation.as_ref().map(|violation| explain::explain(plan, events, violation));
    let mut cells: Vec<CellId> = (0..setup.cells).map(CellId).collect();
    cells.push(CellId::META);
    let history = history::History::new(setup.nodes, &cells, &teller, events, outcome.at);
    Drawing {
        title: format!("{} \u{b7} seed {}", setup.scenario, setup.seed),
        again: again.to_owned(),
        setup: said(setup),
        numbers: numbers(outcome),
        ok: outcome.violation.is_none(),
        verdict: outcome.violation.as_ref().map_or_else(|| "nothing went wrong".into(), ToString::to_string),
        end: outcome.at,
        nodes: (1..=setup.nodes).map(|node| format!("n{node}")).collect(),
        cells: cells.iter().map(CellId::to_string).collect(),
        entries: entries(&teller, &cells, events),
        frames: frames::frames(events),
        bets: thinned(bets(events)),
        money: thinned(money(events)),
        rest: events.iter().find(|event| event.kind == "rest").map(|event| event.at),
        lives: history.lives,
        leads: history.leads,
        faults: history.faults,
        marks: history.marks,
        about: story.as_ref().map(|story| story.about.clone()).unwrap_or_default(),
        left_out: story.as_ref().map_or(0, |story| story.left_out),
        story: story
            .map(|story| story.lines.into_iter().map(|line| (line.at, line.text)).collect())
            .unwrap_or_default(),
    }
}

fn said(setup: &Setup) -> Vec<(&'static str, String)> {
    let ms = |us: u64| format!("{}.{}", us / 1_000, us % 1_000 / 100);
    let mut said = vec![
        ("nodes", setup.nodes.to_string()),
        ("cells", setup.cells.to_string()),
        ("clients", setup.clients.to_string()),
        (
            "wires",
            format!("{}\u{2013}{} ms, {}\u{2030} lost", ms(setup.net.least_us), ms(setup.net.most_us), setup.net.lost),
        ),
        ("sync", format!("{}\u{2013}{} ms", ms(setup.disk.sync_us.0), ms(setup.disk.sync_us.1))),
        ("election", format!("{}\u{2013}{} ms", setup.tuning.election_ms.0, setup.tuning.election_ms.1)),
        ("snapshot", format!("every {} entries", setup.tuning.snapshot_every)),
        ("rare choices", format!("{}\u{2030}", setup.seldom)),
        ("faults until", format!("{} s", setup.until_ms / 1_000)),
    ];
    if let Some(mistake) = &setup.mistake {
        said.push(("known mistake", mistake.clone()));
    }
    said
}

fn numbers(outcome: &Outcome) -> Vec<(&'static str, String)> {
    vec![
        ("virtual s", format!("{}.{}", outcome.at / 1_000_000, outcome.at / 100_000 % 10)),
        ("events", outcome.events.to_string()),
        ("entries", outcome.seen.entries.to_string()),
        ("calls", outcome.counts.answered.to_string()),
        ("attempts", outcome.counts.attempts.to_string()),
        ("bets accepted", outcome.accepted.to_string()),
        ("funded across cells", outcome.seen.funded_across.to_string()),
        ("faults", outcome.faults.to_string()),
        ("lives", outcome.lives.to_string()),
        ("trace", format!("{:016x}", outcome.digest)),
    ]
}

/// Entries, where they were applied first.
fn entries(teller: &Teller<'_>, cells: &[CellId], events: &[Event]) -> Vec<(u64, usize, usize, String)> {
    let all = events.iter().enumerate().filter(|(_, event)| event.kind == "entry");
    let untold = all.clone().count().saturating_sub(TOLD_ENTRIES);
    let entry = |(count, (at, event)): (usize, (usize, &Event))| {
        let node = usize::from(event.node?.0) - 1;
        let cell = place(cells, event.numbers[0])?;
        let told = if count < untold { None } else { teller.tell(at, event, None) };
        let text = told.unwrap_or_else(|| format!("{} entry {}", cells[cell], event.numbers[2]));
        Some((event.at, node, cell, text.chars().take(TOLD_LONG).collect()))
    };
    all.enumerate().filter_map(entry).collect()
}

/// Where a cell is among `cells`.
fn place(cells: &[CellId], cell: u64) -> Option<usize> {
    cells.iter().position(|known| u64::from(known.0) == cell)
}

/// Calls with bets that were asked and have no answer that ends them.
fn bets(events: &[Event]) -> Vec<(u64, i64)> {
    let mut open = std::collections::BTreeSet::new();
    let mut curve = vec![(0, 0)];
    for event in events {
        let Some((_, said)) = event.text.split_once(": ") else { continue };
        let changed = match event.kind {
            "ask" if said.starts_with("Place ") || said.starts_with("Replace ") => open.insert(event.numbers[0]),
            "answer" if !asked_again(said) => open.remove(&event.numbers[0]),
            _ => false,
        };
        if changed {
            curve.push((event.at, open.len() as i64));
        }
    }
    curve
}

/// Whether a client asks again after this answer.
fn asked_again(answer: &str) -> bool {
    ["Busy", "DiskFull", "Unavailable", "Unknown)"]
        .iter()
        .any(|name| answer.strip_prefix("Err(").is_some_and(|error| error.starts_with(name)))
}

fn money(events: &[Event]) -> Vec<(u64, i64)> {
    let told = events.iter().filter(|event| event.kind == "money");
    told.map(|event| (event.at, event.numbers[0].cast_signed())).collect()
}

/// Of a curve with too many points, for each stretch of time the largest.
fn thinned(curve: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    let each = curve.len().div_ceil(POINTS).max(1);
    curve.chunks(each).filter_map(|chunk| chunk.iter().max_by_key(|(_, value)| value.abs()).copied()).collect()
}

#[cfg(test)]
mod tests;
