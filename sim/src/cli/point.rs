//! A moment of a run that somebody wants to see: an event, a violation, an entry.

use std::str::FromStr;

use stakehold_raft::CellId;

use crate::{cluster::run::Run, oracles::ORACLES, plan::Plan};

/// Where a run is to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    Event(u64),
    /// What this oracle sees.
    Violation(&'static str),
    Entry {
        cell: CellId,
        index: u64,
    },
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((_, rest)) = text.split_once("cell=") else {
            let text = text.trim();
            let oracle = ORACLES.into_iter().find(|oracle| oracle.eq_ignore_ascii_case(text));
            return oracle.map(Point::Violation).ok_or_else(|| {
                format!("{text:?} is no oracle: say one of {}, or an entry, as in cell=7 index=991", ORACLES.join(", "))
            });
        };
        let numbers = rest.split_once("index=").map(|(cell, index)| (cell.trim(), index.trim()));
        let read = numbers.and_then(|(cell, index)| {
            let cell = if cell == "meta" { CellId::META } else { CellId(cell.trim_start_matches('c').parse().ok()?) };
            Some(Point::Entry { cell, index: index.parse().ok()? })
        });
        read.ok_or_else(|| "an entry is named by two numbers: cell=7 index=991".into())
    }
}

impl Point {
    /// Whether there is such a point in a plan.
    ///
    /// # Errors
    /// A sentence when its cell is none of the plan's.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        match self {
            Point::Entry { cell, .. } if *cell != CellId::META && cell.0 >= plan.setup.cells => Err(format!(
                "there is no cell={} in the plan: say one from cell=0 to cell={}, or cell=meta",
                cell.0,
                plan.setup.cells - 1
            )),
            _ => Ok(()),
        }
    }

    /// Whether the run has come to it. A window is the least that a run can do.
    pub fn reached(&self, run: &Run) -> bool {
        match self {
            Point::Event(number) => run.events() >= *number,
            Point::Violation(oracle) => run.watch().violation().is_some_and(|violation| violation.oracle == *oracle),
            Point::Entry { cell, index } => run.watch().committed(*cell) > *index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, Scenario, Wish};

    #[test]
    fn a_point_is_an_oracle_or_an_entry_and_nothing_else() {
        assert_eq!("I1".parse(), Ok(Point::Violation("I1")));
        assert_eq!("raft".parse(), Ok(Point::Violation("Raft")));
        assert_eq!("cell=7 index=991".parse(), Ok(Point::Entry { cell: CellId(7), index: 991 }));
        assert_eq!("cell=c7,index=991".replace(',', " ").parse(), Ok(Point::Entry { cell: CellId(7), index: 991 }));
        assert_eq!("cell=meta index=3".parse(), Ok(Point::Entry { cell: CellId::META, index: 3 }));
        for wrong in ["", "I8x", "NOPE", "cell=7", "cell=x index=1", "index=1", "cell=1 index="] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_cell_that_the_plan_does_not_have_is_no_point() {
        let wish = Wish { cells: Some(4), until_ms: Some(2_000), ..Wish::default() };
        let plan = generate::plan(Scenario::named("quiet-day").unwrap(), 1, &wish);
        let entry = |cell| Point::Entry { cell, index: 1 }.check(&plan);
        assert!(entry(CellId(3)).is_ok() && entry(CellId::META).is_ok() && Point::Event(1).check(&plan).is_ok());
        assert_eq!(
            entry(CellId(4)).unwrap_err(),
            "there is no cell=4 in the plan: say one from cell=0 to cell=3, or cell=meta"
        );
    }
}
