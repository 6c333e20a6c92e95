//! The founding record: what all nodes of a cluster agree on from its first moment. `init` writes
//! the same one for every node; it is never changed, and what may change later is in the meta cell.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use stakehold_raft::{Cells, NodeId};

use super::{ClusterId, FORMAT};
use crate::{config::is_host_port, files};

/// What is wrong with a founding record, as a sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    #[error("The founding record {path} cannot be read ({error}); `stakehold init` writes one for each node.")]
    Read { path: String, error: String },
    #[error(
        "The founding record {path} is of a newer version (format {found}, this program knows {FORMAT}); use the newer program."
    )]
    Newer { path: String, found: u32 },
    #[error("The founding record {path} is not valid: {error}.")]
    Invalid { path: String, error: String },
    #[error(
        "The configuration says this is {node}, which is not among the members {members} of the founding record {path}."
    )]
    NotAMember { path: String, node: NodeId, members: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founding {
    pub format: u32,
    pub cluster: ClusterId,
    /// Milliseconds since the Unix epoch.
    pub founded_at: u64,
    /// A power of two, fixed for the life of the cluster.
    pub cells: Cells,
    /// Replicas of each cell.
    pub replicas: u16,
    pub members: Vec<Member>,
    /// BLAKE3 of the operator's token, in hexadecimal.
    pub operator_token_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub id: NodeId,
    /// `host:port` where other nodes and QUIC clients reach it.
    pub quic: String,
    /// URL where clients reach its HTTP API.
    pub http: String,
    /// Replicas of a cell are spread over zones. Empty: none known.
    #[serde(default)]
    pub zone: String,
}

/// How a token is kept: its hash, in hexadecimal. Tokens are 256 random bits, so that a plain hash
/// is as good as a slow one.
pub fn token_hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

impl Founding {
    /// # Errors
    /// A sentence when the record is not one this node can start with.
    pub fn load(path: &Path, node: NodeId) -> Result<Self, FoundingError> {
        let shown = || path.display().to_string();
        let read = |error: String| FoundingError::Read { path: shown(), error };
        let bytes =
            files::read(path).map_err(|e| read(e.to_string()))?.ok_or_else(|| read("there is no such file".into()))?;
        let invalid = |error: String| FoundingError::Invalid { path: shown(), error };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if let Some(found) = value.get("format").and_then(serde_json::Value::as_u64)
            && found > u64::from(FORMAT)
        {
            return Err(FoundingError::Newer { path: shown(), found: found.try_into().unwrap_or(u32::MAX) });
        }
        let founding: Self = serde_json::from_value(value).map_err(|e| invalid(e.to_string()))?;
        founding.check().map_err(invalid)?;
        if founding.member(node).is_none() {
            let members: Vec<String> = founding.members.iter().map(|m| m.id.to_string()).collect();
            return Err(FoundingError::NotAMember { path: shown(), node, members: members.join(", ") });
        }
        Ok(founding)
    }

    /// # Errors
    /// Says what cannot be.
    pub fn check(&self) -> Result<(), String> {
        Cells::new(self.cells.count())?;
        if self.members.is_empty() {
            return Err("it names no members".into());
        }
        if usize::from(self.replicas) > self.members.len() || self.replicas.is_multiple_of(2) {
            let members = self.members.len();
            return Err(format!("{} replicas: an odd number of at most {members}, the members", self.replicas));
        }
        let mut seen = BTreeMap::new();
        for member in &self.members {
            if member.id.0 == 0 || seen.insert(member.id, ()).is_some() {
                return Err(format!("{} is there twice or is no node number", member.id));
            }
            if !is_host_port(&member.quic) {
                return Err(format!("{} has the address {:?}, which is not host:port", member.id, member.quic));
            }
        }
        Ok(())
    }

    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == node)
    }

    /// The addresses of all other members, with the configuration's replacements.
    pub fn peers(&self, node: NodeId, replaced: &BTreeMap<NodeId, String>) -> BTreeMap<NodeId, String> {
        let others = self.members.iter().filter(|m| m.id != node);
        others.map(|m| (m.id, replaced.get(&m.id).unwrap_or(&m.quic).clone())).collect()
    }
}
