//! `sim replay --step`: a run under the hand of whoever reads it. One line is one word of theirs.

use std::io::{BufRead, Write};

use anyhow::Result;

use super::replay::Point;
use crate::cluster::run::Run;

const HELP: &str = "\
  Enter, next [N]   goes on until N events (one) have happened, and shows them
  ms N              goes on for N virtual milliseconds, and shows what happened
  to POINT          goes on to an entry (cell=7 index=991) or a violation (I8), and shows nothing on the way
  state             shows nodes, cells and calls as they are now
  end               goes on to the end
  quit              leaves";

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Next(u64),
    Ms(u64),
    To(Point),
    State,
    Help,
    End,
    Quit,
}

impl std::str::FromStr for Word {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        let number = || rest.parse::<u64>().map_err(|_| format!("{word} how many? {rest:?} is no number"));
        match word {
            "" => Ok(Word::Next(1)),
            "next" | "n" if rest.is_empty() => Ok(Word::Next(1)),
            "next" | "n" => number().map(Word::Next),
            "ms" => number().map(Word::Ms),
            "to" => rest.parse().map(Word::To),
            "state" | "s" => Ok(Word::State),
            "help" | "h" | "?" => Ok(Word::Help),
            "end" => Ok(Word::End),
            "quit" | "q" => Ok(Word::Quit),
            other => Err(format!("{other:?} is no word here; there are:\n{HELP}")),
        }
    }
}

/// Goes on with a run whose trace is kept, as the lines say, until it is over or they are.
///
/// # Errors
/// When what is shown cannot be written, or a line cannot be read.
pub fn step(run: &mut Run, lines: impl BufRead, out: &mut impl Write, prompt: bool) -> Result<()> {
    let ask = |run: &Run, out: &mut dyn Write| -> Result<()> {
        if prompt {
            write!(out, "{:.6} s, event {} > ", run.now() as f64 / 1e6, run.events())?;
            out.flush()?;
        }
        Ok(())
    };
    // What led here was not asked for.
    run.watch().trace().take_kept();
    ask(run, out)?;
    for line in lines.lines() {
        let word = match line?.parse() {
            Ok(word) => word,
            Err(why) => {
                writeln!(out, "{why}")?;
                ask(run, out)?;
                continue;
            }
        };
        let (events, now) = (run.events(), run.now());
        let over = match &word {
            Word::Quit => return Ok(()),
            Word::Help => writeln!(out, "{HELP}").map(|()| false)?,
            Word::State => write!(out, "{}", run.state()).map(|()| false)?,
            Word::Next(count) => go(run, |run| run.events() >= events.saturating_add(*count)),
            Word::Ms(ms) => go(run, |run| run.now() >= now.saturating_add(ms.saturating_mul(1_000))),
            Word::To(point) => go(run, |run| point.reached(run)),
            Word::End => go(run, |_| false),
        };
        let shown = run.watch().trace().take_kept();
        if matches!(word, Word::Next(_) | Word::Ms(_)) {
            for event in shown {
                writeln!(out, "{event}")?;
            }
        }
        if over {
            return Ok(());
        }
        ask(run, out)?;
    }
    Ok(())
}

/// Windows, at least one, until the run is where somebody wants it. True when it is over.
fn go(run: &mut Run, there: impl Fn(&Run) -> bool) -> bool {
    loop {
        let over = run.step();
        if over || there(run) {
            return over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        generate::{Scenario, Wish, plan},
        trace::Trace,
    };

    #[test]
    fn a_run_goes_on_as_its_reader_says() {
        let wish = Wish { nodes: Some(3), cells: Some(1), until_ms: Some(2_000), ..Wish::default() };
        let plan = plan(Scenario::named("quiet-day").unwrap(), 1, &wish);
        let mut run = Run::new(&plan, Trace::kept());
        let mut out = Vec::new();
        let said = "next 5\nhop\nms x\nms 40\nstate\nto cell=0 index=3\n\nquit\nnext\n";
        step(&mut run, said.as_bytes(), &mut out, true).unwrap();
        let out = String::from_utf8(out).unwrap();
        let shown: Vec<&str> = out.split(" > ").collect();
        assert_eq!(shown.len(), 9, "a prompt before each word, and none after the last: {out}");
        assert!(shown[1].lines().filter(|line| line.starts_with("     0.")).count() >= 5, "{}", shown[1]);
        assert!(shown[2].contains("is no word here"), "{}", shown[2]);
        assert!(shown[3].contains("is no number"), "{}", shown[3]);
        assert!(shown[5].contains("committed"), "{}", shown[5]);
        assert!(run.watch().committed(stakehold_raft::CellId(0)) > 3);
        assert!(run.now() > 40_000 && run.now() < 2_000_000);
        run.finish();
    }
}
