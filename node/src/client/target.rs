//! Where the cluster is, and as whom to speak to it: from the command line, the environment, or
//! what `stakehold dev` left in its data directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stakehold_actors::domain::types::AccountId;

use super::ClientError;

pub const URL_VARIABLE: &str = "STAKEHOLD_URL";
pub const TOKEN_VARIABLE: &str = "STAKEHOLD_TOKEN";
pub const CA_VARIABLE: &str = "STAKEHOLD_CA";
pub const DATA_VARIABLE: &str = "STAKEHOLD_DATA";
/// Where `dev` keeps everything by default.
pub const DATA_DIR: &str = "stakehold-data";
/// What `dev` writes into its data directory.
pub const INFO_FILE: &str = "info.json";

/// What `dev` writes once it is ready (`--info FILE`, and `info.json` in its data directory).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// URL of the node to begin with.
    pub http: String,
    pub operator_token: String,
    #[serde(default)]
    pub accounts: Vec<KnownAccount>,
    #[serde(default)]
    pub nodes: Vec<NodeAddress>,
    /// The CA's certificate: a file, relative to this one, or PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAccount {
    pub id: AccountId,
    pub token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    pub id: u16,
    pub http: String,
    /// `host:port`.
    pub quic: String,
}

/// A node to speak to, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `http://host:port` or `https://host:port`.
    pub http: String,
    /// `host:port`; only the native client needs it.
    pub quic: Option<String>,
    pub token: Option<String>,
    /// The cluster's CA certificate as PEM text.
    pub ca_pem: Option<String>,
    /// What else is known of the cluster.
    pub accounts: Vec<KnownAccount>,
    pub nodes: Vec<NodeAddress>,
}

/// What discovery looks at, so that tests need not touch the process's environment.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// `--target`.
    pub target: Option<&'a str>,
    /// `--data`.
    pub data: Option<&'a Path>,
    pub url: Option<String>,
    pub token: Option<String>,
    pub ca: Option<String>,
    /// The data directory of `dev` where `--data` names none; it need not be there.
    pub found: Option<PathBuf>,
}

impl Target {
    /// `--target`, else what `dev` wrote into `--data`, else `STAKEHOLD_URL`, else what `dev` wrote
    /// into `STAKEHOLD_DATA` or under the current directory. `STAKEHOLD_TOKEN` and `STAKEHOLD_CA` go
    /// before the file's.
    ///
    /// # Errors
    /// When no address is to be found, or a file that is named cannot be used.
    pub fn discover(target: Option<&str>, data: Option<&Path>) -> Result<Self, ClientError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::from_sources(Sources {
            target,
            data,
            url: variable(URL_VARIABLE),
            token: variable(TOKEN_VARIABLE),
            ca: variable(CA_VARIABLE),
            found: Some(variable(DATA_VARIABLE).unwrap_or_else(|| DATA_DIR.into()).into()),
        })
    }

    /// As [`Target::discover`], from given sources.
    ///
    /// # Errors
    /// As there.
    pub fn from_sources(sources: Sources<'_>) -> Result<Self, ClientError> {
        // A directory that is named for this one command means its cluster.
        let url = sources.target.map(str::to_owned).or(sources.url.filter(|_| sources.data.is_none()));
        let data = sources.data.or(sources.found.as_deref());
        let info = data.map(|data| data.join(INFO_FILE)).filter(|path| path.exists());
        let mut found = match (info, &url) {
            (Some(path), _) => Self::from_info(&path)?,
            (None, Some(_)) => Self::default(),
            (None, None) => return Err(nothing_in(data)),
        };
        if let Some(url) = url {
            found.point_at(url.trim_end_matches('/'))?;
        }
        if sources.token.is_some() {
            found.token = sources.token;
        }
        if let Some(ca) = sources.ca {
            found.ca_pem = Some(pem(&ca, Path::new("."))?);
        }
        Ok(found)
    }

    /// Reads what `dev` wrote.
    ///
    /// # Errors
    /// When the file is not readable or not what it should be.
    pub fn from_info(path: &Path) -> Result<Self, ClientError> {
        let setup = |reason: String| ClientError::Setup(format!("{} cannot be used: {reason}.", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| setup(error.to_string()))?;
        let info: Info = serde_json::from_str(&text).map_err(|error| setup(error.to_string()))?;
        let ca_pem = info.ca.map(|ca| pem(&ca, path.parent().unwrap_or(Path::new(".")))).transpose()?;
        let node = info.nodes.iter().find(|node| node.http == info.http);
        Ok(Self {
            quic: node.map(|node| node.quic.clone()),
            http: info.http,
            token: Some(info.operator_token),
            ca_pem,
            accounts: info.accounts,
            nodes: info.nodes,
        })
    }

    /// Another address. What the file knows goes along only if it is a node of that cluster: a
    /// token must not be sent to strangers.
    fn point_at(&mut self, url: &str) -> Result<(), ClientError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(ClientError::Setup(format!("{url:?} is not an address like http://127.0.0.1:8081.")));
        }
        match self.nodes.iter().find(|node| node.http == url) {
            Some(node) => self.quic = Some(node.quic.clone()),
            None if self.http == url => {}
            None => *self = Self::default(),
        }
        self.http = url.to_owned();
        Ok(())
    }
}

fn nothing_in(data: Option<&Path>) -> ClientError {
    let place = data.map_or_else(|| "here".into(), |data| format!("in {}", data.display()));
    ClientError::Setup(format!(
        "No cluster is known {place}: start one with `stakehold dev`, or say where it is with --data, --target or {URL_VARIABLE}."
    ))
}

/// The text that is given, or that of the file it names.
///
/// # Errors
/// When the file cannot be read.
pub fn pem(text_or_file: &str, beside: &Path) -> Result<String, ClientError> {
    if text_or_file.starts_with("-----BEGIN") {
        return Ok(text_or_file.to_owned());
    }
    let path = beside.join(text_or_file);
    std::fs::read_to_string(&path)
        .map_err(|error| ClientError::Setup(format!("The CA file {} cannot be read: {error}.", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(dir: &Path) -> PathBuf {
        std::fs::write(dir.join("ca.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
        let text = r#"{"http":"http://127.0.0.1:1","operator_token":"op","accounts":[{"id":7,"token":"a"}],
            "nodes":[{"id":1,"http":"http://127.0.0.1:1","quic":"127.0.0.1:11"},{"id":2,"http":"http://127.0.0.1:2","quic":"127.0.0.1:22"}],
            "ca":"ca.pem"}"#;
        std::fs::write(dir.join(INFO_FILE), text).unwrap();
        dir.to_owned()
    }

    #[test]
    fn the_flag_goes_before_the_environment_and_both_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(data(dir.path()));
        let found = Target::from_sources(Sources { found: file.clone(), ..Sources::default() }).unwrap();
        assert_eq!((found.http.as_str(), found.quic.as_deref()), ("http://127.0.0.1:1", Some("127.0.0.1:11")));
        assert_eq!(found.token.as_deref(), Some("op"));
        assert_eq!(found.ca_pem.as_deref(), Some("-----BEGIN CERTIFICATE-----"));
        let sources = Sources {
            target: Some("http://127.0.0.1:2/"),
            url: Some("http://127.0.0.1:1".into()),
            token: Some("mine".into()),
            found: file,
            ..Sources::default()
        };
        let found = Target::from_sources(sources).unwrap();
        assert_eq!((found.http.as_str(), found.quic.as_deref()), ("http://127.0.0.1:2", Some("127.0.0.1:22")));
        assert_eq!((found.token.as_deref(), found.accounts.len()), (Some("mine"), 1));
    }

    #[test]
    fn a_token_from_the_file_never_goes_to_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let sources =
            Sources { target: Some("http://example.org"), found: Some(data(dir.path())), ..Sources::default() };
        let found = Target::from_sources(sources).unwrap();
        assert_eq!(found, Target { http: "http://example.org".into(), ..Target::default() });
    }

    #[test]
    fn a_directory_that_is_named_goes_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let named = data(dir.path());
        let elsewhere = || Sources { url: Some("http://127.0.0.1:9".into()), ..Sources::default() };
        let found = Target::from_sources(Sources { data: Some(&named), ..elsewhere() }).unwrap();
        assert_eq!((found.http.as_str(), found.token.as_deref()), ("http://127.0.0.1:1", Some("op")));
        let found = Target::from_sources(Sources { found: Some(named), ..elsewhere() }).unwrap();
        assert_eq!((found.http.as_str(), found.token), ("http://127.0.0.1:9", None));
        let empty = Sources { data: Some(Path::new("/nowhere")), ..elsewhere() };
        assert!(Target::from_sources(empty).unwrap_err().to_string().contains("known in /nowhere: "));
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = |sources| Target::from_sources(sources).unwrap_err().to_string();
        assert!(text(Sources::default()).contains("stakehold dev"));
        assert!(text(Sources { target: Some("localhost:80"), ..Sources::default() }).contains("is not an address"));
        let ca = Sources { target: Some("http://x"), ca: Some("/nowhere/ca.pem".into()), ..Sources::default() };
        assert!(text(ca).contains("/nowhere/ca.pem"));
    }
}
