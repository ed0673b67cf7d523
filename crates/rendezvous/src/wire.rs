//! The two messages inside the seals. Layouts in `docs/rendezvous.md`; all numbers big-endian.
use crate::PeerKey;
use alloc::string::String;
use alloc::vec::Vec;

/// The version of the messages, the first byte inside every seal.
pub(crate) const VERSION: u8 = 1;
/// The longest card that a message carries.
pub const CARD_LEN_MAX: usize = 900;
/// The longest name of a site, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 64;
/// What a site signs in an announcement, before the mesh's fingerprint and the fields.
pub(crate) const ANNOUNCE_CONTEXT: &[u8] = b"midge announce 1";

/// One run of a site's process: drawn anew at each start. It dates messages where there are no clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session(pub(crate) [u8; 16]);

/// What a letter must repeat to prove that it is fresh: it can't have been written before this was drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Challenge {
    pub(crate) session: Session,
    /// Counts the sessions of others that the challenger has seen come: what a session wrote that has ended since then
    /// repeats an older number.
    pub(crate) epoch: u32,
}

/// "I am here", to every holder of the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Announce {
    pub(crate) sender: PeerKey,
    /// For everybody to repeat.
    pub(crate) challenge: Challenge,
    /// Grows with each announcement of a session.
    pub(crate) sequence: u32,
    pub(crate) name: String,
}

/// To one member: what it needs to reach us, and proof that we heard it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Letter {
    /// For the recipient to repeat.
    pub(crate) challenge: Challenge,
    /// The recipient's challenge as last heard.
    pub(crate) echo: Challenge,
    /// Grows with each letter of a session to this recipient.
    pub(crate) sequence: u32,
    /// The generation of the recipient's card that we hold; 0: none.
    pub(crate) acknowledged: u32,
    pub(crate) name: String,
    pub(crate) card: Option<SentCard>,
}

/// A card on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SentCard {
    /// Grows from 1 with each change.
    pub(crate) generation: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Reads fields from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn challenge(&mut self) -> Option<Challenge> {
        Some(Challenge { session: Session(self.array()?), epoch: self.u32()? })
    }

    fn name(&mut self) -> Option<String> {
        let [len] = self.array()?;
        let name = core::str::from_utf8(self.slice(usize::from(len))?).ok()?;
        is_name(name).then(|| name.into())
    }

    /// What is left must be padding.
    fn end(self) -> Option<()> {
        self.0.iter().all(|&byte| byte == 0).then_some(())
    }
}

/// Names are shown on terminals: nothing in them may steer one.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_LEN_MAX && !name.chars().any(char::is_control)
}

/// A name that fits: control characters dropped, cut at a whole character.
pub(crate) fn tidy_name(name: &str) -> String {
    let mut tidy = String::new();
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if tidy.len() + letter.len_utf8() > NAME_LEN_MAX {
            break;
        }
        tidy.push(letter);
    }
    tidy
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(is_name(name));
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

fn put_challenge(out: &mut Vec<u8>, challenge: Challenge) {
    out.extend_from_slice(&challenge.session.0);
    out.extend_from_slice(&challenge.epoch.to_be_bytes());
}

impl Announce {
    /// The fields, as they are signed and sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(57 + self.name.len());
        out.extend_from_slice(&self.sender.0);
        put_challenge(&mut out, self.challenge);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        put_name(&mut out, &self.name);
        out
    }

    /// The fields, how many bytes they took, and the signature after them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize, [u8; 64])> {
        let mut reader = Reader(bytes);
        let sender = PeerKey(reader.array()?);
        let challenge = reader.challenge()?;
        let announce = Self { sender, challenge, sequence: reader.u32()?, name: reader.name()? };
        let signed = bytes.len() - reader.0.len();
        let signature = reader.array()?;
        reader.end()?;
        Some((announce, signed, signature))
    }
}

impl Letter {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_challenge(&mut out, self.challenge);
        put_challenge(&mut out, self.echo);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        put_name(&mut out, &self.name);
        let (generation, card): (u32, &[u8]) = match &self.card {
            Some(card) => (card.generation, &card.bytes),
            None => (0, &[]),
        };
        debug_assert!(card.len() <= CARD_LEN_MAX);
        out.extend_from_slice(&generation.to_be_bytes());
        out.extend_from_slice(&(card.len() as u16).to_be_bytes());
        out.extend_from_slice(card);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (challenge, echo) = (reader.challenge()?, reader.challenge()?);
        let (sequence, acknowledged) = (reader.u32()?, reader.u32()?);
        let name = reader.name()?;
        let generation = reader.u32()?;
        let len = usize::from(u16::from_be_bytes(reader.array()?));
        let bytes = reader.slice(len)?;
        reader.end()?;
        let card = match (generation, len) {
            (0, 0) => None,
            (0, _) => return None,
            (_, len) if len > CARD_LEN_MAX => return None,
            (generation, _) => Some(SentCard { generation, bytes: bytes.into() }),
        };
        Some(Self { challenge, echo, sequence, acknowledged, name, card })
    }
}
