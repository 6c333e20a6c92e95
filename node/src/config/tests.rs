//! What a configuration may say, who wins, and what is said about mistakes.

use super::*;

fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Config, String> {
    let overrides: Vec<Override> = overrides
        .iter()
        .map(|(key, value)| Override { key: (*key).into(), value: (*value).into(), origin: "a flag".into() })
        .collect();
    Config::parse(text, "node.toml", Path::new("/etc/stakehold"), &overrides).map_err(|e| e.to_string())
}

#[test]
fn defaults_then_file_then_environment_then_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    files::create(
        &file,
        b"node = 2\nlog.level = \"warn\"\n[limits]\nconnections = 10\nin_flight = 20\n",
        files::PUBLIC,
    )
    .unwrap();
    let environment = [
        ("STAKEHOLD_LIMITS_IN_FLIGHT", "30"),
        ("STAKEHOLD_LOG_LEVEL", "debug"),
        ("STAKEHOLD_PEERS_N3", "three.example.org:9080"),
        ("STAKEHOLD_TOKEN", "a client's"),
        ("STAKEHOLD_PORT", "tcp://10.0.0.1:80"),
        ("PATH", "/bin"),
    ];
    let environment = environment.into_iter().map(|(k, v)| (k.to_string(), v.to_string()));
    let flag = Override { key: "log.level".into(), value: "error".into(), origin: "--log-level".into() };
    let (config, unknown) = Config::load(&file, environment, &[flag]).unwrap();
    assert_eq!(unknown, ["STAKEHOLD_PORT"]);
    assert_eq!(config.node, NodeId(2));
    assert_eq!((config.limits.connections, config.limits.in_flight), (10, 30));
    assert_eq!(config.log, Log { format: LogFormat::Text, level: "error".into() });
    assert_eq!(config.peers[&NodeId(3)], "three.example.org:9080");
    assert_eq!(config.data, dir.path().join("data"), "relative to the file");
    assert_eq!(config.limits.account_rate, 2_000, "the default");
}

#[test]
fn paths_are_relative_to_the_file_unless_absolute() {
    let config =
        parse("node = 1\ndata = \"../d\"\ntls.key = \"/run/secrets/key\"\n", &[("tls.ca", "ca/ca.pem")]).unwrap();
    assert_eq!(config.data, Path::new("/etc/stakehold/../d"));
    assert_eq!(config.tls.key, Path::new("/run/secrets/key"));
    assert_eq!(config.tls.ca, Path::new("/etc/stakehold/ca/ca.pem"));
}

#[test]
fn mistakes_are_named_with_the_next_step() {
    /// File, overrides, what is said.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        ("nod = 1", &[], "node.toml sets `nod`, which is no setting; did you mean `node`?"),
        (
            "node = 1\n[listen]\nhtpp = \"a\"",
            &[],
            "node.toml sets `listen.htpp`, which is no setting; did you mean `listen.http`?",
        ),
        (
            "node = 1\n[lisen]\nhttp = \"a\"",
            &[],
            "node.toml sets `lisen.http`, which is no setting; did you mean `listen.http`?",
        ),
        (
            "node = 1\nwings = 2",
            &[],
            "node.toml sets `wings`, which is no setting; `stakehold serve --help` lists them.",
        ),
        ("node = 1\nlisten = 2", &[], "node.toml sets `listen` to 2; it has to be a table."),
        ("node = 0", &[], "node.toml sets `node` to 0; it has to be a whole number from 1 to 65534."),
        ("node = 1.5", &[], "node.toml sets `node` to 1.5; it has to be a whole number from 1 to 65534."),
        ("node = \"1\"", &[], "node.toml sets `node` to \"1\"; it has to be a whole number from 1 to 65534."),
        ("", &[], "`node` is missing: set it in the configuration file, as STAKEHOLD_NODE or with --node."),
        ("node = 1\nlog.format = \"xml\"", &[], "node.toml sets `log.format` to \"xml\"; it has to be text or json."),
        ("node = 1\ndata = \"\"", &[], "node.toml sets `data` to \"\"; it has to be a path in quotes."),
        ("node = 1", &[("tls.http", "yes")], "a flag sets `tls.http` to \"yes\"; it has to be true or false."),
        ("node = 1", &[("tls.htp", "true")], "a flag sets `tls.htp`, which is no setting; did you mean `tls.http`?"),
        (
            "node = 1\n[peers]\ntwo = \"h:1\"",
            &[],
            "node.toml sets `peers.two` to \"h:1\"; it has to be named after a node: n1, n2, ….",
        ),
        ("node = 1\n[peers]\nn2 = \"h\"", &[], "node.toml sets `peers.n2` to \"h\"; it has to be \"host:port\"."),
        ("node = 1", &[("peers.n2", "h:0")], "a flag sets `peers.n2` to \"h:0\"; it has to be \"host:port\"."),
        (
            "node = 1\nlisten.http = \"localhost\"",
            &[],
            "`listen.http` (localhost) has to be an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080.",
        ),
        (
            "node = 1\nraft.heartbeat_ms = 200",
            &[],
            "`raft.election_min_ms` (250) has to be at least twice raft.heartbeat_ms.",
        ),
        (
            "node = 1\nraft.election_min_ms = 500",
            &[],
            "`raft.election_max_ms` (500) has to be above raft.election_min_ms.",
        ),
        (
            "node = 1\nmesh.bulk_queue_bytes = 1024",
            &[],
            "`mesh.frame_bytes` (16777216) has to be no larger than any mesh queue.",
        ),
    ];
    for (text, overrides, says) in cases {
        assert_eq!(parse(text, overrides).unwrap_err(), *says, "{text}");
    }
    assert!(parse("node = ", &[]).unwrap_err().starts_with("node.toml is not valid TOML: "));
    assert!(parse("node = 1\nnode = 2", &[]).unwrap_err().contains("duplicate key"));
    let missing = Config::load(Path::new("/nowhere/n.toml"), std::iter::empty(), &[]).unwrap_err().to_string();
    let says = "The configuration /nowhere/n.toml cannot be read (there is no such file); `stakehold init` writes one for each node.";
    assert_eq!(missing, says);
}

#[test]
fn the_annotated_file_says_what_was_decided_and_nothing_else() {
    let decided = BTreeMap::from([("node", "3".to_string()), ("listen.http", "0.0.0.0:80".into())]);
    let text = annotated(&decided);
    let config = parse(&text, &[]).unwrap();
    assert_eq!(config, parse("node = 3\nlisten.http = \"0.0.0.0:80\"", &[]).unwrap());
    for key in KEYS {
        assert!(text.contains(key.meaning) && text.contains(&key.variable()), "{}", key.path);
    }
    // Every line that is commented out is the default, and would be valid.
    let all = text.replace("# n2 = \"10.0.0.2:9080\"", "n2 = \"10.0.0.2:9080\"");
    let uncommented: String = all
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(k, _)| !k.contains(' ')) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(
        parse(&uncommented, &[]).unwrap(),
        Config { peers: [(NodeId(2), "10.0.0.2:9080".into())].into(), ..config }
    );
}
