//! Dials one lane to one peer, again and again, for as long as the endpoint lives.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{ConnectError, Connection, Endpoint};
use stakehold_raft::seam::Inbound;
use tokio::{
    net::lookup_host,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::lane::{Lane, LaneError, greet};

/// Between the beginnings of two attempts.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// An attempt sends at 0, 60, 180 and 420 ms; a fresh one then finds a peer that came up sooner
/// than the next retransmission would.
const ATTEMPT: Duration = Duration::from_millis(750);

pub(super) struct Dialler {
    pub endpoint: Endpoint,
    pub tls: quinn::ClientConfig,
    /// The name the peer's certificate must carry.
    pub name: String,
    pub address: String,
    pub life: u64,
    pub lane: Arc<Lane>,
    pub inbound: Arc<dyn Inbound>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the address {0} cannot be resolved")]
    Address(String),
    #[error("it does not answer")]
    Silent,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Lane(#[from] LaneError),
}

impl Dialler {
    pub async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        loop {
            let started = Instant::now();
            match self.dial().await {
                Ok(connection) => match greet(connection, self.lane.kind, self.life).await {
                    Ok(greeted) => {
                        said.clear();
                        backoff = BACKOFF_MIN;
                        self.lane.run(greeted, &self.inbound).await;
                    }
                    Err(error) => self.complain(&error.into(), &mut said),
                },
                Err(DialError::Connect(ConnectError::EndpointStopping)) => return,
                Err(error) => self.complain(&error, &mut said),
            }
            sleep_until(started + backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One line for each new reason, not one for each attempt.
    fn complain(&self, error: &DialError, said: &mut String) {
        let sentence = error.to_string();
        if *said == sentence {
            debug!(peer = %self.lane.peer, lane = ?self.lane.kind, %error, "cannot connect");
        } else {
            warn!(peer = %self.lane.peer, lane = ?self.lane.kind, address = self.address, %error, "cannot connect; trying on");
            *said = sentence;
        }
    }

    async fn dial(&self) -> Result<Connection, DialError> {
        let address = self.resolve().await.ok_or_else(|| DialError::Address(self.address.clone()))?;
        let connecting = self.endpoint.connect_with(self.tls.clone(), address, &self.name)?;
        match timeout(ATTEMPT, connecting).await {
            Ok(connected) => Ok(connected.map_err(LaneError::from)?),
            Err(_) => Err(DialError::Silent),
        }
    }

    /// The first address of the family the socket speaks.
    async fn resolve(&self) -> Option<SocketAddr> {
        let local = self.endpoint.local_addr().ok()?;
        let mut found = lookup_host(&self.address).await.ok()?;
        found.find(|address| address.is_ipv4() == local.is_ipv4() || local.is_ipv6())
    }
}
