//! An audit under full load: a consistent cut by markers (Chandy and Lamport). A cell records its
//! books and its ledger's checkpoint when it hears of an audit, and sends a marker down every stream;
//! until the marker of a source arrives, money in that source's messages was on its way at the cut.
//! Streams are dense and first-in first-out, so the cut is exact: the parts of all cells add up to zero.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stakehold_raft::{CellId, mistake, reached};

use super::{Cell, turn::Turn};
use crate::domain::{
    command::{AuditPart, Effect, Message},
    ledger::{Checkpoint, Totals},
};

/// Audits that are remembered; older ones are forgotten, finished or not.
const AUDITS_KEPT: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Audits {
    running: BTreeMap<u64, Audit>,
    /// The highest number that was forgotten: a late marker must not start it again.
    forgotten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Audit {
    totals: Totals,
    checkpoint: Checkpoint,
    in_flight: i128,
    /// Cells whose marker has not come yet.
    missing: BTreeSet<CellId>,
}

impl Audits {
    /// Money has come from a cell: it crossed the cut of every audit whose marker it preceded.
    pub fn crossed(&mut self, from: CellId, money: i128) {
        if money == 0 || mistake!("audit.in_flight_forgotten") {
            return;
        }
        for audit in self.running.values_mut().filter(|audit| audit.missing.contains(&from)) {
            audit.in_flight += money;
        }
    }

    fn part(&self, cell: CellId, number: u64) -> Option<AuditPart> {
        let audit = self.running.get(&number).filter(|audit| audit.missing.is_empty())?;
        Some(AuditPart {
            audit: number,
            cell,
            totals: audit.totals,
            checkpoint: audit.checkpoint,
            in_flight: audit.in_flight,
        })
    }
}

impl Cell {
    /// Records this cell's books, unless that has been done; numbers rise from audit to audit.
    pub(super) fn start_audit(&mut self, turn: &mut Turn<'_>, number: u64) {
        if self.head.audits.running.contains_key(&number) || number <= self.head.audits.forgotten {
            return;
        }
        let others: BTreeSet<CellId> = self.head.cells.all().filter(|cell| *cell != self.head.id).collect();
        for to in &others {
            self.send(turn, *to, Message::Marker { audit: number });
        }
        // What is in transit is counted by those it comes to.
        let totals = Totals { transit: 0, ..self.totals() };
        let checkpoint = self.checkpoint();
        let audits = &mut self.head.audits;
        audits.running.insert(number, Audit { totals, checkpoint, in_flight: 0, missing: others });
        while audits.running.len() > AUDITS_KEPT {
            let (oldest, _) = audits.running.pop_first().expect("there are more than are kept");
            audits.forgotten = oldest;
        }
        self.tell_audited(turn, number);
    }

    pub(super) fn marker(&mut self, turn: &mut Turn<'_>, from: CellId, number: u64) {
        self.start_audit(turn, number);
        let audit = self.head.audits.running.get_mut(&number);
        if audit.is_some_and(|audit| audit.missing.remove(&from)) {
            self.tell_audited(turn, number);
        }
    }

    fn tell_audited(&self, turn: &mut Turn<'_>, number: u64) {
        if let Some(part) = self.audit(number) {
            reached!("audit.crossed_by_money", part.in_flight != 0);
            turn.tell(Effect::Audited(part));
        }
    }

    /// This cell's part of an audit, once all markers have come.
    pub fn audit(&self, number: u64) -> Option<AuditPart> {
        self.head.audits.part(self.head.id, number)
    }
}
