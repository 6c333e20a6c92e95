//! Sockets: accepts connections within the limits, speaks HTTP/1.1 and HTTP/2 on them, with TLS if
//! configured, and drains. The only file of the server that names the network.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::answer::Api;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/json\r\n\
    content-length: 101\r\n\r\n{\"error\":{\"code\":\"BUSY\",\"message\":\"Too many connections; try again in a second.\",\"request_id\":\"none\"}}";

/// Serves until `api.stop` is cancelled, then lets what is in flight finish for at most
/// [`Limits::drain_time`](super::limits::Limits::drain_time).
///
/// # Errors
/// Never for a single connection; only when the listener cannot be asked for its address.
pub async fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, api: Arc<Api>) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, tls = tls.is_some(), "serving HTTP");
    let tls = tls.map(TlsAcceptor::from);
    let protocol = protocol(&api);
    let room = Arc::new(Semaphore::new(api.limits.connections_max));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = api.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely; those in use will come back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => {
                connections.spawn(connection(stream, tls.clone(), protocol.clone(), Arc::clone(&api), permit));
            }
            Err(_) => {
                api.metrics.turned_away();
                if tls.is_none() {
                    turn_away(stream).await;
                }
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(api.limits.drain_time, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not finish in time");
    }
    Ok(())
}

/// A few bytes into an empty socket buffer: does not wait.
async fn turn_away(mut stream: TcpStream) {
    let _ = tokio::time::timeout(Duration::from_millis(10), stream.write_all(FULL)).await;
}

fn protocol(api: &Api) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(api.limits.header_time).max_headers(64);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(api.limits.per_connection_max)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    protocol
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    protocol: auto::Builder<TokioExecutor>,
    api: Arc<Api>,
    _permit: OwnedSemaphorePermit,
) {
    // Answers are small and complete; waiting for more to send with them only costs latency.
    let _ = stream.set_nodelay(true);
    let _open = api.metrics.connection();
    let Some(tls) = tls else { return speak(stream, protocol, &api).await };
    match tokio::time::timeout(api.limits.header_time, tls.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, protocol, &api).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak<S>(stream: S, protocol: auto::Builder<TokioExecutor>, api: &Arc<Api>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = api.stop.clone();
    let service = service_fn(move |request| {
        let api = Arc::clone(api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let connection = protocol.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// What a TLS configuration for [`serve`] must offer to its clients.
pub fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}
