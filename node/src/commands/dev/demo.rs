//! What there is to bet on in `dev`: a few accounts with money, a few markets. Made once; every
//! call carries a reference, so that a second start finds what the first one made.

use std::path::Path;

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{ApiError, MarketSummary, Request, Response},
    domain::types::{AccountId, EventId, MarketDefinition, MarketStatus, Minor, Reference, Refusal, RunnerId},
};

use crate::{
    bots::Stage,
    client::{
        Client, ClientError,
        target::{KnownAccount, Target},
    },
    commands::replay::replay_at,
    files,
    replay::run::Speed,
};

/// People who may bet with the printed tokens, and what each starts with (minor units).
const PEOPLE: [(u64, &str); 3] = [(1001, "Alice"), (1002, "Bob"), (1003, "Carol")];
const POCKET: Minor = Minor(100_000);
/// The bots, and what they start with.
const MAKER: (u64, &str) = (9001, "Demo maker");
const TAKER: (u64, &str) = (9002, "Demo taker");
const BANKROLL: Minor = Minor(100_000_000);

/// (event, event's name, market's name, type, runners with their first prices)
type Demo = (u64, &'static str, &'static str, &'static str, &'static [(&'static str, u32)]);
const MARKETS: [Demo; 3] = [
    (1, "Rovers v United", "Match odds", "MATCH_ODDS", &[("Rovers", 240), ("United", 320), ("The draw", 345)]),
    (
        2,
        "15:30 at Ashford",
        "To win",
        "WIN",
        &[("Copper Kettle", 380), ("Night Ferry", 460), ("Old Ledger", 660), ("Sixpence", 900), ("Tall Order", 1100)],
    ),
    (3, "Hart v Okafor", "Match odds", "MATCH_ODDS", &[("Hart", 166), ("Okafor", 250)]),
];

#[derive(Serialize, Deserialize)]
struct Kept {
    accounts: Vec<KnownAccount>,
}

fn reference(text: &str) -> Reference {
    Reference::new(text).expect("visible ASCII, short")
}

/// The market's price, a few ticks worse, so that a first bet is sure to match.
pub fn takeable(price: u32) -> u32 {
    use stakehold_actors::domain::ladder::Tick;
    let mut tick = Tick::of_price(price);
    for _ in 0..8 {
        tick = tick.and_then(|tick| tick.down().or(Some(tick)));
    }
    tick.map_or(price, Tick::price)
}

async fn open(client: &Client, (number, name): (u64, &str), money: Minor) -> Result<AccountId, String> {
    let account = AccountId(number);
    match client.call(Request::CreateAccount { account, name: name.into() }).await {
        Ok(_) | Err(ClientError::Api(ApiError::Refused(Refusal::AccountExists))) => {}
        Err(error) => return Err(error.to_string()),
    }
    let deposit = Request::Deposit { account, amount: money, reference: reference("dev-opening") };
    client.call(deposit).await.map_err(|e| e.to_string())?;
    Ok(account)
}

/// The people's accounts with their tokens, kept between starts.
pub async fn accounts(client: &Client, data: &Path) -> Result<Vec<KnownAccount>, String> {
    let path = data.join("accounts.json");
    let failed = |error: std::io::Error| format!("{} cannot be used: {error}.", path.display());
    if let Some(text) = files::read(&path).map_err(failed)? {
        let kept: Kept = serde_json::from_slice(&text).map_err(|e| format!("{} is damaged: {e}.", path.display()))?;
        return Ok(kept.accounts);
    }
    let mut accounts = Vec::new();
    for person in PEOPLE {
        let id = open(client, person, POCKET).await?;
        let token = client.issue_token(id).await.map_err(|e| e.to_string())?;
        accounts.push(KnownAccount { id, token });
    }
    let kept = Kept { accounts };
    let text = serde_json::to_vec_pretty(&kept).map_err(|e| e.to_string())?;
    files::create(&path, &text, files::SECRET).map_err(failed)?;
    Ok(kept.accounts)
}

/// A market of the demo as it stands.
pub struct Shown {
    pub stage: Stage,
    pub status: MarketStatus,
}

/// The demo markets, open unless someone has done something else with them. For each that was
/// settled there is another one, so that there is always something to bet on.
pub async fn markets(client: &Client) -> Result<Vec<Shown>, String> {
    let (maker, taker) = (open(client, MAKER, BANKROLL).await?, open(client, TAKER, BANKROLL).await?);
    let mut shown = Vec::new();
    for (event, event_name, name, market_type, runners) in MARKETS {
        let runners: Vec<_> =
            runners.iter().zip(1..).map(|((name, price), id)| (RunnerId(id), *name, *price)).collect();
        let definition = MarketDefinition {
            name: name.into(),
            market_type: market_type.into(),
            bet_delay_s: 5,
            max_stake: Minor(1_000_000),
            ..MarketDefinition::win(
                EventId(event),
                event_name,
                runners.iter().map(|(id, name, _)| (id.0, (*name).to_owned())),
            )
        };
        let market = market(client, &definition, &format!("dev-market-{event}")).await?;
        let runners = runners.into_iter().map(|(id, _, price)| (id, price)).collect();
        shown.push(Shown { stage: Stage { market: market.market, runners, maker, taker }, status: market.status });
    }
    Ok(shown)
}

/// The first market of this name that is not settled: made, or found again, and opened.
async fn market(client: &Client, definition: &MarketDefinition, name: &str) -> Result<MarketSummary, String> {
    let ask = async |request| match client.call(request).await {
        Ok(Response::Market(view)) => Ok(view.summary),
        Ok(other) => Err(format!("a market was expected, not {other:?}")),
        Err(error) => Err(error.to_string()),
    };
    let mut number = 1_u32;
    loop {
        let reference = reference(&if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
        let market = ask(Request::CreateMarket { definition: Box::new(definition.clone()), reference }).await?.market;
        let summary = ask(Request::GetMarket { market }).await?;
        match summary.status {
            MarketStatus::Closed => number += 1,
            MarketStatus::Inactive => return ask(Request::OpenMarket { market }).await,
            MarketStatus::Open | MarketStatus::Suspended => return Ok(summary),
        }
    }
}

/// Runs a recording in the cluster, at its own pace.
pub async fn replay(recording: &Path, target: &Target) -> Result<(), String> {
    let report = replay_at(target, &[recording.to_owned()], Speed::Times(1.0)).await.map_err(|e| e.to_string())?;
    println!("{report}");
    Ok(())
}
