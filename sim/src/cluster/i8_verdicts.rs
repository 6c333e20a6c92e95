//! What the cluster has committed under each reference, to hold an answer against: I8, acknowledged is
//! committed, and I4, whoever asks is told the same.

use std::collections::{BTreeMap, BTreeSet};

use stakehold_actors::{
    api::{ApiError, Request, Response, WalletReceipt},
    domain::{
        command::{Command, Effect, OrderKey, Verdict},
        types::{AccountId, MarketId, OrderView, Reference, Refusal},
    },
};
use stakehold_raft::replica::{Item, Outcome};

use crate::{books::Entry, oracles::Violation};

/// What an operator says of a market without a reference: said again it may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Open,
    Suspend,
    TurnInPlay,
}

fn word_of(request: &Request) -> Option<(Word, MarketId)> {
    match request {
        Request::OpenMarket { market } => Some((Word::Open, *market)),
        Request::SuspendMarket { market } => Some((Word::Suspend, *market)),
        Request::TurnInPlay { market, .. } => Some((Word::TurnInPlay, *market)),
        _ => None,
    }
}

#[derive(Debug, Default)]
pub struct Verdicts {
    orders: BTreeMap<OrderKey, Result<OrderView, Refusal>>,
    /// Orders that were sent to the market and came back for more money: those behind them went by.
    short: BTreeSet<OrderKey>,
    wallets: BTreeMap<(AccountId, Reference), WalletReceipt>,
    markets: BTreeMap<Reference, MarketId>,
    /// Markets that are final: what they answered may be forgotten.
    finals: BTreeSet<MarketId>,
    /// How often an operator's word about a market was committed.
    words: BTreeMap<(Word, MarketId), u64>,
    /// Orders that were accepted, and of those the ones that needed another cell's money.
    pub accepted: u64,
}

/// Accepted orders in this entry whose money came from another cell.
pub fn funded_across(entry: &Entry<'_>) -> u64 {
    let across = entry.items.iter().zip(entry.outcomes).any(
        |(item, outcome)| matches!((item, outcome), (Item::Deliver(_), Outcome::Receipt(receipt)) if receipt.taken > 0),
    );
    if !across {
        return 0;
    }
    let accepted = |effect: &&Effect| matches!(effect, Effect::OrderDecided { outcome: Ok(_), .. });
    entry.effects.iter().filter(accepted).count() as u64
}

impl Verdicts {
    pub fn hear(&mut self, entry: &Entry<'_>) {
        for effect in entry.effects {
            if let Effect::OrderPending { key, .. } = effect {
                self.short.insert(key.clone());
            }
            // That another content is under way with the reference is no verdict on that one, nor is it one that
            // it is forgotten.
            if let Effect::OrderDecided { key, outcome, .. } = effect
                && !matches!(outcome, Err(Refusal::ReferenceReused | Refusal::MarketFinal))
                && !self.orders.contains_key(key)
            {
                self.accepted += u64::from(outcome.is_ok());
                self.orders.insert(key.clone(), outcome.clone());
            }
        }
        for (item, outcome) in entry.items.iter().zip(entry.outcomes) {
            let (Item::Command(command), Outcome::Verdict(verdict)) = (item, outcome) else { continue };
            self.heard(command, verdict);
        }
    }

    fn heard(&mut self, command: &Command, verdict: &Verdict) {
        match (command, verdict) {
            (Command::Execute { instruction, .. }, Verdict::NeedsFunds(_)) => {
                self.short.insert(instruction.key());
            }
            (_, Verdict::Wallet(receipt)) => {
                let key = (receipt.account, receipt.reference.clone());
                self.wallets.entry(key).or_insert_with(|| receipt.clone());
            }
            (Command::CreateMarket { reference, .. }, Verdict::MarketCreated(market)) => {
                self.markets.entry(reference.clone()).or_insert(*market);
            }
            (Command::Finalise { market }, Verdict::Done) => {
                self.finals.insert(*market);
            }
            (Command::Open { market }, Verdict::Done) => self.word(Word::Open, *market),
            (Command::Suspend { market }, Verdict::Done) => self.word(Word::Suspend, *market),
            (Command::TurnInPlay { market, .. }, Verdict::Done) => self.word(Word::TurnInPlay, *market),
            _ => {}
        }
    }

    fn word(&mut self, word: Word, market: MarketId) {
        *self.words.entry((word, market)).or_default() += 1;
    }

    /// How often what the request says of a market was committed so far.
    pub fn said(&self, request: &Request) -> u64 {
        word_of(request).and_then(|word| self.words.get(&word)).copied().unwrap_or_default()
    }

    /// Whether there is a verdict on the first order of a call.
    pub fn knows(&self, account: AccountId, market: MarketId, reference: &Reference) -> bool {
        self.orders.contains_key(&OrderKey { account, market, reference: reference.clone(), index: 0 })
    }

    /// Whether an answer is one that the cluster has committed to.
    ///
    /// # Errors
    /// I8 when it is not there, I4 when it is another. `said_before` is [`said`](Self::said) when the call began.
    pub fn check(
        &self,
        request: &Request,
        said_before: u64,
        answer: &Result<Response, ApiError>,
    ) -> Result<(), Violation> {
        if answer.is_ok() && word_of(request).is_some() && self.said(request) <= said_before {
            return Err(Violation::new("I8", format!("{request:?} was acknowledged and is not committed")));
        }
        match (request, answer) {
            (Request::Place { account, market, reference, .. }, Ok(Response::Placed { reports, .. })) => {
                for report in reports {
                    let key = OrderKey {
                        account: *account,
                        market: *market,
                        reference: reference.clone(),
                        index: report.index,
                    };
                    self.order(&key, &report.outcome)?;
                }
                Ok(())
            }
            (Request::Replace { account, market, reference, .. }, Ok(Response::Order(view))) => {
                let key = OrderKey { account: *account, market: *market, reference: reference.clone(), index: 0 };
                self.order(&key, &Ok(view.clone()))
            }
            (Request::Replace { account, market, reference, .. }, Err(ApiError::Refused(refusal))) => {
                let key = OrderKey { account: *account, market: *market, reference: reference.clone(), index: 0 };
                self.order(&key, &Err(*refusal))
            }
            (_, Ok(Response::Wallet(receipt))) => match self.wallets.get(&(receipt.account, receipt.reference.clone()))
            {
                Some(committed) if committed == receipt => Ok(()),
                Some(committed) => Err(Violation::new(
                    "I4",
                    format!("the answer {receipt:?} is not what was committed, {committed:?}"),
                )),
                None => Err(Violation::new("I8", format!("{receipt:?} was acknowledged and is not committed"))),
            },
            _ => Ok(()),
        }
    }

    /// Whether a call's orders were taken in as they were given, where nothing got in its way. Orders are
    /// numbered as they are taken in.
    ///
    /// # Errors
    /// I5 when one has overtaken another.
    pub fn in_order(&self, request: &Request, answer: &Result<Response, ApiError>) -> Result<(), Violation> {
        let (Request::Place { account, market, reference, .. }, Ok(Response::Placed { reports, .. })) =
            (request, answer)
        else {
            return Ok(());
        };
        let on_time = reports.iter().filter_map(|report| {
            let key =
                OrderKey { account: *account, market: *market, reference: reference.clone(), index: report.index };
            (!self.short.contains(&key)).then_some((report.index, report.outcome.as_ref().ok()?.order))
        });
        let taken: BTreeMap<_, _> = on_time.collect();
        match taken.iter().zip(taken.iter().skip(1)).find(|((_, first), (_, second))| first > second) {
            Some(((first, _), (second, _))) => {
                let message =
                    format!("of {reference} of account {account} in {market}, order {second} overtook {first}");
                Err(Violation::new("I5", message))
            }
            None => Ok(()),
        }
    }

    fn order(&self, key: &OrderKey, outcome: &Result<OrderView, Refusal>) -> Result<(), Violation> {
        let committed = self.orders.get(key);
        let what = format!("{}/{} of account {} in {}", key.reference, key.index, key.account, key.market);
        match (outcome, committed) {
            (Ok(view), Some(Ok(committed))) if view.order == committed.order => {
                // What the first answer said of the match is what every answer says.
                if view.matched == committed.matched && view.size == committed.size {
                    return Ok(());
                }
                Err(Violation::new("I4", format!("{what} was answered as {view:?}, at first as {committed:?}")))
            }
            (Ok(_), Some(other)) => {
                Err(Violation::new("I4", format!("{what} was acknowledged, and committed as {other:?}")))
            }
            (Err(Refusal::MarketFinal), _) if self.finals.contains(&key.market) => Ok(()),
            (Err(Refusal::MarketFinal), _) => {
                Err(Violation::new("I4", format!("{what} is forgotten, and its market is not final")))
            }
            (Ok(_), None) => Err(Violation::new("I8", format!("{what} was acknowledged and is not committed"))),
            // Some refusals are not remembered: nothing happened, and nothing is promised. Whoever has brought money
            // three times is not told what ends the order in the end.
            (Err(_), None)
            | (Err(Refusal::ReferenceReused), Some(_))
            | (Err(Refusal::InsufficientFunds), Some(Err(_))) => Ok(()),
            (Err(refusal), Some(Err(committed))) if refusal == committed => Ok(()),
            (Err(refusal), Some(Err(committed))) => Err(Violation::new(
                "I4",
                format!("{what} was refused with {refusal:?}, and committed with {committed:?}"),
            )),
            (Err(refusal), Some(Ok(_))) => {
                Err(Violation::new("I4", format!("{what} was refused with {refusal:?}, and is accepted")))
            }
        }
    }

    /// The market that a call created, by its reference.
    pub fn market(&self, reference: &Reference) -> Option<MarketId> {
        self.markets.get(reference).copied()
    }
}

#[cfg(test)]
mod tests {
    use stakehold_actors::domain::types::{Minor, OrderId, Persistence, RunnerId, Side};
    use stakehold_raft::CellId;

    use super::*;

    /// Found by a swarm: two contents with one reference, and the second was taken in while the first was
    /// held for more money.
    #[test]
    fn that_a_reference_is_another_orders_is_no_verdict_on_that_order() {
        let (account, market) = (AccountId(1), MarketId(20));
        let reference = Reference::new("b1").unwrap();
        let key = OrderKey { account, market, reference: reference.clone(), index: 0 };
        let view = OrderView {
            order: OrderId(7),
            market,
            runner: RunnerId(1),
            side: Side::Lay,
            price: 234,
            size: Minor(1_856),
            persistence: Persistence::Lapse,
            matched: Minor(0),
            matched_value: 0,
            remaining: Minor(1_856),
            cancelled: Minor(0),
            lapsed: Minor(0),
            voided: Minor(0),
            placed: 1,
            reference,
            index: 0,
        };
        let mut verdicts = Verdicts::default();
        for (content, outcome) in [(2, Err(Refusal::ReferenceReused)), (1, Ok(view.clone()))] {
            let effects = [Effect::OrderDecided { key: key.clone(), content, outcome }];
            let entry = Entry {
                cell: CellId(0),
                term: 1,
                index: 1,
                stamp: 1,
                acks: &[],
                items: &[],
                outcomes: &[],
                effects: &effects,
            };
            verdicts.hear(&entry);
        }
        assert_eq!(verdicts.accepted, 1);
        verdicts.order(&key, &Ok(view.clone())).unwrap();
        verdicts.order(&key, &Err(Refusal::ReferenceReused)).unwrap();
        verdicts.order(&key, &Err(Refusal::InsufficientFunds)).unwrap_err();
        verdicts.order(&key, &Ok(OrderView { order: OrderId(8), ..view })).unwrap_err();
    }
}
