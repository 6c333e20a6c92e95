//! The audit while bets flow: three real processes under the benchmark's load, audited again and
//! again through the API of each node and through `ctl`. Every audit adds up to zero, and in a
//! build with the feature `mispost` one wrong penny turns it non-zero for good:
//! `cargo test --workspace --features stakehold/mispost --test audit`.
//!
//! What must never be here: an audit of a cluster at rest, which proves little.

use std::{
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use stakehold::{
    bench::{
        http::{Answer, Connection},
        setup::set_up,
        workload::FUNDS,
    },
    client::{Client, Target},
    exchange::Nodes,
    harness::Cluster,
};
use stakehold_actors::api::{AuditView, LedgerView, Request, Response};
use tokio::{process::Command, sync::watch, task::JoinSet, time::timeout};

/// Whatever takes longer than this does not happen any more.
const LIVENESS: Duration = Duration::from_secs(40);
const CLIENTS: u32 = 8;
const WALLETS: u64 = 60;
/// So many bets are acknowledged between one audit and the next.
const BETS_BETWEEN: u64 = 40;
/// Audits at least, and at most until one has caught money on its way between cells.
const ROUNDS: usize = 9;
const ROUNDS_MAX: usize = 100;
/// So long after the last bet, no money is on its way between cells any more.
const REST: Duration = Duration::from_secs(30);

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stakehold"))
}

/// Clients that bet as fast as they are answered, until this is dropped.
struct Load {
    acknowledged: watch::Sender<u64>,
    over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    async fn start(target: &Target) -> Self {
        let exchange = Nodes::new(target, true).expect("the addresses are some");
        let workload = set_up(&*exchange, 1, 7, WALLETS, 8, &|_, _| {}).await.unwrap_or_else(|error| panic!("{error}"));
        let (acknowledged, over) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let node = &target.nodes[client as usize % target.nodes.len()];
            let address = node.http.trim_start_matches("http://").to_owned();
            let token = target.token.clone().expect("the operator's");
            let (workload, acknowledged, over) = (workload.clone(), acknowledged.clone(), over.clone());
            clients.spawn(async move {
                let mut connection = Connection::open(&address, &token).await.expect("the node listens");
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    match connection.place(&workload, client, n, 1).await.expect("nobody hangs up") {
                        Answer::Taken { .. } => {
                            acknowledged.send_modify(|bets| *bets += 1);
                        }
                        Answer::Refused(code) => {
                            assert!(
                                ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&code.as_str()),
                                "bet {n}: {code}"
                            );
                        }
                    }
                }
            });
        }
        Self { acknowledged, over, clients }
    }

    fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Until the clients have been told of so many more bets.
    async fn more(&mut self) {
        let mut acknowledged = self.acknowledged.subscribe();
        let goal = self.acknowledged() + BETS_BETWEEN;
        let flow = timeout(LIVENESS, acknowledged.wait_for(|bets| *bets >= goal));
        tokio::select! {
            ended = self.clients.join_next() => panic!("a client has ended: {ended:?}"),
            flow = flow => drop(flow.unwrap_or_else(|_| panic!("the bets do not flow: {} in all", self.acknowledged()))),
        }
    }

    async fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = timeout(LIVENESS, self.clients.join_next()).await.expect("every client is answered") {
            ended.expect("no client panics");
        }
        self.acknowledged()
    }
}

async fn ctl(target: &Target, node: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("ctl").args(arguments).kill_on_drop(true);
    command.env("STAKEHOLD_URL", &target.nodes[node].http);
    command.env("STAKEHOLD_TOKEN", target.token.as_deref().expect("the operator's"));
    timeout(LIVENESS, command.output()).await.expect("it ends").expect("the program runs")
}

/// Through the API of a node.
async fn audit(target: &Target, node: usize) -> AuditView {
    let target = Target { http: target.nodes[node].http.clone(), ..target.clone() };
    let client = Client::http(&target).expect("the address is one");
    match timeout(LIVENESS, client.call(Request::Audit)).await.expect("it is answered") {
        Ok(Response::Audit(view)) => *view,
        other => panic!("an audit was answered with {other:?}"),
    }
}

/// What the books say once no money is on its way any more. A bet is acknowledged when its market has decided it; what
/// its counterparts get back of their margins may still be between two cells then, and is posted when it arrives.
async fn at_rest(target: &Target) -> AuditView {
    let rest = async {
        loop {
            let view = audit(target, 0).await;
            if view.in_flight == 0 && view.held == 0 {
                break view;
            }
        }
    };
    let rest = timeout(REST, rest).await;
    rest.unwrap_or_else(|_| panic!("money is still on its way {REST:?} after the last bet"))
}

/// Through `ctl`: whether it calls the books good, and what it prints for machines.
async fn audit_by_ctl(target: &Target, node: usize) -> (bool, serde_json::Value) {
    let output = ctl(target, node, &["ledger", "audit", "--json"]).await;
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.success(), printed)
}

/// I9, as far as it can be seen from outside: a cell's ledger only grows, and as many postings have one hash.
fn grown(before: &[LedgerView], now: &[LedgerView]) {
    assert_eq!(before.len(), now.len());
    for (before, now) in before.iter().zip(now) {
        assert_eq!(before.cell, now.cell);
        assert!(now.hash.len() == 64 && now.postings >= before.postings, "{before:?}, then {now:?}");
        assert_eq!(before.hash == now.hash, before.postings == now.postings, "{before:?}, then {now:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_add_up_at_every_moment_of_a_busy_exchange() {
    let cluster = Cluster::start(program(), 3, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    let target = cluster.target();
    let mut load = Load::start(&target).await;
    let deposits = i128::from(FUNDS.0) * i128::from(WALLETS);
    let (mut wallets, mut caught) = (Vec::new(), 0);
    let mut ledgers = audit(&target, 0).await.ledgers;
    let posted = |ledgers: &[LedgerView]| ledgers.iter().map(|ledger| ledger.postings).sum::<u64>();
    let (cells, posted_before) = (ledgers.len(), posted(&ledgers));
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && caught > 0 {
            break;
        }
        load.more().await;
        let view = audit(&target, round % 3).await;
        assert!(view.conserved && view.sum == 0 && view.problems.is_empty(), "round {round}: {view:?}");
        assert_eq!(view.external, deposits, "round {round}: what was paid in is all there is");
        assert!(view.margin > 0, "round {round}: bets are in the markets");
        println!(
            "after {} bets: {} in wallets, {} in markets, {} held, {} in flight",
            load.acknowledged(),
            view.available,
            view.margin,
            view.held,
            view.in_flight
        );
        grown(&ledgers, &view.ledgers);
        ledgers = view.ledgers;
        wallets.push(view.available);
        caught += u32::from(view.in_flight != 0);
        if round % 3 == 0 {
            load.more().await;
            let (good, printed) = audit_by_ctl(&target, (round + 1) % 3).await;
            assert!(good && printed["sum"] == 0 && printed["conserved"] == true, "round {round}: {printed}");
        }
    }
    // Audits of a standing exchange would all have seen the same.
    wallets.sort_unstable();
    wallets.dedup();
    assert!(wallets.len() > 4, "the bets did not flow while it was audited: {wallets:?}");
    assert!(caught > 0, "no audit has caught money on its way between cells");
    let acknowledged = load.stop().await;
    println!("{acknowledged} bets were acknowledged meanwhile");
    let view = at_rest(&target).await;
    assert!(view.conserved && view.sum == 0 && view.external == deposits, "at rest: {view:?}");
    assert!(cells > 1 && posted(&view.ledgers) > posted_before + acknowledged, "every bet has postings: {view:?}");
    for node in 1..3 {
        assert_eq!(audit(&target, node).await.ledgers, view.ledgers, "at rest, through n{}", node + 1);
    }
}

#[cfg(feature = "mispost")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_penny_from_nowhere_is_found_through_every_node_and_after_a_restart() {
    let mut cluster = Cluster::start(program(), 3, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    let target = cluster.target();
    let mut load = Load::start(&target).await;
    load.more().await;
    let (good, printed) = audit_by_ctl(&target, 0).await;
    assert!(good && printed["sum"] == 0, "before: {printed}");

    for wrong in 1..=2_u64 {
        let account = wrong.to_string();
        let output = ctl(&target, 0, &["accounts", "create", "--name", "Ada", "--id", &account]).await;
        assert!(output.status.success(), "{output:?}");
        let reference = format!("mispost-{wrong}");
        // Of 1.00 deposited, 1.01 arrives; sent twice, it is done once.
        for _ in 0..2 {
            let arguments = ["accounts", "deposit", &account, "1.00", "--reference", &reference];
            let output = ctl(&target, wrong as usize, &arguments).await;
            assert!(output.status.success(), "{output:?}");
        }
        for node in 0..3 {
            load.more().await;
            let view = audit(&target, node).await;
            assert!(!view.conserved && view.sum == i128::from(wrong) && view.problems.len() == 1, "{view:?}");
        }
        let (good, printed) = audit_by_ctl(&target, 2).await;
        assert!(!good && printed["sum"] == wrong && printed["conserved"] == false, "{printed}");
    }
    let said = ctl(&target, 0, &["ledger", "audit"]).await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.status.success() && text.contains("THE BOOKS DO NOT ADD UP."), "{text}");
    load.stop().await;

    // What is in the log is in the books again.
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.launch(node).unwrap_or_else(|error| panic!("{error}"));
    }
    for node in 0..3 {
        cluster.wait_ready(node).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let view = audit(&target, 1).await;
    assert!(!view.conserved && view.sum == 2, "after the restart: {view:?}");
}
