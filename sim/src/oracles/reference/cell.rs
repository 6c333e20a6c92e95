//! A cell, naively: carries out what an entry says, in its order, and says what must come of it. Time,
//! calls with a reference and money going to wallets are here; instructions and the messages between
//! cells are in [`super::protocol`].

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{Trade, WalletReceipt},
    domain::{
        command::{CollectKind, Command, CreditKind, Funded, Instruction, OrderKey, Verdict},
        types::{AccountId, EventId, MarketDefinition, MarketId, MarketStatus, Minor, OrderView, Reference, Refusal},
    },
};
use stakehold_raft::{CellId, Cells, ids::kind, machine::Stamp};

use super::{
    life::Moves,
    market::Market,
    wallet::{MAX_BALANCE, Wallet},
};

const MAX_ACCOUNT: u64 = (1 << 53) - 1;
const MAX_NAME: usize = 128;
const RUNNERS_MAX: usize = 1_000;
/// From this format on a market that is final forgets what it answered.
const FINAL_FORGETS: u16 = 3;
/// The longest bet delay, in seconds.
pub(super) const BET_DELAY_MAX_S: u16 = 30;
const RUNNER_ID_MAX: u64 = (1 << 31) - 1;
/// What a heartbeat may last, in milliseconds.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 500..=24 * 3_600_000;

pub(super) type Outcome = Result<OrderView, Refusal>;

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
pub(super) enum Due {
    Start(MarketId),
    Heartbeat(AccountId),
    /// What is held for an instruction goes back.
    Held(OrderKey),
    Settlement(MarketId),
}

#[derive(Debug)]
pub struct Cell {
    pub(super) id: CellId,
    pub(super) cells: Cells,
    pub stamp: Stamp,
    format: u16,
    pub wallets: BTreeMap<AccountId, Wallet>,
    pub markets: BTreeMap<MarketId, Market>,
    created: u64,
    pub(super) placed: u64,
    pub(super) events: BTreeMap<EventId, Vec<MarketId>>,
    /// First calls and their answers.
    calls: BTreeMap<(Option<AccountId>, Reference), (Command, Verdict)>,
    /// First instructions and their verdicts; without the instruction where it has not come yet.
    pub(super) verdicts: BTreeMap<OrderKey, (Option<Instruction>, Outcome)>,
    /// Those of them that a market forgets when it is final.
    pub(super) forgettable: BTreeSet<OrderKey>,
    pub(super) due: BTreeSet<(Stamp, Due)>,
    /// How many accounts a settlement pays at once.
    step: usize,
    pub commission: i64,
    pub rounding: i64,
    pub told: Vec<Told>,
    pub sent: Vec<(CellId, Sent)>,
    /// Wallets and markets that the entry has to do with.
    pub wallets_touched: Vec<AccountId>,
    pub markets_touched: BTreeSet<MarketId>,
}

impl Cell {
    pub fn new(id: CellId, cells: Cells, step: u32) -> Self {
        Self {
            id,
            cells,
            stamp: 0,
            format: 1,
            wallets: BTreeMap::new(),
            markets: BTreeMap::new(),
            created: 0,
            placed: 0,
            events: BTreeMap::new(),
            calls: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            forgettable: BTreeSet::new(),
            due: BTreeSet::new(),
            step: step as usize,
            commission: 0,
            rounding: 0,
            told: vec![],
            sent: vec![],
            wallets_touched: vec![],
            markets_touched: BTreeSet::new(),
        }
    }

    pub(super) fn wallet_cell(&self, account: AccountId) -> CellId {
        self.cells.cell_of(kind::ACCOUNT, account.0)
    }

    pub(super) fn wallet(&mut self, account: AccountId) -> Result<&mut Wallet, Refusal> {
        self.wallets_touched.push(account);
        self.wallets.get_mut(&account).ok_or(Refusal::UnknownAccount)
    }

    pub(super) fn market(&mut self, market: MarketId) -> Result<&mut Market, Refusal> {
        self.markets_touched.insert(market);
        self.markets.get_mut(&market).ok_or(Refusal::UnknownMarket)
    }

    /// Whether what the market has answered is forgotten.
    pub(super) fn forgotten(&self, market: MarketId) -> bool {
        self.format >= FINAL_FORGETS && self.markets.get(&market).is_some_and(|market| market.finalised)
    }

    /// A verdict has just been given under this reference.
    pub(super) fn note(&mut self, key: &OrderKey) {
        if self.format >= FINAL_FORGETS && self.markets.contains_key(&key.market) {
            self.forgettable.insert(key.clone());
        }
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

    pub(super) fn dispatch(&mut self, command: &Command, busy: bool) -> Result<Verdict, Refusal> {
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
            Command::TurnInPlay { market, bet_delay_s } => {
                self.live(*market, |market| market.turn_in_play(*bet_delay_s))
            }
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
                for key in self.forgettable.extract_if(.., |key| key.market == *market) {
                    self.verdicts.remove(&key);
                }
                let entered = std::mem::take(&mut self.market(*market)?.entered);
                for account in entered {
                    self.tell_left(*market, account);
                }
                Ok(Verdict::Done)
            }
            Command::Marker { .. } => Ok(Verdict::Done),
            Command::Raise { format } => {
                self.format = self.format.max(*format);
                Ok(Verdict::Done)
            }
        }
    }

    /// A call with a reference: one effect, one answer.
    pub(super) fn once(
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

    pub(super) fn first(&mut self, command: &Command) -> Result<Verdict, Refusal> {
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
        let stamp = self.stamp;
        match command {
            Command::Deposit { account, amount, reference } => {
                let sum = checked(*amount)?;
                let wallet = self.wallet(*account)?;
                if wallet.available + sum > MAX_BALANCE {
                    return Err(Refusal::InvalidAmount);
                }
                wallet.credit(sum);
                wallet.note(stamp, "deposit", sum, None, Some(reference));
                Ok(receipt(*account, reference, *amount, wallet.available))
            }
            Command::Withdraw { account, amount, reference } => {
                let sum = checked(*amount)?;
                let wallet = self.wallet(*account)?;
                wallet.take(sum)?;
                wallet.note(stamp, "withdraw", sum, None, Some(reference));
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

    pub(super) fn create_account(&mut self, account: AccountId, name: &str) -> Result<Verdict, Refusal> {
        if self.wallet_cell(account) != self.id || account.0 == 0 || account.0 > MAX_ACCOUNT {
            return Err(Refusal::UnknownAccount);
        }
        let length = if self.format == 1 { name.len() } else { name.chars().count() };
        if length > MAX_NAME {
            return Err(Refusal::InvalidDefinition);
        }
        let wallet = self.wallets.entry(account).or_insert_with(|| Wallet { name: name.into(), ..Wallet::default() });
        if wallet.name == name { Ok(Verdict::Done) } else { Err(Refusal::AccountExists) }
    }

    pub(super) fn create_market(&mut self, definition: &MarketDefinition) -> Result<Verdict, Refusal> {
        let d = definition;
        let ids: BTreeSet<u64> = d.runners.iter().map(|runner| runner.id.0).collect();
        let right = self.cells.cell_of(kind::EVENT, d.event.0) == self.id
            && ids.len() == d.runners.len()
            && ids.last().is_some_and(|last| *last <= RUNNER_ID_MAX)
            && ids.len() <= RUNNERS_MAX
            && d.winners >= 1
            && d.bet_delay_s <= BET_DELAY_MAX_S
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

    pub(super) fn heartbeat(&mut self, account: AccountId, timeout_ms: u64) -> Result<Verdict, Refusal> {
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
    pub(super) fn live(
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

    pub(super) fn pay(&mut self, id: MarketId) {
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

    pub(super) fn moved(&mut self, market: MarketId, moves: &Moves, credit: CreditKind, collect: CollectKind) {
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

    pub(super) fn credit(&mut self, market: MarketId, account: AccountId, amount: i64, kind: CreditKind, left: i64) {
        let to = self.wallet_cell(account);
        if to == self.id {
            self.credited(market, account, amount, kind, left);
        } else {
            self.sent.push((to, Sent::Credit(market, account, Minor(amount), kind, Minor(left))));
        }
    }

    pub(super) fn credited(&mut self, market: MarketId, account: AccountId, amount: i64, kind: CreditKind, left: i64) {
        let stamp = self.stamp;
        if let Ok(wallet) = self.wallet(account) {
            wallet.credit(amount);
            wallet.moved(market, -left);
            let noted = amount > 0 || kind == CreditKind::Settlement;
            let kind = match kind {
                CreditKind::Release => "release",
                CreditKind::Return => "return",
                CreditKind::Settlement => "settle",
                CreditKind::Correction => "correct",
            };
            if noted {
                wallet.note(stamp, kind, amount, Some(market), None);
            }
        }
    }

    pub(super) fn charged(&mut self, market: MarketId, account: AccountId, amount: i64, kind: CollectKind) {
        let stamp = self.stamp;
        if let Ok(wallet) = self.wallet(account) {
            wallet.collect(amount);
            if kind == CollectKind::NonRunner {
                wallet.moved(market, amount);
            }
            wallet.note(stamp, "collect", amount, Some(market), None);
        }
    }

    pub(super) fn tell_left(&mut self, market: MarketId, account: AccountId) {
        let to = self.wallet_cell(account);
        if to != self.id {
            self.sent.push((to, Sent::Left(market, account)));
        } else if let Ok(wallet) = self.wallet(account) {
            wallet.left(market);
        }
    }

    /// Money that came for an instruction goes back; a market that is final lets the account go.
    pub(super) fn give_back(&mut self, market: MarketId, account: AccountId, amount: i64) {
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
}
