//! INACTIVE → OPEN ⇄ SUSPENDED → CLOSED, and the turn in-play. (Closing is in `settle.rs`.)
//!
//! These calls carry no reference, so each is idempotent: one that finds its work done says so and
//! changes nothing. The epoch rises with every change, which is how the cell knows an order that
//! was on its way across one.

use stakehold_raft::{mistake, reached};

use super::{Changes, Market, limits::BET_DELAY_MAX_S, matching::Left};
use crate::domain::types::{MarketStatus, Persistence, Refusal};

impl Market {
    /// Takes orders from now on.
    ///
    /// # Errors
    /// The market is closed.
    pub fn open(&mut self, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        match self.status {
            MarketStatus::Closed => Err(Refusal::MarketClosed),
            MarketStatus::Open => Ok(()),
            MarketStatus::Inactive | MarketStatus::Suspended => {
                self.enter_status(MarketStatus::Open, out);
                Ok(())
            }
        }
    }

    /// Takes no orders until it is opened again; unmatched orders stay.
    ///
    /// # Errors
    /// The market has not opened yet, or is closed.
    pub fn suspend(&mut self, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        match self.status {
            MarketStatus::Inactive => Err(Refusal::MarketNotOpen),
            MarketStatus::Closed => Err(Refusal::MarketClosed),
            MarketStatus::Suspended => Ok(()),
            MarketStatus::Open => {
                self.enter_status(MarketStatus::Suspended, out);
                Ok(())
            }
        }
    }

    /// From now on new orders wait for the bet delay; every LAPSE order lapses. Never back. Called
    /// again it can only change the delay.
    ///
    /// # Errors
    /// The market has not opened yet, or is closed, or the delay is too long.
    pub fn turn_in_play(&mut self, bet_delay_s: u16, out: &mut Changes) -> Result<(), Refusal> {
        self.begin(out);
        match self.status {
            MarketStatus::Inactive => return Err(Refusal::MarketNotOpen),
            MarketStatus::Closed => return Err(Refusal::MarketClosed),
            MarketStatus::Open | MarketStatus::Suspended => {}
        }
        if bet_delay_s > BET_DELAY_MAX_S && !mistake!("market.any_delay_in_play") {
            return Err(Refusal::InvalidDefinition);
        }
        self.definition.bet_delay_s = bet_delay_s;
        if !self.in_play {
            self.in_play = true;
            self.epoch += u64::from(!mistake!("market.epoch_stays_in_play"));
            if !mistake!("market.lapse_orders_stay") {
                self.withdraw_all(out, |order| (order.persistence == Persistence::Lapse).then_some(Left::Lapsed));
                reached!("market.lapsed_in_play", !out.touched.orders.is_empty());
            }
            self.finish(out, true);
        }
        Ok(())
    }

    fn enter_status(&mut self, status: MarketStatus, out: &mut Changes) {
        self.status = status;
        self.epoch += 1;
        self.finish(out, true);
    }
}
