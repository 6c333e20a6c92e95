//! The containers as people start them: `docker/up.sh` builds the image from scratch and brings up
//! three nodes, with each way of starting that is there (Compose, plain Docker). Then a node is cut
//! off the network under bets and comes back.
//!
//! A statically linked program is built for it, which costs a few crates in other features than those
//! of the tests, once. Where no engine answers it says so and passes; `STAKEHOLD_DOCKER=0` leaves it
//! out where one does.
//!
//! What must never be here: a name, port or directory that anything else could use too.

#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

#[path = "support/cargo.rs"]
mod cargo;
mod support;

use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use cargo::tell_nothing;
use stakehold::client::{Client, Target, target::NodeAddress};
use stakehold_actors::{
    api::{AuditView, ClusterStatus, NewOrder, Request, Response},
    domain::types::{AccountId, MarketId, Minor, OrderView, Persistence, Reference, RunnerId, Side},
};
use support::two_runners;
use tokio::time::{sleep, timeout};

/// A cold build of everything on a small machine.
const BUILD: Duration = Duration::from_secs(20 * 60);
/// Whatever Docker does by itself.
const DOCKER: Duration = Duration::from_secs(90);
/// Whoever insists gets an answer in this time, or something is broken.
const LIVENESS: Duration = Duration::from_secs(60);
/// One attempt of that.
const ATTEMPT: Duration = Duration::from_secs(5);
/// What everything of this test is named after; the number of the process follows.
const NAME: &str = "stakehold-test-";

fn up_sh() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docker/up.sh")
}

/// Runs a command to its end, and ends it and all its children when it takes too long.
fn run(command: &mut Command, limit: Duration) -> Result<Output, String> {
    use std::os::unix::process::CommandExt as _;
    let name = format!("{command:?}");
    // Into files, not pipes: nobody has to read while it runs.
    let file = || tempfile::tempfile().map_err(|error| error.to_string());
    let (mut out, mut err) = (file()?, file()?);
    let handle = |file: &std::fs::File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(handle(&out)?).stderr(handle(&err)?).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > limit => {
                if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                    // Gone already if it ended just now.
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("{name} did not end within {limit:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let read = |file: &mut std::fs::File| {
        use std::io::{Read as _, Seek as _};
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map(|_| bytes).map_err(|error| error.to_string())
    };
    Ok(Output { status, stdout: read(&mut out)?, stderr: read(&mut err)? })
}

/// The same, and it has to go well. What it printed.
fn good(command: &mut Command, limit: Duration) -> String {
    let output = run(command, limit).unwrap_or_else(|error| panic!("{error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}\n{err}", output.status);
    out.into_owned()
}

fn docker(arguments: &[&str]) -> String {
    good(Command::new("docker").args(arguments), DOCKER)
}

fn answers(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = run(Command::new(program).args(arguments), DOCKER)?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Why this cannot be tested here, if so.
fn obstacle() -> Option<String> {
    if std::env::var("STAKEHOLD_DOCKER").as_deref() == Ok("0") {
        return Some("STAKEHOLD_DOCKER=0 asks for that".into());
    }
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.starts_with("unix:")
    {
        return Some(format!("the engine at {host} does not see this machine's files"));
    }
    answers("docker", &["info"]).err().map(|why| format!("no Docker engine answers ({why})"))
}

/// Each way of starting that is there, as `up.sh` calls it.
fn ways() -> Vec<&'static str> {
    let mut ways = Vec::new();
    if answers("docker", &["compose", "version"]).is_ok() {
        ways.push("docker compose");
    }
    if answers("docker-compose", &["version"]).is_ok() {
        ways.push("docker-compose");
    }
    ways.push("docker");
    ways
}

/// Takes away what a test left behind that was killed before it could.
fn sweep() {
    let dead = |name: &str| -> bool {
        let number: String = name.trim_start_matches(NAME).chars().take_while(char::is_ascii_digit).collect();
        name.starts_with(NAME) && !number.is_empty() && !Path::new("/proc").join(number).exists()
    };
    for name in docker(&["ps", "-a", "--format", "{{.Names}}"]).lines().filter(|name| dead(name)) {
        docker(&["rm", "-f", "-v", name]);
    }
    for name in docker(&["network", "ls", "--format", "{{.Name}}"]).lines().filter(|name| dead(name)) {
        docker(&["network", "rm", name]);
    }
    for name in docker(&["volume", "ls", "--format", "{{.Name}}"]).lines().filter(|name| dead(name)) {
        docker(&["volume", "rm", name]);
    }
    for name in docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().filter(|name| dead(name)) {
        docker(&["rmi", name]);
    }
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(dead) {
            // Somebody else's where the test ran as somebody else: theirs to take away.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Three neighbouring ports, the first of which is given. Somebody else may take one before they
/// are used; the start then fails and names it.
fn ports(free: impl Fn(u16) -> bool) -> u16 {
    let first = 20_000 + (std::process::id() % 9_000) as u16;
    (first..30_000).find(|port| (*port..port + 3).all(&free)).expect("three free ports in thousands")
}

/// Containers, network, volume and image of this test. Gone when this is dropped.
struct Containers {
    project: String,
    start: &'static str,
    home: PathBuf,
    http: u16,
    quic: u16,
}

impl Containers {
    fn new(start: &'static str, home: &Path) -> Self {
        Self {
            project: format!("{NAME}{}", std::process::id()),
            start,
            home: home.to_owned(),
            http: ports(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()),
            quic: ports(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()),
        }
    }

    fn up_sh(&self, program: Option<&Path>) -> Command {
        let mut command = Command::new(up_sh());
        tell_nothing(&mut command)
            .env("STAKEHOLD_PROJECT", &self.project)
            .env("STAKEHOLD_IMAGE", format!("{}:local", self.project))
            .env("STAKEHOLD_HOME", &self.home)
            .env("STAKEHOLD_HTTP_PORT", self.http.to_string())
            .env("STAKEHOLD_QUIC_PORT", self.quic.to_string())
            .env("STAKEHOLD_PROFILE", "dev")
            .env("STAKEHOLD_START", self.start)
            .env_remove("STAKEHOLD_PROGRAM");
        if let Some(program) = program {
            command.env("STAKEHOLD_PROGRAM", program);
        }
        command
    }

    fn container(&self, node: u16) -> String {
        format!("{}-n{node}-1", self.project)
    }

    fn network(&self) -> String {
        format!("{}_mesh", self.project)
    }

    fn target(&self) -> Target {
        let read = |name: &str| std::fs::read_to_string(self.home.join("cluster").join(name)).expect("up.sh wrote it");
        let node = |id: u16| NodeAddress {
            id,
            http: format!("http://127.0.0.1:{}", self.http + id - 1),
            quic: format!("127.0.0.1:{}", self.quic + id - 1),
        };
        let nodes: Vec<NodeAddress> = (1..=3).map(node).collect();
        Target {
            http: nodes[0].http.clone(),
            quic: Some(nodes[0].quic.clone()),
            token: Some(read("operator.token").trim().to_owned()),
            ca_pem: Some(read("ca.pem")),
            accounts: Vec::new(),
            nodes,
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 1..=3 {
                let logs = run(Command::new("docker").args(["logs", "--tail", "30", &self.container(node)]), DOCKER);
                if let Ok(logs) = logs {
                    println!("-- n{node} --\n{}", String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()));
                }
            }
        }
        // Whatever is not there any more need not be taken away.
        for node in 1..=3 {
            let _ = run(Command::new("docker").args(["rm", "-f", "-v", &self.container(node)]), DOCKER);
        }
        let _ = run(Command::new("docker").args(["network", "rm", &self.network()]), DOCKER);
        // Compose makes it, also where nothing is watched; `down` leaves data alone.
        let _ =
            run(Command::new("docker").args(["volume", "rm", "-f", &format!("{}_prometheus", self.project)]), DOCKER);
        let _ = run(Command::new("docker").args(["rmi", "-f", &format!("{}:local", self.project)]), DOCKER);
        // The nodes run as somebody else where this test runs as root, who may take it all away.
        let _ = std::fs::remove_dir_all(self.home.join("cluster"));
    }
}

/// The cluster through the ports that are published.
struct Doors(Vec<Client>);

impl Doors {
    fn new(target: &Target) -> Self {
        let door = |node: &NodeAddress| Client::http(&Target { http: node.http.clone(), ..target.clone() });
        Self(target.nodes.iter().map(|node| door(node).expect("the address is one")).collect())
    }

    /// Through one of these nodes, whichever answers. Every request here may be sent again.
    async fn insist(&self, nodes: &[usize], request: Request) -> Response {
        let started = Instant::now();
        let mut last = String::new();
        for attempt in 0.. {
            let node = nodes[attempt % nodes.len()];
            match timeout(ATTEMPT, self.0[node].call(request.clone())).await {
                Ok(Ok(response)) => return response,
                Ok(Err(error)) => last = format!("n{}: {error}", node + 1),
                Err(_) => last = format!("n{} gave no answer in {ATTEMPT:?}", node + 1),
            }
            assert!(started.elapsed() < LIVENESS, "no answer to {request:?}; the last: {last}");
            sleep(Duration::from_millis(20)).await;
        }
        unreachable!("attempts do not end: {last}")
    }

    /// A bet; the acknowledged order.
    async fn place(&self, nodes: &[usize], market: MarketId, account: u64, side: Side, name: &str) -> OrderView {
        let order = NewOrder {
            runner: RunnerId(1),
            side,
            price: 300,
            size: Minor(200),
            persistence: Persistence::Lapse,
            fill_or_kill: false,
            min_fill: None,
            post_only: false,
        };
        let (account, reference) = (AccountId(account), reference(name));
        match self.insist(nodes, Request::Place { account, market, reference, orders: vec![order] }).await {
            Response::Placed { reports, .. } => {
                reports[0].outcome.clone().unwrap_or_else(|no| panic!("{name}: {no:?}"))
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn orders(&self, node: usize, account: u64, market: MarketId) -> Vec<OrderView> {
        let request = Request::ListOrders { account: AccountId(account), market: Some(market) };
        match self.insist(&[node], request).await {
            Response::Orders(orders) => orders,
            other => panic!("{other:?}"),
        }
    }

    async fn audit(&self, node: usize) -> AuditView {
        match self.insist(&[node], Request::Audit).await {
            Response::Audit(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    /// Until what a node says of the cluster is so.
    async fn until(&self, node: usize, what: &str, so: impl Fn(&ClusterStatus) -> bool) {
        let started = Instant::now();
        loop {
            match self.insist(&[node], Request::Status).await {
                Response::Status(status) if so(&status) => return,
                status => assert!(started.elapsed() < LIVENESS, "not within {LIVENESS:?}: {what}: {status:#?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn reference(name: &str) -> Reference {
    Reference::new(name).expect("short visible ASCII")
}

/// Ada and Bob with 1000.00 each, and an open market.
async fn found(doors: &Doors) -> MarketId {
    for (account, name) in [(1, "Ada"), (2, "Bob")] {
        let account = AccountId(account);
        doors.insist(&[0], Request::CreateAccount { account, name: name.into() }).await;
        let deposit = Request::Deposit { account, amount: Minor(100_000), reference: reference("first") };
        match doors.insist(&[1], deposit).await {
            Response::Wallet(receipt) => assert_eq!(receipt.available, Minor(100_000)),
            other => panic!("{other:?}"),
        }
    }
    let definition = two_runners("The Docker Stakes");
    let create = Request::CreateMarket { definition: Box::new(definition), reference: reference("market") };
    let Response::Market(view) = doors.insist(&[2], create).await else { panic!("no market") };
    let market = view.summary.market;
    doors.insist(&[0], Request::OpenMarket { market }).await;
    market
}

/// A bet and its opposite: one rests, the other is matched with it.
async fn match_pair(doors: &Doors, nodes: &[usize], market: MarketId, name: &str) -> [(u64, OrderView); 2] {
    let lay = doors.place(nodes, market, 2, Side::Lay, name).await;
    let back = doors.place(nodes, market, 1, Side::Back, name).await;
    assert_eq!((back.matched, back.remaining), (Minor(200), Minor(0)), "{name} is matched with {lay:?}");
    [(2, lay), (1, back)]
}

async fn play(containers: &Containers) {
    let target = containers.target();
    let doors = Doors::new(&target);
    let market = found(&doors).await;
    let mut bets = Vec::new();
    for node in 0..3 {
        bets.extend(match_pair(&doors, &[node], market, &format!("through-{node}")).await);
    }
    doors.until(0, "the three agree", |status| status.agrees(3)).await;

    // Cut off: whoever it was leading finds new leaders, and every bet is taken.
    docker(&["network", "disconnect", &containers.network(), &containers.container(3)]);
    let cut = Instant::now();
    for n in 0..25 {
        bets.extend(match_pair(&doors, &[0, 1], market, &format!("cut-{n}")).await);
        if n == 0 {
            println!("  the first bet after the cut was taken and matched after {:?}", cut.elapsed());
        }
    }
    doors.until(0, "the cut is seen", |status| !status.nodes[2].reachable).await;
    let audit = doors.audit(1).await;
    assert!(audit.conserved && audit.sum == 0 && audit.problems.is_empty(), "while one is cut off: {audit:?}");

    // Back again, under its name.
    docker(&["network", "connect", "--alias", "n3", &containers.network(), &containers.container(3)]);
    let healed = Instant::now();
    doors.until(2, "the one that was cut off catches up", |status| status.agrees(3)).await;
    println!("  caught up {:?} after it was connected again", healed.elapsed());
    bets.extend(match_pair(&doors, &[2], market, "healed").await);

    // All of it, seen through the node that missed it.
    for account in [1, 2] {
        let seen = doors.orders(2, account, market).await;
        let told: Vec<&OrderView> =
            bets.iter().filter(|(whose, _)| *whose == account).map(|(_, order)| order).collect();
        assert_eq!(seen.len(), told.len(), "nothing is lost, nothing is there twice");
        for order in told {
            let now = seen.iter().find(|now| now.order == order.order).unwrap_or_else(|| panic!("lost: {order:?}"));
            assert_eq!((&now.reference, now.matched), (&order.reference, Minor(200)), "{now:?}");
        }
    }
    for node in 0..3 {
        let audit = doors.audit(node).await;
        assert!(audit.conserved && audit.sum == 0 && audit.problems.is_empty(), "{audit:?}");
        assert_eq!(audit.external, 200_000, "what was paid in");
    }
    doors.until(1, "the three agree in the end", |status| status.agrees(3)).await;

    // The published UDP port: the native protocol, with the cluster's own CA.
    let native = Client::quic(&target).expect("the address is one");
    let request = Request::GetAccount { account: AccountId(1) };
    let answer = timeout(LIVENESS, native.call(request)).await.expect("it is answered");
    assert!(matches!(&answer, Ok(Response::Account(ada)) if ada.name == "Ada"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_containers_loses_a_node_and_gets_it_back() {
    if let Some(why) = obstacle() {
        use std::io::Write as _;
        // Past the capture of what passing tests print: whoever looks at the run should see it.
        let _ = writeln!(std::io::stderr(), "Skipped, not tested: the containers; {why}.");
        return;
    }
    sweep();
    let prefix = format!("{NAME}{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a directory");
    let mut program = None;
    for way in ways() {
        let started = Instant::now();
        let containers = Containers::new(way, directory.path());
        let printed = good(&mut containers.up_sh(program.as_deref()), BUILD);
        assert!(printed.contains(&format!("http://127.0.0.1:{}", containers.http)), "{printed}");
        println!("{way}: up after {:?}", started.elapsed());
        play(&containers).await;
        good(containers.up_sh(program.as_deref()).arg("down"), DOCKER);
        let left =
            docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &format!("name={}-", containers.project)]);
        assert_eq!(left, "", "`up.sh down` takes its containers away");
        let networks = docker(&["network", "ls", "--format", "{{.Name}}"]);
        assert!(!networks.lines().any(|name| name == containers.network()), "and its network");
        println!("{way}: down after {:?}", started.elapsed());
        program = Some(directory.path().join("stakehold"));
    }
}
