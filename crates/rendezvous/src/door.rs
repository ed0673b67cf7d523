//! Sealed messages as datagrams: how one knocks at an address of which one knows nothing else.
use crate::Fingerprint;
use crate::seal::LEN_MAX;
use alloc::vec::Vec;

/// The first byte of every datagram of this crate; no protocol that shares the port uses it (RFC 7983 leaves it free).
pub const DOOR_MAGIC: u8 = 0x05;
/// The length of a knock, and of every answer but a refusal.
pub(crate) const KNOCK_LEN: usize = HEAD_LEN + LEN_MAX;

const HEAD_LEN: usize = 10;
const KIND_SEALED: u8 = 1;
const KIND_REFUSAL: u8 = 2;

/// The beginning of a knock's random part: whoever refuses it repeats this, so that nobody else can refuse for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KnockTag(pub(crate) [u8; 8]);

/// A datagram at a door.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// A sealed message of that mesh.
    Sealed { mesh: Fingerprint, tag: KnockTag, sealed: &'a [u8] },
    /// "I am of that mesh, not of yours."
    Refusal { mesh: Fingerprint, tag: KnockTag },
}

impl<'a> Datagram<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let [DOOR_MAGIC, kind, mesh @ ..] = *head else { return None };
        let mesh = Fingerprint(mesh);
        let tag = KnockTag(*rest.first_chunk()?);
        match kind {
            KIND_SEALED if bytes.len() == KNOCK_LEN => Some(Self::Sealed { mesh, tag, sealed: rest }),
            KIND_REFUSAL if rest.len() == tag.0.len() => Some(Self::Refusal { mesh, tag }),
            _ => None,
        }
    }
}

fn head(kind: u8, mesh: Fingerprint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(KNOCK_LEN);
    bytes.extend_from_slice(&[DOOR_MAGIC, kind]);
    bytes.extend_from_slice(&mesh.0);
    bytes
}

/// A sealed message of the largest class as a datagram.
pub(crate) fn datagram(mesh: Fingerprint, sealed: &[u8]) -> Vec<u8> {
    let mut bytes = head(KIND_SEALED, mesh);
    bytes.extend_from_slice(sealed);
    bytes
}

/// The tag of a knock that carries this sealed message.
pub(crate) fn tag(sealed: &[u8]) -> Option<KnockTag> {
    sealed.first_chunk().copied().map(KnockTag)
}

/// The refusal of a knock.
pub(crate) fn refusal(mesh: Fingerprint, tag: KnockTag) -> Vec<u8> {
    let mut bytes = head(KIND_REFUSAL, mesh);
    bytes.extend_from_slice(&tag.0);
    bytes
}
