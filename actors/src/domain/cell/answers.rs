//! Where it is kept what was answered under which reference: with its market what was answered to an
//! instruction, until that is final; with the cell what was answered to a wallet's calls and the operator's.
//!
//! A market that is final takes no instruction any more, so nothing can happen twice there, and what it
//! answered is forgotten with its orders: what a cell remembers grows with the markets that live, not with
//! all that was ever bet.

use std::sync::Arc;

use stakehold_raft::{mistake, reached};

use super::{Cell, Slot};
use crate::domain::{
    format,
    references::{Key, Known, References, Stored},
    types::{MarketId, Refusal},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// To wallets' calls and the operator's.
    calls: References,
    /// To instructions for markets that are not there; and everything from before
    /// [`ANSWERS_BY_MARKET`](format::ANSWERS_BY_MARKET), for a key does not say whose it is.
    unfiled: References,
}

impl Answers {
    pub fn of(calls: References, unfiled: References) -> Self {
        Self { calls, unfiled }
    }

    pub fn calls(&self) -> &References {
        &self.calls
    }

    pub fn unfiled(&self) -> &References {
        &self.unfiled
    }
}

/// What is known of an instruction.
pub(super) enum Told {
    New,
    Before(Stored),
    /// Or that it must not be carried out.
    Not(Refusal),
}

impl From<Known> for Told {
    fn from(known: Known) -> Self {
        match known {
            Known::New => Told::New,
            Known::Same(verdict) => Told::Before(verdict),
            Known::Reused => Told::Not(Refusal::ReferenceReused),
        }
    }
}

impl Cell {
    fn by_market(&self) -> bool {
        self.format >= format::ANSWERS_BY_MARKET
    }

    /// How many answers the cell remembers.
    pub(super) fn answers_count(&self) -> u64 {
        let markets: u64 = self.markets.values().map(|slot| slot.answers.count()).sum();
        self.answers.calls.count() + self.answers.unfiled.count() + markets
    }

    // -- a wallet's calls, and the operator's --

    pub(super) fn claim_call(&mut self, key: Key, content: u64) -> Known {
        match self.answers.calls.claim(key, content) {
            Known::New => self.answers.unfiled.claim(key, content),
            known => known,
        }
    }

    /// Whatever was answered to a call.
    pub(super) fn called(&self, key: Key) -> Option<Stored> {
        self.answers.calls.verdict(key).or_else(|| self.answers.unfiled.verdict(key))
    }

    pub(super) fn remember_call(&mut self, key: Key, content: u64, verdict: &Stored) {
        let answers = if self.by_market() { &mut self.answers.calls } else { &mut self.answers.unfiled };
        answers.remember(key, content, verdict);
    }

    // -- instructions --

    /// Whether a market has forgotten what it answered.
    pub(super) fn forgotten(&self, slot: &Slot) -> bool {
        self.by_market() && slot.market.finalised() && !mistake!("final.decides_anew")
    }

    /// What is known of an instruction, as things stand.
    pub(super) fn told(&self, market: MarketId, key: Key, content: u64) -> Told {
        let slot = self.markets.get(&market);
        let known = match slot.map_or(Known::New, |slot| slot.answers.known(key, content)) {
            Known::New => self.answers.unfiled.known(key, content),
            known => known,
        };
        match Told::from(known) {
            Told::New if slot.is_some_and(|slot| self.forgotten(slot)) => Told::Not(Refusal::MarketFinal),
            told => told,
        }
    }

    /// As [`told`](Self::told); a verdict given in advance is bound to the first content that comes.
    pub(super) fn claim(&mut self, market: MarketId, key: Key, content: u64) -> Told {
        if let Some(slot) = self.markets.get_mut(&market).filter(|slot| slot.answers.count() > 0) {
            let known = Arc::make_mut(&mut slot.answers).claim(key, content);
            if known != Known::New {
                return known.into();
            }
        }
        let known = self.answers.unfiled.claim(key, content);
        if known != Known::New {
            return known.into();
        }
        match self.markets.get(&market) {
            Some(slot) if self.forgotten(slot) => {
                reached!("final.asked_again");
                Told::Not(Refusal::MarketFinal)
            }
            _ => Told::New,
        }
    }

    /// Whatever was answered to the instruction, for calls that know only its reference.
    pub(super) fn answered(&self, market: MarketId, key: Key) -> Option<Stored> {
        let of_market = self.markets.get(&market).and_then(|slot| slot.answers.verdict(key));
        of_market.or_else(|| self.answers.unfiled.verdict(key))
    }

    /// # Panics
    /// When there already is a verdict: see [`References::remember`].
    pub(super) fn remember(&mut self, market: MarketId, key: Key, content: u64, verdict: &Stored) {
        let by_market = self.by_market();
        match self.markets.get_mut(&market).filter(|_| by_market) {
            Some(slot) => Arc::make_mut(&mut slot.answers).remember(key, content, verdict),
            None => self.answers.unfiled.remember(key, content, verdict),
        }
    }

    /// The market is final.
    pub(super) fn forget(&mut self, market: MarketId) {
        if self.by_market()
            && let Some(slot) = self.markets.get_mut(&market)
        {
            reached!("final.forgotten", slot.answers.count() > 0);
            slot.answers = Arc::default();
        }
    }

    /// The cell has just got the format from which on answers are kept by market. In which order the ones
    /// from before came, a replica that was read from a snapshot does not know.
    pub(super) fn file_answers(&mut self) {
        self.answers.unfiled =
            if mistake!("raise.answers_forgotten") { References::default() } else { self.answers.unfiled.in_order() };
    }
}
