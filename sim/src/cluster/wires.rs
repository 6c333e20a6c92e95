//! The wires between nodes, as QUIC behaves: on one connection frames of a class arrive in order or not
//! at all. A lost packet is a late frame; a cut is silence, until the connection is given up and
//! everything under way on it is gone; then it is made anew. Who hears nothing gives it up first: when
//! only one direction is cut, the other side goes on believing in it for a while.
//!
//! `tests/quic.rs` holds the real mesh to the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use stakehold_raft::{NodeId, seam::Class};

use crate::{plan::Net, rng};

/// After so much silence a connection is given up (as the mesh's idle time-out says).
const IDLE_US: u64 = 1_500_000;
/// The side that still hears gives it up at least so much later, and up to twice that.
const HALF_OPEN_US: u64 = 800_000;
/// A lost packet costs this much more, and up to four times that.
const RESEND_US: u64 = 20_000;

/// A frame under way.
#[derive(Debug)]
pub struct Flight {
    pub from: NodeId,
    pub to: NodeId,
    pub class: Class,
    pub frame: Bytes,
    /// The connection it is on; each node has two with each other, one of them for bulk.
    connection: u64,
}

/// Something that the wires tell the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Connected(NodeId, NodeId),
    Disconnected(NodeId, NodeId),
    /// The first has given up its connection with the second, who has not, or has done so before.
    GivenUp(NodeId, NodeId),
    /// The first has lost its connection for bulk with the second; the other one stays. A node is told so
    /// in the same way as when both are lost.
    BulkLost(NodeId, NodeId),
}

#[derive(Debug, Default)]
struct Pair {
    /// The number of the present connection, if it is up.
    up: Option<u64>,
    /// That for bulk, while the other is up.
    bulk: u64,
    /// Who has not yet noticed that the one for bulk was lost, and when it will.
    bulk_lost: Option<(NodeId, u64)>,
    /// When it will be tried again.
    retry_at: u64,
    /// Since when either side has heard nothing.
    silent_since: Option<u64>,
    /// Who has given it up alone, and when the other will at the latest.
    half_open: Option<(NodeId, u64)>,
    more_us: u64,
    /// When the last frame of each direction and class arrives: the next comes no earlier.
    last: BTreeMap<(NodeId, u8), u64>,
}

#[derive(Debug)]
pub struct Wires {
    net: Net,
    choices: u64,
    nodes: Vec<NodeId>,
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    alive: BTreeSet<NodeId>,
    /// By arrival; the number keeps the order of sending.
    flights: BTreeMap<(u64, u64), Flight>,
    /// Frames that are stuck behind a cut or before a paused node.
    stuck: BTreeMap<(NodeId, NodeId), Vec<Flight>>,
    paused: BTreeSet<NodeId>,
    /// Frames that never arrive, until somebody asks.
    lost: VecDeque<Flight>,
    sent: BTreeMap<(NodeId, NodeId), u64>,
    count: u64,
    connections: u64,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl Wires {
    pub fn new(net: Net, choices: u64, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let pairs = nodes.iter().flat_map(|a| nodes.iter().filter(move |b| a < b).map(move |b| (*a, *b)));
        Self {
            net,
            choices,
            pairs: pairs.map(|key| (key, Pair::default())).collect(),
            nodes,
            cuts: BTreeSet::new(),
            alive: BTreeSet::new(),
            flights: BTreeMap::new(),
            stuck: BTreeMap::new(),
            paused: BTreeSet::new(),
            lost: VecDeque::new(),
            sent: BTreeMap::new(),
            count: 0,
            connections: 0,
        }
    }

    /// How long the `n`-th frame from `from` to `to` takes.
    fn latency(&self, from: NodeId, to: NodeId, n: u64) -> u64 {
        let key = [u64::from(from.0), u64::from(to.0), n];
        let choice = rng::of(self.choices, &key);
        let mut us = self.net.least_us + choice % (self.net.most_us - self.net.least_us + 1);
        if (choice >> 32) % 1_000 < u64::from(self.net.lost) {
            us += RESEND_US * (1 + (choice >> 48) % 4);
        }
        us + self.pairs.get(&pair(from, to)).map_or(0, |pair| pair.more_us)
    }

    pub fn send(&mut self, now: u64, from: NodeId, to: NodeId, class: Class, frame: Bytes) {
        let Some(pair) = self.pairs.get(&pair(from, to)) else { return };
        match pair.connection(class) {
            Some(connection) => self.schedule(now, Flight { from, to, class, frame, connection }),
            None => self.lost.push_back(Flight { from, to, class, frame, connection: 0 }),
        }
    }

    fn schedule(&mut self, now: u64, flight: Flight) {
        let (from, to) = (flight.from, flight.to);
        let n = self.sent.entry((from, to)).or_default();
        *n += 1;
        let n = *n;
        let due = now + self.latency(from, to, n);
        let pair = self.pairs.get_mut(&pair(from, to)).expect("both are nodes");
        let last = pair.last.entry((from, flight.class as u8)).or_default();
        *last = due.max(*last);
        let due = *last;
        self.count += 1;
        self.flights.insert((due, self.count), flight);
    }

    /// The next frame that has arrived by `now`.
    pub fn arrived(&mut self, now: u64) -> Option<Flight> {
        loop {
            let (due, _) = *self.flights.first_key_value()?.0;
            if due > now {
                return None;
            }
            let (_, flight) = self.flights.pop_first()?;
            let (from, to) = (flight.from, flight.to);
            let connection = self.pairs[&pair(from, to)].connection(flight.class);
            if connection != Some(flight.connection) || !self.alive.contains(&to) {
                self.lost.push_back(flight);
                continue;
            }
            let waiting = self.stuck.get(&(from, to)).is_some_and(|stuck| !stuck.is_empty());
            if self.cuts.contains(&(from, to)) || self.paused.contains(&to) || waiting {
                self.stuck.entry((from, to)).or_default().push(flight);
                continue;
            }
            return Some(flight);
        }
    }

    /// The next frame of which it is known now that it never arrives.
    pub fn lost(&mut self) -> Option<Flight> {
        self.lost.pop_front()
    }

    /// When the next frame arrives.
    pub fn next_due(&self) -> Option<u64> {
        self.flights.first_key_value().map(|((due, _), _)| *due)
    }

    // -- faults --

    pub fn cut(&mut self, now: u64, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
        self.silence(now, from, to);
    }

    fn silence(&mut self, now: u64, a: NodeId, b: NodeId) {
        if let Some(pair) = self.pairs.get_mut(&pair(a, b)) {
            pair.silent_since.get_or_insert(now);
        }
    }

    pub fn heal(&mut self, now: u64, from: NodeId, to: NodeId) {
        self.cuts.remove(&(from, to));
        self.unsilence(now, from, to);
    }

    /// If nothing stands between the two any more, what was stuck goes on.
    fn unsilence(&mut self, now: u64, a: NodeId, b: NodeId) {
        let stands = |from: NodeId, to: NodeId| {
            self.cuts.contains(&(from, to)) || self.paused.contains(&to) || !self.alive.contains(&to)
        };
        if stands(a, b) || stands(b, a) {
            return;
        }
        if let Some(pair) = self.pairs.get_mut(&pair(a, b)) {
            pair.silent_since = None;
        }
        for key in [(a, b), (b, a)] {
            for flight in self.stuck.remove(&key).unwrap_or_default() {
                self.schedule(now, flight);
            }
        }
    }

    pub fn heal_all(&mut self, now: u64) {
        self.cuts.clear();
        for pair in self.pairs.values_mut() {
            pair.more_us = 0;
        }
        let keys: Vec<_> = self.pairs.keys().copied().collect();
        for (a, b) in keys {
            self.unsilence(now, a, b);
        }
    }

    pub fn slow(&mut self, a: NodeId, b: NodeId, more_us: u64) {
        if let Some(pair) = self.pairs.get_mut(&pair(a, b)) {
            pair.more_us = more_us;
        }
    }

    /// The connection breaks now.
    pub fn reset(&mut self, now: u64, a: NodeId, b: NodeId) -> Option<Change> {
        let retry = now + 1_000 + rng::of(self.choices, &[0xC0, u64::from(a.0), u64::from(b.0), now]) % 50_000;
        let pair = self.pairs.get_mut(&pair(a, b))?;
        pair.up.take()?;
        pair.retry_at = retry;
        pair.last.clear();
        let half_open = pair.half_open.take();
        pair.bulk_lost = None;
        for key in [(a, b), (b, a)] {
            self.lost.extend(self.stuck.remove(&key).unwrap_or_default());
        }
        Some(match half_open {
            None => Change::Disconnected(a, b),
            Some((first, _)) => Change::GivenUp(if first == a { b } else { a }, first),
        })
    }

    /// The connection for bulk breaks now, and is made anew. One side notices at once.
    pub fn reset_bulk(&mut self, now: u64, a: NodeId, b: NodeId) -> Option<Change> {
        let choice = rng::of(self.choices, &[0xB01C, u64::from(a.0), u64::from(b.0), now]);
        let (first, second) = if choice.is_multiple_of(2) { (a, b) } else { (b, a) };
        let pair = self.pairs.get_mut(&pair(a, b))?;
        pair.up.filter(|_| pair.half_open.is_none() && pair.bulk_lost.is_none())?;
        self.connections += 1;
        pair.bulk = self.connections;
        pair.bulk_lost = Some((second, now + (choice >> 8) % IDLE_US));
        Some(Change::BulkLost(first, second))
    }

    /// After a long silence between two nodes: who hears nothing has given the connection up.
    fn give_up(&mut self, now: u64, a: NodeId, b: NodeId) -> Option<Change> {
        let reachable = |node| self.alive.contains(&node) && !self.paused.contains(&node);
        let deaf = match (self.cuts.contains(&(a, b)), self.cuts.contains(&(b, a))) {
            (true, false) => b,
            (false, true) => a,
            _ => return self.reset(now, a, b),
        };
        if !reachable(a) || !reachable(b) {
            return self.reset(now, a, b);
        }
        let late = rng::of(self.choices, &[0xDEAF, u64::from(a.0), u64::from(b.0), now]) % HALF_OPEN_US;
        let pair = self.pairs.get_mut(&pair(a, b))?;
        pair.half_open = Some((deaf, now + HALF_OPEN_US + late));
        Some(Change::GivenUp(deaf, if deaf == a { b } else { a }))
    }

    /// A node begins to answer. Its peers may still hold connections to its life before: they are
    /// replaced.
    pub fn joined(&mut self, now: u64, node: NodeId) -> Vec<Change> {
        self.alive.insert(node);
        let others: Vec<NodeId> = self.nodes.iter().copied().filter(|other| *other != node).collect();
        let changes: Vec<Change> = others.iter().filter_map(|other| self.reset(now, node, *other)).collect();
        for other in others {
            self.unsilence(now, node, other);
        }
        changes
    }

    /// A node hears and says nothing from now on, and nobody is told.
    pub fn left(&mut self, now: u64, node: NodeId) {
        self.alive.remove(&node);
        self.paused.remove(&node);
        for other in self.nodes.clone() {
            if other != node {
                self.silence(now, node, other);
            }
        }
    }

    pub fn pause(&mut self, now: u64, node: NodeId) {
        self.paused.insert(node);
        for other in self.nodes.clone() {
            if other != node {
                self.silence(now, node, other);
            }
        }
    }

    pub fn resume(&mut self, now: u64, node: NodeId) {
        self.paused.remove(&node);
        for other in self.nodes.clone() {
            if other != node {
                self.unsilence(now, node, other);
            }
        }
    }

    /// Connections that were silent for too long are given up; those that can be made are made.
    pub fn tend(&mut self, now: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let keys: Vec<_> = self.pairs.keys().copied().collect();
        for (a, b) in keys {
            let state = &self.pairs[&(a, b)];
            match (state.up, state.silent_since) {
                // Whoever speaks on it again learns that the other side has none.
                (Some(_), since) if state.half_open.is_some_and(|(_, until)| since.is_none() || now >= until) => {
                    changes.extend(self.reset(now, a, b));
                }
                (Some(_), Some(since)) if state.half_open.is_none() && now >= since + IDLE_US => {
                    changes.extend(self.give_up(now, a, b));
                }
                (None, None) if now >= state.retry_at && self.alive.contains(&a) && self.alive.contains(&b) => {
                    self.connections += 1;
                    let pair = self.pairs.get_mut(&(a, b)).expect("it was just there");
                    (pair.up, pair.bulk) = (Some(self.connections), self.connections);
                    changes.push(Change::Connected(a, b));
                }
                _ => {}
            }
            if let Some((second, at)) = self.pairs[&(a, b)].bulk_lost
                && now >= at
            {
                self.pairs.get_mut(&(a, b)).expect("it was just there").bulk_lost = None;
                changes.push(Change::BulkLost(second, if second == a { b } else { a }));
            }
        }
        changes
    }
}

impl Pair {
    /// The number of the connection that frames of a class are on now.
    fn connection(&self, class: Class) -> Option<u64> {
        match class {
            Class::Raft | Class::Request => self.up,
            Class::Bulk => self.up.map(|_| self.bulk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn wires() -> Wires {
        let net = Net { least_us: 1_000, most_us: 3_000, lost: 100 };
        let mut wires = Wires::new(net, 7, [A, B]);
        wires.joined(0, A);
        wires.joined(0, B);
        assert_eq!(wires.tend(0), [Change::Connected(A, B)]);
        wires
    }

    fn all(wires: &mut Wires, now: u64) -> Vec<u8> {
        std::iter::from_fn(|| wires.arrived(now)).map(|flight| flight.frame[0]).collect()
    }

    fn send(wires: &mut Wires, now: u64, frames: std::ops::Range<u8>) {
        for n in frames {
            wires.send(now, A, B, Class::Raft, Bytes::copy_from_slice(&[n]));
        }
    }

    #[test]
    fn frames_of_a_class_arrive_in_order_however_late() {
        let mut wires = wires();
        send(&mut wires, 0, 0..50);
        assert!(all(&mut wires, 999).is_empty());
        assert_eq!(all(&mut wires, 1_000_000), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_short_cut_delays_and_a_long_one_loses() {
        let mut wires = wires();
        send(&mut wires, 0, 0..3);
        wires.cut(0, A, B);
        assert!(all(&mut wires, 500_000).is_empty());
        assert!(wires.tend(500_000).is_empty());
        wires.heal(500_000, A, B);
        assert_eq!(all(&mut wires, 1_000_000), [0, 1, 2]);

        send(&mut wires, 1_000_000, 3..5);
        wires.cut(1_000_000, B, A);
        wires.cut(1_000_000, A, B);
        assert!(wires.lost().is_none());
        assert_eq!(wires.tend(2_600_000), [Change::Disconnected(A, B)]);
        wires.heal(2_700_000, B, A);
        wires.heal(2_700_000, A, B);
        assert!(all(&mut wires, 3_000_000).is_empty());
        let lost = std::iter::from_fn(|| wires.lost()).map(|flight| flight.frame[0]);
        assert_eq!(lost.collect::<Vec<_>>(), [3, 4]);
        assert_eq!(wires.tend(3_000_000), [Change::Connected(A, B)]);
    }

    #[test]
    fn the_connection_for_bulk_breaks_alone() {
        let mut wires = wires();
        send(&mut wires, 0, 0..3);
        wires.send(0, A, B, Class::Bulk, Bytes::copy_from_slice(&[9]));
        let Some(Change::BulkLost(first, second)) = wires.reset_bulk(500, A, B) else { panic!("it was up") };
        wires.send(600, A, B, Class::Bulk, Bytes::copy_from_slice(&[10]));
        let mut heard = all(&mut wires, 1_000_000);
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2, 10], "what was under way on it is lost, and nothing else");
        assert_eq!(wires.tend(2_000_000), [Change::BulkLost(second, first)]);
        assert!(wires.tend(2_100_000).is_empty());
    }

    #[test]
    fn who_hears_nothing_gives_up_first() {
        for healed in [false, true] {
            let mut wires = wires();
            wires.cut(0, A, B);
            send(&mut wires, 0, 0..3);
            wires.send(1_400_000, B, A, Class::Raft, Bytes::copy_from_slice(&[7]));
            assert_eq!(wires.tend(1_500_000), [Change::GivenUp(B, A)]);
            assert_eq!(all(&mut wires, 1_600_000), [7], "what was under way the other way arrives");
            assert!(wires.tend(2_200_000).is_empty());
            send(&mut wires, 2_200_000, 3..5);
            if healed {
                wires.heal(2_250_000, A, B);
            }
            let until = if healed { 2_250_000 } else { 3_100_000 };
            assert_eq!(wires.tend(until), [Change::GivenUp(A, B)]);
            wires.heal(3_200_000, A, B);
            assert!(all(&mut wires, 3_300_000).is_empty(), "nothing of the old connection arrives");
            assert_eq!(wires.tend(3_300_000), [Change::Connected(A, B)]);
            send(&mut wires, 3_300_000, 5..7);
            assert_eq!(all(&mut wires, 3_400_000), [5, 6]);
        }
    }

    #[test]
    fn what_was_sent_to_a_node_that_died_never_reaches_its_next_life() {
        let mut wires = wires();
        send(&mut wires, 0, 0..3);
        wires.left(500, B);
        assert!(all(&mut wires, 100_000).is_empty());
        send(&mut wires, 100_000, 3..5);
        assert_eq!(wires.joined(101_000, B), [Change::Disconnected(B, A)]);
        assert_eq!(wires.tend(300_000), [Change::Connected(A, B)]);
        assert!(all(&mut wires, 1_000_000).is_empty());
    }
}
