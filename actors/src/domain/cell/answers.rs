//! Where it is kept what was answered under which reference: with its market what was answered to an
//! instruction, until that is final; with the cell what was answered to a wallet's calls and the operator's.
//!
//! A market that is final takes no instruction any more, so nothing can happen twice there, and what it
//! answered is forgotten with its orders: what a cell remembers grows with the markets that live, not with
//! all that was ever bet.

use std::sync::Arc;

use stakehold_raft::{mistake, reached};

use super::Cell;
use crate::domain::{
    format,
    references::{Key, Known, References, Stored},
    types::{MarketId, Refusal},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// To wallets' calls and the operator's.
    pub calls: References,
    /// To instructions for markets that are not there; and everything from before
    /// [`ANSWERS_BY_MARKET`](format::ANSWERS_BY_MARKET), for a key does not say whose it is.
    pub unfiled: References,
}

/// What is known of an instruction.
pub(super) enum Told {
    New,
    Before(Stored),
    /// Or that it must not be carried out.
    Not(Refusal),
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

    /// What is known of a call.
    pub(super) fn called(&self, key: Key, content: u64) -> Known {
        match self.answers.calls.known(key, content) {
            Known::New => self.answers.unfiled.known(key, content),
            known => known,
        }
    }

    pub(super) fn remember_call(&mut self, key: Key, content: u64, verdict: &Stored) {
        let answers = if self.by_market() { &mut self.answers.calls } else { &mut self.answers.unfiled };
        answers.remember(key, content, verdict);
    }

    // -- instructions --

    /// Whether the market has forgotten what it answered.
    fn forgotten(&self, market: MarketId) -> bool {
        let finalised = self.markets.get(&market).is_some_and(|slot| slot.market.finalised());
        self.by_market() && finalised && !mistake!("final.decides_anew")
    }

    /// What is known of an instruction, as things stand.
    pub(super) fn told(&self, market: MarketId, key: Key, content: u64) -> Told {
        let of_market = self.markets.get(&market).map(|slot| slot.answers.known(key, content));
        let known = match of_market {
            Some(Known::New) | None => self.answers.unfiled.known(key, content),
            Some(known) => known,
        };
        match known {
            Known::New if self.forgotten(market) => Told::Not(Refusal::MarketFinal),
            Known::New => Told::New,
            Known::Same(verdict) => Told::Before(verdict),
            Known::Reused => Told::Not(Refusal::ReferenceReused),
        }
    }

    /// As [`told`](Self::told), when the instruction comes: a verdict given in advance is its own from now on.
    pub(super) fn claim(&mut self, market: MarketId, key: Key, content: u64) -> Told {
        let told = self.told(market, key, content);
        reached!("final.asked_again", matches!(told, Told::Not(Refusal::MarketFinal)));
        if matches!(told, Told::Before(_)) {
            match self.markets.get_mut(&market).filter(|slot| slot.answers.is_in_advance(key)) {
                Some(slot) => Arc::make_mut(&mut slot.answers).bind(key, content),
                None => self.answers.unfiled.bind(key, content),
            }
        }
        told
    }

    /// Whatever was answered to the instruction, for calls that know only its reference.
    ///
    /// # Errors
    /// When the market has forgotten it.
    pub(super) fn answered(&self, market: MarketId, key: Key) -> Result<Option<Stored>, Refusal> {
        let of_market = self.markets.get(&market).and_then(|slot| slot.answers.verdict(key));
        match of_market.or_else(|| self.answers.unfiled.verdict(key)) {
            None if self.forgotten(market) => Err(Refusal::MarketFinal),
            verdict => Ok(verdict),
        }
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

    /// The cell is just getting the format from which on answers are kept by market, and in the order in which
    /// they come. In which order those from before came, a replica that was read from a snapshot does not know.
    pub(super) fn put_answers_in_order(&mut self) {
        self.answers.unfiled =
            if mistake!("raise.answers_forgotten") { References::default() } else { self.answers.unfiled.in_order() };
    }
}
