//! The clients of a run: they ask as the plan says, wait as long as their patience lasts, and ask the
//! next node with the same reference until they have an answer.
//!
//! In a plan a market is named by the number of the call that creates it, and an order by the call
//! that places it: a call whose market is not there yet waits for it.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{ApiError, CancelOrder, Principal, Request, Response, WhichOrder},
    domain::types::{AccountId, MarketId, OrderId, Reference},
};
use stakehold_raft::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    answers, asked,
    history::{Asked, History},
    node::Answer,
    room::{Room, is_order},
    watch::Watch,
};
use crate::{
    oracles::Violation,
    plan::{Fault, Net, Plan, PlannedCall},
    rng,
};

/// Numbers of markets and orders in a plan are below this: they are those of calls.
pub const SYMBOLS: u64 = 10_000_000;
/// Of a hundred calls, those that somebody makes as well who may not.
const INTRUDERS: u64 = 8;
/// Marks the attempts of those.
const INTRUDER: u64 = 1 << 62;
/// Until a call whose market is not there yet looks again.
const WAIT_US: u64 = 100_000;
/// Tries after which a client is patient.
const OFTEN: u64 = 20;
/// How long it waits then.
const PATIENT_MS: u64 = 2_000;

/// A client asks a node.
#[derive(Debug)]
pub struct Ask {
    pub attempt: u64,
    pub node: NodeId,
    pub principal: Principal,
    pub request: Request,
    pub patience_ms: u64,
}

impl Ask {
    /// Whoever asks has no right to.
    pub fn intrudes(&self) -> bool {
        self.attempt & INTRUDER != 0
    }
}

#[derive(Debug)]
enum Todo {
    /// The call's next attempt leaves the client.
    Try(u64),
    /// The same call on a token that does not do for it reaches the node that is asked first.
    Intrude(u64),
    /// It reaches the node.
    Arrive(u64),
    /// An answer reaches the client.
    Answer(u64, Box<Result<Response, ApiError>>),
    /// The client's patience is at its end, or the connection broke.
    GiveUp(u64),
}

/// By then every cell is led where it belongs, if nothing gets in the way.
const SETTLED_US: u64 = 5_000_000;

/// A try of a call that the client still waits for.
#[derive(Debug)]
struct Attempt {
    call: u64,
    node: NodeId,
    asked: Asked,
    /// When, in virtual microseconds.
    at: u64,
}

#[derive(Debug)]
struct Call {
    planned: PlannedCall,
    /// What is asked, once its names are known.
    request: Option<Request>,
    begun: bool,
    attempts: u64,
    attempt: u64,
    done: bool,
    /// How often its word was committed when it began.
    said: u64,
    /// Since when a bet has to serve its market's delay; None if another call asked for it before.
    delayed_since: Option<u64>,
}

impl Call {
    /// How long it waits for an answer. Who has waited in vain so often that it can hardly be the faults
    /// waits longer: some answers take more round trips than the least patience has time for.
    fn patience_ms(&self) -> u64 {
        let least = if self.attempts > OFTEN { PATIENT_MS } else { 0 };
        self.planned.patience_ms.max(least)
    }
}

/// What became of calls, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub calls: u64,
    pub answered: u64,
    pub attempts: u64,
    /// Placed orders that were acknowledged as accepted.
    pub bets: u64,
}

#[derive(Debug)]
pub struct Clients {
    net: Net,
    choices: u64,
    nodes: u16,
    calls: BTreeMap<u64, Call>,
    /// Those that are under way, by number.
    attempts: BTreeMap<u64, Attempt>,
    /// Calls of which an attempt had no answer in time.
    given_up: BTreeSet<u64>,
    todo: BTreeMap<(u64, u64), Todo>,
    count: u64,
    open: usize,
    markets: BTreeMap<u64, MarketId>,
    orders: BTreeMap<u64, OrderId>,
    history: History,
    /// References under which somebody has bet.
    bet: BTreeSet<(AccountId, Reference)>,
    /// Until then nothing gets in a call's way: nothing was done to any node or wire, and nothing seldom happens.
    calm_until: u64,
    /// The plan sets clocks.
    clocks_wrong: bool,
    room: Room,
    /// Calls that are not the plan's, and what they were answered.
    beyond: BTreeMap<u64, Option<Result<Response, ApiError>>>,
    /// So long a call looks for a leader at least, if it has the time.
    led_again_us: u64,
    pub counts: Counts,
}

impl Clients {
    pub fn new(plan: &Plan) -> Self {
        let mut clients = Self {
            net: plan.setup.net,
            choices: plan.setup.choices,
            nodes: plan.setup.nodes,
            calls: BTreeMap::new(),
            attempts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            todo: BTreeMap::new(),
            count: 0,
            open: 0,
            markets: BTreeMap::new(),
            orders: BTreeMap::new(),
            history: History::default(),
            bet: BTreeSet::new(),
            calm_until: plan.calm_until(),
            beyond: BTreeMap::new(),
            room: Room::new(&plan.setup),
            clocks_wrong: plan.faults().any(|(_, fault)| matches!(fault, Fault::Clock { .. })),
            led_again_us: plan.setup.tuning.election_ms.1 * 4 * 1_000,
            counts: Counts::default(),
        };
        for (at, planned) in plan.calls() {
            clients.add(at, planned.clone());
        }
        clients
    }

    /// One more call than the plan has, at `at`; its answer is kept.
    pub fn plan(&mut self, at: u64, planned: PlannedCall) {
        self.beyond.insert(planned.id, None);
        self.add(at, planned);
    }

    fn add(&mut self, at: u64, planned: PlannedCall) {
        let id = planned.id;
        let call = Call {
            planned,
            request: None,
            begun: false,
            attempts: 0,
            attempt: 0,
            done: false,
            said: 0,
            delayed_since: None,
        };
        self.calls.insert(id, call);
        self.later(at, Todo::Try(id));
    }

    fn later(&mut self, at: u64, todo: Todo) {
        self.count += 1;
        self.todo.insert((at, self.count), todo);
    }

    fn latency(&self, attempt: u64, way: u64) -> u64 {
        self.net.least_us + rng::of(self.choices, &[0xC11E, attempt, way]) % (self.net.most_us - self.net.least_us + 1)
    }

    pub fn next_due(&self) -> Option<u64> {
        self.todo.first_key_value().map(|((due, _), _)| *due)
    }

    /// The markets that clients know of, the newest last.
    pub fn markets(&self) -> impl DoubleEndedIterator<Item = MarketId> + '_ {
        self.markets.values().copied()
    }

    /// What all clients saw together.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Calls that have begun and have no answer.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Some of those, to name them.
    pub fn unanswered(&self) -> impl Iterator<Item = &PlannedCall> {
        self.calls.values().filter(|call| call.begun && !call.done).map(|call| &call.planned)
    }

    /// What a call that is not the plan's was answered.
    pub fn answer(&self, call: u64) -> Option<&Result<Response, ApiError>> {
        self.beyond.get(&call)?.as_ref()
    }

    /// Whether an attempt at this call had no answer in time.
    pub fn gave_up(&self, call: u64) -> bool {
        self.given_up.contains(&call)
    }

    /// Nothing that has not begun will.
    pub fn close(&mut self) {
        let calls = &self.calls;
        self.todo.retain(|_, todo| !matches!(todo, Todo::Try(id) if !calls[id].begun));
    }

    /// Does what is due; what is to be asked of nodes now.
    pub fn due(&mut self, now: u64, watch: &Watch) -> Vec<Ask> {
        let mut asks = Vec::new();
        while let Some(entry) = self.todo.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Todo::Try(id) => self.attempt(now, id, watch),
                Todo::Intrude(id) => asks.extend(self.intrude(id)),
                Todo::Arrive(attempt) => asks.extend(self.arrive(attempt)),
                Todo::Answer(attempt, answer) => self.hear(now, attempt, *answer, watch),
                Todo::GiveUp(attempt) => self.give_up(now, attempt),
            }
        }
        asks
    }

    fn attempt(&mut self, now: u64, id: u64, watch: &Watch) {
        let call = self.calls.get_mut(&id).expect("it was planned");
        if call.done {
            return;
        }
        if call.request.is_none() {
            call.request = resolve(&call.planned.request, &self.markets, &self.orders);
        }
        let Some(request) = &call.request else {
            self.later(now + WAIT_US, Todo::Try(id));
            return;
        };
        if !call.begun {
            call.begun = true;
            self.open += 1;
            self.counts.calls += 1;
            watch.reads(|reads, books| reads.begin(id, request, books));
            watch.answers(|answers, _| answers.begin(id, request));
            call.said = watch.verdicts(|verdicts| verdicts.said(request));
            if let Request::Place { account, market, reference, .. } = request
                && self.bet.insert((*account, reference.clone()))
                && !watch.verdicts(|verdicts| verdicts.knows(*account, *market, reference))
            {
                call.delayed_since = Some(now);
            }
        }
        let intrudes = call.attempts == 0 && rng::of(self.choices, &[0x57A6, id]) % 100 < INTRUDERS;
        call.attempts += 1;
        self.counts.attempts += 1;
        let attempt = self.counts.attempts;
        call.attempt = attempt;
        let node = NodeId(1 + (call.planned.node - 1 + (call.attempts - 1) as u16) % self.nodes);
        let patience = call.patience_ms() * 1_000;
        watch.note("ask", Some(node), &[id, call.attempts], || format!("client {}: {request:?}", call.planned.client));
        let asked = self.history.asked(call.planned.client, now, request);
        self.attempts.insert(attempt, Attempt { call: id, node, asked, at: now });
        let latency = self.latency(attempt, 0);
        if intrudes {
            self.later(now + latency, Todo::Intrude(id));
        }
        self.later(now + latency, Todo::Arrive(attempt));
        self.later(now + patience, Todo::GiveUp(attempt));
    }

    fn intrude(&self, id: u64) -> Option<Ask> {
        let call = &self.calls[&id];
        let request = call.request.clone()?;
        let principal = asked::stranger(&request)?;
        let (attempt, node) = (INTRUDER | id, NodeId(call.planned.node));
        Some(Ask { attempt, node, principal, request, patience_ms: call.patience_ms() })
    }

    fn arrive(&mut self, attempt: u64) -> Option<Ask> {
        let Attempt { call, node, .. } = *self.attempts.get(&attempt)?;
        let call = &self.calls[&call];
        let request = call.request.clone()?;
        self.room.enter(attempt, node, &request);
        let principal = match asked::owner(&request) {
            Some(account) if !call.planned.operator => Principal::Account(account),
            _ => Principal::Operator,
        };
        Some(Ask { attempt, node, principal, request, patience_ms: call.patience_ms() })
    }

    /// A node has answered: the client hears of it a little later.
    pub fn answered(&mut self, answer: Answer, watch: &Watch) {
        if answer.attempt & INTRUDER != 0 {
            if answer.outcome != Err(ApiError::Forbidden) {
                let asked = self.calls.get(&(answer.attempt & !INTRUDER)).map(|call| &call.planned.request);
                let message =
                    format!("{asked:?} on the token of another account was answered with {:?}", answer.outcome);
                watch.violated(Violation::new("Gateway", message));
            }
            return;
        }
        if let Err(violation) = self.room.leave(answer.attempt, &answer.outcome) {
            watch.violated(violation);
        }
        let latency = self.latency(answer.attempt, 1);
        self.later(answer.at + latency, Todo::Answer(answer.attempt, Box::new(answer.outcome)));
    }

    /// The node cannot be connected to: the client notices at once.
    pub fn refused(&mut self, now: u64, attempt: u64) {
        self.later(now + 1_000, Todo::GiveUp(attempt));
    }

    /// The process of a node is gone: whoever is connected to it notices.
    pub fn lost(&mut self, now: u64, node: NodeId) {
        self.room.lost(node);
        let at_it: Vec<u64> =
            self.attempts.iter().filter(|(_, attempt)| attempt.node == node).map(|(id, _)| *id).collect();
        for attempt in at_it {
            self.later(now + 1_000, Todo::GiveUp(attempt));
        }
    }

    fn give_up(&mut self, now: u64, attempt: u64) {
        let Some(Attempt { call: id, .. }) = self.attempts.remove(&attempt) else { return };
        let call = &self.calls[&id];
        if !call.done && call.attempt == attempt {
            self.given_up.insert(id);
            self.again(now, id, 10);
        }
    }

    fn again(&mut self, now: u64, id: u64, least_ms: u64) {
        let attempts = self.calls[&id].attempts;
        let jitter = rng::of(self.choices, &[0xA6A1, id, attempts]) % 40_000;
        self.later(now + least_ms * 1_000 + jitter, Todo::Try(id));
    }

    fn hear(&mut self, now: u64, attempt: u64, answer: Result<Response, ApiError>, watch: &Watch) {
        let Some(Attempt { call: id, asked, at, .. }) = self.attempts.remove(&attempt) else { return };
        let call = self.calls.get_mut(&id).expect("it was planned");
        let hash = xxh3_64(format!("{answer:?}").as_bytes());
        watch.note("answer", None, &[id, attempt, hash], || format!("client {}: {answer:?}", call.planned.client));
        self.history.answered(asked, now, &answer);
        if call.done {
            return;
        }
        // By whose clock a call has no time left, nobody can say when clocks are wrong.
        let least = self.led_again_us.min(call.patience_ms().saturating_sub(asked::GRAIN_MS) * 1_000);
        if answer == Err(ApiError::Unavailable) && now < at + least && !self.clocks_wrong {
            let message = format!(
                "{:?} was answered with {answer:?} after {} us: an election may take longer",
                call.request,
                now - at
            );
            watch.violated(Violation::new("Gateway", message));
        }
        let again = match &answer {
            Err(ApiError::Busy { retry_after_ms } | ApiError::DiskFull { retry_after_ms }) => Some(*retry_after_ms),
            Err(ApiError::Unavailable | ApiError::Unknown) => Some(20),
            _ => None,
        };
        let request = call.request.as_ref().expect("it was asked");
        if let Err(error @ (ApiError::Busy { .. } | ApiError::DiskFull { .. } | ApiError::Unavailable)) = &answer
            && let Err(violation) = watch.asked(|asked| asked.not_done(request, error))
        {
            watch.violated(violation);
        }
        // What is left of a full disk is for everything else.
        if !is_order(request) && matches!(answer, Err(ApiError::DiskFull { .. })) {
            watch.violated(Violation::new("Gateway", format!("{request:?} was answered with {answer:?}")));
        }
        if let Some(wait) = again {
            if call.attempt == attempt {
                self.again(now, id, wait);
            }
            return;
        }
        call.done = true;
        self.open -= 1;
        self.counts.answered += 1;
        if let Err(error @ (ApiError::Forbidden | ApiError::Invalid(_))) = &answer {
            watch.violated(Violation::new("Gateway", format!("{request:?} was answered with {error:?}")));
        }
        let accepted = |response: &Response| match response {
            Response::Placed { reports, .. } => reports.iter().any(|report| report.outcome.is_ok()),
            _ => false,
        };
        if let (Some(since), Request::Place { market, .. }, true) =
            (call.delayed_since, request, answer.as_ref().is_ok_and(accepted))
        {
            let earliest = watch.asked(|asked| asked.earliest(*market, since));
            if now < earliest {
                let message = format!("{request:?} was accepted {} us before its bet delay was over", earliest - now);
                watch.violated(Violation::new("I6", message));
            }
        }
        if let Err(violation) = watch.verdicts(|verdicts| verdicts.check(request, call.said, &answer)) {
            watch.violated(violation);
        }
        if call.attempts == 1 && now < self.calm_until {
            let in_order = watch.verdicts(|verdicts| verdicts.in_order(request, &answer));
            let settled = at >= SETTLED_US;
            let awaited = if settled { answers::money_awaited(request, &answer, now - at) } else { Ok(()) };
            for violation in [in_order, awaited].into_iter().filter_map(Result::err) {
                watch.violated(violation);
            }
        }
        if let Err(violation) = answers::of_orders(request, &answer) {
            watch.violated(violation);
        }
        if let Err(violation) = watch.answers(|answers, books| answers.end(id, &answer, books)) {
            watch.violated(violation);
        }
        if let Err(violation) = watch.reads(|reads, _| reads.end(id, &answer)) {
            watch.violated(violation);
        }
        if let Some(violation) = answer.as_ref().ok().and_then(audit_fails) {
            watch.violated(violation);
        }
        if let Some(kept) = self.beyond.get_mut(&id) {
            *kept = Some(answer.clone());
        }
        match answer {
            Ok(Response::Audit(view)) => watch.audited(&view),
            Ok(Response::Market(view)) => {
                self.markets.entry(id).or_insert(view.summary.market);
            }
            Ok(Response::Placed { reports, .. }) => {
                for view in reports.iter().filter_map(|report| report.outcome.as_ref().ok()) {
                    self.counts.bets += 1;
                    self.orders.entry(id).or_insert(view.order);
                }
            }
            Ok(Response::Order(view)) => {
                self.orders.entry(id).or_insert(view.order);
            }
            _ => {}
        }
    }
}

/// An audit's answer that is not zero.
fn audit_fails(answer: &Response) -> Option<Violation> {
    match answer {
        Response::Audit(audit) if !audit.conserved || audit.sum != 0 => {
            Some(Violation::new("I1", format!("the cluster's own audit finds {} and {:?}", audit.sum, audit.problems)))
        }
        _ => None,
    }
}

/// The request with the numbers that markets and orders turned out to have; None while one of them
/// is not known.
fn resolve(request: &Request, markets: &BTreeMap<u64, MarketId>, orders: &BTreeMap<u64, OrderId>) -> Option<Request> {
    let mut request = request.clone();
    if let Some(market) = market_of(&mut request)
        && market.0 < SYMBOLS
    {
        *market = *markets.get(&market.0)?;
    }
    match &mut request {
        Request::Replace { order, .. } | Request::SetPersistence { order, .. } => *order = known(*order, orders)?,
        Request::Cancel { orders: which, .. } => {
            for CancelOrder { which, .. } in which {
                if let WhichOrder::Id(order) = which {
                    *order = known(*order, orders)?;
                }
            }
        }
        _ => {}
    }
    Some(request)
}

fn known(order: OrderId, orders: &BTreeMap<u64, OrderId>) -> Option<OrderId> {
    if order.0 < SYMBOLS { orders.get(&order.0).copied() } else { Some(order) }
}

fn market_of(request: &mut Request) -> Option<&mut MarketId> {
    match request {
        Request::GetMarket { market }
        | Request::Book { market }
        | Request::OpenMarket { market }
        | Request::SuspendMarket { market }
        | Request::TurnInPlay { market, .. }
        | Request::Settle { market, .. }
        | Request::Resettle { market, .. }
        | Request::Finalise { market }
        | Request::RemoveRunner { market, .. }
        | Request::Place { market, .. }
        | Request::Cancel { market, .. }
        | Request::Replace { market, .. }
        | Request::SetPersistence { market, .. }
        | Request::CancelAll { market: Some(market), .. }
        | Request::ListOrders { market: Some(market), .. } => Some(market),
        _ => None,
    }
}
