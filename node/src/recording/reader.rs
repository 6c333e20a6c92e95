//! Lines of a recording file: plain, gzip or bzip2, told apart by their first bytes.
//!
//! This reads a file that a person named on the command line; the files of a node go through the
//! seam, not through here.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;

/// The longest line that is taken in; an image of a large market has less than 1 MB.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The lines of a recording, one after the other.
pub struct Lines {
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    consumed: Arc<AtomicU64>,
    length: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

struct Counting<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Lines {
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn open(path: &Path) -> io::Result<Lines> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        let consumed = Arc::new(AtomicU64::new(0));
        let file = BufReader::with_capacity(1 << 16, Counting { inner: file, consumed: consumed.clone() });
        let input: Box<dyn BufRead + Send> = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))),
            [b'B', b'Z', b'h', ..] => Box::new(BufReader::with_capacity(1 << 16, MultiBzDecoder::new(file))),
            _ => Box::new(file),
        };
        Ok(Lines { input, line: Vec::new(), number: 0, consumed, length })
    }

    /// The next line without its end; `None` after the last.
    ///
    /// # Errors
    /// When the file cannot be read, its compression is damaged, or a line is longer than 64 MB.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let n = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        if n == 0 {
            return Ok(None);
        }
        self.number += 1;
        if n as u64 == LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {} is longer than 64 MB", self.number),
            ));
        }
        Ok(Some(&self.line))
    }

    /// The number of the line that was read last, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many thousandths of the file have been read.
    pub fn progress_permille(&self) -> u64 {
        (self.consumed.load(Ordering::Relaxed) * 1000).checked_div(self.length).unwrap_or(1000)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        let mut lines = Lines::open(file.path())?;
        let mut all = Vec::new();
        while let Some(line) = lines.next_line()? {
            all.push(line.to_vec());
        }
        Ok(all)
    }

    const TEXT: &[u8] = b"one\ntwo\r\n\nlast";

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        let plain = all(TEXT).unwrap();
        assert_eq!(plain, [&b"one\n"[..], b"two\r\n", b"\n", b"last"]);
        assert_eq!(all(&gz(TEXT)).unwrap(), plain);
        assert_eq!(all(&bz(TEXT)).unwrap(), plain);
        assert!(all(b"").unwrap().is_empty());
    }

    #[test]
    fn members_one_after_the_other_are_one_recording() {
        assert_eq!(all(&[gz(b"a\n"), gz(b"b\n")].concat()).unwrap(), [b"a\n", b"b\n"]);
        assert_eq!(all(&[bz(b"a\n"), bz(b"b\n")].concat()).unwrap(), [b"a\n", b"b\n"]);
    }

    #[test]
    fn a_damaged_archive_is_an_error_and_not_the_end() {
        let whole = gz(&TEXT.repeat(1000));
        assert!(all(&whole[..whole.len() / 2]).is_err());
        let whole = bz(&TEXT.repeat(1000));
        assert!(all(&whole[..whole.len() / 2]).is_err());
    }
}
