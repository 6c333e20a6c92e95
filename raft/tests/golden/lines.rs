//! Golden lines: what values look like in a log, in a snapshot or on the wire, in text files with one
//! `name: bytes` a line. A test builds each value, compares it as it is written now with its line, and
//! reads the line back. What must never live here: what any of the bytes mean.
//!
//! Bytes are in hexadecimal; `00*1016` is so many of one byte; a line that begins with `#` is a comment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use serde::{Serialize, de::DeserializeOwned};

/// A longer run of one byte is counted.
const RUN: usize = 16;

/// The lines of one file, and what was found against them.
pub struct Lines {
    known: BTreeMap<&'static str, &'static str>,
    named: BTreeSet<String>,
    wrong: Vec<String>,
    now: Vec<String>,
}

/// Compares `values` with the lines of a file.
///
/// # Panics
/// With all that differs, what that means, and the lines as they would be now.
pub fn check(file: &str, text: &'static str, values: impl FnOnce(&mut Lines)) {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let known = lines.map(|line| line.split_once(": ").expect("a line is a name, a colon and bytes"));
    let mut lines = Lines { known: known.collect(), named: BTreeSet::new(), wrong: Vec::new(), now: Vec::new() };
    values(&mut lines);
    let gone = lines.known.keys().filter(|name| !lines.named.contains(**name));
    lines.wrong.extend(gone.map(|name| format!("`{name}` is no longer compared with anything")));
    let Lines { wrong, now, .. } = lines;
    assert!(
        wrong.is_empty(),
        "A format has changed, says {file}:\n  {}\n\n\
         While a cluster is upgraded node by node, older nodes could not read what this one writes; and this one \
         could not read what is on a disk. Append variants at the end of an enum. Anything else, a further field \
         too, gets a new variant or a new format number, beside code that still reads the old form. Only what no \
         released version has ever written may change; then these are the lines:\n\n{}\n",
        wrong.join("\n  "),
        now.join("\n")
    );
}

impl Lines {
    /// A value that is written as postcard.
    pub fn value<T: Serialize + DeserializeOwned + Debug>(&mut self, name: &str, value: &T) {
        let written = postcard::to_stdvec(value).expect("plain data");
        self.read(name, &written, |line| match postcard::take_from_bytes::<T>(line) {
            // Not everything that travels can be compared, but all of it can be shown.
            Ok((read, [])) if format!("{read:?}") == format!("{value:?}") => Ok(()),
            Ok((read, [])) => Err(format!("reads as {read:?}")),
            Ok((_, rest)) => Err(format!("has {} bytes too many", rest.len())),
            Err(error) => Err(format!("cannot be read: {error}")),
        });
    }

    /// Bytes that `read` must understand as what they were made of.
    pub fn read(&mut self, name: &str, written: &[u8], read: impl FnOnce(&[u8]) -> Result<(), String>) {
        assert!(self.named.insert(name.into()), "two values are named `{name}`");
        let Some(line) = self.known.get(name) else {
            self.now.push(format!("{name}: {}", text(written)));
            return self.wrong.push(format!("`{name}` has no line"));
        };
        let line = bytes(line);
        if line != written {
            self.now.push(format!("{name}: {}", text(written)));
            let same = line.iter().zip(written).take_while(|(a, b)| a == b).count();
            let (before, now) = (line.len(), written.len());
            self.wrong.push(format!("`{name}` is written differently from byte {same} on ({before} bytes, now {now})"));
        }
        if let Err(what) = read(&line) {
            self.wrong.push(format!("`{name}` as it was written {what}"));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() >= RUN {
            text += &format!(" {:02x}*{} ", run[0], run.len());
        } else {
            run.iter().for_each(|byte| text += &format!("{byte:02x}"));
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bytes(text: &str) -> Vec<u8> {
    let byte = |at: &str| u8::from_str_radix(at, 16).expect("bytes are in hexadecimal");
    let mut bytes = Vec::new();
    for part in text.split_whitespace() {
        match part.split_once('*') {
            Some((one, many)) => bytes.resize(bytes.len() + many.parse::<usize>().expect("a number"), byte(one)),
            None => bytes.extend((0..part.len()).step_by(2).map(|at| byte(&part[at..at + 2]))),
        }
    }
    bytes
}

/// Compares a value of each variant. There is no wildcard: a new variant does not compile before it has
/// a value here, and passes only with a line.
macro_rules! variants {
    ($lines:expr, $type:ty { $($name:literal: $variant:pat => $value:expr),+ $(,)? }) => {{
        #[allow(unreachable_patterns, reason = "a variant may have several values")]
        let _: fn(&$type) = |value| match value { $($variant => ()),+ };
        $(
            let value: $type = $value;
            assert!(matches!(value, $variant), "{} is another variant", $name);
            $lines.value($name, &value);
        )+
    }};
}

pub(crate) use variants;
