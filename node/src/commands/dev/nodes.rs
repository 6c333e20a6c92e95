//! The three nodes of `dev`: founded once, each on a thread and a runtime of its own, so that one
//! that may not go on ends alone.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stakehold_raft::{disk::RealDisk, seam::Clock};
use tokio::{sync::oneshot, time::Instant};
use tracing::subscriber::NoSubscriber;

use super::DevArgs;
use crate::{
    client::{
        Client,
        target::{Info, KnownAccount, NodeAddress, Target},
    },
    commands::init::{self, InitArgs},
    config::{Config, Override},
    files,
    node::Node,
    signals::Leave,
    world::{SystemClock, SystemEntropy},
};

const NODES: u16 = 3;
/// How long the cluster may take until every cell has a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// What only `dev` keeps in the clear, readable by its owner alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Secrets {
    pub operator_token: String,
}

/// Makes keys and configurations at the first start; finds them at every other.
pub fn found_once(args: &DevArgs) -> Result<Secrets, String> {
    let path = args.data.join("secrets.json");
    let failed = |error: std::io::Error| format!("{} cannot be used: {error}.", path.display());
    if let Some(text) = files::read(&path).map_err(failed)? {
        return serde_json::from_slice(&text).map_err(|e| {
            format!("{} is damaged ({e}); move {} away to begin anew.", path.display(), args.data.display())
        });
    }
    let dir = args.data.join("cluster");
    if files::list(&dir).map_err(failed)?.is_some_and(|names| !names.is_empty()) {
        return Err(format!(
            "{} was made by a first start that did not finish; remove {} to begin anew.",
            dir.display(),
            args.data.display()
        ));
    }
    files::make_dir(&args.data).map_err(failed)?;
    let init = InitArgs {
        dir,
        nodes: NODES,
        host: Ipv4Addr::LOCALHOST.to_string(),
        listen: Ipv4Addr::LOCALHOST.into(),
        http_port: first(args.http_port, 8081),
        quic_port: first(args.quic_port, 9081),
        same_ports: false,
        sans: Vec::new(),
        cells: args.cells,
        tls: args.tls,
        json: false,
    };
    let made = init::make(&init, SystemClock::default().now_ms(), &SystemEntropy)?;
    let secrets = Secrets { operator_token: made.operator_token };
    let text = serde_json::to_vec_pretty(&secrets).map_err(|e| e.to_string())?;
    files::create(&path, &text, files::SECRET).map_err(failed)?;
    Ok(secrets)
}

fn first(port: u16, otherwise: u16) -> u16 {
    if port == 0 { otherwise } else { port }
}

/// HTTP and QUIC port of each node.
pub type Ports = BTreeMap<u16, (u16, u16)>;

/// The ports that the nodes will take; nobody holds them now. Between this and their use somebody
/// else could take one; the node that finds it taken says so.
///
/// # Errors
/// Names the port that is not to be had, and the flag that chooses others.
pub fn choose_ports(args: &DevArgs) -> Result<Ports, String> {
    let (mut ports, mut held) = (Ports::new(), Vec::new());
    for n in 1..=NODES {
        let tcp = bind("--http-port", args.http_port, n, TcpListener::bind::<SocketAddr>)
            .map_err(|sentence| blame(args, sentence))?;
        let udp = bind("--quic-port", args.quic_port, n, UdpSocket::bind::<SocketAddr>)
            .map_err(|sentence| blame(args, sentence))?;
        let port = |address: std::io::Result<SocketAddr>| {
            address.map(|address| address.port()).map_err(|e| format!("No free port is to be had: {e}."))
        };
        ports.insert(n, (port(tcp.local_addr())?, port(udp.local_addr())?));
        // Held until all are chosen, so that free ones are different ones.
        held.push((tcp, udp));
    }
    Ok(ports)
}

/// Takes the `n`-th port from `first` on, or a free one if that is 0.
fn bind<T>(flag: &str, first: u16, n: u16, take: fn(SocketAddr) -> std::io::Result<T>) -> Result<T, String> {
    let port = match first {
        0 => 0,
        first => first.checked_add(n - 1).ok_or_else(|| {
            format!("{flag} {first}: choose one so that all {NODES} nodes' ports are from 1 to 65535.")
        })?,
    };
    take(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("Port {port} is taken; stop the process that uses it or choose others with {flag}.")
        }
        _ => format!("Port {port} cannot be used ({error}); choose others with {flag}."),
    })
}

/// Whoever holds the data holds the ports too, and is better named than they are.
fn blame(args: &DevArgs, sentence: String) -> String {
    match RealDisk::holder(&args.data.join("cluster/n1/data")) {
        Some(pid) => format!(
            "{} is in use by process {pid}; stop that first, or choose another directory with --data and other ports.",
            args.data.display()
        ),
        None => sentence,
    }
}

struct Thread {
    id: u16,
    http: SocketAddr,
    quic: SocketAddr,
    ended: oneshot::Receiver<Result<(), String>>,
}

/// The nodes while they run.
pub struct Running {
    threads: Vec<Thread>,
}

impl Running {
    /// Starts all nodes; they drain when `leave` is asked.
    pub async fn start(args: &DevArgs, ports: &Ports, leave: &Leave) -> Result<Self, String> {
        let mut starting = Vec::new();
        for n in 1..=NODES {
            let config = config(args, n, ports)?;
            let leave = leave.clone();
            let (started, start) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            thread::Builder::new()
                .name(format!("node-{n}"))
                .spawn(move || {
                    // Whoever listens may have given up: then there is nobody to tell.
                    let _ = end.send(crate::world::on_runtime(live(config, leave, started)));
                })
                .map_err(|e| format!("A thread for node {n} cannot be started: {e}."))?;
            starting.push((n, start, ended));
        }
        let mut threads = Vec::new();
        for (id, start, ended) in starting {
            let (http, quic) = match start.await {
                Ok(addresses) => addresses,
                Err(_) => {
                    return Err(ended.await.ok().and_then(Result::err).unwrap_or_else(|| format!("Node {id} ended.")));
                }
            };
            threads.push(Thread { id, http, quic, ended });
        }
        Ok(Self { threads })
    }

    /// How to reach the cluster as its operator.
    pub fn target(&self, secrets: &Secrets, args: &DevArgs) -> Result<Target, String> {
        let info = self.info(secrets, args, Vec::new());
        let ca = args.data.join("cluster/ca.pem");
        let ca_pem = files::read(&ca)
            .ok()
            .flatten()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| format!("{} cannot be read.", ca.display()))?;
        Ok(Target {
            http: info.http,
            quic: info.nodes.first().map(|node| node.quic.clone()),
            token: Some(info.operator_token),
            ca_pem: Some(ca_pem),
            accounts: Vec::new(),
            nodes: info.nodes,
        })
    }

    /// What is written for scripts and for the other commands.
    pub fn info(&self, secrets: &Secrets, args: &DevArgs, accounts: Vec<KnownAccount>) -> Info {
        let scheme = if args.tls { "https" } else { "http" };
        let nodes: Vec<NodeAddress> = self
            .threads
            .iter()
            .map(|node| NodeAddress {
                id: node.id,
                http: format!("{scheme}://{}", node.http),
                quic: node.quic.to_string(),
            })
            .collect();
        let ca = args.data.join("cluster/ca.pem");
        Info {
            http: nodes.first().map(|node| node.http.clone()).unwrap_or_default(),
            operator_token: secrets.operator_token.clone(),
            accounts,
            nodes,
            ca: Some(std::path::absolute(&ca).unwrap_or(ca).display().to_string()),
        }
    }

    /// Waits until the cluster answers its operator.
    pub async fn ready(&self, client: &Client) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match client.call(stakehold_actors::api::Request::ListMarkets).await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(format!("The cluster is not ready: {error}")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until every node has stopped.
    pub async fn end(self) -> Result<(), String> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended = thread.ended.await.unwrap_or_else(|_| Err(format!("Node {} ended without a word.", thread.id)));
            result = result.and(ended);
        }
        result
    }
}

async fn live(config: Config, leave: Leave, started: oneshot::Sender<(SocketAddr, SocketAddr)>) -> Result<(), String> {
    let id = config.node;
    let node = Node::start(config).await.map_err(|e| e.to_string())?;
    let quic = node.quic().map_err(|e| e.to_string())?;
    // Nobody waits when another node did not start; then `leave` follows.
    let _ = started.send((node.http(), quic));
    // What nodes that all leave find out about each other concerns nobody.
    let mut quiet = None;
    let asked = async {
        leave.asked().await;
        quiet = Some(tracing::subscriber::set_default(NoSubscriber::default()));
    };
    node.run(asked).await.map_err(|reason| {
        eprintln!("Node {id} may not go on: {reason}. The others do.");
        reason
    })
}

fn config(args: &DevArgs, n: u16, ports: &Ports) -> Result<Config, String> {
    let set = |key: String, value: String| Override { key, value, origin: "`stakehold dev`".into() };
    let (http, quic) = ports[&n];
    let mut overrides = vec![
        set("listen.http".into(), format!("127.0.0.1:{http}")),
        set("listen.quic".into(), format!("127.0.0.1:{quic}")),
        set("tls.http".into(), args.tls.to_string()),
    ];
    for (peer, (_, quic)) in ports.iter().filter(|(peer, _)| **peer != n) {
        overrides.push(set(format!("peers.n{peer}"), format!("127.0.0.1:{quic}")));
    }
    let file = args.data.join(format!("cluster/n{n}/node.toml"));
    Config::load(&file, std::iter::empty(), &overrides).map(|(config, _)| config).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevArgs,
    }

    fn chosen(flags: &str) -> Result<Ports, String> {
        choose_ports(&Line::parse_from(["dev", "--data", "/nowhere"].into_iter().chain(flags.split_whitespace())).dev)
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_flag() {
        let free: std::collections::BTreeSet<_> =
            chosen("--http-port 0 --quic-port 0").unwrap().into_values().flat_map(|(tcp, udp)| [tcp, udp]).collect();
        assert!(free.len() > usize::from(NODES) && !free.contains(&0), "{free:?}");
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let says = format!("Port {port} is taken; stop the process that uses it or choose others with --http-port.");
        assert_eq!(chosen(&format!("--http-port {port} --quic-port 0")), Err(says));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let says = format!("Port {port} is taken; stop the process that uses it or choose others with --quic-port.");
        assert_eq!(chosen(&format!("--http-port 0 --quic-port {port}")), Err(says));
        assert!(chosen("--http-port 0 --quic-port 65535").unwrap_err().contains("65535"));
    }
}
