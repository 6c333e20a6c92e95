//! How QUIC is set between nodes, and why.
//!
//! quinn's defaults are made for browsers on the internet: a node that restarts would be talked
//! past for half a minute. What is decided here: who is let in, how soon a dead peer is noticed,
//! how much may be in flight, how large a packet may be.

use std::{sync::Arc, time::Duration};

use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::{
        CryptoError, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
};
use rustls::server::WebPkiClientVerifier;

use super::MeshError;
use crate::pki::{self, Credentials};

/// Raft, messages between cells, forwarded requests.
pub const ALPN_MESH: &[u8] = b"stakehold-mesh/1";
/// Snapshots: streams of one connection share congestion control, so bulk has its own.
pub const ALPN_BULK: &[u8] = b"stakehold-bulk/1";
/// Clients of the exchange.
pub const ALPN_CLIENT: &[u8] = b"stakehold-client/1";

/// A peer that says nothing for this long is gone.
const PEER_IDLE: Duration = Duration::from_millis(1_500);
/// The dialling side says something at least this often, and learns of a restart by the answer.
const PEER_KEEP_ALIVE: Duration = Duration::from_millis(200);
/// What the accepting side allows; the lower of both sides' counts, so this is for clients.
const CLIENT_IDLE: Duration = Duration::from_secs(30);
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Until the first measurement: decides how soon a lost first packet is sent again.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// In flight per stream and per connection between nodes: 100 MB/s at a round trip of 80 ms.
const STREAM_WINDOW: u32 = 8 << 20;
pub(super) const PEER_WINDOW: u32 = 32 << 20;
const PEER_SEND_WINDOW: u64 = 32 << 20;
/// A client gets less: there are many of them, and what they have in flight is our memory.
const CLIENT_WINDOW: u32 = 1 << 20;
pub(super) const CLIENT_SEND_WINDOW: u64 = 4 << 20;
const CLIENT_STREAMS: u32 = 1_024;
/// Packets grow to this where the path lets them (loopback, jumbo frames). Ten of them, which is
/// what one call to the kernel takes, are still less than its 64 KiB.
const MTU_MAX: u16 = 6_500;
const INITIAL_WINDOW: u64 = 512 << 10;
const CONNECTION_ID_BYTES: usize = 8;
/// Packets per acknowledgement, and how long one may wait: on a busy stream acknowledging every
/// other packet is a good part of all work.
const ACK_EVERY: u32 = 12;
const ACK_DELAY: Duration = Duration::from_millis(5);

fn transport(idle: Duration, keep_alive: Duration, receive: u32, send: u64) -> Arc<TransportConfig> {
    let mut cubic = CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY)).max_ack_delay(Some(ACK_DELAY));
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(idle).expect("seconds fit")))
        .keep_alive_interval(Some(keep_alive))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(receive))
        .send_window(send)
        .send_fairness(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(CLIENT_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(16))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(cubic))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks));
    Arc::new(config)
}

/// Lets in whoever has a certificate of this cluster, and clients without one; which of the two
/// it is shows in the ALPN, and [`super::accept`] refuses the wrong combinations.
pub(super) fn server(credentials: &Credentials) -> Result<quinn::ServerConfig, MeshError> {
    let credentials = credentials.clone();
    let verifier = WebPkiClientVerifier::builder_with_provider(credentials.roots, pki::provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| MeshError::Tls(e.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|b| b.with_client_cert_verifier(verifier).with_single_cert(credentials.chain, credentials.key))
        .map_err(|e| MeshError::Tls(e.to_string()))?;
    tls.alpn_protocols = [ALPN_MESH, ALPN_BULK, ALPN_CLIENT].map(<[u8]>::to_vec).into();
    // No resumption: identity is proven anew on every connection, and connections live long.
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|e| MeshError::Tls(e.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport(CLIENT_IDLE, CLIENT_KEEP_ALIVE, CLIENT_WINDOW, PEER_SEND_WINDOW));
    Ok(config)
}

/// For dialling peers with the given ALPN.
pub(super) fn dialler(credentials: &Credentials, alpn: &[u8]) -> Result<quinn::ClientConfig, MeshError> {
    let credentials = credentials.clone();
    let mut tls = rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|b| {
            b.with_root_certificates(credentials.roots).with_client_auth_cert(credentials.chain, credentials.key)
        })
        .map_err(|e| MeshError::Tls(e.to_string()))?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).map_err(|e| MeshError::Tls(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(PEER_IDLE, PEER_KEEP_ALIVE, PEER_WINDOW, PEER_SEND_WINDOW));
    Ok(config)
}

/// The endpoint's own secrets come from the node's key, so that the process that comes after this
/// one can tell peers, with the first packet, that their connection is gone.
pub(super) fn endpoint(credentials: &Credentials, life: u64) -> EndpointConfig {
    let key = credentials.key.secret_der();
    let mut config = EndpointConfig::new(Arc::new(ResetKey(blake3::derive_key("stakehold mesh reset key 1", key))));
    let mut lives = blake3::Hasher::new_derive_key("stakehold mesh connection id key 1");
    lives.update(key).update(&life.to_le_bytes());
    let secret = *lives.finalize().as_bytes();
    config.cid_generator(move || Box::new(ConnectionIds { secret, issued: 0 }));
    config.max_udp_payload_size(MTU_MAX).expect("above the minimum");
    config
}

/// Connection ids that no two lives of this node share. They are not checked when a packet comes
/// in (quinn's default does, with a key of its own per process): an id of an earlier life must be
/// answered by a reset, not by silence.
struct ConnectionIds {
    secret: [u8; 32],
    issued: u64,
}

impl quinn::ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        self.issued += 1;
        quinn::ConnectionId::new(
            &blake3::keyed_hash(&self.secret, &self.issued.to_le_bytes()).as_bytes()[..CONNECTION_ID_BYTES],
        )
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&blake3::keyed_hash(&self.0, data).as_bytes()[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut own = vec![0; signature.len().min(blake3::OUT_LEN)];
        self.sign(data, &mut own);
        if subtle::ConstantTimeEq::ct_eq(own.as_slice(), signature).into() { Ok(()) } else { Err(CryptoError) }
    }
}
