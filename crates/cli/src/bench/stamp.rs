//! What a message of the bench says of itself: who sent it, which one it is, and when.

/// Who, which and when, at the beginning of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) speaker: u32,
    /// Counts from 1 for each speaker.
    pub(super) number: u32,
    /// Since the run began.
    pub(super) nanos: u64,
}

/// Bytes of a stamp: a payload has at least as many.
pub(super) const STAMP: usize = 16;

impl Stamp {
    /// Written over the beginning of `payload`; nothing if that is too short.
    pub(super) fn write(self, payload: &mut [u8]) {
        let Some((head, _)) = payload.split_first_chunk_mut::<STAMP>() else { return };
        head[..4].copy_from_slice(&self.speaker.to_be_bytes());
        head[4..8].copy_from_slice(&self.number.to_be_bytes());
        head[8..].copy_from_slice(&self.nanos.to_be_bytes());
    }

    /// `None` for what is too short to be ours.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (speaker, rest) = payload.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let (nanos, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            speaker: u32::from_be_bytes(*speaker),
            number: u32::from_be_bytes(*number),
            nanos: u64::from_be_bytes(*nanos),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { speaker: 7, number: u32::MAX, nanos: 1 << 40 };
        let mut payload = [b'x'; 20];
        stamp.write(&mut payload);
        assert_eq!((Stamp::read(&payload), &payload[STAMP..]), (Some(stamp), &b"xxxx"[..]));
        let mut short = [b'x'; STAMP - 1];
        stamp.write(&mut short);
        assert_eq!((Stamp::read(&short), short), (None, [b'x'; STAMP - 1]));
    }
}
