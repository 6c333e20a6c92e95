//! What a call costs in CPU, server and client apart: a measurement, not a check. Run it optimised:
//!
//! ```text
//! CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p stakehold --lib cost -- --ignored --nocapture
//! ```

use std::sync::{Arc, atomic::Ordering};

use http_body_util::BodyExt as _;
use stakehold_actors::{
    api::{NewOrder, Request, Response},
    domain::types::{Minor, Persistence, Reference, RunnerId, Side},
};

use crate::{
    bridge::tests::bridged,
    client::{Client, Target},
    fake::{ADA, MARKET, OPERATOR_TOKEN},
    http::limits::Limits,
};

/// Nanoseconds this thread has spent on a CPU.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn bet(n: usize, orders: usize) -> Request {
    let order = NewOrder {
        runner: RunnerId(1),
        side: Side::Back,
        price: 350,
        size: Minor(1000),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
    };
    let reference = Reference::new(&format!("bet-{n:012}")).unwrap();
    Request::Place { account: ADA, market: MARKET, reference, orders: vec![order; orders] }
}

/// Calls in a closed loop; gives the microseconds per call of the client's thread.
fn drive(target: &Target, native: bool, clients: usize, calls: usize, orders: usize) -> f64 {
    runtime().block_on(async {
        let client = if native { Client::quic(target) } else { Client::http(target) }.unwrap();
        let each = calls / clients;
        let run = async |rounds: usize| {
            let all = (0..clients).map(|c| {
                let client = client.clone();
                async move {
                    for n in 0..rounds {
                        let answer = client.call(bet(c * each + n, orders)).await.unwrap();
                        assert!(matches!(answer, Response::Placed { .. }));
                    }
                }
            });
            futures::future::join_all(all).await;
        };
        run(each / 10).await;
        let before = cpu_ns();
        run(each).await;
        (cpu_ns() - before) as f64 / 1000.0 / (each * clients) as f64
    })
}

/// The least any server on this HTTP library costs: reads the body, gives a fixed answer.
async fn bare(listener: tokio::net::TcpListener) {
    let placed = crate::fake::order_view();
    let reference = placed.reference.clone();
    let reports = vec![stakehold_actors::api::PlaceReport { index: 0, outcome: Ok(placed) }];
    let answer = crate::http::json::encode(Response::Placed { market: MARKET, reference, reports });
    let answer = bytes::Bytes::from(answer);
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let answer = answer.clone();
            async move {
                let _body = request.into_body().collect().await?;
                Ok::<_, hyper::Error>(hyper::Response::new(http_body_util::Full::new(answer)))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_bare_answer() {
    for clients in [1, 8, 64] {
        let (tell, told) = std::sync::mpsc::channel();
        let done = Arc::new(tokio::sync::Notify::new());
        let calls = 40_000;
        let server = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                runtime().block_on(async move {
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    tell.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                    let before = cpu_ns();
                    tokio::select! { () = bare(listener) => {} () = done.notified() => {} }
                    cpu_ns() - before
                })
            }
        });
        let target = Target { http: told.recv().unwrap(), token: Some(OPERATOR_TOKEN.into()), ..Target::default() };
        drive(&target, false, clients, calls, 1);
        done.notify_one();
        let server_us = server.join().unwrap() as f64 / 1000.0 / (calls as f64 * 1.1);
        println!("bare {clients:>3} clients: server {server_us:6.2} us of CPU a call");
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_call() {
    for (native, clients, calls, orders) in [
        (false, 1, 20_000, 1),
        (false, 8, 80_000, 1),
        (false, 64, 80_000, 1),
        (false, 8, 4_000, 50),
        (true, 1, 20_000, 1),
        (true, 64, 100_000, 1),
        (true, 512, 100_000, 1),
        (true, 8, 4_000, 50),
    ] {
        let (tell, told) = std::sync::mpsc::channel();
        let done = Arc::new(tokio::sync::Notify::new());
        let server = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                runtime().block_on(async move {
                    let bridged = bridged(Limits::default()).await;
                    bridged.fake().quiet.store(true, Ordering::Relaxed);
                    let target = Target {
                        http: format!("http://{}", bridged.served.address),
                        quic: Some(format!("127.0.0.1:{}", bridged.address.port())),
                        token: Some(OPERATOR_TOKEN.into()),
                        ca_pem: Some(bridged.ca_pem.clone()),
                        ..Target::default()
                    };
                    tell.send(target).unwrap();
                    let before = cpu_ns();
                    done.notified().await;
                    cpu_ns() - before
                })
            }
        });
        let client_us = drive(&told.recv().unwrap(), native, clients, calls, orders);
        done.notify_one();
        // A tenth more calls were made to warm up.
        let server_us = server.join().unwrap() as f64 / 1000.0 / (calls as f64 * 1.1);
        let how = if native { "QUIC" } else { "HTTP" };
        println!(
            "{how} {clients:>3} clients, {orders:>2} orders a call: server {server_us:6.2} us, client {client_us:6.2} us of CPU a call"
        );
    }
}
