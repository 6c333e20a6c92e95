//! What the smaller levels attach to their thread: the code makes one known mistake, and what happens seldom
//! as often as they say. Whole clusters have [`crate::cluster::watch`], which also listens.

use std::{cell::RefCell, panic::Location, rc::Rc};

use stakehold_raft::{
    CellId, RaftId,
    points::{self, Hooks, Kept, Witness},
};

use crate::rng::Rng;

struct Alone {
    mistake: Option<&'static str>,
    /// What happens seldom happens so often in a hundred.
    seldom: u64,
    dice: RefCell<Rng>,
}

/// Does it with a known mistake in the code, if one is named, and so much of what happens seldom, in percent.
pub fn with<R>(mistake: Option<&'static str>, seldom: u64, dice: Rng, it: impl FnOnce() -> R) -> R {
    points::attach(Rc::new(Alone { mistake, seldom, dice: RefCell::new(dice) }));
    let done = it();
    points::detach();
    done
}

impl Hooks for Alone {
    fn mistake(&self, name: &'static str) -> bool {
        self.mistake == Some(name)
    }

    fn seldom(&self, _: &'static str) -> bool {
        self.dice.borrow_mut().percent(self.seldom)
    }

    fn reached(&self, _: &'static str) {}

    fn applying(&self, _: Witness<'_>) {}

    fn applied(&self, _: Witness<'_>) {}

    fn kept(&self, _: (CellId, RaftId), _: Kept) {}

    fn timer(&self, _: &'static Location<'static>) {}

    fn now_ms(&self) -> u64 {
        0
    }
}
