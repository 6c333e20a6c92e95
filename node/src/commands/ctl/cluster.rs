//! `ctl cluster` and `ctl ledger`.

use clap::Subcommand;
use comfy_table::{Cell, Color};
use stakehold_actors::api::{AuditView, CellView, ClusterStatus, LedgerView, Request, Response};

use super::{Output, Session, show, unexpected};
use crate::client::ClientError;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Nodes, cells, leaders, lag and outboxes.
    Status,
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Sum all accounts of all cells at one consistent cut, while bets flow. Fails unless it is zero.
    Audit,
}

pub async fn status(session: &Session<'_>, ClusterCommand::Status: ClusterCommand) -> Result<Output, ClientError> {
    match session.call(Request::Status).await? {
        Response::Status(status) => Ok(Output::new(cluster(&status), Response::Status(status))),
        other => Err(unexpected(&other)),
    }
}

pub async fn audit(session: &Session<'_>, LedgerCommand::Audit: LedgerCommand) -> Result<Output, ClientError> {
    match session.call(Request::Audit).await? {
        Response::Audit(audit) => {
            let failed = !audit.conserved || audit.sum != 0 || !audit.problems.is_empty();
            Ok(Output { failed, ..Output::new(books(&audit), Response::Audit(audit)) })
        }
        other => Err(unexpected(&other)),
    }
}

fn cluster(status: &ClusterStatus) -> String {
    let header = ["Node", "Incarnation", "State", "Leads", "Fsyncs", "Log bytes", "Version", "Note"];
    let mut nodes = show::table(&header, &["Incarnation", "Leads", "Fsyncs", "Log bytes"]);
    for node in &status.nodes {
        let state =
            if node.reachable { Cell::new("up").fg(Color::Green) } else { Cell::new("unreachable").fg(Color::Red) };
        nodes.add_row(vec![
            node.node.into(),
            node.incarnation.into(),
            state,
            node.leads.into(),
            node.fsyncs.into(),
            node.log_bytes.into(),
            node.version.clone().into(),
            node.note.clone().unwrap_or_default().into(),
        ]);
    }
    let mut cells =
        show::table(&["Cell", "Leader", "Term", "Committed", "Lag", "Outbox", "State"], &["Term", "Committed", "Lag"]);
    for cell in &status.cells {
        cells.add_row(row(cell));
    }
    format!("Cluster {}\n\n{nodes}\n\n{cells}", status.cluster)
}

fn row(cell: &CellView) -> Vec<Cell> {
    let committed = cell.replicas.iter().map(|replica| replica.committed).max().unwrap_or(0);
    let lag =
        cell.replicas.iter().map(|replica| format!("n{} {}", replica.node, committed.saturating_sub(replica.applied)));
    let outbox =
        cell.outbox.iter().filter(|(_, waiting)| *waiting > 0).map(|(to, waiting)| format!("→{to}: {waiting}"));
    let halted: Vec<String> = cell
        .replicas
        .iter()
        .filter_map(|replica| Some(format!("n{} halted: {}", replica.node, replica.halted.as_ref()?)))
        .collect();
    let leader = match cell.leader {
        Some(node) => Cell::new(format!("n{node}")),
        None => Cell::new("none").fg(Color::Red),
    };
    let state = match (halted.is_empty(), cell.leader) {
        (false, _) => Cell::new(halted.join("\n")).fg(Color::Red),
        (true, None) => Cell::new("no quorum, or none yet").fg(Color::Red),
        (true, Some(_)) => Cell::new("ok").fg(Color::Green),
    };
    let join = |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(", ") };
    vec![
        cell.cell.clone().into(),
        leader,
        cell.term.into(),
        committed.into(),
        join(lag.collect()).into(),
        join(outbox.collect()).into(),
        state,
    ]
}

fn books(audit: &AuditView) -> String {
    let lines = [
        ("Available in wallets", audit.available),
        ("Margin in markets", audit.margin),
        ("Held for pending orders", audit.held),
        ("In flight between cells", audit.in_flight),
        ("Owed by accounts", audit.owed),
        ("House: commission", audit.commission),
        ("House: rounding", audit.rounding),
        ("Clearing", audit.clearing),
        ("External (deposits less withdrawals)", audit.external),
    ];
    let mut table = show::table(&["Account", "Sum"], &["Sum"]);
    for (name, value) in lines {
        table.add_row([name.to_owned(), units(value)]);
    }
    let mut ledgers = show::table(&["Ledger", "Postings", "Hash of all of them"], &["Postings"]);
    for LedgerView { cell, postings, hash } in &audit.ledgers {
        ledgers.add_row([cell.clone(), postings.to_string(), hash.clone()]);
    }
    let good = audit.conserved && audit.sum == 0 && audit.problems.is_empty();
    let verdict = if good { "Every penny is accounted for." } else { "THE BOOKS DO NOT ADD UP." };
    let problems: String = audit.problems.iter().map(|problem| format!("- {problem}\n")).collect();
    format!(
        "{table}\n{ledgers}\n\nSum of all accounts of {} cells: {}\n{problems}{verdict}",
        audit.cells,
        units(audit.sum)
    )
}

/// Minor units as `12.34`, however many there are.
fn units(minor: i128) -> String {
    let (sign, minor) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    format!("{sign}{}.{:02}", minor / 100, minor % 100)
}
