//! Consensus: the one module that names openraft. What leaves it are plain types.
//!
//! An [`Engine`] is one group on this node. It takes encoded batches, gives them to the replica
//! when they are committed, and answers peers. How openraft must be set, and why, is in
//! [`Engine::start`]; what it stores is in [`log`] and [`state`], how it speaks in [`network`].
//! What must never live here: when to propose, who waits for what, and anything of betting.

mod codec;
mod log;
mod members;
mod network;
mod runtime;
mod state;
mod transfer;
mod types;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use openraft::{
    EmptyNode, Raft, ReadPolicy, ServerState, SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
    raft::{AppendEntriesRequest, TransferLeaderRequest},
};
use serde::Serialize;
use tokio::time::Instant;

pub(crate) use codec::BATCH;
pub(crate) use members::Members;
pub(crate) use network::Links;
pub(crate) use runtime::with_entropy;
pub(crate) use state::{At, Shared, Watcher};
use types::{Outcome, Payload, Types};

use crate::{
    ids::{CellId, RaftId},
    machine::Machine,
    mesh::{Incoming, Kind, Mesh},
    mistake, reached,
    seam::Entropy,
    snapshots::SnapshotStore,
    timer,
    wal::{GroupState, Wal},
};

/// What a group is started with.
pub(crate) struct Start<M: Machine> {
    pub cell: CellId,
    pub id: RaftId,
    pub timing: Timing,
    pub links: Links,
    pub wal: Arc<Wal>,
    pub found: GroupState,
    pub snapshots: SnapshotStore,
    pub shared: Arc<Shared<M>>,
    pub watcher: Arc<dyn Watcher<M>>,
    pub entropy: Arc<dyn Entropy>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub heartbeat: Duration,
    pub election: (Duration, Duration),
    pub snapshot_every: u64,
    pub keep_log: u64,
}

/// Why a proposal did not become an entry, or is not known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Not in the log.
    NotLeader(Option<RaftId>),
    /// It was in the log, and another leader may have cut it off.
    Discarded,
}

/// What a replica is in its group now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Leader,
    Candidate,
    Follower,
    Learner,
    Stopped,
}

/// One look at a group.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub role: Role,
    pub leader: Option<RaftId>,
    pub term: u64,
    pub last_log: u64,
    pub committed: u64,
    pub snapshot: u64,
    pub purged: u64,
    pub members: Members,
    /// On the leader: the last entry each follower is known to have.
    pub matched: BTreeMap<RaftId, u64>,
}

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    pub term: u64,
    pub leader: Option<RaftId>,
    pub here: bool,
}

/// One Raft group on this node.
pub(crate) struct Engine<M: Machine> {
    id: RaftId,
    raft: Raft<Types, state::Applier<M>>,
    receiving: Arc<transfer::Receiving>,
    election: Duration,
    /// The snapshot up to which the log was to be purged last.
    purging: AtomicU64,
    /// Who sent the last append, and when.
    last_append: Mutex<Option<(RaftId, Instant)>>,
}

impl<M: Machine> fmt::Debug for Engine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An answer under way, to be polled until it is sent.
pub(crate) type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<M: Machine> Engine<M> {
    /// Starts or restarts a group from what the log and the snapshot store hold of it.
    ///
    /// # Errors
    /// A sentence: the log or the snapshot is unreadable, or an entry halts the replica.
    pub async fn start(start: Start<M>) -> Result<Self, String> {
        let Start { cell, id, timing, links, wal, found, snapshots, shared, watcher, entropy } = start;
        let config = config(cell, &timing)?;
        let log = log::GroupLog::new((cell, id), links.group, wal, found)?;
        let applier = state::Applier::new((cell, id), shared, watcher, snapshots);
        let raft = with_entropy(entropy, Raft::new(id, Arc::new(config), links, log, applier));
        let raft = raft.await.map_err(|e| e.to_string())?;
        Ok(Self {
            id,
            raft,
            receiving: Arc::default(),
            election: timing.election.1,
            purging: AtomicU64::new(0),
            last_append: Mutex::default(),
        })
    }

    /// Proposes an encoded batch. `rejected` is called if, and only if, it does not become an
    /// entry of this leader, or stops being one; else the batch is applied some time.
    pub async fn propose(&self, body: Bytes, rejected: impl FnOnce(Rejected) + Send + 'static) {
        let outcome = Outcome(Box::new(move |result: Result<_, ClientWriteError<Types>>| match result {
            Ok(_) => {}
            Err(ClientWriteError::ForwardToLeader(to)) => rejected(Rejected::NotLeader(to.leader_id)),
            Err(_) => rejected(Rejected::Discarded),
        }));
        // A group that has stopped drops the outcome; whoever waits learns it from the watcher.
        let _ = self.raft.client_write_ff(Payload(body), Some(outcome)).await;
    }

    /// Confirms with a quorum that this node leads, and waits until everything that was committed
    /// before is applied.
    ///
    /// # Errors
    /// The leader, if another leads; or None when no quorum answered.
    pub async fn read_index(&self) -> Result<(), Option<Option<RaftId>>> {
        let limit = self.election * 2;
        let confirm = async {
            let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|e| match e {
                RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => Some(to.leader_id),
                _ => None,
            })?;
            linearizer.await_ready(&self.raft).await.map(|_| ()).map_err(|_| None)
        };
        timer::timeout(limit, confirm).await.unwrap_or(Err(None))
    }

    /// Founds the group with these voters, unless it exists.
    pub async fn found(&self, voters: impl IntoIterator<Item = RaftId>) -> Result<(), String> {
        if self.raft.is_initialized().await.map_err(|e| e.to_string())? {
            return Ok(());
        }
        let voters: BTreeMap<RaftId, EmptyNode> = voters.into_iter().map(|id| (id, EmptyNode {})).collect();
        match self.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(_)) => Ok(()),
            Err(RaftError::Fatal(e)) => Err(e.to_string()),
        }
    }

    pub async fn is_founded(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(true)
    }

    /// Hands leadership to a voter. One way: this node stops accepting proposals at once.
    pub async fn hand_over(&self, to: RaftId) {
        // A group that has stopped leads nothing.
        let _ = self.raft.trigger().transfer_leader(to).await;
    }

    /// Lets the log forget what this group keeps in it: a snapshot of what is applied, and when
    /// that is there, no entry behind it. Followers that lag get the snapshot.
    pub async fn compact(&self) {
        let facts = self.facts();
        let asked = self.purging.swap(facts.snapshot, Ordering::Relaxed);
        // A purge that openraft put off while this replica led is not done when it follows, and not scheduled
        // again either. Then only a newer snapshot helps; since then there is an entry of another leader.
        let in_vain = asked == facts.snapshot && !mistake!("log.purge_asked_for_ever");
        // A group that has stopped forgets nothing.
        if facts.snapshot > facts.purged && !in_vain {
            let _ = self.raft.trigger().purge_log(facts.snapshot).await;
        } else {
            let _ = self.raft.trigger().snapshot().await;
        }
    }

    pub fn facts(&self) -> Facts {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let index = |id: &Option<types::LogId>| id.map_or(0, |id| id.index);
        Facts {
            role: role(m.state, m.running_state.is_ok()),
            leader: m.current_leader,
            term: m.current_term,
            last_log: m.last_log_index.unwrap_or(0),
            committed: index(&m.local_committed),
            snapshot: index(&m.snapshot),
            purged: index(&m.purged),
            members: self.members(),
            matched: m.replication.iter().flatten().map(|(id, at)| (*id, index(at))).collect(),
        }
    }

    /// Whether the leader is there: this replica, with a quorum that has answered it lately, or another
    /// that was heard lately. A leader that is only remembered may be dead, and then nobody decides.
    pub fn is_led(&self) -> bool {
        let lately = self.election * 2;
        let leader = self.raft.metrics().borrow_watched().current_leader;
        if leader == Some(self.id) {
            return self.members().is_quorum(&self.heard(lately));
        }
        let last = *self.last_append.lock().expect("no code that holds this lock panics");
        last.is_some_and(|(by, at)| leader == Some(by) && at.elapsed() <= lately)
    }

    /// Follows who leads, until the group stops; `changed` is called for each change and at first.
    pub async fn follow_leadership(&self, mut changed: impl FnMut(Lead)) {
        let mut metrics = self.raft.server_metrics();
        let mut last = None;
        loop {
            let lead = {
                let m = metrics.borrow_watched();
                let here = m.state == ServerState::Leader && m.vote.leader_id.voted_for == self.id;
                Lead { term: m.vote.leader_id.term, leader: m.current_leader, here }
            };
            if last != Some(lead) {
                last = Some(lead);
                changed(lead);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Answers a peer, if it speaks to this incarnation and is itself the latest that is known: what
    /// was said to or by an earlier one gets no answer. Appends are handed to openraft before this returns, so that they stay in
    /// order; what is returned must be polled until it is done.
    pub fn answer(&self, mesh: &Arc<Mesh>, incoming: Incoming) -> Option<Answer> {
        let Incoming { from, kind, mut body, reply, .. } = incoming;
        let for_me = codec::take_target(&mut body) == Some(self.id) || mistake!("members.removed_voter_alive");
        let speaker = codec::speaker(&body).filter(|id| id.node() == from && !self.is_superseded(*id));
        if !for_me || speaker.is_none() {
            reached!("rejoin.former_incarnation_ignored");
            mesh.reply(reply, |_| {});
            return None;
        }
        let mesh = mesh.clone();
        let raft = self.raft.clone();
        let answer: Option<Answer> = match kind {
            Kind::Append => {
                *self.last_append.lock().expect("no code that holds this lock panics") =
                    speaker.zip(Some(Instant::now()));
                codec::take_append(&mut body).map(|request| append(raft, request, mesh.clone(), reply))
            }
            Kind::Vote | Kind::PreVote => codec::take_vote_request(&mut body).map(|mut request| {
                if mistake!("raft.vote_without_log") {
                    request.last_log_id = Some(codec::log_id(u64::MAX, u64::MAX));
                }
                let mesh = mesh.clone();
                Box::pin(async move {
                    let response = match kind {
                        Kind::PreVote => raft.pre_vote(request).await,
                        _ => raft.vote(request).await,
                    };
                    let refused = matches!(&response, Ok(response) if !response.vote_granted);
                    reached!("vote.pre_vote_refused", refused && kind == Kind::PreVote);
                    reached!("vote.refused", refused && kind == Kind::Vote);
                    mesh.reply(reply, |to| {
                        if let Ok(response) = &response {
                            codec::put_vote_response(to, response);
                        }
                    });
                }) as Answer
            }),
            Kind::Transfer => transfer_request(&mut body).map(|request| {
                let mesh = mesh.clone();
                Box::pin(async move {
                    let accepted = matches!(raft.handle_transfer_leader(request).await, Ok(Ok(())));
                    reached!("lead.transferred", accepted);
                    mesh.reply(reply, |to| to.push(u8::from(accepted)));
                }) as Answer
            }),
            Kind::SnapshotChunk => match self.receiving.take(body) {
                transfer::Taken::Refuse => None,
                transfer::Taken::Answer(bytes) => {
                    mesh.reply(reply, |to| to.extend_from_slice(&bytes));
                    return None;
                }
                transfer::Taken::Install(vote, snapshot) => {
                    reached!("snapshot.received");
                    let mesh = mesh.clone();
                    Some(Box::pin(async move {
                        let response = raft.install_full_snapshot(vote, snapshot).await;
                        mesh.reply(reply, |to| {
                            if let Ok(response) = &response {
                                to.extend_from_slice(&transfer::done(response));
                            }
                        });
                    }))
                }
            },
            Kind::Deliver | Kind::Request | Kind::Join | Kind::Time => None,
        };
        let Some(mut answer) = answer else {
            mesh.reply(reply, |_| {});
            return None;
        };
        let first = tokio::task::coop::unconstrained(answer.as_mut());
        let mut first = std::pin::pin!(first);
        match first.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(()) => None,
            std::task::Poll::Pending => Some(answer),
        }
    }

    pub async fn stop(&self) {
        // A join error is a panic of openraft's core, which it has reported itself.
        let _ = self.raft.shutdown().await;
    }
}

fn append<M: Machine>(
    raft: Raft<Types, state::Applier<M>>,
    request: AppendEntriesRequest<Types>,
    mesh: Arc<Mesh>,
    reply: crate::mesh::ReplyTo,
) -> Answer {
    Box::pin(async move {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        let response = raft.append_entries(request).await;
        mesh.reply(reply, |to| {
            if let Ok(response) = response {
                codec::put_append_reply(to, &response.into_stream_result(prev, last));
            }
        });
    })
}

fn transfer_request(body: &mut Bytes) -> Option<TransferLeaderRequest<Types>> {
    let vote = codec::take_vote(body)?;
    let to = codec::take_target(body)?;
    Some(TransferLeaderRequest::new(vote, to, codec::take_optional_log_id(body)?))
}

fn role(state: ServerState, running: bool) -> Role {
    match state {
        _ if !running => Role::Stopped,
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Follower => Role::Follower,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// Every setting that matters, and why.
fn config(cell: CellId, timing: &Timing) -> Result<openraft::Config, String> {
    let ms = |d: Duration| d.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: cell.to_string(),
        heartbeat_interval: ms(timing.heartbeat),
        // An answered append is as good as a heartbeat.
        heartbeat_min_interval: Some(ms(timing.heartbeat * 3 / 4)),
        election_timeout_min: ms(timing.election.0),
        election_timeout_max: ms(timing.election.1),
        // A leader that restarts in its own term with a log that lost its unflushed tail would
        // write other entries at the same places: an acknowledged bet gone.
        enable_leader_restore: Some(mistake!("raft.leader_restore")),
        // A follower that no longer has what it had acknowledged is its disk's fault and must not take
        // the leader down with it. What it lacks is sent again, and until then it counts for nothing.
        allow_log_reversion: Some(true),
        // A node that cannot win must not disturb those who can.
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.snapshot_every),
        // Whoever lags by more is sent a snapshot; what is kept must cover that distance.
        max_in_snapshot_log_to_keep: timing.keep_log,
        replication_lag_threshold: timing.keep_log,
        purge_batch_size: (timing.snapshot_every / 4).max(1),
        // The transfer itself is bounded by progress, see `transfer`.
        install_snapshot_timeout: ms(Duration::from_secs(24 * 3600)),
        max_payload_entries: 64,
        backoff: "20ms 40ms 80ms ...500ms".into(),
        ..openraft::Config::default()
    };
    config.validate().map_err(|e| e.to_string())
}
