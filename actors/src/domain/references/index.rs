//! Where an answer is found: from a key's hash to its number in the list, in pages of slots. A clone costs
//! one pointer a page, and the first change of a page after that copies only that page; as answers come, one
//! page after the other is split in two (linear hashing), so that no answer waits for all of them to be moved.
//!
//! It is made anew from the list whenever a snapshot is read, and is never written.
//!
//! What must never be: an order in it that anybody can see.

use std::sync::Arc;

use stakehold_raft::{mistake, reached};

/// A page is split when there are more answers than this for each page there is.
const ANSWERS_A_PAGE: usize = 32;
/// Slots of a page that has just been made.
const FIRST_SLOTS: usize = 8;
/// Bits of a hash from here on say where in its page a search begins; those below say in which.
const WITHIN: u32 = 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pages: Vec<Page>,
    count: usize,
}

/// A page has an own size, so that nobody who chooses keys of one hash can fill it.
#[derive(Clone, Debug)]
struct Page {
    /// 0, or the hash and, below it, the number plus one. Of slots there is always one that is 0.
    slots: Arc<[u64]>,
    filled: usize,
}

impl Page {
    fn of(slots: usize) -> Self {
        Self { slots: vec![0; slots].into(), filled: 0 }
    }

    fn put(&mut self, slot: u64) {
        if (self.filled + 1) * 4 > self.slots.len() * 3 {
            let mut larger = Page::of(self.slots.len() * 2);
            self.slots.iter().filter(|slot| **slot != 0).for_each(|slot| larger.put(*slot));
            *self = larger;
        }
        let slots = Arc::make_mut(&mut self.slots);
        let mask = slots.len() - 1;
        let mut at = hash_of(slot) as usize >> WITHIN & mask;
        while slots[at] != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = slot;
        self.filled += 1;
    }
}

fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

impl Index {
    /// The number under this hash for which `is` says yes.
    pub fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = &*self.pages.get(page(hash, self.pages.len())?)?.slots;
        let mask = slots.len() - 1;
        let mut at = hash as usize >> WITHIN & mask;
        while slots[at] != 0 {
            let number = slots[at] as u32 - 1;
            if hash_of(slots[at]) == hash && is(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// A further number, under a hash that others may have too.
    pub fn insert(&mut self, hash: u32, number: u32) {
        self.count += 1;
        if self.count > self.pages.len() * ANSWERS_A_PAGE {
            self.split();
        }
        let pages = self.pages.len();
        let page = page(hash, pages).expect("there is a page");
        self.pages[page].put(u64::from(hash) << 32 | u64::from(number + 1));
    }

    /// One page more: half of what is in an older one belongs there.
    fn split(&mut self) {
        let new = self.pages.len();
        self.pages.push(Page::of(FIRST_SLOTS));
        if new == 0 {
            return;
        }
        reached!("references.index_split");
        let older = new - (new + 1).next_power_of_two() / 2;
        let slots = std::mem::replace(&mut self.pages[older], Page::of(FIRST_SLOTS)).slots;
        let lost = usize::from(mistake!("references.split_loses_one"));
        for slot in slots.iter().filter(|slot| **slot != 0).skip(lost) {
            let page = page(hash_of(*slot), new + 1).expect("there is a page");
            self.pages[page].put(*slot);
        }
    }
}

/// The page of a hash, when there are so many.
fn page(hash: u32, pages: usize) -> Option<usize> {
    let all = pages.next_power_of_two();
    match hash as usize & (all - 1) {
        _ if pages == 0 => None,
        page if page < pages => Some(page),
        // It is not split yet.
        page => Some(page - all / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something like a hash.
    fn mixed(number: u32) -> u32 {
        (u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    #[test]
    fn every_number_is_found_under_its_hash_and_a_clone_keeps_what_it_had() {
        let mut index = Index::default();
        assert_eq!(index.find(7, |_| true), None);
        let mut clones = vec![];
        for number in 0..20_000 {
            index.insert(mixed(number), number);
            if number % 3_000 == 0 {
                clones.push((number, index.clone()));
            }
        }
        for number in 0..20_000 {
            assert_eq!(index.find(mixed(number), |found| found == number), Some(number));
            assert_eq!(index.find(mixed(number + 20_000), |_| false), None);
        }
        for (last, clone) in clones {
            assert_eq!(clone.find(mixed(last), |found| found == last), Some(last));
            assert_eq!(clone.find(mixed(last + 1), |found| found == last + 1), None);
        }
        let sizes = index.pages.iter().map(|page| page.slots.len());
        let (largest, all) = (sizes.clone().max().unwrap(), sizes.sum::<usize>());
        assert!(largest <= 8 * ANSWERS_A_PAGE && all < 4 * 20_000, "{largest} slots in a page, {all} in all");
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut index = Index::default();
        for number in 0..1_000 {
            index.insert(u32::MAX, number);
        }
        for number in 0..1_000 {
            assert_eq!(index.find(u32::MAX, |found| found == number), Some(number));
        }
        assert_eq!(index.find(u32::MAX, |_| false), None);
    }
}
