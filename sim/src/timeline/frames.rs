//! What went over the wires. Every frame as long as there are not too many; else those of one pair, one
//! class and one short while together.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::trace::Event;

/// So many lines a page can hold: about three megabytes of it.
const MOST: usize = 120_000;
/// The shortest while in which frames are put together, in microseconds.
const WHILE_US: u64 = 10_000;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// Over how long frames are put together, in microseconds; 0 if each is there.
    pub within: u64,
    /// Of each: after the one before, how long it took (−1: it never arrived), from, to, class, how many.
    pub lines: Vec<(u64, i64, u8, u8, u8, u32)>,
}

#[derive(Clone, Copy)]
struct Frame {
    sent: u64,
    took: i64,
    from: u8,
    to: u8,
    class: u8,
}

pub fn frames(events: &[Event]) -> Frames {
    let frames = read(events);
    let mut within = 0;
    loop {
        let lines = together(&frames, within);
        if lines.len() <= MOST {
            return Frames { within, lines };
        }
        within = (within * 2).max(WHILE_US);
    }
}

/// Each frame, by the time it was sent.
fn read(events: &[Event]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    // From, to, class and hash of what is under way: frames that are the same arrive in their order.
    let mut away: BTreeMap<(u8, u8, u64, u64), VecDeque<usize>> = BTreeMap::new();
    for event in events.iter().filter(|event| matches!(event.kind, "send" | "deliver")) {
        let (Some(here), [there, class, _, hash]) = (event.node, &event.numbers[..]) else { continue };
        let (here, there) = (here.0 as u8 - 1, *there as u8 - 1);
        if event.kind == "send" {
            away.entry((here, there, *class, *hash)).or_default().push_back(frames.len());
            frames.push(Frame { sent: event.at, took: -1, from: here, to: there, class: *class as u8 });
            continue;
        }
        let sent = away.get_mut(&(there, here, *class, *hash)).and_then(VecDeque::pop_front);
        if let Some(frame) = sent.and_then(|sent| frames.get_mut(sent)) {
            frame.took = (event.at - frame.sent).cast_signed();
        }
    }
    frames
}

fn together(frames: &[Frame], within: u64) -> Vec<(u64, i64, u8, u8, u8, u32)> {
    // The first of each while stands for all; those that were lost stand apart.
    let mut groups: BTreeMap<(u64, usize), (Frame, u32)> = BTreeMap::new();
    let mut group_of = BTreeMap::new();
    for (number, frame) in frames.iter().enumerate() {
        let key = match frame.sent.checked_div(within) {
            Some(time) => (time, 0, frame.from, frame.to, frame.class, frame.took < 0),
            None => (frame.sent, number, 0, 0, 0, false),
        };
        let group = *group_of.entry(key).or_insert((frame.sent, number));
        groups.entry(group).or_insert((*frame, 0)).1 += 1;
    }
    let mut last = 0;
    let mut lines = Vec::with_capacity(groups.len());
    for (frame, count) in groups.into_values() {
        lines.push((frame.sent - last, frame.took, frame.from, frame.to, frame.class, count));
        last = frame.sent;
    }
    lines
}

#[cfg(test)]
mod tests {
    use stakehold_raft::NodeId;

    use super::*;

    fn event(at: u64, node: u16, kind: &'static str, other: u64, hash: u64) -> Event {
        Event { at, node: Some(NodeId(node)), kind, numbers: vec![other, 0, 9, hash], text: String::new() }
    }

    #[test]
    fn a_frame_is_followed_to_its_arrival_and_one_that_never_arrives_is_seen() {
        let events = [event(10, 1, "send", 2, 7), event(20, 1, "send", 2, 8), event(50, 2, "deliver", 1, 7)];
        assert_eq!(frames(&events).lines, [(10, 40, 0, 1, 0, 1), (10, -1, 0, 1, 0, 1)]);
    }

    #[test]
    fn too_many_are_put_together_and_none_is_forgotten() {
        let many: Vec<Event> =
            (0..MOST as u64 + 5).map(|n| event(n * 3, 1 + (n % 2) as u16, "send", 2 - n % 2, n)).collect();
        let frames = frames(&many);
        assert_eq!(frames.within, WHILE_US);
        assert!(frames.lines.len() < MOST);
        assert_eq!(frames.lines.iter().map(|line| line.5 as usize).sum::<usize>(), many.len());
    }
}
