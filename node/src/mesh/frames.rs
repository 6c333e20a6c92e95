//! What travels on a stream between nodes.
//!
//! ```text
//! hello   "SHM1"  class u8  zero [3]  life u64          once, at the start of a stream
//! frame   length u32  body                              ever after
//! ```
//! Integers are little-endian. `life` is when the sender's process started: the newer one of two
//! that claim to be the same node wins. A body's meaning is the business of `raft/` and the gateway.

use bytes::{Buf, Bytes, BytesMut};
use stakehold_raft::seam::Class;

use super::queue::LENGTH_BYTES;

/// Length of a hello.
pub(super) const HELLO_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"SHM1";

/// The first bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub class: Class,
    pub life: u64,
}

/// Why a stream's bytes make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the stream does not begin as one of this protocol")]
    Hello,
    #[error("a frame of {bytes} bytes is larger than the {max} allowed")]
    TooLarge { bytes: usize, max: usize },
}

impl Hello {
    pub fn encode(self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.class as u8;
        bytes[8..].copy_from_slice(&self.life.to_le_bytes());
        bytes
    }

    /// # Errors
    /// When these are not the first bytes of a stream of ours.
    pub fn decode(bytes: [u8; HELLO_BYTES]) -> Result<Self, FrameError> {
        let class = Class::ALL.into_iter().find(|c| *c as u8 == bytes[4]);
        match class {
            Some(class) if bytes[..4] == MAGIC && bytes[5..8] == [0; 3] => {
                Ok(Self { class, life: u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i])) })
            }
            _ => Err(FrameError::Hello),
        }
    }
}

/// Cuts a stream back into frames. A frame that lies in one chunk is a slice of it, not a copy.
#[derive(Debug)]
pub(super) struct Deframer {
    frame_max: usize,
    /// The beginning of a frame whose end has not arrived.
    partial: BytesMut,
}

impl Deframer {
    pub fn new(frame_max: usize) -> Self {
        Self { frame_max, partial: BytesMut::new() }
    }

    /// # Errors
    /// When a frame claims to be larger than any may be; the stream is of no use after that.
    pub fn push(&mut self, mut chunk: Bytes, mut sink: impl FnMut(Bytes)) -> Result<(), FrameError> {
        while !chunk.is_empty() {
            if self.partial.is_empty() && chunk.len() >= LENGTH_BYTES {
                let length = self.length(&chunk)?;
                if chunk.len() >= LENGTH_BYTES + length {
                    chunk.advance(LENGTH_BYTES);
                    sink(chunk.split_to(length));
                    continue;
                }
            }
            if self.partial.len() < LENGTH_BYTES {
                self.pull(&mut chunk, LENGTH_BYTES);
                if self.partial.len() < LENGTH_BYTES {
                    return Ok(());
                }
            }
            let whole = LENGTH_BYTES + self.length(&self.partial)?;
            self.pull(&mut chunk, whole);
            if self.partial.len() == whole {
                let mut frame = self.partial.split().freeze();
                frame.advance(LENGTH_BYTES);
                sink(frame);
            }
        }
        Ok(())
    }

    fn length(&self, start: &[u8]) -> Result<usize, FrameError> {
        let bytes = u32::from_le_bytes(std::array::from_fn(|i| start[i])) as usize;
        if bytes > self.frame_max {
            return Err(FrameError::TooLarge { bytes, max: self.frame_max });
        }
        Ok(bytes)
    }

    fn pull(&mut self, chunk: &mut Bytes, until: usize) {
        let take = (until - self.partial.len()).min(chunk.len());
        self.partial.extend_from_slice(&chunk.split_to(take));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..60),
        ) {
            let bytes = Bytes::from(wire(&frames));
            let mut deframer = Deframer::new(64);
            let (mut got, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == bytes.len() {
                    break;
                }
                let end = (at + cut).min(bytes.len());
                deframer.push(bytes.slice(at..end), |f| got.push(f.to_vec())).unwrap();
                at = end;
            }
            prop_assert_eq!(got, frames);
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_it_is_held() {
        for cut in 1..5 {
            let mut deframer = Deframer::new(64);
            let bytes = Bytes::from(wire(&[vec![0; 65]]));
            let first = deframer.push(bytes.slice(..cut), |_| panic!("no frame"));
            let error = first.and_then(|()| deframer.push(bytes.slice(cut..), |_| panic!("no frame"))).unwrap_err();
            assert_eq!(error, FrameError::TooLarge { bytes: 65, max: 64 });
        }
    }

    #[test]
    fn only_a_hello_is_a_hello() {
        let hello = Hello { class: Class::Bulk, life: 1_700_000_000_000 };
        assert_eq!(Hello::decode(hello.encode()), Ok(hello));
        for at in [0, 3, 4, 5, 7] {
            let mut bytes = hello.encode();
            bytes[at] = 9;
            assert_eq!(Hello::decode(bytes), Err(FrameError::Hello), "byte {at}");
        }
    }
}
