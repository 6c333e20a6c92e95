//! Accounts, their wallets and their tokens as JSON.

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{AccountView, StatementLine as ApiLine, WalletReceipt},
    domain::types::{AccountId, MarketId, Minor, Reference},
};
use utoipa::ToSchema;

use super::mirror;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// 1 to 2^53 - 1; the server chooses one if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    pub account: Option<AccountId>,
    /// At most 100 characters and no control characters.
    #[schema(example = "Ada", max_length = 100)]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedAccount {
    #[schema(value_type = u64)]
    pub account: AccountId,
    pub name: String,
    /// The account's bearer token. It is shown this once: only its hash is stored.
    pub token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    #[schema(value_type = u64)]
    pub account: AccountId,
    /// A further bearer token of the account. It is shown this once: only its hash is stored.
    pub token: String,
}

mirror! {
    /// An account and its wallet.
    Account = AccountView {
        #[schema(value_type = u64)]
        account: AccountId,
        name: String,
        /// What can be bet or withdrawn, in minor units.
        #[schema(value_type = i64)]
        available: Minor,
        /// Debt from corrected results; credits pay it first.
        #[schema(value_type = i64)]
        owed: Minor,
        /// Money that left the wallet for markets and has not come back.
        #[schema(value_type = i64)]
        in_markets: Minor,
        /// The largest exposure over all markets, if there is a cap.
        #[schema(value_type = Option<i64>)]
        cap: Option<Minor>,
        /// Off the commission it pays, in basis points of that.
        discount_bp: u32,
        /// The markets the account has entered.
        #[schema(value_type = Vec<u64>)]
        markets: Vec<MarketId>,
        /// The heartbeat's interval; 0 if none is armed.
        heartbeat_ms: u64,
    }
}

/// A deposit or a withdrawal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveMoney {
    /// In minor units.
    #[schema(value_type = i64, example = 10_000)]
    pub amount: Minor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

mirror! {
    /// What a deposit or withdrawal did.
    Receipt = WalletReceipt {
        #[schema(value_type = u64)]
        account: AccountId,
        #[schema(value_type = String)]
        reference: Reference,
        #[schema(value_type = i64)]
        amount: Minor,
        /// What was available right after the call took effect the first time.
        #[schema(value_type = i64)]
        available: Minor,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCap {
    /// The largest exposure over all markets; `null` lifts the cap.
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub cap: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDiscount {
    /// In basis points of the commission: 2,500 takes a quarter off, 10,000 all of it.
    #[schema(maximum = 10_000)]
    pub discount_bp: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The operator names the account it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    /// Every unmatched order of the account is cancelled unless this call comes again in time; 0 disarms.
    pub timeout_ms: u64,
}

mirror! {
    StatementLine = ApiLine {
        /// Rises by one with each line of the account.
        number: u64,
        at: u64,
        /// `deposit`, `withdraw`, `fund`, `release`, `settle`, `collect`, …
        kind: String,
        #[schema(value_type = i64)]
        amount: Minor,
        #[schema(value_type = i64)]
        available: Minor,
        #[schema(value_type = i64)]
        owed: Minor,
        #[schema(value_type = Option<u64>)]
        market: Option<MarketId>,
        #[schema(value_type = Option<String>)]
        reference: Option<Reference>,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statement {
    /// The newest first; ask again with `before` = the last line's number for older ones.
    pub lines: Vec<StatementLine>,
}
