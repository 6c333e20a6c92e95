//! What clients have asked, to hold what the cluster commits against: nothing may be committed that nobody
//! asked for, in another cell than its own, past the deadline that came with it, or more often than it
//! was said; and no second funding brings anything but what was short. And whoever has no right to ask is told so.
//!
//! The words of a call are put into commands here once more, from what the API says they mean.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{ApiError, CancelOrder, Principal, Request},
    domain::{
        cell::Cell,
        command::{Admission, Command, Effect, Fund, Instruction, OrderKey, Replacement, Verdict},
        types::{AccountId, MarketId, Minor, OrderRequest},
    },
};
use stakehold_raft::{
    CellId, Cells, NodeId,
    ids::kind,
    replica::{Item, Outcome},
};

use crate::{
    books::{Books, Entry},
    oracles::Violation,
};

/// Two moments may seem nearer by so much: windows are a few milliseconds long, and timers count in
/// milliseconds.
pub(super) const GRAIN_MS: u64 = 20;

/// The node that proposed an entry, if its log has found no room since some moment, in virtual microseconds.
pub type Full = Option<(NodeId, u64)>;

/// A command, or an order's instruction, as bytes: what is compared.
type Words = Vec<u8>;

#[derive(Debug, Default)]
pub struct Asked {
    said: BTreeMap<Words, Said>,
    /// The words of each order, by its reference and the hash of its content.
    orders: BTreeMap<(OrderKey, u64), Words>,
    /// What the market's cell has said to be short after a funding, by the order, its content and the attempt.
    short: BTreeMap<(OrderKey, u64), BTreeMap<u8, BTreeSet<Minor>>>,
    /// Who has ordered something in each market.
    orderers: BTreeMap<MarketId, BTreeSet<AccountId>>,
    /// Until when an order may be taken, by every try of a call that places it.
    deadlines: BTreeMap<OrderKey, BTreeSet<u64>>,
    /// When a node was first asked for an order, in virtual microseconds.
    first: BTreeMap<OrderKey, u64>,
    /// The bet delays of each market in each of its epochs, in milliseconds, and since when, in virtual microseconds.
    epochs: BTreeMap<(MarketId, u64), Vec<(u64, u64)>>,
    /// While a market has a bet delay: how often an account has cancelled all it has there, and since when, in
    /// virtual microseconds.
    cancelled: BTreeMap<(MarketId, AccountId), BTreeMap<u64, u64>>,
}

#[derive(Debug, Default)]
struct Said {
    /// How often, without those times of which the client was told that nothing was done.
    asked: u64,
    committed: u64,
    /// It took effect, once at least.
    done: bool,
}

/// The cell that an order or a command belongs in; None if there is no such cell.
pub fn cell_of(cells: Cells, command: &Command) -> Option<CellId> {
    match command {
        Command::CreateAccount { account, .. }
        | Command::Deposit { account, .. }
        | Command::Withdraw { account, .. }
        | Command::SetCap { account, .. }
        | Command::SetDiscount { account, .. }
        | Command::Heartbeat { account, .. }
        | Command::CancelEverywhere { account } => Some(cells.cell_of(kind::ACCOUNT, account.0)),
        Command::Fund(Fund { instruction, .. }) => Some(cells.cell_of(kind::ACCOUNT, instruction.account().0)),
        Command::CreateMarket { definition, .. } => Some(cells.cell_of(kind::EVENT, definition.event.0)),
        Command::Open { market }
        | Command::Suspend { market }
        | Command::TurnInPlay { market, .. }
        | Command::Cancel { market, .. }
        | Command::CancelAll { market, .. }
        | Command::SetPersistence { market, .. }
        | Command::RemoveRunner { market, .. }
        | Command::Settle { market, .. }
        | Command::Resettle { market, .. }
        | Command::Finalise { market } => there(cells, *market),
        Command::Execute { instruction, .. } => there(cells, instruction.market()),
        Command::Marker { .. } | Command::Raise { .. } => None,
    }
}

/// The market's cell, if the cluster has it.
pub fn there(cells: Cells, market: MarketId) -> Option<CellId> {
    market.cell().map(CellId).filter(|cell| cell.0 < cells.count())
}

/// What is asked of cells, order by order; nothing when it only looks, or places orders.
pub fn commands_of(request: &Request) -> Vec<Command> {
    let one = match request.clone() {
        Request::CreateAccount { account, name } => Command::CreateAccount { account, name },
        Request::Deposit { account, amount, reference } => Command::Deposit { account, amount, reference },
        Request::Withdraw { account, amount, reference } => Command::Withdraw { account, amount, reference },
        Request::SetAccountCap { account, cap, reference } => Command::SetCap { account, cap, reference },
        Request::SetAccountDiscount { account, discount_bp, reference } => {
            Command::SetDiscount { account, discount_bp, reference }
        }
        Request::Heartbeat { account, timeout_ms } => Command::Heartbeat { account, timeout_ms },
        Request::CreateMarket { definition, reference } => Command::CreateMarket { definition, reference },
        Request::OpenMarket { market } => Command::Open { market },
        Request::SuspendMarket { market } => Command::Suspend { market },
        Request::TurnInPlay { market, bet_delay_s } => Command::TurnInPlay { market, bet_delay_s },
        Request::Settle { market, result, reference } => Command::Settle { market, result, reference },
        Request::Resettle { market, result, reference } => Command::Resettle { market, result, reference },
        Request::Finalise { market } => Command::Finalise { market },
        Request::RemoveRunner { market, runner, factor, reference } => {
            Command::RemoveRunner { market, runner, factor, reference }
        }
        Request::Cancel { account, market, orders } => {
            let cancel = |CancelOrder { which, reduction }| Command::Cancel {
                account,
                market,
                which,
                reduction,
                in_funding: false,
            };
            return orders.into_iter().map(cancel).collect();
        }
        Request::CancelAll { account, market: Some(market) } => Command::CancelAll { account, market },
        Request::CancelAll { account, market: None } => Command::CancelEverywhere { account },
        Request::SetPersistence { account, market, order, persistence } => {
            Command::SetPersistence { account, market, order, persistence }
        }
        Request::Place { .. }
        | Request::Replace { .. }
        | Request::GetAccount { .. }
        | Request::Statement { .. }
        | Request::ListMarkets
        | Request::GetMarket { .. }
        | Request::Book { .. }
        | Request::ListOrders { .. }
        | Request::Status
        | Request::Audit => return Vec::new(),
    };
    vec![one]
}

/// Whether nothing is asked for but to be told something.
pub fn only_looks(request: &Request) -> bool {
    !matches!(request, Request::Place { .. } | Request::Replace { .. } | Request::Cancel { .. })
        && commands_of(request).is_empty()
}

/// The orders of a call, and the new prices.
pub fn instructions_of(request: &Request) -> Vec<Instruction> {
    match request.clone() {
        Request::Place { account, market, reference, orders } => {
            let place = |(index, order): (usize, stakehold_actors::api::NewOrder)| {
                Instruction::Place(OrderRequest {
                    account,
                    market,
                    runner: order.runner,
                    side: order.side,
                    price: order.price,
                    size: order.size,
                    persistence: order.persistence,
                    fill_or_kill: order.fill_or_kill,
                    min_fill: order.min_fill,
                    post_only: order.post_only,
                    reference: reference.clone(),
                    index: index as u16,
                })
            };
            orders.into_iter().enumerate().map(place).collect()
        }
        Request::Replace { account, market, order, price, reference } => {
            vec![Instruction::Replace(Replacement { account, market, order, price, reference })]
        }
        _ => Vec::new(),
    }
}

/// What a command says, without what the node that proposes it adds to it.
pub fn words(command: &Command) -> Words {
    let mut command = command.clone();
    if let Command::Cancel { in_funding, .. } = &mut command {
        *in_funding = false;
    }
    postcard::to_stdvec(&command).expect("plain data")
}

fn words_of(instruction: &Instruction) -> Words {
    postcard::to_stdvec(instruction).expect("plain data")
}

/// Whether to say it twice is more than to say it once.
fn counts(command: &Command) -> bool {
    matches!(
        command,
        Command::Open { .. }
            | Command::Suspend { .. }
            | Command::TurnInPlay { .. }
            | Command::SetPersistence { .. }
            | Command::Cancel { reduction: Some(_), .. }
    )
}

/// Somebody whose token does not do for this; None if everybody's does.
pub fn stranger(request: &Request) -> Option<Principal> {
    let other = |account: AccountId| Principal::Account(AccountId(if account.0 <= 1 { 2 } else { account.0 - 1 }));
    match request {
        Request::ListMarkets | Request::GetMarket { .. } | Request::Book { .. } => None,
        request => Some(owner(request).map_or(Principal::Account(AccountId(1)), other)),
    }
}

/// The account whose own token does.
pub fn owner(request: &Request) -> Option<AccountId> {
    match request {
        Request::GetAccount { account }
        | Request::Withdraw { account, .. }
        | Request::Statement { account, .. }
        | Request::Heartbeat { account, .. }
        | Request::Place { account, .. }
        | Request::Cancel { account, .. }
        | Request::CancelAll { account, .. }
        | Request::Replace { account, .. }
        | Request::SetPersistence { account, .. }
        | Request::ListOrders { account, .. } => Some(*account),
        _ => None,
    }
}

impl Asked {
    /// A call has reached a node at `now_us`, which may carry it out until `good_until`.
    pub fn hear(&mut self, request: &Request, good_until: u64, now_us: u64) {
        for instruction in instructions_of(request) {
            let words = words_of(&instruction);
            self.said.entry(words.clone()).or_default().asked += 1;
            self.orderers.entry(instruction.market()).or_default().insert(instruction.account());
            self.orders.insert((instruction.key(), instruction.content()), words);
            self.deadlines.entry(instruction.key()).or_default().insert(good_until);
            self.first.entry(instruction.key()).or_insert(now_us);
        }
        for command in commands_of(request) {
            self.said.entry(words(&command)).or_default().asked += 1;
        }
    }

    /// The client was told that nothing of its call was done, and will be: it may go away, or say it anew
    /// under another reference.
    ///
    /// # Errors
    /// When some of it was.
    pub fn not_done(&mut self, request: &Request, answer: &ApiError) -> Result<(), Violation> {
        let commands = commands_of(request).into_iter().map(|command| (words(&command), counts(&command)));
        let orders = instructions_of(request).into_iter().map(|order| (words_of(&order), false));
        for (nth, (words, counts)) in commands.chain(orders).enumerate() {
            let said = self.said.entry(words).or_default();
            said.asked = said.asked.saturating_sub(1);
            if (counts && said.committed > said.asked) || (said.done && said.asked == 0) {
                let message =
                    format!("{request:?} was answered with {answer:?}, and part {} of it was carried out", nth + 1);
                return Err(Violation::new("Gateway", message));
            }
        }
        for order in instructions_of(request) {
            self.not_begun(&order.key(), order.content())?;
        }
        Ok(())
    }

    /// Nothing is held for an order of which everybody was told that nothing of it was done.
    fn not_begun(&self, key: &OrderKey, content: u64) -> Result<(), Violation> {
        let order = (key.clone(), content);
        let said = self.orders.get(&order).and_then(|words| self.said.get(words));
        match self.short.get(&order) {
            Some(short) if said.is_some_and(|said| said.asked == 0) => {
                let message =
                    format!("whoever asked for {key:?} was told that it was not done, and {short:?} was short");
                Err(Violation::new("Gateway", message))
            }
            _ => Ok(()),
        }
    }

    /// Holds what was committed against what was asked.
    ///
    /// # Errors
    /// What nobody asked for, not so often, not here, not any more, or not of a node with a full disk.
    pub fn committed(&mut self, entry: &Entry<'_>, books: &Books, now_us: u64, full: Full) -> Result<(), Violation> {
        for (item, outcome) in entry.items.iter().zip(entry.outcomes) {
            let (Item::Command(command), Outcome::Verdict(verdict)) = (item, outcome) else { continue };
            // What nodes say themselves.
            if matches!(command, Command::Marker { .. } | Command::Raise { .. }) {
                continue;
            }
            self.one(command, verdict, entry.cell, books.cells, now_us)?;
            self.no_room(command, full)?;
        }
        for effect in entry.effects {
            match effect {
                Effect::OrderDecided { key, content, outcome: Ok(_) } => self.accepted(key, *content)?,
                Effect::OrderPending { key, content, short, attempt } => {
                    let shorts = self.short.entry((key.clone(), *content)).or_default();
                    shorts.entry(*attempt).or_default().insert(*short);
                    self.not_begun(key, *content)?;
                }
                _ => {}
            }
        }
        self.note_epochs(entry.cell, books, now_us);
        Ok(())
    }

    fn one(
        &mut self,
        command: &Command,
        verdict: &Verdict,
        cell: CellId,
        cells: Cells,
        now_us: u64,
    ) -> Result<(), Violation> {
        let wrong = |why: &str| Err(Violation::new("Gateway", format!("{command:?} was committed in {cell}: {why}")));
        if cell_of(cells, command) != Some(cell) {
            return wrong("it belongs in another cell");
        }
        if let Command::Fund(fund) = command
            && fund.attempt > 1
        {
            let shorts = self.short.get(&(fund.instruction.key(), fund.instruction.content()));
            let short = shorts.and_then(|shorts| shorts.get(&(fund.attempt - 1)));
            if !short.is_some_and(|short| short.contains(&fund.amount)) {
                return wrong(&format!("it is to bring what was short, and that was {short:?}"));
            }
        }
        let (asked, instruction) = match command {
            Command::Execute { instruction, admission } => (words_of(instruction), Some((instruction, admission))),
            Command::Fund(fund) => (words_of(&fund.instruction), Some((&fund.instruction, &fund.admission))),
            command => (words(command), None),
        };
        let Some(said) = self.said.get_mut(&asked) else { return wrong("nobody asked for it") };
        said.committed += 1;
        if counts(command) && said.committed > said.asked {
            return wrong("it was done more often than it was asked for");
        }
        if instruction.is_none() && *verdict != Verdict::Busy {
            said.done = true;
            if said.asked == 0 {
                return wrong("whoever asked for it was told that it was not done");
            }
        }
        match instruction {
            Some((instruction, admission)) => self.admitted(instruction, admission, now_us).or_else(|why| wrong(&why)),
            None => Ok(()),
        }
    }

    /// What is left of a full disk is not for new orders.
    fn no_room(&self, command: &Command, full: Full) -> Result<(), Violation> {
        let key = match command {
            Command::Execute { instruction, .. } => instruction.key(),
            Command::Fund(fund) if fund.attempt == 1 => fund.instruction.key(),
            _ => return Ok(()),
        };
        match (full, self.first.get(&key)) {
            (Some((node, since_us)), Some(first_us)) if *first_us > since_us + GRAIN_MS * 1_000 => {
                let message = format!(
                    "{node}, whose disk is full since {since_us} us, took {key:?}, which was first asked for at {first_us} us"
                );
                Err(Violation::new("Gateway", message))
            }
            _ => Ok(()),
        }
    }

    /// An order has taken effect.
    fn accepted(&mut self, key: &OrderKey, content: u64) -> Result<(), Violation> {
        let said = self.orders.get(&(key.clone(), content)).and_then(|words| self.said.get_mut(words));
        // That nobody asked for it was found when it was committed.
        let Some(said) = said else { return Ok(()) };
        said.done = true;
        if said.asked == 0 {
            let message = format!("{key:?} was accepted, and whoever asked for it was told that it was not done");
            return Err(Violation::new("Gateway", message));
        }
        Ok(())
    }

    /// The order was admitted with what its client gave it and with what its market was, a bet delay ago.
    fn admitted(&self, instruction: &Instruction, admission: &Admission, now_us: u64) -> Result<(), String> {
        let market = instruction.market();
        let first = (admission.epoch == 0).then_some((0, 0));
        let delays = self.epochs.get(&(market, admission.epoch)).into_iter().flatten().copied();
        let delays: Vec<(u64, u64)> = delays.chain(first).collect();
        if delays.is_empty() {
            return Err("its market has not been so yet".into());
        }
        let asked = self.deadlines.get(&instruction.key());
        // What was cancelled in its bet delay must not look as if it came after that.
        let cancelled = self.cancelled.get(&(market, instruction.account()));
        let cancelled_us = cancelled.and_then(|since| since.get(&admission.cancel_epoch)).copied().unwrap_or(0);
        let served = |(since_us, delay_ms): &(u64, u64)| {
            now_us.saturating_sub(cancelled_us.max(*since_us)).div_ceil(1_000) + GRAIN_MS >= *delay_ms
                && admission
                    .good_until
                    .checked_sub(*delay_ms)
                    .is_some_and(|given| asked.is_some_and(|asked| asked.contains(&given)))
        };
        if delays.iter().any(served) {
            return Ok(());
        }
        Err(format!(
            "at {now_us} us, with bet delays (since us, ms) {delays:?}, the last cancel-all at {cancelled_us} us, deadlines \
             that were given are {asked:?}"
        ))
    }

    /// When an order that was first asked for at `since_us` may be taken at the earliest: the bet delay that
    /// its market had at some moment since then has to be over. Virtual microseconds.
    pub fn earliest(&self, market: MarketId, since_us: u64) -> u64 {
        let delays: Vec<(u64, u64)> =
            self.epochs.range((market, 0)..=(market, u64::MAX)).flat_map(|(_, delays)| delays).copied().collect();
        let until = delays.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let served = delays.iter().zip(until).filter(|(_, until)| since_us <= *until);
        served
            .map(|((from, delay_ms), _)| since_us.max(from.saturating_sub(GRAIN_MS * 1_000)) + delay_ms * 1_000)
            .min()
            .unwrap_or(since_us)
    }

    fn note_epochs(&mut self, cell: CellId, books: &Books, now_us: u64) {
        let cell = books.cell(cell);
        for id in cell.market_ids() {
            let Some(market) = cell.market(id) else { continue };
            let delays = self.epochs.entry((id, market.epoch())).or_default();
            if delays.last().is_none_or(|(_, delay_ms)| *delay_ms != market.bet_delay_ms()) {
                delays.push((now_us, market.bet_delay_ms()));
            }
            self.note_cancels(cell, id, now_us);
        }
    }

    fn note_cancels(&mut self, cell: &Cell, market: MarketId, now_us: u64) {
        let of_it = (market, AccountId(0))..=(market, AccountId(u64::MAX));
        if cell.market(market).is_none_or(|market| market.bet_delay_ms() == 0) {
            self.cancelled.extract_if(of_it, |_, _| true).for_each(drop);
            return;
        }
        // Whoever had none when the delay began had it before.
        for account in self.orderers.get(&market).into_iter().flatten() {
            let Some(admission) = cell.admission(*account, market, 0) else { continue };
            let since = self.cancelled.entry((market, *account)).or_default();
            let now_us = if since.is_empty() { 0 } else { now_us };
            since.entry(admission.cancel_epoch).or_insert(now_us);
        }
    }
}
