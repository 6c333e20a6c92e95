//! Who may ask for what.

use crate::api::{ApiError, Call, Principal, Request};

/// An account sees and touches only its own; only an operator runs markets and money.
pub(super) fn permitted(call: &Call) -> Result<(), ApiError> {
    use Request as R;
    let Principal::Account(own) = call.principal else { return Ok(()) };
    let allowed = match &call.request {
        R::GetAccount { account }
        | R::Statement { account, .. }
        | R::Heartbeat { account, .. }
        | R::Place { account, .. }
        | R::Cancel { account, .. }
        | R::CancelAll { account, .. }
        | R::Replace { account, .. }
        | R::SetPersistence { account, .. }
        | R::ListOrders { account, .. } => *account == own,
        R::ListMarkets | R::GetMarket { .. } | R::Book { .. } => true,
        R::CreateAccount { .. }
        | R::Deposit { .. }
        | R::Withdraw { .. }
        | R::SetAccountCap { .. }
        | R::SetAccountDiscount { .. }
        | R::CreateMarket { .. }
        | R::OpenMarket { .. }
        | R::SuspendMarket { .. }
        | R::TurnInPlay { .. }
        | R::Settle { .. }
        | R::Resettle { .. }
        | R::Finalise { .. }
        | R::RemoveRunner { .. }
        | R::Status
        | R::Audit => false,
    };
    if allowed { Ok(()) } else { Err(ApiError::Forbidden) }
}
