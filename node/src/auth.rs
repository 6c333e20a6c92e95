//! Bearer tokens, and who may do what. One rule for every front end.
//!
//! A token is `sh_op_<secret>` or `sh_acct_<account>_<secret>`, the secret 256 random bits in hex.
//! Only its blake3 hash is ever stored. Looking a hash up needs no constant time: whoever could
//! learn a stored hash from timing still had to invert blake3. Where a presented token meets a
//! known one directly, [`TokenHash`] compares in constant time.
//!
//! What must never be here: clocks, sockets, storage.

use stakehold_actors::{api::Principal, domain::types::AccountId};
use stakehold_raft::seam::Entropy;
use subtle::ConstantTimeEq;

/// What is stored of a token.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    pub fn of(token: &str) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A new token for a principal. In production the node's entropy must be the operating system's.
pub fn new_token(principal: Principal, entropy: &dyn Entropy) -> String {
    let mut secret = [0u8; 32];
    for chunk in secret.chunks_exact_mut(8) {
        chunk.copy_from_slice(&entropy.next_u64().to_le_bytes());
    }
    let secret = blake3::Hash::from_bytes(secret).to_hex();
    match principal {
        Principal::Operator => format!("sh_op_{secret}"),
        Principal::Account(account) => format!("sh_acct_{account}_{secret}"),
    }
}

/// Whom a token claims to speak for, if it has the form of one. The claim is worth nothing until
/// the hash was found.
pub fn claimed(token: &str) -> Option<Principal> {
    let (principal, secret) = match token.strip_prefix("sh_op_") {
        Some(secret) => (Principal::Operator, secret),
        None => {
            let (account, secret) = token.strip_prefix("sh_acct_")?.split_once('_')?;
            (Principal::Account(AccountId(account.parse().ok()?)), secret)
        }
    };
    (secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit())).then_some(principal)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Counting(AtomicU64);
    impl Entropy for Counting {
        fn next_u64(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_token_names_its_principal_and_never_repeats() {
        let entropy = Counting(AtomicU64::new(1));
        for principal in [Principal::Operator, Principal::Account(AccountId(42))] {
            let (one, two) = (new_token(principal, &entropy), new_token(principal, &entropy));
            assert_ne!(one, two);
            assert_eq!(claimed(&one), Some(principal));
            assert_ne!(TokenHash::of(&one), TokenHash::of(&two));
            assert_eq!(TokenHash::of(&one), TokenHash::of(&one));
        }
    }

    #[test]
    fn what_is_not_a_token_claims_nothing() {
        let secret = "a".repeat(64);
        for bad in [
            String::new(),
            secret.clone(),
            "sh_op_".into(),
            "sh_op_abc".into(),
            format!("sh_op_{}", "g".repeat(64)),
            format!("sh_acct_{secret}"),
            format!("sh_acct_-1_{secret}"),
            format!("sh_acct_99999999999999999999_{secret}"),
        ] {
            assert_eq!(claimed(&bad), None, "{bad}");
        }
    }
}
