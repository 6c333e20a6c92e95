//! Orders as JSON: placing one or many, the report on each, and where an order stands.

use serde::{Deserialize, Serialize};
use stakehold_actors::{
    api::{NewOrder, PlaceReport},
    domain::types::{AccountId, MarketId, Minor, OrderId, OrderView, Persistence, Reference, Refusal, RunnerId, Side},
};
use utoipa::ToSchema;

/// One order of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    #[schema(value_type = u64)]
    pub runner: RunnerId,
    #[schema(schema_with = super::side)]
    pub side: Side,
    /// Decimal odds in hundredths: 350 is 3.50.
    #[schema(example = 350)]
    pub price: u32,
    /// The backer's stake in minor units.
    #[schema(value_type = i64, example = 1000)]
    pub size: Minor,
    #[serde(default)]
    #[schema(schema_with = super::persistence)]
    pub persistence: Persistence,
    #[serde(default)]
    pub fill_or_kill: bool,
    /// Only with `fill_or_kill`: the least that must match; the whole size if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub min_fill: Option<Minor>,
    #[serde(default)]
    pub post_only: bool,
}

impl From<PlaceOrder> for NewOrder {
    fn from(order: PlaceOrder) -> Self {
        let PlaceOrder { runner, side, price, size, persistence, fill_or_kill, min_fill, post_only } = order;
        Self { runner, side, price, size, persistence, fill_or_kill, min_fill, post_only }
    }
}

impl From<NewOrder> for PlaceOrder {
    fn from(order: NewOrder) -> Self {
        let NewOrder { runner, side, price, size, persistence, fill_or_kill, min_fill, post_only } = order;
        Self { runner, side, price, size, persistence, fill_or_kill, min_fill, post_only }
    }
}

/// Either `orders`, or the fields of one order directly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Names the call: sent again with the same content it gives the first answer. Chosen by the server if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Reference>,
    /// The operator names the account it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub account: Option<AccountId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<Vec<PlaceOrder>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub runner: Option<RunnerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::side)]
    pub side: Option<Side>,
    /// Decimal odds in hundredths: 350 is 3.50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<u32>,
    /// The backer's stake in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub size: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::persistence)]
    pub persistence: Option<Persistence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill_or_kill: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub min_fill: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_only: Option<bool>,
}

impl Place {
    /// The orders, and whether they came as a batch.
    ///
    /// # Errors
    /// A sentence that names the missing or superfluous field.
    pub fn orders(self) -> Result<(Vec<NewOrder>, bool), String> {
        if let Some(orders) = self.orders {
            let single = [
                ("runner", self.runner.is_some()),
                ("side", self.side.is_some()),
                ("price", self.price.is_some()),
                ("size", self.size.is_some()),
                ("persistence", self.persistence.is_some()),
                ("fill_or_kill", self.fill_or_kill.is_some()),
                ("min_fill", self.min_fill.is_some()),
                ("post_only", self.post_only.is_some()),
            ];
            if let Some((name, _)) = single.iter().find(|(_, given)| *given) {
                return Err(format!("`{name}` belongs into each of the `orders`, or leave `orders` out to place one."));
            }
            return Ok((orders.into_iter().map(Into::into).collect(), true));
        }
        let missing = |name| format!("The body has no `{name}`: an order needs `runner`, `side`, `price` and `size`.");
        let order = NewOrder {
            runner: self.runner.ok_or_else(|| missing("runner"))?,
            side: self.side.ok_or_else(|| missing("side"))?,
            price: self.price.ok_or_else(|| missing("price"))?,
            size: self.size.ok_or_else(|| missing("size"))?,
            persistence: self.persistence.unwrap_or_default(),
            fill_or_kill: self.fill_or_kill.unwrap_or_default(),
            min_fill: self.min_fill,
            post_only: self.post_only.unwrap_or_default(),
        };
        Ok((vec![order], false))
    }
}

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    #[schema(value_type = u64)]
    pub order: OrderId,
    /// `OPEN` while a part is unmatched, else `DONE`.
    pub status: OrderStatus,
    #[schema(value_type = u64)]
    pub market: MarketId,
    #[schema(value_type = u64)]
    pub runner: RunnerId,
    #[schema(schema_with = super::side)]
    pub side: Side,
    pub price: u32,
    #[schema(value_type = i64)]
    pub size: Minor,
    #[schema(schema_with = super::persistence)]
    pub persistence: Persistence,
    #[schema(value_type = i64)]
    pub matched: Minor,
    /// In hundredths, rounded half up; nothing if nothing matched.
    pub average_price: Option<u64>,
    /// Σ of (fill size × price in hundredths): the average price exactly.
    pub matched_value: i64,
    #[schema(value_type = i64)]
    pub remaining: Minor,
    #[schema(value_type = i64)]
    pub cancelled: Minor,
    #[schema(value_type = i64)]
    pub lapsed: Minor,
    #[schema(value_type = i64)]
    pub voided: Minor,
    pub placed: u64,
    #[schema(value_type = String)]
    pub reference: Reference,
    /// Position in the call that placed it.
    pub index: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum OrderStatus {
    Open,
    Done,
    Refused,
}

/// Half up, without leaving integers.
fn average(value: i128, matched: Minor) -> Option<u64> {
    let matched = i128::from(matched.0);
    (matched > 0).then(|| u64::try_from((2 * value + matched) / (2 * matched)).unwrap_or(0))
}

impl From<OrderView> for Order {
    fn from(view: OrderView) -> Self {
        Self {
            order: view.order,
            status: if view.remaining.is_positive() { OrderStatus::Open } else { OrderStatus::Done },
            market: view.market,
            runner: view.runner,
            side: view.side,
            price: view.price,
            size: view.size,
            persistence: view.persistence,
            matched: view.matched,
            average_price: average(view.matched_value, view.matched),
            // A size is at most 10^12 and a price 10^5, so that this always fits.
            matched_value: i64::try_from(view.matched_value).unwrap_or(i64::MAX),
            remaining: view.remaining,
            cancelled: view.cancelled,
            lapsed: view.lapsed,
            voided: view.voided,
            placed: view.placed,
            reference: view.reference,
            index: view.index,
        }
    }
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            order: order.order,
            market: order.market,
            runner: order.runner,
            side: order.side,
            price: order.price,
            size: order.size,
            persistence: order.persistence,
            matched: order.matched,
            matched_value: i128::from(order.matched_value),
            remaining: order.remaining,
            cancelled: order.cancelled,
            lapsed: order.lapsed,
            voided: order.voided,
            placed: order.placed,
            reference: order.reference,
            index: order.index,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Orders {
    pub orders: Vec<Order>,
}

/// The first `limit` orders after the number `after`, in the order of their numbers; only those that are
/// open, if asked.
pub fn page(mut orders: Vec<OrderView>, open: bool, after: Option<OrderId>, limit: usize) -> Vec<OrderView> {
    orders.retain(|order| after.is_none_or(|after| order.order > after) && !(open && order.remaining == Minor::ZERO));
    orders.sort_unstable_by_key(|order| order.order);
    orders.truncate(limit);
    orders
}

/// What became of a call that places orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Placed {
    #[schema(value_type = u64)]
    pub market: MarketId,
    #[schema(value_type = String)]
    pub reference: Reference,
    pub orders: Vec<PlacedOrder>,
}

/// What became of one order: taken (`OPEN` or `DONE`), or `REFUSED` with a code and a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlacedOrder {
    pub index: u16,
    pub status: OrderStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "INSUFFICIENT_FUNDS")]
    pub code: Option<Refusal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub order: Option<OrderId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub runner: Option<RunnerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::side)]
    pub side: Option<Side>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub size: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = super::persistence)]
    pub persistence: Option<Persistence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub matched: Option<Minor>,
    /// In hundredths, rounded half up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_price: Option<u64>,
    /// Σ of (fill size × price in hundredths): the average price exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_value: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub remaining: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub cancelled: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub lapsed: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub voided: Option<Minor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<u64>,
}

impl From<PlaceReport> for PlacedOrder {
    fn from(report: PlaceReport) -> Self {
        match report.outcome {
            Ok(view) => {
                let order = Order::from(view);
                Self {
                    index: report.index,
                    status: order.status,
                    code: None,
                    message: None,
                    order: Some(order.order),
                    runner: Some(order.runner),
                    side: Some(order.side),
                    price: Some(order.price),
                    size: Some(order.size),
                    persistence: Some(order.persistence),
                    matched: Some(order.matched),
                    average_price: order.average_price,
                    matched_value: Some(order.matched_value),
                    remaining: Some(order.remaining),
                    cancelled: Some(order.cancelled),
                    lapsed: Some(order.lapsed),
                    voided: Some(order.voided),
                    placed: Some(order.placed),
                }
            }
            Err(refusal) => Self {
                index: report.index,
                status: OrderStatus::Refused,
                code: Some(refusal),
                message: Some(refusal.sentence().into()),
                order: None,
                runner: None,
                side: None,
                price: None,
                size: None,
                persistence: None,
                matched: None,
                average_price: None,
                matched_value: None,
                remaining: None,
                cancelled: None,
                lapsed: None,
                voided: None,
                placed: None,
            },
        }
    }
}

impl PlacedOrder {
    /// The report it came from; `None` if the answer is not one that a server gives.
    pub fn into_report(self, market: MarketId, reference: &Reference) -> Option<PlaceReport> {
        let outcome = match self.code {
            Some(refusal) => Err(refusal),
            None => Ok(OrderView {
                order: self.order?,
                market,
                runner: self.runner?,
                side: self.side?,
                price: self.price?,
                size: self.size?,
                persistence: self.persistence?,
                matched: self.matched?,
                matched_value: i128::from(self.matched_value?),
                remaining: self.remaining?,
                cancelled: self.cancelled?,
                lapsed: self.lapsed?,
                voided: self.voided?,
                placed: self.placed?,
                reference: reference.clone(),
                index: self.index,
            }),
        };
        Some(PlaceReport { index: self.index, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::order_view;

    #[test]
    fn a_list_is_read_page_by_page_and_open_orders_alone() {
        // Two cells' orders, as they come: cell by cell.
        let numbers: Vec<OrderId> = (0..2).flat_map(|cell| (1..=5).map(move |n| OrderId::new(cell, n))).collect();
        let remaining = |order: &OrderId| if order.0.is_multiple_of(2) { Minor::ZERO } else { Minor(700) };
        let all: Vec<OrderView> = numbers
            .iter()
            .rev()
            .map(|order| OrderView { order: *order, remaining: remaining(order), ..order_view() })
            .collect();
        for open in [false, true] {
            let wanted: Vec<OrderId> =
                numbers.iter().copied().filter(|order| !open || remaining(order).is_positive()).collect();
            for limit in [1, 3, 10, usize::MAX] {
                let (mut read, mut after) = (Vec::new(), None);
                loop {
                    let page: Vec<OrderId> =
                        page(all.clone(), open, after, limit).iter().map(|order| order.order).collect();
                    assert!(page.len() <= limit);
                    let Some(last) = page.last() else { break };
                    after = Some(*last);
                    read.extend(page);
                }
                assert_eq!(read, wanted, "{limit} at a time, open: {open}");
            }
        }
    }
}
