//! Cancelling and changing orders as JSON.

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{CancelOrder, CancelReport, WhichOrder},
    domain::types::{AccountId, MarketId, Minor, OrderId, Persistence, Reference, Refusal},
};
use utoipa::ToSchema;

/// Which order to cancel: `order`, or `reference` (and `index`), which also cancels one that is still being funded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOne {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub order: Option<OrderId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
    /// The order's position in the call that placed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u16>,
    /// How much to take off what is unmatched; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub reduction: Option<Minor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The operator names the account it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    pub orders: Vec<CancelOne>,
}

impl Cancel {
    /// # Errors
    /// A sentence when one does not say which order it means.
    pub fn orders(self) -> Result<Vec<CancelOrder>, String> {
        let one = |order: CancelOne| {
            let which = match (order.order, order.reference, order.index) {
                (Some(id), None, None) => WhichOrder::Id(id),
                (None, Some(reference), index) => WhichOrder::Reference(reference, index.unwrap_or(0)),
                _ => return Err("Each of the `orders` has either an `order` or a `reference` with an `index`.".into()),
            };
            Ok(CancelOrder { which, reduction: order.reduction })
        };
        self.orders.into_iter().map(one).collect()
    }
}

impl From<CancelOrder> for CancelOne {
    fn from(cancel: CancelOrder) -> Self {
        let (order, reference, index) = match cancel.which {
            WhichOrder::Id(id) => (Some(id), None, None),
            WhichOrder::Reference(reference, index) => (None, Some(reference), Some(index)),
        };
        Self { order, reference, index, reduction: cancel.reduction }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cancelled {
    pub orders: Vec<CancelledOrder>,
    /// The money is on its way back, and the wallet has not confirmed it yet.
    pub funds_pending: bool,
}

/// What became of one cancel: how much was cancelled, or a code and a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CancelledOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub order: Option<OrderId>,
    #[schema(value_type = i64)]
    pub cancelled: Minor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<Refusal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl From<CancelReport> for CancelledOrder {
    fn from(report: CancelReport) -> Self {
        let (cancelled, code) = match report.outcome {
            Ok(cancelled) => (cancelled, None),
            Err(refusal) => (Minor::ZERO, Some(refusal)),
        };
        Self { order: report.order, cancelled, code, message: code.map(|c| c.sentence().into()) }
    }
}

impl From<CancelledOrder> for CancelReport {
    fn from(order: CancelledOrder) -> Self {
        Self { order: order.order, outcome: order.code.map_or(Ok(order.cancelled), Err) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelAll {
    /// The operator names the account it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    /// Only in this market; everywhere if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub market: Option<MarketId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    /// The new price in hundredths; the order loses its place.
    pub price: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePersistence {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    #[schema(schema_with = super::persistence)]
    pub persistence: Persistence,
}
