//! The native protocol, `stakehold-client/1`: one bidirectional QUIC stream each way a sequence of
//! frames, each frame any number of messages.
//!
//! ```text
//! frame   = length of the rest (u32, little endian, at most FRAME_MAX) · message · message · …
//! message = one FromClient or FromServer in postcard
//! ```
//!
//! The client says [`FromClient::Hello`] first and gets [`FromServer::Welcome`], or
//! [`FromServer::Goodbye`] and the end. Then calls and answers pass each other freely; an answer
//! carries the id of its call. Ids are the client's, and unique while in use.
//!
//! New kinds of messages go at the end; nothing is reordered or removed within a version.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stakehold_actors::{
    api::{ApiError, BookView, MarketDelta, Principal, Request, Response},
    domain::types::{AccountId, MarketId},
};

pub const ALPN: &[u8] = b"stakehold-client/1";
/// No frame is larger; 200 orders take 4 KiB.
pub const FRAME_MAX: usize = 1 << 20;
/// A writer closes its frame when it is this large, so that the other side can begin.
pub const FRAME_GOOD: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromClient {
    Hello {
        token: String,
    },
    Call {
        id: u64,
        request: Request,
    },
    /// The operator asks for a further token of an account.
    IssueToken {
        id: u64,
        account: AccountId,
    },
    /// Follow a market until [`FromClient::Unfollow`]: an image, then every change. Under an id in
    /// use it begins anew, with an image.
    Follow {
        id: u64,
        market: MarketId,
    },
    Unfollow {
        id: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromServer {
    Welcome {
        principal: Principal,
    },
    /// The end, with a sentence why.
    Goodbye {
        sentence: String,
    },
    Answer {
        id: u64,
        outcome: Result<Response, ApiError>,
    },
    Token {
        id: u64,
        outcome: Result<String, ApiError>,
    },
    Image {
        id: u64,
        book: BookView,
    },
    Delta {
        id: u64,
        delta: MarketDelta,
    },
    /// Nothing more of this market comes, and it was not the client who wanted that.
    Ended {
        id: u64,
        error: ApiError,
    },
}

/// The other side does not speak this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("A frame of {0} bytes is larger than this protocol allows.")]
    TooLarge(usize),
    #[error("A frame holds something that this version of the protocol does not know.")]
    Malformed,
}

/// Gathers messages into one frame.
#[derive(Debug, Default)]
pub struct FrameWriter(Vec<u8>);

impl FrameWriter {
    pub fn push<T: Serialize>(&mut self, message: &T) {
        if self.0.is_empty() {
            self.0.extend_from_slice(&[0; 4]);
        }
        // Into memory, of types that postcard can always write.
        self.0 = postcard::to_extend(message, std::mem::take(&mut self.0)).expect("plain data");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is time to send.
    pub fn is_full(&self) -> bool {
        self.0.len() >= FRAME_GOOD
    }

    /// The finished frame; the writer is empty again.
    pub fn finish(&mut self) -> Bytes {
        let mut frame = std::mem::take(&mut self.0);
        let length = u32::try_from(frame.len().saturating_sub(4)).expect("frames are far smaller than 4 GiB");
        if let Some(head) = frame.first_chunk_mut::<4>() {
            *head = length.to_le_bytes();
        }
        frame.into()
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct FrameReader(BytesMut);

impl FrameReader {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The messages of the next whole frame, or nothing while it is not complete.
    ///
    /// # Errors
    /// What makes the rest of the stream unreadable.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, FrameError> {
        let Some(head) = self.0.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > FRAME_MAX {
            return Err(FrameError::TooLarge(length));
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        let mut messages = Vec::new();
        let mut rest = &self.0[4..4 + length];
        while !rest.is_empty() {
            let (message, after) = postcard::take_from_bytes(rest).map_err(|_| FrameError::Malformed)?;
            messages.push(message);
            rest = after;
        }
        self.0.advance(4 + length);
        Ok(Some(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(id: u64) -> FromClient {
        FromClient::Follow { id, market: MarketId(id * 1000) }
    }

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let mut writer = FrameWriter::default();
        let mut stream = Vec::new();
        for id in 0..10 {
            writer.push(&follow(id));
            if id % 3 == 2 {
                stream.extend_from_slice(&writer.finish());
            }
        }
        stream.extend_from_slice(&writer.finish());
        for step in 1..stream.len() {
            let mut reader = FrameReader::default();
            let mut got: Vec<FromClient> = Vec::new();
            for piece in stream.chunks(step) {
                reader.feed(piece);
                while let Some(messages) = reader.next_frame().unwrap() {
                    got.extend(messages);
                }
            }
            assert_eq!(got, (0..10).map(follow).collect::<Vec<_>>(), "step {step}");
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let mut reader = FrameReader::default();
        reader.feed(&u32::MAX.to_le_bytes());
        assert_eq!(reader.next_frame::<FromClient>(), Err(FrameError::TooLarge(u32::MAX as usize)));
        let mut reader = FrameReader::default();
        reader.feed(&[2, 0, 0, 0, 200, 1]);
        assert_eq!(reader.next_frame::<FromClient>(), Err(FrameError::Malformed));
    }
}
