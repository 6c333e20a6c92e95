//! Which node of which cluster a data directory belongs to, and whether it may found anything.
//!
//! ```text
//! data/
//!   identity.json   format, cluster, node; written when the node founds or joins, never changed
//!   permit.json     the one-shot permit to found, written by `init`, consumed by founding
//!   LOCK            held by the process that uses the directory, with its pid: `RealDisk`'s
//!   wal/ …          the log and the snapshots: `raft/`'s business
//! ```
//! The permit lies in the data directory on purpose: whoever wipes the directory wipes the permit,
//! and what restores configuration files does not restore it. An empty directory without a permit
//! can only ask to rejoin, so that wiped nodes never become a second, empty cluster.
//!
//! The rule: a directory that is not this node's is refused before anything in it is touched.

pub mod founding;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stakehold_raft::{
    NodeId,
    disk::{OpenError, RealDisk},
};

use crate::files;

/// Version of everything in a data directory that this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

const IDENTITY: &str = "identity.json";
const PERMIT: &str = "permit.json";
/// [`RealDisk`] keeps its lock in it.
const LOCK: &str = "LOCK";

/// Names a cluster for its whole life: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u128::from_str_radix(text, 16) {
            Ok(id) if text.len() == 32 && !text.starts_with('+') => Ok(Self(id)),
            _ => Err(format!("{text:?} is not a cluster id: 32 hexadecimal digits")),
        }
    }
}

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ClusterId {
    /// As the log and the hosts of `raft/` know it.
    pub fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.0.to_le_bytes());
        bytes
    }
}

/// Why a data directory cannot be used. Each leaves it as it was.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "The data directory {path} belongs to cluster {found}, and this node is of cluster {expected}; set `data` to this node's own directory."
    )]
    OtherCluster { path: String, found: ClusterId, expected: ClusterId },
    #[error(
        "The data directory {path} belongs to {found}, and this node is {expected}; set `data` to this node's own directory."
    )]
    OtherNode { path: String, found: NodeId, expected: NodeId },
    #[error(
        "The data directory {path} was written by a newer version (format {found}, this program knows {FORMAT}); start the newer version on it."
    )]
    Newer { path: String, found: u32 },
    #[error(
        "The data directory {path} is in use by process {pid}; stop that first, or set `data` to another directory."
    )]
    Locked { path: String, pid: String },
    #[error(
        "The data directory {path} holds files but no {IDENTITY}, so they may be another program's; set `data` to an empty directory, or restore {IDENTITY}."
    )]
    Foreign { path: String },
    #[error(
        "{path} is damaged ({error}); restore it, or move the whole data directory away so that the node can rejoin with an empty one."
    )]
    Damaged { path: String, error: String },
    #[error("The data directory {path} cannot be used: {error}.")]
    Io { path: String, error: io::Error },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    cluster: ClusterId,
    node: NodeId,
    /// Founding began and may not have finished.
    founding: bool,
}

#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

#[derive(Serialize)]
struct Stored<'a> {
    format: u32,
    #[serde(flatten)]
    record: &'a Record,
}

/// What a node may do with the directory it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds a permit: it may found its replicas. Call [`DataDir::begin_founding`] first.
    MayFound,
    /// Founding began and was cut short: it may found what is not there yet.
    Founding,
    /// It has data; it goes on where it was.
    Member,
    /// It has nothing and may found nothing: others have to take it back in.
    RejoinOnly,
}

impl Standing {
    /// For the log, once, at the start.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::MayFound => "The data directory is new and holds a founding permit: founding the cluster.",
            Self::Founding => "Founding was interrupted: finishing it.",
            Self::Member => "The data directory is this node's: going on where it was.",
            Self::RejoinOnly => {
                "The data directory is empty and holds no founding permit: this node founds nothing and votes for \
                 nothing. It waits for the others to take it back in; if a majority of the nodes is in this state, \
                 restore their data directories."
            }
        }
    }
}

/// A node's data directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    record: Record,
    standing: Standing,
    /// Holds the lock for as long as it, or a clone of it, lives.
    disk: RealDisk,
}

impl DataDir {
    /// Checks that the directory is this node's (or nobody's yet), and locks it.
    ///
    /// # Errors
    /// A sentence; the directory is as it was.
    pub fn open(path: &Path, cluster: ClusterId, node: NodeId) -> Result<Self, IdentityError> {
        let shown = || path.display().to_string();
        let io = |error| IdentityError::Io { path: shown(), error };
        // Look before touching anything; look again once nobody else can.
        inspect(path, cluster, node)?;
        files::make_dir(path).map_err(io)?;
        let disk = RealDisk::open(path.into()).map_err(|error| match error {
            OpenError::Held { root: path, pid } => IdentityError::Locked { path, pid },
            OpenError::Io { root: path, source: error } => IdentityError::Io { path, error },
        })?;
        let standing = inspect(path, cluster, node)?;
        let record = Record { cluster, node, founding: standing == Standing::Founding };
        let dir = Self { path: path.into(), record, standing, disk };
        if matches!(standing, Standing::Founding | Standing::Member) {
            // A crash between the record and the permit leaves the permit; it is spent all the same.
            files::remove(&path.join(PERMIT)).map_err(io)?;
        }
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory as the seam's disk.
    pub fn disk(&self) -> RealDisk {
        self.disk.clone()
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Consumes the permit, durably: from here on this directory is the node's, and no other may
    /// ever found in its place.
    ///
    /// # Errors
    /// When it cannot be written.
    ///
    /// # Panics
    /// Without a permit: the caller asks [`standing`](Self::standing) first.
    pub fn begin_founding(&mut self) -> Result<(), IdentityError> {
        assert!(matches!(self.standing, Standing::MayFound | Standing::Founding), "only a permit lets a node found");
        self.record.founding = true;
        self.store()?;
        files::remove(&self.path.join(PERMIT)).map_err(|error| self.io(error))?;
        self.standing = Standing::Founding;
        Ok(())
    }

    /// Everything this node had to found is durable. Also for a node that was taken back in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn settled(&mut self) -> Result<(), IdentityError> {
        self.record.founding = false;
        self.store()?;
        self.standing = Standing::Member;
        Ok(())
    }

    fn store(&self) -> Result<(), IdentityError> {
        let stored = Stored { format: FORMAT, record: &self.record };
        let text = serde_json::to_vec_pretty(&stored).map_err(|e| self.io(e.into()))?;
        files::replace(&self.path.join(IDENTITY), &text, files::PUBLIC).map_err(|error| self.io(error))
    }

    fn io(&self, error: io::Error) -> IdentityError {
        IdentityError::Io { path: self.path.display().to_string(), error }
    }
}

/// Writes the permit into a new data directory. Only `init` and `dev` do.
///
/// # Errors
/// When it cannot be written, or is there already.
pub fn grant_permit(data: &Path, cluster: ClusterId, node: NodeId) -> io::Result<()> {
    files::make_dir(data)?;
    let record = Record { cluster, node, founding: false };
    let text = serde_json::to_vec_pretty(&Stored { format: FORMAT, record: &record })?;
    files::create(&data.join(PERMIT), &text, files::SECRET)
}

/// Reads only.
fn inspect(path: &Path, cluster: ClusterId, node: NodeId) -> Result<Standing, IdentityError> {
    let shown = || path.display().to_string();
    let names = files::list(path).map_err(|error| IdentityError::Io { path: shown(), error })?.unwrap_or_default();
    let check = |name: &str| -> Result<Option<Record>, IdentityError> {
        let Some(record) = read(&path.join(name))? else { return Ok(None) };
        if record.cluster != cluster {
            return Err(IdentityError::OtherCluster { path: shown(), found: record.cluster, expected: cluster });
        }
        if record.node != node {
            return Err(IdentityError::OtherNode { path: shown(), found: record.node, expected: node });
        }
        Ok(Some(record))
    };
    if let Some(record) = check(IDENTITY)? {
        return Ok(if record.founding { Standing::Founding } else { Standing::Member });
    }
    // What a file system or a first attempt leaves behind does not make a directory somebody's.
    let ours = [PERMIT, LOCK, "identity.json.new", "lost+found"];
    if names.iter().any(|name| !ours.contains(&name.as_str())) {
        return Err(IdentityError::Foreign { path: shown() });
    }
    Ok(if check(PERMIT)?.is_some() { Standing::MayFound } else { Standing::RejoinOnly })
}

fn read(path: &Path) -> Result<Option<Record>, IdentityError> {
    let shown = || path.display().to_string();
    let Some(bytes) = files::read(path).map_err(|error| IdentityError::Io { path: shown(), error })? else {
        return Ok(None);
    };
    let damaged = |e: serde_json::Error| IdentityError::Damaged { path: shown(), error: e.to_string() };
    // The version first: a newer one may look different in everything else.
    let Versioned { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format > FORMAT {
        let path = path.parent().unwrap_or(path).display().to_string();
        return Err(IdentityError::Newer { path, found: format });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests;
