//! `stakehold health`: asks a node whether it is ready. For health checks of containers and scripts
//! that have nothing else to ask with.

use std::{io, path::Path, sync::Arc, time::Duration};

use clap::Args;
use hyper::http::uri::Authority;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::client::{
    target::{CA_VARIABLE, URL_VARIABLE, pem},
    tls,
};

/// Longer than this is not healthy.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the status line needs.
const HEAD_BYTES: usize = 64;

/// Ask a node whether it is ready: exit code 0 if so, 1 if not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stakehold health --url http://127.0.0.1:8080
  stakehold health --url https://127.0.0.1:8080 --ca cluster/ca.pem")]
pub struct HealthArgs {
    /// The node's HTTP address.
    #[arg(long, env = URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// For https: the file of the cluster's CA certificate.
    #[arg(long, value_name = "FILE", env = CA_VARIABLE)]
    ca: Option<String>,
    /// Ask only whether the process lives, not whether it can serve.
    #[arg(long)]
    live: bool,
}

/// # Errors
/// A sentence when the node is not ready, or not there.
pub async fn run(args: &HealthArgs) -> Result<(), String> {
    let (address, tls) = match args.url.split_once("://") {
        Some(("http", address)) => (address.trim_end_matches('/'), None),
        Some(("https", address)) => (address.trim_end_matches('/'), Some(connector(args.ca.as_deref())?)),
        _ => return Err(format!("{}: give an address that starts with http:// or https://.", args.url)),
    };
    let path = if args.live { "/livez" } else { "/readyz" };
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        match tls {
            None => head(stream, address, path).await,
            Some(tls) => head(tls.connect(server_name(address)?, stream).await?, address, path).await,
        }
    };
    let head = match timeout(PATIENCE, ask).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return Err(format!("{} does not answer: {error}.", args.url)),
        Err(_) => return Err(format!("{} did not answer within {} seconds.", args.url, PATIENCE.as_secs())),
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(())
    } else {
        Err(format!("{} is not ready: {path} answered {}.", args.url, head.lines().next().unwrap_or("nothing")))
    }
}

/// The beginning of what the node answers.
async fn head(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: &str, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    stream.take(HEAD_BYTES as u64).read_to_end(&mut head).await?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn connector(ca: Option<&str>) -> Result<TlsConnector, String> {
    let ca =
        ca.ok_or_else(|| format!("For https the cluster's CA is needed; name its file with --ca or {CA_VARIABLE}."))?;
    let config = pem(ca, Path::new(".")).and_then(|ca| tls::config(&ca, &[b"http/1.1"]));
    config.map(|config| TlsConnector::from(Arc::new(config))).map_err(|error| error.to_string())
}

/// Whom the node's certificate has to name.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let authority: Authority = address.parse().map_err(io::Error::other)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stakehold_raft::{NodeId, seam::Clock as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        identity::ClusterId,
        pki::{self, Authority as Ca, Credentials},
        world::SystemClock,
    };

    #[tokio::test]
    async fn only_a_200_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                assert!(request.starts_with(b"GET /readyz "));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let args = HealthArgs { url, ca: None, live: false };
        run(&args).await.unwrap();
        let busy = run(&args).await.unwrap_err();
        assert!(busy.ends_with("is not ready: /readyz answered HTTP/1.1 503 Service Unavailable."), "{busy}");
        assert!(run(&args).await.unwrap_err().ends_with("/readyz answered nothing."));
        let odd = HealthArgs { url: "ftp://h".into(), ca: None, live: false };
        assert_eq!(run(&odd).await.unwrap_err(), "ftp://h: give an address that starts with http:// or https://.");
    }

    /// A node that is ready, behind a certificate of this authority.
    async fn ready(ca: &Ca, now: u64) -> SocketAddr {
        let issued = ca.issue(NodeId(1), &["127.0.0.1".into()], now).unwrap();
        let [ca, chain, key] = [&ca.cert_pem, &issued.cert_pem, &issued.key_pem].map(|pem| pem.as_bytes());
        let credentials = Credentials::from_pem(ca, chain, key).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
            .unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                // Whoever does not trust it goes away.
                let Ok(mut stream) = tls.accept(listener.accept().await.unwrap().0).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn over_tls_a_node_has_to_be_of_the_cluster() {
        let now = SystemClock::default().now_ms();
        let [ours, others] = [1, 2].map(|number| Ca::create(ClusterId(number), now).unwrap());
        let url = format!("https://{}", ready(&ours, now).await);
        let asked =
            |ca: Option<&Ca>| HealthArgs { url: url.clone(), ca: ca.map(|ca| ca.cert_pem.clone()), live: false };
        run(&asked(Some(&ours))).await.unwrap();
        assert!(run(&asked(Some(&others))).await.unwrap_err().contains("does not answer: invalid peer certificate"));
        assert!(run(&asked(None)).await.unwrap_err().contains("--ca"));
    }
}
