//! Values that several commands take, and files that they write: what cannot be meant, or written, is said
//! before the work begins.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context, Result};

use crate::trace::Trace;

/// The longest that a command may go on, in minutes: a year.
const MINUTES_MAX: f64 = 366.0 * 24.0 * 60.0;

/// For how long something is to go on.
///
/// # Errors
/// A sentence when it is no time, or nothing would be done in it.
pub fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "minutes are a number: 1, or 0.5".to_owned())?;
    match minutes > 0.0 && minutes <= MINUTES_MAX {
        true => Ok(minutes),
        false => Err(format!("choose more than 0 minutes, and {MINUTES_MAX} at most")),
    }
}

/// Whether a file can be written: what is in it stays.
///
/// # Errors
/// A sentence when it cannot.
pub fn writable(path: &Path) -> Result<()> {
    let is_new = !path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("{} cannot be written", path.display()))?;
    if is_new {
        fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

/// The file that a trace is written to, if there is one, and why it is not whole.
#[derive(Debug, Default)]
pub struct TraceFile {
    path: Option<PathBuf>,
    failed: Rc<RefCell<Option<io::Error>>>,
}

/// Remembers the first error: whoever notes events has no use for it.
struct Remembers {
    out: BufWriter<File>,
    failed: Rc<RefCell<Option<io::Error>>>,
}

impl TraceFile {
    /// The trace, into a file if one is named.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: Option<&PathBuf>) -> Result<(Self, Trace)> {
        let Some(path) = path else { return Ok((Self::default(), Trace::default())) };
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let failed = Rc::default();
        let out = Remembers { out: BufWriter::new(file), failed: Rc::clone(&failed) };
        Ok((Self { path: Some(path.clone()), failed }, Trace::to_writer(Box::new(out))))
    }

    /// Looks whether all of the trace is in the file, now that the run is over.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn is_whole(&self) -> Result<()> {
        match (&self.path, self.failed.take()) {
            (Some(path), Some(error)) => Err(error).with_context(|| format!("{} cannot be written", path.display())),
            _ => Ok(()),
        }
    }
}

impl Remembers {
    fn remember<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            self.failed.borrow_mut().get_or_insert(error);
            kind.into()
        })
    }
}

impl Write for Remembers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.remember(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.remember(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_some_time_and_not_for_ever() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "1e30", "x", ""] {
            assert!(minutes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_is_only_looked_at_stays_as_it_is() {
        let dir = std::env::temp_dir().join(format!("stakehold-writable-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (new, old) = (dir.join("new"), dir.join("old"));
        fs::write(&old, "as it was").unwrap();
        assert!(writable(&new).is_ok() && writable(&old).is_ok() && writable(&dir.join("no/where")).is_err());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "as it was");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_trace_that_finds_no_room_is_not_whole() {
        let (file, mut trace) = TraceFile::open(Some(&PathBuf::from("/dev/full"))).unwrap();
        trace.note(1, None, "something", &[], String::new);
        assert!(file.is_whole().is_ok(), "nothing was written yet");
        assert!(trace.flush().is_err());
        let why = format!("{:#}", file.is_whole().unwrap_err());
        assert!(why.starts_with("/dev/full cannot be written: No space"), "{why}");
    }
}
