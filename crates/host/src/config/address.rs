//! Places on the network as the operator names them.
use crate::dial::Place;
use crate::tls::{ClientTls, Trust};
use mqtt::client::Options;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

const STUN_PORT: u16 = 3478;
const HOST_BYTES_MAX: usize = 253;

/// A machine by name or number, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// Name or IP address; an IPv6 address stands here without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A word that must not appear in logs, messages or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a word.
    pub fn new(word: String) -> Self {
        Self(word)
    }

    /// The word itself, for those who must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Another broker: a mailbox, or what scripts call `remote`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteBroker {
    /// Where it listens.
    pub address: Address,
    /// Whether by TLS.
    pub tls: bool,
    /// User name, if it wants one.
    pub user: Option<String>,
    /// Password, if it wants one.
    pub password: Option<Secret>,
}

impl fmt::Display for RemoteBroker {
    /// Without user and password: this is what logs and `status` show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "mqtts" } else { "mqtt" }, self.address)
    }
}

/// A relay and what it wants to hear before it relays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnServer {
    /// Where it listens (UDP).
    pub address: Address,
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

impl fmt::Display for TurnServer {
    /// Without user and password: this is what logs and `status` show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn:{}", self.address)
    }
}

/// What is wrong with an address; completes "found …: " in a message to the operator. Never repeats a secret.
pub(crate) type Reason = String;

impl Address {
    /// `host:port`, `1.2.3.4:port`, `[::1]:port`; the port may be left out if there is a usual one.
    pub(crate) fn parse(text: &str, usual_port: Option<u16>) -> Result<Self, Reason> {
        let (host, port) = split_port(text)?;
        let port = match (port, usual_port) {
            (Some(digits), _) => parse_port(digits)?,
            (None, Some(port)) => port,
            (None, None) => return Err("the port is missing; write \"HOST:PORT\"".to_owned()),
        };
        Ok(Self { host: parse_host(host)?, port })
    }

    /// As [`Address::parse`], with the port of STUN and an optional `stun:` in front.
    pub(super) fn parse_stun(text: &str) -> Result<Self, Reason> {
        if text.starts_with("stuns:") {
            return Err("STUN over TLS is not built yet; write \"HOST:3478\"".to_owned());
        }
        Self::parse(text.strip_prefix("stun:").unwrap_or(text), Some(STUN_PORT))
    }
}

impl RemoteBroker {
    /// `mqtt[s]://[user[:password]@]host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        const FORM: &str = "write \"mqtt://[USER:PASSWORD@]HOST[:PORT]\", or mqtts://";
        let (tls, rest, port) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest, super::MQTT_PORT),
            Some(("mqtts", rest)) => (true, rest, super::MQTT_TLS_PORT),
            Some(("ws" | "wss" | "http" | "https", _)) => {
                return Err(format!("brokers are not reached over HTTP yet; {FORM}"));
            }
            Some(_) | None => return Err(FORM.to_owned()),
        };
        let (address, user, password) = place(rest, port)?;
        Ok(Self { address, tls, user, password })
    }

    /// Where to dial, believing the machine's authorities and those in `ca_file`.
    pub(crate) fn place(&self, ca_file: Option<&Path>) -> Place {
        let trust = ca_file.map_or(Trust::System, |path| Trust::SystemAnd(path.to_owned()));
        let tls = self.tls.then(|| ClientTls { trust, ..ClientTls::default() });
        Place { address: self.address.clone(), tls, from: None }
    }

    /// Adds user name and password.
    pub(crate) fn identify(&self, options: &mut Options) {
        options.user_name = self.user.clone();
        options.password = self.password.as_ref().map(|password| password.reveal().as_bytes().to_vec());
    }
}

/// What follows the scheme of a broker's URL.
fn place(rest: &str, usual_port: u16) -> Result<(Address, Option<String>, Option<Secret>), Reason> {
    // A slash at the end is what people copy from a browser; a path has no meaning here.
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, rest),
    };
    let address = Address::parse(place, Some(usual_port))?;
    let (user, password) = match credentials {
        None => (None, None),
        Some(pair) => match pair.split_once(':') {
            Some((user, password)) => (Some(unescape(user)?), Some(Secret(unescape(password)?))),
            None => (Some(unescape(pair)?), None),
        },
    };
    Ok((address, user, password))
}

impl TurnServer {
    /// `turn:user:password@host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        const FORM: &str = "write \"turn:USER:PASSWORD@HOST[:PORT]\"";
        let Some(rest) = text.strip_prefix("turn:") else {
            return Err(if text.starts_with("turns:") {
                format!("TURN over TLS is not built yet; {FORM}")
            } else {
                FORM.to_owned()
            });
        };
        if rest.contains('?') {
            return Err(format!("TURN over TCP is not built yet, and nothing follows the port; {FORM}"));
        }
        let Some((credentials, place)) = rest.rsplit_once('@') else {
            return Err(format!("user and password are missing; {FORM}"));
        };
        let Some((user, password)) = credentials.split_once(':') else {
            return Err(format!("the password is missing; {FORM}"));
        };
        if user.is_empty() || password.is_empty() {
            return Err(format!("user or password is empty; {FORM}"));
        }
        let address = Address::parse(place, Some(STUN_PORT))?;
        Ok(Self { address, user: unescape(user)?, password: Secret(unescape(password)?) })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), Reason> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err("the ']' after the IPv6 address is missing".to_owned());
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err("between '[' and ']' stands no IPv6 address".to_owned());
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("after ']' only \":PORT\" may follow".to_owned()),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address with a port is written \"[ADDRESS]:PORT\"".to_owned());
    }
    match text.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(digits: &str) -> Result<u16, Reason> {
    match digits.parse() {
        Ok(port) if port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        Ok(_) | Err(_) => Err("the port must be a number from 1 to 65535".to_owned()),
    }
}

fn parse_host(host: &str) -> Result<String, Reason> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err("the host is missing; write a name or an IP address".to_owned());
    }
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return Err("the host must be a name of letters, digits, '-' and '.', or an IP address".to_owned());
    }
    // Only digits and dots, and yet no address: a slip such as "192.168.1.300", never a name.
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("the host is neither an IPv4 address nor a name".to_owned());
    }
    Ok(host.to_owned())
}

/// Resolves `%41` and the like, so that `@`, `:` and `/` can stand in a user name or password.
fn unescape(text: &str) -> Result<String, Reason> {
    const WRONG: &str =
        "after '%' in user or password two hexadecimal digits must follow (\"%40\" is '@', \"%25\" '%')";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or(WRONG)?;
        let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8 once '%' is resolved")?;
    if text.contains('\0') {
        return Err("user or password contains a NUL character".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, usual, expected) in [
            ("stun.example:3478", None, Ok("stun.example:3478")),
            ("stun.example", Some(3478), Ok("stun.example:3478")),
            ("192.0.2.1:5", None, Ok("192.0.2.1:5")),
            ("[2001:db8::1]:5", None, Ok("[2001:db8::1]:5")),
            ("[::1]", Some(7), Ok("[::1]:7")),
            ("::1", Some(7), Err("[ADDRESS]:PORT")),
            ("host", None, Err("port is missing")),
            ("host:0", None, Err("1 to 65535")),
            ("host:+5", None, Err("1 to 65535")),
            ("host:65536", None, Err("1 to 65535")),
            (":5", None, Err("host is missing")),
            ("a b:5", None, Err("letters, digits")),
            ("192.168.1.300:5", None, Err("neither an IPv4")),
            ("[::1:5", None, Err("']'")),
            ("[zz]:5", None, Err("no IPv6")),
            ("[::1]5", None, Err("only \":PORT\"")),
            ("a..b:5", None, Err("letters, digits")),
        ] {
            let found = Address::parse(text, usual);
            match expected {
                Ok(shown) => assert_eq!(found.map(|address| address.to_string()).as_deref(), Ok(shown), "{text}"),
                Err(part) => assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn brokers() {
        let full = RemoteBroker::parse("mqtt://anna:p%40ss:w@broker.example:1884/").unwrap();
        assert_eq!(full.address.to_string(), "broker.example:1884");
        assert_eq!(full.user.as_deref(), Some("anna"));
        assert_eq!(full.password.as_ref().map(Secret::reveal), Some("p@ss:w"));
        assert!(!format!("{full:?} {full}").contains("p@ss"), "a password in the log");
        assert_eq!(RemoteBroker::parse("mqtt://broker.example").unwrap().address.port, 1883);
        let sealed = RemoteBroker::parse("mqtts://broker.example").unwrap();
        assert_eq!((sealed.tls, sealed.to_string().as_str()), (true, "mqtts://broker.example:8883"));
        for (text, part) in [
            ("broker.example:1883", "mqtt://"),
            ("wss://broker.example", "HTTP"),
            ("ws://broker.example", "HTTP"),
            ("mqtt://", "host is missing"),
            ("mqtt://a:%4@host", "hexadecimal"),
            ("mqtt://a:%€@host", "hexadecimal"),
            ("mqtt://a:%ff@host", "UTF-8"),
            ("mqtt://a:%00@host", "NUL"),
            ("mqtt://host/path", "letters, digits"),
        ] {
            let error = RemoteBroker::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn relays() {
        let relay = TurnServer::parse("turn:user:pass:word@turn.example").unwrap();
        assert_eq!(relay.address.to_string(), "turn.example:3478");
        assert_eq!((relay.user.as_str(), relay.password.reveal()), ("user", "pass:word"));
        for (text, part) in [
            ("turn.example:3478", "turn:USER"),
            ("turns:a:b@c", "TLS"),
            ("turn:c:3478", "user and password"),
            ("turn:a@c", "password is missing"),
            ("turn::b@c", "empty"),
            ("turn:a:b@c?transport=tcp", "TCP"),
        ] {
            let error = TurnServer::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn stun_servers() {
        assert_eq!(Address::parse_stun("stun:s.example").unwrap().to_string(), "s.example:3478");
        assert!(Address::parse_stun("stuns:s.example").unwrap_err().contains("TLS"));
    }
}
