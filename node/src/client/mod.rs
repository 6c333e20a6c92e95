//! A client of a Stakehold cluster, over HTTP or over the native protocol. Both speak the same
//! [`Request`]s and give the same [`Response`]s; `ctl`, `bench` and `replay` are built on it.
//!
//! - [`target`]: where the cluster is and what token to use. [`http`]: lean HTTP/1.1 with kept
//!   connections. [`quic`]: many calls in flight on one connection. [`rest`]: requests and
//!   responses as HTTP. [`tls`]: whom to trust.
//!
//! What never lives here: retries on the caller's behalf. Whoever retries reuses the reference.

pub mod http;
pub mod quic;
pub mod rest;
pub mod target;
pub mod tls;

use futures::stream::BoxStream;
use stakehold_actors::{
    api::{ApiError, BookView, MarketDelta, Request, Response},
    domain::types::{AccountId, MarketId},
};

pub use self::{http::HttpClient, quic::QuicClient, target::Target};

/// Why a call has no answer of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The exchange answered, and this is what it said.
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("{0}")]
    Unauthorized(String),
    /// The call never left: safe to send again.
    #[error("{address} cannot be reached ({reason}); is the node running?")]
    Unreachable { address: String, reason: String },
    /// The connection ended after the call had left: send it again with the same reference.
    #[error("The connection to {address} was lost ({reason}); ask again with the same reference.")]
    Lost { address: String, reason: String },
    #[error("No answer came within {seconds} s; ask again with the same reference.")]
    TimedOut { seconds: u64 },
    /// The other side is something else, or another version.
    #[error("{0}")]
    Protocol(String),
    /// The client itself is not set up rightly.
    #[error("{0}")]
    Setup(String),
}

/// What a feed brings: an image, then changes; an image again whenever changes were skipped.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedEvent {
    Image(BookView),
    Delta(MarketDelta),
}

pub type Feed = BoxStream<'static, Result<FeedEvent, ClientError>>;

/// A connection, or several, to one node. Clones share them.
#[derive(Clone, Debug)]
pub enum Client {
    Http(HttpClient),
    Quic(QuicClient),
}

impl Client {
    /// Over HTTP. Connects with the first call.
    ///
    /// # Errors
    /// When the address or the CA is not usable.
    pub fn http(target: &Target) -> Result<Self, ClientError> {
        HttpClient::new(target).map(Self::Http)
    }

    /// Over QUIC. Connects with the first call. Needs a tokio runtime.
    ///
    /// # Errors
    /// When there is no QUIC address, token or CA, or no socket.
    pub fn quic(target: &Target) -> Result<Self, ClientError> {
        QuicClient::new(target).map(Self::Quic)
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the exchange refused, else what kept the answer away.
    pub async fn call(&self, request: Request) -> Result<Response, ClientError> {
        match self {
            Self::Http(client) => client.call(request).await,
            Self::Quic(client) => client.call(request).await,
        }
    }

    /// Follows a market. The stream ends with an error when the connection does; ask again then.
    ///
    /// # Errors
    /// When the market does not exist or the node cannot be reached.
    pub async fn feed(&self, market: MarketId) -> Result<Feed, ClientError> {
        match self {
            Self::Http(client) => client.feed(market, None).await,
            Self::Quic(client) => client.feed(market).await,
        }
    }

    /// A further token for an account; the operator's right.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub async fn issue_token(&self, account: AccountId) -> Result<String, ClientError> {
        match self {
            Self::Http(client) => client.issue_token(account).await,
            Self::Quic(client) => client.issue_token(account).await,
        }
    }
}

/// The answer was to another question.
pub(crate) fn unexpected(response: &Response) -> ClientError {
    ClientError::Protocol(format!("The node gave an answer that does not fit the question: {response:?}."))
}

#[cfg(test)]
mod tests;
