//! The log's bytes, pinned: a node must come back on what older versions have written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    ids::NodeId,
    lines::check,
    wal::{
        LogEntry, Position, Record, WalError,
        batch::{self, HEADER, Header, Item, Seed},
        frame::{self, Checkpoint, Frame},
        labels::{self, Mark},
    },
};

const IDENTITY: [u8; 32] = *b"a cluster's id has 32 bytes: yes";
const GROUP: u16 = 513;

fn expect(right: bool, what: impl std::fmt::Debug) -> Result<(), String> {
    if right { Ok(()) } else { Err(format!("is {what:?}")) }
}

fn entry(index: u64, body: &'static [u8]) -> LogEntry {
    LogEntry { index, term: 7, body: Bytes::from_static(body) }
}

#[test]
fn a_record_of_each_kind_is_what_it_ever_was() {
    let _: fn(&Record) = |record| match record {
        // A new kind goes below as well.
        Record::Vote { .. } | Record::Append { .. } | Record::Truncate { .. } | Record::Purge { .. } => (),
        Record::Committed { .. } | Record::Forget | Record::Note { .. } => (),
    };
    let id = || Bytes::from_static(b"log id");
    let records = [
        ("vote", Record::Vote { vote: Bytes::from_static(b"for me") }),
        ("append", Record::Append { entries: vec![entry(1_000, b"first"), entry(1_001, b""), entry(1_002, b"3")] }),
        ("truncate", Record::Truncate { after: Some(999) }),
        ("truncate all", Record::Truncate { after: None }),
        ("purge", Record::Purge { through: 998, id: id() }),
        ("committed", Record::Committed { id: id() }),
        ("forget", Record::Forget),
        ("note", Record::Note { key: "incarnation".into(), value: Bytes::from_static(&[0, 0, 0, 1]) }),
    ];
    let whole = Checkpoint {
        vote: Some(Bytes::from_static(b"for me")),
        committed: Some(id()),
        purged: Some((998, id())),
        live: Some((999, 1_002)),
        notes: BTreeMap::from([("a".into(), Bytes::from_static(b"1")), ("bc".into(), Bytes::new())]),
    };
    let checkpoints = [("checkpoint", whole), ("checkpoint of nothing", Checkpoint::default())];
    check("records.txt", include_str!("../../../tests/golden/records.txt"), |lines| {
        let records = records.map(|(name, record)| (name, Frame::Record(record)));
        let checkpoints = checkpoints.map(|(name, checkpoint)| (name, Frame::Checkpoint(checkpoint)));
        for (name, frame) in records.into_iter().chain(checkpoints) {
            let mut written = Vec::new();
            match &frame {
                Frame::Record(record) => frame::encode(&mut written, GROUP, record),
                Frame::Checkpoint(checkpoint) => frame::encode_checkpoint(&mut written, GROUP, checkpoint),
            }
            lines.read(name, &written, |line| {
                let read = frame::decode(line);
                expect(read == Some(vec![(GROUP, frame)]), read)
            });
        }
    });
}

#[test]
fn a_batch_and_the_labels_are_what_they_ever_were() {
    let seed = Seed::new(&IDENTITY);
    let groups = || BTreeSet::from([1, GROUP, u16::MAX]);
    check("log.txt", include_str!("../../../tests/golden/log.txt"), |lines| {
        lines.read("name of a segment", batch::segment_file("wal", 12).as_bytes(), |_| Ok(()));
        lines.read("superblock", &labels::superblock(&IDENTITY, NodeId(300)), |line| {
            let of = |node| labels::check_superblock(line, "superblock", &IDENTITY, NodeId(node));
            expect(of(300).is_ok() && matches!(of(3), Err(WalError::OtherOwner { .. })), of(300))
        });
        for number in [41, 42] {
            let durable = Position { segment: 12, offset: 8_192 };
            let mark = Mark { durable, number, groups: groups() };
            assert_eq!(mark.place([false; 2]), Some(number % 2 * batch::BLOCK));
            lines.read(&format!("mark {number}"), &mark.encode(seed), |line| {
                let [read, _] = Mark::read(line, seed);
                expect(read.as_ref() == Some(&mark), read)
            });
        }
        // Its place is the start of a segment: that is where it is looked for here.
        let (place, durable) = (Position { segment: 12, offset: 0 }, Position { segment: 11, offset: 8_192 });
        let body = [&b"the body"[..], &[0; 700], b"its end"].concat();
        let spare = [&[0; HEADER][..], &body].concat();
        lines.read("batch", &batch::seal(spare, &groups(), seed, place, 41, durable), |line| {
            let mut data = line.to_vec();
            let scan = batch::scan(&mut data, 12, seed).map_err(|version| format!("is of version {version}"))?;
            let [Item::Good { header, body: at, groups: named }] = &scan.items[..] else {
                return Err(format!("is {scan:?}"));
            };
            let Header { place: p, number, durable: d, .. } = *header;
            let right = (p, number, d) == (place, 41, durable) && data[at.clone()] == body && *named == groups();
            expect(right, scan)
        });
    });
}
