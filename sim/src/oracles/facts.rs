//! What an entry did, put in order once for all oracles: the messages it took in and sent, and whose
//! money and which markets it may have touched. Judges nothing.

use stakehold_actors::domain::{
    command::{Admission, Command, Effect, Instruction, Message, OrderKey, Verdict},
    ledger::Account,
    types::{AccountId, MarketId},
};
use stakehold_raft::{
    CellId,
    replica::{Item, Outcome},
};

use crate::books::Entry;

/// A message that an item of the entry took in.
#[derive(Debug)]
pub struct Taken {
    /// Which item.
    pub item: usize,
    pub message: Message,
}

/// The messages an entry took in, in order, and sent, stream by stream.
#[derive(Debug, Default)]
pub struct Traffic {
    pub taken: Vec<Taken>,
    pub sent: Vec<(CellId, Message)>,
}

#[derive(Debug)]
pub struct Facts<'a> {
    pub entry: &'a Entry<'a>,
    pub taken: Vec<Taken>,
    pub sent: Vec<(CellId, Message)>,
    /// For each item: it was a call with a reference, and this is its first answer.
    pub first: Vec<bool>,
    /// Instructions that were accepted in this entry for the first time, with their content.
    pub accepted: Vec<(OrderKey, u64)>,
    /// Whose wallet, in this cell; also of accounts that do not exist.
    pub accounts: Vec<AccountId>,
    /// Whose money in which market of this cell.
    pub stakes: Vec<(MarketId, AccountId)>,
    /// Which markets of this cell; also of markets that do not exist.
    pub markets: Vec<MarketId>,
}

impl<'a> Facts<'a> {
    pub fn new(entry: &'a Entry<'a>, traffic: Traffic) -> Self {
        let mut facts = Self {
            entry,
            taken: traffic.taken,
            sent: traffic.sent,
            first: vec![false; entry.items.len()],
            accepted: vec![],
            accounts: vec![],
            stakes: vec![],
            markets: vec![],
        };
        for item in entry.items {
            if let Item::Command(command) = item {
                facts.command(command);
            }
        }
        for outcome in entry.outcomes {
            if let Outcome::Verdict(Verdict::MarketCreated(market)) = outcome {
                facts.markets.push(*market);
            }
        }
        for taken in std::mem::take(&mut facts.taken) {
            facts.message(&taken.message);
            facts.taken.push(taken);
        }
        for effect in entry.effects {
            facts.effect(effect);
        }
        // A wallet's entry may name markets of other cells: nothing of theirs is here.
        facts.stakes.retain(|(market, _)| market.cell() == Some(entry.cell.0));
        facts.markets.extend(facts.stakes.iter().map(|(market, _)| *market));
        facts.accounts.sort_unstable();
        facts.accounts.dedup();
        facts.stakes.sort_unstable();
        facts.stakes.dedup();
        facts.markets.sort_unstable();
        facts.markets.dedup();
        facts
    }

    /// The instructions that an item brought to this cell.
    pub fn instructions(&self, item: usize) -> impl Iterator<Item = (&Instruction, &Admission)> {
        let told = match &self.entry.items[item] {
            Item::Command(Command::Execute { instruction, admission }) => Some((instruction, admission)),
            Item::Command(Command::Fund(fund)) => Some((&fund.instruction, &fund.admission)),
            _ => None,
        };
        let came = self.taken_by(item).filter_map(|taken| match &taken.message {
            Message::Funded(funded) => Some((&funded.instruction, &funded.admission)),
            _ => None,
        });
        told.into_iter().chain(came)
    }

    /// The messages that an item took in.
    pub fn taken_by(&self, item: usize) -> impl Iterator<Item = &Taken> {
        let first = self.taken.partition_point(|taken| taken.item < item);
        self.taken[first..].iter().take_while(move |taken| taken.item == item)
    }

    fn stake(&mut self, market: MarketId, account: AccountId) {
        self.stakes.push((market, account));
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::CreateAccount { account, .. }
            | Command::Deposit { account, .. }
            | Command::Withdraw { account, .. }
            | Command::SetCap { account, .. }
            | Command::SetDiscount { account, .. }
            | Command::Heartbeat { account, .. }
            | Command::CancelEverywhere { account } => self.accounts.push(*account),
            Command::Fund(fund) => {
                self.accounts.push(fund.instruction.account());
                self.stake(fund.instruction.market(), fund.instruction.account());
            }
            Command::Execute { instruction, .. } => self.stake(instruction.market(), instruction.account()),
            Command::Cancel { account, market, .. }
            | Command::CancelAll { account, market }
            | Command::SetPersistence { account, market, .. } => self.stake(*market, *account),
            Command::Open { market }
            | Command::Suspend { market }
            | Command::TurnInPlay { market, .. }
            | Command::RemoveRunner { market, .. }
            | Command::Settle { market, .. }
            | Command::Resettle { market, .. }
            | Command::Finalise { market } => self.markets.push(*market),
            Command::CreateMarket { .. } | Command::Marker { .. } | Command::Raise { .. } => {}
        }
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::Funded(funded) => self.stake(funded.instruction.market(), funded.instruction.account()),
            Message::Credits { lines, .. } => self.accounts.extend(lines.iter().map(|line| line.account)),
            Message::Collect { lines, .. } => self.accounts.extend(lines.iter().map(|line| line.account)),
            Message::CancelAll { account, market } => self.stake(*market, *account),
            Message::Left { accounts, .. } => self.accounts.extend_from_slice(accounts),
            Message::Marker { .. } => {}
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::OrderDecided { key, .. } | Effect::OrderPending { key, .. } => {
                self.stake(key.market, key.account);
            }
            Effect::Order { account, order } => self.stake(order.market, *account),
            Effect::Market(delta) => self.markets.push(delta.market),
            Effect::Settled { market, .. } => self.markets.push(*market),
            Effect::Credited { account, .. } | Effect::HeartbeatExpired { account } => self.accounts.push(*account),
            Effect::Posted(postings) => {
                for side in postings.iter().flat_map(|posting| [posting.debit, posting.credit]) {
                    match side {
                        Account::Wallet(account) | Account::Owed(account) => self.accounts.push(account),
                        Account::Margin(market, account) | Account::Held(market, account) => {
                            self.stake(market, account);
                        }
                        Account::Clearing(market) => self.markets.push(market),
                        Account::External | Account::Commission | Account::Rounding | Account::Transit { .. } => {}
                    }
                }
            }
            Effect::Audited(_) => {}
        }
    }
}
