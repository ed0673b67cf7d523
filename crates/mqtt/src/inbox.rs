//! Packets from a stream of bytes, however it is split.
use crate::codec::{Cut, DecodeError, Frame, Kind, cut};
use crate::packet::Packet;
use crate::types::Version;
use alloc::vec::Vec;

/// Keeps the beginning of a packet until its end arrives. Whole packets are read where they lie.
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    /// The packet in `partial` was handed out.
    read: bool,
    /// Bytes still to come of a packet that is passed over.
    passing: usize,
}

impl Inbox {
    /// Empty, without memory of its own.
    pub const fn new() -> Self {
        Self { partial: Vec::new(), read: false, passing: 0 }
    }

    /// The next packet of what was kept and `data`, which is moved past it; `None` once `data` is used up.
    /// After an error the stream cannot be read any further, but see [`Inbox::pass_over`].
    pub fn next<'a, 'd: 'a>(
        &'a mut self,
        data: &mut &'d [u8],
        version: Version,
        packet_max: u32,
    ) -> Result<Option<Packet<'a>>, DecodeError> {
        self.next_frame(data, version, packet_max)?.map(|frame| frame.packet(version)).transpose()
    }

    /// As [`Inbox::next`], the packet's inside left for later.
    pub fn next_frame<'a, 'd: 'a>(
        &'a mut self,
        data: &mut &'d [u8],
        version: Version,
        packet_max: u32,
    ) -> Result<Option<Frame<'a>>, DecodeError> {
        if self.read {
            *self = Self::new();
        }
        let passed = self.passing.min(data.len());
        self.passing -= passed;
        *data = &data[passed..];
        if self.partial.is_empty() {
            return match cut(data, version, packet_max)? {
                Cut::Frame { frame, len } => {
                    *data = &data[len..];
                    Ok(Some(frame))
                }
                Cut::Incomplete { needed } => {
                    self.keep(data, needed);
                    Ok(None)
                }
            };
        }
        // Only as many bytes as belong to the packet; the header may have to be completed first to know how many.
        loop {
            match cut(&self.partial, version, packet_max)? {
                Cut::Incomplete { .. } if data.is_empty() => return Ok(None),
                Cut::Incomplete { needed } => {
                    let missing = needed.saturating_sub(self.partial.len()).min(data.len());
                    let (mut more, rest) = data.split_at(missing);
                    self.keep(&mut more, needed);
                    *data = rest;
                }
                Cut::Frame { .. } => break,
            }
        }
        self.read = true;
        match cut(&self.partial, version, packet_max)? {
            Cut::Frame { frame, .. } => Ok(Some(frame)),
            Cut::Incomplete { .. } => Ok(None),
        }
    }

    /// After [`DecodeError::TooLarge`] with this `len`: goes on behind the packet if it is a PUBLISH of QoS 0, which
    /// nobody waits for an answer to. Returns whether it is. Costs no memory.
    pub fn pass_over(&mut self, data: &[u8], len: u32) -> bool {
        let first = self.partial.first().or(data.first());
        let is_fleeting = first.is_some_and(|first| first >> 4 == Kind::Publish as u8 && first & 0b0110 == 0);
        if is_fleeting {
            self.passing = (len as usize).saturating_sub(self.partial.len());
            self.partial = Vec::new();
        }
        is_fleeting
    }

    /// Takes all of `data`. Memory grows with what has come, not with what a header promises.
    fn keep(&mut self, data: &mut &[u8], needed: usize) {
        let len = self.partial.len() + data.len();
        if len > self.partial.capacity() {
            let capacity = needed.min(len.max(2 * self.partial.capacity())).max(len);
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(data);
        *data = &[];
    }

    /// Bytes kept of a packet that is not all there.
    pub fn buffered(&self) -> usize {
        if self.read { 0 } else { self.partial.len() }
    }
}
