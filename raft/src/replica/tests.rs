//! A toy machine that hands counters around: every value sent must arrive once, in order.

use super::*;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counter {
    cell: u16,
    sum: u64,
    seen: Vec<u64>,
    due: Option<Stamp>,
}

impl Machine for Counter {
    /// (destination, value); a destination of this cell arms a deadline at `value`.
    type Command = (u16, u64);
    type Verdict = u64;
    type Message = u64;
    type Effect = u64;
    type Frozen = Counter;

    fn apply(&mut self, _: Stamp, (to, value): (u16, u64), out: &mut Out<Self>) -> u64 {
        if to == self.cell {
            self.due = Some(value);
        } else {
            out.send(CellId(to), value);
        }
        self.sum
    }

    fn receive(&mut self, _: Stamp, _: CellId, value: u64, out: &mut Out<Self>) {
        self.sum += value;
        self.seen.push(value);
        out.tell(value);
    }

    fn next_deadline(&self) -> Option<Stamp> {
        self.due
    }

    fn fire(&mut self, _: Stamp, out: &mut Out<Self>) {
        self.due = None;
        out.tell(0);
    }

    fn freeze(&self) -> Counter {
        self.clone()
    }

    fn snapshot(frozen: &Counter) -> Chunks<'_> {
        Box::new(std::iter::once_with(|| postcard::to_stdvec(frozen).unwrap()))
    }

    fn restore(&self, bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|e| e.to_string())
    }

    fn digest(&self) -> [u8; 32] {
        blake3::hash(&postcard::to_stdvec(self).unwrap()).into()
    }
}

fn cell(n: u16) -> Replica<Counter> {
    Replica::new(CellId(n), Counter { cell: n, ..Counter::default() })
}

fn batch(stamp: Stamp, items: Vec<Item<(u16, u64)>>, acks: Vec<Ack>) -> Batch<(u16, u64)> {
    Batch { stamp, origin: Origin::default(), acks, items }
}

fn deliver(to: &mut Replica<Counter>, delivery: Delivery) -> Receipt {
    let applied = to.apply(batch(0, vec![Item::Deliver(delivery)], vec![]));
    match applied.outcomes[0] {
        Outcome::Receipt(receipt) => receipt,
        ref other => panic!("{other:?}"),
    }
}

fn send(from: &mut Replica<Counter>, to: u16, values: std::ops::Range<u64>) {
    from.apply(batch(0, values.map(|v| Item::Command((to, v))).collect(), vec![]));
}

#[test]
fn messages_arrive_once_and_in_order_however_often_they_are_sent() {
    let (mut a, mut b) = (cell(1), cell(2));
    send(&mut a, 2, 1..6);
    let all = a.outgoing(CellId(2), 0, 100).unwrap();
    let some = a.outgoing(CellId(2), 0, 2).unwrap();
    assert_eq!(deliver(&mut b, some).taken, 2);
    let again = deliver(&mut b, all.clone());
    assert_eq!((again.taken, again.watermark, again.refused), (3, 5, false));
    assert_eq!(deliver(&mut b, all).taken, 0);
    assert_eq!(b.machine().seen, [1, 2, 3, 4, 5]);
}

#[test]
fn a_gap_and_a_changed_message_are_refused() {
    let (mut a, mut b) = (cell(1), cell(2));
    send(&mut a, 2, 1..6);
    let gap = a.outgoing(CellId(2), 2, 100).unwrap();
    assert_eq!(gap.first, 3);
    assert!(deliver(&mut b, gap).refused);
    let mut changed = a.outgoing(CellId(2), 0, 100).unwrap();
    changed.messages[3] = postcard::to_stdvec(&99u64).unwrap().into();
    assert!(deliver(&mut b, changed).refused);
    assert_eq!(b.machine().sum, 0);
}

#[test]
fn only_an_acknowledgement_trims() {
    let (mut a, mut b) = (cell(1), cell(2));
    send(&mut a, 2, 1..6);
    deliver(&mut b, a.outgoing(CellId(2), 0, 3).unwrap());
    assert_eq!(a.outbox_depths().next(), Some((CellId(2), 5, 5)));
    let ack = b.acknowledgement(CellId(1));
    a.apply(batch(0, vec![], vec![ack, ack]));
    assert_eq!(a.outbox_depths().next(), Some((CellId(2), 2, 5)));
    assert_eq!(a.outgoing(CellId(2), 0, 9).unwrap().first, 4);
    assert_eq!(a.streams()[&CellId(2)], (3, 5, 0));
}

#[test]
#[should_panic(expected = "I3")]
fn an_acknowledgement_of_another_history_halts_the_cell() {
    let mut a = cell(1);
    send(&mut a, 2, 1..3);
    a.apply(batch(0, vec![], vec![Ack { by: CellId(2), through: 1, hash: 7 }]));
}

#[test]
fn a_deadline_fires_before_the_command_with_its_stamp() {
    let mut a = cell(1);
    a.apply(batch(10, vec![Item::Command((1, 50))], vec![]));
    let early = a.apply(batch(49, vec![Item::Tick], vec![]));
    assert!(early.effects.is_empty());
    let due = a.apply(batch(50, vec![Item::Command((2, 1))], vec![]));
    assert_eq!(due.effects, [0]);
    assert_eq!(a.stamp(), 50);
    a.apply(batch(20, vec![Item::Tick], vec![]));
    assert_eq!(a.stamp(), 50, "stamps never go back");
}

#[test]
fn a_snapshot_carries_the_streams() {
    let (mut a, mut b) = (cell(1), cell(2));
    send(&mut a, 2, 1..6);
    deliver(&mut b, a.outgoing(CellId(2), 0, 2).unwrap());
    for (replica, fresh) in [(&a, cell(1)), (&b, cell(2))] {
        let bytes: Vec<u8> = replica.freeze().snapshot().flatten().collect();
        let restored = fresh.restore(&bytes).unwrap();
        assert_eq!(restored.digest(), replica.digest());
        assert_eq!(restored.streams(), replica.streams());
        assert!(cell(7).restore(&bytes).unwrap_err().contains("c7"));
    }
}
