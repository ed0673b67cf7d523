//! Frames in a stream of bytes: a length of four bytes, big-endian, then the frame.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Frames up to this size are copied together; larger ones are handed on as they are.
const COPY_MAX: usize = 4 << 10;
/// Size at which a block of copied frames is closed.
const BLOCK_LEN: usize = 64 << 10;
/// Room taken for a frame before its bytes have come: a length alone must not cost memory.
const ROOM_FIRST: usize = 64 << 10;

/// Longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Puts frames together from the pieces of a stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    header: [u8; 4],
    header_len: usize,
    body: Vec<u8>,
    /// Length of the frame whose header is complete.
    expected: Option<usize>,
}

impl Reader {
    /// Takes from `data` up to the end of the next frame; `None` when `data` is used up first.
    pub(crate) fn next(&mut self, data: &mut &[u8], frame_max: usize) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(expected) = self.length(data, frame_max)? else { return Ok(None) };
        let missing = expected - self.body.len();
        let (piece, rest) = data.split_at(missing.min(data.len()));
        *data = rest;
        if self.body.is_empty() {
            self.body.reserve_exact(expected.min(ROOM_FIRST.max(piece.len())));
        }
        self.body.extend_from_slice(piece);
        if self.body.len() < expected {
            return Ok(None);
        }
        self.expected = None;
        self.header_len = 0;
        Ok(Some(core::mem::take(&mut self.body)))
    }

    /// Bytes held of a frame that is not complete.
    pub(crate) fn buffered(&self) -> usize {
        self.body.len()
    }

    fn length(&mut self, data: &mut &[u8], frame_max: usize) -> Result<Option<usize>, TooLong> {
        if let Some(expected) = self.expected {
            return Ok(Some(expected));
        }
        while let Some(place) = self.header.get_mut(self.header_len) {
            let Some((byte, rest)) = data.split_first() else { return Ok(None) };
            *place = *byte;
            self.header_len += 1;
            *data = rest;
        }
        let expected = u32::from_be_bytes(self.header) as usize;
        if expected > frame_max {
            return Err(TooLong);
        }
        self.expected = Some(expected);
        Ok(Some(expected))
    }
}

/// Frames that wait to be written, small ones joined.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    blocks: VecDeque<Bytes>,
    open: BytesMut,
    len: usize,
}

impl Queue {
    /// Appends bytes without a header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a frame. Its length fits four bytes, as the limit on frames sees to.
    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.raw(&(frame.len() as u32).to_be_bytes());
        if frame.len() <= COPY_MAX {
            self.raw(&frame);
        } else {
            self.close_block();
            self.len += frame.len();
            self.blocks.push_back(Bytes::from(frame));
        }
        if self.open.len() >= BLOCK_LEN {
            self.close_block();
        }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes the next block to write. What cannot be written comes back by [`Queue::unread`].
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.blocks.is_empty() {
            self.close_block();
        }
        let block = self.blocks.pop_front()?;
        self.len -= block.len();
        Some(block)
    }

    /// Puts back the rest of a block.
    pub(crate) fn unread(&mut self, rest: Bytes) {
        self.len += rest.len();
        self.blocks.push_front(rest);
    }

    fn close_block(&mut self) {
        if !self.open.is_empty() {
            self.blocks.push_back(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]], frame_max: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(frame) = reader.next(&mut piece, frame_max)? {
                found.push(frame);
            }
        }
        Ok(found)
    }

    #[test]
    fn frames_survive_every_split() {
        let mut queue = Queue::default();
        let sent = [Vec::new(), b"a".to_vec(), vec![7; COPY_MAX + 1], b"end".to_vec()];
        sent.iter().for_each(|frame| queue.push(frame.clone()));
        let total = queue.len();
        let bytes: Vec<u8> = core::iter::from_fn(|| queue.pop()).flatten().collect();
        assert_eq!((bytes.len(), queue.len()), (total, 0));
        for at in 0..bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(frames(&[a, b], 1 << 20).as_deref(), Ok(&sent[..]), "split at {at}");
        }
    }

    #[test]
    fn a_long_frame_is_refused_by_its_header_and_costs_nothing() {
        let at_the_edge = [&4u32.to_be_bytes()[..], b"1234"].concat();
        assert_eq!(frames(&[&at_the_edge], 4), Ok(vec![b"1234".to_vec()]));
        assert_eq!(frames(&[&5u32.to_be_bytes()], 4), Err(TooLong));
        let mut reader = Reader::default();
        let header = (16u32 << 20).to_be_bytes();
        assert_eq!(reader.next(&mut &header[..], 16 << 20), Ok(None));
        assert!(reader.body.capacity() <= ROOM_FIRST);
    }
}
