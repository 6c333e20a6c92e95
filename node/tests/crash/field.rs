//! The cluster as its clients see it: three addresses, each spoken to over HTTP and over QUIC, any of
//! which may not answer.

use std::{
    fs::File,
    io::{BufWriter, Write},
    sync::Mutex,
    time::Duration,
};

use stakehold::{
    client::{Client, ClientError, Target},
    harness::Cluster,
};
use stakehold_actors::{
    api::{ApiError, ClusterStatus, Request, Response},
    domain::types::Refusal,
};
use tokio::time::{Instant, sleep, timeout};

use super::dice::Dice;

/// A client waits so long for an answer, then it asks somebody else.
pub const CALL_TIME: Duration = Duration::from_secs(3);
/// Whoever insists gets an answer in this time, or something is broken.
pub const LIVENESS: Duration = Duration::from_secs(30);
/// Whoever got no answer asks again after this long: a client's manners, and no event that could be waited for.
pub const RETRY: Duration = Duration::from_millis(10);
/// How often other processes are looked at: nothing tells us when they have changed.
const LOOK: Duration = Duration::from_millis(20);

/// What a client knows after a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A verdict: it holds for good.
    Answer(Result<Response, Refusal>),
    /// Nothing, but why. The same call may be made again.
    Nothing(String),
    /// What may not happen to anybody who does everything right.
    Wrong(String),
}

struct Door {
    http: Client,
    quic: Client,
}

pub struct Field {
    doors: Vec<Door>,
    started: Instant,
    history: Option<Mutex<BufWriter<File>>>,
}

impl Field {
    pub fn new(cluster: &Cluster) -> Self {
        let known = cluster.target();
        let doors = known.nodes.iter().map(|node| {
            let target = Target { http: node.http.clone(), quic: Some(node.quic.clone()), ..known.clone() };
            let http = Client::http(&target).expect("the address is one");
            Door { http, quic: Client::quic(&target).expect("the address is one") }
        });
        let history = std::env::var_os("CRASH_HISTORY").map(|path| {
            let file = File::create(&path).unwrap_or_else(|error| panic!("{path:?} cannot be written: {error}"));
            Mutex::new(BufWriter::new(file))
        });
        Self { doors: doors.collect(), started: Instant::now(), history }
    }

    pub fn nodes(&self) -> usize {
        self.doors.len()
    }

    /// One call through one node, over either protocol.
    pub async fn call(&self, node: usize, native: bool, request: Request) -> Told {
        self.call_patiently(node, native, request, CALL_TIME).await
    }

    /// The same with another patience.
    pub async fn call_patiently(&self, node: usize, native: bool, request: Request, patience: Duration) -> Told {
        let door = &self.doors[node];
        let client = if native { &door.quic } else { &door.http };
        let invoked = self.started.elapsed();
        let asked = self.history.as_ref().map(|_| request.clone());
        let told = match timeout(patience, client.call(request)).await {
            Ok(Ok(response)) => Told::Answer(Ok(response)),
            Ok(Err(error)) => told(node, error),
            Err(_) => Told::Nothing(format!("node {} gave no answer in {patience:?}", node + 1)),
        };
        if let Some(request) = asked {
            self.record(invoked, &request, &told);
        }
        told
    }

    /// A line of the history, as `sim check` reads it.
    fn record(&self, invoked: Duration, request: &Request, told: &Told) {
        let Some(history) = self.history.as_ref().filter(|_| !matches!(request, Request::Status | Request::Audit))
        else {
            return;
        };
        let answer = if let Told::Answer(answer) = told { Some(answer) } else { None };
        let line = (invoked.as_micros() as u64, self.started.elapsed().as_micros() as u64, request, answer);
        let line = serde_json::to_string(&line).expect("plain data");
        writeln!(history.lock().expect("nothing panics while it holds this"), "{line}")
            .expect("the history is written");
    }

    /// Everything that was asked so far is in the history's file.
    pub fn finish(&self) {
        if let Some(history) = &self.history {
            history.lock().expect("nothing panics while it holds this").flush().expect("the history is written");
        }
    }

    /// Through whichever node answers, until one does.
    ///
    /// # Errors
    /// A sentence, when none does or what it says is wrong.
    pub async fn insist(&self, dice: &mut Dice, request: &Request) -> Result<Result<Response, Refusal>, String> {
        let started = Instant::now();
        loop {
            let node = dice.below(self.doors.len() as u64) as usize;
            match self.call(node, dice.percent(30), request.clone()).await {
                Told::Answer(answer) => return Ok(answer),
                Told::Nothing(why) if started.elapsed() > 3 * LIVENESS => {
                    return Err(format!("no answer in {:?} to {request:?}; the last: {why}", started.elapsed()));
                }
                Told::Nothing(_) => sleep(RETRY).await,
                Told::Wrong(why) => return Err(format!("{why} to {request:?}")),
            }
        }
    }

    /// What the cluster says of itself, through one of the nodes that `via` allows.
    pub async fn status(&self, dice: &mut Dice, via: impl Fn(usize) -> bool) -> Option<ClusterStatus> {
        let nodes: Vec<usize> = (0..self.doors.len()).filter(|node| via(*node)).collect();
        let node = *dice.pick(&nodes)?;
        match self.call(node, false, Request::Status).await {
            Told::Answer(Ok(Response::Status(status))) => Some(*status),
            _ => None,
        }
    }

    /// Looks at the cluster's status, through the nodes that `via` allows, until `seen` has seen what it wants;
    /// None if it has not within [`LIVENESS`].
    pub async fn watch<T>(
        &self,
        dice: &mut Dice,
        via: impl Fn(usize) -> bool,
        mut seen: impl FnMut(ClusterStatus) -> Option<T>,
    ) -> Option<T> {
        let started = Instant::now();
        while started.elapsed() < LIVENESS {
            if let Some(found) = self.status(dice, &via).await.and_then(&mut seen) {
                return Some(found);
            }
            sleep(LOOK).await;
        }
        None
    }
}

fn told(node: usize, error: ClientError) -> Told {
    let node = node + 1;
    match error {
        ClientError::Api(ApiError::Refused(Refusal::Busy) | ApiError::Busy { .. }) => {
            Told::Nothing(format!("node {node} is busy"))
        }
        ClientError::Api(ApiError::Refused(refusal)) => Told::Answer(Err(refusal)),
        ClientError::Api(error @ (ApiError::Unavailable | ApiError::Unknown)) => {
            Told::Nothing(format!("node {node}: {error}"))
        }
        ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::TimedOut { .. } => {
            Told::Nothing(format!("node {node}: {error}"))
        }
        error => Told::Wrong(format!("node {node} answered {error:?} ({error})")),
    }
}
