//! A small QUIC transport: one connection per peer (the lower id listens), one long-lived stream
//! per class and direction, a batched writer each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use stakehold_raft::{
    NodeId,
    seam::{Class, Inbound, Transport},
};
use tokio::sync::{mpsc, watch};

/// Datagrams are not counted by quinn's users; writes to streams are.
pub static WRITES: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
pub struct Net {
    peers: Mutex<BTreeMap<NodeId, [mpsc::UnboundedSender<Bytes>; 3]>>,
}

impl Transport for Net {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        let peers = self.peers.lock().unwrap();
        peers.get(&to).is_some_and(|streams| streams[class as usize].send(frame).is_ok())
    }

    fn connected(&self, to: NodeId) -> bool {
        self.peers.lock().unwrap().contains_key(&to)
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut t = quinn::TransportConfig::default();
    t.keep_alive_interval(Some(Duration::from_millis(200)));
    t.max_idle_timeout(Some(Duration::from_millis(1500).try_into().unwrap()));
    t.initial_rtt(Duration::from_millis(20));
    t.stream_receive_window((16u32 << 20).into());
    t.receive_window((64u32 << 20).into());
    t.send_window(64 << 20);
    Arc::new(t)
}

/// Connects to every peer; returns when all are there.
pub async fn start(
    me: NodeId,
    addresses: &BTreeMap<NodeId, SocketAddr>,
    dir: &Path,
    net: Arc<Net>,
    inbound: watch::Receiver<Option<Arc<dyn Inbound>>>,
) {
    let cert = CertificateDer::from(std::fs::read(dir.join("cert")).unwrap());
    let key = PrivatePkcs8KeyDer::from(std::fs::read(dir.join("key")).unwrap());
    let mut server = quinn::ServerConfig::with_single_cert(vec![cert.clone()], key.into()).unwrap();
    server.transport_config(transport());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    client.transport_config(transport());
    let endpoint = Endpoint::server(server, addresses[&me]).unwrap();

    let (up, mut ups) = mpsc::unbounded_channel();
    for (peer, address) in addresses.iter().filter(|(peer, _)| **peer < me) {
        let (endpoint, client, up, peer, address) = (endpoint.clone(), client.clone(), up.clone(), *peer, *address);
        tokio::spawn(async move {
            loop {
                let connecting = endpoint.connect_with(client.clone(), address, "spike").unwrap();
                if let Ok(connection) = connecting.await {
                    let mut hello = connection.open_uni().await.unwrap();
                    hello.write_all(&me.0.to_le_bytes()).await.unwrap();
                    hello.finish().unwrap();
                    up.send((peer, connection)).unwrap();
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let up = up.clone();
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let mut hello = connection.accept_uni().await.unwrap();
                let id = hello.read_to_end(2).await.unwrap();
                let _ = up.send((NodeId(u16::from_le_bytes([id[0], id[1]])), connection));
            });
        }
    });
    for _ in 1..addresses.len() {
        let (peer, connection) = ups.recv().await.unwrap();
        attach(peer, connection, &net, &inbound).await;
    }
    // Kept alive as long as the process.
    std::mem::forget(endpoint);
}

async fn attach(
    peer: NodeId,
    connection: Connection,
    net: &Arc<Net>,
    inbound: &watch::Receiver<Option<Arc<dyn Inbound>>>,
) {
    let mut senders = Vec::new();
    for class in Class::ALL {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&[class as u8]).await.unwrap();
        tokio::spawn(write(stream, rx));
        senders.push(tx);
    }
    for _ in Class::ALL {
        let mut stream = connection.accept_uni().await.unwrap();
        let mut class = [0];
        stream.read_exact(&mut class).await.unwrap();
        let class = Class::ALL[usize::from(class[0])];
        tokio::spawn(read(peer, class, stream, inbound.clone()));
    }
    net.peers.lock().unwrap().insert(peer, senders.try_into().unwrap());
}

async fn write(mut stream: SendStream, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, 64).await > 0 {
        let mut chunks = Vec::with_capacity(batch.len() * 2);
        for frame in batch.drain(..) {
            chunks.push(Bytes::copy_from_slice(&(frame.len() as u32).to_le_bytes()));
            chunks.push(frame);
        }
        WRITES.fetch_add(1, Ordering::Relaxed);
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
    }
}

async fn read(
    peer: NodeId,
    class: Class,
    mut stream: RecvStream,
    mut inbound: watch::Receiver<Option<Arc<dyn Inbound>>>,
) {
    let inbound = inbound.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let mut buffer = BytesMut::new();
    while let Ok(Some(chunk)) = stream.read_chunk(1 << 20, true).await {
        buffer.put(chunk.bytes);
        while buffer.len() >= 4 {
            let length = u32::from_le_bytes(buffer[..4].try_into().unwrap()) as usize;
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            inbound.frame(peer, class, buffer.split_to(length).freeze());
        }
    }
    inbound.disconnected(peer);
}
