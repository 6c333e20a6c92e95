//! The native front end over real QUIC on loopback, spoken to in frames.

use std::{net::SocketAddr, sync::atomic::Ordering};

use quinn::crypto::rustls::QuicServerConfig;
use stakehold_actors::{
    api::{MarketDelta, Response},
    domain::types::{MarketStatus, Refusal},
};
use stakehold_raft::NodeId;

use super::{protocol::ALPN, *};
use crate::{
    client::tls,
    fake::{ADA, ADA_TOKEN, Fake, MARKET, OPERATOR_TOKEN},
    http::{limits::Limits, tests::Served},
    identity::ClusterId,
    pki::{self, Authority, Credentials},
};

const NOW: u64 = 1_700_000_000_000;

/// A QUIC front end beside an HTTP one.
pub(crate) struct Bridged {
    pub served: Served,
    pub address: SocketAddr,
    pub ca_pem: String,
    https: Arc<rustls::ServerConfig>,
    endpoint: quinn::Endpoint,
}

impl Drop for Bridged {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

impl Bridged {
    pub(crate) fn fake(&self) -> &Fake {
        &self.served.fake
    }

    /// What an HTTP server of the same node would use.
    pub(crate) fn https(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.https)
    }

    /// Ends every connection, as the crash of a node would.
    pub(crate) fn cut(&self) {
        self.endpoint.close(VarInt::from_u32(9), b"cut");
    }
}

pub(crate) async fn bridged(limits: Limits) -> Bridged {
    let served = crate::http::tests::served_with(limits).await;
    let ca = Authority::create(ClusterId(1), NOW).unwrap();
    let issued = ca.issue(NodeId(1), &[], NOW).unwrap();
    let own =
        Credentials::from_pem(ca.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(own.chain, own.key)
        .unwrap();
    let mut https = tls.clone();
    https.alpn_protocols = crate::http::server::alpn();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (sender, connections) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&served.api), connections));
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            if let Ok(connection) = incoming.await
                && sender.send(connection).await.is_err()
            {
                return;
            }
        }
    });
    Bridged { served, address, ca_pem: ca.cert_pem, https: Arc::new(https), endpoint }
}

/// A client that says exactly what a test wants.
struct Raw {
    _endpoint: quinn::Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    queue: std::collections::VecDeque<FromServer>,
}

impl Raw {
    async fn connect(bridged: &Bridged) -> Self {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let tls = tls::config(&bridged.ca_pem, &[ALPN]).unwrap();
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(bridged.address, "localhost").unwrap().await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        Self { _endpoint: endpoint, connection, send, recv, reader: FrameReader::default(), queue: Default::default() }
    }

    async fn hello(bridged: &Bridged, token: &str) -> Self {
        let mut raw = Self::connect(bridged).await;
        raw.say(&[FromClient::Hello { token: token.into() }]).await;
        raw
    }

    async fn say(&mut self, messages: &[FromClient]) {
        let mut writer = FrameWriter::default();
        messages.iter().for_each(|message| writer.push(message));
        self.send.write_chunk(writer.finish()).await.unwrap();
    }

    async fn hear(&mut self) -> FromServer {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return message;
            }
            while let Some(messages) = self.reader.next_frame().unwrap() {
                self.queue.extend::<Vec<FromServer>>(messages);
            }
            if self.queue.is_empty() {
                let chunk = self.recv.read_chunk(READ_MAX, true).await.unwrap().expect("the server ended it");
                self.reader.feed(&chunk.bytes);
            }
        }
    }
}

fn get(id: u64, account: u64) -> FromClient {
    FromClient::Call { id, request: Request::GetAccount { account: AccountId(account) } }
}

#[tokio::test]
async fn calls_are_answered_out_of_order_and_by_id() {
    let bridged = bridged(Limits::default()).await;
    let mut raw = Raw::hello(&bridged, ADA_TOKEN).await;
    assert_eq!(raw.hear().await, FromServer::Welcome { principal: Principal::Account(ADA) });
    bridged.fake().hold(true);
    raw.say(&[get(1, 7)]).await;
    while bridged.fake().asked() == 0 {
        tokio::task::yield_now().await;
    }
    raw.say(&[get(2, 8), get(3, 8)]).await;
    for id in [2, 3] {
        assert_eq!(raw.hear().await, FromServer::Answer { id, outcome: Err(ApiError::Forbidden) });
    }
    bridged.fake().hold(false);
    let FromServer::Answer { id: 1, outcome: Ok(Response::Account(view)) } = raw.hear().await else { panic!() };
    assert_eq!(view.account, ADA);
    assert_eq!(bridged.fake().asked(), 1, "what is another's never reached the backend");
}

#[tokio::test]
async fn a_wrong_token_gets_a_sentence_and_the_end() {
    let bridged = bridged(Limits::default()).await;
    let mut raw = Raw::hello(&bridged, "sh_op_nonsense").await;
    let FromServer::Goodbye { sentence } = raw.hear().await else { panic!() };
    assert!(sentence.contains("not valid"));
    drop(raw.send);
    assert!(matches!(raw.connection.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection() {
    let bridged = bridged(Limits::default()).await;
    let mut rude = Raw::connect(&bridged).await;
    rude.say(&[get(1, 7)]).await;
    let quinn::ConnectionError::ApplicationClosed(close) = rude.connection.closed().await else { panic!() };
    assert_eq!(&close.reason[..], b"Say hello first.");
    let mut raw = Raw::hello(&bridged, ADA_TOKEN).await;
    raw.hear().await;
    raw.send.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = raw.connection.closed().await else { panic!() };
    assert!(close.reason.starts_with(b"A frame of"), "{close:?}");
    assert_eq!(bridged.fake().asked(), 0);
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_here_as_over_http() {
    let bridged = bridged(Limits::default()).await;
    let mut raw = Raw::hello(&bridged, OPERATOR_TOKEN).await;
    raw.hear().await;
    for (account, name, sentence) in [(0, "Bob", "`account` is between 1 and"), (8, "B\n", "`name` has a control")] {
        let request = Request::CreateAccount { account: AccountId(account), name: name.into() };
        raw.say(&[FromClient::Call { id: 1, request }]).await;
        let FromServer::Answer { outcome: Err(ApiError::Invalid(said)), .. } = raw.hear().await else { panic!() };
        assert!(said.starts_with(sentence), "{said}");
    }
    assert_eq!(bridged.fake().asked(), 0);
}

#[tokio::test]
async fn too_much_on_one_connection_is_a_quick_busy() {
    let bridged = bridged(Limits { per_connection_max: 2, ..Limits::default() }).await;
    bridged.fake().hold(true);
    let mut raw = Raw::hello(&bridged, OPERATOR_TOKEN).await;
    raw.hear().await;
    raw.say(&[get(1, 7), get(2, 7), get(3, 7)]).await;
    let FromServer::Answer { id: 3, outcome: Err(ApiError::Busy { .. }) } = raw.hear().await else { panic!() };
    bridged.fake().hold(false);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let FromServer::Answer { id, outcome: Ok(_) } = raw.hear().await else { panic!() };
        ids.push(id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn a_market_is_followed_and_let_go() {
    let bridged = bridged(Limits::default()).await;
    let mut raw = Raw::hello(&bridged, ADA_TOKEN).await;
    raw.hear().await;
    let unknown = FromClient::Follow { id: 4, market: MarketId(5) };
    raw.say(&[FromClient::Follow { id: 3, market: MARKET }, unknown]).await;
    let (mut image, mut ended) = (false, false);
    for _ in 0..2 {
        match raw.hear().await {
            FromServer::Image { id: 3, book } => image = book.sequence == 10,
            FromServer::Ended { id: 4, error } => ended = error == ApiError::Refused(Refusal::UnknownMarket),
            other => panic!("{other:?}"),
        }
    }
    assert!(image && ended);
    let delta = |sequence| MarketDelta {
        market: MARKET,
        sequence,
        at: 0,
        status: MarketStatus::Suspended,
        in_play: false,
        levels: vec![],
        trades: vec![],
    };
    bridged.fake().push(delta(11));
    assert_eq!(raw.hear().await, FromServer::Delta { id: 3, delta: delta(11) });
    raw.say(&[FromClient::Follow { id: 3, market: MARKET }]).await;
    assert!(matches!(raw.hear().await, FromServer::Image { id: 3, book } if book.sequence == 11));
    raw.say(&[FromClient::Unfollow { id: 3 }, get(9, 7)]).await;
    assert!(matches!(raw.hear().await, FromServer::Answer { id: 9, .. }));
    while bridged.served.api.feeds.followed() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    let bridged = bridged(Limits::default()).await;
    bridged.fake().hold(true);
    let mut raw = Raw::hello(&bridged, ADA_TOKEN).await;
    raw.hear().await;
    raw.say(&[get(1, 7)]).await;
    while bridged.fake().asked() == 0 {
        tokio::task::yield_now().await;
    }
    bridged.served.stop.cancel();
    bridged.fake().hold(false);
    assert!(matches!(raw.hear().await, FromServer::Answer { id: 1, outcome: Ok(_) }));
    assert!(raw.recv.read_chunk(READ_MAX, true).await.unwrap().is_none());
    assert_eq!(bridged.served.api.in_flight.now(), 0);
    assert!(bridged.fake().ready.load(Ordering::Relaxed));
}
