use crate::path::CandidateType;
use core::fmt;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a site tells a peer so that the peer can reach it. Secret: the password admits to path checks, though never
/// to the link itself, which the keys guard.
#[derive(Clone, PartialEq, Eq)]
pub struct Card {
    /// Names one life of the sender's endpoint: another value means that the sender was restarted.
    pub instance: u32,
    /// Grows with every card of an instance; older ones are ignored.
    pub generation: u32,
    /// Grows whenever the sender gives up its QUIC connection with the receiver of this card.
    pub connection: u32,
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Where the sender may be reached, best first.
    pub candidates: Vec<Candidate>,
}

/// One address of a [`Card`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it was learnt; peer-reflexive ones are never told.
    pub kind: CandidateType,
    /// ICE priority, `1..2^31`.
    pub priority: u32,
    /// The address.
    pub address: SocketAddr,
}

/// Why bytes are not a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardError {
    /// Of a format that this program does not know: the sender is newer.
    Version(u8),
    /// Shorter than what it announces.
    Truncated,
    /// Bytes after the last candidate.
    Trailing,
    /// ICE credentials of a forbidden length or with forbidden characters (RFC 8839 §5.4).
    Credentials,
    /// A candidate of an unknown type, or with an address or priority that cannot be.
    Candidate,
    /// Longer than [`Card::SIZE_MAX`] or with more than [`Card::CANDIDATES_MAX`] candidates.
    TooLarge,
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "card format {version} is newer than this program"),
            Self::Truncated => f.write_str("card is cut short"),
            Self::Trailing => f.write_str("card has bytes after its end"),
            Self::Credentials => f.write_str("card has malformed ICE credentials"),
            Self::Candidate => f.write_str("card has an impossible candidate"),
            Self::TooLarge => f.write_str("card is too large"),
        }
    }
}

impl core::error::Error for CardError {}

const VERSION: u8 = 1;
const V6: u8 = 0x80;

impl Card {
    /// Encoded cards are never longer: with its seal it fits a BEP 44 value.
    pub const SIZE_MAX: usize = 900;
    /// Decoded cards have no more candidates than this.
    pub const CANDIDATES_MAX: usize = 32;

    /// The wire form; when it would not fit, the least useful candidates are left out.
    ///
    /// Layout, integers big-endian: version `01` · instance u32 · generation u32 · connection u32 · length u8 and
    /// bytes of ufrag · length u8 and bytes of pwd · count u8 · per candidate: type u8 (0 host, 1 server-reflexive,
    /// 2 relayed; bit 7 set for IPv6) · priority u32 · port u16 · 4 or 16 bytes of address.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(VERSION);
        for number in [self.instance, self.generation, self.connection] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for text in [&self.ufrag, &self.pwd] {
            let text = text.as_bytes().get(..CREDENTIAL_MAX).unwrap_or(text.as_bytes());
            out.push(text.len() as u8);
            out.extend_from_slice(text);
        }
        let kept = self.fitting(Self::SIZE_MAX - out.len() - 1);
        out.push(kept.len() as u8);
        for candidate in kept {
            candidate.encode(&mut out);
        }
        out
    }

    /// Reads what [`Card::encode`] writes, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        if bytes.len() > Self::SIZE_MAX {
            return Err(CardError::TooLarge);
        }
        let mut reader = Reader(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(CardError::Version(other)),
        }
        let [instance, generation, connection] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let ufrag = reader.credential(UFRAG_MIN)?;
        let pwd = reader.credential(PWD_MIN)?;
        let count = usize::from(reader.u8()?);
        if count > Self::CANDIDATES_MAX {
            return Err(CardError::TooLarge);
        }
        let candidates = (0..count).map(|_| Candidate::decode(&mut reader)).collect::<Result<_, _>>()?;
        if !reader.0.is_empty() {
            return Err(CardError::Trailing);
        }
        Ok(Self { instance, generation, connection, ufrag, pwd, candidates })
    }

    /// Whether both cards are of one life of the sender and name the same addresses, ports aside.
    pub(crate) fn is_from_same_place(&self, other: &Self) -> bool {
        let addresses = |card: &Self| -> BTreeSet<IpAddr> {
            card.candidates.iter().map(|candidate| candidate.address.ip()).collect()
        };
        self.instance == other.instance && addresses(self) == addresses(other)
    }

    /// The most useful candidates that fit into `room` bytes, in their order. The first of each type and family is
    /// worth more than the second of another: one of them may be the only one that works.
    fn fitting(&self, room: usize) -> Vec<&Candidate> {
        let rank = |index: usize, candidate: &Candidate| {
            let class = |other: &Candidate| (other.kind, other.address.is_ipv4());
            self.candidates.iter().take(index).filter(|other| class(other) == class(candidate)).count()
        };
        let tellable = |candidate: &Candidate| candidate.kind != CandidateType::PeerReflexive;
        let mut ranked: Vec<_> = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| tellable(candidate))
            .map(|(index, candidate)| (rank(index, candidate), index))
            .collect();
        ranked.sort_unstable();
        let mut left = room;
        let mut kept: Vec<usize> = ranked
            .into_iter()
            .take(Self::CANDIDATES_MAX)
            .take_while(|(_, index)| {
                let size = self.candidates.get(*index).map_or(0, Candidate::size);
                let fits = size <= left;
                left = left.saturating_sub(size);
                fits
            })
            .map(|(_, index)| index)
            .collect();
        kept.sort_unstable();
        kept.into_iter().filter_map(|index| self.candidates.get(index)).collect()
    }
}

impl fmt::Debug for Card {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("instance", &self.instance)
            .field("generation", &self.generation)
            .field("connection", &self.connection)
            .field("ufrag", &self.ufrag)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// RFC 8839 §5.4 allows 256; ours are short so that a card fits.
const CREDENTIAL_MAX: usize = 64;
const UFRAG_MIN: usize = 4;
const PWD_MIN: usize = 22;

impl Candidate {
    fn size(&self) -> usize {
        1 + 4 + 2 + if self.address.is_ipv4() { 4 } else { 16 }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            CandidateType::Host => 0,
            CandidateType::ServerReflexive | CandidateType::PeerReflexive => 1,
            CandidateType::Relayed => 2,
        };
        out.push(kind | if self.address.is_ipv6() { V6 } else { 0 });
        out.extend_from_slice(&self.priority.to_be_bytes());
        out.extend_from_slice(&self.address.port().to_be_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, CardError> {
        let tag = reader.u8()?;
        let kind = match tag & !V6 {
            0 => CandidateType::Host,
            1 => CandidateType::ServerReflexive,
            2 => CandidateType::Relayed,
            _ => return Err(CardError::Candidate),
        };
        let priority = reader.u32()?;
        let port = u16::from_be_bytes(reader.array()?);
        let ip = match tag & V6 {
            0 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)),
            _ => IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)),
        };
        let candidate = Self { kind, priority, address: SocketAddr::new(ip, port) };
        // RFC 8445 §5.1.2: a larger priority would overflow the pair's.
        let possible = (1..1 << 31).contains(&priority) && is_reachable(candidate.address);
        if possible { Ok(candidate) } else { Err(CardError::Candidate) }
    }
}

/// Whether datagrams can be sent there at all.
pub(crate) fn is_reachable(address: SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    let mapped = matches!(address.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() && !broadcast && !mapped
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CardError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(CardError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CardError> {
        self.take(N)?.try_into().map_err(|_| CardError::Truncated)
    }

    fn u8(&mut self) -> Result<u8, CardError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, CardError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn credential(&mut self, len_min: usize) -> Result<String, CardError> {
        let len = usize::from(self.u8()?);
        let bytes = self.take(len)?;
        // RFC 8839 §5.4: ice-char = ALPHA / DIGIT / "+" / "/"
        let valid = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        if !valid || !(len_min..=CREDENTIAL_MAX).contains(&len) {
            return Err(CardError::Credentials);
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| CardError::Credentials)
    }
}
