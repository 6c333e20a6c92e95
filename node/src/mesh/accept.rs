//! Lets peers and clients in, and nobody else.

use std::sync::{Arc, PoisonError};

use quinn::{Connection, Incoming, VarInt, crypto::rustls::HandshakeData};
use rustls_pki_types::CertificateDer;
use stakehold_raft::{NodeId, seam::Inbound};
use tokio::sync::{Semaphore, mpsc::error::TrySendError};
use tracing::{debug, warn};

use super::{
    ALPN_BULK, ALPN_CLIENT, ALPN_MESH, Mesh,
    lane::{CloseCode, LaneKind, close, greet},
    tls,
};
use crate::pki;

/// Handshakes at a time; beyond it new ones are turned away, which costs them one round trip.
const HANDSHAKES: usize = 256;

pub(super) async fn run(mesh: Arc<Mesh>, inbound: Arc<dyn Inbound>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    while let Some(incoming) = mesh.endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (mesh, inbound) = (mesh.clone(), inbound.clone());
        tokio::spawn(async move {
            let handshake = shake(incoming).await;
            drop(permit);
            if let Some((connection, alpn)) = handshake {
                match alpn.as_slice() {
                    ALPN_MESH => peer(&mesh, connection, LaneKind::Main, &inbound).await,
                    ALPN_BULK => peer(&mesh, connection, LaneKind::Bulk, &inbound).await,
                    ALPN_CLIENT => client(&mesh, connection),
                    _ => close(&connection, CloseCode::Protocol, "unknown protocol"),
                }
            }
        });
    }
}

async fn shake(incoming: Incoming) -> Option<(Connection, Vec<u8>)> {
    let address = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            // Certificates of another CA end here.
            debug!(%address, %error, "a handshake failed");
            return None;
        }
    };
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    Some((connection, data.protocol?))
}

/// Whom the certificate names, among those this node knows.
fn identify(mesh: &Mesh, connection: &Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let cert = chain.first()?;
    let known = mesh.lanes.get()?.keys().map(|(peer, _)| *peer);
    known.into_iter().find(|peer| pki::certifies(cert, *peer, mesh.config.cluster))
}

async fn peer(mesh: &Mesh, connection: Connection, kind: LaneKind, inbound: &Arc<dyn Inbound>) {
    let address = connection.remote_address();
    let Some(peer) = identify(mesh, &connection) else {
        warn!(%address, "refused a connection: its certificate does not name a member of this cluster");
        return close(&connection, CloseCode::NotAMember, "no certificate of a member of this cluster");
    };
    if peer > mesh.config.node {
        warn!(%address, %peer, "refused a connection: the node with the lower id dials");
        return close(&connection, CloseCode::WrongDirection, "the node with the lower id dials");
    }
    let Some(lane) = mesh.lane(peer, kind) else { return };
    connection.set_receive_window(VarInt::from_u32(tls::PEER_WINDOW));
    match greet(connection.clone(), kind, mesh.config.life).await {
        Ok(greeted) => lane.run(greeted, inbound).await,
        Err(error) => {
            warn!(%address, %peer, %error, "a peer's connection came to nothing");
            close(&connection, CloseCode::Protocol, &error.to_string());
        }
    }
}

fn client(mesh: &Mesh, connection: Connection) {
    connection.set_send_window(tls::CLIENT_SEND_WINDOW);
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
    let clients = mesh.clients.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(sender) = clients.as_ref() else {
        return close(&connection, CloseCode::Busy, "this node does not serve clients now");
    };
    if let Err(TrySendError::Full(connection) | TrySendError::Closed(connection)) = sender.try_send(connection) {
        close(&connection, CloseCode::Busy, "too many clients are connecting; try again");
    }
}
