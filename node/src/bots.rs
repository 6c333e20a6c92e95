//! The demo's customers: they quote a few markets around odds that wander, and bet against each
//! other, so that a new user sees a market that lives. They use the same calls as everybody else.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use stakehold_actors::{
    api::{CancelOrder, NewOrder, Request, Response, WhichOrder},
    domain::{
        ladder::Tick,
        types::{AccountId, MarketId, Minor, OrderId, Persistence, Reference, RunnerId, Side},
    },
};
use stakehold_raft::seam::Entropy;
use tokio_util::sync::CancellationToken;

use crate::{client::ClientError, exchange::Exchange};

/// How often each market moves.
const PAUSE_MS: std::ops::Range<u64> = 300..900;
/// After an error: the cluster may be electing a leader.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Quotes that rest on one side of a runner; the oldest go first.
const QUOTES_MAX: usize = 6;
/// How far odds wander from where they began, in ticks.
const WANDER_TICKS: usize = 12;

/// Two accounts and a market for them to play in.
#[derive(Clone, Debug)]
pub struct Stage {
    pub market: MarketId,
    /// With the odds, in hundredths, around which each runner is quoted.
    pub runners: Vec<(RunnerId, u32)>,
    /// Quotes both sides of every runner.
    pub maker: AccountId,
    /// Takes what the maker offers.
    pub taker: AccountId,
}

/// Keeps a market moving until it is told to stop, or closed. Errors pause it.
pub async fn play(
    exchange: Arc<dyn Exchange>,
    stage: Stage,
    entropy: Arc<dyn Entropy>,
    run: u64,
    stop: CancellationToken,
) {
    let mut bot = Bot::new(exchange, stage, entropy, run);
    loop {
        let pause = match bot.act().await {
            Ok(()) => Duration::from_millis(PAUSE_MS.start + bot.below(PAUSE_MS.end - PAUSE_MS.start)),
            Err(error) => {
                tracing::debug!(market = bot.stage.market.0, %error, "a bot waits");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Bot {
    exchange: Arc<dyn Exchange>,
    stage: Stage,
    entropy: Arc<dyn Entropy>,
    run: u64,
    calls: u64,
    quoted: Vec<Quoted>,
}

/// What is quoted on a runner.
struct Quoted {
    home: usize,
    /// Lays rest below this tick, backs from it on.
    middle: usize,
    lays: VecDeque<OrderId>,
    backs: VecDeque<OrderId>,
}

impl Bot {
    fn new(exchange: Arc<dyn Exchange>, stage: Stage, entropy: Arc<dyn Entropy>, run: u64) -> Self {
        let quoted = stage
            .runners
            .iter()
            .map(|&(_, price)| {
                let home = Tick::all().rev().find(|tick| tick.price() <= price).unwrap_or(Tick::LOWEST).index().max(2);
                Quoted { home, middle: home, lays: VecDeque::new(), backs: VecDeque::new() }
            })
            .collect();
        Self { exchange, stage, entropy, run, calls: 0, quoted }
    }

    fn below(&self, bound: u64) -> u64 {
        self.entropy.next_u64() % bound
    }

    /// One move on one runner: drop old quotes, perhaps wander, quote both sides, sometimes bet.
    async fn act(&mut self) -> Result<(), ClientError> {
        let n = self.below(self.quoted.len() as u64) as usize;
        self.drop_old(n).await?;
        if self.below(3) == 0 {
            self.wander(n).await?;
        }
        self.quote(n).await?;
        if self.below(2) == 0 {
            self.bet(n).await?;
        }
        Ok(())
    }

    async fn drop_old(&mut self, n: usize) -> Result<(), ClientError> {
        let quoted = &mut self.quoted[n];
        let mut old = Vec::new();
        for side in [&mut quoted.lays, &mut quoted.backs] {
            while side.len() > QUOTES_MAX {
                old.extend(side.pop_front());
            }
        }
        self.cancel(old).await
    }

    /// The odds move by a tick, and every quote on the wrong side of them goes.
    async fn wander(&mut self, n: usize) -> Result<(), ClientError> {
        let up = self.below(2) == 0;
        let quoted = &mut self.quoted[n];
        let wanted = if up { quoted.middle + 1 } else { quoted.middle - 1 };
        let bounds = quoted.home.saturating_sub(WANDER_TICKS).max(2)
            ..=(quoted.home + WANDER_TICKS).min(Tick::HIGHEST.index() - 2);
        if !bounds.contains(&wanted) {
            return Ok(());
        }
        quoted.middle = wanted;
        let side = if up { &mut quoted.backs } else { &mut quoted.lays };
        let gone = side.drain(..).collect();
        self.cancel(gone).await
    }

    async fn cancel(&mut self, orders: Vec<OrderId>) -> Result<(), ClientError> {
        if orders.is_empty() {
            return Ok(());
        }
        let cancel = |order| CancelOrder { which: WhichOrder::Id(order), reduction: None };
        let orders = orders.into_iter().map(cancel).collect();
        // Some have been matched in the meantime; their reports say so, and nothing depends on it.
        self.exchange.call(Request::Cancel { account: self.stage.maker, market: self.stage.market, orders }).await?;
        Ok(())
    }

    async fn quote(&mut self, n: usize) -> Result<(), ClientError> {
        let middle = self.quoted[n].middle;
        let (below, above) = (1 + self.below(4) as usize, self.below(4) as usize);
        let lay = self.order(n, Side::Lay, middle.saturating_sub(below), true);
        let back = self.order(n, Side::Back, middle + above, true);
        let orders = vec![lay, back];
        let placed = self.place(self.stage.maker, orders).await?;
        for (side, order) in [Side::Lay, Side::Back].into_iter().zip(placed) {
            if let Some(order) = order {
                let quoted = &mut self.quoted[n];
                if side == Side::Lay { &mut quoted.lays } else { &mut quoted.backs }.push_back(order);
            }
        }
        Ok(())
    }

    /// Takes part of the best offer, if there is one.
    async fn bet(&mut self, n: usize) -> Result<(), ClientError> {
        let middle = self.quoted[n].middle;
        let bet = if self.below(2) == 0 {
            self.order(n, Side::Back, middle.saturating_sub(2), false)
        } else {
            self.order(n, Side::Lay, middle + 1, false)
        };
        let bet = NewOrder { fill_or_kill: true, min_fill: Some(Minor(1)), ..bet };
        self.place(self.stage.taker, vec![bet]).await.map(|_| ())
    }

    fn order(&self, n: usize, side: Side, tick: usize, post_only: bool) -> NewOrder {
        NewOrder {
            runner: self.stage.runners[n].0,
            side,
            price: Tick::new(tick).unwrap_or(Tick::HIGHEST).price(),
            size: Minor(200 + 50 * self.below(80) as i64),
            persistence: Persistence::Persist,
            fill_or_kill: false,
            min_fill: None,
            post_only,
        }
    }

    /// The orders that were taken, in their places.
    async fn place(&mut self, account: AccountId, orders: Vec<NewOrder>) -> Result<Vec<Option<OrderId>>, ClientError> {
        self.calls += 1;
        let reference = Reference::new(&format!("bot-{:x}-{:x}", self.run, self.calls)).expect("short visible ASCII");
        let call = Request::Place { account, market: self.stage.market, reference, orders };
        match self.exchange.call(call).await? {
            Response::Placed { reports, .. } => {
                Ok(reports.into_iter().map(|report| report.outcome.ok().map(|view| view.order)).collect())
            }
            _ => Err(ClientError::Protocol("A call that places orders was answered with something else.".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use stakehold_actors::domain::types::{EventId, MarketDefinition};

    use super::*;
    use crate::model::Model;

    struct Dice(Mutex<u64>);

    impl Entropy for Dice {
        fn next_u64(&self) -> u64 {
            let mut state = self.0.lock().unwrap();
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *state >> 33
        }
    }

    #[tokio::test]
    async fn odds_keep_moving_and_bets_are_matched() {
        let model = Arc::new(Model::default());
        for account in [1, 2] {
            let account = AccountId(account);
            model.call(Request::CreateAccount { account, name: "bot".into() }).await.unwrap();
            let reference = Reference::new("fund").unwrap();
            model.call(Request::Deposit { account, amount: Minor(1_000_000_000), reference }).await.unwrap();
        }
        let runners = [(RunnerId(1), 101), (RunnerId(2), 350), (RunnerId(3), 100_000)];
        let definition =
            MarketDefinition::win(EventId(1), "demo", runners.iter().map(|(id, _)| (id.0, id.to_string())));
        let create =
            Request::CreateMarket { definition: Box::new(definition), reference: Reference::new("market").unwrap() };
        let Response::Market(view) = model.call(create).await.unwrap() else { panic!("a market") };
        let market = view.summary.market;
        model.call(Request::OpenMarket { market }).await.unwrap();
        let stage = Stage { market, runners: runners.to_vec(), maker: AccountId(1), taker: AccountId(2) };
        let exchange: Arc<dyn Exchange> = model.clone();
        let mut bot = Bot::new(exchange, stage, Arc::new(Dice(Mutex::new(7))), 1);
        let mut middles = std::collections::BTreeSet::new();
        for _ in 0..600 {
            bot.act().await.unwrap();
            middles.insert(bot.quoted[1].middle);
            assert!(bot.quoted.iter().all(|quoted| quoted.lays.len() <= QUOTES_MAX + 1));
        }
        let Response::Book(book) = model.call(Request::Book { market }).await.unwrap() else { panic!("a book") };
        assert!(book.runners.iter().all(|runner| !runner.to_back.is_empty() || !runner.to_lay.is_empty()));
        assert!(book.runners.iter().any(|runner| runner.matched.is_positive()) && middles.len() > 3);
        let Response::Audit(audit) = model.call(Request::Audit).await.unwrap() else { panic!("an audit") };
        assert!(audit.conserved);
    }
}
