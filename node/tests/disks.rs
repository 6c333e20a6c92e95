//! What a node makes of a disk that is not as it left it: torn, rotten, wiped, somebody else's, in
//! use. Real processes and real files; the log's own tests try every byte, these show what people
//! and the rest of the cluster see of it.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use stakehold::{
    client::{Client, ClientError, Target},
    harness::Cluster,
};
use stakehold_actors::{
    api::{ApiError, ClusterStatus, Request, Response},
    domain::types::{AccountId, Minor, Reference},
};
use tokio::time::{Instant, sleep, timeout};

const LIVENESS: Duration = Duration::from_secs(40);
const BLOCK: usize = 4096;
const BATCH: &[u8] = b"STAKEWAL";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stakehold"))
}

async fn cluster(nodes: usize) -> Cluster {
    let settings = [("LOG_LEVEL", "info"), ("WAL_SEGMENT_BYTES", "4194304")];
    Cluster::start(program(), nodes, &settings).await.unwrap_or_else(|error| panic!("{error}"))
}

fn client(cluster: &Cluster, node: usize) -> Client {
    let known = cluster.target();
    let target = Target { http: known.nodes[node].http.clone(), ..known };
    Client::http(&target).expect("the address is one")
}

/// Until it is answered, whatever may be down for a moment.
async fn insist(client: &Client, request: Request) -> Response {
    let started = Instant::now();
    loop {
        let answer = timeout(Duration::from_secs(5), client.call(request.clone())).await;
        match answer {
            Ok(Ok(response)) => return response,
            other if started.elapsed() > LIVENESS => panic!("{request:?}: {other:?}"),
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn deposit(client: &Client, account: u64, reference: &str) {
    let account = AccountId(account);
    let reference = Reference::new(reference).expect("short");
    insist(client, Request::Deposit { account, amount: Minor(100), reference }).await;
}

async fn available(client: &Client, account: u64) -> Minor {
    match insist(client, Request::GetAccount { account: AccountId(account) }).await {
        Response::Account(view) => view.available,
        other => panic!("{other:?}"),
    }
}

/// Some accounts, so that every cell has something in the log; each with one deposit.
async fn fill(client: &Client) {
    for account in 1..=40 {
        insist(client, Request::CreateAccount { account: AccountId(account), name: format!("account {account}") })
            .await;
        deposit(client, account, "first").await;
    }
}

async fn until(client: &Client, what: &str, good: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    let started = Instant::now();
    loop {
        match insist(client, Request::Status).await {
            Response::Status(status) if good(&status) => return *status,
            status if started.elapsed() > LIVENESS => panic!("not in {LIVENESS:?}: {what}: {status:#?}"),
            _ => sleep(Duration::from_millis(30)).await,
        }
    }
}

/// The segments of a node's log, in order.
fn segments(data: &Path) -> Vec<PathBuf> {
    let names =
        fs::read_dir(data.join("wal")).expect("there is a log").map(|entry| entry.expect("it can be listed").path());
    let mut segments: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    segments.sort();
    segments
}

/// The last segment with batches in it, and where they begin; the last number is where they end.
fn batches(data: &Path) -> (PathBuf, Vec<usize>) {
    let written = segments(data).into_iter().rfind(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(BATCH)));
    let path = written.expect("something was written");
    let bytes = fs::read(&path).expect("it can be read");
    let mut places: Vec<usize> = (0..bytes.len()).step_by(BLOCK).filter(|at| bytes[*at..].starts_with(BATCH)).collect();
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something was written") + 1;
    places.push(end.next_multiple_of(BLOCK));
    (path, places)
}

/// What is in a directory, by path.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(
                    path.strip_prefix(dir).expect("below").to_owned(),
                    fs::read(&path).expect("it can be read"),
                );
            }
        }
    }
    files
}

/// Gives every segment of a node's log a second name, so that nothing is gone that gets unlinked.
fn hold(data: &Path) -> PathBuf {
    let held = data.with_file_name("held");
    fs::create_dir(&held).expect("it can be created");
    for segment in segments(data) {
        fs::hard_link(&segment, held.join(segment.file_name().expect("a file"))).expect("it can be linked");
    }
    held
}

/// Ends that, and puts back the segments that were unlinked meanwhile, if asked to.
fn let_go(data: &Path, held: &Path, put_back: bool) {
    for entry in fs::read_dir(held).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let place = data.join("wal").join(entry.file_name());
        if put_back && !place.exists() {
            fs::hard_link(entry.path(), place).expect("it can be linked");
        }
    }
    fs::remove_dir_all(held).expect("it can be removed");
}

/// Has node 3 write what nobody else learns of, and kills it. The others are frozen when this
/// returns. Gives the references under which it was asked for deposits to all accounts.
///
/// A leader takes proposals for one election timeout after it last heard from a majority. On a busy
/// machine that may be over before they have come in; then it is tried again, with all nodes.
async fn written_by_one_alone(cluster: &mut Cluster, round: usize) -> Vec<String> {
    let first = client(cluster, 0);
    let third = client(cluster, 2);
    let data = cluster.data(2);
    let started = Instant::now();
    let mut references = Vec::new();
    loop {
        until(&first, "all agree and each leads its share", |status| {
            let led = |node| status.cells.iter().filter(|cell| cell.leader == Some(node)).count();
            status.agrees(3) && (1..=3).all(|node| (5..=6).contains(&led(node)))
        })
        .await;
        let held = hold(&data);
        cluster.freeze(0);
        cluster.freeze(1);
        let text = format!("alone-{round}-{}", references.len());
        let answers = futures::future::join_all((1..=40).map(|account| {
            let reference = Reference::new(&text).expect("short");
            let request = Request::Deposit { account: AccountId(account), amount: Minor(100), reference };
            timeout(Duration::from_secs(1), third.call(request))
        }));
        for answer in answers.await {
            assert!(!matches!(answer, Ok(Ok(_))), "one of three acknowledged a deposit: {answer:?}");
        }
        let (segment, places) = batches(&data);
        let bytes = fs::read(&segment).expect("it can be read");
        // What says so was written when the others were frozen, and so was all that follows it.
        let written = bytes[..places[places.len() - 1]].windows(text.len()).any(|part| part == text.as_bytes());
        references.push(text);
        if written {
            cluster.kill(2);
            // A write that was stopped has not yet made any segment superfluous.
            let_go(&data, &held, true);
            return references;
        }
        assert!(started.elapsed() < LIVENESS, "node 3 alone wrote nothing");
        cluster.thaw(0);
        cluster.thaw(1);
        let_go(&data, &held, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_in_its_last_write_goes_on() {
    let mut cluster = cluster(3).await;
    let first = client(&cluster, 0);
    fill(&first).await;
    let mut deposits = 1;
    for round in 0..6 {
        let references = written_by_one_alone(&mut cluster, round).await;
        let data = cluster.data(2);
        let (segment, places) = batches(&data);
        let (begin, end) = (places[places.len() - 2], places[places.len() - 1]);
        // As if the process had ended while it wrote, and before it noted how far it had come.
        let cut = begin + (end - begin) * (round + 1) / 7 + round * 13;
        let mut bytes = fs::read(&segment).expect("it can be read");
        bytes[cut..].fill(0);
        fs::write(&segment, bytes).expect("it can be written");
        fs::remove_file(data.join("wal/mark")).expect("it is there");
        cluster.thaw(0);
        cluster.thaw(1);
        cluster.launch(2).expect("it can be started");
        cluster.wait_ready(2).await.unwrap_or_else(|error| panic!("round {round}, cut at {cut}: {error}"));
        let status = until(&first, "the node with the cut log agrees with the others", |status| status.agrees(3)).await;
        assert!(status.nodes.iter().all(|node| node.note.is_none()), "round {round}, cut at {cut}: {:?}", status.nodes);
        // Whether they had come through or not: said again, each is there once.
        for reference in &references {
            deposits += 1;
            for account in 1..=40 {
                deposit(&first, account, reference).await;
            }
        }
        let third = client(&cluster, 2);
        for account in 1..=40 {
            assert_eq!(available(&third, account).await, Minor(100 * deposits), "round {round}, account {account}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lost_what_it_had_acknowledged_takes_nobody_down_with_it() {
    let mut cluster = cluster(3).await;
    let first = client(&cluster, 0);
    fill(&first).await;
    for round in 0..4 {
        until(&first, "all agree", |status| status.agrees(3)).await;
        cluster.kill(2);
        // The last batch and every trace of it, as on a disk that said yes and did nothing.
        let data = cluster.data(2);
        let (segment, places) = batches(&data);
        let mut bytes = fs::read(&segment).expect("it can be read");
        bytes[places[places.len() - 2]..].fill(0);
        fs::write(&segment, bytes).expect("it can be written");
        fs::remove_file(data.join("wal/mark")).expect("it is there");
        cluster.launch(2).expect("it can be started");
        cluster.wait_ready(2).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let status = until(&first, "it is sent again what it lost", |status| status.agrees(3)).await;
        let halted: Vec<_> = status.cells.iter().flat_map(|c| &c.replicas).filter_map(|r| r.halted.as_ref()).collect();
        assert!(halted.is_empty(), "round {round}: {halted:?}");
        for account in 1..=40 {
            deposit(&first, account, &format!("round-{round}")).await;
        }
        assert_eq!(available(&client(&cluster, 2), 7).await, Minor(100 * (round as i64 + 2)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rotten_byte_is_named_and_its_replica_does_not_vote_as_before() {
    // Of a batch in the middle: a byte of its header, one of its body; one in the very last batch.
    for (what, middle, offset) in [("header", true, 20), ("body", true, 90), ("last batch", false, 85)] {
        let mut cluster = cluster(3).await;
        let first = client(&cluster, 0);
        fill(&first).await;
        until(&first, "all agree", |status| status.agrees(3)).await;
        assert!(cluster.stop(2).await, "it stops by itself when asked");
        let (segment, places) = batches(&cluster.data(2));
        let place = if middle { places[places.len() / 2] } else { places[places.len() - 2] };
        let mut bytes = fs::read(&segment).expect("it can be read");
        bytes[place + offset] ^= 0x10;
        fs::write(&segment, bytes).expect("it can be written");

        cluster.launch(2).expect("it can be started");
        let named = format!("{} offset {place}", segment.file_name().expect("a file").to_string_lossy());
        let log = cluster.nodes()[2].log().to_owned();
        let status = until(&first, &format!("the {what} at {named} is named"), |status| {
            let noted = status.nodes.iter().any(|node| node.note.as_ref().is_some_and(|note| note.contains(&named)));
            noted || fs::read_to_string(&log).is_ok_and(|log| log.contains(&named))
        })
        .await;
        let damaged: Vec<&str> = status
            .cells
            .iter()
            .filter(|cell| !cell.replicas.iter().any(|replica| replica.node == 3))
            .map(|cell| cell.cell.as_str())
            .collect();
        let reborn = status.nodes.iter().any(|node| node.node == 3 && node.incarnation > 0);
        assert!(!damaged.is_empty() || reborn, "{what}: all replicas vote as if nothing had been: {status:#?}");
        // The others have everything and go on.
        for account in 1..=40 {
            deposit(&first, account, "after").await;
            assert_eq!(available(&first, account).await, Minor(200), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wiped_nodes_refuse_and_the_third_keeps_its_data() {
    let mut cluster = cluster(3).await;
    fill(&client(&cluster, 0)).await;
    for node in 0..3 {
        assert!(cluster.stop(node).await, "it stops by itself when asked");
    }
    let before = contents(&cluster.data(2));
    let aside = |node: usize| cluster.data(node).with_extension("aside");
    for node in [0, 1] {
        fs::rename(cluster.data(node), aside(node)).expect("it can be moved");
    }
    let asides = [aside(0), aside(1)];
    for node in 0..3 {
        cluster.launch(node).expect("it can be started");
    }
    for node in [0, 1] {
        let log = cluster.nodes()[node].log().to_owned();
        let started = Instant::now();
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains("holds no founding permit")) {
            assert!(started.elapsed() < LIVENESS, "node {} does not say that it may found nothing", node + 1);
            sleep(Duration::from_millis(20)).await;
        }
    }
    for node in 0..3 {
        let request = Request::GetAccount { account: AccountId(7) };
        match timeout(LIVENESS, client(&cluster, node).call(request)).await.expect("it answers by its deadline") {
            Err(ClientError::Api(ApiError::Unavailable) | ClientError::Unreachable { .. }) => {}
            other => panic!("node {} answered {other:?}, though two of three lost everything", node + 1),
        }
    }
    for node in 0..3 {
        cluster.kill(node);
    }
    let after = contents(&cluster.data(2));
    for (path, bytes) in &before {
        let now = after.get(path).unwrap_or_else(|| panic!("{} is gone", path.display()));
        let name = path.file_name().unwrap_or_default();
        if name.eq_ignore_ascii_case("lock") || name == "mark" {
            continue;
        }
        // A log grows at its end, into zeros; what was written stays as it was.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert!(now.len() >= bytes.len() && now[..written] == bytes[..written], "{} was changed", path.display());
    }
    // With the others' data back, everything is there.
    for (node, aside) in asides.iter().enumerate() {
        fs::remove_dir_all(cluster.data(node)).expect("it is there");
        fs::rename(aside, cluster.data(node)).expect("it can be moved");
    }
    for node in 0..3 {
        cluster.launch(node).expect("it can be started");
    }
    for account in 1..=40 {
        assert_eq!(available(&client(&cluster, account as usize % 3), account).await, Minor(100));
    }
}

/// Runs `serve` on a configuration until it refuses, and gives what it said.
async fn refusal(config: &Path, changes: &[(&str, &str)]) -> String {
    let mut command = Command::new(program());
    command.arg("serve").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (flag, value) in changes {
        command.arg(flag).arg(value);
    }
    let mut child = command.spawn().expect("the program runs");
    let started = Instant::now();
    while child.try_wait().expect("it is ours").is_none() {
        if started.elapsed() > LIVENESS {
            // Nothing can be done if it ends just now.
            let _ = child.kill();
            panic!("it runs, though it should refuse: {command:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().expect("it has ended");
    assert!(!output.status.success(), "a refusal is not a success");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_this_nodes_own_is_refused_in_a_sentence_and_left_alone() {
    let free = [("--listen-http", "127.0.0.1:0"), ("--listen-quic", "127.0.0.1:0")];
    let mut ours = cluster(1).await;
    let mut theirs = cluster(1).await;
    let config = |cluster: &Cluster| cluster.founded().join("n1/node.toml");
    insist(&client(&ours, 0), Request::CreateAccount { account: AccountId(7), name: "Ada".into() }).await;
    deposit(&client(&ours, 0), 7, "first").await;

    // In use.
    let said = refusal(&config(&ours), &free).await;
    let pid = ours.nodes()[0].pid().expect("it runs").to_string();
    assert!(said.contains(&format!("in use by process {pid}")), "{said}");
    // Ports that are taken.
    assert!(theirs.stop(0).await);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = tcp.local_addr().expect("it has one").to_string();
    let said = refusal(&config(&theirs), &[("--listen-http", &taken), ("--listen-quic", "127.0.0.1:0")]).await;
    assert!(said.contains(&taken) && said.contains("taken"), "{said}");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = udp.local_addr().expect("it has one").to_string();
    let said = refusal(&config(&theirs), &[("--listen-http", "127.0.0.1:0"), ("--listen-quic", &taken)]).await;
    assert!(said.contains(&taken), "{said}");
    // Another cluster's, and a newer program's.
    assert!(ours.stop(0).await);
    let before = contents(&ours.data(0));
    let data = ours.data(0).display().to_string();
    let said = refusal(&config(&theirs), &[free[0], free[1], ("--data", &data)]).await;
    assert!(said.contains("belongs to cluster") && said.contains(&data), "{said}");
    assert!(contents(&ours.data(0)) == before, "another cluster's data was touched");
    let identity = ours.data(0).join("identity.json");
    let text = fs::read_to_string(&identity).expect("it is there");
    fs::write(&identity, text.replace("\"format\": 1", "\"format\": 99")).expect("it can be written");
    let said = refusal(&config(&ours), &free).await;
    assert!(said.contains("newer version") && said.contains("99"), "{said}");
    // And as it was, it goes on.
    fs::write(&identity, text).expect("it can be written");
    assert!(contents(&ours.data(0)) == before, "refused data was touched");
    ours.launch(0).expect("it can be started");
    assert_eq!(available(&client(&ours, 0), 7).await, Minor(100));
}
