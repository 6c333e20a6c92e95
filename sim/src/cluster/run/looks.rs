//! What the driver looks at between windows: who leads, what followers were told. What is only for
//! whoever reads the trace is here too.

use std::collections::BTreeMap;

use stakehold::kernel::Kernel;
use stakehold_actors::domain::types::{MarketId, Minor};
use stakehold_raft::{CellId, Machine, NodeId};

use super::Run;
use crate::{
    cluster::{
        EPOCH_MS,
        node::{End, Reads, SimNode},
    },
    oracles::Violation,
    rng,
};

/// Of the newest markets, so many are followed.
const FOLLOWED: usize = 3;
/// For so long a node may be seen whose log has just failed.
const GOES_ON_US: u64 = 100_000;
/// So late a deadline may fire when nothing gets in its way: its leader proposes it, and a quorum takes it in.
const OVERDUE_MS: u64 = 300;

impl Run {
    /// On every node somebody follows the newest markets.
    pub(super) fn follow(&mut self) {
        let markets: Vec<_> = self.clients.markets().rev().take(FOLLOWED).collect();
        for (id, node) in &self.nodes {
            let Some(life) = node.life.as_ref().filter(|life| !life.paused) else { continue };
            self.watch.enter(Some(*id), life.clock_ms());
            for market in &markets {
                if !self.feeds.follows(*id, *market) && life.follow(*market, self.reads(*id, *market)) {
                    self.feeds.begin(*id, *market);
                }
            }
        }
        self.watch.enter(None, 0);
    }

    /// Where nobody can follow one of the newest markets, in a sentence.
    pub(super) fn unfollowed(&self) -> Option<String> {
        let markets = self.clients.markets().rev().take(FOLLOWED);
        let mut places = markets.flat_map(|market| self.nodes.keys().map(move |id| (*id, market)));
        let (id, market) = places.find(|(id, market)| !self.feeds.follows(*id, *market))?;
        Some(format!("nobody can follow {market} on {id}"))
    }

    /// How a follower reads.
    fn reads(&self, id: NodeId, market: MarketId) -> Reads {
        let seed = rng::of(self.setup.choices, &[0x510E, u64::from(id.0), market.0]);
        match seed % 100 < u64::from(self.setup.slow_followers) {
            true => Reads::Slowly { seed, until_us: self.setup.until_ms * 1_000 },
            false => Reads::AtOnce,
        }
    }

    /// While nothing gets in the way, what falls due is done.
    fn look_at_deadlines(&self) {
        if self.now >= self.calm_until || self.setup.net.lost > 0 {
            return;
        }
        let now_ms = EPOCH_MS + self.now / 1_000;
        let overdue = self.watch.books(|books| {
            let late = |cell| Some((cell, now_ms.checked_sub(books.cell(cell).next_deadline()?)?));
            books.cells.all().filter_map(late).find(|(_, late)| *late > OVERDUE_MS)
        });
        if let Some((cell, late)) = overdue {
            let message = format!("a deadline of {cell} is {late} ms overdue, and nothing gets in its way");
            self.watch.violated(Violation::new("L1", message));
        }
    }

    pub(super) fn look_at_leaders(&mut self) {
        self.look_at_deadlines();
        let (mut leading, mut failing) = (BTreeMap::new(), BTreeMap::new());
        for (id, node) in &self.nodes {
            let Some(kernel) = node.kernel() else { continue };
            self.look_at_room(*id, kernel);
            if self.look_at_disk(*id, node) {
                failing.insert(*id, self.failing.get(id).copied().unwrap_or(self.now));
            }
            for group in kernel.host.cells() {
                let lead = *group.on_leadership().borrow();
                if lead.leading {
                    self.watch.leads(group.id(), lead.term, *id);
                    leading.insert((*id, group.id()), lead.term);
                }
            }
        }
        self.failing = failing;
        self.tell_leads(&leading);
    }

    /// A node whose log could not be written does not go on. Whether this is one, and runs.
    fn look_at_disk(&self, id: NodeId, node: &SimNode) -> bool {
        let runs = node.life.as_ref().is_some_and(|life| !life.paused);
        let failed = node.disk.failed().into_iter().find(|name| runs && name.ends_with(".wal"));
        if let (Some(name), Some(since)) = (&failed, self.failing.get(&id))
            && self.now > since + GOES_ON_US
        {
            let message = format!("{id} goes on, and {name} could not be written since {since} us");
            self.watch.violated(Violation::new("Raft", message));
        }
        failed.is_some()
    }

    /// Every node starts on what it has written, unless its disk is at fault.
    pub(super) fn look_at_start(&self, id: NodeId, end: &End) {
        if let End::NoStart(reason) = end
            && !self.nodes[&id].is_excused()
        {
            let message = format!("{id} does not start, and nothing is wrong with its disk: {reason}");
            self.watch.violated(Violation::new("Raft", message));
        }
    }

    /// No cell takes in more than it has room for.
    fn look_at_room(&self, id: NodeId, kernel: &Kernel) {
        let most = self.setup.tuning.calls_per_cell;
        if let Some((cell, calls)) = kernel.exchange.under_way().find(|(_, calls)| *calls > most) {
            let message = format!("{id} has {calls} calls under way for {cell}, which has room for {most}");
            self.watch.violated(Violation::new("Gateway", message));
        }
    }

    // -- for whoever reads the trace: nothing here depends on it --

    /// Who leads no longer what it led, and who does so again in the same term.
    fn tell_leads(&mut self, leading: &BTreeMap<(NodeId, CellId), u64>) {
        for ((id, cell), (term, still)) in &mut self.leading {
            let leads = leading.get(&(*id, *cell)) == Some(term);
            if leads != *still {
                let (kind, numbers) = (if leads { "lead" } else { "unlead" }, [u64::from(cell.0), *term]);
                self.watch.note(kind, Some(*id), &numbers, || format!("{cell} in term {term}"));
                *still = leads;
            }
        }
        self.leading.extend(leading.iter().map(|(key, term)| (*key, (*term, true))));
    }

    /// How much has left one cell and is not in another yet, in minor units: collections count −.
    pub(super) fn tell_money(&self) {
        let between = self.config.cells.all().map(|id| self.watch.books(|books| books.cell(id).totals().transit));
        let between = i64::try_from(between.sum::<i128>()).unwrap_or(i64::MAX);
        self.watch.note("money", None, &[between.cast_unsigned()], || format!("{} between cells", Minor(between)));
    }
}
