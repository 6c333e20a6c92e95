//! The native client: one QUIC connection, many calls in flight. A writer gathers whatever calls
//! wait into one frame; a reader hands each answer to its call. A lost connection fails what was in
//! flight and is made anew with the next call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use quinn::{RecvStream, SendStream, VarInt};
use stakehold_actors::{
    api::{Request, Response},
    domain::types::{AccountId, MarketId},
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{ClientError, Feed, FeedEvent, Target, tls};
use crate::bridge::protocol::{ALPN, FrameReader, FrameWriter, FromClient, FromServer};

/// As many calls are in flight; more wait. The server's own bound is the same.
const IN_FLIGHT_MAX: usize = 1_024;
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(95);
/// Changes of one market that may wait for a slow reader before it gets an image instead.
const FEED_QUEUE: usize = 4_096;
const READ_MAX: usize = 64 << 10;

/// See the module. Clones share the connection.
#[derive(Clone)]
pub struct QuicClient(Arc<Shared>);

impl std::fmt::Debug for QuicClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicClient").field("address", &self.0.address).finish_non_exhaustive()
    }
}

struct Shared {
    address: String,
    token: String,
    endpoint: quinn::Endpoint,
    live: tokio::sync::Mutex<Option<Arc<Live>>>,
    permits: Semaphore,
    next_id: AtomicU64,
}

/// One connection while it lasts.
struct Live {
    connection: quinn::Connection,
    outgoing: mpsc::UnboundedSender<FromClient>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: BTreeMap<u64, oneshot::Sender<FromServer>>,
    feeds: BTreeMap<u64, Follower>,
    /// Set once, when the connection is over.
    ended: Option<ClientError>,
}

struct Follower {
    events: mpsc::Sender<FromServer>,
    /// Changes were dropped because the queue was full; only an image helps.
    lagging: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QuicClient {
    /// # Errors
    /// When there is no address, token or CA, or no socket.
    pub fn new(target: &Target) -> Result<Self, ClientError> {
        let missing = |what: &str| ClientError::Setup(format!("The native client needs {what}."));
        let address = target.quic.clone().ok_or_else(|| missing("the node's QUIC address"))?;
        let token = target.token.clone().ok_or_else(|| missing("a token; set STAKEHOLD_TOKEN"))?;
        let ca = target.ca_pem.as_deref().ok_or_else(|| missing("the cluster's CA; name its file in STAKEHOLD_CA"))?;
        let setup = |error: String| ClientError::Setup(format!("QUIC cannot be set up: {error}."));
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls::config(ca, &[ALPN])?);
        let mut config = quinn::ClientConfig::new(Arc::new(crypto.map_err(|error| setup(error.to_string()))?));
        let mut transport = quinn::TransportConfig::default();
        transport
            .keep_alive_interval(Some(Duration::from_secs(1)))
            .max_idle_timeout(Some(VarInt::from_u32(5_000).into()))
            .initial_rtt(Duration::from_millis(20));
        config.transport_config(Arc::new(transport));
        let local = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        let local_v4 = std::net::SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = quinn::Endpoint::client(local).or_else(|_| quinn::Endpoint::client(local_v4));
        let mut endpoint = endpoint.map_err(|error| setup(error.to_string()))?;
        endpoint.set_default_client_config(config);
        Ok(Self(Arc::new(Shared {
            address,
            token,
            endpoint,
            live: tokio::sync::Mutex::new(None),
            permits: Semaphore::new(IN_FLIGHT_MAX),
            next_id: AtomicU64::new(1),
        })))
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the exchange refused, else what kept the answer away.
    pub async fn call(&self, request: Request) -> Result<Response, ClientError> {
        match self.ask(|id| FromClient::Call { id, request }).await? {
            FromServer::Answer { outcome, .. } => outcome.map_err(ClientError::Api),
            _ => Err(odd()),
        }
    }

    /// # Errors
    /// As for [`QuicClient::call`].
    pub async fn issue_token(&self, account: AccountId) -> Result<String, ClientError> {
        match self.ask(|id| FromClient::IssueToken { id, account }).await? {
            FromServer::Token { outcome, .. } => outcome.map_err(ClientError::Api),
            _ => Err(odd()),
        }
    }

    /// Follows a market. A reader that falls far behind gets a new image.
    ///
    /// # Errors
    /// When the market does not exist or the node cannot be reached.
    pub async fn feed(&self, market: MarketId) -> Result<Feed, ClientError> {
        let live = self.live().await?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, mut events) = mpsc::channel(FEED_QUEUE);
        {
            let mut waiting = lock(&live.waiting);
            if let Some(error) = &waiting.ended {
                return Err(error.clone());
            }
            waiting.feeds.insert(id, Follower { events: sender, lagging: false });
        }
        let follow = live.outgoing.send(FromClient::Follow { id, market });
        let guard = Following { live, id, market };
        let first = match (follow, events.recv().await) {
            (Ok(()), Some(first)) => event(first)?,
            _ => return Err(guard.ended()),
        };
        let rest = stream::unfold(Some((events, guard)), |state| async move {
            let (mut events, guard) = state?;
            if events.is_empty() {
                guard.ask_again_if_lagging();
            }
            match events.recv().await.map(event) {
                Some(Ok(next)) => Some((Ok(next), Some((events, guard)))),
                Some(Err(error)) => Some((Err(error), None)),
                None => Some((Err(guard.ended()), None)),
            }
        });
        Ok(stream::once(std::future::ready(Ok(first))).chain(rest).boxed())
    }

    async fn ask(&self, message: impl FnOnce(u64) -> FromClient) -> Result<FromServer, ClientError> {
        let whole = async {
            let _permit = self.0.permits.acquire().await.map_err(|_| odd())?;
            let live = self.live().await?;
            let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
            let (sender, answer) = oneshot::channel();
            {
                let mut waiting = lock(&live.waiting);
                if let Some(error) = &waiting.ended {
                    return Err(error.clone());
                }
                waiting.calls.insert(id, sender);
            }
            // A caller that goes away takes its place in the table along.
            let _asked = Asked { live: &live, id };
            let _ = live.outgoing.send(message(id));
            answer.await.map_err(|_| live.ended())
        };
        let late = Err(ClientError::TimedOut { seconds: ANSWER_TIME.as_secs() });
        tokio::time::timeout(ANSWER_TIME, whole).await.unwrap_or(late)
    }

    async fn live(&self) -> Result<Arc<Live>, ClientError> {
        let mut current = self.0.live.lock().await;
        if let Some(live) = current.as_ref().filter(|live| lock(&live.waiting).ended.is_none()) {
            return Ok(Arc::clone(live));
        }
        let late = Err(self.unreachable("it does not answer"));
        let live = tokio::time::timeout(CONNECT_TIME, self.connect()).await.unwrap_or(late)?;
        *current = Some(Arc::clone(&live));
        Ok(live)
    }

    async fn connect(&self) -> Result<Arc<Live>, ClientError> {
        let shared = &self.0;
        let host = shared.address.rsplit_once(':').map_or(shared.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found =
            tokio::net::lookup_host(&shared.address).await.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut last = self.unreachable("the name has no address");
        for address in found {
            let connecting = match shared.endpoint.connect(dual(address, &shared.endpoint), host) {
                Ok(connecting) => connecting,
                Err(error) => {
                    last = self.unreachable(&error.to_string());
                    continue;
                }
            };
            match connecting.await {
                Ok(connection) => return self.greet(connection).await,
                Err(error) => last = self.unreachable(&error.to_string()),
            }
        }
        Err(last)
    }

    async fn greet(&self, connection: quinn::Connection) -> Result<Arc<Live>, ClientError> {
        let lost = |error: String| ClientError::Lost { address: self.0.address.clone(), reason: error };
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
        let mut writer = FrameWriter::default();
        writer.push(&FromClient::Hello { token: self.0.token.clone() });
        send.write_chunk(writer.finish()).await.map_err(|error| lost(error.to_string()))?;
        let mut reader = FrameReader::default();
        let mut messages = read(&mut recv, &mut reader).await.map_err(lost)?.into_iter();
        match messages.next() {
            Some(FromServer::Welcome { .. }) => {}
            Some(FromServer::Goodbye { sentence }) => return Err(ClientError::Unauthorized(sentence)),
            _ => return Err(odd()),
        }
        let (outgoing, queue) = mpsc::unbounded_channel();
        let live = Arc::new(Live { connection, outgoing, waiting: Mutex::default() });
        tokio::spawn(write(send, queue));
        tokio::spawn(receive(Arc::downgrade(&live), recv, reader, self.0.address.clone()));
        Ok(live)
    }

    fn unreachable(&self, reason: &str) -> ClientError {
        ClientError::Unreachable { address: self.0.address.clone(), reason: reason.into() }
    }
}

/// A socket of the newer family reaches the older one under mapped addresses.
fn dual(address: std::net::SocketAddr, endpoint: &quinn::Endpoint) -> std::net::SocketAddr {
    match (address, endpoint.local_addr()) {
        (std::net::SocketAddr::V4(v4), Ok(std::net::SocketAddr::V6(_))) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        _ => address,
    }
}

fn odd() -> ClientError {
    ClientError::Protocol("The node's answer does not fit the question; is it another version?".into())
}

fn event(message: FromServer) -> Result<FeedEvent, ClientError> {
    match message {
        FromServer::Image { book, .. } => Ok(FeedEvent::Image(book)),
        FromServer::Delta { delta, .. } => Ok(FeedEvent::Delta(delta)),
        FromServer::Ended { error, .. } => Err(ClientError::Api(error)),
        _ => Err(odd()),
    }
}

struct Asked<'a> {
    live: &'a Live,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.live.waiting).calls.remove(&self.id);
    }
}

/// Stops following when the stream is dropped.
struct Following {
    live: Arc<Live>,
    id: u64,
    market: MarketId,
}

impl Following {
    fn ended(&self) -> ClientError {
        self.live.ended()
    }

    fn ask_again_if_lagging(&self) {
        let waiting = lock(&self.live.waiting);
        if waiting.feeds.get(&self.id).is_some_and(|follower| follower.lagging) {
            let _ = self.live.outgoing.send(FromClient::Follow { id: self.id, market: self.market });
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        lock(&self.live.waiting).feeds.remove(&self.id);
        let _ = self.live.outgoing.send(FromClient::Unfollow { id: self.id });
    }
}

impl Waiting {
    fn deliver(&mut self, message: FromServer) {
        match &message {
            FromServer::Answer { id, .. } | FromServer::Token { id, .. } => {
                if let Some(call) = self.calls.remove(id) {
                    let _ = call.send(message);
                }
            }
            FromServer::Image { id, .. } => {
                if let Some(follower) = self.feeds.get_mut(id) {
                    follower.lagging = follower.events.try_send(message).is_err();
                }
            }
            FromServer::Delta { id, .. } => {
                if let Some(follower) = self.feeds.get_mut(id).filter(|follower| !follower.lagging) {
                    follower.lagging = follower.events.try_send(message).is_err();
                }
            }
            FromServer::Ended { id, .. } => {
                // Also when there is no room for the message: without a sender the reader sees the end.
                if let Some(follower) = self.feeds.remove(id) {
                    let _ = follower.events.try_send(message);
                }
            }
            FromServer::Welcome { .. } | FromServer::Goodbye { .. } => {}
        }
    }
}

impl Live {
    fn ended(&self) -> ClientError {
        let address = self.connection.remote_address().to_string();
        let reason = "the node ended this feed".to_owned();
        lock(&self.waiting).ended.clone().unwrap_or(ClientError::Lost { address, reason })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"done");
    }
}

/// Gathers what waits into frames.
async fn write(mut send: SendStream, mut queue: mpsc::UnboundedReceiver<FromClient>) {
    let mut writer = FrameWriter::default();
    while let Some(message) = queue.recv().await {
        writer.push(&message);
        while !writer.is_full() {
            let Ok(message) = queue.try_recv() else { break };
            writer.push(&message);
        }
        if send.write_chunk(writer.finish()).await.is_err() {
            return;
        }
    }
}

async fn read(recv: &mut RecvStream, reader: &mut FrameReader) -> Result<Vec<FromServer>, String> {
    loop {
        if let Some(messages) = reader.next_frame().map_err(|error| error.to_string())? {
            return Ok(messages);
        }
        match recv.read_chunk(READ_MAX, true).await {
            Ok(Some(chunk)) => reader.feed(&chunk.bytes),
            Ok(None) => return Err("the node ended it".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn receive(live: std::sync::Weak<Live>, mut recv: RecvStream, mut reader: FrameReader, address: String) {
    let reason = loop {
        let messages = match read(&mut recv, &mut reader).await {
            Ok(messages) => messages,
            Err(reason) => break reason,
        };
        let Some(live) = live.upgrade() else { return };
        let mut waiting = lock(&live.waiting);
        messages.into_iter().for_each(|message| waiting.deliver(message));
    };
    if let Some(live) = live.upgrade() {
        let mut waiting = lock(&live.waiting);
        waiting.ended = Some(ClientError::Lost { address, reason });
        waiting.calls.clear();
        waiting.feeds.clear();
    }
}
