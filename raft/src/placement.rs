//! Which nodes hold which cell: weighted rendezvous hashing with bounded load, as a pure function.
//!
//! What must never live here: anything that looks at the live cluster. The same members give the
//! same placement on every node, in every process, for ever; a member that comes or goes moves
//! little more than its own share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{CellId, NodeId};

/// A node that may hold replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node: NodeId,
    /// Its share of the load, relative to the others; zero means it holds nothing (draining).
    pub weight: u32,
}

impl From<NodeId> for Member {
    fn from(node: NodeId) -> Self {
        Self { node, weight: 100 }
    }
}

/// Each cell's replicas; the first is the one that should lead.
pub type Placement = BTreeMap<CellId, Vec<NodeId>>;

/// How far above its fair share of replicas a node may go, in percent, before the next in the
/// cell's order is taken. Leaders are spread exactly: nobody leads more than its share, rounded up.
const REPLICA_SLACK_PERCENT: u64 = 115;

/// Places `cells` on `members`, `replicas` each (or as many as there are members with a weight).
///
/// Every cell ranks the members by its own hash of each, stretched by the weights (rendezvous
/// hashing), and takes the best that are not over their bound.
pub fn place(cells: impl IntoIterator<Item = CellId>, members: &[Member], replicas: usize) -> Placement {
    let cells: Vec<CellId> = cells.into_iter().collect();
    let members: Vec<Member> = members.iter().copied().filter(|m| m.weight > 0).collect();
    let replicas = replicas.min(members.len());
    if replicas == 0 {
        return cells.into_iter().map(|cell| (cell, Vec::new())).collect();
    }
    let total: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    let bound = |what: u64, weight: u32, percent: u64| (what * u64::from(weight) * percent).div_ceil(total * 100);
    let slots = cells.len() as u64 * replicas as u64;

    let mut held: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut led: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut placement = Placement::new();
    for cell in cells {
        let ranked = rank(cell, &members);
        let mut chosen: Vec<Member> = Vec::with_capacity(replicas);
        let room = |m: &Member, held: &BTreeMap<NodeId, u64>| {
            held.get(&m.node).copied().unwrap_or(0) < bound(slots, m.weight, REPLICA_SLACK_PERCENT)
        };
        chosen.extend(ranked.iter().filter(|m| room(m, &held)).take(replicas));
        // With few members the bounds can leave too few: then the cell's own order decides.
        for m in &ranked {
            if chosen.len() < replicas && !chosen.contains(m) {
                chosen.push(*m);
            }
        }
        let count = placement.len() as u64 + 1;
        let leads = |m: &Member| led.get(&m.node).copied().unwrap_or(0);
        // A leader is the best ranked that leads no more than its share of the cells so far.
        let first = chosen.iter().position(|m| leads(m) < bound(count, m.weight, 100)).unwrap_or(0);
        chosen[..=first].rotate_right(1);
        *led.entry(chosen[0].node).or_default() += 1;
        for m in &chosen {
            *held.entry(m.node).or_default() += 1;
        }
        placement.insert(cell, chosen.into_iter().map(|m| m.node).collect());
    }
    placement
}

/// The members in this cell's order of preference.
fn rank(cell: CellId, members: &[Member]) -> Vec<Member> {
    let mut ranked: Vec<(u64, Member)> = members.iter().map(|m| (score(cell, *m), *m)).collect();
    ranked.sort_by_key(|(score, m)| (*score, m.node));
    ranked.into_iter().map(|(_, m)| m).collect()
}

/// Lower is better: an exponential variate with the weight as its rate, in integers, so that every
/// machine computes the same (−ln(hash) ∕ weight, by way of log2 in fixed point).
fn score(cell: CellId, member: Member) -> u64 {
    let mut key = [0u8; 4];
    key[..2].copy_from_slice(&cell.0.to_le_bytes());
    key[2..].copy_from_slice(&member.node.0.to_le_bytes());
    minus_log2(xxh3_64(&key) | 1) / u64::from(member.weight)
}

/// `−log2(x / 2^64)` with 40 fractional bits.
fn minus_log2(x: u64) -> u64 {
    const BITS: u32 = 40;
    let whole = 63 - x.leading_zeros();
    // The mantissa in [1, 2) with 63 fractional bits; squaring it yields log2 bit by bit.
    let mut mantissa = u128::from(x << x.leading_zeros());
    let mut fraction = 0u64;
    for _ in 0..BITS {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (64u64 << BITS) - ((u64::from(whole) << BITS) + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(n: u16) -> Vec<Member> {
        (1..=n).map(|n| Member::from(NodeId(n))).collect()
    }

    fn cells(n: u16) -> impl Iterator<Item = CellId> {
        (0..n).map(CellId)
    }

    fn counts(placement: &Placement) -> (BTreeMap<NodeId, usize>, BTreeMap<NodeId, usize>) {
        let (mut held, mut led) = (BTreeMap::new(), BTreeMap::new());
        for replicas in placement.values() {
            *led.entry(replicas[0]).or_default() += 1;
            for node in replicas {
                *held.entry(*node).or_default() += 1;
            }
        }
        (held, led)
    }

    #[test]
    fn every_cell_has_distinct_replicas_and_the_load_is_even() {
        for (cell_count, node_count) in [(16u16, 3u16), (16, 5), (64, 5), (256, 9)] {
            let placement = place(cells(cell_count), &nodes(node_count), 3);
            assert_eq!(placement.len(), usize::from(cell_count));
            for replicas in placement.values() {
                let mut distinct = replicas.clone();
                distinct.sort();
                distinct.dedup();
                assert_eq!(distinct.len(), 3, "{replicas:?}");
            }
            let (held, led) = counts(&placement);
            let fair = usize::from(cell_count) * 3 / usize::from(node_count);
            for (node, n) in &held {
                assert!(*n <= fair * 13 / 10 + 1 && *n + 1 >= fair * 6 / 10, "{node} holds {n}, fair {fair}");
            }
            let most = usize::from(cell_count).div_ceil(usize::from(node_count));
            assert_eq!(led.len(), usize::from(node_count), "every node leads something: {led:?}");
            assert!(led.values().all(|n| *n <= most + 1), "{led:?} with at most {most}");
        }
    }

    #[test]
    fn a_node_that_comes_or_goes_moves_little() {
        let before = place(cells(256), &nodes(8), 3);
        let after = place(cells(256), &nodes(9), 3);
        let kept: usize = before.iter().map(|(c, old)| old.iter().filter(|n| after[c].contains(n)).count()).sum();
        let moved = 256 * 3 - kept;
        let share = 256 * 3 / 9;
        assert!(moved >= share / 2, "the new node gets something");
        assert!(moved <= share * 2, "{moved} replicas moved where {share} are the newcomer's share");
    }

    #[test]
    fn weights_count_and_zero_holds_nothing() {
        let mut members = nodes(4);
        members[0].weight = 200;
        members[3].weight = 0;
        let (held, led) = counts(&place(cells(256), &members, 1));
        assert!(!held.contains_key(&NodeId(4)));
        assert!((115..=140).contains(&held[&NodeId(1)]), "{held:?}");
        assert!((115..=140).contains(&led[&NodeId(1)]), "{led:?}");
    }

    #[test]
    fn fewer_members_than_replicas_is_fine() {
        let placement = place(cells(4), &nodes(2), 3);
        assert!(placement.values().all(|r| r.len() == 2));
        assert!(place(cells(4), &[], 3).values().all(Vec::is_empty));
    }

    #[test]
    fn placement_is_the_same_for_ever() {
        let placement = place(cells(4), &nodes(3), 3);
        let leaders: Vec<u16> = placement.values().map(|r| r[0].0).collect();
        assert_eq!(leaders, GOLDEN, "golden: changing this moves every cell of every cluster");
    }

    const GOLDEN: [u16; 4] = [3, 1, 2, 2];

    #[test]
    fn the_logarithm_is_one() {
        assert_eq!(minus_log2(1 << 63) >> 40, 1);
        assert_eq!(minus_log2(1) >> 40, 64);
        let third = minus_log2(u64::MAX / 3) as f64 / (1u64 << 40) as f64;
        assert!((third - 3f64.log2()).abs() < 1e-6, "{third}");
    }
}
