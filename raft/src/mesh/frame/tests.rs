//! Frames, pinned to the byte: nodes of two versions talk to each other while a cluster is upgraded.

use super::*;
use crate::lines::check;

#[test]
fn a_message_of_each_kind_is_what_it_ever_was() {
    let _: fn(Kind) = |kind| match kind {
        // A new kind goes below as well.
        Kind::Append | Kind::Vote | Kind::PreVote | Kind::Transfer | Kind::SnapshotChunk => (),
        Kind::Deliver | Kind::Request | Kind::Join | Kind::Time => (),
    };
    let kinds = [
        Kind::Append,
        Kind::Vote,
        Kind::PreVote,
        Kind::Transfer,
        Kind::SnapshotChunk,
        Kind::Deliver,
        Kind::Request,
        Kind::Join,
        Kind::Time,
    ];
    check("frames.txt", include_str!("../../../tests/golden/frames.txt"), |lines| {
        for (kind, reply) in kinds.iter().flat_map(|kind| [(*kind, false), (*kind, true)]) {
            let header = Header { kind, reply, group: 513, id: 0x0102_0304_0506_0708 };
            let mut frame = Vec::new();
            header.write(&mut frame, |body| body.extend_from_slice(b"body"));
            lines.read(&format!("{kind:?}{}", if reply { " reply" } else { "" }), &frame, |line| {
                let read: Vec<_> = Messages::of(Bytes::copy_from_slice(line)).collect();
                let right = read == [(header, Bytes::from_static(b"body"))];
                if right { Ok(()) } else { Err(format!("is {read:?}")) }
            });
        }
    });
}
