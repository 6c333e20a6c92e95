//! The JSON of the HTTP API: small flat objects, amounts in minor units, prices in hundredths,
//! times in milliseconds since the Unix epoch. Both directions are here, so that the client
//! library cannot disagree with the server. Nothing here decides anything.
//!
//! - [`accounts`]: wallets, statements, tokens. [`markets`]: definitions, results. [`books`]:
//!   books and their changes. [`orders`]: placing, reports. [`changes`]: cancelling and changing
//!   orders. [`cluster`]: status and audit.
//! - [`Empty`], [`ErrorBody`]: what routes share.

use serde::{Deserialize, Serialize};
use stakehold_actors::api::Response;
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, SchemaType, Type},
};

pub mod accounts;
pub mod books;
pub mod changes;
pub mod cluster;
pub mod markets;
pub mod orders;

/// A JSON object with the same fields as a type of the API, and the moves between the two.
macro_rules! mirror {
    ($(#[$meta:meta])* $name:ident = $api:ident { $($(#[$field_meta:meta])* $field:ident : $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        $(#[$meta])*
        pub struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl From<$api> for $name {
            fn from($api { $($field),* }: $api) -> Self { Self { $($field),* } }
        }
        impl From<$name> for $api {
            fn from($name { $($field),* }: $name) -> Self { Self { $($field),* } }
        }
    };
}
pub(crate) use mirror;

/// An empty object: the body of calls that need none, and the answer of calls that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// For machines, such as `INSUFFICIENT_FUNDS`.
    #[schema(example = "INSUFFICIENT_FUNDS")]
    pub code: String,
    /// One sentence for people, with the next step.
    pub message: String,
    /// The same as in the `x-request-id` header; name it when you report a problem.
    pub request_id: String,
    /// The reference of the call, also if the server chose it: a retry with it cannot act twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Wait this long before the next try, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A value as JSON text.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    // Plain structs with string keys: serialising them to memory cannot fail.
    serde_json::to_writer(&mut bytes, value).expect("plain data");
    bytes
}

/// A response of the API as JSON text.
pub fn encode(response: Response) -> Vec<u8> {
    use Response as R;
    match response {
        R::Account(view) => bytes(&accounts::Account::from(view)),
        R::Wallet(receipt) => bytes(&accounts::Receipt::from(receipt)),
        R::Statement { lines } => bytes(&accounts::Statement { lines: all(lines) }),
        R::Market(view) => bytes(&markets::Market::from(*view)),
        R::Markets(list) => bytes(&markets::Markets { markets: all(list) }),
        R::Book(view) => bytes(&books::Book::from(view)),
        R::Placed { market, reference, reports } => bytes(&orders::Placed { market, reference, orders: all(reports) }),
        R::Cancelled { reports, funds_pending } => bytes(&changes::Cancelled { orders: all(reports), funds_pending }),
        R::Order(view) => bytes(&orders::Order::from(view)),
        R::Orders(list) => bytes(&orders::Orders { orders: all(list) }),
        R::Done => bytes(&Empty {}),
        R::Status(view) => bytes(&cluster::Status::from(*view)),
        R::Audit(view) => bytes(&cluster::Audit::from(*view)),
    }
}

fn all<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(Into::into).collect()
}

fn words(of: &[&'static str]) -> Object {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(of.iter().copied())).build()
}

pub(crate) fn side() -> Object {
    words(&["BACK", "LAY"])
}

pub(crate) fn persistence() -> Object {
    words(&["LAPSE", "PERSIST"])
}

pub(crate) fn market_status() -> Object {
    words(&["INACTIVE", "OPEN", "SUSPENDED", "CLOSED"])
}
