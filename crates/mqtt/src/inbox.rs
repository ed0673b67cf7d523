//! Packets from a stream of bytes, however it is split.
use crate::codec::{Cut, DecodeError, Frame, Kind, cut};
use crate::packet::Packet;
use crate::types::{PacketId, QoS, Version};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Keeps the beginning of a packet until its end arrives. Whole packets are read where they lie.
#[derive(Debug, Default)]
pub struct Inbox {
    partial: Vec<u8>,
    /// The packet in `partial` was handed out.
    read: bool,
    /// A packet that is passed over.
    passing: Option<Box<Passing>>,
}

/// A PUBLISH that is not read.
#[derive(Debug)]
struct Passing {
    /// Bytes still to come.
    left: usize,
    /// Its beginning, until its identifier is known.
    head: Vec<u8>,
    /// Whether somebody waits for an answer to it.
    is_to_be_named: bool,
    /// Of those passed over that are still to be answered.
    names: Vec<(QoS, PacketId)>,
}

impl Inbox {
    /// Empty, without memory of its own.
    pub const fn new() -> Self {
        Self { partial: Vec::new(), read: false, passing: None }
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
        if let Some(passing) = &mut self.passing {
            passing.take(data)?;
            if passing.left == 0 && passing.names.is_empty() {
                self.passing = None;
            }
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

    /// After [`DecodeError::TooLarge`] with this `len`: goes on behind the packet if it is a PUBLISH of QoS 0, which
    /// nobody waits for an answer to. Returns whether it is. Costs no memory.
    pub fn pass_over(&mut self, data: &[u8], len: u32) -> bool {
        let is_fleeting = self.first(data).is_some_and(|first| first & 0b0110 == 0);
        is_fleeting && self.pass_over_any(data, len)
    }

    /// As [`Inbox::pass_over`], a PUBLISH of QoS 1 and 2 too: it is to be answered once [`Inbox::take_passed`] has its
    /// identifier. Costs the memory of a topic until then.
    pub fn pass_over_any(&mut self, data: &[u8], len: u32) -> bool {
        let Some(first) = self.first(data).filter(|first| first >> 4 == Kind::Publish as u8) else { return false };
        let head = core::mem::take(&mut self.partial);
        let left = (len as usize).saturating_sub(head.len());
        let names = self.passing.take().map(|before| before.names).unwrap_or_default();
        self.passing = Some(Box::new(Passing { left, head, is_to_be_named: first & 0b0110 != 0, names }));
        true
    }

    /// How a packet that was passed over is called, once. To be asked until there is none, after each packet and at the
    /// end of the data.
    pub fn take_passed(&mut self) -> Option<(QoS, PacketId)> {
        let passing = self.passing.as_mut()?;
        let name = (!passing.names.is_empty()).then(|| passing.names.remove(0));
        if passing.left == 0 && passing.names.is_empty() {
            self.passing = None;
        }
        name
    }

    fn first(&self, data: &[u8]) -> Option<u8> {
        self.partial.first().or(data.first()).copied()
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

impl Passing {
    /// Moves `data` past the packet, as far as it is there.
    fn take(&mut self, data: &mut &[u8]) -> Result<(), DecodeError> {
        let (passed, rest) = data.split_at(self.left.min(data.len()));
        self.left -= passed.len();
        *data = rest;
        if !self.is_to_be_named {
            return Ok(());
        }
        let missing = HEAD_MAX.saturating_sub(self.head.len()).min(passed.len());
        self.head.extend_from_slice(&passed[..missing]);
        match name(&self.head) {
            Some(name) => {
                self.names.push(name?);
                (self.is_to_be_named, self.head) = (false, Vec::new());
                Ok(())
            }
            None if self.left == 0 => Err(DecodeError::Truncated),
            None => Ok(()),
        }
    }
}

/// Type, Remaining Length, the longest topic and the identifier.
const HEAD_MAX: usize = 5 + 2 + 65_535 + 2;

/// QoS and identifier of the PUBLISH that begins like this; `None` if there is too little of it.
fn name(head: &[u8]) -> Option<Result<(QoS, PacketId), DecodeError>> {
    let (&first, rest) = head.split_first()?;
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (len, rest) = rest.get(length..)?.split_first_chunk::<2>()?;
    let id = rest.get(usize::from(u16::from_be_bytes(*len))..)?.first_chunk::<2>()?;
    let qos = QoS::from_bits(first >> 1 & 0b11).ok_or(DecodeError::QoS);
    let id = PacketId::new(u16::from_be_bytes(*id)).ok_or(DecodeError::PacketId);
    Some(qos.and_then(|qos| Ok((qos, id?))))
}
