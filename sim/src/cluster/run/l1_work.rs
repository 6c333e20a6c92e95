//! A cluster at rest still works (L1): markets in its cells are made, bet on from other cells, turned in play and
//! settled, through every node, as if nothing had ever happened. Whatever a fault left behind that only
//! stops what comes later shows here.

use stakehold_actors::{
    api::{NewOrder, Request, Response},
    domain::types::{
        AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, Persistence, Reference, RunnerId, Side,
        WinFraction,
    },
};
use stakehold_raft::ids::kind;

use super::Run;
use crate::{
    cluster::{clients::SYMBOLS, watch::Seen},
    oracles::Violation,
    plan::PlannedCall,
};

/// Numbers of the calls: below the numbers that markets have, and above those of any plan.
const FIRST: u64 = SYMBOLS - 100_000;
/// How many numbers a stage has.
const STAGE: u64 = 1_000;
/// So many cells hold a market and a wallet; where there are more, not all do.
const CELLS: usize = 8;
/// Accounts and events begin here: nobody else has such.
const NAMES: u64 = 7_000_000;
/// Of whom nothing is heard for so many milliseconds, the orders are cancelled.
const BEAT_MS: u64 = 500;
/// In virtual microseconds: by then they are.
const BEATEN_US: u64 = 2_000_000;
/// In virtual microseconds: by then a stage is over, a bet delay of a second included; nothing is in its way.
pub(super) const STAGE_US: u64 = 3_000_000;

const DEPOSIT: Minor = Minor(10_000);
const STAKE: Minor = Minor(500);
/// Hundredths.
const PRICE: u32 = 200;

/// What is done, one after the other: a stage begins when all calls of the one before are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Make,
    Open,
    Back,
    Lay,
    TurnInPlay,
    BetInPlay,
    /// Everybody falls silent,
    Beat,
    /// and has nothing unmatched any more.
    Beaten,
    Settle,
    /// What everybody has, once the money is where it belongs.
    Count,
}

const STAGES: [Stage; 10] = [
    Stage::Make,
    Stage::Open,
    Stage::Back,
    Stage::Lay,
    Stage::TurnInPlay,
    Stage::BetInPlay,
    Stage::Beat,
    Stage::Beaten,
    Stage::Settle,
    Stage::Count,
];

#[derive(Debug, Default)]
pub(super) struct Work {
    /// How many stages have begun.
    begun: usize,
    /// When the next may begin, and when the newest must be over, in virtual microseconds.
    from: u64,
    until: u64,
    events: Vec<EventId>,
    accounts: Vec<AccountId>,
    /// What had been seen before, and how many bets had been accepted: this work reaches no mark for the plan.
    before: Option<(Seen, u64)>,
}

impl Work {
    fn market(n: usize) -> MarketId {
        MarketId(FIRST + n as u64)
    }

    /// Who backs on a market, and who lays there: the market's cell holds neither's wallet where there are three.
    fn backer(&self, market: usize) -> AccountId {
        self.accounts[(market + 1) % self.accounts.len()]
    }

    fn layer(&self, market: usize) -> AccountId {
        self.accounts[(market + 2) % self.accounts.len()]
    }

    fn requests(&self, stage: Stage) -> Vec<Request> {
        let markets = 0..self.events.len();
        let place = |account, market, reference: &str, runner, side| {
            let order = NewOrder {
                runner: RunnerId(runner),
                side,
                price: PRICE,
                size: STAKE,
                persistence: Persistence::Persist,
                fill_or_kill: false,
                min_fill: None,
                post_only: false,
            };
            let reference = Reference::new(reference).expect("it is short and plain");
            Request::Place { account, market: Self::market(market), reference, orders: vec![order] }
        };
        let named = |what: &str, n: u64| Reference::new(&format!("{what}-{n}")).expect("it is short and plain");
        match stage {
            // The markets come first: each is named by the number of the call that makes it.
            Stage::Make => {
                let made = self.events.iter().map(|event| Request::CreateMarket {
                    definition: Box::new(MarketDefinition::win(
                        *event,
                        "after all",
                        (1..=3).map(|n| (n, format!("runner {n}"))),
                    )),
                    reference: named("work", event.0),
                });
                let accounts = self
                    .accounts
                    .iter()
                    .map(|account| Request::CreateAccount { account: *account, name: "after all".into() });
                made.chain(accounts).collect()
            }
            Stage::Open => {
                let opened = markets.map(|market| Request::OpenMarket { market: Self::market(market) });
                let paid = self.accounts.iter().map(|account| Request::Deposit {
                    account: *account,
                    amount: DEPOSIT,
                    reference: named("work", account.0),
                });
                opened.chain(paid).collect()
            }
            Stage::Back => markets.map(|market| place(self.backer(market), market, "back", 1, Side::Back)).collect(),
            Stage::Lay => markets.map(|market| place(self.layer(market), market, "lay", 1, Side::Lay)).collect(),
            Stage::TurnInPlay => {
                markets.map(|market| Request::TurnInPlay { market: Self::market(market), bet_delay_s: 1 }).collect()
            }
            Stage::BetInPlay => {
                markets.map(|market| place(self.backer(market), market, "in-play", 2, Side::Back)).collect()
            }
            Stage::Beat => {
                let beat = |account: &AccountId| Request::Heartbeat { account: *account, timeout_ms: BEAT_MS };
                self.accounts.iter().map(beat).collect()
            }
            Stage::Beaten => {
                let list = |account: &AccountId| Request::ListOrders { account: *account, market: None };
                self.accounts.iter().map(list).collect()
            }
            Stage::Settle => markets
                .map(|market| {
                    let wins =
                        |runner| (RunnerId(runner), WinFraction { numerator: u32::from(runner == 1), denominator: 1 });
                    let result = MarketResult::Fractions((1..=3).map(wins).collect());
                    Request::Settle { market: Self::market(market), result, reference: named("settle", market as u64) }
                })
                .collect(),
            Stage::Count => self.accounts.iter().map(|account| Request::GetAccount { account: *account }).collect(),
        }
    }

    /// What an account has in the end: what it won, less 5 % commission, or lost.
    fn has(&self, account: AccountId) -> Minor {
        let won = (0..self.events.len()).filter(|market| self.backer(*market) == account).count() as i64;
        let lost = (0..self.events.len()).filter(|market| self.layer(*market) == account).count() as i64;
        let gain = STAKE.0 * i64::from(PRICE - 100) / 100;
        Minor(DEPOSIT.0 + won * (gain - gain * 5 / 100) - lost * gain)
    }

    /// Whether that is what must be answered.
    fn expects(&self, stage: Stage, answer: &Response) -> bool {
        match (stage, answer) {
            (Stage::Back | Stage::Lay | Stage::BetInPlay, Response::Placed { reports, .. }) => {
                let matched = if stage == Stage::Lay { STAKE } else { Minor::ZERO };
                let [report] = reports.as_slice() else { return false };
                report.outcome.as_ref().is_ok_and(|order| order.matched == matched)
            }
            (Stage::Back | Stage::Lay | Stage::BetInPlay, _) => false,
            (Stage::Beaten, Response::Orders(orders)) => orders.iter().all(|order| order.remaining == Minor::ZERO),
            (Stage::Count, Response::Account(view)) => {
                view.available == self.has(view.account) && view.in_markets == Minor::ZERO && view.owed == Minor::ZERO
            }
            (Stage::Beaten | Stage::Count, _) => false,
            _ => true,
        }
    }
}

impl Run {
    /// What was seen of the plan, and how many of its bets were accepted.
    pub(super) fn seen(&mut self) -> (Seen, u64) {
        let before = self.work.before.take();
        before.unwrap_or_else(|| (self.watch.seen(), self.watch.verdicts(|verdicts| verdicts.accepted)))
    }

    /// Whether all of it is done.
    pub(super) fn worked(&self) -> bool {
        self.work.begun > STAGES.len()
    }

    /// Whether the next stage begins as soon as there are answers, and does not wait for rest.
    pub(super) fn works(&self) -> bool {
        (1..=STAGES.len()).contains(&self.work.begun) && STAGES.get(self.work.begun) != Some(&Stage::Count)
    }

    /// Whether the next stage may begin.
    pub(super) fn answered(&self) -> bool {
        self.clients.open() == 0 && self.now >= self.work.from
    }

    /// When that which has begun must be over, in virtual microseconds.
    pub(super) fn work_until(&self) -> Option<u64> {
        (self.work.begun > 0).then_some(self.work.until)
    }

    /// Looks at the answers of the stage that is over, and begins the next.
    pub(super) fn work_on(&mut self) {
        match self.work.begun {
            0 => self.hire(),
            begun => self.judge(begun - 1),
        }
        if let Some(stage) = STAGES.get(self.work.begun) {
            self.watch.note("work", None, &[self.work.begun as u64], || format!("{stage:?}"));
            let first = FIRST + self.work.begun as u64 * STAGE;
            for (n, request) in (0..).zip(self.work.requests(*stage)) {
                let call = PlannedCall {
                    id: first + n,
                    client: u16::MAX,
                    node: 1 + ((n + self.work.begun as u64) % u64::from(self.setup.nodes)) as u16,
                    operator: true,
                    patience_ms: 5_000,
                    request,
                };
                self.clients.plan(self.now, call);
            }
        }
        let pause = if STAGES.get(self.work.begun) == Some(&Stage::Beat) { BEATEN_US } else { 0 };
        self.work.begun += 1;
        self.work.from = self.now + pause;
        self.work.until = self.work.from + STAGE_US;
    }

    /// A market and a wallet in each of some cells.
    fn hire(&mut self) {
        self.work.before = Some(self.seen());
        let cells = self.config.cells;
        let every = usize::from(cells.count()).div_ceil(CELLS);
        let first = self.setup.choices as usize % every;
        let some: Vec<_> = cells.all().skip(first).step_by(every).collect();
        let named = |kind, cell| (NAMES..).find(|name| cells.cell_of(kind, *name) == cell).expect("numbers abound");
        self.work.events = some.iter().map(|cell| EventId(named(kind::EVENT, *cell))).collect();
        self.work.accounts = some.iter().map(|cell| AccountId(named(kind::ACCOUNT, *cell))).collect();
        // Nobody bets against himself.
        if let [only] = *self.work.accounts {
            self.work.accounts.push(AccountId(only.0 + 1));
        }
    }

    fn judge(&self, stage: usize) {
        let first = FIRST + stage as u64 * STAGE;
        let Some(stage) = STAGES.get(stage) else { return };
        for (id, request) in (first..).zip(self.work.requests(*stage)) {
            let answer = self.clients.answer(id);
            if !answer.is_some_and(|answer| answer.as_ref().is_ok_and(|answer| self.work.expects(*stage, answer))) {
                let message = format!("all was at rest, and then {request:?} was answered with {answer:?}");
                self.watch.violated(Violation::new("L1", message));
            }
        }
    }
}
