//! `sim diff`: where two plans, or two traces, part.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{DIFFERENT, OK};
use crate::plan::Plan;

/// Lines that are shown before the first difference.
const BEFORE: usize = 10;
/// Characters of a line that are shown.
const LONG: usize = 240;
/// Steps that are in one plan only, of which so many are shown.
const STEPS: usize = 40;

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A plan, or a trace.
    a: PathBuf,
    /// Another of the same kind.
    b: PathBuf,
}

/// Whether they are the same, and if not, where they part.
pub fn diff(args: &DiffArgs) -> Result<u8> {
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let said = match (kind(&a), kind(&b)) {
        (Some(Kind::Plan), Some(Kind::Plan)) => {
            println!("two plans");
            plans(&Plan::parse(&a)?, &Plan::parse(&b)?)?
        }
        (Some(Kind::Trace), Some(Kind::Trace)) => {
            println!("two traces");
            lines(&a, &b)
        }
        (None, None) => {
            bail!("neither {} nor {} is a plan or a trace: choose two of a kind", args.a.display(), args.b.display())
        }
        (Some(_), Some(_)) => bail!(
            "one of {} and {} is a plan and the other a trace: choose two of a kind",
            args.a.display(),
            args.b.display()
        ),
        (first, _) => {
            let other = if first.is_none() { &args.a } else { &args.b };
            bail!("{} is no plan and no trace: choose two of a kind", other.display())
        }
    };
    match said {
        None => {
            println!("they are the same");
            Ok(OK)
        }
        Some(said) => {
            println!("{said}");
            Ok(DIFFERENT)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plan,
    Trace,
}

/// A plan begins with its setup, which is an object; a line of a trace begins with a time.
fn kind(text: &str) -> Option<Kind> {
    let first = text.split_whitespace().next()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = first.split_once('.').is_some_and(|(s, us)| is_number(s) && is_number(us) && us.len() == 6);
    match first.starts_with('{') {
        true => Some(Kind::Plan),
        false => is_time.then_some(Kind::Trace),
    }
}

/// The first difference of two traces, with what was before it; None if there is none.
fn lines(a: &str, b: &str) -> Option<String> {
    let same = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
    let (here, there) = (a.lines().nth(same), b.lines().nth(same));
    if here.is_none() && there.is_none() {
        return None;
    }
    let mut said = format!("the first difference is in line {}\n", same + 1);
    for line in a.lines().take(same).skip(same.saturating_sub(BEFORE)) {
        said += &format!("    {}\n", short(line));
    }
    for (mark, line) in [("A", here), ("B", there)] {
        said += &format!("{mark}   {}\n", line.map_or_else(|| "(ends here)".into(), short));
    }
    if let (Some(here), Some(there)) = (here, there) {
        let at = here.chars().zip(there.chars()).take_while(|(a, b)| a == b).count();
        if at >= LONG {
            let rest = |line: &str| short(&line.chars().skip(at).collect::<String>());
            said += &format!("they part at character {at}:\nA   {}\nB   {}\n", rest(here), rest(there));
        }
    }
    Some(said.trim_end().to_owned())
}

fn short(line: &str) -> String {
    match line.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}\u{2026}", &line[..at]),
        None => line.to_owned(),
    }
}

/// What differs between two plans: words of the setup, and steps that are in one only. None if nothing
/// does.
fn plans(a: &Plan, b: &Plan) -> Result<Option<String>> {
    let mut said = Vec::new();
    let (serde_json::Value::Object(here), serde_json::Value::Object(there)) =
        (serde_json::to_value(&a.setup)?, serde_json::to_value(&b.setup)?)
    else {
        bail!("a setup is an object");
    };
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    for name in names {
        if here.get(name) != there.get(name) {
            let value = |map: &serde_json::Map<_, _>| map.get(name).map_or_else(|| "none".into(), ToString::to_string);
            said.push(format!("setup: {name} is {} and {}", value(&here), value(&there)));
        }
    }
    let (here, there) = (steps(a)?, steps(b)?);
    if here.join("\n") != there.join("\n") {
        let texts = (here.join("\n"), there.join("\n"));
        said.extend(lines(&texts.0, &texts.1).map(|text| text.replacen("in line", "in step", 1)));
        only(&mut said, "A", &here, &there);
        only(&mut said, "B", &there, &here);
    }
    Ok(if said.is_empty() { None } else { Some(said.join("\n")) })
}

fn steps(plan: &Plan) -> Result<Vec<String>> {
    plan.steps.iter().map(|step| serde_json::to_string(step).context("a step cannot be written")).collect()
}

/// Steps of `here` that `there` does not have, as often as they are missing.
fn only(said: &mut Vec<String>, name: &str, here: &[String], there: &[String]) {
    let mut known: BTreeMap<&String, usize> = BTreeMap::new();
    for step in there {
        *known.entry(step).or_default() += 1;
    }
    let mut alone = Vec::new();
    for step in here {
        match known.get_mut(step) {
            Some(count @ 1..) => *count -= 1,
            _ => alone.push(step),
        }
    }
    said.push(format!("{} of {} steps are in {name} only", alone.len(), here.len()));
    said.extend(alone.iter().take(STEPS).map(|step| format!("{name}   {}", short(step))));
    if alone.len() > STEPS {
        said.push(format!("    and {} more", alone.len() - STEPS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, Scenario, Wish};

    fn plan(seed: u64) -> Plan {
        let wish = Wish { until_ms: Some(3_000), ..Wish::default() };
        generate::plan(Scenario::named("swarm").unwrap(), seed, &wish)
    }

    #[test]
    fn the_first_difference_is_shown_with_ten_lines_before_it() {
        let a: String = (0..30).map(|n| format!("line {n}\n")).collect();
        assert_eq!(lines(&a, &a), None);
        let said = lines(&a, &a.replace("line 20", "other")).unwrap();
        assert!(said.starts_with("the first difference is in line 21\n    line 10\n"), "{said}");
        assert!(said.ends_with("    line 19\nA   line 20\nB   other"), "{said}");
        let cut = lines(&a, &a[..a.find("line 25").unwrap()]).unwrap();
        assert!(cut.ends_with("A   line 25\nB   (ends here)"), "{cut}");
    }

    #[test]
    fn steps_of_one_plan_only_are_named_and_so_is_the_setup() {
        let a = plan(1);
        assert_eq!(plans(&a, &a).unwrap(), None);
        let mut b = a.clone();
        let gone = b.steps.remove(5);
        b.setup.mistake = Some("x.y".into());
        let said = plans(&a, &b).unwrap().unwrap();
        assert!(said.starts_with("setup: mistake is none and \"x.y\"\nthe first difference is in step 6\n"), "{said}");
        let gone = short(&serde_json::to_string(&gone).unwrap());
        assert!(said.contains(&format!("1 of {} steps are in A only\nA   {gone}\n", a.steps.len())), "{said}");
        assert!(said.ends_with(&format!("0 of {} steps are in B only", b.steps.len())), "{said}");
    }

    #[test]
    fn a_plan_is_told_from_a_trace_by_its_first_line() {
        assert_eq!(kind(&plan(1).to_string()), Some(Kind::Plan));
        assert_eq!(kind("     0.000000 n1   start 1\n"), Some(Kind::Trace));
        for neither in ["", "\n", "garbage", "1 2", "3.5 is a number", "\u{0}\u{1}"] {
            assert_eq!(kind(neither), None, "{neither:?}");
        }
    }
}
