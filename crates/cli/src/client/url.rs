//! `-L mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC`.

/// The parts of a broker's URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// It begins with mqtts://.
    pub(crate) is_secure: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) topic: String,
}

impl BrokerUrl {
    /// Takes the URL apart; `%25`, `%3A`, `%40` and the like are decoded in user name and password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (is_secure, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err("the URL begins with mqtt:// or mqtts://".into()),
        };
        let (authority, topic) = rest
            .split_once('/')
            .filter(|(_, topic)| !topic.is_empty())
            .ok_or("the topic is missing: write mqtt://HOST/TOPIC")?;
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address)?;
        let (username, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (None, None),
            Some((name, "")) => (Some(decode(name)?), None),
            Some((name, password)) => (Some(decode(name)?), Some(decode(password)?)),
        };
        Ok(Self { host: host.to_owned(), port, is_secure, username, password, topic: topic.to_owned() })
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn host_and_port(address: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a ']' is missing after the IPv6 address")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("only a port can follow the IPv6 address".into()),
            }
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing: write mqtt://HOST/TOPIC".into());
    }
    match port {
        None => Ok((host, None)),
        Some(port) => port.parse().map(|port| (host, Some(port))).map_err(|_| format!("'{port}' is not a port")),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.ok_or("two hexadecimal digits follow a '%'; write %25 for the character itself")?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "user name and password are UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: Option<u16>, credentials: (Option<&str>, Option<&str>), topic: &str) -> BrokerUrl {
        let (username, password) = (credentials.0.map(String::from), credentials.1.map(String::from));
        BrokerUrl { host: host.into(), port, is_secure: false, username, password, topic: topic.into() }
    }

    #[test]
    fn each_part_may_be_left_out_but_host_and_topic() {
        let rows = [
            ("mqtt://h/t", url("h", None, (None, None), "t")),
            ("mqtt://h:99/a/b", url("h", Some(99), (None, None), "a/b")),
            ("mqtt://u@h/t", url("h", None, (Some("u"), None), "t")),
            ("mqtt://u:p%40%3a%25@h:1/t", url("h", Some(1), (Some("u"), Some("p@:%")), "t")),
            ("mqtt://[::1]:8/t", url("::1", Some(8), (None, None), "t")),
            ("mqtt://[::1]/t", url("::1", None, (None, None), "t")),
        ];
        for (text, expected) in rows {
            assert_eq!(BrokerUrl::parse(text), Ok(expected), "{text}");
        }
        let secure = BrokerUrl::parse("mqtts://h/t").unwrap();
        assert!(secure.is_secure && secure.port.is_none());
    }

    #[test]
    fn a_wrong_url_says_what_to_write() {
        let rows = [
            ("http://h/t", "mqtt://"),
            ("h/t", "mqtt://"),
            ("mqtt://h", "topic is missing"),
            ("mqtt://h/", "topic is missing"),
            ("mqtt:///t", "host is missing"),
            ("mqtt://h:x/t", "not a port"),
            ("mqtt://h:99999/t", "not a port"),
            ("mqtt://[::1/t", "']' is missing"),
            ("mqtt://[::1]x/t", "only a port"),
            ("mqtt://%zz@h/t", "hexadecimal"),
            ("mqtt://%é@h/t", "hexadecimal"),
            ("mqtt://u%ff@h/t", "UTF-8"),
        ];
        for (url, expected) in rows {
            let error = BrokerUrl::parse(url).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
