//! A node without its front ends: all its cells and its exchange, over whatever world it is given.
//! The program gives it a real one; the simulator runs exactly this over another.
//!
//! What must never live here: sockets, files, processes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stakehold_actors::{
    api::Principal,
    domain::cell::Cell,
    shell::{Exchange, Limits},
};
use stakehold_raft::{
    CellId, Cells, Host, HostConfig, NodeId,
    host::HostError,
    meta::{self, Meta, MetaCommand, WithMeta},
    seam::{Inbound, World},
};

/// Replication and exchange of one node; clones share it.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub host: Arc<Host<WithMeta<Cell>>>,
    pub exchange: Arc<Exchange>,
}

/// What is recorded in the meta cell when a cluster is founded, beside what its settings say.
#[derive(Clone, Debug)]
pub struct Record {
    /// BLAKE3 of the operator's token, in hexadecimal.
    pub operator_token_hash: String,
    pub cluster: String,
    /// With the zone of each.
    pub members: BTreeMap<NodeId, String>,
}

impl Kernel {
    /// Opens the log and starts every cell with a replica here; `cell` makes an empty one, the same way
    /// on every node. What is returned second must be fed
    /// by the transport, on the same runtime.
    ///
    /// # Errors
    /// See [`Host::start`].
    pub async fn start(
        world: World,
        config: HostConfig,
        limits: Limits,
        cell: impl Fn(CellId, Cells) -> Cell,
    ) -> Result<(Self, Arc<dyn Inbound>), HostError> {
        let (cells, format) = (config.cells, config.format);
        let make = |id| match id {
            CellId::META => WithMeta::Meta(Meta::default()),
            id => WithMeta::Cell(cell(id, cells).knowing(format)),
        };
        let (host, inbound) = Host::start(world.clone(), config, make).await?;
        let exchange = Exchange::start(world, host.clone(), cells, limits);
        Ok((Self { host, exchange }, inbound))
    }

    /// Returns once the cluster stands, its founding is recorded, and every cell of this node has
    /// something on disk: from then on an empty directory means that it was lost.
    pub async fn settle(&self, record: &Record) {
        let pause = || tokio::time::sleep(Duration::from_millis(50));
        while !self.is_founded() {
            if self.host.cell(CellId::META).is_some_and(|meta| meta.is_leader())
                && let Err(error) = self.record_founding(record).await
            {
                tracing::warn!(%error, "the founding is not recorded yet");
            }
            pause().await;
        }
        while !self.host.cells().all(|group| group.status().applied > 0) {
            pause().await;
        }
    }

    fn is_founded(&self) -> bool {
        let meta = self.host.cell(CellId::META);
        meta.is_some_and(|meta| meta.read(|replica| replica.machine().meta().founding().is_some()))
    }

    async fn record_founding(&self, record: &Record) -> Result<(), String> {
        let hash = blake3::Hash::from_hex(&record.operator_token_hash)
            .map_err(|error| format!("the operator's token hash in the founding record is not one: {error}"))?;
        let token = self.exchange.create_token(Principal::Operator, *hash.as_bytes());
        token.await.map_err(|error| error.to_string())?;
        let member = |zone: &String| meta::Member { incarnation: 0, zone: zone.clone(), weight: 100 };
        let founding = meta::Founding {
            cluster: record.cluster.clone(),
            cells: self.host.config().cells,
            members: record.members.iter().map(|(node, zone)| (*node, member(zone))).collect(),
            placement: self.host.placement().clone(),
        };
        self.exchange.change_meta(MetaCommand::Found(founding)).await.map(|_| ()).map_err(|error| error.to_string())
    }
}
