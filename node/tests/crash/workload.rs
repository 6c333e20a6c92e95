//! The work: accounts and markets, how a bet is sent, and the stewards, who open markets, suspend
//! them, turn them in-play, remove runners, settle and settle again. The clients are in `client`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stakehold_actors::{
    api::{ClusterStatus, NewOrder, Request, Response},
    domain::types::{
        AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, Persistence, Reference, Refusal, RunnerId,
        Side, WinFraction,
    },
};
use stakehold_raft::{CellId, Cells, ids::kind};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    client::Client,
    dice::Dice,
    field::{Field, RETRY, Told},
    oracle::{Asked, BetKey, Oracle, Outcomes, Transfer},
};

/// On the ladder, around where the favourites of a race are.
pub const PRICES: [u32; 11] = [150, 180, 200, 220, 250, 300, 350, 400, 500, 600, 800];
pub const RUNNERS: u64 = 5;
/// Small against the stakes: refusals for lack of funds are in the mix.
const FIRST_DEPOSIT: Minor = Minor(60_000);
/// Markets at a time.
const SLOTS: usize = 8;
/// So many of them are in one cell: the busiest.
const BUSY_SLOTS: usize = 3;
/// How often a client sends an unanswered call again before it gives up on it.
pub const PATIENCE: u32 = 8;
/// Accounts that only ever measure.
pub const PROBES: u64 = 4;
const FIRST_CLIENT: u64 = 1_000;
const FIRST_PROBE: u64 = 9_000;

pub struct Workload {
    pub field: Arc<Field>,
    pub oracle: Arc<Oracle>,
    pub cells: Cells,
    clients: u64,
    slots: Vec<Mutex<MarketId>>,
    /// In each cell a market that stays open, to see whether the cell takes bets.
    probes: Vec<MarketId>,
    references: AtomicU64,
    over: AtomicBool,
}

pub fn reference(text: &str) -> Reference {
    Reference::new(text).expect("short visible ASCII")
}

impl Workload {
    /// Accounts with money, and open markets.
    pub async fn set_up(field: &Arc<Field>, oracle: &Arc<Oracle>, dice: &mut Dice, clients: u64) -> Arc<Self> {
        let led = |status: ClusterStatus| status.cells.iter().all(|cell| cell.leader.is_some()).then_some(status);
        let status = field.watch(dice, |_| true, led).await.expect("a cluster that starts soon has leaders");
        let meta = CellId::META.to_string();
        let count = status.cells.iter().filter(|cell| cell.cell != meta).count();
        let cells = Cells::new(u16::try_from(count).expect("at most 1024")).expect("a power of two");
        let mut workload = Self {
            field: field.clone(),
            oracle: oracle.clone(),
            cells,
            clients,
            slots: Vec::new(),
            probes: Vec::new(),
            references: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        for cell in cells.all() {
            let market = workload.open_market(dice, event_in(cells, cell, 1)).await;
            workload.probes.push(market);
        }
        let busiest = CellId(dice.below(u64::from(cells.count())) as u16);
        for slot in 0..SLOTS {
            let event = workload.event_of(slot, busiest);
            let market = workload.open_market(dice, event).await;
            workload.slots.push(Mutex::new(market));
        }
        let workload = Arc::new(workload);
        let opened = workload.accounts().map(|account| {
            let (workload, mut dice) = (workload.clone(), dice.fork());
            async move {
                let create = Request::CreateAccount { account, name: format!("account {account}") };
                workload.operate(&mut dice, &create).await;
                workload.transfer(&mut dice, account, FIRST_DEPOSIT, u32::MAX).await;
            }
        });
        futures::future::join_all(opened).await;
        workload
    }

    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let clients = (0..self.clients).map(|n| AccountId(FIRST_CLIENT + n));
        clients.chain((0..PROBES).map(|n| AccountId(FIRST_PROBE + n)))
    }

    /// Everybody at work, until [`Workload::stop`].
    pub fn start(self: &Arc<Self>, pause: Duration, dice: &mut Dice) -> Vec<JoinHandle<()>> {
        let clients = (0..self.clients).map(|n| {
            let client = Client { workload: self.clone(), account: AccountId(FIRST_CLIENT + n), dice: dice.fork() };
            tokio::spawn(client.bet(pause))
        });
        let mut crowd: Vec<_> = clients.collect();
        for slot in 0..SLOTS {
            crowd.push(tokio::spawn(self.clone().steward(slot, dice.fork())));
        }
        crowd
    }

    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits, or less when the work is over.
    async fn rest(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() && !self.is_over() {
            let nap = left.min(Duration::from_millis(100));
            sleep(nap).await;
            left -= nap;
        }
    }

    pub fn fresh(&self, what: &str) -> Reference {
        reference(&format!("{what}-{}", self.references.fetch_add(1, Ordering::Relaxed)))
    }

    fn event_of(&self, slot: usize, busiest: CellId) -> EventId {
        let spread = CellId((slot as u16 * 3 + 1) % self.cells.count());
        event_in(self.cells, if slot < BUSY_SLOTS { busiest } else { spread }, 1_000_000 * (slot as u64 + 1))
    }

    /// One of the markets, a busy one more often than not.
    pub fn market(&self, dice: &mut Dice) -> MarketId {
        let slot = if dice.percent(60) { dice.below(BUSY_SLOTS as u64) } else { dice.below(SLOTS as u64) };
        *self.slots[slot as usize].lock().expect("nothing panics while it holds a slot")
    }

    // -- bets --

    /// Sends a bet, new or not, until it is answered or the sender has had enough.
    pub async fn send(&self, dice: &mut Dice, key: &BetKey, asked: &Asked, calls: u32) -> Option<Outcomes> {
        for _ in 0..calls {
            let node = dice.below(self.field.nodes() as u64) as usize;
            if let Some(outcomes) = self.send_once(key, asked, node, dice.percent(40)).await {
                return Some(outcomes);
            }
            sleep(RETRY).await;
        }
        None
    }

    /// Sends a bet through a node, once.
    pub async fn send_once(&self, key: &BetKey, asked: &Asked, node: usize, native: bool) -> Option<Outcomes> {
        let told = self.field.call(node, native, asked.request(key)).await;
        self.hear(key, asked, node, told)
    }

    /// What was told about a bet goes into the ledger.
    pub fn hear(&self, key: &BetKey, asked: &Asked, node: usize, told: Told) -> Option<Outcomes> {
        let outcomes = match told {
            Told::Answer(Ok(Response::Placed { reports, market, reference })) => {
                let in_order = reports.iter().zip(0..).all(|(report, index)| report.index == index);
                if !in_order || reports.len() != asked.parts() || market != key.1 || reference != key.2 {
                    self.oracle.wrong(format!("{key:?}: the answer is to another question: {reports:?}"));
                }
                reports.into_iter().map(|report| report.outcome).collect()
            }
            Told::Answer(Ok(Response::Order(view))) => vec![Ok(view)],
            Told::Answer(Err(refusal)) => vec![Err(refusal); asked.parts()],
            Told::Nothing(why) => {
                self.oracle.count(format!("no answer: {}", kind_of(&why)));
                return None;
            }
            other => {
                self.oracle.wrong(format!("{key:?}: {other:?}"));
                return None;
            }
        };
        self.oracle.answered(key, node, outcomes.clone());
        Some(outcomes)
    }

    /// A bet that measures whether a cell takes bets: not sent yet.
    pub fn probe(&self, cell: u16, probe: u64, dice: &mut Dice) -> Option<(BetKey, Asked)> {
        let market = *self.probes.get(usize::from(cell))?;
        let key = (AccountId(FIRST_PROBE + probe), market, self.fresh("probe"));
        // Backs and lays of the same runner at the same price: little money comes a long way.
        let side = if dice.percent(50) { Side::Back } else { Side::Lay };
        let order = NewOrder { runner: RunnerId(1), side, price: 200, size: Minor(100), ..plain_order() };
        let asked = Asked::Place(vec![order]);
        self.oracle.asks(&key, &asked);
        Some((key, asked))
    }

    // -- money --

    pub async fn transfer(&self, dice: &mut Dice, account: AccountId, amount: Minor, calls: u32) {
        let reference = self.fresh("money");
        let transfer = Transfer { amount, answer: None };
        self.oracle.ledger().transfers.insert((account, reference.clone()), transfer.clone());
        let request = transfer.request(account, reference.clone());
        for _ in 0..calls {
            let node = dice.below(self.field.nodes() as u64) as usize;
            match self.field.call(node, dice.percent(30), request.clone()).await {
                Told::Answer(answer) => return self.oracle.transferred(account, &reference, answer),
                Told::Nothing(_) => sleep(RETRY).await,
                Told::Wrong(why) => return self.oracle.wrong(format!("account {account}, {reference}: {why}")),
            }
        }
    }

    // -- markets --

    /// A call of the operator, until it is answered.
    async fn operate(&self, dice: &mut Dice, request: &Request) -> Option<Result<Response, Refusal>> {
        match self.field.insist(dice, request).await {
            Ok(answer) => Some(answer),
            Err(sentence) => {
                self.oracle.wrong(sentence);
                None
            }
        }
    }

    async fn open_market(&self, dice: &mut Dice, event: EventId) -> MarketId {
        let definition =
            MarketDefinition::win(event, &format!("event {event}"), (1..=RUNNERS).map(|n| (n, format!("runner {n}"))));
        let create = Request::CreateMarket { definition: Box::new(definition), reference: self.fresh("market") };
        let market = match self.operate(dice, &create).await {
            Some(Ok(Response::Market(view))) => view.summary.market,
            other => panic!("no market could be made: {other:?}"),
        };
        self.oracle.ledger().lives.entry(market).or_default();
        self.operate(dice, &Request::OpenMarket { market }).await;
        market
    }

    /// Runs one market after the other.
    async fn steward(self: Arc<Self>, slot: usize, mut dice: Dice) {
        let dice = &mut dice;
        while !self.is_over() {
            let market = *self.slots[slot].lock().expect("nothing panics while it holds a slot");
            for _ in 0..dice.between(1, 3) {
                self.rest(Duration::from_millis(dice.between(1_000, 5_000))).await;
                if !self.is_over() {
                    self.incident(market, dice).await;
                }
            }
            self.rest(Duration::from_millis(dice.between(1_000, 4_000))).await;
            if self.is_over() {
                return;
            }
            let successor = self.open_market(dice, self.same_event(slot)).await;
            *self.slots[slot].lock().expect("nothing panics while it holds a slot") = successor;
            self.close(market, dice).await;
        }
    }

    fn same_event(&self, slot: usize) -> EventId {
        let busiest = self.slots[0].lock().expect("nothing panics while it holds a slot").cell();
        self.event_of(slot, CellId(busiest.unwrap_or_default()))
    }

    /// Something that happens to a market before its end.
    async fn incident(&self, market: MarketId, dice: &mut Dice) {
        match dice.below(3) {
            0 => {
                self.operate(dice, &Request::SuspendMarket { market }).await;
                self.rest(Duration::from_millis(dice.between(0, 400))).await;
            }
            1 => {
                self.operate(dice, &Request::TurnInPlay { market, bet_delay_s: 1 }).await;
            }
            _ => {
                let runner = RunnerId(dice.between(2, RUNNERS - 1));
                let factor = dice.between(1, 30) as u32 * 1_000;
                let reference = self.fresh("removal");
                let remove = Request::RemoveRunner { market, runner, factor, reference };
                if let Some(Ok(_)) = self.operate(dice, &remove).await {
                    self.oracle.count("runners removed");
                    let mut ledger = self.oracle.ledger();
                    ledger.lives.entry(market).or_default().removed.insert(runner, factor);
                }
            }
        }
        self.operate(dice, &Request::OpenMarket { market }).await;
    }

    /// Settles a market, and perhaps again and again.
    async fn close(&self, market: MarketId, dice: &mut Dice) {
        let result = self.result(market, dice);
        self.settle(market, result, false, dice).await;
        for _ in 0..dice.below(3) {
            self.rest(Duration::from_millis(dice.between(100, 1_500))).await;
            let result = self.result(market, dice);
            self.settle(market, result, true, dice).await;
        }
    }

    fn result(&self, market: MarketId, dice: &mut Dice) -> MarketResult {
        if dice.percent(20) {
            return MarketResult::Void;
        }
        let removed = self.oracle.ledger().lives.entry(market).or_default().removed.clone();
        let live: Vec<RunnerId> = (1..=RUNNERS).map(RunnerId).filter(|runner| !removed.contains_key(runner)).collect();
        let winner = dice.pick(&live).copied();
        let dead_heat = dice.percent(15).then(|| live.iter().copied().find(|runner| Some(*runner) != winner)).flatten();
        let share = |runner: RunnerId| {
            let wins = Some(runner) == winner || Some(runner) == dead_heat;
            WinFraction { numerator: u32::from(wins), denominator: if wins && dead_heat.is_some() { 2 } else { 1 } }
        };
        MarketResult::Fractions(live.iter().map(|runner| (*runner, share(*runner))).collect())
    }

    async fn settle(&self, market: MarketId, result: MarketResult, again: bool, dice: &mut Dice) {
        loop {
            let (result, reference) = (result.clone(), self.fresh("settle"));
            let request = match again {
                true => Request::Resettle { market, result: result.clone(), reference },
                false => Request::Settle { market, result: result.clone(), reference },
            };
            match self.operate(dice, &request).await {
                Some(Ok(_)) => {
                    self.oracle.count(if again { "resettlements" } else { "settlements" });
                    let mut ledger = self.oracle.ledger();
                    let life = ledger.lives.entry(market).or_default();
                    (life.result, life.settlements) = (Some(result), life.settlements + 1);
                    return;
                }
                // The one before is still being paid out.
                Some(Err(Refusal::WrongState)) if again => sleep(RETRY).await,
                Some(Err(refusal)) => return self.oracle.wrong(format!("{request:?} was refused: {refusal:?}")),
                None => return,
            }
        }
    }
}

pub fn plain_order() -> NewOrder {
    NewOrder {
        runner: RunnerId(1),
        side: Side::Back,
        price: PRICES[0],
        size: Minor(100),
        persistence: Persistence::Persist,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    }
}

fn event_in(cells: Cells, cell: CellId, from: u64) -> EventId {
    let found = (from..).find(|event| cells.cell_of(kind::EVENT, *event) == cell);
    EventId(found.expect("every cell has events"))
}

/// The same trouble with another node or number is the same trouble.
fn kind_of(why: &str) -> String {
    let words: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
    words.chars().take(90).collect()
}
