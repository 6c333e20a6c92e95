//! I6: an order taken in before a suspension or an in-play turn is never accepted after it; none is
//! accepted between suspension and reopening, past its deadline, or after a cancel-all that came
//! after it; one payout per (market, account, settlement version) (architecture, section 2, 1 and 4;
//! exchange rules, section 6).
//!
//! A market's life is followed item by item, as the rules have it, so that each order of a batch is
//! held against the state that it met.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::domain::{
    command::{Admission, Command, Effect, Message, Verdict},
    ledger::{Account, Posting},
    types::{AccountId, MarketId, MarketStatus, Minor},
};
use stakehold_raft::{
    CellId,
    machine::Stamp,
    replica::{Item, Outcome},
};

use super::{Violation, ensure, facts::Facts};
use crate::books::Books;

#[derive(Debug, Default)]
pub struct Times {
    /// Each cell's time: it never goes back, whoever leads it.
    stamps: BTreeMap<CellId, Stamp>,
    lives: BTreeMap<MarketId, Life>,
    closed: BTreeSet<MarketId>,
    settled: BTreeSet<(MarketId, u32)>,
    /// Who was paid by the settlement after the last one that is finished.
    paid: BTreeSet<(MarketId, AccountId)>,
}

#[derive(Debug)]
struct Life {
    status: MarketStatus,
    in_play: bool,
    epoch: u64,
    /// When it suspends itself, unless that has been.
    start: Option<Stamp>,
    cancel_epochs: BTreeMap<AccountId, u64>,
}

impl Life {
    fn enter(&mut self, status: MarketStatus) {
        if self.status != status {
            self.status = status;
            self.epoch += 1;
        }
    }

    fn cancel_epoch(&self, account: AccountId) -> u64 {
        self.cancel_epochs.get(&account).copied().unwrap_or_default()
    }

    /// Why an order with this admission cannot be accepted, if it cannot.
    fn obstacle(&self, stamp: Stamp, account: AccountId, admission: &Admission) -> Option<String> {
        let Self { status, epoch, .. } = self;
        let cancels = self.cancel_epoch(account);
        if *status != MarketStatus::Open {
            Some(format!("the market is {status:?}"))
        } else if admission.epoch != *epoch {
            Some(format!("it was taken in in epoch {} and this is {epoch}", admission.epoch))
        } else if admission.cancel_epoch < cancels {
            Some(format!("cancel-all number {cancels} came after it"))
        } else if stamp > admission.good_until {
            Some(format!("its time ended at {}", admission.good_until))
        } else {
            None
        }
    }
}

impl Times {
    pub fn entry(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let entry = facts.entry;
        let before = self.stamps.insert(entry.cell, entry.stamp).unwrap_or_default();
        ensure!(before <= entry.stamp, "I6", "the time of {} goes back from {before} to {}", entry.cell, entry.stamp);
        if !entry.items.is_empty() {
            self.start(entry.stamp, facts);
        }
        // What is known of an accepted instruction: None once an item was found that may have placed it.
        let mut obstacles: Vec<Option<String>> =
            facts.accepted.iter().map(|_| Some("nothing in the entry asks for it".into())).collect();
        // Whose instructions in which market are all ended, when the entry is done.
        let mut ended: BTreeSet<(MarketId, AccountId)> = BTreeSet::new();
        for (number, (item, outcome)) in entry.items.iter().zip(entry.outcomes).enumerate() {
            for (instruction, _) in facts.instructions(number) {
                ended.remove(&(instruction.market(), instruction.account()));
            }
            for ((key, content), obstacle) in facts.accepted.iter().zip(&mut obstacles) {
                let asked = facts
                    .instructions(number)
                    .filter(|(instruction, _)| instruction.key() == *key && instruction.content() == *content);
                for (_, admission) in asked {
                    let Some(life) = self.lives.get(&key.market) else { continue };
                    if obstacle.is_some() {
                        *obstacle = life.obstacle(entry.stamp, key.account, admission);
                    }
                }
            }
            if let (Item::Command(command), Outcome::Verdict(verdict)) = (item, outcome) {
                self.command(facts, number, command, verdict);
                if let (Command::CancelAll { account, market }, Verdict::CancelledAll { .. }) = (command, verdict) {
                    ended.insert((*market, *account));
                }
            }
            for taken in facts.taken_by(number) {
                match &taken.message {
                    Message::CancelAll { account, market } => {
                        self.cancel_all(*market, *account);
                        ended.insert((*market, *account));
                    }
                    Message::Funded(funded) => {
                        ended.remove(&(funded.instruction.market(), funded.instruction.account()));
                    }
                    _ => {}
                }
            }
        }
        for (market, account) in ended {
            let held = books.cell(entry.cell).held(account, market);
            ensure!(
                held == Minor::ZERO,
                "I6",
                "everything of {account} in {market} was cancelled, and {held} is held for an instruction"
            );
        }
        for ((key, _), obstacle) in facts.accepted.iter().zip(obstacles) {
            if let Some(obstacle) = obstacle {
                return Err(Violation::new("I6", format!("{key:?} was accepted at {}: {obstacle}", entry.stamp)));
            }
        }
        self.compare(books, facts)?;
        self.payouts(facts)
    }

    /// A market whose start has come suspends itself before anything else of the entry.
    fn start(&mut self, stamp: Stamp, facts: &Facts<'_>) {
        for market in &facts.markets {
            if let Some(life) = self.lives.get_mut(market)
                && life.start.is_some_and(|start| start <= stamp)
            {
                life.start = None;
                if life.status == MarketStatus::Open && !life.in_play {
                    life.enter(MarketStatus::Suspended);
                }
            }
        }
    }

    fn cancel_all(&mut self, market: MarketId, account: AccountId) {
        if let Some(life) = self.lives.get_mut(&market) {
            *life.cancel_epochs.entry(account).or_default() += 1;
        }
    }

    fn command(&mut self, facts: &Facts<'_>, number: usize, command: &Command, verdict: &Verdict) {
        match (command, verdict) {
            (Command::CreateMarket { definition, .. }, Verdict::MarketCreated(market)) if facts.first[number] => {
                let life = Life {
                    status: MarketStatus::Inactive,
                    in_play: false,
                    epoch: 0,
                    start: definition.start.filter(|start| *start > facts.entry.stamp),
                    cancel_epochs: BTreeMap::new(),
                };
                self.lives.insert(*market, life);
            }
            (Command::CancelAll { account, market }, Verdict::CancelledAll { .. }) => {
                self.cancel_all(*market, *account)
            }
            (Command::Open { market }, Verdict::Done) => self.enter(*market, MarketStatus::Open),
            (Command::Suspend { market }, Verdict::Done) => self.enter(*market, MarketStatus::Suspended),
            (Command::TurnInPlay { market, .. }, Verdict::Done) => {
                if let Some(life) = self.lives.get_mut(market)
                    && !life.in_play
                {
                    life.in_play = true;
                    life.epoch += 1;
                }
            }
            (Command::RemoveRunner { market, .. }, Verdict::Done) if facts.first[number] => {
                if let Some(life) = self.lives.get_mut(market) {
                    if life.status == MarketStatus::Open {
                        life.status = MarketStatus::Suspended;
                    }
                    life.epoch += 1;
                }
            }
            (Command::Settle { market, .. }, Verdict::Done) if facts.first[number] => {
                self.enter(*market, MarketStatus::Closed);
            }
            _ => {}
        }
    }

    fn enter(&mut self, market: MarketId, status: MarketStatus) {
        if let Some(life) = self.lives.get_mut(&market) {
            life.enter(status);
        }
    }

    /// The market's own opinion of its state: what the next orders will be taken in with.
    fn compare(&mut self, books: &Books, facts: &Facts<'_>) -> Result<(), Violation> {
        let cell = books.cell(facts.entry.cell);
        for id in &facts.markets {
            let (Some(market), Some(life)) = (cell.market(*id), self.lives.get(id)) else {
                ensure!(
                    cell.market(*id).is_none() && !self.lives.contains_key(id),
                    "I6",
                    "{id} is there for one and not for the other"
                );
                continue;
            };
            let known = (market.status(), market.in_play(), market.epoch());
            let must = (life.status, life.in_play, life.epoch);
            ensure!(known == must, "I6", "{id} is {known:?} (state, in play, epoch) and must be {must:?}");
        }
        // A wallet in this cell may have cancelled everything in markets that are here too.
        let mut everywhere: BTreeMap<AccountId, u64> = BTreeMap::new();
        for account in facts.entry.effects.iter().filter_map(|effect| match effect {
            Effect::HeartbeatExpired { account } => Some(*account),
            _ => None,
        }) {
            *everywhere.entry(account).or_default() += 1;
        }
        for account in facts.entry.items.iter().filter_map(|item| match item {
            Item::Command(Command::CancelEverywhere { account }) => Some(*account),
            _ => None,
        }) {
            *everywhere.entry(account).or_default() += 1;
        }
        for (account, times) in &everywhere {
            for (id, life) in &mut self.lives {
                let Some(now) = cell.admission(*account, *id, 0) else { continue };
                let known = life.cancel_epoch(*account);
                if (known..=known + times).contains(&now.cancel_epoch) && now.cancel_epoch > 0 {
                    life.cancel_epochs.insert(*account, now.cancel_epoch);
                }
            }
        }
        for (id, account) in &facts.stakes {
            let (Some(life), Some(now)) = (self.lives.get(id), cell.admission(*account, *id, 0)) else { continue };
            let must = life.cancel_epoch(*account);
            ensure!(
                now.cancel_epoch == must,
                "I6",
                "{account} has had {must} cancel-alls in {id}; the market believes {}",
                now.cancel_epoch
            );
        }
        Ok(())
    }

    /// A settlement pays each account once, and there is one of each version.
    fn payouts(&mut self, facts: &Facts<'_>) -> Result<(), Violation> {
        // The postings of a settlement's last step come right after it is told.
        let mut last = None;
        for effect in facts.entry.effects {
            match effect {
                Effect::Market(delta) if delta.status == MarketStatus::Closed => {
                    self.closed.insert(delta.market);
                }
                Effect::Settled { market, version } => {
                    ensure!(self.settled.insert((*market, *version)), "I6", "{market} was settled twice as {version}");
                    let before = *version == 1 || self.settled.contains(&(*market, *version - 1));
                    ensure!(before, "I6", "{market} was settled as {version} and not as the one before");
                    self.finish(last.replace(*market));
                    continue;
                }
                Effect::Posted(postings) => {
                    // What is released before a market closes is no payout; nothing is after.
                    let paid: BTreeSet<_> = postings.iter().filter_map(payout).collect();
                    for (market, account) in paid.into_iter().filter(|(market, _)| self.closed.contains(market)) {
                        let once = self.paid.insert((market, account));
                        ensure!(once, "I6", "{market} paid {account} twice in one settlement");
                    }
                }
                _ => {}
            }
            self.finish(last.take());
        }
        self.finish(last);
        Ok(())
    }

    /// The settlement of the market is finished: the next one may pay everyone again.
    fn finish(&mut self, market: Option<MarketId>) {
        let Some(market) = market else { return };
        let all = (market, AccountId(0))..=(market, AccountId(u64::MAX));
        let paid: Vec<_> = self.paid.range(all).copied().collect();
        for account in paid {
            self.paid.remove(&account);
        }
    }
}

/// Whose money went between a market and a wallet.
fn payout(posting: &Posting) -> Option<(MarketId, AccountId)> {
    let outside = |account| matches!(account, Account::Wallet(_) | Account::Owed(_) | Account::Transit { .. });
    match (posting.debit, posting.credit) {
        (Account::Margin(market, account), other) | (other, Account::Margin(market, account)) if outside(other) => {
            Some((market, account))
        }
        _ => None,
    }
}
