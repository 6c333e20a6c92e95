//! Processes of this same program, so many at a time: a run that panics, or takes the whole process with
//! it, takes no other along. What never lives here: what any of them is for.

use std::{
    env,
    ffi::OsStr,
    process::{Command, Output, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use anyhow::{Context, Result};

use super::CRASH;

/// Those that run, each under the key that it was started with.
#[derive(Debug)]
pub struct Pool<K> {
    jobs: usize,
    running: usize,
    told: Sender<(K, std::io::Result<Output>)>,
    hears: Receiver<(K, std::io::Result<Output>)>,
}

/// One that has ended.
#[derive(Debug)]
pub struct Done<K> {
    pub key: K,
    /// Its exit code; [`CRASH`] if it was killed.
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl<K: Send + 'static> Pool<K> {
    /// So many at a time; as many as there are cores if nobody says.
    pub fn new(jobs: Option<usize>) -> Self {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let (told, hears) = channel();
        Self { jobs: jobs.unwrap_or_else(cores).max(1), running: 0, told, hears }
    }

    pub fn has_room(&self) -> bool {
        self.running < self.jobs
    }

    /// Starts the program once more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, key: K, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let child = Command::new(env::current_exe().context("the program does not find itself")?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the program does not start itself")?;
        let told = self.told.clone();
        // One that prints a lot would wait for ever if nobody read it before it ends.
        thread::spawn(move || {
            // Nobody is left to hear when the pool ended with an error.
            let _ = told.send((key, child.wait_with_output()));
        });
        self.running += 1;
        Ok(())
    }

    /// Waits for the next that ends; None when none runs.
    ///
    /// # Errors
    /// When what it printed cannot be read.
    pub fn next(&mut self) -> Result<Option<Done<K>>> {
        if self.running == 0 {
            return Ok(None);
        }
        let (key, output) = self.hears.recv().context("whoever waits for a process is gone")?;
        self.running -= 1;
        let output = output.context("what a process printed cannot be read")?;
        let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(CRASH);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Done { key, code, out: text(output.stdout), err: text(output.stderr) }))
    }
}
