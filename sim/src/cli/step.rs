//! `sim replay --step`: a run under the hand of whoever reads it. One line is one word of theirs.

use std::{
    io::{BufRead, Write},
    rc::Rc,
};

use anyhow::Result;
use stakehold_actors::domain::types::{AccountId, MarketId};
use stakehold_raft::NodeId;

use super::{point::Point, run::reported, summary};
use crate::{
    cluster::{
        run::{Outcome, Run, entity::Entity},
        watch::Watch,
    },
    plan::Plan,
};

const HELP: &str = "\
  Enter, next [N]   goes on until N events (one) have happened, and shows them
  ms N              goes on for N virtual milliseconds, and shows what happened
  to POINT          goes on to an entry (cell=7 index=991) or a violation (I8), and shows nothing on the way
  state             shows nodes, cells and calls as they are now
  market ID [nK]    shows a market: its book, who is in it, their open orders; as committed, or as node K has it
  account ID [nK]   shows a wallet and its statement in the same way
  end               goes on to the end, and says how it ended: `state` shows what is there then
  quit              leaves";

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Next(u64),
    Ms(u64),
    To(Point),
    State,
    Show(Entity, Option<NodeId>),
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
            "market" | "account" => shown(word, rest),
            "help" | "h" | "?" => Ok(Word::Help),
            "end" => Ok(Word::End),
            "quit" | "q" => Ok(Word::Quit),
            other => Err(format!("{other:?} is no word here; there are:\n{HELP}")),
        }
    }
}

/// `249` or `249 n2`, after `market` or `account`.
fn shown(word: &str, rest: &str) -> Result<Word, String> {
    let (id, node) = rest.split_once(' ').map_or((rest, None), |(id, node)| (id, Some(node.trim())));
    let id = id.parse().map_err(|_| format!("which {word}? {id:?} is no number"))?;
    let node = node.map(|node| {
        let number = node.strip_prefix('n').unwrap_or(node).parse().ok();
        number.map(NodeId).ok_or_else(|| format!("{node:?} is no node, as n2 is"))
    });
    let entity = if word == "market" { Entity::Market(MarketId(id)) } else { Entity::Account(AccountId(id)) };
    Ok(Word::Show(entity, node.transpose()?))
}

/// How a run under somebody's hand begins.
#[derive(Debug)]
pub struct Stepped<'a> {
    pub plan: &'a Plan,
    /// The command that runs it again.
    pub again: &'a str,
    /// Whether it is over before anybody has said a word.
    pub over: bool,
}

/// A run that goes on, or what is left of one.
enum Now {
    On(Box<Run>),
    Over(Box<Ended>),
}

struct Ended {
    outcome: Outcome,
    /// Of the cluster at that time.
    state: String,
    /// It has what was committed.
    watch: Rc<Watch>,
}

impl Stepped<'_> {
    /// Goes on with a run whose trace is kept, as the lines say, until they are over. What they lead to is
    /// printed.
    ///
    /// # Errors
    /// When what is shown cannot be written, or a line cannot be read.
    pub fn step(&self, run: Run, lines: impl BufRead, out: &mut impl Write, prompt: bool) -> Result<Outcome> {
        // What led here was not asked for.
        run.watch().trace().take_kept();
        let mut now = Now::On(Box::new(run));
        if self.over {
            now = self.end(now, out)?;
        }
        ask(&now, out, prompt)?;
        for line in lines.lines() {
            match line?.parse() {
                Err(why) => writeln!(out, "{why}")?,
                Ok(Word::Quit) => break,
                Ok(Word::Help) => writeln!(out, "{HELP}")?,
                Ok(word) => now = self.heed(now, &word, out)?,
            }
            ask(&now, out, prompt)?;
        }
        Ok(match now {
            Now::On(run) => {
                let outcome = run.finish();
                write!(out, "{}", reported(&outcome, self.again))?;
                outcome
            }
            Now::Over(ended) => ended.outcome,
        })
    }

    /// Does what the word says.
    fn heed(&self, now: Now, word: &Word, out: &mut impl Write) -> Result<Now> {
        let mut run = match now {
            Now::On(run) => run,
            Now::Over(ended) => {
                match word {
                    Word::State => write!(out, "{}", ended.state)?,
                    Word::End => write!(out, "{}", self.ending(&ended.outcome))?,
                    Word::Show(entity, None) => write!(out, "{}", entity.committed(&ended.watch))?,
                    Word::Show(..) => writeln!(out, "the run is over, and its nodes are gone: ask without one")?,
                    _ => writeln!(
                        out,
                        "the run is over: there are `state`, `market ID`, `account ID`, `end` and `quit`"
                    )?,
                }
                return Ok(Now::Over(ended));
            }
        };
        if let Word::To(point) = word
            && let Err(why) = point.check(self.plan)
        {
            writeln!(out, "{why}")?;
            return Ok(Now::On(run));
        }
        let (events, at) = (run.events(), run.now());
        let over = match word {
            Word::Next(count) => go(&mut run, |run| run.events() >= events.saturating_add(*count)),
            Word::Ms(ms) => go(&mut run, |run| run.now() >= at.saturating_add(ms.saturating_mul(1_000))),
            Word::To(point) => go(&mut run, |run| point.reached(run)),
            Word::End => go(&mut run, |_| false),
            Word::State => write!(out, "{}", run.state()).map(|()| false)?,
            Word::Show(entity, node) => {
                let told = node.map_or_else(|| entity.committed(run.watch()), |node| entity.on(&run, node));
                write!(out, "{told}").map(|()| false)?
            }
            Word::Help | Word::Quit => false,
        };
        let shown = run.watch().trace().take_kept();
        if matches!(word, Word::Next(_) | Word::Ms(_)) {
            for event in shown {
                writeln!(out, "{event}")?;
            }
        }
        if let Word::To(point) = word
            && over
            && !point.reached(&run)
        {
            writeln!(out, "the run ended before that")?;
        }
        if over { self.end(Now::On(run), out) } else { Ok(Now::On(run)) }
    }

    /// A run that is over is let go: what can be asked of it later is kept.
    fn end(&self, now: Now, out: &mut impl Write) -> Result<Now> {
        let Now::On(run) = now else { return Ok(now) };
        let (state, watch) = (run.state().to_string(), run.watch().clone());
        let outcome = run.finish();
        write!(out, "{}", self.ending(&outcome))?;
        Ok(Now::Over(Box::new(Ended { outcome, state, watch })))
    }

    /// How it ended.
    fn ending(&self, outcome: &Outcome) -> String {
        let how = if outcome.violation.is_some() { "" } else { "nothing went wrong\n" };
        format!("the run is over: {}\n{how}{}", summary(outcome), reported(outcome, self.again))
    }
}

fn ask(now: &Now, out: &mut impl Write, prompt: bool) -> Result<()> {
    if !prompt {
        return Ok(());
    }
    match now {
        Now::On(run) => write!(out, "{:.6} s, event {} > ", run.now() as f64 / 1e6, run.events())?,
        Now::Over(ended) => write!(out, "{:.6} s, over > ", ended.outcome.at as f64 / 1e6)?,
    }
    Ok(out.flush()?)
}

/// Windows, at least one, until the run is where somebody wants it. True when it is over.
pub fn go(run: &mut Run, there: impl Fn(&Run) -> bool) -> bool {
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

    /// What is printed of a small quiet day in one cell when somebody says these words.
    fn said(words: &str) -> (Outcome, String) {
        said_of(2_000, words)
    }

    fn said_of(until_ms: u64, words: &str) -> (Outcome, String) {
        let wish = Wish { nodes: Some(3), cells: Some(1), until_ms: Some(until_ms), ..Wish::default() };
        let plan = plan(Scenario::named("quiet-day").unwrap(), 1, &wish);
        let mut out = Vec::new();
        let stepped = Stepped { plan: &plan, again: "so", over: false };
        let outcome = stepped.step(Run::new(&plan, Trace::kept()), words.as_bytes(), &mut out, true).unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_run_goes_on_as_its_reader_says() {
        let (outcome, out) = said("next 5\nhop\nms x\nms 40\nstate\nto cell=0 index=3\n\nquit\nnext\n");
        let shown: Vec<&str> = out.split(" > ").collect();
        assert_eq!(shown.len(), 9, "a prompt before each word, and none after the last: {out}");
        assert!(shown[1].lines().filter(|line| line.starts_with("     0.")).count() >= 5, "{}", shown[1]);
        assert!(shown[2].contains("is no word here"), "{}", shown[2]);
        assert!(shown[3].contains("is no number"), "{}", shown[3]);
        assert!(shown[5].contains("committed"), "{}", shown[5]);
        assert!(outcome.seen.entries > 3 && outcome.at > 40_000 && outcome.at < 2_000_000);
    }

    #[test]
    fn a_market_and_a_wallet_are_shown_as_committed_and_as_a_node_has_them() {
        let (_, out) = said_of(8_000, "market 1\nms 6000\nmarket 1\nquit\n");
        let shown: Vec<&str> = out.split(" > ").collect();
        assert!(shown[1].starts_with("there is no market yet"), "{}", shown[1]);
        let (_, known) = shown[3].split_once("market 1 is in no cell; there are ").expect("some other is");
        let market = known.split([',', '\n']).next().unwrap();

        let words = [
            "ms 6000",
            &format!("market {market}"),
            &format!("market {market} n2"),
            "account 7 n1",
            "account 7",
            "account",
            &format!("market {market} north"),
            &format!("market {market} n9"),
            "end",
            &format!("market {market}"),
            "account 7 n1",
        ];
        let (_, out) = said_of(8_000, &words.join("\n"));
        let shown: Vec<&str> = out.split(" > ").skip(2).collect();
        for (at, what) in [
            (0, format!("market {market}, committed in c0: open")),
            (0, "\n  runner 1: to back ".into()),
            (0, ": margin ".into()),
            (0, "\n    order ".into()),
            (1, format!("market {market}, as n2 has applied it in c0: open")),
            (2, "account 7, as n1 has applied it in c0: available ".into()),
            (3, "account 7, committed in c0: available ".into()),
            (3, "\n     1 deposit ".into()),
            (4, "which account? \"\" is no number".into()),
            (5, "\"north\" is no node, as n2 is".into()),
            (6, "there is no n9".into()),
            (8, format!("market {market}, committed in c0: ")),
            (9, "its nodes are gone".into()),
        ] {
            assert!(shown[at].contains(&what), "{what} in {}", shown[at]);
        }
    }

    #[test]
    fn a_point_that_there_is_not_is_refused_and_nothing_goes_on() {
        let (outcome, out) = said("to cell=44 index=5\nto I8x\nto\n");
        assert!(out.contains("there is no cell=44 in the plan"), "{out}");
        assert!(out.contains("\"I8x\" is no oracle: say one of I1, I2"), "{out}");
        assert_eq!((outcome.at, outcome.violation), (0, None));
    }

    #[test]
    fn a_run_that_is_over_says_how_and_can_still_be_looked_at() {
        let (outcome, out) = said("to I3\nstate\nnext\nend\nquit\n");
        let shown: Vec<&str> = out.split(" > ").collect();
        assert!(shown[1].starts_with("the run ended before that\nthe run is over: "), "{}", shown[1]);
        assert!(shown[1].contains("nothing went wrong"), "{}", shown[1]);
        assert!(shown[2].contains("committed"), "{}", shown[2]);
        assert!(shown[3].starts_with("the run is over: there are `state`"), "{}", shown[3]);
        assert!(shown[4].contains(&format!("trace {:016x}", outcome.digest)), "{}", shown[4]);
    }
}
