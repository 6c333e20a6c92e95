//! The server over real sockets, against the fake backend.
//!
//! - [`raw`]: a client that sends exactly the bytes a test wants. `bad_input`: each refusal.
//!   `contract`: every route against the OpenAPI document. `feeds`: books rebuilt from events.

mod bad_input;
mod contract;
mod feeds;
mod raw;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{answer::Api, limits::Limits, server};
use crate::fake::{Counting, Fake, Hand};

/// A server on a free port.
pub(crate) struct Served {
    pub fake: Arc<Fake>,
    pub api: Arc<Api>,
    pub clock: Arc<Hand>,
    pub address: std::net::SocketAddr,
    pub stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn served() -> Served {
    served_with(Limits { feed_heartbeat: Duration::from_secs(3600), ..Limits::default() }).await
}

pub(crate) async fn served_with(limits: Limits) -> Served {
    let (fake, clock, stop) = (Fake::new(), Arc::new(Hand::default()), CancellationToken::new());
    clock.0.store(1_700_000_000_000, std::sync::atomic::Ordering::Relaxed);
    let api = Api::new(fake.clone(), clock.clone(), Arc::new(Counting::default()), limits, stop.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, None, Arc::clone(&api)));
    Served { fake, api, clock, address, stop }
}
