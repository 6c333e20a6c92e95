//! I2: available ≥ 0; margin + being collected + owed ≥ worst-case exposure, per account and market
//! (architecture, invariants; exchange rules, sections 4 and 5).
//!
//! The worst case is counted from the bets as they were told ([`super::bets`]). What a removal
//! collects is in the margin from the moment it is asked for, so the margin alone must do.

use stakehold_actors::domain::{
    cell::Cell,
    types::{AccountId, MarketId, MarketStatus},
};
use stakehold_raft::CellId;

use super::{Violation, ensure, facts::Facts, i5_book::Pitches};
use crate::books::Books;

pub fn entry(books: &Books, facts: &Facts<'_>, pitches: &Pitches) -> Result<(), Violation> {
    let cell = books.cell(facts.entry.cell);
    for account in &facts.accounts {
        wallet(cell, *account)?;
    }
    for (market, account) in &facts.stakes {
        stake(cell, pitches, *market, *account)?;
    }
    Ok(())
}

/// All wallets and markets of a cell.
pub fn cell(books: &Books, id: CellId, pitches: &Pitches) -> Result<(), Violation> {
    let cell = books.cell(id);
    for account in cell.accounts() {
        wallet(cell, account)?;
    }
    for id in cell.market_ids() {
        for account in cell.market(id).into_iter().flat_map(|market| market.accounts()) {
            stake(cell, pitches, id, account)?;
        }
    }
    Ok(())
}

fn wallet(cell: &Cell, account: AccountId) -> Result<(), Violation> {
    let Some(wallet) = cell.wallet(account) else { return Ok(()) };
    let (available, owed) = (wallet.available(), wallet.owed());
    ensure!(available.0 >= 0 && owed.0 >= 0, "I2", "{account} has {available} available and owes {owed}");
    ensure!(available.0 == 0 || owed.0 == 0, "I2", "{account} has {available} available and owes {owed}");
    Ok(())
}

fn stake(cell: &Cell, pitches: &Pitches, id: MarketId, account: AccountId) -> Result<(), Violation> {
    let (Some(market), Some(pitch)) = (cell.market(id), pitches.get(id)) else { return Ok(()) };
    let (margin, held) = (market.margin(account), cell.held(account, id));
    ensure!(margin.0 >= 0 && held.0 >= 0, "I2", "{account} has a margin of {margin} in {id}, and {held} held");
    // A settlement pays the margins out, account by account.
    if market.status() == MarketStatus::Closed {
        return Ok(());
    }
    let exposure = pitch.exposure(account);
    ensure!(margin >= exposure, "I2", "{account} may lose {exposure} in {id} and has put up {margin}");
    Ok(())
}
