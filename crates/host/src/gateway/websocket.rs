//! WebSocket (RFC 6455) as MQTT uses it: the upgrade, and frames both ways. Bytes in, bytes out; no socket.
//!
//! MQTT does not care where a frame ends [MQTT-6.0.0-2], so the payload of a frame is passed on as it comes: nothing
//! is kept of a message, whatever length it claims.
use base64ct::{Base64, Encoding};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use std::fmt::Write as _;

/// The longest request for an upgrade.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// The longest payload of a ping, a pong or a close [RFC 6455 5.5].
const CONTROL_BYTES_MAX: usize = 125;
/// Appended to the client's key [RFC 6455 1.3].
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What is spoken inside, best first: the name of MQTT from 3.1.1 on, and that of 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What is to be done with the beginning of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// The request is not complete.
    More,
    /// The request took so many bytes; after this response there are frames.
    Accept {
        /// Bytes of the request.
        taken: usize,
        /// What to send.
        response: String,
    },
    /// Send this, then close.
    Refuse {
        /// What to send.
        response: String,
        /// Why, for the log.
        why: &'static str,
    },
}

/// Reads a request for an upgrade from the beginning of `bytes`.
pub fn upgrade(bytes: &[u8]) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) if taken <= REQUEST_BYTES_MAX => match accept(&request) {
            Ok(response) => Upgrade::Accept { taken, response },
            Err((status, why)) => refuse(status, why),
        },
        Ok(httparse::Status::Partial) if bytes.len() <= REQUEST_BYTES_MAX => Upgrade::More,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            refuse("431 Request Header Fields Too Large", "its headers are too long")
        }
        Err(_) => refuse("400 Bad Request", "it does not speak HTTP"),
    }
}

fn refuse(status: &str, why: &'static str) -> Upgrade {
    let body = "MQTT is spoken here over WebSocket, subprotocol mqtt.\n";
    let mut response = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n");
    if status.starts_with("426") {
        response.push_str("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    }
    // Writing to a string can't fail.
    let _ = write!(response, "Content-Length: {}\r\n\r\n{body}", body.len());
    Upgrade::Refuse { response, why }
}

type Refusal = (&'static str, &'static str);

fn accept(request: &httparse::Request<'_, '_>) -> Result<String, Refusal> {
    const BAD: &str = "400 Bad Request";
    const UPGRADE: &str = "426 Upgrade Required";
    if request.method != Some("GET") {
        return Err(("405 Method Not Allowed\r\nAllow: GET", "its method is not GET"));
    }
    let tokens = |name| tokens(request, name);
    if !tokens("Upgrade").any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err((UPGRADE, "it asks for no WebSocket"));
    }
    if !tokens("Connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err((BAD, "its Connection header asks for no upgrade"));
    }
    if !tokens("Sec-WebSocket-Version").any(|token| token == "13") {
        return Err((UPGRADE, "its version of WebSocket is not 13"));
    }
    let mut keys = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err((BAD, "it has not one key")) };
    let key = key.value.trim_ascii();
    let mut nonce = [0; 18];
    if key.len() != 24 || !matches!(Base64::decode(key, &mut nonce), Ok(nonce) if nonce.len() == 16) {
        return Err((BAD, "its key is not 16 bytes in base64"));
    }
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    let offered: Vec<&str> = tokens("Sec-WebSocket-Protocol").collect();
    // [MQTT-6.0.0-4]; nothing but MQTT is spoken here: who offers nothing is believed to know that, as with mosquitto.
    match SUBPROTOCOLS.iter().find(|known| offered.contains(known)) {
        Some(chosen) => drop(write!(response, "Sec-WebSocket-Protocol: {chosen}\r\n")),
        None if offered.is_empty() => {}
        None => return Err((BAD, "it offers no subprotocol mqtt")),
    }
    response.push_str("\r\n");
    Ok(response)
}

/// The words of all headers of this name, which are lists.
fn tokens<'r>(request: &'r httparse::Request<'_, '_>, name: &'r str) -> impl Iterator<Item = &'r str> {
    let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let texts = named.filter_map(|header| std::str::from_utf8(header.value).ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn accept_key(key: &[u8]) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    Base64::encode_string(hash.finish().as_ref())
}

/// Why a WebSocket is closed: the number goes to the other end [RFC 6455 7.4.1].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum CloseCode {
    /// All is said.
    Normal = 1000,
    /// The frames break the rules.
    Protocol = 1002,
    /// A text frame: MQTT is binary [MQTT-6.0.0-1].
    Unsupported = 1003,
}

/// What frames from a client bring.
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A part of the MQTT stream.
    Bytes(&'a [u8]),
    /// Answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// The other end says goodbye; it wants the same answer.
    Close,
}

/// The receiving half after the upgrade.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The head of a frame so far.
    head: [u8; 14],
    have: usize,
    /// The frame that is being read, once its head is complete.
    frame: Option<Frame>,
    /// Of a control frame.
    control: Vec<u8>,
    /// A message has begun and its last frame is yet to come.
    in_message: bool,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    left: u64,
    mask: [u8; 4],
    /// Where in the mask the next byte stands.
    turn: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

impl Decoder {
    /// Takes any part of the stream, unmasking it in place. After an error or [`Event::Close`] nothing more is read.
    ///
    /// # Errors
    /// The code to close with.
    pub fn decode(&mut self, mut bytes: &mut [u8], mut tell: impl FnMut(Event<'_>)) -> Result<(), CloseCode> {
        while !bytes.is_empty() && !self.is_closed {
            let Some(frame) = &mut self.frame else {
                let taken = self.take_head(bytes)?;
                bytes = bytes.get_mut(taken..).unwrap_or_default();
                self.finish_frame(&mut tell);
                continue;
            };
            let len = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at_mut(len);
            unmask(payload, frame.mask, frame.turn);
            frame.turn = (frame.turn + len) % 4;
            frame.left -= len as u64;
            match frame.kind {
                Kind::Data => tell(Event::Bytes(payload)),
                Kind::Close | Kind::Ping | Kind::Pong => self.control.extend_from_slice(payload),
            }
            bytes = rest;
            self.finish_frame(&mut tell);
        }
        Ok(())
    }

    /// Takes bytes of a head; with the last of them the frame begins.
    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, CloseCode> {
        let mut taken = 0;
        for &byte in bytes {
            let Some(place) = self.head.get_mut(self.have) else { return Err(CloseCode::Protocol) };
            *place = byte;
            self.have += 1;
            taken += 1;
            if self.have >= 2 && self.have == head_len(self.head[1]) {
                self.have = 0;
                self.frame = Some(self.begin()?);
                break;
            }
        }
        Ok(taken)
    }

    fn begin(&mut self) -> Result<Frame, CloseCode> {
        let [first, second, ..] = self.head;
        let is_last = first & 0x80 != 0;
        // Extensions are never agreed on, and a client must mask [RFC 6455 5.1, 5.2].
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(CloseCode::Protocol);
        }
        let (left, mask_at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([self.head[2], self.head[3]])), 4),
            127 => {
                let [_, _, len @ .., _, _, _, _] = self.head;
                (u64::from_be_bytes(len), 10)
            }
            short => (u64::from(short), 2),
        };
        let kind = match (first & 0x0f, self.in_message) {
            (0, true) | (2, false) => Kind::Data,
            (1, _) => return Err(CloseCode::Unsupported),
            (8, _) => Kind::Close,
            (9, _) => Kind::Ping,
            (10, _) => Kind::Pong,
            _ => return Err(CloseCode::Protocol),
        };
        if kind == Kind::Data {
            self.in_message = !is_last;
            if left > i64::MAX as u64 {
                return Err(CloseCode::Protocol);
            }
        } else if !is_last || left > CONTROL_BYTES_MAX as u64 {
            return Err(CloseCode::Protocol);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.head[mask_at..mask_at + 4]);
        Ok(Frame { kind, left, mask, turn: 0 })
    }

    fn finish_frame(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        let Some(frame) = self.frame.filter(|frame| frame.left == 0) else { return };
        self.frame = None;
        match frame.kind {
            Kind::Data | Kind::Pong => {}
            Kind::Ping => tell(Event::Ping(&self.control)),
            Kind::Close => {
                self.is_closed = true;
                tell(Event::Close);
            }
        }
        self.control.clear();
    }
}

/// The length of a client's head, which its second byte tells.
fn head_len(second: u8) -> usize {
    match second & 0x7f {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], turn: usize) {
    let mut turned = mask;
    turned.rotate_left(turn);
    // Eight bytes at a time, which is two turns of the mask.
    let [a, b, c, d] = turned;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a binary frame that holds all of `payload`.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    head(0x82, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the answer to a ping.
pub fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    head(0x8a, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the last frame of a connection.
pub fn encode_close(code: CloseCode, out: &mut Vec<u8>) {
    head(0x88, 2, out);
    out.extend_from_slice(&(code as u16).to_be_bytes());
}

fn head(first: u8, len: usize, out: &mut Vec<u8>) {
    out.push(first);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

    fn request(lines: &[&str]) -> String {
        format!("{}\r\n\r\n", lines.join("\r\n"))
    }

    #[test]
    fn an_upgrade_as_in_the_standard() {
        let text = request(&[
            "GET /mqtt HTTP/1.1",
            "Host: h",
            "upgrade: WebSocket",
            "Connection: keep-alive, Upgrade",
            KEY,
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: chat, mqttv3.1, mqtt",
        ]);
        let Upgrade::Accept { taken, response } = upgrade(format!("{text}rest").as_bytes()) else { panic!() };
        assert_eq!(taken, text.len());
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        // [MQTT-6.0.0-4]
        assert!(response.ends_with("\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"), "{response}");
        for end in 0..text.len() {
            assert_eq!(upgrade(&text.as_bytes()[..end]), Upgrade::More, "{end}");
        }
    }

    #[test]
    fn what_is_no_upgrade_is_told_so() {
        let good = ["GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", KEY, "Sec-WebSocket-Version: 13"];
        assert!(matches!(upgrade(request(&good).as_bytes()), Upgrade::Accept { .. }));
        let rows = [
            (0, "POST / HTTP/1.1", "405"),
            (0, "\x10\x0c\0\x04MQTT", "400"),
            (1, "X: y", "426"),
            (1, "Upgrade: h2c", "426"),
            (2, "Connection: close", "400"),
            (3, "X: y", "400"),
            (3, "Sec-WebSocket-Key: short", "400"),
            (3, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==", "400"),
            (3, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "400"),
            (4, "Sec-WebSocket-Version: 8", "426"),
            (4, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat", "400"),
        ];
        for (index, line, status) in rows {
            let mut lines = good;
            lines[index] = line;
            let Upgrade::Refuse { response, .. } = upgrade(request(&lines).as_bytes()) else { panic!("{line}") };
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {response}");
            assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
        }
    }

    #[test]
    fn headers_have_an_end() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(REQUEST_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(HEADERS_MAX + 1));
        for text in [long, many] {
            let Upgrade::Refuse { response, .. } = upgrade(text.as_bytes()) else { panic!() };
            assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
        }
    }

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        head(first, payload.len(), &mut bytes);
        bytes[1] |= 0x80;
        let mask = [0x12, 0xe4, 0x56, 0x78];
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What the frames bring, in words, if they come in pieces of this size.
    fn decoded(bytes: &[u8], piece: usize) -> String {
        let (mut decoder, mut stream, mut rest) = (Decoder::default(), Vec::new(), String::new());
        for chunk in bytes.chunks(piece.max(1)) {
            let outcome = decoder.decode(&mut chunk.to_vec(), |event| match event {
                Event::Bytes(bytes) => stream.extend_from_slice(bytes),
                Event::Ping(payload) => write!(rest, " ping {}", String::from_utf8_lossy(payload)).unwrap(),
                Event::Close => rest.push_str(" close"),
            });
            if let Err(code) = outcome {
                rest = format!("{rest} {}", code as u16);
                break;
            }
        }
        format!("{}{rest}", String::from_utf8_lossy(&stream))
    }

    #[test]
    fn frames() {
        let rows = [
            // [MQTT-6.0.0-2]
            (vec![frame(0x82, b"hello")], "hello"),
            (vec![frame(0x02, b"he"), frame(0x00, b"l"), frame(0x89, b"?"), frame(0x80, b"lo")], "hello ping ?"),
            (vec![frame(0x82, b""), frame(0x8a, b"late"), frame(0x82, b"x")], "x"),
            (vec![frame(0x82, b"x"), frame(0x88, b"\x03\xe8"), frame(0x82, b"y")], "x close"),
            // Text, in any place [MQTT-6.0.0-1].
            (vec![frame(0x81, b"hello")], " 1003"),
            (vec![frame(0x82, b"a"), frame(0x81, b"b")], "a 1003"),
            // A continuation of nothing, a message within a message, unknown kinds, extensions.
            (vec![frame(0x80, b"a")], " 1002"),
            (vec![frame(0x02, b"a"), frame(0x82, b"b")], "a 1002"),
            (vec![frame(0x83, b"a")], " 1002"),
            (vec![frame(0x8b, b"a")], " 1002"),
            (vec![frame(0xc2, b"a")], " 1002"),
            // Control frames are short and whole.
            (vec![frame(0x09, b"a")], " 1002"),
            (vec![frame(0x89, &[b'a'; 126])], " 1002"),
            // Not masked; longer than anything.
            (vec![b"\x82\x01a\0\0\0\0".to_vec()], " 1002"),
            (vec![b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()], " 1002"),
        ];
        for (frames, expected) in rows {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(decoded(&frames.concat(), piece), expected, "{frames:?} by {piece}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_lengths_in_any_pieces(
            lens in prop::collection::vec(prop_oneof![0..300_usize, 65_530..65_545_usize], 1..4),
            piece in 1..70_000_usize,
        ) {
            let payload = |len: &usize| (0..*len).map(|at| b'a' + (at % 23) as u8).collect();
            let payloads: Vec<Vec<u8>> = lens.iter().map(payload).collect();
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
            prop_assert_eq!(decoded(&bytes, piece), String::from_utf8(payloads.concat()).unwrap());
        }

        #[test]
        fn any_bytes_keep_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1..100_usize) {
            let mut decoder = Decoder::default();
            for chunk in bytes.chunks(piece) {
                let mut told = 0;
                let count = |event: Event<'_>| if let Event::Bytes(part) = event { told += part.len() };
                let outcome = decoder.decode(&mut chunk.to_vec(), count);
                prop_assert!(told <= chunk.len() && decoder.control.len() <= CONTROL_BYTES_MAX);
                if outcome.is_err() { break; }
            }
            let _ = upgrade(&bytes);
        }
    }
}
