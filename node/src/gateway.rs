//! The node's exchange as its front ends see it. No HTTP and no exchange rules: only the
//! translation from one to the other.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use stakehold_actors::{
    api::{ApiError, Call, Principal, Response},
    domain::types::MarketId,
    shell::{Exchange, FeedEvent},
};

use crate::http::backend::{Backend, CellGauges, Distribution, Gauges, Lagged, MarketFeed};

/// Makes an [`Exchange`] a [`Backend`].
#[derive(Debug)]
pub struct Gateway(pub Arc<Exchange>);

impl Backend for Gateway {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Response, ApiError>> {
        let exchange = self.0.clone();
        async move { exchange.call(call).await }.boxed()
    }

    fn feed(&self, market: MarketId) -> BoxFuture<'static, Result<MarketFeed, ApiError>> {
        let exchange = self.0.clone();
        async move {
            let mut feed = exchange.feed(market)?;
            let image = feed.image().await?;
            let deltas = stream::unfold(feed, |mut feed| async move {
                match feed.next().await? {
                    FeedEvent::Delta(delta) => Some((Ok((*delta).clone()), feed)),
                    FeedEvent::Image(_) => Some((Err(Lagged), feed)),
                }
            });
            Ok(MarketFeed { image, deltas: deltas.boxed() })
        }
        .boxed()
    }

    fn principal(&self, token_hash: &[u8; 32]) -> Option<Principal> {
        self.0.principal(token_hash)
    }

    fn knows_tokens(&self) -> bool {
        self.0.knows_tokens()
    }

    fn create_token(&self, principal: Principal, hash: [u8; 32]) -> BoxFuture<'static, Result<(), ApiError>> {
        let exchange = self.0.clone();
        async move { exchange.create_token(principal, hash).await }.boxed()
    }

    fn ready(&self) -> Result<(), String> {
        self.0.ready()
    }

    fn live(&self) -> bool {
        true
    }

    fn gauges(&self) -> Gauges {
        let load = self.0.load();
        let latency = self.0.commit_latency();
        Gauges {
            commit_latency: Distribution {
                sum_seconds: latency.sum_seconds,
                count: latency.count,
                buckets: latency.buckets,
            },
            cells: self
                .0
                .cell_gauges()
                .into_iter()
                .map(|cell| CellGauges {
                    cell: cell.cell.to_string(),
                    leads: cell.leads,
                    apply_lag: cell.apply_lag,
                    outbox_depth: cell.outbox_depth,
                    outbox_age_ms: cell.outbox_age_ms,
                    in_flight: cell.in_flight,
                    conservation: cell.conservation,
                    halted: cell.halted,
                    format: cell.format,
                })
                .collect(),
            queues: vec![
                ("calls".to_owned(), load.calls as u64),
                ("orders_in_bet_delay".to_owned(), load.delayed as u64),
                ("market_actors".to_owned(), load.markets as u64),
                ("wallet_actors".to_owned(), load.wallets as u64),
            ],
            fsyncs: load.fsyncs,
            log_bytes: load.log_bytes,
        }
    }
}
