//! The mesh: framed messages between nodes over QUIC with mutual TLS, and the door for clients.
//!
//! One UDP port serves both. Of two nodes the one with the lower id dials, so that there is one
//! connection per pair (and one for bulk), whose packets carry data and acknowledgements of both
//! directions. The dialling side's keep-alive finds a dead peer; a restarted dialler simply dials
//! again, and its new connection takes the old one's place; a restarted acceptor answers the next
//! packet with a reset, because its reset key comes from the node's key.
//!
//! Identity is the certificate: a peer is whoever its certificate of this cluster's CA names.
//! Streams: [`lane`]; queues: [`queue`]; wire: [`frames`]; settings with reasons: [`tls`].
//! What must never live here: what a frame means.

mod accept;
mod dial;
mod frames;
mod lane;
mod queue;
mod tls;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quinn::{AsyncUdpSocket, Connection, Endpoint, Runtime, TokioRuntime};
use stakehold_raft::{
    NodeId,
    seam::{Class, Inbound, Transport},
};
use tokio::sync::mpsc;

use self::lane::{Lane, LaneKind};
pub use self::{
    lane::CloseCode,
    tls::{ALPN_BULK, ALPN_CLIENT, ALPN_MESH},
};
use crate::{
    identity::ClusterId,
    pki::{Credentials, PkiError},
};

/// Client connections that wait to be taken over; beyond it new ones are turned away.
const CLIENTS_WAITING: usize = 256;
/// Asked of the kernel, which gives what it allows.
const SOCKET_BUFFER: usize = 4 << 20;
/// How long closing may take to reach the peers.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a node has no mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("The UDP address {address} is taken; stop the process that uses it or set `listen.quic` to another.")]
    Taken { address: SocketAddr },
    #[error("The UDP address {address} cannot be used ({error}); set `listen.quic` to an address of this machine.")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("TLS cannot be set up: {0}.")]
    Tls(String),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// What bounds the mesh's memory. Bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub frame_bytes: usize,
    /// Per peer.
    pub raft_queue_bytes: usize,
    /// Per peer.
    pub request_queue_bytes: usize,
    /// Per peer.
    pub bulk_queue_bytes: usize,
}

impl Limits {
    fn queue_bytes(&self, class: Class) -> usize {
        match class {
            Class::Raft => self.raft_queue_bytes,
            Class::Request => self.request_queue_bytes,
            Class::Bulk => self.bulk_queue_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 16 << 20,
            raft_queue_bytes: 64 << 20,
            request_queue_bytes: 16 << 20,
            bulk_queue_bytes: 32 << 20,
        }
    }
}

/// Who this node is in the mesh.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// When this process started, in milliseconds since the Unix epoch: of two processes that
    /// claim to be the same node, the newer one is believed.
    pub life: u64,
    pub listen: SocketAddr,
    pub limits: Limits,
}

/// A client's connection that finished its handshake: the gateway speaks on its streams.
pub type ClientConnection = Connection;

/// The node's endpoint. Bind it, build what receives, then [`start`](Mesh::start).
pub struct Mesh {
    config: MeshConfig,
    credentials: Credentials,
    endpoint: Endpoint,
    lanes: OnceLock<BTreeMap<(NodeId, LaneKind), Arc<Lane>>>,
    clients: Mutex<Option<mpsc::Sender<ClientConnection>>>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Takes the UDP port. Nobody is let in or dialled before [`start`](Self::start). Must be
    /// called on a tokio runtime; `now_ms` is the wall clock.
    ///
    /// # Errors
    /// When the port is not to be had, or the certificate is not this node's.
    pub fn bind(config: MeshConfig, credentials: Credentials, now_ms: u64) -> Result<Arc<Self>, MeshError> {
        // A certificate of another node is worth saying first, whoever has the port.
        credentials.check(config.node, config.cluster, now_ms)?;
        let address = config.listen;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => MeshError::Taken { address },
            _ => MeshError::Bind { address, error },
        };
        let socket = UdpSocket::bind(address).map_err(failed)?;
        // Best effort: a kernel that gives less costs retransmissions, not correctness.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        Self::on(socket, config, credentials)
    }

    /// On a socket that is there already. As [`bind`](Self::bind) otherwise.
    ///
    /// # Errors
    /// When the certificate is not this node's, or the socket cannot be used.
    pub fn over(
        socket: Arc<dyn AsyncUdpSocket>,
        config: MeshConfig,
        credentials: Credentials,
        now_ms: u64,
    ) -> Result<Arc<Self>, MeshError> {
        credentials.check(config.node, config.cluster, now_ms)?;
        Self::on(socket, config, credentials)
    }

    fn on(
        socket: Arc<dyn AsyncUdpSocket>,
        config: MeshConfig,
        credentials: Credentials,
    ) -> Result<Arc<Self>, MeshError> {
        let server = tls::server(&credentials)?;
        let endpoint = tls::endpoint(&credentials, config.life);
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, Arc::new(TokioRuntime))
            .map_err(|error| MeshError::Bind { address: config.listen, error })?;
        let (lanes, clients) = (OnceLock::new(), Mutex::new(None));
        Ok(Arc::new(Self { config, credentials, endpoint, lanes, clients }))
    }

    /// The address that was taken; tells the port when 0 was asked for.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Lets peers in and dials those with higher ids. `peers` are `host:port` each, without this
    /// node; host names are looked up anew for every attempt.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    ///
    /// # Panics
    /// When called twice.
    pub fn start(
        self: &Arc<Self>,
        peers: BTreeMap<NodeId, String>,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(), MeshError> {
        let mut lanes = BTreeMap::new();
        for peer in peers.keys() {
            for kind in [LaneKind::Main, LaneKind::Bulk] {
                lanes.insert((*peer, kind), Arc::new(Lane::new(*peer, kind, &self.config.limits)));
            }
        }
        let main = tls::dialler(&self.credentials, ALPN_MESH)?;
        let bulk = tls::dialler(&self.credentials, ALPN_BULK)?;
        for lane in lanes.values().filter(|l| l.peer > self.config.node) {
            let dialler = dial::Dialler {
                endpoint: self.endpoint.clone(),
                tls: if lane.kind == LaneKind::Main { main.clone() } else { bulk.clone() },
                name: crate::pki::node_name(lane.peer, self.config.cluster),
                address: peers[&lane.peer].clone(),
                life: self.config.life,
                lane: lane.clone(),
                inbound: inbound.clone(),
            };
            tokio::spawn(dialler.run());
        }
        assert!(self.lanes.set(lanes).is_ok(), "a mesh is started once");
        tokio::spawn(accept::run(self.clone(), inbound));
        Ok(())
    }

    /// Where connections of clients arrive from now on, ready to open streams on. When nobody
    /// takes them, clients are turned away.
    pub fn accept_clients(&self) -> mpsc::Receiver<ClientConnection> {
        let (sender, receiver) = mpsc::channel(CLIENTS_WAITING);
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Bytes queued for a peer, all classes together: for metrics.
    pub fn queued_bytes(&self, peer: NodeId) -> usize {
        [LaneKind::Main, LaneKind::Bulk].iter().filter_map(|kind| self.lane(peer, *kind)).map(|l| l.held()).sum()
    }

    /// Takes leave of everyone; nothing is sent or received afterwards.
    pub async fn close(&self) {
        self.endpoint.close(CloseCode::Draining.code(), b"the node is stopping");
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }

    fn lane(&self, peer: NodeId, kind: LaneKind) -> Option<&Arc<Lane>> {
        self.lanes.get()?.get(&(peer, kind))
    }
}

impl Transport for Mesh {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        self.lane(to, LaneKind::of(class)).is_some_and(|lane| lane.push(class, frame))
    }

    fn connected(&self, to: NodeId) -> bool {
        self.lane(to, LaneKind::Main).is_some_and(|lane| lane.is_up())
    }

    fn largest(&self) -> usize {
        let limits = &self.config.limits;
        let queues = Class::ALL.map(|class| limits.queue_bytes(class).saturating_sub(queue::LENGTH_BYTES));
        queues.into_iter().fold(limits.frame_bytes, usize::min)
    }
}

#[cfg(test)]
mod tests;
