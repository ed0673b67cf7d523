//! A value: bytes that know whether they are text.
use bytes::Bytes;

/// Where the bytes come from. Only the old firmware's rule about topics cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    /// From outside, unchanged.
    Data,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    pub(crate) kind: Kind,
}

impl Value {
    pub(crate) const EMPTY: Self = Self { bytes: Bytes::new(), kind: Kind::Text };

    pub(crate) fn text(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), kind: Kind::Text }
    }

    pub(crate) fn data(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), kind: Kind::Data }
    }

    pub(crate) fn bool(value: bool) -> Self {
        Self::text(Bytes::from_static(if value { b"1" } else { b"0" }))
    }
}

/// The bytes before the first NUL.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    match memchr::memchr(0, bytes) {
        Some(end) => &bytes[..end],
        None => bytes,
    }
}
