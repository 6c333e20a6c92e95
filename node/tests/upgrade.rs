//! A cluster is upgraded node by node while clients use it, and nobody who may not goes back. Real
//! processes; one that is held at an older format by its configuration stands for an older program.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use stakehold::{
    client::{Client, ClientError, Target},
    harness::Cluster,
};
use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::{
        format,
        types::{AccountId, Refusal},
    },
};
use tokio::time::{Instant, sleep, timeout};

const LIVENESS: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// What the cells of a node are, by its own figures.
fn formats(cluster: &Cluster, node: usize) -> Vec<String> {
    let address = cluster.target().nodes[node].http.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("figures are text");
    let of_cells = text.lines().filter(|line| line.starts_with("stakehold_format{"));
    of_cells.filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect()
}

/// Tries to create an account whose name is longer than the first format allows, until there is an answer.
async fn named(cluster: &Cluster) -> Result<(), Refusal> {
    let known = cluster.target();
    let started = Instant::now();
    for node in known.nodes.iter().cycle() {
        let client = Client::http(&Target { http: node.http.clone(), ..known.clone() }).expect("the address is one");
        let request = Request::CreateAccount { account: AccountId(1), name: "é".repeat(100) };
        match timeout(Duration::from_secs(5), client.call(request)).await {
            Ok(Ok(Response::Account(_))) => return Ok(()),
            Ok(Err(ClientError::Api(ApiError::Refused(refusal)))) => return Err(refusal),
            other => assert!(started.elapsed() < LIVENESS, "no answer: {other:?}"),
        }
        sleep(POLL).await;
    }
    unreachable!("a cluster has nodes")
}

async fn restart(cluster: &mut Cluster, node: usize) {
    assert!(cluster.stop(node).await, "node {} drains", node + 1);
    cluster.launch(node).expect("it can be started");
    cluster.wait_ready(node).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_cluster_is_upgraded_node_by_node_and_does_not_go_back() {
    let program = Path::new(env!("CARGO_BIN_EXE_stakehold"));
    let started = Cluster::start_with_cells(program, 3, Some(2), &[("FORMAT", "1")]).await;
    let mut cluster = started.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(named(&cluster).await, Err(Refusal::InvalidDefinition));

    let newest = format::NEWEST.to_string();
    cluster.set("FORMAT", &newest);
    for node in 0..3 {
        assert_eq!(formats(&cluster, 2 - node), ["1", "1"], "not before all nodes know another");
        restart(&mut cluster, node).await;
    }
    for node in 0..3 {
        let started = Instant::now();
        while formats(&cluster, node) != [&*newest, &*newest] {
            assert!(started.elapsed() < LIVENESS, "node {}: {:?}", node + 1, formats(&cluster, node));
            sleep(POLL).await;
        }
    }
    assert_eq!(named(&cluster).await, Ok(()));

    cluster.set("FORMAT", "1");
    assert!(cluster.stop(0).await, "it drains");
    cluster.launch(0).expect("it can be started");
    let log = cluster.nodes()[0].log().to_owned();
    let started = Instant::now();
    while !fs::read_to_string(&log).is_ok_and(|log| log.contains("knows formats up to 1: run the newer program here")) {
        assert!(started.elapsed() < LIVENESS, "node 1 does not say that its program is too old");
        sleep(POLL).await;
    }
    cluster.kill(0);
    cluster.set("FORMAT", &newest);
    cluster.launch(0).expect("it can be started");
    cluster.wait_ready(0).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((formats(&cluster, 0), named(&cluster).await), (vec![newest; 2], Ok(())));
}
