//! Who reads the real clock and draws real randomness while something runs: every call, told apart by the
//! stack it came with.
//!
//! What never lives here: who may. And nothing here may use a hash map or a clock.

use std::{
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, thread,
};

use super::interposed;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Clock,
    Randomness,
}

/// They read for whoever called them: the first that is none of them is who did it. No runtime is here:
/// it has reads of its own.
const CARRIERS: [&str; 10] =
    ["std", "core", "alloc", "libc", "getrandom", "rand", "rand_core", "hashbrown", "dashmap", "once_cell"];

#[derive(Clone, Debug)]
pub struct Frame {
    pub function: String,
    /// File and line, where the compiler left them.
    pub at: String,
}

/// All calls from one stack.
#[derive(Debug)]
pub struct Call {
    pub source: Source,
    pub times: u64,
    /// From who did it to whom all began with, without what only carries.
    pub frames: Vec<Frame>,
}

/// What was called, and the addresses of the stack.
type Key = (Source, [usize; interposed::DEPTH]);

/// How often, and the stack of the first time: its names are looked up when the run is over.
type Seen = BTreeMap<Key, (u64, Backtrace)>;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static SEEN: RefCell<Seen> = const { RefCell::new(Seen::new()) };
}

/// Whether this thread is watched.
pub fn inside() -> bool {
    INSIDE.get()
}

/// Somebody asks libc, which has not answered yet.
pub fn called(source: Source) {
    // What the notes themselves cause is not noted.
    if !INSIDE.replace(false) {
        return;
    }
    let stack = interposed::stack();
    SEEN.with_borrow_mut(|seen| {
        let call = seen.entry((source, stack));
        call.or_insert_with(|| (0, Backtrace::force_capture())).0 += 1;
    });
    INSIDE.set(true);
}

/// While it lives, this thread is watched.
struct Watching;

impl Watching {
    fn begin() -> Self {
        INSIDE.set(true);
        Self
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// Runs `f` on a thread of its own, which has no keys and no generator yet; the calls it made.
pub fn watched<T: Send>(f: impl FnOnce() -> T + Send) -> (T, Vec<Call>) {
    let watch = || {
        interposed::find_keys();
        let watching = Watching::begin();
        let result = f();
        drop(watching);
        (result, SEEN.take().into_iter().map(Call::of).collect())
    };
    thread::scope(|scope| scope.spawn(watch).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Call {
    fn of(((source, _), (times, stack)): (Key, (u64, Backtrace))) -> Self {
        let mut frames: Vec<Frame> = Vec::new();
        for line in stack.to_string().lines().map(str::trim) {
            match (line.strip_prefix("at "), frames.last_mut()) {
                (Some(at), Some(frame)) => at.clone_into(&mut frame.at),
                _ => {
                    let function = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(": ");
                    frames.push(Frame { function: function.to_owned(), at: String::new() });
                }
            }
        }
        frames.retain(|frame| !carries(&frame.function));
        Self { source, times, frames }
    }

    /// Who did it.
    pub fn culprit(&self) -> &str {
        self.frames.first().map_or("nobody", |frame| &frame.function)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} times:", self.source, self.times)?;
        for Frame { function, at } in self.frames.iter().take(6) {
            write!(f, "\n    {function}\n        {at}")?;
        }
        Ok(())
    }
}

fn carries(function: &str) -> bool {
    // C has no paths.
    let Some(krate) = crate_of(function) else { return true };
    let noted_by = ["leaks::calls::", "leaks::interposed::", "<leaks::interposed::"];
    CARRIERS.contains(&krate) || noted_by.iter().any(|own| function.starts_with(own))
}

/// The crate that a function is from: `<a::B as c::D>::e` is from `a`, and `<T as c::D>::e` from `c`.
fn crate_of(function: &str) -> Option<&str> {
    let mut rest = function;
    loop {
        rest = rest.trim_start_matches(['<', '&', '*', '(', '[']);
        let word = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
        let after = &rest[word.len()..];
        if after.starts_with("::") {
            return Some(word);
        }
        rest = after.strip_prefix(" as ").or_else(|| after.strip_prefix(' '))?;
    }
}
