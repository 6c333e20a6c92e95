//! Disks that fail while a node runs: one that is full, and one whose fsync reports an error. Real
//! processes on a real file system; nothing in the program knows of it. A full disk is a small
//! tmpfs, for which the test has to be allowed to mount. A failing fsync is a library that is
//! loaded before the C library, and fails for the files of one node once it is told to.
//!
//! What a node makes of a disk that it finds damaged when it starts is in `disks.rs`.

mod support;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use stakehold::{
    client::{Client, ClientError, Target},
    harness::{Cluster, HarnessError},
};
use stakehold_actors::{
    api::{ApiError, CancelOrder, ClusterStatus, NewOrder, Request, Response, WhichOrder},
    domain::types::{AccountId, MarketId, Minor, OrderId, Persistence, Reference, RunnerId, Side},
};
use support::two_runners;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

const LIVENESS: Duration = Duration::from_secs(60);
/// Each fills a disk or writes a program, which the other should not see half done.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stakehold"))
}

fn client(target: &Target, node: usize) -> Client {
    let target = Target { http: target.nodes[node].http.clone(), ..target.clone() };
    Client::http(&target).expect("the address is one")
}

fn reference(text: &str) -> Reference {
    Reference::new(text).expect("short visible ASCII")
}

/// Until it is done, whatever may be down or full for a moment.
async fn insist(client: &Client, request: Request) -> Response {
    let started = Instant::now();
    loop {
        match timeout(Duration::from_secs(5), client.call(request.clone())).await {
            Ok(Ok(response)) => return response,
            other if started.elapsed() > LIVENESS => panic!("{request:?}: {other:?}"),
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Accounts 1 to `accounts` with 10,000.00 each, and an open market.
async fn found(client: &Client, accounts: u64) -> MarketId {
    for account in (1..=accounts).map(AccountId) {
        insist(client, Request::CreateAccount { account, name: format!("account {account}") }).await;
        insist(client, Request::Deposit { account, amount: Minor(1_000_000), reference: reference("first") }).await;
    }
    let definition = two_runners("The Platter Plate");
    let create = Request::CreateMarket { definition: Box::new(definition), reference: reference("market") };
    let Response::Market(view) = insist(client, create).await else { panic!("no market") };
    insist(client, Request::OpenMarket { market: view.summary.market }).await;
    view.summary.market
}

/// A bet that rests: all are on the same side.
fn bet(account: u64, market: MarketId, name: &str) -> Request {
    let order = NewOrder {
        runner: RunnerId(1),
        side: Side::Back,
        price: 300,
        size: Minor(100),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    };
    Request::Place { account: AccountId(account), market, reference: reference(name), orders: vec![order] }
}

fn placed(response: Response) -> OrderId {
    match response {
        Response::Placed { reports, .. } => reports[0].outcome.as_ref().unwrap_or_else(|no| panic!("{no:?}")).order,
        other => panic!("a bet was answered with {other:?}"),
    }
}

async fn conserved(client: &Client, paid_in: i128) {
    match insist(client, Request::Audit).await {
        Response::Audit(view) => assert!(view.conserved && view.sum == 0 && view.external == paid_in, "{view:?}"),
        other => panic!("{other:?}"),
    }
}

async fn status(client: &Client) -> ClusterStatus {
    match insist(client, Request::Status).await {
        Response::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim())) }
}

/// A file system of its own on a directory, taken away when this is dropped, in use or not.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Result<Self, String> {
        let size = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the node may still be running. If it cannot be done, nothing here can help.
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// Writes until there is no room for another byte.
fn fill(path: &Path) {
    use io::Write as _;
    let mut file = fs::File::create(path).expect("there is room for a name");
    for size in [64 << 10, 4 << 10, 1] {
        let chunk = vec![0xaa; size];
        loop {
            match file.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_bets_with_its_reason_and_goes_on_when_there_is_room() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let settings = [("WAL_SEGMENT_BYTES", "1048576"), ("WAL_RESERVE_BYTES", "3145728")];
    let mut cluster = Cluster::start(program(), 1, &settings).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(cluster.stop(0).await, "it stops by itself when asked");
    let data = cluster.data(0);
    let aside = data.with_extension("aside");
    fs::rename(&data, &aside).expect("it can be moved");
    fs::create_dir(&data).expect("it was moved away");
    let _mount = match Mount::tmpfs(&data, "24m") {
        Ok(mount) => mount,
        Err(why) => {
            use io::Write as _;
            // Past the capture of what passing tests print.
            let _ = writeln!(io::stderr(), "Skipped, not tested: a full disk; nothing can be mounted here ({why}).");
            return;
        }
    };
    run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data)).unwrap_or_else(|error| panic!("{error}"));
    cluster.launch(0).unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_ready(0).await.unwrap_or_else(|error| panic!("{error}"));
    let target = cluster.target();
    let client = client(&target, 0);
    let market = found(&client, 2).await;
    let mut acknowledged = vec![placed(insist(&client, bet(1, market, "with-room")).await)];

    let filler = data.join("filler");
    fill(&filler);
    let started = Instant::now();
    let refused = loop {
        assert!(started.elapsed() < LIVENESS, "{} bets, and the full disk is not noticed", acknowledged.len());
        let name = format!("bet-{}", acknowledged.len());
        match client.call(bet(1, market, &name)).await {
            Ok(response) => acknowledged.push(placed(response)),
            Err(ClientError::Api(error @ ApiError::DiskFull { .. })) => {
                let said = error.to_string();
                assert!(said.contains("disk") && said.contains("full") && said.contains("make room"), "{said}");
                break name;
            }
            Err(error) => panic!("{name}: {error:?}"),
        }
    };
    println!("{} bets were taken before the disk was full", acknowledged.len());

    // To people: the sentence, the reason in the status, and a node that is there all the same.
    let mut ctl = Command::new(program());
    ctl.args(["ctl", "orders", "place", &market.to_string(), "--account", "1", "--runner", "1"]);
    ctl.args(["--back", "1.00", "--price", "3.00"]).env("STAKEHOLD_URL", &target.http);
    let output =
        ctl.env("STAKEHOLD_TOKEN", target.token.as_deref().expect("the operator's")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("disk") && said.contains("is full"), "{output:?}");
    let note = status(&client).await.nodes[0].note.clone().unwrap_or_default();
    assert!(note.contains("disk is full"), "the node's note says {note:?}");
    cluster.wait_ready(0).await.unwrap_or_else(|error| panic!("{error}"));

    // What needs no room, or must get through: reads, cancels, payments, settlement, the audit.
    let first = CancelOrder { which: WhichOrder::Id(acknowledged[0]), reduction: None };
    match client.call(Request::Cancel { account: AccountId(1), market, orders: vec![first] }).await {
        Ok(Response::Cancelled { reports, .. }) => assert_eq!(reports[0].outcome, Ok(Minor(100)), "{reports:?}"),
        other => panic!("a cancel on a full disk: {other:?}"),
    }
    match client.call(Request::ListOrders { account: AccountId(1), market: Some(market) }).await {
        Ok(Response::Orders(orders)) => {
            assert!(acknowledged[1..].iter().all(|known| orders.iter().any(|order| order.order == *known)));
        }
        other => panic!("a read on a full disk: {other:?}"),
    }
    let deposit =
        Request::Deposit { account: AccountId(2), amount: Minor(500), reference: reference("on-a-full-disk") };
    assert!(matches!(client.call(deposit).await, Ok(Response::Wallet(_))), "money still comes in");
    conserved(&client, 2_000_500).await;
    let again = client.call(bet(2, market, "still-full")).await;
    assert!(matches!(again, Err(ClientError::Api(ApiError::DiskFull { .. }))), "{again:?}");

    // Room again: it goes on by itself, with what was refused before.
    fs::remove_file(&filler).expect("it is there");
    acknowledged.push(placed(insist(&client, bet(1, market, &refused)).await));
    for n in 0..20 {
        acknowledged.push(placed(insist(&client, bet(2, market, &format!("after-{n}"))).await));
    }
    assert_eq!(status(&client).await.nodes[0].note, None, "nothing is wrong any more");

    // And none of it was only in memory.
    cluster.kill(0);
    cluster.launch(0).unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_ready(0).await.unwrap_or_else(|error| panic!("{error}"));
    let mut found = Vec::new();
    for account in [1, 2].map(AccountId) {
        match insist(&client, Request::ListOrders { account, market: Some(market) }).await {
            Response::Orders(orders) => found.extend(orders.into_iter().map(|order| order.order)),
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged[1..].iter().all(|known| found.contains(known)), "an acknowledged bet is lost");
    conserved(&client, 2_000_500).await;
}

/// Fails fsync and fdatasync with EIO for files whose path has in it what `$FAILING_DISK` holds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096], part[256];
    const char *flag = getenv("FAILING_DISK");
    int told = flag ? open(flag, O_RDONLY | O_CLOEXEC) : -1;
    if (told < 0) return 0;
    ssize_t n = read(told, part, sizeof part - 1);
    close(told);
    if (n <= 0) return 0;
    part[n] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return strstr(path, part) != NULL;
}

int fdatasync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
"#;

/// The program with the shim before its C library, and the file that tells whose disk fails.
fn program_on_a_failing_disk(directory: &Path) -> (PathBuf, PathBuf) {
    let [source, shim, flag, wrapper] = ["shim.c", "shim.so", "flag", "stakehold"].map(|name| directory.join(name));
    fs::write(&source, SHIM).expect("it can be written");
    // The same compiler that the program's own C parts need.
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    run(Command::new(cc).args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source))
        .unwrap_or_else(|why| panic!("{why}"));
    let (shim, told, program) = (shim.display(), flag.display(), program().display());
    let script = format!("#!/bin/sh\nLD_PRELOAD='{shim}' FAILING_DISK='{told}' exec '{program}' \"$@\"\n");
    fs::write(&wrapper, script).expect("it can be written");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it is ours");
    (wrapper, flag)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_ends_the_node_with_a_sentence_and_the_others_go_on() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (program, flag) = program_on_a_failing_disk(directory.path());
    let mut cluster = Cluster::start(&program, 3, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    let target = cluster.target();
    let (first, third) = (client(&target, 0), client(&target, 2));
    let market = found(&first, 8).await;
    let mut acknowledged = Vec::new();

    // From here on the second node's disk keeps nothing it is asked to keep.
    let told = flag.with_extension("new");
    fs::write(&told, "/n2/data/").expect("it can be written");
    fs::rename(&told, &flag).expect("it can be moved");
    let started = Instant::now();
    let (log, tail) = loop {
        assert!(started.elapsed() < LIVENESS, "its fsync fails, and the node runs on");
        // Each wallet's cell and the market's have something to write, on every replica.
        for account in 1..=8_u64 {
            let name = format!("failing-{}", acknowledged.len());
            acknowledged.push((account, placed(insist(&first, bet(account, market, &name)).await)));
        }
        match cluster.wait_ready(1).await {
            Ok(()) => {}
            Err(HarnessError::Ended { node: 2, log, tail }) => break (log, tail),
            Err(error) => panic!("{error}"),
        }
    };
    let sentence = tail.rsplit(" | ").next().expect("it said something");
    let says = |part: &str| assert!(sentence.contains(part), "{part:?} is not said in: {sentence}");
    says("The node may not go on: ");
    says("Input/output error");
    says("check the disk");
    says(&cluster.data(1).display().to_string());
    let whole = fs::read_to_string(log).expect("there is a log");
    assert!(!whole.contains("panicked"), "{whole}");
    println!("{sentence}");

    // Two of three have everything, and take more.
    for n in 0..24_u64 {
        let order = placed(insist(&third, bet(1 + n % 8, market, &format!("without-{n}"))).await);
        acknowledged.push((1 + n % 8, order));
    }
    conserved(&third, 8_000_000).await;

    // With a good disk it comes back and catches up.
    fs::remove_file(&flag).expect("it is there");
    cluster.launch(1).unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_ready(1).await.unwrap_or_else(|error| panic!("{error}"));
    let second = client(&target, 1);
    let started = Instant::now();
    loop {
        let status = status(&second).await;
        if status.agrees(3) {
            break;
        }
        assert!(started.elapsed() < LIVENESS, "it does not catch up: {status:#?}");
        sleep(Duration::from_millis(50)).await;
    }
    for account in 1..=8 {
        match insist(&second, Request::ListOrders { account: AccountId(account), market: Some(market) }).await {
            Response::Orders(orders) => {
                let found: Vec<OrderId> = orders.iter().map(|order| order.order).collect();
                let told = acknowledged.iter().filter(|(whose, _)| *whose == account).map(|(_, order)| order);
                assert!(told.clone().all(|order| found.contains(order)), "account {account} lost an acknowledged bet");
                assert_eq!(found.len(), told.count(), "account {account} has a bet that nobody placed");
            }
            other => panic!("{other:?}"),
        }
    }
    conserved(&second, 8_000_000).await;
}
