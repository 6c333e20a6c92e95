//! Who dies and when: the leader of the busiest cell again and again, one node frozen, two at once;
//! and how long it takes until the cell takes bets again and the node is back in every quorum.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use stakehold::harness::Cluster;
use stakehold_actors::{
    api::{ClusterStatus, Request, Response},
    domain::types::Refusal,
};
use tokio::time::{Instant, sleep};

use super::{
    dice::Dice,
    field::{LIVENESS, RETRY, Told},
    workload::{PROBES, Workload},
};

/// Above the node's own deadline, so that its own words are heard.
const TO_THE_END: Duration = Duration::from_secs(15);

/// A node that was killed, or frozen.
#[derive(Clone, Debug)]
pub struct Kill {
    pub node: u16,
    /// It lived before the first and was gone after the second, microseconds since the epoch.
    pub lived_us: u64,
    pub gone_us: u64,
    /// What it led then.
    pub led: BTreeSet<u16>,
}

#[derive(Default)]
pub struct Report {
    pub kills: Vec<Kill>,
    take_over: Vec<Duration>,
    rejoin: Vec<Duration>,
    notes: Vec<String>,
}

impl Report {
    pub fn print(&self) {
        let line = |name: &str, times: &[Duration], wanted: &str| {
            let mut sorted: Vec<u128> = times.iter().map(Duration::as_millis).collect();
            sorted.sort_unstable();
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
            let each: Vec<u128> = times.iter().map(Duration::as_millis).collect();
            println!(
                "{name}: median {median} ms (wanted: {wanted}), most {} ms, each {each:?}",
                sorted.last().unwrap_or(&0)
            );
        };
        line("kill of a leader to the first acknowledged bet in its cell", &self.take_over, "under 1500 ms");
        line("restart of a node to its place in every quorum", &self.rejoin, "under 3000 ms");
        let killed: Vec<u16> = self.kills.iter().map(|kill| kill.node).collect();
        println!("killed in turn: {killed:?}");
        self.notes.iter().for_each(|note| println!("{note}"));
    }
}

struct Chaos<'a> {
    cluster: &'a mut Cluster,
    workload: &'a Arc<Workload>,
    dice: &'a mut Dice,
    report: Report,
}

/// Kills `kills` times within `over` (or as fast as it goes), then freezes one node and kills two.
pub async fn run(
    cluster: &mut Cluster,
    workload: &Arc<Workload>,
    dice: &mut Dice,
    kills: u32,
    over: Duration,
) -> Report {
    let begun = Instant::now();
    let mut chaos = Chaos { cluster, workload, dice, report: Report::default() };
    for n in 0..kills {
        // At a random moment: the workload knows nothing of it.
        let due = over * n / kills;
        let least = due.saturating_sub(begun.elapsed()).max(Duration::from_millis(100));
        sleep(least + Duration::from_micros(chaos.dice.below(800_000))).await;
        if !workload.oracle.what_is_wrong().is_empty() {
            return chaos.report;
        }
        chaos.kill_leader().await;
        if n % 5 == 4 {
            chaos.audit().await;
        }
    }
    chaos.freeze().await;
    chaos.audit().await;
    chaos.kill_two().await;
    chaos.report
}

impl Chaos<'_> {
    /// The cell with the most acknowledged bets since the last time, its leader (from 0), and who
    /// leads what.
    async fn busiest(&mut self) -> Option<(u16, usize, BTreeMap<u16, u16>)> {
        let Workload { field, oracle, .. } = self.workload.as_ref();
        let led = |status| {
            let leaders = leaders(&status);
            let mut ledger = oracle.ledger();
            let cell = ledger.traffic.iter().max_by_key(|(_, bets)| **bets).map(|(cell, _)| *cell).unwrap_or_default();
            let leader = *leaders.get(&cell)?;
            ledger.traffic.clear();
            Some((cell, usize::from(leader) - 1, leaders))
        };
        let busiest = field.watch(self.dice, |_| true, led).await;
        if busiest.is_none() {
            oracle.wrong(format!("the busiest cell had no leader for {LIVENESS:?}"));
        }
        busiest
    }

    fn kill(&mut self, node: usize, leaders: &BTreeMap<u16, u16>) -> Instant {
        let number = node as u16 + 1;
        let lived_us = micros();
        self.cluster.kill(node);
        let gone_us = micros();
        let led = leaders.iter().filter(|(_, leader)| **leader == number).map(|(cell, _)| *cell).collect();
        self.report.kills.push(Kill { node: number, lived_us, gone_us, led });
        Instant::now()
    }

    fn launch(&mut self, node: usize) -> Instant {
        if let Err(error) = self.cluster.launch(node) {
            self.workload.oracle.wrong(error.to_string());
        }
        Instant::now()
    }

    async fn kill_leader(&mut self) {
        let Some((cell, victim, leaders)) = self.busiest().await else { return };
        let killed = self.kill(victim, &leaders);
        let probe = tokio::spawn(first_bet(self.workload.clone(), cell, None, self.dice.fork()));
        sleep(Duration::from_micros(self.dice.below(1_500_000))).await;
        let launched = self.launch(victim);
        self.took_over(killed, cell, probe).await;
        self.rejoined(launched, &[victim]).await;
    }

    async fn took_over(&mut self, since: Instant, cell: u16, probe: tokio::task::JoinHandle<Option<Instant>>) {
        match probe.await.expect("a probe does not panic") {
            Some(at) => self.report.take_over.push(at - since),
            None => {
                self.workload.oracle.wrong(format!("c{cell} took no bet for {LIVENESS:?} after its leader was gone"))
            }
        }
    }

    async fn rejoined(&mut self, since: Instant, nodes: &[usize]) {
        match back_in_every_quorum(self.workload, self.dice, nodes).await {
            Ok(at) => self.report.rejoin.push(at - since),
            Err(why) => {
                let logs: Vec<_> =
                    nodes.iter().map(|node| self.cluster.nodes()[*node].log().display().to_string()).collect();
                self.workload.oracle.wrong(format!("{why}; see {}", logs.join(", ")));
            }
        }
    }

    /// The leader of the busiest cell stands still, and goes on later as if nothing had been.
    async fn freeze(&mut self) {
        let Some((cell, victim, _)) = self.busiest().await else { return };
        self.cluster.freeze(victim);
        let frozen = Instant::now();
        let probe = first_bet(self.workload.clone(), cell, Some(victim), self.dice.fork()).await;
        match probe {
            Some(at) => self.report.notes.push(format!(
                "freeze of a leader to the first acknowledged bet in its cell: {} ms",
                (at - frozen).as_millis()
            )),
            None => {
                self.workload.oracle.wrong(format!("c{cell} took no bet for {LIVENESS:?} while its leader was frozen"))
            }
        }
        sleep(Duration::from_millis(self.dice.between(500, 3_000))).await;
        self.cluster.thaw(victim);
        self.rejoined(Instant::now(), &[victim]).await;
    }

    /// Two nodes at once: nothing is acknowledged, and nothing is half done when they are back.
    async fn kill_two(&mut self) {
        let Some((cell, victim, leaders)) = self.busiest().await else { return };
        let nodes = self.workload.field.nodes();
        let other = (victim + 1 + self.dice.below(nodes as u64 - 1) as usize) % nodes;
        let left = (0..nodes).find(|node| *node != victim && *node != other).expect("three nodes");
        self.kill(victim, &leaders);
        self.kill(other, &leaders);
        let lost = Instant::now();
        self.workload.oracle.ledger().no_quorum = Some(lost);

        let mut cells: Vec<u16> = (0..PROBES as u16).map(|n| (cell + n) % self.workload.cells.count()).collect();
        cells.dedup();
        let attempts = cells.iter().zip(0..).map(|(cell, probe)| {
            let (workload, mut dice) = (self.workload.clone(), self.dice.fork());
            async move {
                let (key, asked) = workload.probe(*cell, probe, &mut dice)?;
                let request = asked.request(&key);
                let told = workload.field.call_patiently(left, dice.percent(50), request, TO_THE_END).await;
                let why = match &told {
                    Told::Nothing(why) => why.clone(),
                    other => format!("{other:?}"),
                };
                // An answer is wrong, and the ledger says so.
                workload.hear(&key, &asked, left, told);
                Some(why)
            }
        });
        let said: BTreeSet<String> = futures::future::join_all(attempts).await.into_iter().flatten().collect();
        self.report.notes.push(format!("with one node of three, after {} ms: {said:?}", lost.elapsed().as_millis()));
        if said.is_empty() || said.iter().any(|why| why.contains("gave no answer")) {
            self.workload
                .oracle
                .wrong(format!("node {} left bets without an answer beyond its deadline: {said:?}", left + 1));
        }

        // What comes from now on may be acknowledged: both may be back before they say so.
        self.workload.oracle.ledger().no_quorum = None;
        let launched = self.launch(victim);
        self.launch(other);
        let first = first_bet(self.workload.clone(), cell, None, self.dice.fork()).await;
        match first {
            Some(at) => self.report.notes.push(format!(
                "restart of two nodes to the first acknowledged bet in the busiest cell: {} ms",
                (at - launched).as_millis()
            )),
            None => {
                self.workload.oracle.wrong(format!("c{cell} took no bet for {LIVENESS:?} after two nodes came back"))
            }
        }
        self.rejoined(launched, &[victim, other]).await;
    }

    /// The books, while everything is going on.
    async fn audit(&mut self) {
        let node = self.dice.below(self.workload.field.nodes() as u64) as usize;
        let told = self.workload.field.call_patiently(node, false, Request::Audit, TO_THE_END).await;
        match told {
            Told::Answer(Ok(Response::Audit(audit))) => {
                self.workload.oracle.count("audits while bets flowed");
                if audit.sum != 0 || !audit.conserved || !audit.problems.is_empty() {
                    self.workload.oracle.wrong(format!("the audit under load says {audit:?}"));
                }
            }
            Told::Nothing(why) => self.workload.oracle.count(format!("audits without an answer: {why}")),
            other => self.workload.oracle.wrong(format!("the audit was answered with {other:?}")),
        }
    }
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("before the year 500000")
}

/// Who leads which cell, of those with wallets and markets.
fn leaders(status: &ClusterStatus) -> BTreeMap<u16, u16> {
    let number = |cell: &str| cell.strip_prefix('c')?.parse::<u16>().ok();
    status.cells.iter().filter_map(|cell| Some((number(&cell.cell)?, cell.leader?))).collect()
}

/// When the first bet that was sent from now on was acknowledged in a cell.
async fn first_bet(workload: Arc<Workload>, cell: u16, avoid: Option<usize>, mut dice: Dice) -> Option<Instant> {
    let started = Instant::now();
    let probes = (0..PROBES).map(|probe| {
        let (workload, mut dice) = (workload.clone(), dice.fork());
        async move {
            let mut asked = None;
            while started.elapsed() < LIVENESS {
                if asked.is_none() {
                    asked = workload.probe(cell, probe, &mut dice);
                }
                let (key, bet) = asked.as_ref()?;
                let node = dice.below(workload.field.nodes() as u64) as usize;
                if Some(node) != avoid
                    && let Some(outcomes) = workload.send_once(key, bet, node, false).await
                {
                    if outcomes.iter().any(Result::is_ok) {
                        return Some(Instant::now());
                    }
                    // Refused by the rules: the cell lives, yet this is no bet.
                    if outcomes.contains(&Err(Refusal::InsufficientFunds)) {
                        workload.oracle.wrong(format!("the money of {key:?} does not come back"));
                    }
                    asked = None;
                }
                sleep(RETRY).await;
            }
            None
        }
    });
    let times: Vec<_> = probes.map(tokio::spawn).collect();
    let mut first = None;
    for time in times {
        let time = time.await.expect("a probe does not panic");
        first = match (first, time) {
            (Some(a), Some(b)) => Some(Instant::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    first
}

/// Until the nodes' replicas of all cells have applied what was committed when we last looked. As seen by others.
async fn back_in_every_quorum(workload: &Workload, dice: &mut Dice, nodes: &[usize]) -> Result<Instant, String> {
    let back = |node: usize| nodes.contains(&node);
    let everybody_was_away = (0..workload.field.nodes()).filter(|node| !back(*node)).count() < 2;
    let mut goal: Option<BTreeMap<String, u64>> = None;
    let mut behind = String::new();
    let caught_up = |status: ClusterStatus| {
        let now = Instant::now();
        if let Some(goal) = &goal {
            behind = lagging(&status, goal, nodes);
            if behind.is_empty() {
                return Some(now);
            }
        }
        let committed = status.cells.iter().map(|cell| {
            let most = cell.replicas.iter().map(|replica| replica.committed).max();
            (cell.cell.clone(), most.unwrap_or_default())
        });
        goal = Some(committed.collect());
        None
    };
    let at = workload.field.watch(dice, |node| everybody_was_away || !back(node), caught_up).await;
    at.ok_or_else(|| {
        let numbers: Vec<usize> = nodes.iter().map(|node| node + 1).collect();
        format!("nodes {numbers:?} were not back in {LIVENESS:?}: {behind}")
    })
}

/// Which of the nodes' replicas have not applied what they should; empty if none.
fn lagging(status: &ClusterStatus, goal: &BTreeMap<String, u64>, nodes: &[usize]) -> String {
    let mut lagging = Vec::new();
    for node in nodes.iter().map(|node| *node as u16 + 1) {
        if !status.nodes.iter().any(|view| view.node == node && view.reachable) {
            lagging.push(format!("node {node} is not reachable"));
            continue;
        }
        for (cell, goal) in goal {
            let replica = status.cells.iter().find(|view| view.cell == *cell);
            let replica = replica.and_then(|view| view.replicas.iter().find(|replica| replica.node == node));
            match replica {
                Some(replica) if replica.halted.is_none() && replica.applied >= *goal => {}
                other => lagging.push(format!("{cell} should be at {goal} on node {node}: {other:?}")),
            }
        }
    }
    lagging.truncate(4);
    lagging.join("; ")
}
