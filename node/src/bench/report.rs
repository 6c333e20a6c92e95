//! What the benchmark measured: the fields of its `--json` object, and the same for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub mode: String,
    pub clients: u32,
    pub batch: u32,
    pub wallets: u64,
    pub markets: u32,
    pub seconds: f64,
    /// Bets that were acknowledged within the time measured and found again afterwards, a second.
    pub bets_per_second: f64,
    /// Of the calls, from sending to the whole answer.
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// Bets that were acknowledged within the time measured.
    pub acknowledged: u64,
    /// Of those, the ones that answered with the same order when their reference was sent again,
    /// through another node.
    pub found: u64,
    /// Calls that got no bet, by code; `BROKEN_CONNECTION` leaves the outcome open.
    pub refused: BTreeMap<String, u64>,
    /// CPU of the node processes (only of an embedded cluster).
    pub cpu_us_per_bet: Option<f64>,
    /// CPU of this process, the clients.
    pub client_cpu_us_per_bet: f64,
    pub fsyncs_per_bet: f64,
    pub log_bytes_per_bet: f64,
    /// Log entries committed in all cells.
    pub commits_per_bet: f64,
    pub rss_mb_per_node: Option<f64>,
    pub cells: u16,
    /// How many cells each node led at the end.
    pub leaders: Vec<u32>,
    /// Share of the bets whose wallet is in another cell than their market.
    pub funded_across_cells: Option<f64>,
    pub audit_sum: i128,
    pub conserved: bool,
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.0} bets/s over {} with {} clients, {} a call, for {:.1} s",
            self.bets_per_second, self.mode, self.clients, self.batch, self.seconds
        )?;
        writeln!(
            f,
            "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms
        )?;
        writeln!(f, "{} acknowledged, {} of them found again", self.acknowledged, self.found)?;
        for (code, count) in &self.refused {
            writeln!(f, "{count} refused: {code}")?;
        }
        if let Some(cpu) = self.cpu_us_per_bet {
            writeln!(f, "{cpu:.1} us CPU a bet in the nodes, {:.1} in the clients", self.client_cpu_us_per_bet)?;
        } else {
            writeln!(f, "{:.1} us CPU a bet in the clients", self.client_cpu_us_per_bet)?;
        }
        writeln!(
            f,
            "{:.3} fsyncs, {:.0} bytes of log and {:.2} entries a bet; {} cells, led {:?}",
            self.fsyncs_per_bet, self.log_bytes_per_bet, self.commits_per_bet, self.cells, self.leaders
        )?;
        if let Some(share) = self.funded_across_cells {
            writeln!(f, "{:.1} % of the bets were funded from another cell", share * 100.0)?;
        }
        if let Some(rss) = self.rss_mb_per_node {
            writeln!(f, "{rss:.0} MB a node")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let verdict = if self.conserved { "money is conserved" } else { "MONEY IS NOT CONSERVED" };
        write!(f, "audit: all accounts add up to {}, {verdict}", self.audit_sum)
    }
}
