//! One node, put together: data directory, mesh, host, exchange, front ends. `serve` runs one in a
//! process, `dev` three.
//!
//! What must never live here: rules of any kind. Order matters, though: whatever can refuse to
//! start does so before anything of the cluster's is touched, and the way down is the way up
//! reversed, so that nothing is answered that is not on disk.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use stakehold_actors::{
    domain::cell::Cell,
    shell::{Exchange, Limits as ExchangeLimits},
};
use stakehold_raft::{CellId, HostConfig, disk::RealDisk, host::HostError, placement::Member, seam::World};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge,
    config::Config,
    files,
    gateway::Gateway,
    http::{self, answer::Api},
    identity::{DataDir, IdentityError, Standing, founding::Founding, founding::FoundingError},
    kernel::{Kernel, Record},
    mesh::{Mesh, MeshConfig, MeshError},
    pki::{self, Credentials, PkiError},
    world::{NodeFate, SystemClock, SystemEntropy},
};

/// Why a node did not start: one sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("{path} cannot be read ({error}); `stakehold init` writes it.")]
    File { path: String, error: String },
    #[error("The HTTP address {address} is taken; stop the process that uses it or set `listen.http` to another.")]
    HttpTaken { address: SocketAddr },
    #[error("The HTTP address {address} cannot be used ({error}); set `listen.http` to an address of this machine.")]
    HttpBind { address: SocketAddr, error: std::io::Error },
    #[error("Replication cannot start: {0}.")]
    Host(#[from] HostError),
    #[error("TLS for HTTP cannot be set up: {0}.")]
    Tls(String),
}

/// A running node.
pub struct Node {
    config: Config,
    kernel: Kernel,
    mesh: Arc<Mesh>,
    http: SocketAddr,
    stop: CancellationToken,
    fate: mpsc::Receiver<String>,
    front: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("node", &self.config.node).field("http", &self.http).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts everything on the current runtime. Returns when the node answers; it may still be
    /// waiting for its peers ([`Exchange::ready`]).
    ///
    /// # Errors
    /// One sentence; nothing of the cluster's was changed.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let founding = Founding::load(&config.founding, config.node)?;
        let credentials =
            Credentials::from_pem(&read(&config.tls.ca)?, &read(&config.tls.cert)?, &read(&config.tls.key)?)?;
        let clock = Arc::new(SystemClock::default());
        let now = stakehold_raft::seam::Clock::now_ms(&*clock);
        let listener = listen(config.listen_http).await.map_err(|error| blame(&config, error))?;
        let http =
            listener.local_addr().map_err(|error| StartError::HttpBind { address: config.listen_http, error })?;
        let mesh_config = MeshConfig {
            node: config.node,
            cluster: founding.cluster,
            life: now,
            listen: config.listen_quic,
            limits: config.mesh.clone(),
        };
        let tls = if config.tls_http { Some(http_tls(&credentials)?) } else { None };
        let mesh = Mesh::bind(mesh_config, credentials, now).map_err(|error| blame(&config, error.into()))?;
        let mut data = DataDir::open(&config.data, founding.cluster, config.node)?;
        tracing::info!(node = %config.node, data = %config.data.display(), "{}", data.standing().sentence());
        if data.standing() == Standing::MayFound {
            data.begin_founding()?;
        }

        let (fate, reasons) = NodeFate::new();
        let world = World {
            node: config.node,
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            disk: Arc::new(data.disk()),
            net: mesh.clone(),
            fate: Arc::new(fate),
        };
        let found = data.standing() == Standing::Founding;
        let (kernel, inbound) =
            Kernel::start(world, host_config(&config, &founding, found), ExchangeLimits::default(), Cell::new).await?;
        mesh.start(founding.peers(config.node, &config.peers), inbound)?;

        let stop = CancellationToken::new();
        let limits = http_limits(&config);
        let api =
            Api::new(Arc::new(Gateway(kernel.exchange.clone())), clock, Arc::new(SystemEntropy), limits, stop.clone());
        let serving = api.clone();
        let front = vec![
            tokio::spawn(async move {
                if let Err(error) = http::server::serve(listener, tls, serving).await {
                    tracing::error!(%error, "HTTP has ended");
                }
            }),
            tokio::spawn(bridge::serve(api, mesh.accept_clients())),
        ];
        tokio::spawn(settle(kernel.clone(), data, founding));
        Ok(Self { config, kernel, mesh, http, stop, fate: reasons, front })
    }

    /// Where it answers HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it answers QUIC.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn quic(&self) -> std::io::Result<SocketAddr> {
        self.mesh.local_addr()
    }

    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.kernel.exchange
    }

    /// Runs until `leave` resolves, then drains; or until the node may not go on.
    ///
    /// # Errors
    /// The reason why the node may not go on: a failed fsync, a damaged file.
    pub async fn run(mut self, leave: impl Future<Output = ()>) -> Result<(), String> {
        let reason = tokio::select! {
            biased;
            reason = self.fate.recv() => reason,
            () = leave => None,
        };
        if let Some(reason) = reason {
            self.stop.cancel();
            self.mesh.close().await;
            return Err(reason);
        }
        self.drain().await;
        Ok(())
    }

    /// Hands leadership over, finishes what is in flight, takes leave.
    async fn drain(self) {
        tracing::info!(node = %self.config.node, "draining");
        self.kernel.host.drain(self.config.drain).await;
        self.stop.cancel();
        for task in self.front {
            // Front ends bound their own farewell; one that panicked has nothing left to finish.
            let _ = tokio::time::timeout(self.config.drain, task).await;
        }
        self.kernel.host.stop().await;
        self.mesh.close().await;
        tracing::info!(node = %self.config.node, "stopped");
    }
}

/// Once the cluster stands: records what it was founded with, and that this directory is settled.
async fn settle(kernel: Kernel, mut data: DataDir, founding: Founding) {
    let record = Record {
        operator_token_hash: founding.operator_token_hash,
        cluster: founding.cluster.to_string(),
        members: founding.members.into_iter().map(|member| (member.id, member.zone)).collect(),
    };
    kernel.settle(&record).await;
    if data.standing() != Standing::Member
        && let Err(error) = data.settled()
    {
        tracing::error!(%error, "the data directory could not be marked as settled");
    }
}

fn host_config(config: &Config, founding: &Founding, found: bool) -> HostConfig {
    let mut host = HostConfig::new(founding.cells, []);
    host.members = founding.members.iter().map(|member| Member::from(member.id)).collect();
    host.extra = vec![CellId::META];
    host.replicas = usize::from(founding.replicas);
    host.found = found;
    host.format = config.format;
    host.identity = founding.cluster.bytes();
    host.segment_bytes = config.wal.segment_bytes;
    host.reserve_bytes = config.wal.reserve_bytes;
    host.heartbeat = Duration::from_millis(config.raft.heartbeat_ms);
    host.election =
        (Duration::from_millis(config.raft.election_min_ms), Duration::from_millis(config.raft.election_max_ms));
    host.snapshot_every = config.snapshot.every_entries;
    host.keep_log = config.snapshot.keep_entries;
    host
}

fn http_limits(config: &Config) -> http::limits::Limits {
    http::limits::Limits {
        body_bytes_max: config.limits.body_bytes,
        connections_max: config.limits.connections,
        per_connection_max: config.limits.in_flight_per_connection,
        in_flight_max: config.limits.in_flight,
        account_rate: config.limits.account_rate,
        account_burst: config.limits.account_burst,
        drain_time: config.drain,
        ..http::limits::Limits::default()
    }
}

/// Whoever holds the data holds the ports too, and is better named than they are.
fn blame(config: &Config, error: StartError) -> StartError {
    match RealDisk::holder(&config.data) {
        Some(pid) => IdentityError::Locked { path: config.data.display().to_string(), pid }.into(),
        None => error,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => StartError::HttpTaken { address },
        _ => StartError::HttpBind { address, error },
    })
}

fn http_tls(credentials: &Credentials) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let failed = |error: rustls::Error| StartError::Tls(error.to_string());
    let mut tls = rustls::ServerConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(failed)?;
    tls.alpn_protocols = http::server::alpn();
    Ok(Arc::new(tls))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, StartError> {
    let failed = |error: String| StartError::File { path: path.display().to_string(), error };
    files::read(path).map_err(|e| failed(e.to_string()))?.ok_or_else(|| failed("there is no such file".into()))
}
