//! Wallets and markets for a run: created, funded and opened with many calls in flight.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use stakehold_actors::{
    api::{ApiError, Request, Response},
    domain::types::{EventId, MarketDefinition, MarketId, Reference, Refusal},
};
use tokio::time::{Instant, sleep};

use super::workload::{FUNDS, RUNNERS, WALLETS_SPAN, Workload};
use crate::{
    client::ClientError,
    exchange::{Exchange, is_transient},
};

/// Calls in flight while setting up.
const IN_FLIGHT: usize = 512;
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a call until it is answered; all calls here have a reference or change nothing twice.
///
/// # Errors
/// A refusal at once; what is transient, when patience ends.
pub async fn insist(exchange: &dyn Exchange, request: Request) -> Result<Response, ClientError> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match exchange.call(request.clone()).await {
            Err(error) if is_transient(&error) && started.elapsed() < PATIENCE => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            answer => return answer,
        }
    }
}

/// Creates and funds the wallets, creates and opens the markets.
///
/// # Errors
/// When the cluster refuses or cannot be reached.
pub async fn set_up(
    exchange: &dyn Exchange,
    run: u64,
    seed: u64,
    wallets: u64,
    markets: u32,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Workload, ClientError> {
    assert!(wallets < WALLETS_SPAN, "checked where the option is read");
    let total = wallets + u64::from(markets);
    let mut workload = Workload { run, seed, wallets, markets: Vec::new() };
    let markets = futures::stream::iter(0..u64::from(markets))
        .map(|n| open_market(exchange, run, n))
        .buffered(IN_FLIGHT)
        .try_collect::<Vec<MarketId>>()
        .await?;
    progress(markets.len() as u64, total);
    let mut funded =
        futures::stream::iter(1..=wallets).map(|n| fund_wallet(exchange, &workload, n)).buffer_unordered(IN_FLIGHT);
    let mut done = markets.len() as u64;
    while let Some(result) = funded.next().await {
        result?;
        done += 1;
        if done.is_multiple_of(500) {
            progress(done, total);
        }
    }
    drop(funded);
    progress(total, total);
    workload.markets = markets;
    Ok(workload)
}

async fn fund_wallet(exchange: &dyn Exchange, workload: &Workload, n: u64) -> Result<(), ClientError> {
    let account = workload.account(n);
    match insist(exchange, Request::CreateAccount { account, name: format!("bench {n}") }).await {
        Ok(_) | Err(ClientError::Api(ApiError::Refused(Refusal::AccountExists))) => {}
        Err(error) => return Err(error),
    }
    let reference = reference(&format!("fund-{:x}-{n:x}", workload.run));
    insist(exchange, Request::Deposit { account, amount: FUNDS, reference }).await.map(|_| ())
}

async fn open_market(exchange: &dyn Exchange, run: u64, n: u64) -> Result<MarketId, ClientError> {
    let definition = MarketDefinition {
        name: format!("bench {n}"),
        // One event a market, so that markets spread over the cells.
        ..MarketDefinition::win(
            EventId(run * 100_000 + n),
            &format!("bench {n}"),
            (1..=RUNNERS).map(|id| (id, format!("runner {id}"))),
        )
    };
    let reference = reference(&format!("market-{run:x}-{n:x}"));
    let create = Request::CreateMarket { definition: Box::new(definition), reference };
    let market = match insist(exchange, create).await? {
        Response::Market(view) => view.summary.market,
        _ => {
            return Err(ClientError::Protocol(
                "The cluster answered the creation of a market with something else.".into(),
            ));
        }
    };
    insist(exchange, Request::OpenMarket { market }).await?;
    Ok(market)
}

fn reference(text: &str) -> Reference {
    Reference::new(text).expect("short visible ASCII")
}
