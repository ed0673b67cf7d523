//! The PROXY protocol, version 2: what a proxy says of the client before it passes on its first byte.
//! <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_BYTES: usize = 16;
/// Addresses and what a proxy may want to add: a longer header is nobody's.
const BODY_BYTES_MAX: usize = 2_048;
/// The longest header that is read.
pub const HEADER_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// What the beginning of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// A header, but not all of it.
    More,
    /// A header of so many bytes.
    Complete {
        /// Its length.
        taken: usize,
        /// The client; `None`: the connection is the proxy's own, or of a kind that has no address.
        client: Option<SocketAddr>,
    },
    /// No header of version 2, and why not.
    Wrong(&'static str),
}

/// Reads a header from the beginning of `bytes`.
pub fn header(bytes: &[u8]) -> Header {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        let is_version_1 = bytes.starts_with(b"PROXY ");
        return Header::Wrong(if is_version_1 { "its PROXY header is of version 1" } else { "it has no PROXY header" });
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Header::More };
    let [.., version_and_command, family, high, low] = head else { return Header::More };
    if version_and_command >> 4 != 2 {
        return Header::Wrong("its PROXY header is not of version 2");
    }
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > BODY_BYTES_MAX {
        return Header::Wrong("its PROXY header is too long");
    }
    let Some(body) = rest.get(..len) else { return Header::More };
    let taken = HEAD_BYTES + len;
    match version_and_command & 0x0f {
        // LOCAL: the proxy looks whether we are well.
        0 => Header::Complete { taken, client: None },
        1 => match client(family >> 4, body) {
            Ok(client) => Header::Complete { taken, client },
            Err(why) => Header::Wrong(why),
        },
        _ => Header::Wrong("its PROXY header has an unknown command"),
    }
}

fn client(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const SHORT: &str = "its PROXY header is too short for its addresses";
    match family {
        // Unspecified, and Unix sockets.
        0 | 3 => Ok(None),
        1 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = body else { return Err(SHORT) };
            let ip = IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d));
            Ok(Some(SocketAddr::new(ip, u16::from_be_bytes([*high, *low]))))
        }
        2 => {
            let ip = body.first_chunk::<16>().ok_or(SHORT)?;
            let Some([high, low, _, _]) = body.get(32..36) else { return Err(SHORT) };
            Ok(Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*ip)), u16::from_be_bytes([*high, *low]))))
        }
        _ => Err("its PROXY header has an unknown family of addresses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family][..], &len, body].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x07, 0x5b];

    #[test]
    fn headers() {
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[33]) = (0x20, 1, 80);
        let with_more = [&V4[..], b"\x04\0\x01x"].concat();
        let rows: [(Vec<u8>, Option<&str>); 6] = [
            (bytes(0x21, 0x11, &V4), Some("192.0.2.7:12345")),
            (bytes(0x21, 0x11, &with_more), Some("192.0.2.7:12345")),
            (bytes(0x21, 0x21, &v6), Some("[2000::1]:80")),
            (bytes(0x20, 0x00, b""), None),
            (bytes(0x21, 0x00, b""), None),
            (bytes(0x21, 0x31, &[0; 216]), None),
        ];
        for (mut text, expected) in rows {
            let taken = text.len();
            for end in 0..taken {
                assert_eq!(header(&text[..end]), Header::More);
            }
            text.extend_from_slice(b"\x10\x0c");
            let client = expected.map(|address| address.parse().unwrap());
            assert_eq!(header(&text), Header::Complete { taken, client });
        }
    }

    #[test]
    fn what_is_no_header() {
        let rows = [
            (b"\x10\x0c\0\x04MQTT".to_vec(), "no PROXY header"),
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n".to_vec(), "version 1"),
            (bytes(0x11, 0x11, &V4), "version 2"),
            (bytes(0x22, 0x11, &V4), "command"),
            (bytes(0x21, 0x41, &V4), "family"),
            (bytes(0x21, 0x11, &V4[..11]), "too short"),
            (bytes(0x21, 0x21, &[0; 35]), "too short"),
            (bytes(0x21, 0x11, &[0; BODY_BYTES_MAX + 1]), "too long"),
        ];
        for (text, why) in rows {
            let Header::Wrong(said) = header(&text) else { panic!("{why}") };
            assert!(said.contains(why), "{said}");
        }
    }
}
