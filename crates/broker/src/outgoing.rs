//! Bytes on their way to one connection.
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use mqtt::Message;

/// What is ready may be written; what waits for a commit comes after it. Takes no memory while there is nothing.
#[derive(Debug, Default)]
pub struct Outgoing {
    buffer: Vec<u8>,
    /// How much of `buffer` is written already.
    written: usize,
    rare: Option<Box<Rare>>,
}

/// What most connections never need.
#[derive(Debug, Default)]
struct Rare {
    /// Payloads that are not in the buffer: each comes when the buffer is written up to its position.
    shared: VecDeque<Shared>,
    shared_bytes: usize,
    /// From this position of the buffer on, bytes wait for a batch.
    held: VecDeque<(usize, u64)>,
}

#[derive(Debug)]
struct Shared {
    at: usize,
    message: Message,
    written: usize,
}

/// A long buffer is moved to its front when at least this much of it is written.
const COMPACT_AT: usize = 64 * 1024;

impl Outgoing {
    /// The next bytes to be written, empty if there are none. See [`Outgoing::ready_slices`] for all at once.
    pub fn ready(&self) -> &[u8] {
        let Some(rare) = &self.rare else { return &self.buffer[self.written..] };
        rare.piece(&self.buffer, self.written, 0).map_or(&[], |(piece, _)| piece)
    }

    /// Fills `slices` with the next pieces in order and says how many there are: for a vectored write.
    pub fn ready_slices<'a>(&'a self, slices: &mut [&'a [u8]]) -> usize {
        let Some(rare) = &self.rare else {
            let rest = &self.buffer[self.written..];
            return match slices.first_mut() {
                Some(first) if !rest.is_empty() => {
                    *first = rest;
                    1
                }
                _ => 0,
            };
        };
        let (mut at, mut passed, mut count) = (self.written, 0, 0);
        while let Some(slice) = slices.get_mut(count) {
            let Some((piece, is_shared)) = rare.piece(&self.buffer, at, passed) else { break };
            if is_shared {
                passed += 1;
            } else {
                at += piece.len();
            }
            *slice = piece;
            count += 1;
        }
        count
    }

    /// `count` bytes of what was ready are written.
    pub fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(rare) = &mut self.rare else {
                self.written = self.buffer.len().min(self.written + count);
                return;
            };
            let Some((piece, is_shared)) = rare.piece(&self.buffer, self.written, 0) else { return };
            let step = piece.len().min(count);
            let done = step == piece.len();
            count -= step;
            if !is_shared {
                self.written += step;
            } else if done {
                rare.drop_front();
            } else if let Some(front) = rare.shared.front_mut() {
                front.written += step;
            }
        }
    }

    /// Bytes not written yet, whether they wait for a commit or not.
    pub fn len(&self) -> usize {
        let shared = self.rare.as_ref().map_or(0, |rare| rare.unwritten());
        self.buffer.len() - self.written + shared
    }

    /// Bytes of [`Outgoing::len`] that are kept for this connection alone.
    pub(crate) fn copied_len(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something waits for a commit.
    pub fn is_held(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.held.is_empty())
    }

    /// The buffer to append packets to.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether a buffer from the pool would be of use.
    #[inline]
    pub(crate) fn wants_buffer(&self) -> bool {
        self.buffer.capacity() == 0
    }

    /// Takes over an empty buffer that has been of use before.
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty() && self.buffer.is_empty(), "only an empty buffer is exchanged");
        self.buffer = buffer;
    }

    /// Appends a payload without copying it.
    pub(crate) fn share(&mut self, message: Message) {
        let at = self.buffer.len();
        let rare = self.rare.get_or_insert_default();
        rare.shared_bytes += message.payload().len();
        rare.shared.push_back(Shared { at, message, written: 0 });
    }

    /// What is appended from now on waits for `batch`. Says whether it did not already.
    pub(crate) fn hold(&mut self, batch: u64) -> bool {
        let rare = self.rare.get_or_insert_default();
        if rare.held.back().is_some_and(|&(_, last)| last == batch) {
            return false;
        }
        rare.held.push_back((self.buffer.len(), batch));
        true
    }

    /// `batch` and those before it are committed. Says whether anything is ready now.
    pub(crate) fn release(&mut self, batch: u64) -> bool {
        if let Some(rare) = &mut self.rare {
            while rare.held.front().is_some_and(|&(_, held)| held <= batch) {
                rare.held.pop_front();
            }
        }
        !self.ready().is_empty()
    }

    /// Gives memory back: the buffer, if all is written, else the part of it that is.
    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        if self.is_empty() && !self.is_held() {
            self.rare = None;
            self.written = 0;
            let mut buffer = core::mem::take(&mut self.buffer);
            buffer.clear();
            return Some(buffer).filter(|buffer| buffer.capacity() > 0);
        }
        self.compact();
        None
    }

    /// Moves the rest to the front if much is written.
    pub(crate) fn compact(&mut self) {
        if self.written < COMPACT_AT || self.written < self.buffer.len() / 2 {
            return;
        }
        self.buffer.drain(..self.written);
        if let Some(rare) = &mut self.rare {
            rare.shared.iter_mut().for_each(|shared| shared.at -= self.written);
            rare.held.iter_mut().for_each(|(at, _)| *at -= self.written);
        }
        self.written = 0;
    }
}

impl Rare {
    /// The piece that comes when the buffer is written up to `at` and `passed` more payloads are; whether it is one.
    /// A payload and a hold at the same position: the payload's head stood before it, so it was there first.
    fn piece<'a>(&'a self, buffer: &'a [u8], at: usize, passed: usize) -> Option<(&'a [u8], bool)> {
        let end = self.held.front().map_or(buffer.len(), |&(held, _)| held);
        match self.shared.get(passed) {
            Some(shared) if shared.at == at && at <= end => {
                return Some((&shared.message.payload()[shared.written..], true));
            }
            Some(shared) if shared.at < end => Some((buffer.get(at..shared.at)?, false)),
            Some(_) | None => Some((buffer.get(at..end)?, false)),
        }
        .filter(|(piece, _)| !piece.is_empty())
    }

    fn drop_front(&mut self) {
        if let Some(shared) = self.shared.pop_front() {
            self.shared_bytes -= shared.message.payload().len();
        }
    }

    fn unwritten(&self) -> usize {
        self.shared_bytes - self.shared.front().map_or(0, |front| front.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::{MessageOptions, Topic};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;

    #[derive(Clone, Debug)]
    enum Step {
        Append(u8, usize),
        Share(u8, usize),
        Hold,
        Commit,
        Write(usize),
        WriteSlices(usize),
        Reclaim,
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<u8>(), 1_usize..40_000).prop_map(|(byte, len)| Step::Append(byte, len)),
            2 => (any::<u8>(), 1_usize..40_000).prop_map(|(byte, len)| Step::Share(byte, len)),
            1 => Just(Step::Hold),
            1 => Just(Step::Commit),
            2 => (1_usize..90_000).prop_map(Step::Write),
            2 => (1_usize..90_000).prop_map(Step::WriteSlices),
            1 => Just(Step::Reclaim),
        ]
    }

    proptest! {
        /// What goes in comes out, in order, and nothing before its batch is committed.
        #[test]
        fn order_and_barriers(steps in vec(steps(), 1..60)) {
            let mut outgoing = Outgoing::default();
            // All that was ever appended, how much of it is written, and where what waits begins.
            let (mut all, mut written, mut barriers) = (Vec::new(), 0, VecDeque::new());
            let (mut batch, mut committed) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Append(byte, len) => {
                        outgoing.buffer().extend(core::iter::repeat_n(byte, len));
                        all.extend(core::iter::repeat_n(byte, len));
                    }
                    Step::Share(byte, len) => {
                        let payload = vec![byte; len];
                        let topic = Topic::parse("t").unwrap();
                        outgoing.buffer().push(1);
                        outgoing.share(Message::new(topic, &payload, MessageOptions::default()).unwrap());
                        all.push(1);
                        all.extend(payload);
                    }
                    Step::Hold => {
                        batch += 1;
                        prop_assert!(outgoing.hold(batch));
                        prop_assert!(!outgoing.hold(batch));
                        barriers.push_back((all.len(), batch));
                    }
                    Step::Commit => {
                        committed = (committed + 1).min(batch);
                        outgoing.release(committed);
                        barriers.retain(|(_, held)| *held > committed);
                    }
                    Step::Write(len) => {
                        let ready = outgoing.ready();
                        let len = len.min(ready.len());
                        prop_assert_eq!(&ready[..len], &all[written..written + len]);
                        outgoing.advance(len);
                        written += len;
                    }
                    Step::WriteSlices(len) => {
                        let mut slices = [&[][..]; 5];
                        let count = outgoing.ready_slices(&mut slices);
                        let mut ready = slices[..count].concat();
                        ready.truncate(len);
                        prop_assert_eq!(&ready, &all[written..written + ready.len()]);
                        outgoing.advance(ready.len());
                        written += ready.len();
                    }
                    Step::Reclaim => {
                        let reclaimed = outgoing.reclaim();
                        prop_assert!(reclaimed.is_none() || written == all.len());
                    }
                }
                let end = barriers.front().map_or(all.len(), |(at, _)| *at);
                prop_assert!(written <= end);
                prop_assert_eq!(outgoing.len(), all.len() - written);
                prop_assert_eq!(outgoing.ready().is_empty(), written == end);
                prop_assert_eq!(outgoing.is_held(), !barriers.is_empty());
            }
        }
    }
}
