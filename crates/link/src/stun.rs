//! The few STUN messages (RFC 8489) that the ICE agent does not want: Binding without credentials, both ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// RFC 8489 §5: the magic cookie.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Joins a request and its response.
pub(crate) type TransactionId = [u8; 12];

/// A Binding request as simple as can be.
pub(crate) fn binding_request(id: TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN);
    out.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&id);
    out
}

/// The transaction of a STUN message, whatever it is otherwise.
pub(crate) fn transaction_id(datagram: &[u8]) -> Option<TransactionId> {
    Message::parse(datagram).map(|message| message.id)
}

/// The address in a Binding success response: what the server saw.
pub(crate) fn mapped_address(datagram: &[u8]) -> Option<SocketAddr> {
    let message = Message::parse(datagram)?;
    if message.kind != BINDING_SUCCESS {
        return None;
    }
    let xored = message.attribute(XOR_MAPPED_ADDRESS).and_then(|value| address(value, Some(&message.id)));
    // RFC 3489 servers know only the plain form.
    xored.or_else(|| message.attribute(MAPPED_ADDRESS).and_then(|value| address(value, None)))
}

/// Answers a STUN server's question for whoever asks: "which address do I come from?".
///
/// `None` for everything that is not a plain Binding request; requests with credentials belong to ICE. The answer is
/// at most 44 bytes for a request of at least 20, so it is of little use to amplify an attack; a host should limit the
/// rate per address all the same.
///
/// ```
/// let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
/// let response = midge_link::respond_binding(&request, "192.0.2.1:5000".parse()?).expect("a response");
/// assert_eq!(response[..2], [1, 1]);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
pub fn respond_binding(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let message = Message::parse(datagram)?;
    let authenticated = [USERNAME, MESSAGE_INTEGRITY].iter().any(|kind| message.attribute(*kind).is_some());
    // RFC 8489 §6.3: attributes below 0x8000 that we don't understand would need error 420; silence is as good here.
    let required = message.attributes().any(|(kind, _)| kind < 0x8000);
    if message.kind != BINDING_REQUEST || authenticated || required {
        return None;
    }
    let ip = match from.ip() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
    };
    let mask = mask(&message.id);
    let (family, mut octets) = match ip {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
    let mut out = Vec::with_capacity(44);
    out.extend_from_slice(&BINDING_SUCCESS.to_be_bytes());
    out.extend_from_slice(&(8 + octets.len() as u16).to_be_bytes());
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&message.id);
    out.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend_from_slice(&(4 + octets.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, family]);
    out.extend_from_slice(&(from.port() ^ 0x2112).to_be_bytes());
    out.extend_from_slice(&octets);
    Some(out)
}

/// The local and the remote user name fragment of an ICE check, as the receiver sees them.
pub(crate) fn user_names(datagram: &[u8]) -> Option<(&str, &str)> {
    let message = Message::parse(datagram)?;
    core::str::from_utf8(message.attribute(USERNAME)?).ok()?.split_once(':')
}

/// Whether it is a Binding request.
pub(crate) fn is_request(datagram: &[u8]) -> bool {
    datagram.first_chunk() == Some(&BINDING_REQUEST.to_be_bytes())
}

struct Message<'a> {
    kind: u16,
    id: TransactionId,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, body) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [k0, k1, l0, l1, c0, c1, c2, c3, id @ ..] = *header;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let valid = k0 & 0xc0 == 0 && [c0, c1, c2, c3] == COOKIE && len == body.len() && len % 4 == 0;
        valid.then_some(Self { kind: u16::from_be_bytes([k0, k1]), id, body })
    }

    fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.body;
        core::iter::from_fn(move || {
            let ([k0, k1, l0, l1], tail) = rest.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            let value = tail.get(..len)?;
            rest = tail.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((u16::from_be_bytes([*k0, *k1]), value))
        })
    }

    fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }
}

/// RFC 8489 §14.2: what an address is xored with.
fn mask(id: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask.iter_mut().zip(COOKIE.iter().chain(id)).for_each(|(to, from)| *to = *from);
    mask
}

fn address(value: &[u8], xor: Option<&TransactionId>) -> Option<SocketAddr> {
    let ([_, family, p0, p1], octets) = value.split_first_chunk::<4>()?;
    let mask = xor.map_or([0; 16], mask);
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let ip = match family {
        1 => {
            let mut octets: [u8; 4] = octets.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        2 => {
            let mut octets: [u8; 16] = octets.try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
