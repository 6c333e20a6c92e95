//! The books, summed at a consistent cut while bets flow: markers travel through every stream
//! between cells, so that each penny is counted exactly once, at rest or on its way.

use std::sync::{Arc, atomic::Ordering};

use stakehold_raft::{CellId, NodeId, mistake};

use super::{
    exchange::Exchange,
    wire::{Answer, Ask, Failure},
};
use crate::{
    api::{ApiError, AuditView, LedgerView, Response},
    domain::command::{AuditPart, Command},
};

impl Exchange {
    pub(super) async fn audit(self: &Arc<Self>, good_until: u64) -> Result<Response, ApiError> {
        let audit = self.next_audit();
        let parts =
            futures::future::try_join_all(self.cells.all().map(|cell| self.part(cell, audit, good_until))).await?;
        Ok(Response::Audit(Box::new(add_up(&parts))))
    }

    /// Numbers rise from audit to audit, also between nodes: the clock comes first.
    fn next_audit(&self) -> u64 {
        let by_clock = self.world.clock.now_ms() << 12 | u64::from(self.world.node.0 & 0xfff);
        self.audits.fetch_max(by_clock, Ordering::Relaxed);
        self.audits.fetch_add(1 << 12, Ordering::Relaxed)
    }

    /// One cell's part: starts the audit there and asks until its streams have brought the markers.
    async fn part(self: &Arc<Self>, cell: CellId, audit: u64, good_until: u64) -> Result<AuditPart, ApiError> {
        let mut begin = true;
        loop {
            let answer = match self.host.leader_of(cell) {
                Some(node) if node == self.world.node => self.audit_here(cell, audit, begin).await,
                Some(node) => match self.ask(node, &Ask::Audit { cell, audit, begin }, good_until).await {
                    Ok(Answer::Audit(part)) => Ok(part),
                    Ok(Answer::Failed(failure)) => Err(failure),
                    Ok(_) => Err(Failure::Api(ApiError::Unavailable)),
                    Err(failure) => Err(failure),
                },
                None => Err(Failure::NotLeader(None)),
            };
            match answer {
                Ok(Some(part)) => return Ok(part),
                Ok(None) => begin = false,
                Err(Failure::NotLeader(Some(next))) => self.remember_leader(cell, NodeId(next)),
                Err(_) => {}
            }
            if self.world.clock.now_ms() >= good_until {
                return Err(ApiError::Unavailable);
            }
            self.breathe().await;
        }
    }

    pub(super) async fn audit_here(&self, cell: CellId, audit: u64, begin: bool) -> Result<Option<AuditPart>, Failure> {
        let desk = self.desk(cell)?;
        if !desk.group().is_leader() {
            return Err(Failure::NotLeader(self.host.leader_of(cell).map(|NodeId(n)| n)));
        }
        if begin {
            desk.propose(Command::Marker { audit }).await?;
        }
        Ok(desk.read(|cell| cell.audit(audit)))
    }
}

fn add_up(parts: &[AuditPart]) -> AuditView {
    let total = |pick: fn(&AuditPart) -> i128| parts.iter().map(pick).sum::<i128>();
    let sum = total(AuditPart::sum);
    let mut view = AuditView {
        sum,
        conserved: sum == 0,
        available: total(|part| part.totals.wallet),
        margin: total(|part| part.totals.margin),
        held: total(|part| part.totals.held),
        owed: total(|part| part.totals.owed),
        commission: total(|part| if mistake!("audit.commission_left_out") { 0 } else { part.totals.commission }),
        rounding: total(|part| part.totals.rounding),
        clearing: total(|part| part.totals.clearing),
        in_flight: total(|part| part.in_flight),
        external: -total(|part| part.totals.external),
        cells: parts.len() as u32,
        ledgers: parts.iter().map(|part| LedgerView::of(part.cell, &part.checkpoint)).collect(),
        problems: Vec::new(),
    };
    let mut problem = |wrong: bool, sentence: String| {
        if wrong {
            view.problems.push(sentence);
        }
    };
    problem(sum != 0, format!("the sum over all accounts is {sum} minor units, not zero"));
    for part in parts {
        problem(part.totals.wallet < 0, format!("the wallets of {} add up to less than nothing", part.cell));
        problem(part.totals.margin < 0, format!("the margins of {} add up to less than nothing", part.cell));
        problem(part.totals.held < 0, format!("what {} holds adds up to less than nothing", part.cell));
        problem(part.totals.owed > 0, format!("{} owes its debtors", part.cell));
    }
    view
}
