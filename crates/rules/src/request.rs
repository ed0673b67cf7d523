//! URLs and headers of scripts, as far as they must be understood here: nothing that could smuggle a second request.
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Where a request goes.
pub(crate) struct Target {
    pub(crate) url: String,
    /// Without the port.
    pub(crate) host: String,
    /// With its slash, and the query.
    pub(crate) path: String,
}

/// `http://` or `https://`, a host, perhaps a port and a path.
pub(crate) fn parse_url(url: &[u8]) -> Option<Target> {
    let url = core::str::from_utf8(url).ok()?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    if host.is_empty() || authority.contains('@') {
        return None;
    }
    let path = if path.starts_with('/') { path.into() } else { alloc::format!("/{path}") };
    Some(Target { url: url.into(), host: host.into(), path })
}

/// Names and values in turn; `None` if one of them cannot stand in a request.
pub(crate) fn headers(parts: &[Bytes]) -> Option<Vec<(String, String)>> {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    parts
        .chunks_exact(2)
        .map(|pair| {
            let (name, value) = (core::str::from_utf8(&pair[0]).ok()?, core::str::from_utf8(&pair[1]).ok()?);
            let good_name = !name.is_empty() && name.as_bytes().iter().all(token);
            let good_value = !value.chars().any(|character| character.is_control() && character != '\t');
            (good_name && good_value).then(|| (name.into(), value.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, expected) in [
            ("http://host/path", Some(("host", "/path"))),
            ("https://host:8443", Some(("host", "/"))),
            ("http://[::1]:80/x?y", Some(("::1", "/x?y"))),
            ("http://host?q", Some(("host", "/?q"))),
            ("ftp://host/", None),
            ("http:///x", None),
            ("http://a b/", None),
            ("http://user:pw@host/", None),
            ("http://h/\r\nX: y", None),
        ] {
            let target = parse_url(url.as_bytes());
            let parts = target.as_ref().map(|target| (target.host.as_str(), target.path.as_str()));
            assert_eq!(parts, expected, "{url}");
        }
    }

    #[test]
    fn headers_cannot_add_lines() {
        let check = |name: &'static str, value: &'static str| {
            headers(&[Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())]).is_some()
        };
        assert!(check("X-Key", "a b\tc"));
        assert!(!check("X Key", "a"));
        assert!(!check("", "a"));
        assert!(!check("X", "a\r\nY: b"));
    }
}
