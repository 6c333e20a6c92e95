//! The program as people start it: what it says and how it ends. One real node, real signals.
#![expect(clippy::disallowed_methods, reason = "real processes are given real time")]

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(60);

fn stakehold(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stakehold"));
    command.args(args).env_clear().env("RUST_BACKTRACE", "0");
    command
}

fn run(args: &[&str]) -> Output {
    stakehold(args).output().unwrap()
}

/// The one sentence of a command that failed, and its exit code.
fn sentence(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().expect("it ended by itself"), text.trim_end().lines().last().unwrap_or_default().to_string())
}

fn free() -> (u16, u16) {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port())
}

struct Home {
    directory: tempfile::TempDir,
    http: u16,
    quic: u16,
}

impl Home {
    fn found() -> Self {
        let (directory, (http, quic)) = (tempfile::tempdir().unwrap(), free());
        let home = Self { directory, http, quic };
        let dir = home.dir();
        let (http, quic) = (http.to_string(), quic.to_string());
        let flags = ["--nodes", "1", "--cells", "2", "--http-port", &http, "--quic-port", &quic, "--json"];
        let made = run(&[&["init", "--dir", dir.to_str().unwrap()], &flags[..]].concat());
        assert!(made.status.success(), "{made:?}");
        home
    }

    fn dir(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    fn config(&self) -> String {
        self.dir().join("n1/node.toml").to_str().unwrap().to_string()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    fn start(&self) -> Running {
        let mut command = stakehold(&["serve", "--config", &self.config()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let running = Running(child);
        let since = Instant::now();
        while !run(&["health", "--url", &self.url()]).status.success() {
            assert!(since.elapsed() < LONG, "not ready");
        }
        running
    }

    fn refused(&self, further: &[&str]) -> (i32, String) {
        sentence(&run(&[&["serve", "--config", &self.config()], further].concat()))
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn ends(mut self) -> i32 {
        let since = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().expect("an exit code, not a signal");
            }
            assert!(since.elapsed() < LONG, "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn files(path: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { found.extend(files(&entry.path())) } else { found.push((entry.path(), meta.len())) }
    }
    found.sort();
    found
}

#[test]
fn a_node_serves_drains_on_sigterm_and_goes_on_where_it_was() {
    let home = Home::found();
    let first = home.start();
    let data = home.dir().join("n1/data");
    assert!(!data.join("permit.json").exists(), "the permit is spent");

    let held = home.refused(&[]);
    let pid = first.0.id();
    let says = format!(
        "The data directory {} is in use by process {pid}; stop that first, or set `data` to another directory.",
        data.display()
    );
    assert_eq!(held, (1, says));
    let other = home.dir().join("other").display().to_string();
    let taken = home.refused(&["--data", &other]);
    let says = format!(
        "The HTTP address 127.0.0.1:{} is taken; stop the process that uses it or set `listen.http` to another.",
        home.http
    );
    assert_eq!(taken, (1, says));
    let http = format!("127.0.0.1:{}", free().0);
    let taken = home.refused(&["--data", &other, "--listen-http", &http]);
    let says = format!(
        "The UDP address 127.0.0.1:{} is taken; stop the process that uses it or set `listen.quic` to another.",
        home.quic
    );
    assert_eq!(taken, (1, says));

    first.signal(Signal::TERM);
    assert_eq!(first.ends(), 0);
    let again = home.start();
    again.signal(Signal::INT);
    assert_eq!(again.ends(), 0, "Ctrl-C drains too");
}

#[test]
fn a_second_signal_ends_at_once() {
    let home = Home::found();
    let mut node = home.start();
    let log = BufReader::new(node.0.stderr.take().unwrap());
    node.signal(Signal::TERM);
    // The line is written when the first signal was taken.
    assert!(log.lines().map_while(Result::ok).any(|line| line.contains("a second signal ends")));
    node.signal(Signal::TERM);
    let code = node.ends();
    assert!(code == 130 || code == 0, "ended with {code}: at once, or it was done already");
}

#[test]
fn a_wrong_command_line_is_an_object_for_whoever_asks_for_json() {
    for args in [&["bench", "--json", "--clents", "3"][..], &["ctl", "markets", "--json"], &["replay", "--json"]] {
        let output = run(args);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(2), 0), "{args:?}: {output:?}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["error"]["code"], "USAGE");
        assert!(
            said["error"]["message"].as_str().is_some_and(|text| text.len() > 20 && !text.contains('\n')),
            "{said}"
        );
        let plain: Vec<&str> = args.iter().copied().filter(|argument| *argument != "--json").collect();
        let output = run(&plain);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {output:?}");
    }
    let help = run(&["bench", "--json", "--help"]);
    assert!(help.status.success() && !help.stdout.starts_with(b"{"));
}

#[test]
fn what_is_wrong_is_said_in_one_sentence_and_changes_nothing() {
    let (home, other) = (Home::found(), Home::found());
    let before = files(&home.dir());
    let theirs = other.dir().join("n1/data");
    let theirs = theirs.to_str().unwrap();
    let their_ca = other.dir().join("ca.pem");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--data", theirs], 1, "belongs to cluster"),
        (&["--founding", "/nowhere/f.json"], 1, "/nowhere/f.json cannot be read (there is no such file)"),
        (&["--node", "2"], 1, "not among the members n1"),
        (&["--tls-key", "node.pem"], 1, "The node's key file holds no private key"),
        (&["--tls-ca", their_ca.to_str().unwrap()], 1, "not issued by this cluster's CA"),
        (&["--log-level", "loud"], 1, "`log.level` (loud) is not a level"),
        (&["--listen-http", "here"], 1, "`listen.http` (here) has to be an IP address and a port"),
        (&["--listen-http", "203.0.113.1:80"], 1, "The HTTP address 203.0.113.1:80 cannot be used"),
        (&["--log-fromat", "json"], 2, ""),
    ];
    for (further, code, says) in cases {
        let (ended, said) = home.refused(further);
        assert!(ended == *code && said.contains(says), "{further:?}: {ended} {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert_eq!(files(&home.dir()), before, "nothing changed");
    let config = home.dir().join("n1/node.toml");
    std::fs::write(&config, "node = 1\n[listen]\nhtpp = \"127.0.0.1:1\"\n").unwrap();
    let (code, said) = home.refused(&[]);
    assert_eq!(
        (code, said.rsplit(" sets ").next().unwrap()),
        (1, "`listen.htpp`, which is no setting; did you mean `listen.http`?")
    );
    let (code, said) = sentence(&run(&["init", "--dir", home.dir().to_str().unwrap()]));
    assert!(code == 1 && said.contains("is not empty; choose another --dir"), "{said}");
    assert_eq!(sentence(&run(&["init"])).0, 2, "usage");
    assert_eq!(run(&["health", "--url", &home.url()]).status.code(), Some(1));
}
