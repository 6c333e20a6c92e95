//! The meta cell's machine: members, placement, and small records (keys, roles, settings), each
//! change of which is a command in a log. Pure, like every machine.
//!
//! [`WithMeta`] lets one host carry the meta cell beside the cells of any machine. What never lives
//! here: money, and anything that changes with every bet.

use std::{collections::BTreeMap, iter};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CellId, Cells, NodeId},
    machine::{Chunks, Machine, Out, Stamp},
    plain,
};

/// What the cluster was founded with; the first entry of the meta cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Random, in every node's certificate and data directory.
    pub cluster: String,
    pub cells: Cells,
    pub members: BTreeMap<NodeId, Member>,
    /// Replicas of each cell, the preferred leader first.
    pub placement: BTreeMap<CellId, Vec<NodeId>>,
}

/// A node as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Rises each time the node comes back without what it had acknowledged.
    pub incarnation: u32,
    /// Where replicas should be spread over, such as a rack or a datacentre.
    pub zone: String,
    /// Share of the cells, relative to the others; 0 drains the node.
    pub weight: u32,
}

/// A small named value with a version that rises with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u64,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// Takes effect once; the same founding again is fine, another one is refused.
    Found(Founding),
    SetMember(NodeId, Member),
    SetPlacement(CellId, Vec<NodeId>),
    /// Writes a record if its version is `expect` (0: must not exist; `None`: whatever it is).
    Put {
        space: String,
        key: Vec<u8>,
        value: Vec<u8>,
        expect: Option<u64>,
    },
    Remove {
        space: String,
        key: Vec<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaVerdict {
    /// The record's version now, or the number of changes so far.
    Done(u64),
    /// The record's version is this, not what was expected.
    Conflict(u64),
    /// A sentence: the command makes no sense here.
    Refused(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    founding: Option<Founding>,
    changes: u64,
    records: BTreeMap<(String, Vec<u8>), Record>,
}

impl Meta {
    pub fn founding(&self) -> Option<&Founding> {
        self.founding.as_ref()
    }

    pub fn record(&self, space: &str, key: &[u8]) -> Option<&Record> {
        self.records.get(&(space.to_owned(), key.to_owned()))
    }

    /// All records of a space, in key order.
    pub fn records<'a>(&'a self, space: &'a str) -> impl Iterator<Item = (&'a [u8], &'a Record)> {
        self.records
            .range((space.to_owned(), Vec::new())..)
            .take_while(move |((s, _), _)| s == space)
            .map(|((_, key), record)| (key.as_slice(), record))
    }

    fn apply(&mut self, command: MetaCommand) -> MetaVerdict {
        let verdict = match command {
            MetaCommand::Found(founding) => match &self.founding {
                Some(there) if *there != founding => {
                    return MetaVerdict::Refused(format!("the cluster {} was founded already", there.cluster));
                }
                Some(_) => return MetaVerdict::Done(self.changes),
                None => {
                    self.founding = Some(founding);
                    MetaVerdict::Done(self.changes + 1)
                }
            },
            MetaCommand::SetMember(node, member) => {
                let Some(founding) = &mut self.founding else {
                    return MetaVerdict::Refused("the cluster is not founded yet".into());
                };
                founding.members.insert(node, member);
                MetaVerdict::Done(self.changes + 1)
            }
            MetaCommand::SetPlacement(cell, replicas) => {
                let Some(founding) = &mut self.founding else {
                    return MetaVerdict::Refused("the cluster is not founded yet".into());
                };
                founding.placement.insert(cell, replicas);
                MetaVerdict::Done(self.changes + 1)
            }
            MetaCommand::Put { space, key, value, expect } => {
                let there = self.records.get(&(space.clone(), key.clone())).map_or(0, |r| r.version);
                if expect.is_some_and(|expected| expected != there) {
                    return MetaVerdict::Conflict(there);
                }
                self.records.insert((space, key), Record { version: there + 1, value });
                MetaVerdict::Done(there + 1)
            }
            MetaCommand::Remove { space, key } => {
                self.records.remove(&(space, key));
                MetaVerdict::Done(0)
            }
        };
        self.changes += 1;
        verdict
    }
}

/// The machine of a host that carries the meta cell and the cells of `M`.
#[derive(Debug)]
pub enum WithMeta<M> {
    Meta(Meta),
    Cell(M),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum MetaOr<M, C> {
    Cell(C),
    Meta(M),
}

/// A frozen [`WithMeta`].
#[derive(Debug)]
pub enum FrozenWithMeta<F> {
    Meta(Meta),
    Cell(F),
}

impl<M: Machine> WithMeta<M> {
    /// The machine of a cell.
    ///
    /// # Panics
    /// When this is the meta cell: a wiring mistake.
    pub fn cell(&self) -> &M {
        match self {
            WithMeta::Cell(machine) => machine,
            WithMeta::Meta(_) => panic!("the meta cell holds no wallets or markets"),
        }
    }

    /// The meta cell's state.
    ///
    /// # Panics
    /// When this is an ordinary cell: a wiring mistake.
    pub fn meta(&self) -> &Meta {
        match self {
            WithMeta::Meta(meta) => meta,
            WithMeta::Cell(_) => panic!("only the meta cell holds members and records"),
        }
    }
}

impl<M: Machine> Machine for WithMeta<M> {
    type Command = MetaOr<MetaCommand, M::Command>;
    type Verdict = MetaOr<MetaVerdict, M::Verdict>;
    type Message = M::Message;
    /// The meta cell has none: nobody waits for them.
    type Effect = M::Effect;
    type Frozen = FrozenWithMeta<M::Frozen>;

    fn apply(&mut self, stamp: Stamp, command: Self::Command, out: &mut Out<Self>) -> Self::Verdict {
        match (self, command) {
            (WithMeta::Cell(machine), MetaOr::Cell(command)) => {
                MetaOr::Cell(out.within(|out| machine.apply(stamp, command, out)))
            }
            (WithMeta::Meta(meta), MetaOr::Meta(command)) => MetaOr::Meta(meta.apply(command)),
            (_, MetaOr::Meta(_)) => MetaOr::Meta(MetaVerdict::Refused("this is not the meta cell".into())),
            (_, MetaOr::Cell(command)) => panic!("the meta cell got {command:?}"),
        }
    }

    fn receive(&mut self, stamp: Stamp, from: CellId, message: M::Message, out: &mut Out<Self>) {
        match self {
            WithMeta::Cell(machine) => {
                out.within(|out| machine.receive(stamp, from, message, out));
            }
            WithMeta::Meta(_) => panic!("the meta cell got {message:?} from {from}"),
        }
    }

    fn next_deadline(&self) -> Option<Stamp> {
        match self {
            WithMeta::Cell(machine) => machine.next_deadline(),
            WithMeta::Meta(_) => None,
        }
    }

    fn fire(&mut self, stamp: Stamp, out: &mut Out<Self>) {
        if let WithMeta::Cell(machine) = self {
            out.within(|out| machine.fire(stamp, out));
        }
    }

    fn freeze(&self) -> Self::Frozen {
        match self {
            WithMeta::Cell(machine) => FrozenWithMeta::Cell(machine.freeze()),
            WithMeta::Meta(meta) => FrozenWithMeta::Meta(meta.clone()),
        }
    }

    fn snapshot(frozen: &Self::Frozen) -> Chunks<'_> {
        match frozen {
            FrozenWithMeta::Cell(machine) => M::snapshot(machine),
            FrozenWithMeta::Meta(meta) => Box::new(iter::once_with(|| postcard::to_stdvec(meta).expect("plain data"))),
        }
    }

    fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        match self {
            WithMeta::Cell(machine) => machine.restore(bytes).map(WithMeta::Cell),
            WithMeta::Meta(_) => plain::read(bytes)
                .map(WithMeta::Meta)
                .map_err(|e| format!("the meta cell's snapshot is unreadable: {e}")),
        }
    }

    fn digest(&self) -> [u8; 32] {
        match self {
            WithMeta::Cell(machine) => machine.digest(),
            WithMeta::Meta(meta) => blake3::hash(&postcard::to_stdvec(meta).expect("plain data")).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founding(cluster: &str) -> Founding {
        Founding {
            cluster: cluster.into(),
            cells: Cells::new(4).unwrap(),
            members: BTreeMap::new(),
            placement: BTreeMap::new(),
        }
    }

    #[test]
    fn a_cluster_is_founded_once() {
        let mut meta = Meta::default();
        assert_eq!(meta.apply(MetaCommand::Found(founding("a"))), MetaVerdict::Done(1));
        assert_eq!(meta.apply(MetaCommand::Found(founding("a"))), MetaVerdict::Done(1));
        assert!(matches!(meta.apply(MetaCommand::Found(founding("b"))), MetaVerdict::Refused(_)));
        assert_eq!(meta.founding().unwrap().cluster, "a");
    }

    #[test]
    fn a_record_is_written_only_over_the_version_that_was_expected() {
        let mut meta = Meta::default();
        let put = |value: u8, expect| MetaCommand::Put { space: "s".into(), key: vec![1], value: vec![value], expect };
        assert_eq!(meta.apply(put(7, Some(0))), MetaVerdict::Done(1));
        assert_eq!(meta.apply(put(8, Some(0))), MetaVerdict::Conflict(1));
        assert_eq!(meta.apply(put(9, Some(1))), MetaVerdict::Done(2));
        assert_eq!(meta.record("s", &[1]).unwrap().value, [9]);
        assert_eq!(meta.records("s").count(), 1);
        assert_eq!(meta.records("r").count() + meta.records("t").count(), 0);
        meta.apply(MetaCommand::Remove { space: "s".into(), key: vec![1] });
        assert!(meta.record("s", &[1]).is_none());
    }
}
