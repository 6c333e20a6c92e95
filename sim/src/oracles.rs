//! What must be true, one file per invariant. An oracle reads what the cluster committed
//! ([`crate::books`]) and what clients saw, never a node's own opinion of itself.

/// Something that must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{oracle}: {message}")]
pub struct Violation {
    /// The oracle that saw it: `I1` to `I9`, `L1`, `Raft`, `Reference`, `Crash`.
    pub oracle: &'static str,
    pub message: String,
}

impl Violation {
    pub fn new(oracle: &'static str, message: impl Into<String>) -> Self {
        Self { oracle, message: message.into() }
    }
}

#[derive(Debug)]
pub struct Oracles;

impl Oracles {
    pub fn new(_: stakehold_raft::Cells) -> Self {
        Self
    }

    pub fn entry(&mut self, _: &crate::books::Books, _: &crate::books::Entry<'_>) -> Result<(), Violation> {
        Ok(())
    }

    pub fn at_rest(&mut self, _: &crate::books::Books) -> Result<(), Violation> {
        Ok(())
    }
}
