//! What can be seen of wallets and markets: one cell's views on its leader, and what has to be
//! gathered from several cells or nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stakehold_raft::{CellId, NodeId, mistake, timer};

use super::{
    desk::Desk,
    exchange::Exchange,
    wire::{Answer, Ask, CellReport, Failure, NodeReport},
};
use crate::{
    api::{ApiError, Call, CellView, ClusterStatus, MarketSummary, NodeView, ReplicaView, Request, Response},
    domain::types::{AccountId, Refusal},
};

/// Wallets and references above which a status leaves a cell's digest out: so many take about ten
/// milliseconds to hash.
const DIGEST_ENTRIES_MAX: u64 = 20_000;
/// A cell that has changed is not hashed again before so many milliseconds have passed: whoever asks for a
/// status every moment must not slow down a cell that is busy.
const DIGEST_EVERY_MS: u64 = 1_000;
/// How long a node may take to tell how it is, before it counts as unreachable.
const STATUS_PATIENCE_MS: u64 = 500;

impl Exchange {
    /// Answers a read from what this leader has applied.
    pub(super) fn look(desk: &Desk, request: &Request) -> Result<Response, Failure> {
        let refused = |refusal| Failure::Api(ApiError::Refused(refusal));
        desk.read(|cell| match request {
            Request::GetAccount { account } => {
                cell.account_view(*account).map(Response::Account).ok_or(refused(Refusal::UnknownAccount))
            }
            Request::Statement { account, before, limit } => {
                let limit = if mistake!("statement.limit_ignored") { usize::MAX } else { *limit as usize };
                let lines = cell.statement(*account, *before, limit);
                lines.map(|lines| Response::Statement { lines }).ok_or(refused(Refusal::UnknownAccount))
            }
            Request::GetMarket { market } => cell
                .market_view(*market)
                .map(|view| Response::Market(Box::new(view)))
                .ok_or(refused(Refusal::UnknownMarket)),
            Request::Book { market } => cell.book(*market).map(Response::Book).ok_or(refused(Refusal::UnknownMarket)),
            Request::ListMarkets => Ok(Response::Markets(cell.market_summaries())),
            Request::ListOrders { account, market: Some(market) } => {
                Ok(Response::Orders(cell.orders_of(*account, Some(*market))))
            }
            _ => Err(Failure::Api(ApiError::Unavailable)),
        })
    }

    /// The markets of all cells, by number.
    pub(super) async fn list_markets(self: &Arc<Self>, call: &Call) -> Result<Response, ApiError> {
        let asked = self.cells.all().map(|cell| self.at_leader(cell, call.clone()));
        let answers = futures::future::join_all(asked).await.into_iter();
        let answers: Vec<Response> = if mistake!("list.leaves_out_a_cell") {
            answers.flatten().collect()
        } else {
            answers.collect::<Result<_, _>>()?
        };
        let mut markets: Vec<MarketSummary> = answers
            .into_iter()
            .flat_map(|answer| match answer {
                Response::Markets(markets) => markets,
                _ => Vec::new(),
            })
            .collect();
        if !mistake!("list.unsorted") {
            markets.sort_by_key(|market| market.market);
        }
        Ok(Response::Markets(markets))
    }

    /// The account's orders in every market it has entered.
    pub(super) async fn list_orders(self: &Arc<Self>, call: &Call, account: AccountId) -> Result<Response, ApiError> {
        let wallet = Call { request: Request::GetAccount { account }, ..call.clone() };
        let Response::Account(view) = self.at_leader(self.wallet_cell(account), wallet).await? else {
            return Err(ApiError::Unavailable);
        };
        let answers = futures::future::try_join_all(
            view.markets.into_iter().skip(usize::from(mistake!("orders.of_a_market_left_out"))).filter_map(|market| {
                let request = Request::ListOrders { account, market: Some(market) };
                let cell = CellId(market.cell()?);
                Some(self.at_leader(cell, Call { request, ..call.clone() }))
            }),
        )
        .await?;
        let orders = answers.into_iter().flat_map(|answer| match answer {
            Response::Orders(orders) => orders,
            _ => Vec::new(),
        });
        Ok(Response::Orders(orders.collect()))
    }

    /// What this node knows of itself.
    pub(super) fn report(&self) -> NodeReport {
        let status = self.host.status();
        let cells: Vec<CellReport> = status
            .cells
            .iter()
            .map(|(cell, here)| CellReport {
                cell: *cell,
                leader: here.leader.filter(|_| self.is_led(*cell)).map(|NodeId(n)| n),
                term: here.term,
                replica: ReplicaView {
                    node: self.world.node.0,
                    applied: here.applied,
                    committed: here.committed,
                    digest: self.digest(*cell, here.applied),
                    halted: here.halted.as_ref().map(|h| format!("at {} of term {}: {}", h.index, h.term, h.message)),
                },
                outbox: here.outbox.iter().map(|(to, waiting)| (*to, *waiting as u64)).collect(),
            })
            .collect();
        let own = |cell: &&CellReport| {
            cell.leader == Some(self.world.node.0)
                || (cell.leader.is_some() && mistake!("status.followed_counts_as_led"))
        };
        let leads = cells.iter().filter(own).count() as u32;
        // One sentence is enough to send someone to the node's log, which has them all.
        let told = status.notices.iter().next();
        let full = "the log's disk is full: make room, and bets are taken again; reads, cancels and settlement go on";
        let note = match (status.clock_ahead_ms, told) {
            (Some(ms), _) => {
                Some(format!("its clock is {ms} ms ahead of the others': it leads nothing until that is right"))
            }
            (None, Some((cell, sentence))) => Some(format!("{cell}: {sentence}")),
            (None, None) => status.log.full.then(|| full.to_owned()),
        };
        let node = NodeView {
            node: self.world.node.0,
            incarnation: self.host.cells().map(|group| group.raft_id().incarnation()).max().unwrap_or_default(),
            reachable: true,
            leads,
            fsyncs: status.log.syncs,
            log_bytes: status.log.bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            note,
        };
        NodeReport { node, cells }
    }

    /// The first bytes of the state's hash, in hexadecimal; empty where the state is so large, or changes so
    /// fast, that hashing it would hold the node up.
    fn digest(&self, cell: CellId, applied: u64) -> String {
        let Some(group) = self.host.cell(cell) else { return String::new() };
        let hash = || {
            let digest = group.read(stakehold_raft::replica::Replica::digest);
            digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        };
        // The meta cell has no desk, and is small.
        let Some(desk) = self.desks.get(&cell) else { return hash() };
        let (wallets, _, references) = desk.read(|cell| cell.sizes());
        if wallets + references > DIGEST_ENTRIES_MAX {
            return String::new();
        }
        let now_ms = self.world.clock.monotonic_ns() / 1_000_000;
        desk.hashed.at(applied, now_ms, DIGEST_EVERY_MS, hash)
    }

    /// Every node and every cell, as each node sees itself.
    pub(super) async fn status(self: &Arc<Self>) -> Result<Response, ApiError> {
        let nodes: Vec<NodeId> = self.host.config().members.iter().map(|member| member.node).collect();
        let deadline = self.world.clock.now_ms() + STATUS_PATIENCE_MS;
        let reports = futures::future::join_all(nodes.iter().map(|node| async move {
            if *node == self.world.node {
                return Some(self.report());
            }
            match self.ask(*node, &Ask::Status, deadline).await {
                Ok(Answer::Status(report)) => Some(report),
                _ => None,
            }
        }))
        .await;

        let mut views = Vec::new();
        let mut cells: BTreeMap<CellId, CellView> = BTreeMap::new();
        for (node, report) in nodes.iter().zip(reports) {
            let Some(report) = report else {
                views.push(NodeView {
                    node: node.0,
                    incarnation: 0,
                    reachable: false,
                    leads: 0,
                    fsyncs: 0,
                    log_bytes: 0,
                    version: String::new(),
                    note: Some("no answer".to_owned()),
                });
                continue;
            };
            for here in report.cells {
                let view = cells.entry(here.cell).or_insert_with(|| CellView {
                    cell: here.cell.to_string(),
                    leader: None,
                    term: 0,
                    replicas: Vec::new(),
                    outbox: Vec::new(),
                });
                if here.term > view.term || (here.term == view.term && view.leader.is_none()) {
                    (view.term, view.leader) = (here.term, here.leader);
                }
                if here.leader == Some(node.0) {
                    view.outbox = here.outbox.iter().map(|(to, waiting)| (to.to_string(), *waiting)).collect();
                }
                if !mistake!("status.followers_left_out") || here.leader == Some(node.0) {
                    view.replicas.push(here.replica);
                }
            }
            views.push(report.node);
        }
        let cluster = self.cluster_name();
        Ok(Response::Status(Box::new(ClusterStatus { cluster, nodes: views, cells: cells.into_values().collect() })))
    }

    /// Whether this node has applied what it knows the meta cell to have committed. Before that, a
    /// token that is unknown here may be a good one.
    pub fn knows_tokens(&self) -> bool {
        let Some(meta) = self.host.cell(CellId::META) else { return false };
        let status = meta.status();
        let founded = meta.read(|replica| replica.machine().meta().founding().is_some());
        founded && status.leader.is_some() && status.applied >= status.committed
    }

    /// Whether this node can serve: it knows the tokens, and every cell is led.
    ///
    /// # Errors
    /// A sentence naming what is missing, and what to do if that is known.
    pub fn ready(&self) -> Result<(), String> {
        let waiting: Vec<CellId> = self.cells.all().chain([CellId::META]).filter(|cell| !self.is_led(*cell)).collect();
        let mut notices = self.host.notices();
        if let Some(told) = waiting.iter().find_map(|cell| notices.remove(cell)) {
            return Err(told);
        }
        if !self.knows_tokens() {
            return Err("the meta cell's records are not here yet".into());
        }
        let names: Vec<String> = waiting.iter().map(CellId::to_string).collect();
        if names.is_empty() { Ok(()) } else { Err(format!("no leader for {}", names.join(", "))) }
    }

    /// Of a cell without a replica here it is known only who is said to lead it.
    fn is_led(&self, cell: CellId) -> bool {
        match self.host.cell(cell) {
            Some(group) => group.is_led(),
            None => self.host.leader_of(cell).is_some(),
        }
    }

    fn cluster_name(&self) -> String {
        let meta = self.host.cell(CellId::META);
        meta.and_then(|group| {
            group.read(|replica| replica.machine().meta().founding().map(|founding| founding.cluster.clone()))
        })
        .unwrap_or_default()
    }

    pub(super) async fn breathe(&self) {
        timer::sleep(Duration::from_millis(2)).await;
    }
}
