//! Topic names and topic filters, valid by construction.
use crate::codec::DecodeError;
use alloc::boxed::Box;
use core::fmt;

/// Longest topic or filter in bytes [MQTT-4.7.3-3].
pub const LEN_MAX: usize = 65_535;

/// Why a text is not a topic name or not a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicError {
    /// At least one character is needed [MQTT-4.7.3-1].
    Empty,
    /// More than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// U+0000 [MQTT-4.7.3-2].
    Nul,
    /// `+` or `#` in a topic name [MQTT-3.3.2-2], or not alone in its level in a filter [MQTT-4.7.1-2].
    Wildcard,
    /// `#` not in last place [MQTT-4.7.1-1].
    NotLast,
    /// `$share` or `$queue` without a proper name and filter [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    Share,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty: a topic has at least one character",
            Self::TooLong => "longer than 65535 bytes",
            Self::Nul => "contains a NUL character",
            Self::Wildcard => "'+' and '#' stand alone in a level of a filter and never in a topic name",
            Self::NotLast => "'#' is only allowed as the last level",
            Self::Share => "a shared subscription is written $share/NAME/FILTER or $queue/FILTER",
        })
    }
}

impl core::error::Error for TopicError {}

/// A topic name: what a message is published to. Borrowed; [`TopicBuf`] owns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// Checks the rules of topic names.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check_common(text)?;
        if memchr::memchr2(b'+', b'#', text.as_bytes()).is_some() {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text))
    }

    /// From the bytes of a packet: one look for all that topic names must not contain.
    #[inline]
    pub(crate) fn from_wire(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = core::str::from_utf8(bytes).map_err(|_| DecodeError::Text)?;
        if bytes.is_empty() || holds_odd(bytes) {
            return Err(match Self::parse(text) {
                Err(TopicError::Nul) => DecodeError::Text,
                Err(error) => DecodeError::TopicName(error),
                Ok(_) => DecodeError::Text,
            });
        }
        Ok(Self(text))
    }

    /// For text that was a topic name before.
    pub(crate) fn checked(text: &'a str) -> Self {
        debug_assert!(Self::parse(text).is_ok(), "kept where only topic names are kept");
        Self(text)
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Levels between the slashes; empty ones count.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Whether filters that begin with a wildcard must not match it [MQTT-4.7.2-1].
    pub fn is_dollar(self) -> bool {
        self.0.starts_with('$')
    }

    /// An owned copy.
    pub fn to_buf(self) -> TopicBuf {
        TopicBuf(self.0.into())
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An owned [`Topic`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicBuf(Box<str>);

impl TopicBuf {
    /// The borrowed form.
    pub fn borrow(&self) -> Topic<'_> {
        Topic(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::borrow::Borrow<str> for TopicBuf {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A topic filter: what a subscription asks for. Borrowed; [`FilterBuf`] owns.
/// A shared subscription is one filter with [`Filter::share`] set: `$share/NAME/FILTER`, or `$queue/FILTER`, which
/// other brokers have as well and which means `$share/$queue/FILTER`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Filter<'a>(&'a str);

impl<'a> Filter<'a> {
    /// Checks the rules of filters, those of `$share/NAME/FILTER` included.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check_common(text)?;
        if text == "$share" || text == "$queue" {
            return Err(TopicError::Share);
        }
        if is_shared(text) {
            let (name, filter) = split_share(text).ok_or(TopicError::Share)?;
            // Within another one it would be read as what it is not, by whoever reads the pattern again.
            if name.is_empty() || name.contains(['+', '#']) || filter.is_empty() || is_shared(filter) {
                return Err(TopicError::Share);
            }
            check_wildcards(filter)?;
        } else {
            check_wildcards(text)?;
        }
        Ok(Self(text))
    }

    /// The text as it was written, `$share/NAME/` included.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The share name of a shared subscription.
    pub fn share(self) -> Option<&'a str> {
        split_share(self.0).map(|(name, _)| name)
    }

    /// The filter that topics are matched against: without `$share/NAME/`.
    pub fn pattern(self) -> &'a str {
        split_share(self.0).map_or(self.0, |(_, filter)| filter)
    }

    /// Levels of the pattern.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.pattern().split('/')
    }

    /// Whether `+` or `#` occurs.
    pub fn has_wildcard(self) -> bool {
        memchr::memchr2(b'+', b'#', self.pattern().as_bytes()).is_some()
    }

    /// Whether a message on `topic` is wanted [MQTT-4.7]: bytes are compared as they are [MQTT-4.7.3-4].
    pub fn matches(self, topic: Topic<'_>) -> bool {
        if topic.is_dollar() && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.levels();
        for want in self.levels() {
            match (want, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (want, Some(have)) if want == have => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that `other` matches is matched by this one too.
    pub fn covers(self, other: Filter<'_>) -> bool {
        if other.pattern().starts_with('$') && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut theirs = other.levels();
        for ours in self.levels() {
            match (ours, theirs.next()) {
                ("#", _) => return true,
                (_, Some("#")) | (_, None) => return false,
                ("+", Some(_)) => {}
                (ours, Some(level)) if ours == level => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// An owned copy.
    pub fn to_buf(self) -> FilterBuf {
        FilterBuf(self.0.into())
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An owned [`Filter`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilterBuf(Box<str>);

impl FilterBuf {
    /// The borrowed form.
    pub fn borrow(&self) -> Filter<'_> {
        Filter(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text asks for a shared subscription, well or badly.
pub(crate) fn is_shared(text: &str) -> bool {
    text.starts_with("$share/") || text.starts_with(QUEUE)
}

/// The prefix of the shared subscription whose name is [`QUEUE_NAME`].
const QUEUE: &str = "$queue/";
const QUEUE_NAME: &str = "$queue";

/// Share name and filter.
fn split_share(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix(QUEUE) {
        Some(filter) => Some((QUEUE_NAME, filter)),
        None => text.strip_prefix("$share/")?.split_once('/'),
    }
}

/// Whether U+0000, `+` or `#` occurs: eight bytes at a time, for topics are short and looked at for every message.
#[inline]
fn holds_odd(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The high bit of a byte of this is set if the byte is zero; above the first zero it may be set for others too.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    // `+` and `#` differ in one bit only.
    let odd = |word: u64| zeros(word) | zeros((word | ONES << 3) ^ (ONES * 0x2B));
    let (words, rest) = bytes.as_chunks();
    match (words, bytes.last_chunk()) {
        (words, Some(last)) => {
            let mut found = odd(u64::from_le_bytes(*last));
            for word in words {
                found |= odd(u64::from_le_bytes(*word));
            }
            found != 0
        }
        (_, None) => rest.iter().any(|&byte| matches!(byte, 0 | b'+' | b'#')),
    }
}

fn check_common(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > LEN_MAX {
        return Err(TopicError::TooLong);
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(TopicError::Nul);
    }
    Ok(())
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut after_hash = false;
    for level in filter.split('/') {
        if after_hash {
            return Err(TopicError::NotLast);
        }
        match level {
            "#" => after_hash = true,
            "+" => {}
            other if other.contains(['+', '#']) => return Err(TopicError::Wildcard),
            _ => {}
        }
    }
    Ok(())
}
