//! A cell, naively: carries out what an entry says, in its order, and says what must come of it. The
//! money protocol is here (architecture, section 2); wallets and markets are its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{Trade, WalletReceipt, WhichOrder},
    domain::{
        command::{Admission, CollectKind, Command, CreditKind, Fund, Funded, Instruction, Message, OrderKey, Verdict},
        types::{
            AccountId, EventId, MarketDefinition, MarketId, MarketStatus, Minor, OrderId, OrderView, Reference, Refusal,
        },
    },
};
use stakehold_raft::{CellId, Cells, ids::kind, machine::Stamp};

use super::{
    life::Moves,
    market::{Held, Market, No, With},
    wallet::{MAX_BALANCE, Wallet},
};

/// After so many fundings that were still short there is no money for the order.
const MAX_ATTEMPTS: u8 = 3;
/// The longest that money is held, in milliseconds.
const MAX_PENDING_MS: u64 = 10_000;
const MAX_ACCOUNT: u64 = (1 << 53) - 1;
const MAX_NAME: usize = 128;
const RUNNERS_MAX: usize = 1_000;
const RUNNER_ID_MAX: u64 = (1 << 31) - 1;
/// What a heartbeat may last, in milliseconds.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 500..=24 * 3_600_000;

type Outcome = Result<OrderView, Refusal>;

/// What must be told, in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Decided(OrderKey, Outcome),
    Pending(OrderKey, Minor, u8),
    Trade(MarketId, Trade),
    Settled(MarketId, u32),
    HeartbeatExpired(AccountId),
}

/// What must be sent to another cell. Lines of one kind may share messages in any way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Funded(Funded),
    Credit(MarketId, AccountId, Minor, CreditKind, Minor),
    Collect(MarketId, AccountId, Minor, CollectKind),
    CancelAll(AccountId, MarketId),
    Left(MarketId, AccountId),
}

/// What comes due. At one time, in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Start(MarketId),
    Heartbeat(AccountId),
    /// What is held for an instruction goes back.
    Held(OrderKey),
    Settlement(MarketId),
}

#[derive(Debug)]
pub struct Cell {
    id: CellId,
    cells: Cells,
    pub stamp: Stamp,
    pub wallets: BTreeMap<AccountId, Wallet>,
    pub markets: BTreeMap<MarketId, Market>,
    created: u64,
    placed: u64,
    events: BTreeMap<EventId, Vec<MarketId>>,
    /// First calls and their answers.
    calls: BTreeMap<(Option<AccountId>, Reference), (Command, Verdict)>,
    /// First instructions and their verdicts; without the instruction where it has not come yet.
    verdicts: BTreeMap<OrderKey, (Option<Instruction>, Outcome)>,
    due: BTreeSet<(Stamp, Due)>,
    /// How many accounts a settlement pays at once.
    step: usize,
    pub commission: i64,
    pub rounding: i64,
    pub told: Vec<Told>,
    pub sent: Vec<(CellId, Sent)>,
}

impl Cell {
    pub fn new(id: CellId, cells: Cells, step: u32) -> Self {
        Self {
            id,
            cells,
            stamp: 0,
            wallets: BTreeMap::new(),
            markets: BTreeMap::new(),
            created: 0,
            placed: 0,
            events: BTreeMap::new(),
            calls: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            due: BTreeSet::new(),
            step: step as usize,
            commission: 0,
            rounding: 0,
            told: vec![],
            sent: vec![],
        }
    }

    fn wallet_cell(&self, account: AccountId) -> CellId {
        self.cells.cell_of(kind::ACCOUNT, account.0)
    }

    fn wallet(&mut self, account: AccountId) -> Result<&mut Wallet, Refusal> {
        self.wallets.get_mut(&account).ok_or(Refusal::UnknownAccount)
    }

    fn market(&mut self, market: MarketId) -> Result<&mut Market, Refusal> {
        self.markets.get_mut(&market).ok_or(Refusal::UnknownMarket)
    }

    // -- time --

    /// Everything whose time has come, in its order; what that sets in motion waits for the next item.
    pub fn fire(&mut self) {
        let stamp = self.stamp;
        let due: Vec<(Stamp, Due)> = self.due.iter().take_while(|(at, _)| *at <= stamp).cloned().collect();
        for what in &due {
            self.due.remove(what);
        }
        for (_, what) in due {
            match what {
                Due::Start(market) => {
                    let open = self.markets.get(&market).is_some_and(|m| m.status == MarketStatus::Open && !m.in_play);
                    if open {
                        let _ = self.live(market, |market| market.suspend().map(|()| Moves::default()));
                    }
                }
                Due::Heartbeat(account) => {
                    if let Some(wallet) = self.wallets.get_mut(&account) {
                        wallet.heartbeat = None;
                    }
                    self.told.push(Told::HeartbeatExpired(account));
                    self.cancel_everywhere(account);
                }
                Due::Held(key) => {
                    self.end_held(&key, Refusal::InsufficientFunds);
                }
                Due::Settlement(market) => self.pay(market),
            }
        }
    }

    // -- commands --

    /// The answer to a command. `busy`: the stream to the market's cell may be at its bound.
    pub fn command(&mut self, command: &Command, busy: bool) -> Verdict {
        self.dispatch(command, busy).unwrap_or_else(Verdict::Refused)
    }

    fn dispatch(&mut self, command: &Command, busy: bool) -> Result<Verdict, Refusal> {
        match command {
            Command::CreateAccount { account, name } => self.create_account(*account, name),
            Command::Deposit { account, reference, .. }
            | Command::Withdraw { account, reference, .. }
            | Command::SetCap { account, reference, .. }
            | Command::SetDiscount { account, reference, .. } => {
                if self.wallet_cell(*account) != self.id {
                    return Err(Refusal::UnknownAccount);
                }
                self.once(command, Some(*account), reference)
            }
            Command::CreateMarket { reference, .. }
            | Command::RemoveRunner { reference, .. }
            | Command::Settle { reference, .. }
            | Command::Resettle { reference, .. } => self.once(command, None, reference),
            Command::Fund(fund) => self.fund(fund, busy),
            Command::Heartbeat { account, timeout_ms } => self.heartbeat(*account, *timeout_ms),
            Command::CancelEverywhere { account } => {
                self.wallet(*account)?;
                self.cancel_everywhere(*account);
                Ok(Verdict::Done)
            }
            Command::Open { market } => self.live(*market, |m| m.open().map(|()| Moves::default())),
            Command::Suspend { market } => self.live(*market, |m| m.suspend().map(|()| Moves::default())),
            Command::TurnInPlay { market, .. } => self.live(*market, Market::turn_in_play),
            Command::Execute { instruction, admission } => self.execute(instruction, admission),
            Command::Cancel { account, market, which, reduction, in_funding } => {
                self.cancel(*account, *market, which, reduction.map(|amount| amount.0), *in_funding)
            }
            Command::CancelAll { account, market } => self.cancel_all(*account, *market),
            Command::SetPersistence { account, market, order, persistence } => {
                let market = self.market(*market)?;
                if market.status == MarketStatus::Closed {
                    return Err(Refusal::MarketClosed);
                }
                let at = market.own_open(*account, *order)?;
                market.orders[at].persistence = *persistence;
                Ok(Verdict::Order(market.view(&market.orders[at])))
            }
            Command::Finalise { market } => {
                self.live(*market, |market| market.finalise().map(|()| Moves::default()))?;
                let entered = std::mem::take(&mut self.market(*market)?.entered);
                for account in entered {
                    self.tell_left(*market, account);
                }
                Ok(Verdict::Done)
            }
            Command::Marker { .. } => Ok(Verdict::Done),
        }
    }

    /// A call with a reference: one effect, one answer.
    fn once(
        &mut self,
        command: &Command,
        account: Option<AccountId>,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        let key = (account, reference.clone());
        if let Some((first, answer)) = self.calls.get(&key) {
            return if first == command { Ok(answer.clone()) } else { Err(Refusal::ReferenceReused) };
        }
        let verdict = self.first(command).unwrap_or_else(Verdict::Refused);
        self.calls.insert(key, (command.clone(), verdict.clone()));
        Ok(verdict)
    }

    fn first(&mut self, command: &Command) -> Result<Verdict, Refusal> {
        let receipt = |account: AccountId, reference: &Reference, amount: Minor, available: i64| {
            Verdict::Wallet(WalletReceipt {
                account,
                reference: reference.clone(),
                amount,
                available: Minor(available),
            })
        };
        let checked = |amount: Minor| {
            let right = amount.is_positive() && amount <= Minor::MAX_AMOUNT;
            if right { Ok(amount.0) } else { Err(Refusal::InvalidAmount) }
        };
        match command {
            Command::Deposit { account, amount, reference } => {
                let sum = checked(*amount)?;
                let wallet = self.wallet(*account)?;
                if wallet.available + sum > MAX_BALANCE {
                    return Err(Refusal::InvalidAmount);
                }
                wallet.credit(sum);
                Ok(receipt(*account, reference, *amount, wallet.available))
            }
            Command::Withdraw { account, amount, reference } => {
                let sum = checked(*amount)?;
                let wallet = self.wallet(*account)?;
                wallet.take(sum)?;
                Ok(receipt(*account, reference, *amount, wallet.available))
            }
            Command::SetCap { account, cap, reference } => {
                if cap.is_some_and(|cap| cap.0 < 0 || cap.0 > MAX_BALANCE) {
                    return Err(Refusal::InvalidAmount);
                }
                let wallet = self.wallet(*account)?;
                wallet.cap = cap.map(|cap| cap.0);
                Ok(receipt(*account, reference, cap.unwrap_or_default(), wallet.available))
            }
            Command::SetDiscount { account, discount_bp, reference } => {
                if *discount_bp > 10_000 {
                    return Err(Refusal::InvalidAmount);
                }
                let wallet = self.wallet(*account)?;
                wallet.discount = *discount_bp;
                Ok(receipt(*account, reference, Minor::ZERO, wallet.available))
            }
            Command::CreateMarket { definition, .. } => self.create_market(definition),
            Command::RemoveRunner { market, runner, factor, .. } => {
                self.live(*market, |market| market.remove(*runner, *factor))
            }
            Command::Settle { market, result, .. } => {
                self.live(*market, |market| market.settle(result).map(|()| Moves::default()))?;
                self.due.insert((self.stamp, Due::Settlement(*market)));
                Ok(Verdict::Done)
            }
            Command::Resettle { market, result, .. } => {
                self.live(*market, |market| {
                    let rounding = market.resettle(result)?;
                    Ok(Moves { rounding: -rounding, ..Moves::default() })
                })?;
                self.due.insert((self.stamp, Due::Settlement(*market)));
                Ok(Verdict::Done)
            }
            _ => Ok(Verdict::Done),
        }
    }

    fn create_account(&mut self, account: AccountId, name: &str) -> Result<Verdict, Refusal> {
        if self.wallet_cell(account) != self.id || account.0 == 0 || account.0 > MAX_ACCOUNT {
            return Err(Refusal::UnknownAccount);
        }
        if name.len() > MAX_NAME {
            return Err(Refusal::InvalidDefinition);
        }
        let wallet = self.wallets.entry(account).or_insert_with(|| Wallet { name: name.into(), ..Wallet::default() });
        if wallet.name == name { Ok(Verdict::Done) } else { Err(Refusal::AccountExists) }
    }

    fn create_market(&mut self, definition: &MarketDefinition) -> Result<Verdict, Refusal> {
        let d = definition;
        let ids: BTreeSet<u64> = d.runners.iter().map(|runner| runner.id.0).collect();
        let right = self.cells.cell_of(kind::EVENT, d.event.0) == self.id
            && ids.len() == d.runners.len()
            && ids.last().is_some_and(|last| *last <= RUNNER_ID_MAX)
            && ids.len() <= RUNNERS_MAX
            && d.winners >= 1
            && d.min_stake.is_positive()
            && d.min_stake <= d.max_stake
            && d.max_stake <= Minor::MAX_AMOUNT
            && [d.market_cap, d.event_cap].into_iter().flatten().all(|cap| cap.0 >= 0)
            && d.commission_bp <= 10_000;
        if !right {
            return Err(Refusal::InvalidDefinition);
        }
        self.created += 1;
        let id = MarketId::new(self.id.0, self.created);
        self.markets.insert(id, Market::new(id, d.clone()));
        self.events.entry(d.event).or_default().push(id);
        if let Some(start) = d.start.filter(|start| *start > self.stamp) {
            self.due.insert((start, Due::Start(id)));
        }
        Ok(Verdict::MarketCreated(id))
    }

    fn heartbeat(&mut self, account: AccountId, timeout_ms: u64) -> Result<Verdict, Refusal> {
        if timeout_ms != 0 && !HEARTBEAT_MS.contains(&timeout_ms) {
            return Err(Refusal::InvalidAmount);
        }
        let next = (timeout_ms != 0).then(|| (timeout_ms, self.stamp.saturating_add(timeout_ms)));
        let before = std::mem::replace(&mut self.wallet(account)?.heartbeat, next);
        if let Some((_, due)) = before {
            self.due.remove(&(due, Due::Heartbeat(account)));
        }
        if let Some((_, due)) = next {
            self.due.insert((due, Due::Heartbeat(account)));
        }
        Ok(Verdict::Done)
    }

    // -- a market's life --

    /// Something in a market's life: its money moves, and what waited under another epoch is ended.
    fn live(
        &mut self,
        id: MarketId,
        act: impl FnOnce(&mut Market) -> Result<Moves, Refusal>,
    ) -> Result<Verdict, Refusal> {
        let moves = act(self.market(id)?)?;
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        let market = self.market(id)?;
        let refusal = match market.status {
            MarketStatus::Closed => Refusal::MarketClosed,
            _ => Refusal::MarketChanged,
        };
        let epoch = market.epoch;
        let outdated: Vec<OrderKey> =
            market.held.iter().filter(|(_, held)| held.admission.epoch != epoch).map(|(key, _)| key.clone()).collect();
        for key in outdated {
            self.end_held(&key, refusal);
        }
        Ok(Verdict::Done)
    }

    fn pay(&mut self, id: MarketId) {
        let step = self.step;
        let Ok(market) = self.market(id) else { return };
        let (moves, finished) = market.pay(step);
        let version = market.version;
        let kind = if version <= 1 { CreditKind::Settlement } else { CreditKind::Correction };
        self.moved(id, &moves, kind, CollectKind::Correction);
        if finished {
            self.told.push(Told::Settled(id, version));
        } else {
            self.due.insert((self.stamp, Due::Settlement(id)));
        }
    }

    // -- money --

    fn moved(&mut self, market: MarketId, moves: &Moves, credit: CreditKind, collect: CollectKind) {
        self.commission += moves.commission;
        self.rounding += moves.rounding;
        for (account, amount) in &moves.collects {
            let to = self.wallet_cell(*account);
            if to == self.id {
                self.charged(market, *account, *amount, collect);
            } else {
                self.sent.push((to, Sent::Collect(market, *account, Minor(*amount), collect)));
            }
        }
        for (account, amount, left) in &moves.credits {
            self.credit(market, *account, *amount, credit, *left);
        }
    }

    fn credit(&mut self, market: MarketId, account: AccountId, amount: i64, kind: CreditKind, left: i64) {
        let to = self.wallet_cell(account);
        if to == self.id {
            self.credited(market, account, amount, left);
        } else {
            self.sent.push((to, Sent::Credit(market, account, Minor(amount), kind, Minor(left))));
        }
    }

    fn credited(&mut self, market: MarketId, account: AccountId, amount: i64, left: i64) {
        if let Ok(wallet) = self.wallet(account) {
            wallet.credit(amount);
            wallet.moved(market, -left);
        }
    }

    fn charged(&mut self, market: MarketId, account: AccountId, amount: i64, kind: CollectKind) {
        if let Ok(wallet) = self.wallet(account) {
            wallet.collect(amount);
            if kind == CollectKind::NonRunner {
                wallet.moved(market, amount);
            }
        }
    }

    fn tell_left(&mut self, market: MarketId, account: AccountId) {
        let to = self.wallet_cell(account);
        if to != self.id {
            self.sent.push((to, Sent::Left(market, account)));
        } else if let Ok(wallet) = self.wallet(account) {
            wallet.left(market);
        }
    }

    /// Money that came for an instruction goes back; a market that is final lets the account go.
    fn give_back(&mut self, market: MarketId, account: AccountId, amount: i64) {
        if amount <= 0 {
            return;
        }
        self.credit(market, account, amount, CreditKind::Return, amount);
        if self.markets.get(&market).is_none_or(|market| market.finalised) {
            if let Ok(market) = self.market(market) {
                market.entered.remove(&account);
            }
            self.tell_left(market, account);
        }
    }

    fn fund(&mut self, fund: &Fund, busy: bool) -> Result<Verdict, Refusal> {
        let Fund { instruction, admission, attempt, amount } = fund;
        let (account, market) = (instruction.account(), instruction.market());
        if self.wallet_cell(account) != self.id {
            return Err(Refusal::UnknownAccount);
        }
        let to = market.cell().filter(|cell| *cell < self.cells.count()).map(CellId).ok_or(Refusal::UnknownMarket)?;
        if amount.0 <= 0 || amount.0 > MAX_BALANCE || *attempt == 0 {
            return Err(Refusal::InvalidAmount);
        }
        if busy {
            return Ok(Verdict::Busy);
        }
        let taken = if self.stamp > admission.good_until {
            Err(Refusal::Expired)
        } else {
            self.wallet(account).and_then(|wallet| wallet.take_for(market, amount.0))
        };
        let funded = Funded {
            instruction: instruction.clone(),
            admission: *admission,
            attempt: *attempt,
            amount: if taken.is_ok() { *amount } else { Minor::ZERO },
            refusal: taken.err(),
            discount_bp: self.wallets.get(&account).map_or(0, |wallet| wallet.discount),
        };
        if to == self.id {
            self.arrive(&funded);
        } else {
            self.sent.push((to, Sent::Funded(funded)));
        }
        Ok(Verdict::Funding)
    }

    // -- messages --

    pub fn message(&mut self, message: &Message) {
        match message {
            Message::Funded(funded) => self.arrive(funded),
            Message::Credits { market, lines } => {
                for line in lines {
                    self.credited(*market, line.account, line.amount.0, line.left_market.0);
                }
            }
            Message::Collect { market, lines } => {
                for line in lines {
                    self.charged(*market, line.account, line.amount.0, line.kind);
                }
            }
            Message::CancelAll { account, market } => {
                let _ = self.cancel_all(*account, *market);
            }
            Message::Left { market, accounts } => {
                for account in accounts {
                    if let Ok(wallet) = self.wallet(*account) {
                        wallet.left(*market);
                    }
                }
            }
            Message::Marker { .. } => {}
        }
    }

    // -- instructions --

    /// The verdict that stands under the reference, if one does: another content is refused.
    fn known(&mut self, instruction: &Instruction) -> Option<Outcome> {
        let (first, outcome) = self.verdicts.get_mut(&instruction.key())?;
        let first = first.get_or_insert_with(|| instruction.clone());
        Some(if first == instruction { outcome.clone() } else { Err(Refusal::ReferenceReused) })
    }

    fn held(&self, instruction: &Instruction) -> Option<&Held> {
        self.markets.get(&instruction.market())?.held.get(&instruction.key())
    }

    fn execute(&mut self, instruction: &Instruction, admission: &Admission) -> Result<Verdict, Refusal> {
        if instruction.market().cell() != Some(self.id.0) {
            return Err(Refusal::UnknownMarket);
        }
        if let Some(outcome) = self.known(instruction) {
            // A caller with another content is refused, and nobody else is told.
            if outcome != Err(Refusal::ReferenceReused) {
                self.told.push(Told::Decided(instruction.key(), outcome.clone()));
            }
            return outcome.map(Verdict::Accepted);
        }
        if let Some(held) = self.held(instruction) {
            if held.instruction != *instruction {
                return Err(Refusal::ReferenceReused);
            }
            return Ok(Verdict::Pending { short: Minor(held.short), attempt: held.attempt });
        }
        let outcome = match self.attempt(instruction, admission, 0) {
            Err(No::Short(short)) => return Ok(Verdict::NeedsFunds(Minor(short))),
            Err(No::Refused(refusal)) => Err(refusal),
            Ok(view) => Ok(view),
        };
        self.decide(instruction, outcome.clone());
        outcome.map(Verdict::Accepted)
    }

    fn arrive(&mut self, funded: &Funded) {
        let Funded { instruction, admission, attempt, amount, refusal, discount_bp } = funded;
        let (account, market, key) = (instruction.account(), instruction.market(), instruction.key());
        if amount.is_positive()
            && let Ok(market) = self.market(market)
        {
            market.entered.insert(account);
        }
        if let Some(outcome) = self.known(instruction) {
            self.give_back(market, account, amount.0);
            return self.told.push(Told::Decided(key, outcome));
        }
        let mut money = amount.0;
        if let Some(held) = self.held(instruction).cloned() {
            if held.instruction != *instruction {
                self.give_back(market, account, amount.0);
                return self.told.push(Told::Decided(key, Err(Refusal::ReferenceReused)));
            }
            if *attempt <= held.attempt {
                self.give_back(market, account, amount.0);
                return self.told.push(Told::Pending(key, Minor(held.short), held.attempt));
            }
            self.release(&key);
            money += held.held;
        }
        let outcome = match self.attempt(instruction, admission, money) {
            Ok(view) => Ok(view),
            Err(No::Refused(refusal)) => Err(refusal),
            Err(No::Short(_)) if refusal.is_some() => Err(refusal.unwrap_or(Refusal::InsufficientFunds)),
            Err(No::Short(_)) if *attempt >= MAX_ATTEMPTS => Err(Refusal::InsufficientFunds),
            Err(No::Short(short)) => {
                let latest = self.stamp.saturating_add(MAX_PENDING_MS);
                let expires = admission.good_until.min(latest).saturating_add(1);
                self.told.push(Told::Pending(key.clone(), Minor(short), *attempt));
                let held = Held {
                    instruction: instruction.clone(),
                    admission: *admission,
                    attempt: *attempt,
                    held: money,
                    short,
                    expires,
                };
                self.due.insert((expires, Due::Held(key.clone())));
                if let Ok(market) = self.market(market) {
                    market.held.insert(key, held);
                }
                return;
            }
        };
        match outcome {
            Err(_) => self.give_back(market, account, money),
            Ok(_) => {
                if let Ok(market) = self.market(market) {
                    market.stake_mut(account).discount = *discount_bp;
                }
            }
        }
        self.decide(instruction, outcome);
    }

    fn attempt(&mut self, instruction: &Instruction, admission: &Admission, money: i64) -> Result<OrderView, No> {
        let (account, id, stamp) = (instruction.account(), instruction.market(), self.stamp);
        let market = self.markets.get(&id).ok_or(No::Refused(Refusal::UnknownMarket))?;
        let refusal = if stamp > admission.good_until {
            Some(Refusal::Expired)
        } else if admission.cancel_epoch < market.cancel_epochs.get(&account).copied().unwrap_or_default() {
            Some(Refusal::Cancelled)
        } else if market.status == MarketStatus::Closed {
            Some(Refusal::MarketClosed)
        } else if admission.epoch != market.epoch {
            Some(Refusal::MarketChanged)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(No::Refused(refusal));
        }
        let others = match market.definition.event_cap {
            None => vec![],
            Some(_) => self.events.get(&market.definition.event).cloned().unwrap_or_default(),
        };
        let others = others.into_iter().filter(|other| *other != id).filter_map(|other| self.markets.get(&other));
        let elsewhere = others.map(|other| other.exposure(account)).sum();
        let with = With { stamp, id: OrderId::new(self.id.0, self.placed + 1), money, elsewhere };
        let mut trades = vec![];
        let market = self.market(id).map_err(No::Refused)?;
        let fills = market.fills.len();
        let view = match instruction {
            Instruction::Place(order) => market.place(order, with, &mut trades),
            Instruction::Replace(replacement) => market.replace(replacement, with, &mut trades),
        }?;
        let makers = market.fills[fills..].iter().flat_map(|fill| [fill.back, fill.lay]);
        let mut touched: Vec<AccountId> = makers.map(|at| market.orders[at].account).chain([account]).collect();
        touched.sort_unstable();
        touched.dedup();
        let moves = market.released(&touched);
        self.placed += 1;
        self.told.extend(trades.into_iter().map(|trade| Told::Trade(id, trade)));
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        Ok(view)
    }

    fn decide(&mut self, instruction: &Instruction, outcome: Outcome) {
        self.verdicts.insert(instruction.key(), (Some(instruction.clone()), outcome.clone()));
        self.told.push(Told::Decided(instruction.key(), outcome));
    }

    /// Takes what is held out of its market.
    fn release(&mut self, key: &OrderKey) -> Option<Held> {
        let held = self.market(key.market).ok()?.held.remove(key)?;
        self.due.remove(&(held.expires, Due::Held(key.clone())));
        Some(held)
    }

    fn end_held(&mut self, key: &OrderKey, refusal: Refusal) -> Option<Held> {
        let held = self.release(key)?;
        self.give_back(key.market, key.account, held.held);
        self.decide(&held.instruction, Err(refusal));
        Some(held)
    }

    // -- cancels --

    fn cancel(
        &mut self,
        account: AccountId,
        id: MarketId,
        which: &WhichOrder,
        reduction: Option<i64>,
        in_funding: bool,
    ) -> Result<Verdict, Refusal> {
        self.market(id)?;
        let order = match which {
            WhichOrder::Id(order) => *order,
            WhichOrder::Reference(reference, index) => {
                let key = OrderKey { account, market: id, reference: reference.clone(), index: *index };
                match self.verdicts.get(&key) {
                    Some((_, outcome)) => outcome.as_ref().map_err(|_| Refusal::OrderDone)?.order,
                    None => return self.cancel_in_funding(&key, reduction, in_funding),
                }
            }
        };
        let market = self.market(id)?;
        let cancelled = market.reduce(account, order, reduction)?;
        let moves = market.released(&[account]);
        let released = moves.credits.iter().map(|(_, amount, _)| *amount).sum();
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        Ok(Verdict::Cancelled { order: Some(order), cancelled: Minor(cancelled), released: Minor(released) })
    }

    fn cancel_in_funding(
        &mut self,
        key: &OrderKey,
        reduction: Option<i64>,
        in_funding: bool,
    ) -> Result<Verdict, Refusal> {
        if reduction.is_some() {
            return Err(Refusal::InvalidReduction);
        }
        if let Some(held) = self.end_held(key, Refusal::Cancelled) {
            let cancelled = match &held.instruction {
                Instruction::Place(order) => order.size,
                Instruction::Replace(_) => Minor::ZERO,
            };
            return Ok(Verdict::Cancelled { order: None, cancelled, released: Minor(held.held) });
        }
        if !in_funding {
            return Err(Refusal::UnknownOrder);
        }
        self.verdicts.insert(key.clone(), (None, Err(Refusal::Cancelled)));
        self.told.push(Told::Decided(key.clone(), Err(Refusal::Cancelled)));
        Ok(Verdict::Cancelled { order: None, cancelled: Minor::ZERO, released: Minor::ZERO })
    }

    fn cancel_all(&mut self, account: AccountId, id: MarketId) -> Result<Verdict, Refusal> {
        let market = self.market(id)?;
        let orders = market.cancel_all(account);
        let moves = if orders.is_empty() { Moves::default() } else { market.released(&[account]) };
        *market.cancel_epochs.entry(account).or_default() += 1;
        let waiting: Vec<OrderKey> = market.held.keys().filter(|key| key.account == account).cloned().collect();
        let mut released: i64 = moves.credits.iter().map(|(_, amount, _)| *amount).sum();
        self.moved(id, &moves, CreditKind::Release, CollectKind::NonRunner);
        for key in waiting {
            released += self.end_held(&key, Refusal::Cancelled).map_or(0, |held| held.held);
        }
        let orders = orders.into_iter().map(|(order, amount)| (order, Minor(amount))).collect();
        Ok(Verdict::CancelledAll { orders, released: Minor(released) })
    }

    fn cancel_everywhere(&mut self, account: AccountId) {
        let entered: Vec<MarketId> =
            self.wallets.get(&account).map(|wallet| wallet.markets.keys().copied().collect()).unwrap_or_default();
        for market in entered {
            match market.cell().filter(|cell| *cell < self.cells.count()) {
                Some(to) if to == self.id.0 => {
                    let _ = self.cancel_all(account, market);
                }
                Some(to) => self.sent.push((CellId(to), Sent::CancelAll(account, market))),
                None => {}
            }
        }
    }
}
