use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Wire {
    sent: Mutex<Vec<(NodeId, Class, Bytes)>>,
    down: Mutex<bool>,
    full: Mutex<bool>,
    /// Frames are small.
    small: Mutex<bool>,
}

/// What a small frame has room for.
const SMALL: usize = 64;

impl Transport for Wire {
    fn send(&self, to: NodeId, class: Class, frame: Bytes) -> bool {
        if *self.full.lock().unwrap() || frame.len() > self.largest() {
            return false;
        }
        self.sent.lock().unwrap().push((to, class, frame));
        true
    }

    fn connected(&self, _to: NodeId) -> bool {
        !*self.down.lock().unwrap()
    }

    fn largest(&self) -> usize {
        if *self.small.lock().unwrap() { SMALL } else { usize::MAX }
    }
}

fn mesh() -> (Arc<Wire>, Arc<Mesh>) {
    let wire = Arc::new(Wire::default());
    (wire.clone(), Arc::new(Mesh::new(wire, Arc::default(), 4, 0)))
}

type Answers = Arc<Mutex<Vec<(u16, Result<Bytes, Lost>)>>>;

fn ask(mesh: &Mesh, answers: &Answers, group: u16, kind: Kind) {
    let answers = answers.clone();
    mesh.request(
        NodeId(2),
        kind,
        group,
        |body| body.extend_from_slice(&group.to_le_bytes()),
        move |result| answers.lock().unwrap().push((group, result)),
    );
}

#[test]
fn what_gathers_in_a_turn_is_one_frame_per_class() {
    let (wire, mesh) = mesh();
    let answers = Answers::default();
    ask(&mesh, &answers, 7, Kind::Append);
    ask(&mesh, &answers, 8, Kind::Append);
    ask(&mesh, &answers, 9, Kind::Request);
    assert!(wire.sent.lock().unwrap().is_empty(), "nothing leaves before the flush");
    mesh.flush();
    mesh.flush();
    let sent = mem::take(&mut *wire.sent.lock().unwrap());
    assert_eq!(sent.iter().map(|s| s.1).collect::<Vec<_>>(), [Class::Raft, Class::Request]);

    // The other side answers in its own order, and both answers travel together.
    let (other_wire, other) = self::mesh();
    let mut got = Vec::new();
    for (_, _, frame) in &sent {
        other.receive(NodeId(1), frame.clone(), |incoming| got.push(incoming));
    }
    assert_eq!(
        got.iter().map(|i| (i.kind, i.group)).collect::<Vec<_>>(),
        [(Kind::Append, 7), (Kind::Append, 8), (Kind::Request, 9)]
    );
    assert_eq!(got[1].body[..], 8u16.to_le_bytes());
    for incoming in got.iter().rev() {
        other.reply(incoming.reply, |body| body.push(incoming.group as u8));
    }
    other.flush();
    for (_, _, frame) in other_wire.sent.lock().unwrap().iter() {
        mesh.receive(NodeId(2), frame.clone(), |_| panic!("only answers"));
    }
    let order: Vec<u16> = answers.lock().unwrap().iter().map(|a| a.0).collect();
    assert_eq!(order, [8, 7, 9]);
    assert!(answers.lock().unwrap().iter().all(|(group, body)| body.as_ref().unwrap()[0] == *group as u8));
    assert_eq!(mesh.status().pending, 0);
}

#[test]
fn every_request_is_answered_whatever_happens_to_the_connection() {
    let (wire, mesh) = mesh();
    let answers = Answers::default();
    ask(&mesh, &answers, 1, Kind::Append);
    mesh.flush();
    mesh.disconnected(NodeId(2));
    *wire.full.lock().unwrap() = true;
    ask(&mesh, &answers, 2, Kind::Append);
    mesh.flush();
    *wire.down.lock().unwrap() = true;
    ask(&mesh, &answers, 3, Kind::Append);
    let got: Vec<_> = answers.lock().unwrap().drain(..).collect();
    assert_eq!(got, [(1, Err(Lost::Broken)), (2, Err(Lost::NotConnected)), (3, Err(Lost::NotConnected))]);
    assert_eq!(mesh.status().dropped, 1);
}

#[test]
fn replies_are_kept_until_there_is_room_for_them() {
    let (wire, mesh) = mesh();
    let (other_wire, other) = self::mesh();
    let answers = Answers::default();
    let full = |wire: &Wire, is: bool| *wire.full.lock().unwrap() = is;
    for group in 0..3 {
        ask(&mesh, &answers, group, Kind::Append);
        mesh.flush();
    }
    let mut got = Vec::new();
    for (_, _, frame) in mem::take(&mut *wire.sent.lock().unwrap()) {
        other.receive(NodeId(1), frame, |incoming| got.push(incoming));
    }
    full(&other_wire, true);
    // Replies and requests are in one frame, and only these are lost with it.
    let lost = Answers::default();
    ask(&other, &lost, 9, Kind::Append);
    for incoming in &got[..2] {
        other.reply(incoming.reply, |body| body.push(incoming.group as u8));
        other.flush();
    }
    assert_eq!(lost.lock().unwrap()[..], [(9, Err(Lost::NotConnected))]);
    full(&other_wire, false);
    other.reply(got[2].reply, |body| body.push(2));
    other.flush();
    for (_, _, frame) in mem::take(&mut *other_wire.sent.lock().unwrap()) {
        mesh.receive(NodeId(2), frame, |_| panic!("only answers"));
    }
    let answered = [0, 1, 2].map(|group| (group, Ok(Bytes::from(vec![group as u8]))));
    assert_eq!(answers.lock().unwrap()[..], answered);

    // With the connection goes what was kept for it.
    full(&other_wire, true);
    other.reply(got[0].reply, |_| ());
    other.flush();
    *other_wire.down.lock().unwrap() = true;
    other.flush();
    full(&other_wire, false);
    other.flush();
    assert!(other_wire.sent.lock().unwrap().is_empty());
}

#[test]
fn a_reply_that_no_frame_has_room_for_is_in_nobodys_way() {
    let (wire, mesh) = mesh();
    let (other_wire, other) = self::mesh();
    let answers = Answers::default();
    (0..4).for_each(|group| ask(&mesh, &answers, group, Kind::Append));
    mesh.flush();
    let mut got = Vec::new();
    for (_, _, frame) in mem::take(&mut *wire.sent.lock().unwrap()) {
        other.receive(NodeId(1), frame, |incoming| got.push(incoming));
    }
    *other_wire.small.lock().unwrap() = true;
    for (incoming, len) in got.iter().zip([20, SMALL, 20, 20]) {
        other.reply(incoming.reply, |body| body.resize(body.len() + len, 1));
    }
    other.flush();
    assert!(other_wire.sent.lock().unwrap().is_empty(), "all of them are too much for a frame");
    other.flush();
    for (_, _, frame) in mem::take(&mut *other_wire.sent.lock().unwrap()) {
        assert!(frame.len() <= SMALL);
        mesh.receive(NodeId(2), frame, |_| panic!("only answers"));
    }
    let answered: Vec<u16> = answers.lock().unwrap().iter().map(|(group, _)| *group).collect();
    assert_eq!(answered, [0, 2, 3]);
    other.flush();
    assert!(other_wire.sent.lock().unwrap().is_empty());
}

#[test]
fn requests_under_way_are_bounded_and_can_be_given_up() {
    let (_wire, mesh) = mesh();
    let answers = Answers::default();
    for group in 0..4 {
        ask(&mesh, &answers, group, Kind::Request);
    }
    ask(&mesh, &answers, 4, Kind::Request);
    assert_eq!(answers.lock().unwrap().drain(..).collect::<Vec<_>>(), [(4, Err(Lost::Busy))]);
    mesh.forget(NodeId(2), 1);
    assert_eq!(mesh.status().pending, 3);
    ask(&mesh, &answers, 5, Kind::Request);
    assert_eq!(mesh.status().pending, 4);
}

#[test]
fn a_frame_that_is_not_understood_does_no_harm() {
    let (_wire, mesh) = mesh();
    for frame in [vec![], vec![1; 14], vec![99; 40], [vec![1; 11], vec![255; 4], vec![0; 3]].concat()] {
        mesh.receive(NodeId(2), frame.into(), |incoming| panic!("{incoming:?}"));
    }
}
