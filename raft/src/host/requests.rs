//! Requests of the layer above to other nodes, and theirs to this one. The body is opaque here.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::{BufMut, Bytes};
use tokio::time::Instant;

use super::{Host, error::RequestError};
use crate::{
    ids::NodeId,
    machine::Machine,
    mesh::{Incoming, Kind, Lost, Mesh, ReplyTo},
    timer,
};

type Handler = Box<dyn Fn(NodeId, Bytes, Replier) + Send + Sync>;

/// The first byte of an answer: whether there is one.
const ANSWERED: u8 = 1;
const REFUSED: u8 = 0;

/// Answers one request. Dropped without an answer, it refuses.
pub struct Replier {
    mesh: Arc<Mesh>,
    to: Option<ReplyTo>,
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Replier {
    pub fn reply(self, body: &[u8]) {
        self.reply_with(|to| to.extend_from_slice(body));
    }

    /// Writes the answer straight into the outgoing frame.
    pub fn reply_with(mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(to) = self.to.take() {
            self.mesh.reply(to, |body| {
                body.put_u8(ANSWERED);
                write(body);
            });
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            self.mesh.reply(to, |body| body.put_u8(REFUSED));
        }
    }
}

#[derive(Default)]
pub(super) struct Requests(OnceLock<Handler>);

impl Requests {
    pub fn take(&self, mesh: &Arc<Mesh>, incoming: Incoming) {
        let replier = Replier { mesh: mesh.clone(), to: Some(incoming.reply) };
        if let Some(handler) = self.0.get() {
            handler(incoming.from, incoming.body, replier);
        }
    }
}

impl<M: Machine> Host<M> {
    /// Answers requests of other nodes from now on. Called on the runtime's thread: must not block.
    ///
    /// # Panics
    /// When called a second time: there is one layer above.
    pub fn serve(&self, handler: impl Fn(NodeId, Bytes, Replier) + Send + Sync + 'static) {
        assert!(self.requests.0.set(Box::new(handler)).is_ok(), "requests are served by one handler");
    }

    /// Asks another node. Requests to one node that are made in the same turn travel in one frame.
    ///
    /// # Errors
    /// NotConnected, Busy and Refused: it was not carried out. NoAnswer: it may have been.
    pub fn request(
        &self,
        to: NodeId,
        body: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Bytes, RequestError>> + Send + use<M> {
        let call = self.mesh.call(to, Kind::Request, 0, |frame| frame.extend_from_slice(&body));
        async move {
            match timer::timeout_at(deadline, call).await {
                Ok(Ok(mut answer)) if answer.first() == Some(&ANSWERED) => Ok(answer.split_off(1)),
                Ok(Ok(_)) => Err(RequestError::Refused(to)),
                Ok(Err(Lost::NotConnected)) => Err(RequestError::NotConnected(to)),
                Ok(Err(Lost::Busy)) => Err(RequestError::Busy(to)),
                Ok(Err(Lost::Broken)) | Err(_) => Err(RequestError::NoAnswer(to)),
            }
        }
    }
}
