//! What a replay, the benchmark and the demo's bots need of a cluster: calls as the operator, and
//! a market's feed. [`Nodes`] has it from all nodes of a cluster; tests put a model of the
//! exchange in its place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use stakehold_actors::{
    api::{ApiError, ClusterStatus, Request, Response},
    domain::types::MarketId,
};
use stakehold_raft::CellId;
use tokio::time::Instant;

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
        ClientError::Api(error) => matches!(
            error,
            ApiError::Busy { .. } | ApiError::DiskFull { .. } | ApiError::Unavailable | ApiError::Unknown
        ),
        ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::TimedOut { .. } => true,
        ClientError::Unauthorized(_) | ClientError::Protocol(_) | ClientError::Setup(_) => false,
    }
}

/// How long a node that did not answer is passed over; doubled each time it is found so again.
const AVOIDED_MIN: Duration = Duration::from_secs(5);
const AVOIDED_MAX: Duration = Duration::from_secs(60);

/// A cluster, by those of its nodes that are known.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Known>,
    next: AtomicUsize,
    /// Which node leads which cell, as last asked.
    leaders: Mutex<BTreeMap<u16, u16>>,
}

#[derive(Debug)]
struct Known {
    /// Its number in the cluster, where known.
    id: Option<u16>,
    client: Client,
    avoided: Mutex<Avoided>,
}

/// A node that does not answer costs a time-out with every call: it is left alone for a while.
#[derive(Debug)]
struct Avoided {
    until: Option<Instant>,
    again: Duration,
}

impl Known {
    fn new(id: Option<u16>, client: Client) -> Self {
        Self { id, client, avoided: Mutex::new(Avoided { until: None, again: AVOIDED_MIN }) }
    }

    fn avoided(&self) -> MutexGuard<'_, Avoided> {
        self.avoided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_avoided(&self) -> bool {
        self.avoided().until.is_some_and(|until| Instant::now() < until)
    }

    /// Learns from what became of a call.
    fn heard<T>(&self, answer: &Result<T, ClientError>) {
        let mut avoided = self.avoided();
        match answer {
            Err(ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::TimedOut { .. }) => {
                avoided.until = Some(Instant::now() + avoided.again);
                avoided.again = (avoided.again * 2).min(AVOIDED_MAX);
            }
            _ if avoided.until.is_some() => *avoided = Avoided { until: None, again: AVOIDED_MIN },
            _ => {}
        }
    }
}

impl Nodes {
    /// All nodes that the target knows of, over the native protocol where its address is known and
    /// `native` asks for it, else over HTTP.
    ///
    /// # Errors
    /// When an address, the token or the CA is not usable.
    pub fn new(target: &Target, native: bool) -> Result<Arc<Self>, ClientError> {
        let client = |target: &Target| if native { Client::quic(target) } else { Client::http(target) };
        let mut nodes = Vec::new();
        for node in &target.nodes {
            let node_target = Target { http: node.http.clone(), quic: Some(node.quic.clone()), ..target.clone() };
            nodes.push(Known::new(Some(node.id), client(&node_target)?));
        }
        if nodes.is_empty() {
            nodes.push(Known::new(None, client(target)?));
        }
        Ok(Arc::new(Self { nodes, next: AtomicUsize::new(0), leaders: Mutex::default() }))
    }

    /// The nodes in turn, those last that did not answer lately.
    fn in_turn(&self) -> Vec<&Known> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<&Known> =
            (0..self.nodes.len()).map(|n| &self.nodes[(first + n) % self.nodes.len()]).collect();
        order.sort_by_key(|node| node.is_avoided());
        order
    }

    async fn call_any(&self, request: Request) -> Result<Response, ClientError> {
        let mut unreachable = None;
        for node in self.in_turn() {
            let answer = node.client.call(request.clone()).await;
            node.heard(&answer);
            match answer {
                // It never left: the next node may be there.
                Err(error @ ClientError::Unreachable { .. }) => unreachable = Some(error),
                answer => return answer,
            }
        }
        Err(unreachable.expect("there is at least one node"))
    }

    async fn feed_from_a_follower(&self, market: MarketId) -> Result<Feed, ClientError> {
        let leader = self.leader_of(market).await;
        let mut order = self.in_turn();
        // Whoever does not lead the cell comes first.
        order.sort_by_key(|node| (node.is_avoided(), node.id.is_some() && node.id == leader));
        let mut failed = None;
        for node in order {
            let feed = node.client.feed(market).await;
            node.heard(&feed);
            match feed {
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
        if self.nodes.len() > 1
            && let Ok(Response::Status(status)) = self.call_any(Request::Status).await
        {
            self.learn(&status);
        }
        self.leaders().get(&cell).copied()
    }

    fn leaders(&self) -> MutexGuard<'_, BTreeMap<u16, u16>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let target = Target { http: "http://127.0.0.1:1".into(), ..Target::default() };
        Known::new(Some(1), Client::http(&target).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_is_left_alone_longer_and_longer() {
        let node = known();
        let silent: Result<(), _> = Err(ClientError::TimedOut { seconds: 1 });
        assert!(!node.is_avoided());
        for seconds in [5, 10, 20, 40, 60, 60] {
            node.heard(&silent);
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(node.is_avoided(), "{seconds}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!node.is_avoided(), "{seconds}");
        }
        node.heard(&Ok(()));
        node.heard(&silent);
        tokio::time::advance(AVOIDED_MIN).await;
        assert!(!node.is_avoided());
        node.heard::<()>(&Err(ClientError::Api(ApiError::Unavailable)));
        assert!(!node.is_avoided(), "it answered");
    }

    #[tokio::test]
    async fn nodes_take_turns_and_those_that_are_avoided_come_last() {
        let mut nodes = Nodes { nodes: Vec::new(), next: AtomicUsize::new(0), leaders: Mutex::default() };
        for id in 1..=3 {
            nodes.nodes.push(Known { id: Some(id), ..known() });
        }
        let order = || nodes.in_turn().iter().map(|node| node.id.unwrap()).collect::<Vec<_>>();
        assert_eq!([order(), order(), order()], [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        nodes.nodes[1].heard::<()>(&Err(ClientError::TimedOut { seconds: 1 }));
        assert_eq!([order(), order(), order()], [[1, 3, 2], [3, 1, 2], [3, 1, 2]]);
    }
}
