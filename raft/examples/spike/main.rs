//! What does a durable operation over two cells cost? Three processes over real QUIC and real
//! files; clients in closed loops; an operation is a commit in one cell, a message by its outbox, a
//! commit in another cell, and an acknowledgement that trims the outbox.
//!
//! `cargo run --release -p stakehold-raft --example spike [-- --groups 1,16 --clients 8,64 --secs 5]`
//!
//! `--dir` says where the logs are (a memory file system shows what is left without the disk's
//! waits); a row with 0 clients shows what idle groups cost, in microseconds of CPU a second.

mod machine;
mod net;
mod node;

use std::{
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const NODES: u16 = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "node") {
        node::main(&args[1..]);
    } else {
        parent(&args);
    }
}

fn option(args: &[String], name: &str, default: &str) -> String {
    let at = args.iter().position(|a| a == name);
    at.and_then(|at| args.get(at + 1).cloned()).unwrap_or_else(|| default.to_owned())
}

fn list(args: &[String], name: &str, default: &str) -> Vec<u64> {
    option(args, name, default).split(',').map(|n| n.parse().expect("a number")).collect()
}

struct Node {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Node {
    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the node lives");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).expect("the node lives") > 0, "a node ended");
        line.trim().to_owned()
    }
}

fn parent(args: &[String]) {
    let secs = option(args, "--secs", "4");
    let extra = option(args, "--set", "");
    println!("groups clients    ops/s  us/op  fsync/op  frame/op  msg/op  cmd/entry  entry/op   p50 ms   p99 ms");
    for groups in list(args, "--groups", "1,4,16,64") {
        let dir = match option(args, "--dir", "") {
            dir if dir.is_empty() => std::env::temp_dir(),
            dir => PathBuf::from(dir),
        };
        let dir = dir.join(format!("spike-{}-{groups}", std::process::id()));
        let mut nodes = start(groups, &dir, &extra);
        for clients in list(args, "--clients", "8,64,512") {
            for node in &mut nodes {
                node.say(&format!("run {clients} {secs}"));
            }
            let answers: Vec<String> = nodes.iter_mut().map(Node::hear).collect();
            report(groups, clients, secs.parse().expect("seconds"), &answers);
        }
        for mut node in nodes {
            drop(node.stdin);
            node.child.wait().expect("it was started");
        }
        std::fs::remove_dir_all(&dir).expect("the nodes wrote here");
    }
}

fn start(groups: u64, dir: &PathBuf, extra: &str) -> Vec<Node> {
    let ports: Vec<u16> = (0..NODES)
        .map(|_| UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port").port())
        .collect();
    let cert = rcgen::generate_simple_self_signed(vec!["spike".into()]).expect("a certificate");
    std::fs::create_dir_all(dir).expect("a directory for temporary files");
    std::fs::write(dir.join("cert"), cert.cert.der()).expect("it was created");
    std::fs::write(dir.join("key"), cert.signing_key.serialize_der()).expect("it was created");
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let mut nodes: Vec<Node> = (1..=NODES)
        .map(|n| {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["node", &n.to_string(), &ports, &groups.to_string(), dir.to_str().expect("UTF-8"), extra])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this program starts");
            let stdin = child.stdin.take().expect("piped");
            let stdout = BufReader::new(child.stdout.take().expect("piped"));
            Node { child, stdin, stdout }
        })
        .collect();
    for node in &mut nodes {
        assert_eq!(node.hear(), "ready");
    }
    nodes
}

fn report(groups: u64, clients: u64, secs: f64, answers: &[String]) {
    let mut sums = [0f64; 7];
    let mut latencies: Vec<u64> = Vec::new();
    for answer in answers {
        let (head, tail) = answer.split_once('|').expect("figures and latencies");
        for (sum, n) in sums.iter_mut().zip(head.split_whitespace()) {
            *sum += n.parse::<f64>().expect("a number");
        }
        latencies.extend(tail.split_whitespace().map(|n| n.parse::<u64>().expect("microseconds")));
    }
    latencies.sort_unstable();
    let at = |q: f64| latencies.get(((latencies.len() as f64 - 1.0) * q) as usize).map_or(0.0, |us| *us as f64 / 1e3);
    let [ops, cpu_us, fsyncs, frames, messages, entries, commands] = sums;
    println!(
        "{groups:6} {clients:7} {:8.0} {:6.1} {:9.3} {:9.3} {:7.2} {:10.2} {:9.3} {:8.2} {:8.2}",
        ops / secs,
        if clients == 0 { cpu_us / secs } else { cpu_us / ops },
        fsyncs / ops,
        frames / ops,
        messages / ops,
        commands / entries,
        entries / ops,
        at(0.5),
        at(0.99),
    );
}
