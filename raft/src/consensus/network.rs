//! openraft's calls to a peer, over the mesh. Entries are pipelined: many appends are under way at
//! once, and their answers come back in order.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream, future::BoxFuture, stream::BoxStream};
use openraft::{
    EmptyNode, RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    codec, transfer,
    types::{RaftVote, Snapshot, Types},
};
use crate::{
    ids::RaftId,
    mesh::{Kind, Lost, Mesh},
    timer,
};

/// Appends under way to one follower.
const WINDOW: usize = 64;

/// While entries keep coming, the commit index waits this long for the next of them to travel
/// with. It halves the messages of a busy group; its followers apply that much later.
const COMPANY: Duration = Duration::from_millis(2);
/// A group that has sent an entry within this time is busy.
const BUSY: Duration = Duration::from_millis(10);

/// How to reach the peers of one group.
#[derive(Clone)]
pub(crate) struct Links {
    pub mesh: Arc<Mesh>,
    pub group: u16,
    /// An append without an answer for this long ends the stream.
    pub patience: Duration,
    pub snapshot_stall: Duration,
    pub snapshot_chunk: usize,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: RaftId, _node: &EmptyNode) -> Link {
        Link { links: self.clone(), target }
    }
}

pub(crate) struct Link {
    links: Links,
    target: RaftId,
}

fn lost(why: Lost) -> RPCError<Types> {
    match why {
        Lost::NotConnected | Lost::Busy => RPCError::Unreachable(Unreachable::new(&why)),
        Lost::Broken => RPCError::Network(NetworkError::new(&why)),
    }
}

fn unanswered(what: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(format!("no usable answer to {what}")))
}

impl Link {
    async fn call(
        &self,
        kind: Kind,
        limit: Duration,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Bytes, RPCError<Types>> {
        let target = self.target;
        let call = self.links.mesh.call(target.node(), kind, self.links.group, |to| {
            codec::put_target(to, target);
            write(to);
        });
        match timer::timeout(limit, call).await {
            Ok(answer) => answer.map_err(lost),
            Err(_) => Err(unanswered("a call in time")),
        }
    }

    async fn vote_call(
        &self,
        kind: Kind,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let mut answer = self.call(kind, option.soft_ttl(), |to| codec::put_vote_request(to, &rpc)).await?;
        codec::take_vote_response(&mut answer).ok_or_else(|| unanswered("a vote request"))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut answer = self.call(Kind::Append, option.soft_ttl(), |to| codec::put_append(to, &rpc)).await?;
        let result = codec::take_append_reply(&mut answer).ok_or_else(|| unanswered("an append"))?;
        Ok(AppendEntriesResponse::from(result))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let patience = self.links.patience;
        let pipeline = Pipeline {
            link: self,
            input: Some(input),
            under_way: VecDeque::new(),
            alarm: Box::pin(timer::sleep(patience)),
            held: None,
            entries_sent: None,
            failed: false,
        };
        async move { Ok(Box::pin(pipeline) as BoxStream<'s, _>) }.boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.vote_call(Kind::Vote, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.vote_call(Kind::PreVote, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = transfer::send(&self.links, self.target, vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call(Kind::Transfer, option.soft_ttl(), |to| {
            codec::put_vote(to, req.from_leader());
            codec::put_target(to, *req.to_node_id());
            codec::put_optional_log_id(to, req.last_log_id());
        })
        .await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        const LIMIT: Duration = Duration::from_millis(500);
        let delays = std::iter::successors(Some(Duration::from_millis(20)), |d| Some((*d * 2).min(LIMIT)));
        Some(Backoff::new(delays))
    }
}

struct UnderWay {
    answer: oneshot::Receiver<Result<Bytes, Lost>>,
    sent: Instant,
}

/// Sends requests as they come and yields the answers in the same order, all in the task that
/// polls it.
struct Pipeline<'s, S> {
    link: &'s Link,
    input: Option<S>,
    under_way: VecDeque<UnderWay>,
    /// Goes off no earlier than the oldest answer is overdue; looked at once per period, not set
    /// again for every request.
    alarm: Pin<Box<timer::Sleep>>,
    /// A request without entries, which tells of a new commit index and can wait for the next one
    /// with entries: that tells of the same or a newer one.
    held: Option<(AppendEntriesRequest<Types>, Pin<Box<timer::Sleep>>)>,
    entries_sent: Option<Instant>,
    failed: bool,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Pipeline<'_, S> {
    fn send(&mut self, request: &AppendEntriesRequest<Types>) {
        let Link { links, target } = self.link;
        let (tx, answer) = oneshot::channel();
        links.mesh.request(
            target.node(),
            Kind::Append,
            links.group,
            |to| {
                codec::put_target(to, *target);
                codec::put_append(to, request);
            },
            move |result| {
                // The stream may have ended.
                let _ = tx.send(result);
            },
        );
        self.under_way.push_back(UnderWay { answer, sent: Instant::now() });
    }

    /// Sends a request, or holds it back to be dropped for the next.
    fn take(&mut self, request: AppendEntriesRequest<Types>) {
        if request.entries.is_empty() {
            if self.entries_sent.is_some_and(|sent| sent.elapsed() < BUSY) {
                let until = Box::pin(timer::sleep(COMPANY));
                let until = self.held.take().map_or(until, |(_, until)| until);
                self.held = Some((request, until));
                return;
            }
        } else {
            self.entries_sent = Some(Instant::now());
        }
        self.held = None;
        self.send(&request);
    }

    /// Sends what was held back, if it has waited long enough or nothing follows.
    fn release(&mut self, cx: &mut Context<'_>) {
        let alone = self.input.is_none();
        if self.held.as_mut().is_some_and(|(_, until)| alone || until.as_mut().poll(cx).is_ready())
            && let Some((request, _)) = self.held.take()
        {
            self.send(&request);
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.link.links.patience;
        while self.alarm.as_mut().poll(cx).is_ready() {
            let due = match self.under_way.front() {
                Some(oldest) if oldest.sent.elapsed() >= patience => return true,
                Some(oldest) => oldest.sent + patience,
                None => Instant::now() + patience,
            };
            self.alarm.as_mut().reset(due);
        }
        false
    }
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Stream for Pipeline<'_, S> {
    type Item = Result<StreamAppendResult<Types>, RPCError<Types>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        while this.under_way.len() < WINDOW {
            let Some(input) = &mut this.input else { break };
            match Pin::new(input).poll_next(cx) {
                Poll::Ready(Some(request)) => this.take(request),
                Poll::Ready(None) => this.input = None,
                Poll::Pending => break,
            }
        }
        this.release(cx);
        if this.overdue(cx) {
            this.failed = true;
            return Poll::Ready(Some(Err(unanswered("an append in time"))));
        }
        let Some(oldest) = this.under_way.front_mut() else {
            return if this.input.is_none() { Poll::Ready(None) } else { Poll::Pending };
        };
        let answer = ready!(Pin::new(&mut oldest.answer).poll(cx)).unwrap_or(Err(Lost::Broken));
        this.under_way.pop_front();
        let item = match answer {
            Ok(mut bytes) => codec::take_append_reply(&mut bytes).ok_or_else(|| unanswered("an append")),
            Err(why) => Err(lost(why)),
        };
        this.failed = !matches!(item, Ok(Ok(_)));
        Poll::Ready(Some(item))
    }
}
