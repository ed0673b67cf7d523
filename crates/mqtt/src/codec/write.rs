//! Fields of packets, written or only counted.
use super::{EncodeError, REMAINING_MAX};
use crate::types::PacketId;
use alloc::vec::Vec;

/// Where fields go. One description of a packet serves to count its bytes and to write them.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// What could not be said, if anything.
pub(crate) type Written = Result<(), EncodeError>;

pub(crate) fn packet_id(sink: &mut impl Sink, id: PacketId) {
    sink.put(&id.get().to_be_bytes());
}

pub(crate) fn binary(sink: &mut impl Sink, bytes: &[u8]) -> Written {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
    sink.put(&len.to_be_bytes());
    sink.put(bytes);
    Ok(())
}

pub(crate) fn text(sink: &mut impl Sink, text: &str) -> Written {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(EncodeError::Nul);
    }
    binary(sink, text.as_bytes())
}

/// Topic names and filters: their length and characters are proved by their type.
pub(crate) fn topic(sink: &mut impl Sink, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    sink.put(&len.to_be_bytes());
    sink.put(&text.as_bytes()[..usize::from(len)]);
}

pub(crate) fn variable(sink: &mut impl Sink, value: u32) {
    let (bytes, len) = variable_bytes(value);
    sink.put(&bytes[..len]);
}

/// A variable byte integer and how many of the four bytes it takes; `value` is at most [`REMAINING_MAX`].
#[inline]
pub(crate) fn variable_bytes(value: u32) -> ([u8; 4], usize) {
    debug_assert!(value <= REMAINING_MAX, "checked where lengths are summed up");
    let mut bytes = [0; 4];
    let mut rest = value;
    let mut len = 0;
    for byte in &mut bytes {
        len += 1;
        *byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, len)
}

/// A length that Remaining Length and Property Length can say.
#[inline]
pub(crate) fn length(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).ok().filter(|&len| len <= REMAINING_MAX).ok_or(EncodeError::PacketTooLong)
}
