//! The state of the cluster and the audit as JSON.

use serde::{Deserialize, Serialize};
use stakehold_actors::api::{AuditView, CellView, ClusterStatus, LedgerView, NodeView, ReplicaView};
use utoipa::ToSchema;

use super::mirror;

mirror! {
    Node = NodeView {
        node: u16,
        /// Rises whenever the node's replicas come back under new ids.
        incarnation: u32,
        reachable: bool,
        /// How many cells it leads.
        leads: u32,
        fsyncs: u64,
        log_bytes: u64,
        version: String,
        note: Option<String>,
    }
}

mirror! {
    Replica = ReplicaView {
        node: u16,
        applied: u64,
        committed: u64,
        /// Hex of the state hash at `applied`; empty where the state is too large to hash in passing, or has
        /// changed since it was hashed a moment ago.
        digest: String,
        /// Why it stopped, if it did.
        halted: Option<String>,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outbox {
    /// The cell the messages are for.
    pub to: String,
    pub waiting: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cell {
    pub cell: String,
    pub leader: Option<u16>,
    pub term: u64,
    pub replicas: Vec<Replica>,
    pub outbox: Vec<Outbox>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub cluster: String,
    pub nodes: Vec<Node>,
    pub cells: Vec<Cell>,
}

impl From<ClusterStatus> for Status {
    fn from(status: ClusterStatus) -> Self {
        let cell = |cell: CellView| Cell {
            cell: cell.cell,
            leader: cell.leader,
            term: cell.term,
            replicas: cell.replicas.into_iter().map(Into::into).collect(),
            outbox: cell.outbox.into_iter().map(|(to, waiting)| Outbox { to, waiting }).collect(),
        };
        Self {
            cluster: status.cluster,
            nodes: status.nodes.into_iter().map(Into::into).collect(),
            cells: status.cells.into_iter().map(cell).collect(),
        }
    }
}

impl From<Status> for ClusterStatus {
    fn from(status: Status) -> Self {
        let cell = |cell: Cell| CellView {
            cell: cell.cell,
            leader: cell.leader,
            term: cell.term,
            replicas: cell.replicas.into_iter().map(Into::into).collect(),
            outbox: cell.outbox.into_iter().map(|outbox| (outbox.to, outbox.waiting)).collect(),
        };
        Self {
            cluster: status.cluster,
            nodes: status.nodes.into_iter().map(Into::into).collect(),
            cells: status.cells.into_iter().map(cell).collect(),
        }
    }
}

mirror! {
    /// One cell's ledger: as many postings have the same hash for ever, on every replica.
    Ledger = LedgerView {
        cell: String,
        /// How much was ever posted.
        postings: u64,
        /// Over all of it in its order, in hexadecimal.
        hash: String,
    }
}

mirror! {
    /// The books, summed at a consistent cut while bets flow.
    Audit = AuditView {
        /// The sum over all accounts of all cells; anything but zero is a bug.
        #[schema(value_type = i64)]
        sum: i128,
        conserved: bool,
        #[schema(value_type = i64)]
        available: i128,
        #[schema(value_type = i64)]
        margin: i128,
        #[schema(value_type = i64)]
        held: i128,
        #[schema(value_type = i64)]
        owed: i128,
        #[schema(value_type = i64)]
        commission: i128,
        #[schema(value_type = i64)]
        rounding: i128,
        #[schema(value_type = i64)]
        clearing: i128,
        #[schema(value_type = i64)]
        in_flight: i128,
        /// Deposits minus withdrawals.
        #[schema(value_type = i64)]
        external: i128,
        cells: u32,
        /// What each cell's ledger was at the cut: a later audit's begins with the same.
        #[schema(value_type = Vec<Ledger>)]
        ledgers: Vec<LedgerView>,
        /// Sentences about whatever invariant does not hold; empty when all is well.
        problems: Vec<String>,
    }
}
