//! Two and three endpoints over loopback.

use stakehold_raft::seam::Class::{Bulk, Raft, Request};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use quinn::VarInt;

use super::*;
use crate::pki::Authority;

const NOW: u64 = 1_790_000_000_000;
const CLUSTER: ClusterId = ClusterId(0xc0ffee);
const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Frame(NodeId, Class, Bytes),
    Disconnected(NodeId),
}

struct Recorder(UnboundedSender<Event>);

impl Inbound for Recorder {
    fn frame(&self, from: NodeId, class: Class, frame: Bytes) {
        let _ = self.0.send(Event::Frame(from, class, frame));
    }

    fn disconnected(&self, from: NodeId) {
        let _ = self.0.send(Event::Disconnected(from));
    }
}

fn credentials(ca: &Authority, trust: &Authority, node: u16) -> Credentials {
    let issued = ca.issue(NodeId(node), &[], NOW).unwrap();
    Credentials::from_pem(trust.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap()
}

fn bind(node: u16, credentials: &Credentials, listen: &str, life: u64, limits: Limits) -> Arc<Mesh> {
    let config = MeshConfig { node: NodeId(node), cluster: CLUSTER, life, listen: listen.parse().unwrap(), limits };
    Mesh::bind(config, credentials.clone(), NOW).unwrap()
}

fn start(mesh: &Arc<Mesh>, peers: &[(u16, String)]) -> UnboundedReceiver<Event> {
    let (sender, receiver) = unbounded_channel();
    let peers = peers.iter().map(|(n, a)| (NodeId(*n), a.clone())).collect();
    mesh.start(peers, Arc::new(Recorder(sender))).unwrap();
    receiver
}

fn address(mesh: &Mesh) -> String {
    mesh.local_addr().unwrap().to_string()
}

/// Sends a frame as soon as there is a connection that takes it.
async fn deliver(mesh: &Mesh, peer: u16, frame: &'static [u8]) {
    while !mesh.send(NodeId(peer), Raft, Bytes::from_static(frame)) {
        up(mesh, peer).await;
    }
}

async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    tokio::time::timeout(LONG, events.recv()).await.expect("an event in time").expect("the mesh lives")
}

struct Pair {
    one: Arc<Mesh>,
    two: Arc<Mesh>,
    at_one: UnboundedReceiver<Event>,
    at_two: UnboundedReceiver<Event>,
    credentials: [Credentials; 2],
}

async fn pair(limits: Limits) -> Pair {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let credentials = [credentials(&ca, &ca, 1), credentials(&ca, &ca, 2)];
    let one = bind(1, &credentials[0], "127.0.0.1:0", NOW, limits.clone());
    let two = bind(2, &credentials[1], "127.0.0.1:0", NOW, limits);
    let at_one = start(&one, &[(2, address(&two))]);
    let at_two = start(&two, &[(1, address(&one))]);
    up(&one, 2).await;
    up(&two, 1).await;
    Pair { one, two, at_one, at_two, credentials }
}

async fn up(mesh: &Mesh, peer: u16) {
    for kind in [LaneKind::Main, LaneKind::Bulk] {
        let lane = mesh.lane(NodeId(peer), kind).unwrap();
        tokio::time::timeout(LONG, lane.until_up()).await.expect("connected in time");
    }
}

#[tokio::test]
async fn a_hundred_thousand_frames_arrive_in_order_on_each_class() {
    const FRAMES: u32 = 100_000;
    let Pair { one, two, mut at_one, mut at_two, .. } = pair(Limits::default()).await;
    let feed = |mesh: Arc<Mesh>, to: u16| async move {
        for i in 0..FRAMES {
            let class = Class::ALL[i as usize % 3];
            let mut body = i.to_le_bytes().to_vec();
            body.resize(4 + (i as usize * 7) % 300, 0xee);
            if i.is_multiple_of(500) {
                tokio::task::yield_now().await;
            }
            while !mesh.send(NodeId(to), class, body.clone().into()) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::spawn(feed(one, 2));
    tokio::spawn(feed(two, 1));
    for (events, from) in [(&mut at_two, NodeId(1)), (&mut at_one, NodeId(2))] {
        let mut expected = [0u32, 1, 2];
        for _ in 0..FRAMES {
            let Event::Frame(sender, class, frame) = next(events).await else { panic!("a connection broke") };
            let i = u32::from_le_bytes(frame[..4].try_into().unwrap());
            assert_eq!((sender, i), (from, expected[class as usize]));
            assert_eq!(frame.len(), 4 + (i as usize * 7) % 300);
            assert!(frame[4..].iter().all(|b| *b == 0xee));
            expected[class as usize] += 3;
        }
    }
}

#[tokio::test]
async fn large_frames_travel_whole_and_larger_ones_are_refused() {
    let limits = Limits { frame_bytes: 1 << 20, ..Limits::default() };
    let Pair { one, mut at_two, .. } = pair(limits).await;
    let frame = Bytes::from((0..1u32 << 20).map(|i| (i / 1_000) as u8).collect::<Vec<_>>());
    assert!(one.send(NodeId(2), Bulk, frame.clone()));
    assert!(one.send(NodeId(2), Bulk, Bytes::new()));
    assert!(!one.send(NodeId(2), Bulk, Bytes::from(vec![0; (1 << 20) + 1])));
    assert!(next(&mut at_two).await == Event::Frame(NodeId(1), Bulk, frame));
    assert_eq!(next(&mut at_two).await, Event::Frame(NodeId(1), Bulk, Bytes::new()));
}

#[tokio::test]
async fn a_full_queue_refuses_and_other_classes_go_on() {
    let limits = Limits { request_queue_bytes: 10_000, ..Limits::default() };
    let Pair { one, mut at_two, .. } = pair(limits).await;
    let frame = Bytes::from_static(&[1; 996]);
    // Nothing is written while this task does not wait, so the tenth fills the queue.
    let taken = (0..20).filter(|_| one.send(NodeId(2), Request, frame.clone())).count();
    assert_eq!(taken, 10);
    assert_eq!(one.queued_bytes(NodeId(2)), 10_000);
    assert!(one.send(NodeId(2), Raft, frame.clone()));
    for _ in 0..11 {
        assert!(matches!(next(&mut at_two).await, Event::Frame(..)));
    }
    assert!(one.send(NodeId(2), Request, frame), "room again");
}

#[tokio::test]
async fn nobody_is_reached_who_is_not_connected() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let one = bind(1, &credentials(&ca, &ca, 1), "127.0.0.1:0", NOW, Limits::default());
    assert!(!one.send(NodeId(2), Raft, Bytes::new()), "not started");
    let _events = start(&one, &[(2, "127.0.0.1:1".into())]);
    assert!(!one.send(NodeId(2), Raft, Bytes::new()), "not connected");
    assert!(!one.send(NodeId(9), Raft, Bytes::new()), "not known");
    assert!(!one.connected(NodeId(2)));
}

/// One node on a thread and runtime of its own, up until told to stop: then its runtime, and with it
/// every task and socket, is dropped without a farewell.
struct Life {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    address: String,
}

fn live(node: u16, own: Credentials, listen: &str, life: u64, peer: (u16, String), greeting: &'static str) -> Life {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let listen = listen.to_string();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
            let mesh = bind(node, &own, &listen, life, Limits::default());
            let _events = start(&mesh, std::slice::from_ref(&peer));
            tell.send(address(&mesh)).unwrap();
            deliver(&mesh, peer.0, greeting.as_bytes()).await;
            let _ = stopped.await;
        });
    });
    Life { stop, thread, address: told.recv_timeout(LONG).unwrap() }
}

impl Life {
    fn end(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_restarts_is_back_within_two_seconds_whichever_side_dialled() {
    for restarted in [1u16, 2] {
        let ca = Authority::create(CLUSTER, NOW).unwrap();
        let stays = 3 - restarted;
        let here = bind(stays, &credentials(&ca, &ca, stays), "127.0.0.1:0", NOW, Limits::default());
        let (own, peer) = (credentials(&ca, &ca, restarted), (stays, address(&here)));
        let first = live(restarted, own.clone(), "127.0.0.1:0", NOW, peer.clone(), "first");
        let socket = first.address.clone();
        let mut events = start(&here, &[(restarted, socket.clone())]);
        let says = |words: &'static str| Event::Frame(NodeId(restarted), Raft, Bytes::from_static(words.as_bytes()));
        assert_eq!(next(&mut events).await, says("first"));
        first.end();
        let since = Instant::now();
        let second = live(restarted, own, &socket, NOW + 1, peer, "second");
        assert_eq!(next(&mut events).await, Event::Disconnected(NodeId(restarted)), "told before anything new");
        while next(&mut events).await != says("second") {}
        assert!(here.connected(NodeId(restarted)));
        let took = since.elapsed();
        assert!(took < Duration::from_secs(2), "n{restarted} was back after {took:?}");
        second.end();
    }
}

#[tokio::test]
async fn a_silent_peer_is_noticed_and_said_once_per_lane() {
    let Pair { one, two, mut at_one, credentials, .. } = pair(Limits::default()).await;
    // Its socket is exchanged for one nobody talks to: as if the cable were cut.
    let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let since = Instant::now();
    two.endpoint.rebind(nowhere).unwrap();
    one.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    two.endpoint.close(VarInt::from_u32(0), b"");
    drop(two);
    let _ = credentials;
    assert_eq!(next(&mut at_one).await, Event::Disconnected(NodeId(2)));
    assert_eq!(next(&mut at_one).await, Event::Disconnected(NodeId(2)));
    assert!(since.elapsed() < Duration::from_secs(4));
    assert!(!one.connected(NodeId(2)) && !one.send(NodeId(2), Raft, Bytes::new()));
}

#[tokio::test]
async fn three_nodes_all_reach_each_other_and_know_who_speaks() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let meshes: Vec<_> =
        (1..=3u16).map(|n| bind(n, &credentials(&ca, &ca, n), "127.0.0.1:0", NOW, Limits::default())).collect();
    let all: Vec<(u16, String)> = (1..=3).map(|n| (n, address(&meshes[n as usize - 1]))).collect();
    let others = |n: u16| all.iter().filter(|(p, _)| *p != n).cloned().collect::<Vec<_>>();
    let mut events: Vec<_> = (1..=3).map(|n| start(&meshes[n as usize - 1], &others(n))).collect();
    for n in 1..=3u16 {
        for (peer, _) in others(n) {
            up(&meshes[n as usize - 1], peer).await;
            assert!(meshes[n as usize - 1].send(NodeId(peer), Raft, Bytes::from(format!("{n} to {peer}"))));
        }
    }
    for n in 1..=3u16 {
        let mut heard = [next(&mut events[n as usize - 1]).await, next(&mut events[n as usize - 1]).await];
        heard.sort_by_key(|e| matches!(e, Event::Frame(from, ..) if from.0 == others(n)[1].0));
        let expected = others(n).into_iter().map(|(p, _)| Event::Frame(NodeId(p), Raft, format!("{p} to {n}").into()));
        assert!(heard.into_iter().eq(expected), "n{n}");
    }
}

/// Dials `target` raw, with whatever it has, and says how that ended.
async fn intrude(target: &Mesh, mut tls: rustls::ClientConfig, alpn: &[u8]) -> quinn::ConnectionError {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let name = crate::pki::node_name(target.config.node, CLUSTER);
    match endpoint.connect_with(config, target.local_addr().unwrap(), &name).unwrap().await {
        Ok(connection) => tokio::time::timeout(LONG, connection.closed()).await.expect("refused in time"),
        Err(error) => error,
    }
}

fn tls(roots: &Credentials, own: Option<&Credentials>) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(crate::pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots.roots.clone());
    match own {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

fn code(error: &quinn::ConnectionError) -> Option<u64> {
    let quinn::ConnectionError::ApplicationClosed(close) = error else { return None };
    Some(close.error_code.into_inner())
}

#[tokio::test]
async fn strangers_are_refused() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let other = Authority::create(ClusterId(0xbad), NOW).unwrap();
    let twin = Authority::create(CLUSTER, NOW).unwrap();
    let own = credentials(&ca, &ca, 2);
    let two = bind(2, &own, "127.0.0.1:0", NOW, Limits::default());
    let mut events = start(&two, &[(1, "127.0.0.1:1".into()), (3, "127.0.0.1:1".into())]);
    for alpn in [ALPN_MESH, ALPN_BULK] {
        let anonymous = intrude(&two, tls(&own, None), alpn).await;
        assert_eq!(code(&anonymous), Some(CloseCode::NotAMember as u64), "no certificate: {anonymous}");
        for stranger in [&other, &twin] {
            let cert = credentials(stranger, stranger, 1);
            let foreign = intrude(&two, tls(&own, Some(&cert)), alpn).await;
            assert!(
                matches!(&foreign, quinn::ConnectionError::ConnectionClosed(c) if c.to_string().contains("cryptographic")),
                "another CA: {foreign}"
            );
        }
        let unknown = intrude(&two, tls(&own, Some(&credentials(&ca, &ca, 7))), alpn).await;
        assert_eq!(code(&unknown), Some(CloseCode::NotAMember as u64), "no member: {unknown}");
        let itself = intrude(&two, tls(&own, Some(&own)), alpn).await;
        assert_eq!(code(&itself), Some(CloseCode::NotAMember as u64), "not a peer of itself: {itself}");
        let higher = intrude(&two, tls(&own, Some(&credentials(&ca, &ca, 3))), alpn).await;
        assert_eq!(code(&higher), Some(CloseCode::WrongDirection as u64), "the lower dials: {higher}");
    }
    let client = intrude(&two, tls(&own, None), ALPN_CLIENT).await;
    assert_eq!(code(&client), Some(CloseCode::Busy as u64), "nobody serves clients: {client}");
    let odd = intrude(&two, tls(&own, None), b"h3").await;
    assert!(matches!(odd, quinn::ConnectionError::ConnectionClosed(_)), "no common protocol: {odd}");
    assert!(events.try_recv().is_err(), "and nothing of it was told to the node");
}

#[tokio::test]
async fn a_dialler_does_not_talk_to_another_node_than_it_meant() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let one = bind(1, &credentials(&ca, &ca, 1), "127.0.0.1:0", NOW, Limits::default());
    let three = bind(3, &credentials(&ca, &ca, 3), "127.0.0.1:0", NOW, Limits::default());
    let _at_three = start(&three, &[(1, address(&one))]);
    // The address of n2 leads to n3.
    let _at_one = start(&one, &[(2, address(&three)), (3, address(&three))]);
    up(&one, 3).await;
    assert!(!one.connected(NodeId(2)));
    let Mesh { endpoint, credentials, .. } = &*one;
    let config = tls::dialler(credentials, ALPN_MESH).unwrap();
    let name = crate::pki::node_name(NodeId(2), CLUSTER);
    let error = endpoint.connect_with(config, three.local_addr().unwrap(), &name).unwrap().await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn clients_need_no_certificate_and_are_handed_over() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let own = credentials(&ca, &ca, 1);
    let mesh = bind(1, &own, "127.0.0.1:0", NOW, Limits::default());
    let _events = start(&mesh, &[]);
    let mut clients = mesh.accept_clients();
    let mut config = tls(&own, None);
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint
        .connect_with(quinn::ClientConfig::new(Arc::new(config)), mesh.local_addr().unwrap(), "localhost")
        .unwrap();
    let (client, server) = tokio::join!(connecting, clients.recv());
    let (client, server) = (client.unwrap(), server.unwrap());
    let (mut send, _receive) = client.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    send.finish().unwrap();
    let (_send, mut receive) = server.accept_bi().await.unwrap();
    assert_eq!(receive.read_to_end(100).await.unwrap(), b"hello");
}

#[tokio::test]
async fn the_newer_of_two_processes_with_one_certificate_is_believed() {
    let Pair { one, two, mut at_two, credentials, .. } = pair(Limits::default()).await;
    let older = bind(1, &credentials[0], "127.0.0.1:0", NOW - 1, Limits::default());
    let mut at_older = start(&older, &[(2, address(&two))]);
    let newer = bind(1, &credentials[0], "127.0.0.1:0", NOW + 1, Limits::default());
    let _at_newer = start(&newer, &[(2, address(&two))]);
    assert_eq!(next(&mut at_two).await, Event::Disconnected(NodeId(1)), "the first gave way");
    up(&newer, 2).await;
    deliver(&newer, 2, b"newer").await;
    let heard = Event::Frame(NodeId(1), Raft, Bytes::from_static(b"newer"));
    while next(&mut at_two).await != heard {}
    older.close().await;
    one.close().await;
    while let Ok(event) = at_older.try_recv() {
        assert_eq!(event, Event::Disconnected(NodeId(2)), "nothing was ever delivered to the older one");
    }
}

#[tokio::test]
async fn what_cannot_be_bound_is_said_in_one_sentence() {
    let ca = Authority::create(CLUSTER, NOW).unwrap();
    let own = credentials(&ca, &ca, 1);
    let first = bind(1, &own, "127.0.0.1:0", NOW, Limits::default());
    let config = |node: u16, listen: SocketAddr| MeshConfig {
        node: NodeId(node),
        cluster: CLUSTER,
        life: NOW,
        listen,
        limits: Limits::default(),
    };
    let taken = first.local_addr().unwrap();
    let error = Mesh::bind(config(1, taken), own.clone(), NOW).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("The UDP address {taken} is taken; stop the process that uses it or set `listen.quic` to another.")
    );
    let error = Mesh::bind(config(1, "203.0.113.1:1".parse().unwrap()), own.clone(), NOW).unwrap_err().to_string();
    assert!(error.starts_with("The UDP address 203.0.113.1:1 cannot be used"), "{error}");
    let error = Mesh::bind(config(2, taken), own, NOW).unwrap_err().to_string();
    assert!(error.contains(&format!("for n2.{CLUSTER}.stakehold")), "{error}");
}
