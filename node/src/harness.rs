//! A cluster of real processes on this machine: started, found ready, measured, killed, restarted.
//! The benchmark, the embedded replay and the integration tests share it.
//!
//! It runs the program's own `init` and `serve`, and knows of them only their command lines, the
//! environment variables of their settings and the files that `init` writes.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::client::{Target, target::NodeAddress};

/// How long nodes may take until they are ready.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(25);
/// How long a node may take to drain before it is killed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);
/// Units of the kernel's process times: a hundredth of a second, by its ABI.
const USER_HZ: u64 = 100;
/// What the names of the settings are prefixed with in the environment.
const PREFIX: &str = "STAKEHOLD_";

#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    #[error("{what}: {source}.")]
    Io { what: String, source: io::Error },
    #[error("`{command}` failed with {status}: {output}")]
    Init { command: String, status: String, output: String },
    #[error("Node {node} ended while it was starting; the last lines of {log}: {tail}", log = .log.display())]
    Ended { node: usize, log: PathBuf, tail: String },
    #[error("Node {node} was not ready after {} s; see {log}.", READY_PATIENCE.as_secs(), log = .log.display())]
    NotReady { node: usize, log: PathBuf },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> HarnessError {
    let what = what.into();
    move |source| HarnessError::Io { what, source }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_us: u64,
    pub rss_bytes: u64,
}

impl Usage {
    /// Of a living process; `None` if there is none of this number.
    pub fn of(pid: u32) -> Option<Usage> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Usage> {
        // The name of the program may hold blanks and parentheses; the fields follow the last one.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let field = |n: usize| fields.get(n)?.parse::<u64>().ok();
        let (user, system, pages) = (field(11)?, field(12)?, field(21)?);
        Some(Usage {
            cpu_us: (user + system) * (1_000_000 / USER_HZ),
            rss_bytes: pages * rustix::param::page_size() as u64,
        })
    }
}

/// What `init --json` prints, as far as it matters here.
#[derive(serde::Deserialize)]
struct Made {
    operator_token: String,
    ca: PathBuf,
    nodes: Vec<MadeNode>,
}

#[derive(serde::Deserialize)]
struct MadeNode {
    config: PathBuf,
}

/// One node's process and where to find it.
#[derive(Debug)]
pub struct Node {
    config: PathBuf,
    log: PathBuf,
    pub http: SocketAddr,
    pub quic: SocketAddr,
    child: Option<Child>,
}

impl Node {
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn usage(&self) -> Option<Usage> {
        Usage::of(self.pid()?)
    }

    /// What the node wrote to its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn ready(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_millis(200))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            Ok(&head == b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }
}

/// A cluster in a directory of its own. Dropping it kills the nodes and removes the directory.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    /// Further settings for every node: `(NAME_WITHOUT_PREFIX, value)`.
    settings: Vec<(String, String)>,
    nodes: Vec<Node>,
    token: String,
    ca_pem: String,
    // Last, so that the nodes are gone before their files.
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Founds a cluster with this program (or, in tests, another build of it) and waits until all
    /// nodes are ready. `settings` are names of settings in the environment without their prefix.
    ///
    /// # Errors
    /// When `init` fails, a port cannot be had, or a node does not become ready.
    pub async fn start(program: &Path, nodes: usize, settings: &[(&str, &str)]) -> Result<Cluster, HarnessError> {
        Self::start_with_cells(program, nodes, None, settings).await
    }

    /// The same with another number of cells than `init` would choose.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_cells(
        program: &Path,
        nodes: usize,
        cells: Option<u16>,
        settings: &[(&str, &str)],
    ) -> Result<Cluster, HarnessError> {
        let directory = tempfile::Builder::new()
            .prefix("stakehold-")
            .tempdir()
            .map_err(io_error("no directory for the cluster could be made"))?;
        let founded = directory.path().join("cluster");
        let mut init = Command::new(program);
        init.args(["init", "--json", "--dir"]).arg(&founded).arg("--nodes").arg(nodes.to_string());
        if let Some(cells) = cells {
            init.arg("--cells").arg(cells.to_string());
        }
        let output = init.output().map_err(io_error(format!("{} cannot be run", program.display())))?;
        if !output.status.success() {
            return Err(HarnessError::Init {
                command: format!("{init:?}"),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let made: Made = serde_json::from_slice(&output.stdout).map_err(|error| HarnessError::Init {
            command: format!("{init:?}"),
            status: format!("an answer that is not as agreed ({error})"),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        })?;
        let ports = free_ports(2 * nodes).map_err(io_error("no free ports could be had"))?;
        let nodes = (0..nodes)
            .map(|n| Node {
                config: made.nodes.get(n).map(|node| node.config.clone()).unwrap_or_default(),
                log: directory.path().join(format!("node{}.log", n + 1)),
                http: ports[2 * n],
                quic: ports[2 * n + 1],
                child: None,
            })
            .collect();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let ca_pem = fs::read_to_string(&made.ca).map_err(io_error(format!("{} cannot be read", made.ca.display())))?;
        let token = made.operator_token;
        let mut cluster = Cluster { program: program.to_owned(), settings, nodes, token, ca_pem, directory };
        for n in 0..cluster.nodes.len() {
            cluster.launch(n)?;
        }
        for n in 0..cluster.nodes.len() {
            cluster.wait_ready(n).await?;
        }
        Ok(cluster)
    }

    /// Another value for a setting, for all nodes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(set, _)| set != name);
        self.settings.push((name.into(), value.into()));
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How clients reach it, as the operator.
    pub fn target(&self) -> Target {
        let nodes: Vec<NodeAddress> = (1..)
            .zip(&self.nodes)
            .map(|(id, node)| NodeAddress { id, http: format!("http://{}", node.http), quic: node.quic.to_string() })
            .collect();
        Target {
            http: nodes[0].http.clone(),
            quic: Some(nodes[0].quic.clone()),
            token: Some(self.token.clone()),
            ca_pem: Some(self.ca_pem.clone()),
            accounts: Vec::new(),
            nodes,
        }
    }

    /// The directory that `init` filled.
    pub fn founded(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    /// A node's data directory.
    pub fn data(&self, n: usize) -> PathBuf {
        self.founded().join(format!("n{}", n + 1)).join("data")
    }

    /// Leaves the directory behind when this is dropped, for somebody to look into. Returns it.
    pub fn keep(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Starts a node's process, without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started. A node that runs stays as it is.
    pub fn launch(&mut self, n: usize) -> Result<(), HarnessError> {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(&self.nodes[n].config);
        for (k, peer) in self.nodes.iter().enumerate() {
            command.env(format!("{PREFIX}PEERS_N{}", k + 1), peer.quic.to_string());
        }
        let node = &mut self.nodes[n];
        if node.child.is_some() {
            return Ok(());
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(&node.log);
        let log = log.map_err(io_error(format!("{} cannot be written", node.log.display())))?;
        let errors = log.try_clone().map_err(io_error("a file handle could not be had"))?;
        command
            // What names one directory for whoever started this would be the same for all nodes.
            .env_remove(format!("{PREFIX}DATA"))
            .env(format!("{PREFIX}LISTEN_HTTP"), node.http.to_string())
            .env(format!("{PREFIX}LISTEN_QUIC"), node.quic.to_string())
            .envs(self.settings.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        node.child = Some(command.spawn().map_err(io_error(format!("node {} cannot be started", n + 1)))?);
        Ok(())
    }

    /// Waits until a node answers `/readyz` with 200.
    ///
    /// # Errors
    /// When it ends first, or patience does.
    pub async fn wait_ready(&mut self, n: usize) -> Result<(), HarnessError> {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            let node = &mut self.nodes[n];
            if let Some(Ok(Some(_))) = node.child.as_mut().map(Child::try_wait) {
                node.child = None;
                let text = fs::read_to_string(&node.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(5)..].join(" | ");
                return Err(HarnessError::Ended { node: n + 1, log: node.log.clone(), tail });
            }
            if node.ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(HarnessError::NotReady { node: n + 1, log: node.log.clone() });
            }
            sleep(READY_POLL).await;
        }
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.nodes[n].child.take() {
            // It may have ended by itself: then there is nothing to kill, only to reap.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: the process stays, frozen.
    pub fn freeze(&self, n: usize) {
        self.signal(n, rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self, n: usize) {
        self.signal(n, rustix::process::Signal::CONT);
    }

    /// SIGTERM, and killed if it does not drain in time. Returns whether it ended by itself.
    pub async fn stop(&mut self, n: usize) -> bool {
        self.signal(n, rustix::process::Signal::TERM);
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while Instant::now() < deadline {
            match self.nodes[n].child.as_mut().map(Child::try_wait) {
                None => return true,
                Some(Ok(Some(status))) => {
                    self.nodes[n].child = None;
                    return status.success();
                }
                Some(_) => sleep(READY_POLL).await,
            }
        }
        self.kill(n);
        false
    }

    fn signal(&self, n: usize, signal: rustix::process::Signal) {
        let pid = self.nodes[n].pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // The child has not been reaped, so the number is still its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            self.kill(n);
        }
    }
}

/// Ports that nobody listens on now, all different. Between this and their use somebody else could
/// take one; the node that finds it taken says so.
fn free_ports(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn usage_is_read_from_behind_the_programs_name() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 100 4096 7 18446744073709551615 1";
        let page = rustix::param::page_size() as u64;
        assert_eq!(Usage::parse(stat), Some(Usage { cpu_us: 3_000_000, rss_bytes: 7 * page }));
        assert_eq!(Usage::parse("garbage"), None);
        assert!(Usage::of(std::process::id()).is_some_and(|usage| usage.rss_bytes > 0));
    }

    /// A stand-in for the program: `init` makes the directory, `serve` does what the script says.
    fn program(directory: &Path, serve: &str) -> PathBuf {
        let path = directory.join("program");
        let made =
            r#"{"operator_token":"sh_op_x","ca":"/dev/null","nodes":[{"config":"a"},{"config":"b"},{"config":"c"}]}"#;
        let script = format!("#!/bin/sh\nif [ $1 = init ]; then echo '{made}'; exit 0; fi\n{serve}\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_node_that_ends_is_named_with_the_end_of_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let program = program(directory.path(), "echo $STAKEHOLD_LISTEN_HTTP >&2; echo the port is taken >&2; exit 1");
        let error = Cluster::start(&program, 3, &[]).await.unwrap_err().to_string();
        assert!(
            error.contains("Node 1 ended") && error.contains("127.0.0.1") && error.contains("port is taken"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_founding_that_fails_is_said_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, "#!/bin/sh\necho no space >&2; exit 3\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Cluster::start(&path, 3, &[]).await.unwrap_err().to_string();
        assert!(error.contains("no space") && error.contains("init"), "{error}");
    }
}
