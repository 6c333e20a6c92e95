//! The native front end: clients that hold one QUIC connection with many calls in flight.
//!
//! - [`protocol`]: what is on the wire. Here: one task per connection, which reads frames, polls
//!   all its calls and feeds, and gathers whatever is finished into one frame. A client that does
//!   not read makes its writer wait, and with it its own calls, nobody else's.
//!
//! What never lives here: certificates and sockets (the mesh accepts connections), rules.

pub mod protocol;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use stakehold_actors::{
    api::{ApiError, Principal, Request},
    domain::types::{AccountId, MarketId},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::protocol::{FrameReader, FrameWriter, FromClient, FromServer};
use crate::http::{
    answer::Api,
    feed::{Event, Subscription},
};

/// How long a new connection may take to say who it is.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Markets that one connection may follow at a time.
const FOLLOWED_MAX: usize = 1_024;
const READ_MAX: usize = 64 << 10;

/// Serves the connections that come through the channel until it closes or `api.stop` is
/// cancelled; then lets calls in flight finish.
pub async fn serve(api: Arc<Api>, mut connections: mpsc::Receiver<Connection>) {
    let open = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            biased;
            () = api.stop.cancelled() => break,
            connection = connections.recv() => connection,
        };
        let Some(connection) = connection else { break };
        if open.len() >= api.limits.connections_max {
            api.metrics.turned_away();
            connection.close(VarInt::from_u32(1), b"Too many connections; try again in a second.");
            continue;
        }
        let api = Arc::clone(&api);
        open.spawn(async move {
            let _counted = api.metrics.connection();
            if let Err(sentence) = client(&api, &connection).await {
                tracing::debug!(client = %connection.remote_address(), sentence, "a client's connection ended");
                connection.close(VarInt::from_u32(1), sentence.as_bytes());
            }
        });
    }
    open.close();
    if tokio::time::timeout(api.limits.drain_time, open.wait()).await.is_err() {
        tracing::warn!(left = open.len(), "clients did not finish in time");
    }
}

/// One connection from hello to end. The error is the sentence to close with.
async fn client(api: &Arc<Api>, connection: &Connection) -> Result<(), String> {
    let accepted = tokio::time::timeout(HELLO_TIME, connection.accept_bi()).await;
    let Ok(Ok((send, recv))) = accepted else { return Err("No stream was opened in time.".into()) };
    let mut link = Link { send, recv, reader: FrameReader::default(), writer: FrameWriter::default() };
    let hello = tokio::time::timeout(HELLO_TIME, link.read()).await.map_err(|_| "No hello came in time.")??;
    let mut messages = hello.unwrap_or_default().into_iter();
    let Some(FromClient::Hello { token }) = messages.next() else { return Err("Say hello first.".into()) };
    let Some(who) = api.principal(&token).await.map_err(|error| error.to_string())? else {
        let sentence = "This token is not valid here; check it, or ask the operator for one.";
        link.writer.push(&FromServer::Goodbye { sentence: sentence.into() });
        link.flush().await?;
        // Once the client has taken it, or is gone.
        let _ = link.send.finish();
        let _ = tokio::time::timeout(HELLO_TIME, link.send.stopped()).await;
        return Err(sentence.into());
    };
    link.writer.push(&FromServer::Welcome { principal: who });
    let mut session = Session {
        api: Arc::clone(api),
        who,
        calls: FuturesUnordered::new(),
        feeds: SelectAll::new(),
        followed: BTreeMap::new(),
    };
    for message in messages {
        session.take(message, &mut link.writer);
    }
    link.flush().await?;
    session.run(&mut link).await?;
    let _ = link.send.finish();
    let _ = tokio::time::timeout(HELLO_TIME, link.send.stopped()).await;
    Ok(())
}

struct Link {
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Link {
    /// The next frame's messages; `None` when the client is done. May be dropped while it waits.
    async fn read(&mut self) -> Result<Option<Vec<FromClient>>, String> {
        read(&mut self.recv, &mut self.reader).await
    }

    async fn flush(&mut self) -> Result<(), String> {
        if self.writer.is_empty() {
            return Ok(());
        }
        self.send.write_chunk(self.writer.finish()).await.map_err(|error| error.to_string())
    }
}

async fn read(recv: &mut RecvStream, reader: &mut FrameReader) -> Result<Option<Vec<FromClient>>, String> {
    loop {
        if let Some(messages) = reader.next_frame().map_err(|error| error.to_string())? {
            return Ok(Some(messages));
        }
        match recv.read_chunk(READ_MAX, true).await {
            Ok(Some(chunk)) => reader.feed(&chunk.bytes),
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
    }
}

struct Session {
    api: Arc<Api>,
    who: Principal,
    calls: FuturesUnordered<BoxFuture<'static, FromServer>>,
    feeds: SelectAll<BoxStream<'static, FromServer>>,
    followed: BTreeMap<u64, CancellationToken>,
}

impl Session {
    async fn run(&mut self, link: &mut Link) -> Result<(), String> {
        let stop = self.api.stop.clone();
        let mut reading = true;
        loop {
            if !reading && self.calls.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if reading => {
                    reading = false;
                    self.followed.clear();
                    self.feeds = SelectAll::new();
                }
                Some(answer) = self.calls.next(), if !self.calls.is_empty() => link.writer.push(&answer),
                messages = read(&mut link.recv, &mut link.reader), if reading => match messages? {
                    Some(messages) => {
                        for message in messages {
                            self.take(message, &mut link.writer);
                        }
                    }
                    None => reading = false,
                },
                Some(event) = self.feeds.next(), if !self.feeds.is_empty() => self.event(&event, &mut link.writer),
            }
            // Whatever else is finished goes into the same frame.
            while !link.writer.is_full() {
                if let Some(Some(answer)) = self.calls.next().now_or_never() {
                    link.writer.push(&answer);
                } else if let Some(Some(event)) = self.feeds.next().now_or_never() {
                    self.event(&event, &mut link.writer);
                } else {
                    break;
                }
            }
            link.flush().await?;
        }
    }

    fn event(&mut self, event: &FromServer, writer: &mut FrameWriter) {
        if let FromServer::Ended { id, .. } = event {
            self.followed.remove(id);
        }
        writer.push(event);
    }

    fn take(&mut self, message: FromClient, writer: &mut FrameWriter) {
        match message {
            FromClient::Call { id, request } => match self.admit(&request) {
                Ok(()) => self.calls.push(call(Arc::clone(&self.api), self.who, id, request).boxed()),
                Err(error) => writer.push(&FromServer::Answer { id, outcome: Err(error) }),
            },
            FromClient::IssueToken { id, account } => {
                let (api, who) = (Arc::clone(&self.api), self.who);
                self.calls
                    .push(async move { FromServer::Token { id, outcome: issue(&api, who, account).await } }.boxed());
            }
            FromClient::Follow { id, market } => match self.follow(id, market) {
                Ok(()) => {}
                Err(error) => writer.push(&FromServer::Ended { id, error }),
            },
            FromClient::Unfollow { id } => {
                if let Some(token) = self.followed.remove(&id) {
                    token.cancel();
                }
            }
            FromClient::Hello { .. } => {}
        }
    }

    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        let limits = &self.api.limits;
        if self.calls.len() >= limits.per_connection_max as usize {
            return Err(ApiError::Busy { retry_after_ms: 100 });
        }
        let Principal::Account(account) = self.who else { return Ok(()) };
        let cost = match request {
            Request::Place { orders, .. } => u32::try_from(orders.len()).unwrap_or(u32::MAX),
            _ => 1,
        };
        let taken = self.api.buckets.take(account, cost, self.api.clock.now_ms());
        taken.map_err(|retry_after_ms| ApiError::Busy { retry_after_ms })
    }

    fn follow(&mut self, id: u64, market: MarketId) -> Result<(), ApiError> {
        if let Some(before) = self.followed.remove(&id) {
            before.cancel();
        }
        if self.followed.len() >= FOLLOWED_MAX {
            return Err(ApiError::Invalid(format!("Follow at most {FOLLOWED_MAX} markets on one connection.")));
        }
        let (api, token) = (Arc::clone(&self.api), CancellationToken::new());
        let state = Some((None, token.clone()));
        let messages = stream::unfold(state, move |state| {
            let api = Arc::clone(&api);
            async move {
                let (subscription, token) = state?;
                let next = tokio::select! {
                    biased;
                    () = token.cancelled() => return None,
                    next = next_of(&api, market, subscription) => next,
                };
                Some(match next {
                    Ok((Event::Image(book), subscription)) => {
                        (FromServer::Image { id, book }, Some((Some(subscription), token)))
                    }
                    Ok((Event::Delta(change), subscription)) => {
                        (FromServer::Delta { id, delta: change.delta.clone() }, Some((Some(subscription), token)))
                    }
                    Err(error) => (FromServer::Ended { id, error }, None),
                })
            }
        });
        self.feeds.push(messages.boxed());
        self.followed.insert(id, token);
        Ok(())
    }
}

/// The next event of a subscription, which begins with the first.
async fn next_of(
    api: &Api,
    market: MarketId,
    subscription: Option<Subscription>,
) -> Result<(Event, Subscription), ApiError> {
    let mut subscription = match subscription {
        Some(subscription) => subscription,
        None => api.feeds.subscribe(market, None).await?,
    };
    let event = subscription.next().await.ok_or(ApiError::Unavailable)?;
    Ok((event, subscription))
}

async fn call(api: Arc<Api>, who: Principal, id: u64, request: Request) -> FromServer {
    let outcome = match api.in_flight.enter(1) {
        Some(_permit) => api.call(who, api.new_id(), request).await,
        None => Err(ApiError::Busy { retry_after_ms: 100 }),
    };
    api.metrics.called(outcome.is_ok());
    FromServer::Answer { id, outcome }
}

async fn issue(api: &Api, who: Principal, account: AccountId) -> Result<String, ApiError> {
    if who != Principal::Operator {
        return Err(ApiError::Forbidden);
    }
    api.call(who, api.new_id(), Request::GetAccount { account }).await?;
    api.issue_token(account).await
}

#[cfg(test)]
pub(crate) mod tests;
