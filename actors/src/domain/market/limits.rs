//! The limits of a market, each with its reason.

use crate::domain::types::Minor;

/// Runners of one market. The largest real ones have a few hundred.
pub const RUNNERS_MAX: usize = 1_000;

/// The largest number of a runner: fits every client's integers.
pub const RUNNER_ID_MAX: u64 = (1 << 31) - 1;

/// The longest bet delay in seconds, several times what any sport needs: in a longer one, a slip of the
/// pen, every bet of the market would wait for it.
pub const BET_DELAY_MAX_S: u16 = 30;

/// Stake that may ever be matched in a market, with what rests in it. At odds of 1000 the profits
/// on it, and every sum of them over runners, still fit in 64 bits; so no sequence of orders can
/// overflow a position, a level or an exposure.
pub const VOLUME_MAX: Minor = Minor(9_000_000_000_000_000);

/// A stake below the market's minimum is taken when `size × price in hundredths` reaches this: it
/// then stands to pay back 10.00 or more.
pub const SMALL_STAKE_PAYS: i64 = 100_000;

/// The whole of something in basis points.
pub const BASIS_POINTS: u32 = 10_000;

/// What an account needs of its wallet to come into a market, at least.
pub(super) const ENTRANCE: Minor = Minor(1);
