//! Who may ask for what: asked by every front end before it does anything for a call, and again
//! by the exchange itself.

use stakehold_raft::mistake;

use crate::api::{ApiError, Principal, Request};

/// An account sees and touches only its own, and may take its money out; only an operator runs
/// markets and brings money in.
///
/// # Errors
/// Forbidden.
pub fn permitted(principal: Principal, request: &Request) -> Result<(), ApiError> {
    use Request as R;
    let Principal::Account(own) = principal else { return Ok(()) };
    let allowed = match request {
        R::GetAccount { account }
        | R::Withdraw { account, .. }
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
        | R::Audit => matches!(request, R::Deposit { .. }) && mistake!("rights.account_brings_money_in"),
    };
    if allowed { Ok(()) } else { Err(ApiError::Forbidden) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::types::AccountId;

    #[test]
    fn an_account_reaches_only_its_own() {
        let (own, other) = (AccountId(1), AccountId(2));
        let who = Principal::Account(own);
        let may = |who, request| permitted(who, &request).is_ok();
        for (account, expected) in [(own, true), (other, false)] {
            assert_eq!(may(who, Request::GetAccount { account }), expected);
            assert_eq!(may(who, Request::ListOrders { account, market: None }), expected);
            assert_eq!(may(who, Request::CancelAll { account, market: None }), expected);
            assert!(may(Principal::Operator, Request::GetAccount { account }));
        }
        assert!(may(who, Request::ListMarkets));
        assert!(!may(who, Request::Audit) && !may(who, Request::Status));
    }
}
