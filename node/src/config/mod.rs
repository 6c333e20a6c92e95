//! A node's configuration: defaults, then the file, then the environment, then the flags.
//!
//! [`keys`] is the one table of all settings. What must never live here: what the whole cluster has
//! to agree on (members, cells, replicas); that is in the founding record.

pub mod keys;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use stakehold_raft::NodeId;
use toml::{Table, Value};

use self::keys::{KEYS, Key, Kind, PEERS, nearest, variable};
use crate::{files, mesh};

/// Variables of the other commands, and those that are no settings.
const OTHER_VARIABLES: [&str; 6] = ["CONFIG", "URL", "TOKEN", "CA", "DATA_DIR", "INFO"];

/// What is wrong with a configuration, as a sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("The configuration {path} cannot be read ({error}); `stakehold init` writes one for each node.")]
    Read { path: String, error: String },
    #[error("{path} is not valid TOML: {error}")]
    Syntax { path: String, error: String },
    #[error("{origin} sets `{key}`, which is no setting; {}", guess(.nearest.as_deref()))]
    Unknown { origin: String, key: String, nearest: Option<String> },
    #[error("{origin} sets `{key}` to {value}; it has to be {expected}.")]
    Value { origin: String, key: String, value: String, expected: String },
    #[error("`{key}` is missing: set it in the configuration file, as {variable} or with --{flag}.")]
    Missing { key: String, variable: String, flag: String },
    #[error("`{key}` ({value}) has to be {expected}.")]
    Conflict { key: String, value: String, expected: String },
}

fn guess(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`stakehold serve --help` lists them.".into(),
    }
}

/// Everything a node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub node: NodeId,
    pub data: PathBuf,
    pub founding: PathBuf,
    pub listen_http: SocketAddr,
    pub listen_quic: SocketAddr,
    pub tls: TlsFiles,
    /// Whether HTTP has TLS.
    pub tls_http: bool,
    /// Addresses that replace those of the founding record.
    pub peers: BTreeMap<NodeId, String>,
    pub limits: Limits,
    pub mesh: mesh::Limits,
    pub raft: Raft,
    pub snapshot: Snapshot,
    pub wal: Wal,
    /// The newest format of what cells write and do that this node says it knows.
    pub format: u16,
    pub drain: Duration,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What clients may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Limits {
    pub body_bytes: usize,
    pub connections: usize,
    pub in_flight: usize,
    pub in_flight_per_connection: u32,
    pub account_rate: u32,
    pub account_burst: u32,
}

/// Timing of replication, milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Raft {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    pub every_entries: u64,
    pub keep_entries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Wal {
    pub segment_bytes: u64,
    pub reserve_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// The same as it stands in the merged table.
#[derive(Deserialize)]
struct Raw {
    node: u16,
    data: PathBuf,
    founding: PathBuf,
    listen: RawListen,
    tls: RawTls,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    limits: Limits,
    mesh: RawMesh,
    raft: Raft,
    snapshot: Snapshot,
    wal: Wal,
    format: u16,
    drain_ms: u64,
    log: Log,
}

#[derive(Deserialize)]
struct RawListen {
    http: String,
    quic: String,
}

#[derive(Deserialize)]
struct RawTls {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    http: bool,
}

#[derive(Deserialize)]
struct RawMesh {
    frame_bytes: usize,
    raft_queue_bytes: usize,
    request_queue_bytes: usize,
    bulk_queue_bytes: usize,
}

/// A value from outside the file: `path` (dotted), text, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub key: String,
    pub value: String,
    pub origin: String,
}

impl Config {
    /// Reads the file, and the process's environment and flags over it. Also gives the names of
    /// `STAKEHOLD_…` variables that mean nothing, for the log.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn load(
        file: &Path,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[Override],
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let path = file.display().to_string();
        let read = |error: String| ConfigError::Read { path: path.clone(), error };
        let text = files::read(file)
            .map_err(|e| read(e.to_string()))?
            .ok_or_else(|| read("there is no such file".into()))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| read("it is not text".into())))?;
        let base = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (mut overrides, unknown) = from_environment(environment);
        overrides.extend_from_slice(flags);
        Ok((Self::parse(&text, &path, base, &overrides)?, unknown))
    }

    /// The same from text. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn parse(text: &str, origin: &str, base: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let given: Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::Syntax { path: origin.into(), error: e.to_string() })?;
        let mut merged = Table::new();
        for key in KEYS {
            if let Some(default) = key.default {
                put(&mut merged, key.path, value(key, default, "The default")?);
            }
        }
        take_table(&given, "", origin, &mut merged)?;
        for o in overrides {
            let parsed = match (Key::find(&o.key), o.key.strip_prefix("peers.")) {
                (Some(key), _) => value(key, &o.value, &o.origin)?,
                (None, Some(peer)) => peer_value(peer, &Value::String(o.value.clone()), &o.origin)?,
                (None, None) => return Err(unknown(&o.key, &o.origin)),
            };
            put(&mut merged, &o.key, parsed);
        }
        for key in KEYS {
            if get(&merged, key.path).is_none() {
                return Err(ConfigError::Missing {
                    key: key.path.into(),
                    variable: key.variable(),
                    flag: key.flag().into(),
                });
            }
        }
        let raw: Raw = Value::Table(merged)
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Syntax { path: origin.into(), error: e.to_string() })?;
        Self::check(raw, base)
    }

    fn check(raw: Raw, base: &Path) -> Result<Self, ConfigError> {
        let wrong = |key: &str, value: String, expected: &str| ConfigError::Conflict {
            key: key.into(),
            value,
            expected: expected.into(),
        };
        let address = |key: &str, text: &str| {
            text.parse::<SocketAddr>().map_err(|_| {
                wrong(key, text.into(), "an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080")
            })
        };
        if raw.raft.election_min_ms < 2 * raw.raft.heartbeat_ms {
            let value = raw.raft.election_min_ms.to_string();
            return Err(wrong("raft.election_min_ms", value, "at least twice raft.heartbeat_ms"));
        }
        if raw.raft.election_max_ms <= raw.raft.election_min_ms {
            return Err(wrong(
                "raft.election_max_ms",
                raw.raft.election_max_ms.to_string(),
                "above raft.election_min_ms",
            ));
        }
        let smallest = raw.mesh.raft_queue_bytes.min(raw.mesh.request_queue_bytes).min(raw.mesh.bulk_queue_bytes);
        if raw.mesh.frame_bytes > smallest {
            return Err(wrong("mesh.frame_bytes", raw.mesh.frame_bytes.to_string(), "no larger than any mesh queue"));
        }
        let mut peers = BTreeMap::new();
        for (name, address) in raw.peers {
            if let Some(node) = peer_id(&name) {
                peers.insert(node, address);
            }
        }
        Ok(Self {
            node: NodeId(raw.node),
            data: base.join(raw.data),
            founding: base.join(raw.founding),
            listen_http: address("listen.http", &raw.listen.http)?,
            listen_quic: address("listen.quic", &raw.listen.quic)?,
            tls: TlsFiles { ca: base.join(raw.tls.ca), cert: base.join(raw.tls.cert), key: base.join(raw.tls.key) },
            tls_http: raw.tls.http,
            peers,
            limits: raw.limits,
            mesh: mesh::Limits {
                frame_bytes: raw.mesh.frame_bytes,
                raft_queue_bytes: raw.mesh.raft_queue_bytes,
                request_queue_bytes: raw.mesh.request_queue_bytes,
                bulk_queue_bytes: raw.mesh.bulk_queue_bytes,
            },
            raft: raw.raft,
            snapshot: raw.snapshot,
            wal: raw.wal,
            format: raw.format,
            drain: Duration::from_millis(raw.drain_ms),
            log: raw.log,
        })
    }
}

/// The settings among the variables, and the `STAKEHOLD_…` ones that are none. The latter are no
/// error: orchestrators set variables of that form for their own reasons.
fn from_environment(environment: impl Iterator<Item = (String, String)>) -> (Vec<Override>, Vec<String>) {
    let (mut overrides, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("STAKEHOLD_") else { continue };
        let peer = rest.strip_prefix("PEERS_").map(|p| format!("{PEERS}.{}", p.to_lowercase()));
        let key = KEYS.iter().find(|k| k.variable() == name).map(|k| k.path.to_string());
        match key.or(peer) {
            Some(key) => overrides.push(Override { key, value, origin: name }),
            None if OTHER_VARIABLES.contains(&rest) => {}
            None => unknown.push(name),
        }
    }
    overrides.sort_by(|a, b| a.key.cmp(&b.key));
    unknown.sort();
    (overrides, unknown)
}

fn take_table(given: &Table, prefix: &str, origin: &str, merged: &mut Table) -> Result<(), ConfigError> {
    for (name, found) in given {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if prefix == PEERS {
            put(merged, &path, peer_value(name, found, origin)?);
        } else if let Some(key) = Key::find(&path) {
            put(merged, &path, typed(key, found, origin)?);
        } else {
            let known_table = path == PEERS || KEYS.iter().any(|k| k.path.starts_with(&format!("{path}.")));
            match found {
                Value::Table(table) if known_table => take_table(table, &path, origin, merged)?,
                Value::Table(table) if !table.is_empty() => {
                    // Name a key, not only its table: it says more, and more can be guessed.
                    let inner = table.keys().next().map_or(path.clone(), |k| format!("{path}.{k}"));
                    return Err(unknown(&inner, origin));
                }
                other if known_table => {
                    return Err(ConfigError::Value {
                        origin: origin.into(),
                        key: path,
                        value: other.to_string(),
                        expected: "a table".into(),
                    });
                }
                _ => return Err(unknown(&path, origin)),
            }
        }
    }
    Ok(())
}

fn unknown(key: &str, origin: &str) -> ConfigError {
    let nearest = nearest(key, KEYS.iter().map(|k| k.path)).map(String::from);
    ConfigError::Unknown { origin: origin.into(), key: key.into(), nearest }
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text in quotes".into(),
        Kind::Path => "a path in quotes".into(),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Boolean => "true or false".into(),
        Kind::Word(words) => words.join(" or "),
    }
}

/// Checks a value from the file.
fn typed(key: &Key, found: &Value, origin: &str) -> Result<Value, ConfigError> {
    let fits = match (key.kind, found) {
        (Kind::Text | Kind::Path, Value::String(text)) => !text.is_empty(),
        (Kind::Integer { min, max }, Value::Integer(n)) => (min..=max).contains(n),
        (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Word(words), Value::String(text)) => words.contains(&text.as_str()),
        _ => false,
    };
    if fits {
        return Ok(found.clone());
    }
    let (origin, value) = (origin.to_string(), found.to_string());
    Err(ConfigError::Value { origin, key: key.path.into(), value, expected: expected(key.kind) })
}

/// Makes a value of text from the environment, a flag or the table of defaults.
fn value(key: &Key, text: &str, origin: &str) -> Result<Value, ConfigError> {
    let parsed = match key.kind {
        Kind::Integer { .. } => text.parse().ok().map(Value::Integer),
        Kind::Boolean => text.parse().ok().map(Value::Boolean),
        Kind::Text | Kind::Path | Kind::Word(_) => None,
    };
    typed(key, &parsed.unwrap_or_else(|| Value::String(text.into())), origin)
}

fn peer_id(name: &str) -> Option<NodeId> {
    let digits = name.strip_prefix('n')?;
    digits.parse().ok().filter(|n: &u16| *n > 0 && digits == n.to_string()).map(NodeId)
}

fn peer_value(name: &str, found: &Value, origin: &str) -> Result<Value, ConfigError> {
    let wrong = |expected: &str| ConfigError::Value {
        origin: origin.into(),
        key: format!("{PEERS}.{name}"),
        value: found.to_string(),
        expected: expected.into(),
    };
    if peer_id(name).is_none() {
        return Err(wrong("named after a node: n1, n2, …"));
    }
    match found {
        Value::String(text) if is_host_port(text) => Ok(found.clone()),
        _ => Err(wrong("\"host:port\"")),
    }
}

/// Whether a text can be a host and a port.
pub fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        Some((outer, inner)) => {
            let entry = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = entry {
                put(table, inner, value);
            }
        }
        None => {
            table.insert(path.into(), value);
        }
    }
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((outer, inner)) => get(table.get(outer)?.as_table()?, inner),
        None => table.get(path),
    }
}

/// All settings as an annotated file, with what `init` decided filled in and the rest commented
/// out at its default.
pub fn annotated(decided: &BTreeMap<&str, String>) -> String {
    let mut text = String::from(
        "# A node of a Stakehold cluster. Every setting is here; those behind a # have the value shown.\n\
         # Each can also be set in the environment or by a flag, which win over this file.\n",
    );
    let mut table = "";
    // Keys without a table have to come before the first table.
    let (plain, nested): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|k| !k.path.contains('.'));
    for key in plain.into_iter().chain(nested) {
        let (outer, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if outer != table {
            text.push_str(&format!("\n[{outer}]\n"));
            table = outer;
        }
        text.push_str(&format!("# {}. ({}, --{})\n", key.meaning, variable(key.path), key.flag()));
        let quote = !matches!(key.kind, Kind::Integer { .. } | Kind::Boolean);
        let write = |v: &str| if quote { Value::String(v.into()).to_string() } else { v.to_string() };
        match (decided.get(key.path), key.default) {
            (Some(value), _) => text.push_str(&format!("{name} = {}\n", write(value))),
            (None, default) => text.push_str(&format!("# {name} = {}\n", write(default.unwrap_or_default()))),
        }
    }
    text.push_str(
        "\n# Where a peer is reached, if not where the founding record says.\n[peers]\n# n2 = \"10.0.0.2:9080\"\n",
    );
    text
}

#[cfg(test)]
mod tests;
