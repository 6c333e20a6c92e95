//! Every setting a node has: its name, kind, default and meaning, in one table. The file, the
//! environment, the flags, `--help` and the messages about typing errors are all made from it.

use std::{collections::BTreeMap, sync::LazyLock};

use stakehold_actors::domain::format;

/// What a setting's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Relative to the directory of the configuration file.
    Path,
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `table.name`, as in the file.
    pub path: &'static str,
    pub kind: Kind,
    /// As one would write it in the environment; `None`: it has to be given.
    pub default: Option<&'static str>,
    pub meaning: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default: Some(default), meaning }
}

const fn bytes(path: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key(path, Kind::Integer { min: 1 << 10, max: 1 << 40 }, default, meaning)
}

const fn count(path: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key(path, Kind::Integer { min: 1, max: 1_000_000_000 }, default, meaning)
}

/// The settings, in the order in which they are documented.
pub const KEYS: &[Key] = &[
    Key {
        path: "node",
        kind: Kind::Integer { min: 1, max: 65_534 },
        default: None,
        meaning: "This node's number, as in the founding record and its certificate",
    },
    key("data", Kind::Path, "data", "Directory of the node's data; only one process may use it"),
    key("founding", Kind::Path, "founding.json", "The founding record that `stakehold init` wrote"),
    key("listen.http", Kind::Text, "127.0.0.1:8080", "Address and port of the HTTP API"),
    key("listen.quic", Kind::Text, "127.0.0.1:9080", "Address and UDP port for other nodes and QUIC clients"),
    key("tls.ca", Kind::Path, "ca.pem", "The cluster's CA certificate"),
    key("tls.cert", Kind::Path, "node.pem", "This node's certificate"),
    key("tls.key", Kind::Path, "node.key", "This node's private key"),
    key("tls.http", Kind::Boolean, "false", "Serve the HTTP API with TLS (QUIC always has it)"),
    bytes("limits.body_bytes", "1048576", "Largest body of a request; larger ones get 413"),
    count("limits.connections", "8192", "Client connections at a time, HTTP and QUIC each"),
    count("limits.in_flight", "16384", "Requests being worked on at a time; more get 503 with retry-after"),
    count("limits.in_flight_per_connection", "1024", "The same for one connection"),
    count("limits.account_rate", "2000", "Requests and orders per second of one account in the long run; more get 429"),
    count("limits.account_burst", "4000", "The same at once"),
    bytes("mesh.frame_bytes", "16777216", "Largest message between nodes; the same on all of them"),
    bytes("mesh.raft_queue_bytes", "67108864", "Replication traffic queued per peer"),
    bytes("mesh.request_queue_bytes", "16777216", "Forwarded requests queued per peer"),
    bytes("mesh.bulk_queue_bytes", "33554432", "Snapshots queued per peer"),
    key(
        "raft.heartbeat_ms",
        Kind::Integer { min: 10, max: 10_000 },
        "100",
        "Between two heartbeats of a leader, milliseconds",
    ),
    key(
        "raft.election_min_ms",
        Kind::Integer { min: 30, max: 60_000 },
        "250",
        "A follower that heard nothing for this long, or up to the maximum, stands for election",
    ),
    key("raft.election_max_ms", Kind::Integer { min: 40, max: 60_000 }, "500", "See raft.election_min_ms"),
    key(
        "snapshot.every_entries",
        Kind::Integer { min: 10, max: 100_000_000 },
        "50000",
        "Log entries of a cell between two snapshots, at most: sooner when the log is as large as all snapshots",
    ),
    key(
        "snapshot.keep_entries",
        Kind::Integer { min: 10, max: 100_000_000 },
        "10000",
        "Log entries kept behind a snapshot, so that a node that was away needs no snapshot",
    ),
    key(
        "wal.segment_bytes",
        Kind::Integer { min: 1 << 20, max: 1 << 30 },
        "16777216",
        "Size of one file of the write-ahead log",
    ),
    key(
        "wal.reserve_bytes",
        Kind::Integer { min: 1 << 20, max: 1 << 40 },
        "67108864",
        "Disk kept back for cancels and settlement when the disk is full",
    ),
    key(
        "format",
        Kind::Integer { min: format::FIRST as i64, max: format::NEWEST as i64 },
        "3",
        "Newest format of what cells write and do that this node says it knows. Cells are raised to it when all \
         nodes do, and no older program can read them then: hold it at the old one until you are sure of an upgrade",
    ),
    key(
        "drain_ms",
        Kind::Integer { min: 0, max: 600_000 },
        "10000",
        "How long a stopping node finishes what is in flight",
    ),
    key("log.format", Kind::Word(&["text", "json"]), "text", "How log lines look"),
    key(
        "log.level",
        Kind::Text,
        "info",
        "Which lines: error, warn, info, debug, or a filter such as info,stakehold::mesh=debug",
    ),
];

/// The table whose keys are node names: `n2 = "host:port"` replaces a peer's address in the
/// founding record.
pub const PEERS: &str = "peers";

impl Key {
    /// The environment variable: `listen.http` is `STAKEHOLD_LISTEN_HTTP`.
    pub fn variable(&self) -> String {
        variable(self.path)
    }

    /// The flag, without dashes: `listen.http` is `--listen-http`.
    pub fn flag(&self) -> &'static str {
        static FLAGS: LazyLock<BTreeMap<&str, String>> =
            LazyLock::new(|| KEYS.iter().map(|key| (key.path, key.path.replace(['.', '_'], "-"))).collect());
        FLAGS.get(self.path).map_or(self.path, String::as_str)
    }

    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }
}

/// The environment variable of a dotted path.
pub fn variable(path: &str) -> String {
    format!("STAKEHOLD_{}", path.replace('.', "_").to_uppercase())
}

/// The valid name that is most like a wrong one, if any is at all.
pub fn nearest<'a>(wrong: &str, valid: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_string();
    valid
        .map(|name| (distance(wrong, name).min(distance(&last(wrong), &last(name)) + 1), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2))
        .map(|(_, name)| name)
}

/// Letters to insert, delete or exchange to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let here = if x == *y { corner } else { 1 + corner.min(row[j]).min(row[j + 1]) };
            corner = row[j + 1];
            row[j + 1] = here;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant() {
        let paths = || KEYS.iter().map(|k| k.path);
        for (wrong, meant) in [
            ("listen.htp", Some("listen.http")),
            ("listen.qiuc", Some("listen.quic")),
            ("nod", Some("node")),
            ("limits.body_byte", Some("limits.body_bytes")),
            ("limit.body_bytes", Some("limits.body_bytes")),
            ("log.colour_of_the_walls", None),
        ] {
            assert_eq!(nearest(wrong, paths()), meant, "{wrong}");
        }
    }

    #[test]
    fn a_node_says_that_it_knows_what_it_knows() {
        assert_eq!(Key::find("format").unwrap().default, Some(format::NEWEST.to_string().as_str()));
    }

    #[test]
    fn names_are_unique_in_every_form() {
        for (i, a) in KEYS.iter().enumerate() {
            for b in &KEYS[i + 1..] {
                assert!(a.variable() != b.variable() && a.flag() != b.flag(), "{} {}", a.path, b.path);
            }
        }
    }
}
