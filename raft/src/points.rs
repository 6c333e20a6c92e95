//! Points in the code where a simulation looks in, or lends a hand: known mistakes that it switches
//! on one at a time ([`mistake!`](crate::mistake)), things that happen seldom and that it makes
//! happen often ([`seldom!`](crate::seldom)), marks that say a place was reached
//! ([`reached!`](crate::reached)), every timer that goes off ([`crate::timer`]), and every entry as it is
//! applied ([`Witness`]). Some mistakes need what pure code must not have:
//! [`wall_clock!`](crate::wall_clock) and [`node_random!`](crate::node_random).
//!
//! All of it is there only with the feature `simulation`, which only the simulator's crate asks for:
//! without it the macros are `false` or nothing, and no name of a point is in the binary. A test
//! builds the node alone and looks.

use crate::ids::RaftId;

/// Whether the known mistake of this name is to be made here. Never in a node that is built alone.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! mistake {
    ($name:literal) => {
        false
    };
}

/// Whether something that happens seldom is to happen now. Never in a node that is built alone.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! seldom {
    ($name:literal) => {
        false
    };
}

/// Says that a place was reached that a simulation must reach; with a condition, only where it holds
/// (a node that is built alone does not look at it).
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! reached {
    ($name:literal) => {};
    ($name:literal, $when:expr) => {
        if false {
            let _ = $when;
        }
    };
}

/// What a wall clock says on this node, in milliseconds: for mistakes only.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! wall_clock {
    () => {
        0_u64
    };
}

/// A number that is another one on every node, as the order of a hash map is: for mistakes only.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! node_random {
    () => {
        0_u64
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! mistake {
    ($name:literal) => {
        $crate::points::mistake($name)
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! seldom {
    ($name:literal) => {
        $crate::points::seldom($name)
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! reached {
    ($name:literal) => {
        $crate::points::reached($name)
    };
    ($name:literal, $when:expr) => {
        if $when {
            $crate::points::reached($name);
        }
    };
}

/// Says what a replica's log has acknowledged, or found (see [`Kept`](crate::points::Kept)); a node that
/// is built alone does not look at it.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! kept {
    ($replica:expr, $kept:expr) => {
        if false {
            let _ = ($replica, $kept);
        }
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! kept {
    ($replica:expr, $kept:expr) => {
        $crate::points::kept($replica, $kept)
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! wall_clock {
    () => {
        $crate::points::now_ms()
    };
}

#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! node_random {
    () => {
        $crate::points::node_random()
    };
}

/// Term and index of an entry.
pub type EntryId = (u64, u64);

/// A vote. That of a leader who has won is `elected`, and replaces whatever a replica had given in that term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    pub candidate: RaftId,
    pub elected: bool,
}

/// What a replica's log has said to consensus, and so perhaps to others: it is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Vote(Vote),
    /// All entries through this one; None if it was cut off again before it was on the disk.
    Entries {
        through: Option<EntryId>,
    },
    /// No entry behind this one need be there any more.
    Truncated {
        after: Option<u64>,
    },
    /// What the log has when it is opened: the vote, the last entry (or the last that was purged), and
    /// up to where it is purged.
    Opened {
        vote: Option<Vote>,
        last: Option<EntryId>,
        purged: Option<u64>,
    },
}

#[cfg(feature = "simulation")]
pub use simulated::{
    Hooks, Witness, applied, applying, attach, detach, kept, mistake, node_random, now_ms, reached, seldom, timer,
};

#[cfg(feature = "simulation")]
mod simulated {
    use std::{any::Any, cell::RefCell, panic::Location, rc::Rc};

    use super::Kept;
    use crate::ids::{CellId, RaftId};

    /// An entry that a replica applies, before and right after.
    #[derive(Clone, Copy)]
    pub struct Witness<'a> {
        pub replica: RaftId,
        pub cell: CellId,
        pub term: u64,
        pub index: u64,
        /// The [`Batch`](crate::replica::Batch) as postcard; None for entries of consensus itself.
        pub batch: Option<&'a [u8]>,
        /// The [`Applied`](crate::replica::Applied) of the machine at hand, if there was a batch and it is through.
        pub applied: Option<&'a dyn Any>,
    }

    impl std::fmt::Debug for Witness<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} applied {}.{} of {}", self.replica, self.term, self.index, self.cell)
        }
    }

    /// What a simulation attaches to its thread.
    pub trait Hooks {
        fn mistake(&self, name: &'static str) -> bool;
        fn seldom(&self, name: &'static str) -> bool;
        fn reached(&self, name: &'static str);
        fn applying(&self, witness: Witness<'_>);
        fn applied(&self, witness: Witness<'_>);
        fn kept(&self, replica: (CellId, RaftId), kept: Kept);
        /// A timer went off; where in the code it was set.
        fn timer(&self, set: &'static Location<'static>);
        /// What a wall clock would say on the node that is being run: only mistakes ask.
        fn now_ms(&self) -> u64;
        /// A number that differs between the nodes: only mistakes ask. Whoever runs the same on all
        /// nodes at different times need not say more than this.
        fn node_random(&self) -> u64 {
            self.now_ms()
        }
    }

    thread_local! {
        static HOOKS: RefCell<Option<Rc<dyn Hooks>>> = const { RefCell::new(None) };
    }

    pub fn attach(hooks: Rc<dyn Hooks>) {
        HOOKS.set(Some(hooks));
    }

    pub fn detach() {
        HOOKS.set(None);
    }

    fn hooks() -> Option<Rc<dyn Hooks>> {
        // Whatever is dropped while the thread ends reaches nothing.
        HOOKS.try_with(|hooks| hooks.borrow().clone()).ok().flatten()
    }

    pub fn mistake(name: &'static str) -> bool {
        hooks().is_some_and(|hooks| hooks.mistake(name))
    }

    pub fn seldom(name: &'static str) -> bool {
        hooks().is_some_and(|hooks| hooks.seldom(name))
    }

    pub fn reached(name: &'static str) {
        if let Some(hooks) = hooks() {
            hooks.reached(name);
        }
    }

    pub fn applying(witness: Witness<'_>) {
        if let Some(hooks) = hooks() {
            hooks.applying(witness);
        }
    }

    pub fn applied(witness: Witness<'_>) {
        if let Some(hooks) = hooks() {
            hooks.applied(witness);
        }
    }

    pub fn kept(replica: (CellId, RaftId), kept: Kept) {
        if let Some(hooks) = hooks() {
            hooks.kept(replica, kept);
        }
    }

    pub fn timer(set: &'static Location<'static>) {
        if let Some(hooks) = hooks() {
            hooks.timer(set);
        }
    }

    pub fn now_ms() -> u64 {
        hooks().map_or(0, |hooks| hooks.now_ms())
    }

    pub fn node_random() -> u64 {
        hooks().map_or(0, |hooks| hooks.node_random())
    }
}
