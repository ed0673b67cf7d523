//! Numbers and texts as bytes: big-endian, or LEB128 where small values are usual.
use crate::frame::Malformed;
use alloc::vec::Vec;

/// Bytes that are still to be read. Every read is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// LEB128; needlessly long forms are allowed, because lengths are written before they are known.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(Malformed::Number);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Number)
    }

    pub(crate) fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).map_err(|_| Malformed::Number)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.len()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// As many items as a count before them says; the room that is reserved never exceeds what the bytes can hold.
    pub(crate) fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.len()?;
        if count > self.rest.len() / item_bytes_min {
            return Err(Malformed::Truncated);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A length written before its content is: room for `width` digits, filled in by [`end_length`].
pub(crate) fn begin_length(out: &mut Vec<u8>, estimate: usize) -> (usize, usize) {
    let width = ((usize::BITS - estimate.leading_zeros()).div_ceil(7) as usize).max(1);
    let at = out.len();
    out.resize(at + width, 0x80);
    (at, width)
}

/// Fills in the length. An estimate must not be too small.
pub(crate) fn end_length(out: &mut [u8], (at, width): (usize, usize)) {
    let mut left = out.len() - at - width;
    for byte in &mut out[at..at + width - 1] {
        *byte = left as u8 | 0x80;
        left >>= 7;
    }
    debug_assert!(left < 0x80, "estimate too small");
    out[at + width - 1] = left as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_return() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!((reader.varint(), reader.is_empty()), (Ok(value), true));
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        assert_eq!(Reader::new(&[0xFF; 11]).varint(), Err(Malformed::Number));
        assert_eq!(
            Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]).varint(),
            Err(Malformed::Number)
        );
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Malformed::Truncated));
    }

    #[test]
    fn lengths_are_filled_in_afterwards() {
        for (estimate, content) in [(0, 0), (5, 5), (127, 127), (128, 100), (20_000, 3)] {
            let mut out = alloc::vec![7];
            let at = begin_length(&mut out, estimate);
            out.resize(out.len() + content, 9);
            end_length(&mut out, at);
            assert_eq!(Reader::new(&out[1..]).bytes().map(<[u8]>::len), Ok(content));
        }
    }
}
