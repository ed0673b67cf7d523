//! A look at SQLite's write-ahead log before SQLite sees it.
//!
//! SQLite takes the log up to the first frame whose check sum is wrong and drops the rest without a word. At the end of
//! the log that is right: a commit was cut short and nobody was told that it was done. In its middle it means that
//! acknowledged commits are gone, and that must be said. Format: <https://sqlite.org/fileformat2.html#walformat>.
use super::database::log_of;
use super::error::{StoreError, io_error};
use super::salvage::free_name;
use super::{SetAside, SyncMode};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The two last bits of the first byte group tell the byte order of the sums.
const MAGIC: u32 = 0x377f_0682;

/// Copies a log with a damaged middle aside; SQLite goes on with what stands before the damage.
pub(super) fn inspect(path: &Path, sync: SyncMode) -> Result<Option<SetAside>, StoreError> {
    let log = log_of(path);
    let file = match File::open(&log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&log, &error)),
    };
    let verdict = read(&mut BufReader::new(file)).unwrap_or_else(|error| Verdict::Unreadable(error.to_string()));
    let what = match verdict {
        Verdict::Sound => return Ok(None),
        // After a loss of power the frames of the commit that was under way may be there in part. With `disk` nobody
        // was told that it was done; with `os` the writer may have been.
        Verdict::Broken { commits_after: 0 } => return Ok(None),
        Verdict::Broken { commits_after: 1 } if sync == SyncMode::Disk => return Ok(None),
        Verdict::Broken { commits_after } => {
            format!("the write-ahead log is damaged: about {commits_after} of the last commits are lost")
        }
        Verdict::NoHeader => "the write-ahead log has a damaged header: the last commits are lost".to_owned(),
        Verdict::Unreadable(error) => format!("the write-ahead log can't be read to its end: {error}"),
    };
    let aside = free_name(&log);
    fs::copy(&log, &aside).map_err(|error| io_error(&aside, &error))?;
    Ok(Some(SetAside { path: aside, what: format!("{what}; what came before is kept"), in_doubt: Vec::new() }))
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Sound,
    /// Frames of this log that claim to end a commit, behind one that is wrong.
    Broken {
        commits_after: u64,
    },
    NoHeader,
    Unreadable(String),
}

fn read(log: &mut impl Read) -> io::Result<Verdict> {
    let mut header = [0; HEADER_BYTES];
    if !fill(log, &mut header)? {
        return Ok(Verdict::Sound);
    }
    let Some(mut sums) = Sums::of_header(&header) else { return Ok(Verdict::NoHeader) };
    let page_bytes = word(&header, 8) as usize;
    if !(512..=65_536).contains(&page_bytes) || !page_bytes.is_power_of_two() {
        return Ok(Verdict::NoHeader);
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut commits_after = None;
    while fill(log, &mut frame)? {
        // Frames of an earlier round of the log have other salts: they are done with.
        let is_of_this_round = frame[8..16] == header[16..24];
        match &mut commits_after {
            None if is_of_this_round && sums.take(&frame) => {}
            None => commits_after = Some(0),
            Some(commits) => *commits += u64::from(is_of_this_round && word(&frame, 4) != 0),
        }
    }
    Ok(commits_after.map_or(Verdict::Sound, |commits_after| Verdict::Broken { commits_after }))
}

/// The running sums that chain every frame to all before it.
struct Sums {
    order: fn([u8; 4]) -> u32,
    first: u32,
    second: u32,
}

impl Sums {
    fn of_header(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let order = match word(header, 0) {
            MAGIC => u32::from_le_bytes,
            magic if magic == MAGIC | 1 => u32::from_be_bytes,
            _ => return None,
        };
        let mut sums = Self { order, first: 0, second: 0 };
        sums.add(&header[..24]);
        (sums.first == word(header, 24) && sums.second == word(header, 28)).then_some(sums)
    }

    /// Adds a frame and says whether it is right.
    fn take(&mut self, frame: &[u8]) -> bool {
        self.add(&frame[..8]);
        self.add(&frame[FRAME_HEADER_BYTES..]);
        self.first == word(frame, 16) && self.second == word(frame, 20)
    }

    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            self.first = self.first.wrapping_add((self.order)([a, b, c, d])).wrapping_add(self.second);
            self.second = self.second.wrapping_add((self.order)([e, f, g, h])).wrapping_add(self.first);
        }
    }
}

/// A big-endian number; `bytes` is a header of fixed size, longer than any offset used here.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Whether the buffer could be filled; an end within it is an end.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
