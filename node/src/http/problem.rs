//! Everything that is not a success, as status, code and one sentence. The only place that knows
//! which status belongs to what.

use std::borrow::Cow;

use hyper::StatusCode;
use stakehold_actors::{
    api::ApiError,
    domain::types::{Reference, Refusal},
};

use super::json::{ErrorBody, ErrorDetail};

/// A request that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: Cow<'static, str>,
    pub message: Cow<'static, str>,
    pub reference: Option<Reference>,
    pub retry_after_ms: Option<u64>,
    /// The methods this path has, for 405.
    pub allow: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let (code, message) = (Cow::Borrowed(code), message.into());
        Self { status, code, message, reference: None, retry_after_ms: None, allow: None }
    }

    /// Something in the request cannot be meant.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID", message)
    }

    pub fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// 503: the server has too much to do.
    pub fn busy(retry_after_ms: u64) -> Self {
        let message = format!("Too much is in flight; try again in {retry_after_ms} ms.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", message).after(retry_after_ms)
    }

    /// 429: this account asks too often.
    pub fn too_often(retry_after_ms: u64) -> Self {
        let message = format!("This account sends more requests than it may; try again in {retry_after_ms} ms.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message).after(retry_after_ms)
    }

    pub fn refused(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::UnknownAccount | Refusal::UnknownMarket | Refusal::UnknownOrder => StatusCode::NOT_FOUND,
            Refusal::MarketNotOpen
            | Refusal::MarketSuspended
            | Refusal::MarketClosed
            | Refusal::MarketChanged
            | Refusal::Cancelled
            | Refusal::Expired
            | Refusal::AccountExists
            | Refusal::ReferenceReused
            | Refusal::WrongState
            | Refusal::OrderDone
            | Refusal::MarketFinal => StatusCode::CONFLICT,
            Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::InvalidRunner
            | Refusal::RunnerRemoved
            | Refusal::InvalidOdds
            | Refusal::InvalidSize
            | Refusal::InvalidMinFill
            | Refusal::InvalidFactor
            | Refusal::InvalidProfitRatio
            | Refusal::WouldMatch
            | Refusal::NotFilled
            | Refusal::Conflict
            | Refusal::AccountCap
            | Refusal::MarketCap
            | Refusal::EventCap
            | Refusal::InsufficientFunds
            | Refusal::InvalidResult
            | Refusal::InvalidReduction
            | Refusal::InvalidAmount
            | Refusal::InvalidDefinition => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let mut problem = Self::new(status, "", refusal.sentence());
        problem.code = code_of(refusal).into();
        if refusal == Refusal::Busy { problem.after(100) } else { problem }
    }

    #[must_use]
    pub fn after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    #[must_use]
    pub fn with_reference(mut self, reference: Option<Reference>) -> Self {
        self.reference = reference;
        self
    }

    pub fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.clone().into_owned(),
                message: self.message.clone().into_owned(),
                request_id: request_id.into(),
                reference: self.reference.as_ref().map(|r| r.as_str().into()),
                retry_after_ms: self.retry_after_ms,
            },
        }
    }
}

/// A refusal's name as clients see it, which is the one that is stored.
pub fn code_of(refusal: Refusal) -> String {
    match serde_json::to_value(refusal) {
        Ok(serde_json::Value::String(code)) => code,
        _ => "REFUSED".into(),
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        match error {
            ApiError::Refused(refusal) => Self::refused(refusal),
            ApiError::Invalid(message) => Self::invalid(message),
            ApiError::Forbidden => Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message),
            ApiError::Busy { retry_after_ms } => Self::busy(retry_after_ms),
            ApiError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).after(100),
            ApiError::Unknown => Self::new(StatusCode::GATEWAY_TIMEOUT, "OUTCOME_UNKNOWN", message).after(100),
            ApiError::DiskFull { retry_after_ms } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "DISK_FULL", message).after(retry_after_ms)
            }
        }
    }
}

impl Problem {
    /// The way back, for the client library: what the server's backend said, if it was the backend.
    pub fn api_error(status: u16, detail: &ErrorDetail) -> Option<ApiError> {
        let retry_after_ms = detail.retry_after_ms.unwrap_or(0);
        match (status, detail.code.as_str()) {
            (_, "INVALID") => Some(ApiError::Invalid(detail.message.clone())),
            (_, "FORBIDDEN") => Some(ApiError::Forbidden),
            (503, "BUSY") | (429, _) => Some(ApiError::Busy { retry_after_ms }),
            (503, "UNAVAILABLE") => Some(ApiError::Unavailable),
            (_, "OUTCOME_UNKNOWN") => Some(ApiError::Unknown),
            (_, "DISK_FULL") => Some(ApiError::DiskFull { retry_after_ms }),
            (_, code) => serde_json::from_value(code.into()).ok().map(ApiError::Refused),
        }
    }
}
