//! Packets from a stream of bytes, however it is split.
use crate::codec::{Cut, DecodeError, Frame, cut};
use crate::packet::Packet;
use crate::types::Version;
use alloc::vec::Vec;

/// Keeps the beginning of a packet until its end arrives. Whole packets are read where they lie.
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    /// The packet in `partial` was handed out.
    read: bool,
}

impl Inbox {
    /// Empty, without memory of its own.
    pub const fn new() -> Self {
        Self { partial: Vec::new(), read: false }
    }

    /// The next packet of what was kept and `data`, which is moved past it; `None` once `data` is used up.
    /// After an error the stream cannot be read any further.
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
