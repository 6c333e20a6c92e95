//! The bets of the benchmark: a random wallet, a random market, one of three runners, either side,
//! a price within ten ticks from 2.00, a size of 2.00 to 20.00, every reference used once. About
//! two thirds of the bets match. Bet `n` of client `c` is a pure function of the seed, so that
//! what was acknowledged can be asked for again without being remembered.

use std::fmt::Write as _;

use stakehold_actors::{
    api::NewOrder,
    domain::types::{AccountId, MarketId, Minor, Persistence, Reference, RunnerId, Side},
};

/// Runners of every market of the benchmark.
pub const RUNNERS: u64 = 3;
/// What every wallet holds in the beginning: nobody runs dry.
pub const FUNDS: Minor = Minor::MAX_AMOUNT;
/// Room for wallets of one run: their numbers are `run × WALLETS_SPAN + n`.
pub const WALLETS_SPAN: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Workload {
    /// Names wallets and references, so that runs on one cluster do not meet.
    pub run: u64,
    pub seed: u64,
    pub wallets: u64,
    pub markets: Vec<MarketId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bet {
    pub account: AccountId,
    pub market: MarketId,
    pub runner: RunnerId,
    pub side: Side,
    pub price: u32,
    pub size: Minor,
}

/// splitmix64's finaliser: every bit of the result depends on every bit of the input.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Workload {
    pub fn account(&self, n: u64) -> AccountId {
        AccountId(self.run * WALLETS_SPAN + n)
    }

    pub fn bet(&self, client: u32, n: u64) -> Bet {
        let mut state = mix(self.seed ^ u64::from(client) << 40) ^ mix(n.wrapping_add(1));
        let mut below = |bound: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // A bias of 2^-44 at most.
            mix(state) % bound
        };
        Bet {
            account: self.account(1 + below(self.wallets)),
            market: self.markets[below(self.markets.len() as u64) as usize],
            runner: RunnerId(1 + below(RUNNERS)),
            side: if below(2) == 0 { Side::Back } else { Side::Lay },
            price: 200 + 2 * below(11) as u32,
            size: Minor(200 + below(1801) as i64),
        }
    }

    /// A call's orders: the first is bet `n`; what follows is for the same wallet and market,
    /// because that is what one call can carry.
    pub fn orders(&self, client: u32, n: u64, batch: u32) -> (Bet, Vec<NewOrder>) {
        let first = self.bet(client, n);
        let orders = (0..u64::from(batch))
            .map(|index| {
                // Far from the numbers of the calls themselves.
                let bet = if index == 0 { first } else { self.bet(client, n ^ index << 32) };
                NewOrder {
                    runner: bet.runner,
                    side: bet.side,
                    price: bet.price,
                    size: bet.size,
                    persistence: Persistence::Lapse,
                    fill_or_kill: false,
                    min_fill: None,
                    post_only: false,
                }
            })
            .collect();
        (first, orders)
    }

    pub fn reference_text(&self, client: u32, n: u64, to: &mut String) {
        let _ = write!(to, "b{:x}-{client:x}-{n:x}", self.run);
    }

    pub fn reference(&self, client: u32, n: u64) -> Reference {
        let mut text = String::with_capacity(32);
        self.reference_text(client, n, &mut text);
        Reference::new(&text).expect("short visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stakehold_actors::domain::ladder::Tick;

    use super::*;

    fn workload() -> Workload {
        Workload { run: 7, seed: 42, wallets: 1000, markets: (0..10).map(|n| MarketId::new(n, 1)).collect() }
    }

    #[test]
    fn bets_are_those_of_the_rival() {
        let workload = workload();
        let bets: Vec<Bet> = (0..50_000).map(|n| workload.bet(3, n)).collect();
        assert!(bets.iter().all(|bet| Tick::of_price(bet.price).is_some()));
        let prices: BTreeSet<u32> = bets.iter().map(|bet| bet.price).collect();
        assert_eq!(prices, (0..=10).map(|n| 200 + 2 * n).collect());
        let sizes: BTreeSet<i64> = bets.iter().map(|bet| bet.size.0).collect();
        assert_eq!((sizes.first(), sizes.last(), sizes.len()), (Some(&200), Some(&2000), 1801));
        assert_eq!(bets.iter().map(|bet| bet.runner.0).collect::<BTreeSet<_>>(), [1, 2, 3].into());
        assert_eq!(bets.iter().map(|bet| bet.market).collect::<BTreeSet<_>>().len(), 10);
        let accounts: BTreeSet<AccountId> = bets.iter().map(|bet| bet.account).collect();
        assert_eq!((accounts.first(), accounts.last()), (Some(&workload.account(1)), Some(&workload.account(1000))));
        let backs = bets.iter().filter(|bet| bet.side == Side::Back).count();
        assert!((24_000..26_000).contains(&backs), "{backs}");
    }

    #[test]
    fn bets_can_be_made_again_and_differ_between_clients() {
        let workload = workload();
        assert_eq!(workload.bet(1, 9), workload.clone().bet(1, 9));
        assert_ne!(workload.bet(1, 9), workload.bet(2, 9));
        let references: BTreeSet<Reference> = (0..4)
            .flat_map(|client| (0..1000).map(move |n| (client, n)))
            .map(|(c, n)| workload.reference(c, n))
            .collect();
        assert_eq!(references.len(), 4000);
    }
}
