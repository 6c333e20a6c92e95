//! `stakehold init`: everything a new cluster needs before its first start, in one directory.
//!
//! ```text
//! D/ca.pem            what nodes and clients trust
//! D/ca.key            signs new nodes; keep it elsewhere (0600)
//! D/nK/node.toml      the node's configuration, every setting explained
//! D/nK/node.pem .key  its certificate and key (0600)
//! D/nK/ca.pem         the same CA, so that nK/ can be carried to its machine as it is
//! D/nK/founding.json  what all nodes agree on
//! D/nK/data/          its data, with the permit to found, once
//! ```

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use stakehold_actors::api::Principal;
use stakehold_raft::{
    Cells, NodeId,
    seam::{Clock, Entropy},
};

use crate::{
    auth::new_token,
    config::annotated,
    files,
    identity::{
        ClusterId, FORMAT,
        founding::{Founding, Member, token_hash},
        grant_permit,
    },
    pki::Authority,
    world::{SystemClock, SystemEntropy},
};

/// Stands for a node's number. Not `{n}`, which clap's help shows as the end of a line.
const NUMBER: &str = "{node}";
/// Of each cell, where there are nodes for them.
const REPLICAS: u16 = 3;
const NODES_MAX: u16 = 99;

/// Write keys, certificates and one configuration per node for a new cluster.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  Three nodes on this machine, at 127.0.0.1:8081-8083 (HTTP) and 9081-9083 (QUIC):
    stakehold init --dir ./cluster --nodes 3
  One machine per node, n1.example.org to n3.example.org, each at the same ports:
    stakehold init --dir ./cluster --nodes 3 --host 'n{node}.example.org' \\
      --listen 0.0.0.0 --same-ports")]
pub struct InitArgs {
    /// Where to write; must not be there yet, or be empty.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How many nodes the cluster has: 3 or more, or 1 that nothing replicates. Cells have three
    /// replicas, spread over the nodes; an even number of nodes is as good as an odd one.
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    pub nodes: u16,
    /// Host name or address under which others reach a node; {node} is its number.
    #[arg(long, value_name = "TEMPLATE", default_value = "127.0.0.1")]
    pub host: String,
    /// Address that each node listens on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub listen: std::net::IpAddr,
    /// HTTP port of the first node; the others' follow.
    #[arg(long, default_value_t = 8081)]
    pub http_port: u16,
    /// QUIC (UDP) port of the first node; the others' follow.
    #[arg(long, default_value_t = 9081)]
    pub quic_port: u16,
    /// All nodes use the same ports, as where each has a machine of its own.
    #[arg(long)]
    pub same_ports: bool,
    /// Further names or addresses that certificates are valid for; {node} is the node's number.
    #[arg(long = "san", value_name = "NAME")]
    pub sans: Vec<String>,
    /// Cells, the units of replication: a power of two, fixed for the life of the cluster. More
    /// spread over more nodes and cores; fewer gather more calls into each round. On two cores, 16
    /// cost twice as much CPU a bet as 4.
    #[arg(long, default_value_t = 16)]
    pub cells: u16,
    /// Serve the HTTP API with TLS.
    #[arg(long)]
    pub tls: bool,
    /// Print what was made as JSON, the operator's token included.
    #[arg(long)]
    pub json: bool,
}

fn nodes(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(2) => Err("two nodes are no safer than one, because neither can go on alone; choose 1, or 3 or more".into()),
        Ok(nodes @ 1..=NODES_MAX) => Ok(nodes),
        _ => Err(format!("choose 1, or from 3 to {NODES_MAX}")),
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub founding: Founding,
    /// Only here and on the terminal: the record holds its hash.
    pub operator_token: String,
}

/// # Errors
/// A sentence with the next step.
pub fn run(args: &InitArgs) -> Result<(), String> {
    let made = make(args, SystemClock::default().now_ms(), &SystemEntropy)?;
    let text = if args.json { as_json(args, &made) } else { as_text(args, &made) };
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("The result cannot be printed: {e}."))
}

/// Makes the directory and everything in it.
///
/// # Errors
/// A sentence with the next step; what was written before the error stays.
pub fn make(args: &InitArgs, now_ms: u64, entropy: &dyn Entropy) -> Result<Made, String> {
    let dir = &args.dir;
    let failed = |path: &Path, error: std::io::Error| format!("{} cannot be written: {error}.", path.display());
    Cells::new(args.cells).map_err(|e| format!("--cells: {e}."))?;
    let last = if args.same_ports { 0 } else { args.nodes - 1 };
    for (flag, port) in [("--http-port", args.http_port), ("--quic-port", args.quic_port)] {
        if port == 0 || port.checked_add(last).is_none() {
            return Err(format!(
                "{flag} {port}: choose one so that all {} nodes' ports are from 1 to 65535.",
                args.nodes
            ));
        }
    }
    if args.same_ports && args.nodes > 1 && !args.host.contains(NUMBER) {
        return Err(format!(
            "--same-ports: nodes with the same ports need hosts of their own; put {NUMBER} into --host."
        ));
    }
    match files::list(dir) {
        Ok(Some(names)) if !names.is_empty() => {
            return Err(format!(
                "{} is not empty; choose another --dir: what is there may be a cluster's keys, and is not touched.",
                dir.display()
            ));
        }
        Ok(_) => {}
        Err(error) => return Err(failed(dir, error)),
    }

    let cluster = ClusterId(u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64()));
    let operator_token = new_token(Principal::Operator, entropy);
    let members: Vec<Member> = (1..=args.nodes).map(|n| member(args, n)).collect();
    let founding = Founding {
        format: FORMAT,
        cluster,
        founded_at: now_ms,
        cells: Cells::new(args.cells).map_err(|e| format!("--cells: {e}."))?,
        replicas: if args.nodes >= REPLICAS { REPLICAS } else { 1 },
        members,
        operator_token_hash: token_hash(&operator_token),
    };
    founding.check().map_err(|e| format!("--host or --nodes: {e}."))?;
    let authority = Authority::create(cluster, now_ms).map_err(|e| e.to_string())?;
    // Everything that can be refused has been; from here on it is written.
    let issued: Vec<_> = (1..=args.nodes)
        .map(|n| authority.issue(NodeId(n), &hosts(args, n), now_ms).map_err(|e| format!("--host or --san: {e}")))
        .collect::<Result<_, _>>()?;
    let write = |path: &Path, text: &str, mode: u32| {
        files::create(path, text.as_bytes(), mode).map_err(|error| failed(path, error))
    };
    files::make_dir(dir).map_err(|error| failed(dir, error))?;
    write(&dir.join("ca.pem"), &authority.cert_pem, files::PUBLIC)?;
    write(&dir.join("ca.key"), &authority.key_pem, files::SECRET)?;
    let record = serde_json::to_string_pretty(&founding).map_err(|e| e.to_string())?;
    for (n, certificate) in (1..=args.nodes).zip(issued) {
        let node = node_dir(dir, n);
        files::make_dir(&node).map_err(|error| failed(&node, error))?;
        write(&node.join("ca.pem"), &authority.cert_pem, files::PUBLIC)?;
        write(&node.join("node.pem"), &certificate.cert_pem, files::PUBLIC)?;
        write(&node.join("node.key"), &certificate.key_pem, files::SECRET)?;
        write(&node.join("founding.json"), &record, files::PUBLIC)?;
        write(&node.join("node.toml"), &annotated(&decided(args, n)), files::PUBLIC)?;
        let data = node.join("data");
        grant_permit(&data, cluster, NodeId(n)).map_err(|error| failed(&data, error))?;
    }
    Ok(Made { founding, operator_token })
}

/// Where a node's files are.
pub fn node_dir(dir: &Path, n: u16) -> PathBuf {
    dir.join(format!("n{n}"))
}

fn numbered(template: &str, n: u16) -> String {
    template.replace(NUMBER, &n.to_string())
}

fn ports(args: &InitArgs, n: u16) -> (u16, u16) {
    let step = if args.same_ports { 0 } else { n - 1 };
    (args.http_port + step, args.quic_port + step)
}

/// An IPv6 address stands in brackets where a port follows.
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_string() }
}

fn member(args: &InitArgs, n: u16) -> Member {
    let host = bracketed(&numbered(&args.host, n));
    let (http, quic) = ports(args, n);
    let scheme = if args.tls { "https" } else { "http" };
    Member {
        id: NodeId(n),
        quic: format!("{host}:{quic}"),
        http: format!("{scheme}://{host}:{http}"),
        zone: String::new(),
    }
}

fn hosts(args: &InitArgs, n: u16) -> Vec<String> {
    std::iter::once(&args.host).chain(&args.sans).map(|template| numbered(template, n)).collect()
}

fn decided(args: &InitArgs, n: u16) -> BTreeMap<&'static str, String> {
    let (http, quic) = ports(args, n);
    let listen = bracketed(&args.listen.to_string());
    let mut decided = BTreeMap::from([
        ("node", n.to_string()),
        ("listen.http", format!("{listen}:{http}")),
        ("listen.quic", format!("{listen}:{quic}")),
    ]);
    if args.tls {
        decided.insert("tls.http", "true".into());
    }
    decided
}

fn as_json(args: &InitArgs, made: &Made) -> String {
    let nodes: Vec<_> = made
        .founding
        .members
        .iter()
        .map(|m| json!({"id": m.id, "config": node_dir(&args.dir, m.id.0).join("node.toml"), "http": m.http, "quic": m.quic}))
        .collect();
    let all = json!({
        "cluster": made.founding.cluster,
        "operator_token": made.operator_token,
        "ca": args.dir.join("ca.pem"),
        "nodes": nodes,
    });
    format!("{all}\n")
}

fn as_text(args: &InitArgs, made: &Made) -> String {
    let dir = args.dir.display();
    let mut text = format!(
        "Cluster {} is ready to start: {} nodes, {} cells, {} replicas of each.\n\n\
         Operator token (shown only now; keep it safe):\n  {}\n\nStart each node:\n",
        made.founding.cluster,
        made.founding.members.len(),
        made.founding.cells.count(),
        made.founding.replicas,
        made.operator_token,
    );
    for member in &made.founding.members {
        text.push_str(&format!("  stakehold serve --config {dir}/{}/node.toml\n", member.id));
    }
    let first = made.founding.members.first().map_or("", |m| m.http.as_str());
    text.push_str(&format!(
        "\nThen create the first account:\n  export STAKEHOLD_URL={first} STAKEHOLD_CA={dir}/ca.pem STAKEHOLD_TOKEN=<the token>\n  \
         stakehold ctl cluster status\n  stakehold ctl accounts create --name Ada\n\n\
         A node on another machine needs only its own directory ({dir}/nK). Keep {dir}/ca.key offline: whoever has it can add nodes.\n"
    ));
    text
}

#[cfg(test)]
mod tests;
