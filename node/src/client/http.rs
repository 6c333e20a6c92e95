//! The HTTP client: HTTP/1.1 over kept connections, one call at a time on each, as many as there
//! are calls at once. No pool thread, no queue.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use stakehold_actors::{
    api::{Request, Response},
    domain::types::{AccountId, MarketId},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{ClientError, Feed, FeedEvent, Target, rest, tls};
use crate::http::json::{Empty, accounts, books};

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Above everything a node takes to answer, a bet delay included.
const ANSWER_TIME: Duration = Duration::from_secs(95);

/// A feed has heartbeats every 15 s; without any the node is gone or frozen.
const SILENCE_MAX: Duration = Duration::from_secs(50);

/// See the module. Clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

type Sender = SendRequest<Full<Bytes>>;

struct Shared {
    /// `host:port`.
    address: String,
    host: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<Sender>>,
}

impl HttpClient {
    /// # Errors
    /// When the URL or the CA is not usable.
    pub fn new(target: &Target) -> Result<Self, ClientError> {
        let setup = |what: &str| ClientError::Setup(format!("{:?} is not usable: {what}.", target.http));
        let (scheme, authority) = target.http.split_once("://").ok_or_else(|| setup("it has no scheme"))?;
        let authority = authority.trim_end_matches('/');
        let uri: hyper::http::uri::Authority = authority.parse().map_err(|_| setup("it is no address"))?;
        let name = uri.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match scheme {
            "http" => (None, 80),
            "https" => {
                let ca = target.ca_pem.as_deref().ok_or_else(|| {
                    ClientError::Setup(
                        "For https the cluster's CA certificate is needed; name its file in STAKEHOLD_CA.".into(),
                    )
                })?;
                let server = ServerName::try_from(name).map_err(|_| setup("its host is no name"))?;
                (Some((TlsConnector::from(Arc::new(tls::config(ca, &[b"http/1.1"])?)), server)), 443)
            }
            _ => return Err(setup("it is neither http nor https")),
        };
        let address = if uri.port().is_some() { authority.to_owned() } else { format!("{authority}:{port}") };
        let host = HeaderValue::from_str(authority).map_err(|_| setup("it is no address"))?;
        let shared = Arc::new(Shared { address, host, tls, idle: Mutex::default() });
        Ok(Self { shared, authorization: None }.with_token(target.token.as_deref()))
    }

    /// The same connections, as somebody else.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        let authorization = token.and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { shared: Arc::clone(&self.shared), authorization }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the exchange refused, else what kept the answer away.
    pub async fn call(&self, request: Request) -> Result<Response, ClientError> {
        if let Request::CreateAccount { account, name } = request {
            self.create_account(Some(account), name).await?;
            return Box::pin(self.call(Request::GetAccount { account })).await;
        }
        let rest::Outgoing { method, path, body, decode } = rest::outgoing(request);
        decode(&self.exchange(method, &path, body.into()).await?)
    }

    /// Creates an account, with a number of the server's choice if none is given, and gives its token.
    ///
    /// # Errors
    /// As for [`HttpClient::call`].
    pub async fn create_account(
        &self,
        account: Option<AccountId>,
        name: String,
    ) -> Result<accounts::CreatedAccount, ClientError> {
        let body = serde_json::to_vec(&accounts::CreateAccount { account, name }).expect("plain data");
        rest::read(&self.exchange(Method::POST, "/v1/accounts", body.into()).await?)
    }

    /// # Errors
    /// As for [`HttpClient::call`].
    pub async fn issue_token(&self, account: AccountId) -> Result<String, ClientError> {
        let body = serde_json::to_vec(&Empty {}).expect("plain data");
        let path = format!("/v1/accounts/{account}/tokens");
        let issued: accounts::IssuedToken = rest::read(&self.exchange(Method::POST, &path, body.into()).await?)?;
        Ok(issued.token)
    }

    /// Any request of the API by hand: the body of a successful answer, or what went wrong.
    ///
    /// # Errors
    /// As for [`HttpClient::call`].
    pub async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let whole = async {
            let (response, sender) = self.send(method, path, body, None).await?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| self.lost(&error))?.to_bytes();
            self.keep(sender);
            if status.is_success() { Ok(body) } else { Err(rest::failure(status.as_u16(), &body)) }
        };
        let late = Err(ClientError::TimedOut { seconds: ANSWER_TIME.as_secs() });
        tokio::time::timeout(ANSWER_TIME, whole).await.unwrap_or(late)
    }

    /// Follows a market, from after the change `last` if the node still knows it.
    ///
    /// # Errors
    /// When the market does not exist or the node cannot be reached.
    pub async fn feed(&self, market: MarketId, last: Option<u64>) -> Result<Feed, ClientError> {
        let path = format!("/v1/markets/{market}/feed");
        let (response, sender) = self.send(Method::GET, &path, Bytes::new(), last).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await.map_err(|error| self.lost(&error))?.to_bytes();
            return Err(rest::failure(status.as_u16(), &body));
        }
        let state =
            Some(Events { body: response.into_body(), text: BytesMut::new(), client: self.clone(), _sender: sender });
        let events = stream::unfold(state, |state| async move {
            let mut events = state?;
            match events.next().await {
                Ok(event) => Some((Ok(event), Some(events))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(events.boxed())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        last_event: Option<u64>,
    ) -> Result<(hyper::Response<Incoming>, Sender), ClientError> {
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            path.parse().map_err(|_| ClientError::Setup(format!("{path:?} is not a path that can be asked for.")))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.shared.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(last) = last_event {
            headers.insert("last-event-id", HeaderValue::from(last));
        }
        loop {
            let kept = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    // It never left, and the connection was an old one: try another.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(self.lost(error.error())),
                },
            }
        }
    }

    fn keep(&self, sender: Sender) {
        if !sender.is_closed() {
            self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let connecting = async {
            let stream = TcpStream::connect(&self.shared.address).await.map_err(|error| self.unreachable(&error))?;
            stream.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
            match &self.shared.tls {
                None => self.shake(stream).await,
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await;
                    self.shake(stream.map_err(|error| self.unreachable(&error))?).await
                }
            }
        };
        let late = Err(self.unreachable(&"it does not answer"));
        tokio::time::timeout(CONNECT_TIME, connecting).await.unwrap_or(late)
    }

    async fn shake<S>(&self, stream: S) -> Result<Sender, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        // Ends when the sender is dropped; what goes wrong shows at the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { address: self.shared.address.clone(), reason: reason.to_string() }
    }

    fn lost(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Lost { address: self.shared.address.clone(), reason: reason.to_string() }
    }
}

/// Reads server-sent events.
struct Events {
    body: Incoming,
    text: BytesMut,
    client: HttpClient,
    _sender: Sender,
}

impl Events {
    async fn next(&mut self) -> Result<FeedEvent, ClientError> {
        let mut searched = 0;
        loop {
            let found = self.text[searched..].windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = found {
                let event = self.text.split_to(searched + end + 2);
                searched = 0;
                if let Some(event) = parse(&event)? {
                    return Ok(event);
                }
                continue;
            }
            searched = self.text.len().saturating_sub(1);
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            match frame.map_err(|_| self.client.lost(&"nothing came for too long"))? {
                Some(Ok(frame)) => self.text.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(self.client.lost(&error)),
                None => return Err(self.client.lost(&"the node ended the feed")),
            }
        }
    }
}

/// One event; nothing for comments and what is not known.
fn parse(event: &[u8]) -> Result<Option<FeedEvent>, ClientError> {
    let field = |name: &[u8]| event.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name));
    let (Some(kind), Some(data)) = (field(b"event: "), field(b"data: ")) else { return Ok(None) };
    Ok(match kind {
        b"image" => Some(FeedEvent::Image(rest::read::<books::Book>(data)?.into())),
        b"delta" => Some(FeedEvent::Delta(rest::read::<books::Delta>(data)?.into())),
        _ => None,
    })
}
