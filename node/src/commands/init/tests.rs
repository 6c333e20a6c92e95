//! What `init` writes, and what it refuses.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;
use crate::{
    config::Config,
    identity::{DataDir, Standing},
    pki::Credentials,
};

const NOW: u64 = 1_790_000_000_000;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    init: InitArgs,
}

fn args(dir: &Path, flags: &str) -> InitArgs {
    let line = ["init", "--dir", dir.to_str().unwrap()].into_iter().chain(flags.split_whitespace());
    Line::try_parse_from(line).unwrap().init
}

fn text(path: &Path) -> Vec<u8> {
    files::read(path).unwrap().expect("written")
}

#[test]
fn each_node_can_start_from_its_directory_alone_and_keys_are_private() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("cluster");
    let made = make(&args(&dir, "--nodes 3 --san bets.example.org"), NOW, &SystemEntropy).unwrap();
    assert_eq!((made.founding.replicas, made.founding.members.len()), (3, 3));
    for n in 1..=3u16 {
        let node = node_dir(&dir, n);
        let (config, _) = Config::load(&node.join("node.toml"), std::iter::empty(), &[]).unwrap();
        assert_eq!(config.node, NodeId(n));
        assert_eq!(config.listen_http.to_string(), format!("127.0.0.1:{}", 8080 + n));
        let founding = Founding::load(&config.founding, config.node).unwrap();
        assert_eq!(founding, made.founding, "all agree");
        assert_eq!(founding.operator_token_hash, token_hash(&made.operator_token));
        let tls = &config.tls;
        let credentials = Credentials::from_pem(&text(&tls.ca), &text(&tls.cert), &text(&tls.key)).unwrap();
        credentials.check(config.node, founding.cluster, NOW).unwrap();
        let data = DataDir::open(&config.data, founding.cluster, config.node).unwrap();
        assert_eq!(data.standing(), Standing::MayFound);
        assert_eq!(std::fs::metadata(&tls.key).unwrap().permissions().mode() & 0o777, 0o600);
        for name in files::list(&node).unwrap().unwrap().into_iter().filter(|n| n != "data") {
            let found = String::from_utf8(text(&node.join(&name))).unwrap();
            assert!(!found.contains(&made.operator_token), "{name} holds the token");
        }
    }
    assert_eq!(std::fs::metadata(dir.join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn hosts_and_ports_follow_their_templates() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("c");
    let flags =
        "--nodes 4 --host n{node}.example.org --listen 0.0.0.0 --same-ports --http-port 80 --quic-port 443 --tls";
    let args = args(&dir, flags);
    let made = make(&args, NOW, &SystemEntropy).unwrap();
    let second = &made.founding.members[1];
    assert_eq!((second.quic.as_str(), second.http.as_str()), ("n2.example.org:443", "https://n2.example.org:80"));
    assert_eq!(made.founding.replicas, 3);
    let (config, _) = Config::load(&dir.join("n2/node.toml"), std::iter::empty(), &[]).unwrap();
    assert!(config.tls_http && config.listen_quic.to_string() == "0.0.0.0:443");
    let printed = as_text(&args, &made);
    assert!(printed.contains(&made.operator_token) && printed.contains("n2/node.toml"));
    let json: serde_json::Value = serde_json::from_str(&as_json(&args, &made)).unwrap();
    assert_eq!(json["operator_token"], made.operator_token);
    assert_eq!(json["nodes"][1]["http"], "https://n2.example.org:80");
}

#[test]
fn a_cluster_has_one_node_or_at_least_three() {
    let line = |nodes| Line::try_parse_from(["init", "--dir", "d", "--nodes", nodes]).map(|line| line.init.nodes);
    for (given, nodes) in [("1", 1), ("3", 3), ("4", 4), ("99", 99)] {
        assert_eq!(line(given).unwrap(), nodes);
    }
    for (given, says) in
        [("2", "choose 1, or 3 or more"), ("0", "from 3 to 99"), ("100", "from 3 to 99"), ("x", "from")]
    {
        let error = line(given).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_examples_of_the_help_can_be_copied() {
    use clap::Args as _;
    let help = InitArgs::augment_args(clap::Command::new("init")).render_long_help().to_string();
    let example = "--host 'n{node}.example.org' \\\n      --listen 0.0.0.0 --same-ports\n";
    assert!(format!("{help}\n").contains(example), "{help}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("c");
    for (flags, says) in [
        ("--cells 12", "--cells: 12 cells: choose a power of two between 1 and 1024."),
        ("--http-port 65535", "--http-port 65535: choose one so that all 3 nodes' ports are from 1 to 65535."),
        ("--quic-port 0", "--quic-port 0: choose one so that all 3 nodes' ports are from 1 to 65535."),
        ("--same-ports", "--same-ports: nodes with the same ports need hosts of their own; put {node} into --host."),
        (
            "--host a_b_%",
            "--host or --san: \"a_b_%\" is not a host name or an IP address that a certificate can carry.",
        ),
    ] {
        assert_eq!(make(&args(&dir, flags), NOW, &SystemEntropy).unwrap_err(), says);
        assert!(!dir.exists(), "{flags}");
    }
    files::make_dir(&dir).unwrap();
    files::create(&dir.join("ca.key"), b"precious", files::SECRET).unwrap();
    let error = make(&args(&dir, ""), NOW, &SystemEntropy).unwrap_err();
    let shown = dir.display();
    let says = format!(
        "{shown} is not empty; choose another --dir: what is there may be a cluster's keys, and is not touched."
    );
    assert_eq!(error, says);
    assert_eq!(text(&dir.join("ca.key")), b"precious");
    let file = make(&args(&dir.join("ca.key"), ""), NOW, &SystemEntropy).unwrap_err();
    assert!(file.contains("cannot be written"), "{file}");
}
