//! `stakehold health`: asks a node whether it is ready. For health checks of containers and scripts
//! that have nothing else to ask with.

use std::time::Duration;

use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than this is not healthy.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the status line needs.
const HEAD_BYTES: usize = 64;

/// Ask a node whether it is ready: exit code 0 if so, 1 if not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stakehold health --url http://127.0.0.1:8080")]
pub struct HealthArgs {
    /// The node's HTTP address.
    #[arg(long, env = "STAKEHOLD_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Ask only whether the process lives, not whether it can serve.
    #[arg(long)]
    live: bool,
}

/// # Errors
/// A sentence when the node is not ready, or not there.
pub async fn run(args: &HealthArgs) -> Result<(), String> {
    let Some(address) = args.url.strip_prefix("http://") else {
        return Err(format!("{}: give an address that starts with http://.", args.url));
    };
    let address = address.trim_end_matches('/');
    let path = if args.live { "/livez" } else { "/readyz" };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        stream.take(HEAD_BYTES as u64).read_to_end(&mut head).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&head).into_owned())
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

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
        let args = HealthArgs { url, live: false };
        run(&args).await.unwrap();
        let busy = run(&args).await.unwrap_err();
        assert!(busy.ends_with("is not ready: /readyz answered HTTP/1.1 503 Service Unavailable."), "{busy}");
        assert!(run(&args).await.unwrap_err().ends_with("/readyz answered nothing."));
        let odd = HealthArgs { url: "ftp://h".into(), live: false };
        assert_eq!(run(&odd).await.unwrap_err(), "ftp://h: give an address that starts with http://.");
    }
}
