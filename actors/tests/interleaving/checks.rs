//! The invariants of the architecture, checked from outside after every step. Nothing here uses the
//! cells' own totals but for the house accounts, which exist nowhere else.

use std::collections::BTreeMap;

use stakehold_actors::domain::{
    cell::Cell,
    command::Message,
    market::Market,
    types::{AccountId, MarketId, MarketStatus, Side},
};
use stakehold_raft::CellId;

use crate::world::World;

/// I1: all the money there is, in cells and between them, with the outside world: zero.
pub fn total(world: &World) -> i128 {
    let accounts: Vec<AccountId> =
        world.cells.all().flat_map(|id| world.cell(id).accounts().collect::<Vec<_>>()).collect();
    let pairs = world.cells.all().flat_map(|from| world.cells.all().map(move |to| (from, to)));
    let in_cells: i128 = world.cells.all().map(|id| money(world.cell(id), &accounts)).sum();
    in_cells + pairs.filter(|(from, to)| from != to).map(|(from, to)| between(world, from, to)).sum::<i128>()
}

/// What a cell holds, counted one by one.
fn money(cell: &Cell, accounts: &[AccountId]) -> i128 {
    let house = cell.totals();
    let mut sum = house.external + house.commission + house.rounding;
    for account in cell.accounts() {
        let wallet = cell.account_view(account).unwrap();
        sum += i128::from(wallet.available.0) - i128::from(wallet.owed.0);
    }
    for id in cell.market_ids() {
        let market = cell.market(id).unwrap();
        sum += i128::from(market.clearing().0);
        let margins: i128 = accounts.iter().map(|account| i128::from(market.margin(*account).0)).sum();
        assert_eq!(margins, market.margins_total(), "I1: the margins of {id}");
        sum += margins + accounts.iter().map(|account| i128::from(cell.held(*account, id).0)).sum::<i128>();
    }
    sum
}

/// Money on its way, signed.
fn between(world: &World, from: CellId, to: CellId) -> i128 {
    let value = |message: &Message| match message {
        Message::Funded(funded) => i128::from(funded.amount.0),
        Message::Credits { lines, .. } => lines.iter().map(|line| i128::from(line.amount.0)).sum(),
        Message::Collect { lines, .. } => -lines.iter().map(|line| i128::from(line.amount.0)).sum::<i128>(),
        Message::CancelAll { .. } | Message::Left { .. } | Message::Marker { .. } => 0,
    };
    world.in_flight(from, to).iter().map(value).sum()
}

/// Remembers what has not changed, so that a step costs what it touched.
#[derive(Default)]
pub struct Checks {
    cells: BTreeMap<CellId, i128>,
    streams: BTreeMap<(CellId, CellId), i128>,
    accounts: Vec<AccountId>,
    /// Of the market when it was last looked at.
    sequences: BTreeMap<MarketId, u64>,
}

impl Checks {
    pub fn new(accounts: &[AccountId]) -> Self {
        Self { accounts: accounts.to_vec(), ..Self::default() }
    }

    /// Counts the money in a cell and in its streams anew.
    pub fn look_at(&mut self, world: &World, touched: CellId) {
        self.cells.insert(touched, money(world.cell(touched), &self.accounts));
        for other in world.cells.all().filter(|other| *other != touched) {
            for (from, to) in [(touched, other), (other, touched)] {
                self.streams.insert((from, to), between(world, from, to));
                dense(world, from, to);
            }
        }
    }

    /// Everything that the step in this cell may have broken.
    pub fn after(&mut self, world: &World, touched: CellId) {
        self.look_at(world, touched);
        let sum = self.cells.values().sum::<i128>() + self.streams.values().sum::<i128>();
        assert_eq!(sum, 0, "I1: money was made or lost in {touched}");
        let cell = world.cell(touched);
        for account in cell.accounts() {
            let wallet = cell.account_view(account).unwrap();
            assert!(wallet.available.0 >= 0 && wallet.owed.0 >= 0, "I2: {wallet:?}");
            assert!(wallet.available.0 == 0 || wallet.owed.0 == 0, "I2: owes and has: {wallet:?}");
        }
        for market in cell.market_ids().map(|id| cell.market(id).unwrap()) {
            let sequence = self.sequences.insert(market.id(), market.sequence());
            if sequence != Some(market.sequence()) || market.settling() {
                self.market(market);
            }
        }
    }

    fn market(&self, market: &Market) {
        for account in &self.accounts {
            let (margin, exposure) = (market.margin(*account), market.exposure(*account));
            assert!(margin >= exposure, "I2: {account} may lose {exposure} in {} on {margin}", market.id());
        }
        let closed = market.status() == MarketStatus::Closed;
        for runner in market.book().runners {
            let (back, lay) = (runner.to_back.first(), runner.to_lay.first());
            if let (Some((lays_at, _)), Some((backs_at, _))) = (back, lay) {
                assert!(lays_at < backs_at, "I5: {} is crossed: {lays_at} {backs_at}", market.id());
            }
            assert!(!closed || back.or(lay).is_none(), "I6: a closed market has offers");
        }
    }

    /// I5: every backed stake was laid, and nobody's bets were forgotten.
    pub fn stakes(&self, world: &World) {
        for cell in world.cells.all().map(|id| world.cell(id)) {
            for id in cell.market_ids().filter(|id| !cell.market(*id).unwrap().finalised()) {
                let mut sides = [0i128; 2];
                for order in self.accounts.iter().flat_map(|account| cell.orders_of(*account, Some(id))) {
                    sides[usize::from(order.side == Side::Lay)] += i128::from(order.matched.0 + order.voided.0);
                    let parts = order.matched + order.voided + order.remaining + order.cancelled + order.lapsed;
                    assert_eq!(parts, order.size, "I5: {order:?} is not the sum of its parts");
                }
                assert_eq!(sides[0], sides[1], "I5: backed is not laid in {id}");
            }
        }
    }
}

/// I3: acknowledged ≤ taken in ≤ sent; the hashes are compared by the replicas themselves.
fn dense(world: &World, from: CellId, to: CellId) {
    let sent = world.replica(from).streams().get(&to).copied().unwrap_or_default();
    let taken = world.replica(to).acknowledgement(from).through;
    assert!(sent.0 <= taken && taken <= sent.1, "I3: {from} to {to}: {} {taken} {}", sent.0, sent.1);
}
