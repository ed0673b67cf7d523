//! Lines of standard input, one message each, never read further ahead than the broker keeps up.
use super::session::Wake;
use crate::failure::Failure;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Sender, SyncSender, channel};

/// The reading thread's allowance: each line costs one, and waits until there is one.
pub(crate) struct Lines(Sender<()>);

/// The largest payload that a packet can carry.
const LINE_BYTES_MAX: u64 = 268_435_455;

impl Lines {
    /// Reads `ahead` lines and then one for each [`Lines::more`].
    pub(crate) fn read(ahead: u16, waker: SyncSender<Wake>) -> Result<Self, Failure> {
        let (allow, allowance) = channel();
        let lines = Self(allow);
        for _ in 0..ahead {
            lines.more();
        }
        let reader = move || {
            let mut input = io::stdin().lock();
            while allowance.recv().is_ok() {
                let wake = next_line(&mut input).map_or_else(Wake::EndOfInput, Wake::Line);
                let is_last = matches!(wake, Wake::EndOfInput(_));
                if waker.send(wake).is_err() || is_last {
                    return;
                }
            }
        };
        let spawned = std::thread::Builder::new().name("midge-input".into()).spawn(reader);
        spawned.map(|_| lines).map_err(|error| Failure::new(format!("cannot read standard input: {error}")))
    }

    /// One more line may come.
    pub(crate) fn more(&self) {
        // The reader ends before us only when there is no more line.
        let _ = self.0.send(());
    }
}

/// A line without its end, or how the input ended.
fn next_line(input: &mut impl BufRead) -> Result<Vec<u8>, io::Result<()>> {
    let mut line = Vec::new();
    let len = input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(Err)?;
    if len == 0 {
        return Err(Ok(()));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any message can be")));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_message_the_last_one_without_its_end_too() {
        let mut input: &[u8] = b"a\n\nb\r\n\xff\0c";
        let mut lines = Vec::new();
        let end = loop {
            match next_line(&mut input) {
                Ok(line) => lines.push(line),
                Err(end) => break end,
            }
        };
        assert!(end.is_ok());
        assert_eq!(lines, [&b"a"[..], b"", b"b\r", b"\xff\0c"]);
    }
}
