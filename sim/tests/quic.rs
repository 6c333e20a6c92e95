//! The node's real mesh (QUIC, TLS, its queues and streams) over a simulated network that loses, repeats
//! and reorders packets and is cut for seconds: it keeps the contract that the simulator's wires are
//! built on. Frames of one class arrive in order, once and whole; only what a broken connection had under
//! way is lost; and when the network is right again, frames flow again.
//!
//! Time is virtual. What is in a packet is not the same from run to run (keys are drawn), so nothing here
//! depends on it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use stakehold::{
    identity::ClusterId,
    mesh::{Limits, Mesh, MeshConfig},
    pki::{Authority, Credentials},
};
use stakehold_raft::{
    NodeId,
    seam::{Class, Inbound, Transport},
};
use stakehold_sim::rng;

const NOW: u64 = 1_790_000_000_000;
const CLUSTER: ClusterId = ClusterId(0xC0FFEE);
/// In a hundred packets.
const LOST: u64 = 2;
const TWICE: u64 = 3;
/// In microseconds, one way.
const LEAST: u64 = 1_000;
const MOST: u64 = 12_000;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// -- the network --

#[derive(Default)]
struct Inbox {
    packets: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

/// What lies between sockets.
struct Network {
    seed: u64,
    inboxes: BTreeMap<SocketAddr, Mutex<Inbox>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packets: u64,
    lost: u64,
    /// Nothing from the one reaches the other.
    cut: Vec<(SocketAddr, SocketAddr)>,
}

impl Network {
    fn send(self: &Arc<Self>, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let mut state = lock(&self.state);
        state.packets += 1;
        let choice = rng::of(self.seed, &[state.packets]);
        if state.cut.contains(&(from, to)) || choice % 100 < LOST {
            state.lost += 1;
            return;
        }
        let copies = if (choice >> 8) % 100 < TWICE { 2 } else { 1 };
        for copy in 0..copies {
            let delay = LEAST + rng::of(self.seed, &[state.packets, copy]) % (MOST - LEAST);
            let (network, packet) = (self.clone(), packet.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(delay)).await;
                let Some(inbox) = network.inboxes.get(&to) else { return };
                let mut inbox = lock(inbox);
                inbox.packets.push_back((from, packet));
                if let Some(reader) = inbox.reader.take() {
                    reader.wake();
                }
            });
        }
    }
}

struct Socket {
    address: SocketAddr,
    network: Arc<Network>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("address", &self.address).finish_non_exhaustive()
    }
}

/// There is always room to send.
#[derive(Debug)]
struct Room;

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        assert_eq!(transmit.segment_size, None, "one packet at a time was asked for");
        self.network.send(self.address, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.network.inboxes[&self.address]);
        let mut read = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((from, packet)) = inbox.packets.pop_front() else { break };
            buf[..packet.len()].copy_from_slice(&packet);
            *meta = RecvMeta { addr: from, len: packet.len(), stride: packet.len(), ..RecvMeta::default() };
            read += 1;
        }
        if read == 0 {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(read))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

// -- who listens --

/// What one node has heard of the other.
#[derive(Default)]
struct Heard {
    /// The last number of each class, and of how many it was.
    last: BTreeMap<u8, (u64, u64)>,
    /// Whether a gap may follow: a connection has ended since.
    broken: BTreeMap<u8, bool>,
    ends: u64,
    gaps: u64,
}

#[derive(Default)]
struct Ear(Mutex<Heard>);

impl Inbound for Ear {
    fn frame(&self, _: NodeId, class: Class, frame: Bytes) {
        let heard = &mut *lock(&self.0);
        let number = u64::from_le_bytes(frame[..8].try_into().expect("a number comes first"));
        assert_eq!(frame, content(class, number), "whole, and as it was sent");
        let broken = std::mem::take(heard.broken.entry(class as u8).or_default());
        let (last, count) = heard.last.entry(class as u8).or_default();
        assert!(number > *last, "{class:?} {number} comes after {last}");
        let gap = number > *last + 1;
        assert!(!gap || broken, "{class:?} {number} comes after {last}, and no connection has ended between them");
        heard.gaps += u64::from(gap);
        (*last, *count) = (number, *count + 1);
    }

    fn disconnected(&self, _: NodeId) {
        let heard = &mut *lock(&self.0);
        heard.ends += 1;
        heard.broken = Class::ALL.map(|class| (class as u8, true)).into();
    }
}

/// A frame of every size: some are a packet, some are many.
fn content(class: Class, number: u64) -> Bytes {
    let long = (rng::of(class as u64, &[number]) % 3_000) as usize;
    number.to_le_bytes().into_iter().chain(std::iter::repeat_n(number as u8, long)).collect()
}

struct Node {
    mesh: Arc<Mesh>,
    ear: Arc<Ear>,
    peer: NodeId,
    /// The last number of each class that was taken.
    sent: BTreeMap<u8, u64>,
}

impl Node {
    fn new(network: &Arc<Network>, id: u16, address: SocketAddr, peer: (u16, SocketAddr), ca: &Authority) -> Self {
        let issued = ca.issue(NodeId(id), &[], NOW).unwrap();
        let credentials =
            Credentials::from_pem(ca.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes())
                .unwrap();
        let config =
            MeshConfig { node: NodeId(id), cluster: CLUSTER, life: NOW, listen: address, limits: Limits::default() };
        let socket = Arc::new(Socket { address, network: network.clone() });
        let mesh = Mesh::over(socket, config, credentials, NOW).unwrap();
        let (ear, peer_id) = (Arc::new(Ear::default()), NodeId(peer.0));
        mesh.start([(peer_id, peer.1.to_string())].into(), ear.clone()).unwrap();
        Self { mesh, ear, peer: peer_id, sent: BTreeMap::new() }
    }

    /// One frame of each class, if there is a connection that takes it.
    fn speak(&mut self) {
        for class in Class::ALL {
            let number = self.sent.get(&(class as u8)).map_or(1, |last| last + 1);
            if self.mesh.send(self.peer, class, content(class, number)) {
                self.sent.insert(class as u8, number);
            }
        }
    }
}

async fn speak(nodes: &mut [Node; 2], ms: u64) {
    for _ in 0..ms / 10 {
        nodes.iter_mut().for_each(Node::speak);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn conversation(seed: u64) {
    let addresses: [SocketAddr; 2] = ["10.0.0.1:7000".parse().unwrap(), "10.0.0.2:7000".parse().unwrap()];
    let inboxes = addresses.map(|address| (address, Mutex::default())).into();
    let network = Arc::new(Network { seed, inboxes, state: Mutex::default() });
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let [a, b] = addresses;
    let mut nodes = [Node::new(&network, 1, a, (2, b), &ca), Node::new(&network, 2, b, (1, a), &ca)];
    speak(&mut nodes, 2_000).await;
    let heard = |nodes: &[Node; 2]| nodes.each_ref().map(|node| lock(&node.ear.0).last.clone());
    let before = heard(&nodes);
    assert!(before.iter().all(|last| last.len() == Class::ALL.len()), "{before:?}");

    // Short silence is late frames and no more; long silence, one way or both, ends the connection.
    let ends = |nodes: &[Node; 2]| nodes.each_ref().map(|node| lock(&node.ear.0).ends);
    let calm = ends(&nodes);
    lock(&network.state).cut = vec![(a, b)];
    speak(&mut nodes, 300).await;
    lock(&network.state).cut.clear();
    speak(&mut nodes, 1_000).await;
    assert_eq!(ends(&nodes), calm, "no connection ends by a short silence");
    for cut in [vec![(a, b)], vec![(b, a)], vec![(a, b), (b, a)]] {
        let before = ends(&nodes);
        lock(&network.state).cut = cut;
        // The side that still hears notices as much later as the other goes on speaking.
        speak(&mut nodes, 5_000).await;
        for (node, before) in nodes.iter().zip(before) {
            assert!(lock(&node.ear.0).ends > before, "a connection that hears nothing ends");
            assert!(!node.mesh.connected(node.peer));
        }
        lock(&network.state).cut.clear();
        speak(&mut nodes, 3_000).await;
        assert!(nodes.iter().all(|node| node.mesh.connected(node.peer)));
    }
    // What is under way at the end arrives.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (node, peer) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        let heard = lock(&node.ear.0);
        for class in Class::ALL {
            let (last, count) = heard.last[&(class as u8)];
            assert_eq!(last, peer.sent[&(class as u8)], "{class:?}");
            assert!(count > last / 3, "{class:?}: {count} of {last}");
        }
        assert!(heard.gaps > 0, "frames were under way when connections ended");
    }
    let state = lock(&network.state);
    assert!(state.lost > 100 && state.packets > 5_000, "{} of {} packets were lost", state.lost, state.packets);
}

#[test]
fn frames_arrive_in_order_once_and_whole_or_are_lost_with_their_connection() {
    for seed in 0..5 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(conversation(seed));
    }
}
