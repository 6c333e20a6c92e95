//! What a replay, the benchmark and the demo's bots need of a cluster: calls as the operator, and
//! a market's feed. [`Nodes`] has it from all nodes of a cluster; tests put a model of the
//! exchange in its place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use stakehold_actors::{
    api::{ApiError, ClusterStatus, Request, Response},
    domain::types::MarketId,
};
use stakehold_raft::CellId;

use crate::client::{Client, ClientError, Feed, Target};

pub trait Exchange: Send + Sync {
    /// Makes a call as the operator, who acts for any account.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>>;

    /// A market's feed, from a node that does not lead the market's cell if there is one.
    fn feed(&self, market: MarketId) -> BoxFuture<'_, Result<Feed, ClientError>>;
}

/// Whether the same call may be made again, with the same reference: the cluster was busy or had
/// no leader, or the outcome is not known.
pub fn is_transient(error: &ClientError) -> bool {
    match error {
        ClientError::Api(error) => matches!(error, ApiError::Busy { .. } | ApiError::Unavailable | ApiError::Unknown),
        ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::TimedOut { .. } => true,
        ClientError::Unauthorized(_) | ClientError::Protocol(_) | ClientError::Setup(_) => false,
    }
}

/// A cluster, by those of its nodes that are known.
#[derive(Debug)]
pub struct Nodes {
    /// With their numbers in the cluster, where known.
    clients: Vec<(Option<u16>, Client)>,
    next: AtomicUsize,
    /// Which node leads which cell, as last asked.
    leaders: Mutex<BTreeMap<u16, u16>>,
}

impl Nodes {
    /// All nodes that the target knows of, over the native protocol where its address is known and
    /// `native` asks for it, else over HTTP.
    ///
    /// # Errors
    /// When an address, the token or the CA is not usable.
    pub fn new(target: &Target, native: bool) -> Result<Arc<Self>, ClientError> {
        let client = |target: &Target| if native { Client::quic(target) } else { Client::http(target) };
        let mut clients = Vec::new();
        for node in &target.nodes {
            let node_target = Target { http: node.http.clone(), quic: Some(node.quic.clone()), ..target.clone() };
            clients.push((Some(node.id), client(&node_target)?));
        }
        if clients.is_empty() {
            clients.push((None, client(target)?));
        }
        Ok(Arc::new(Self { clients, next: AtomicUsize::new(0), leaders: Mutex::default() }))
    }

    async fn call_any(&self, request: Request) -> Result<Response, ClientError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut unreachable = None;
        for n in 0..self.clients.len() {
            let (_, client) = &self.clients[(first + n) % self.clients.len()];
            match client.call(request.clone()).await {
                // It never left: the next node may be there.
                Err(error @ ClientError::Unreachable { .. }) => unreachable = Some(error),
                answer => return answer,
            }
        }
        Err(unreachable.expect("there is at least one node"))
    }

    async fn feed_from_a_follower(&self, market: MarketId) -> Result<Feed, ClientError> {
        let leader = self.leader_of(market).await;
        let mut order: Vec<&(Option<u16>, Client)> = self.clients.iter().collect();
        // Whoever does not lead the cell comes first.
        order.sort_by_key(|(node, _)| node.is_some() && *node == leader);
        let mut failed = None;
        for (_, client) in order {
            match client.feed(market).await {
                Ok(feed) => return Ok(feed),
                // It has not applied the market's creation yet: it will have soon.
                Err(error @ ClientError::Api(_)) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.expect("there is at least one node"))
    }

    async fn leader_of(&self, market: MarketId) -> Option<u16> {
        let cell = market.cell()?;
        let known = self.leaders().get(&cell).copied();
        if known.is_some() || self.clients.len() < 2 {
            return known;
        }
        if let Ok(Response::Status(status)) = self.call_any(Request::Status).await {
            self.learn(&status);
        }
        self.leaders().get(&cell).copied()
    }

    fn leaders(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, u16>> {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, status: &ClusterStatus) {
        let mut leaders = self.leaders();
        for cell in &status.cells {
            let number = cell.cell.strip_prefix('c').and_then(|digits| digits.parse().ok());
            if let (Some(number), Some(leader)) = (number.filter(|n| *n != CellId::META.0), cell.leader) {
                leaders.insert(number, leader);
            }
        }
    }
}

impl Exchange for Nodes {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        Box::pin(self.call_any(request))
    }

    fn feed(&self, market: MarketId) -> BoxFuture<'_, Result<Feed, ClientError>> {
        Box::pin(self.feed_from_a_follower(market))
    }
}
