//! How `sub` prints a message: mosquitto_sub's format language, parsed once, applied to each message.
//!
//! Where it differs from mosquitto_sub 2.0.11 on purpose: a width is the least that `%p` and `%x` take (there it cuts
//! the payload), the time in JSON has no second zone mark, and JSON is always valid: what is not UTF-8 becomes U+FFFD.
use super::json;
use host::mqtt::packet::Publish;
use host::mqtt::{PayloadFormat, Topic};
use jiff::Zoned;
use std::fmt;
use std::io::Write as _;

/// A parsed format: what to print for each message.
#[derive(Debug)]
pub(crate) struct Format(Vec<Part>);

/// One message as it is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printed<'a> {
    /// Resolved, where the packet had only an alias.
    pub(crate) topic: Topic<'a>,
    pub(crate) publish: &'a Publish<'a>,
    /// When it arrived, in the zone of this machine.
    pub(crate) at: &'a Zoned,
    /// Several lines for each JSON object.
    pub(crate) pretty: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field, Width),
    /// One conversion of strftime(3), with its percent sign.
    Time(String),
    Nanoseconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    TopicAlias,
    ContentType,
    CorrelationData,
    MessageExpiry,
    PayloadFormat,
    IsoTime,
    Json,
    JsonPayload,
    Length,
    MessageId,
    UserProperties,
    Payload,
    QoS,
    ResponseTopic,
    Retain,
    SubscriptionId,
    Topic,
    UnixTime,
    HexLower,
    HexUpper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Width {
    left: bool,
    zeros: bool,
    min: usize,
    max: Option<usize>,
}

/// More than any screen is wide: keeps a mistyped width from eating the memory.
const WIDTH_MAX: usize = 65_535;

/// Why a format can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FormatError {
    /// Ends after `%`, `@` or `\`.
    Incomplete(char),
    /// The letter after `%`, `@` or `\` means nothing.
    Unknown(char, char),
    /// More columns than can be meant.
    TooWide,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(start) => write!(f, "incomplete format: nothing follows the last '{start}'"),
            Self::Unknown(start, letter) => write!(f, "unknown in a format: '{start}{letter}'; see midge sub --help"),
            Self::TooWide => write!(f, "a field of a format is at most {WIDTH_MAX} wide"),
        }
    }
}

/// `%J` met a payload that is not JSON.
#[derive(Debug)]
pub(crate) struct NotJson;

impl Format {
    /// Checks a format as the person wrote it.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let part = match c {
                '%' => match field(&mut chars)? {
                    Some((field, width)) => Part::Field(field, width),
                    None => {
                        literal.push(b'%');
                        continue;
                    }
                },
                '@' => match chars.next().ok_or(FormatError::Incomplete('@'))? {
                    '@' => {
                        literal.push(b'@');
                        continue;
                    }
                    'N' => Part::Nanoseconds,
                    letter => time(letter)?,
                },
                '\\' => {
                    literal.push(escape(chars.next().ok_or(FormatError::Incomplete('\\'))?)?);
                    continue;
                }
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            flush(&mut literal, &mut parts);
            parts.push(part);
        }
        flush(&mut literal, &mut parts);
        Ok(Self(parts))
    }

    /// The payload alone: what is printed without any flag.
    pub(crate) fn payload() -> Self {
        Self(vec![Part::Field(Field::Payload, Width::default())])
    }

    /// `-v`: topic, space, payload.
    pub(crate) fn topic_and_payload() -> Self {
        let plain = |field| Part::Field(field, Width::default());
        Self(vec![plain(Field::Topic), Part::Text(b" ".to_vec()), plain(Field::Payload)])
    }

    /// `--json`: one object for each message.
    pub(crate) fn json() -> Self {
        Self(vec![Part::Field(Field::Json, Width::default())])
    }

    /// Appends the message to `out`, without an end of line.
    pub(crate) fn print(&self, message: &Printed<'_>, out: &mut Vec<u8>) -> Result<(), NotJson> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Field(field, width) => print_field(*field, *width, message, out)?,
                Part::Time(conversion) => print_time(conversion, message.at, out),
                Part::Nanoseconds => print(out, format_args!("{:09}", message.at.subsec_nanosecond())),
            }
        }
        Ok(())
    }
}

fn flush(literal: &mut Vec<u8>, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal)));
    }
}

/// What follows a `%`: flags, width, `.` and precision, letter. `None` is a literal `%`.
fn field(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<(Field, Width)>, FormatError> {
    let mut width = Width::default();
    while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0')) {
        width.left |= flag == '-';
        width.zeros |= flag == '0';
    }
    width.min = number(chars)?.unwrap_or(0);
    if chars.next_if_eq(&'.').is_some() {
        width.max = Some(number(chars)?.unwrap_or(0));
    }
    let field = match chars.next().ok_or(FormatError::Incomplete('%'))? {
        '%' => return Ok(None),
        'A' => Field::TopicAlias,
        'C' => Field::ContentType,
        'D' => Field::CorrelationData,
        'E' => Field::MessageExpiry,
        'F' => Field::PayloadFormat,
        'I' => Field::IsoTime,
        'j' => Field::Json,
        'J' => Field::JsonPayload,
        'l' => Field::Length,
        'm' => Field::MessageId,
        'P' => Field::UserProperties,
        'p' => Field::Payload,
        'q' => Field::QoS,
        'R' => Field::ResponseTopic,
        'r' => Field::Retain,
        'S' => Field::SubscriptionId,
        't' => Field::Topic,
        'U' => Field::UnixTime,
        'x' => Field::HexLower,
        'X' => Field::HexUpper,
        other => return Err(FormatError::Unknown('%', other)),
    };
    Ok(Some((field, width)))
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, FormatError> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let so_far = number.unwrap_or(0) * 10 + digit as usize;
        if so_far > WIDTH_MAX {
            return Err(FormatError::TooWide);
        }
        number = Some(so_far);
    }
    Ok(number)
}

/// Tried once here, so that printing can't fail later.
fn time(letter: char) -> Result<Part, FormatError> {
    let conversion = format!("%{letter}");
    match jiff::fmt::strtime::format(&conversion, &Zoned::default()) {
        Ok(_) => Ok(Part::Time(conversion)),
        Err(_) => Err(FormatError::Unknown('@', letter)),
    }
}

fn escape(letter: char) -> Result<u8, FormatError> {
    Ok(match letter {
        '\\' => b'\\',
        '0' => 0,
        'a' => 0x07,
        'e' => 0x1B,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0B,
        other => return Err(FormatError::Unknown('\\', other)),
    })
}

fn print_field(field: Field, width: Width, message: &Printed<'_>, out: &mut Vec<u8>) -> Result<(), NotJson> {
    let Printed { topic, publish, at, .. } = message;
    let properties = &publish.properties;
    match field {
        Field::TopicAlias => print_number(out, properties.topic_alias.map(|alias| u32::from(alias.get())), width),
        Field::ContentType => print_text(out, properties.content_type.unwrap_or_default(), width),
        Field::CorrelationData => out.extend_from_slice(properties.correlation_data.unwrap_or_default()),
        Field::MessageExpiry => print_number(out, properties.message_expiry_secs, width),
        Field::PayloadFormat => {
            let number = |format| u32::from(format == PayloadFormat::Utf8);
            print_number(out, properties.payload_format.map(number), width);
        }
        Field::IsoTime => print_text(out, &at.strftime("%Y-%m-%dT%H:%M:%S%z").to_string(), width),
        Field::Json => json::print(message, json::Payload::Text, out)?,
        Field::JsonPayload => json::print(message, json::Payload::Json, out)?,
        Field::Length => print_number(out, u32::try_from(publish.payload.len()).ok(), width),
        Field::MessageId => print_number(out, Some(publish.packet_id.map_or(0, |id| u32::from(id.get()))), width),
        Field::UserProperties => {
            for (n, (name, value)) in properties.user.iter().enumerate() {
                print(out, format_args!("{}{name}:{value}", if n > 0 { " " } else { "" }));
            }
        }
        Field::Payload => pad(out, publish.payload, Width { zeros: false, ..width }),
        Field::QoS => print(out, format_args!("{}", publish.qos as u8)),
        Field::ResponseTopic => print_text(out, properties.response_topic.map_or("", |topic| topic.as_str()), width),
        Field::Retain => print(out, format_args!("{}", u8::from(publish.retain))),
        Field::SubscriptionId => {
            print_number(out, properties.subscription_ids.iter().next().map(std::num::NonZeroU32::get), width);
        }
        Field::Topic => print_text(out, topic.as_str(), width),
        Field::UnixTime => print(out, format_args!("{}.{:09}", at.timestamp().as_second(), at.subsec_nanosecond())),
        Field::HexLower => print_hex(out, publish.payload, b"0123456789abcdef", width),
        Field::HexUpper => print_hex(out, publish.payload, b"0123456789ABCDEF", width),
    }
    Ok(())
}

/// Into memory, which does not fail.
fn print(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn print_time(conversion: &str, at: &Zoned, out: &mut Vec<u8>) {
    // The conversion was tried when the format was parsed.
    if let Ok(text) = jiff::fmt::strtime::format(conversion, at) {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Zeros are for numbers: blanks pad a text, as printf does. Widths count bytes, as there.
fn print_text(out: &mut Vec<u8>, text: &str, width: Width) {
    let bytes = text.as_bytes();
    let shown = &bytes[..width.max.unwrap_or(bytes.len()).min(bytes.len())];
    pad(out, shown, Width { zeros: false, ..width });
}

/// A property that is absent still fills its column.
fn print_number(out: &mut Vec<u8>, number: Option<u32>, width: Width) {
    pad(out, number.map_or_else(String::new, |number| number.to_string()).as_bytes(), width);
}

fn print_hex(out: &mut Vec<u8>, payload: &[u8], digits: &[u8; 16], width: Width) {
    let both = |byte: &u8| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
    let mut text: Vec<u8> = payload.iter().flat_map(both).collect();
    text.truncate(width.max.unwrap_or(text.len()));
    pad(out, &text, width);
}

fn pad(out: &mut Vec<u8>, shown: &[u8], width: Width) {
    let missing = width.min.saturating_sub(shown.len());
    let fill = if width.zeros && !width.left { b'0' } else { b' ' };
    if width.left {
        out.extend_from_slice(shown);
    }
    out.resize(out.len() + missing, fill);
    if !width.left {
        out.extend_from_slice(shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::mqtt::property::{PublishProperties, SubscriptionIdList, UserPropertyList};
    use host::mqtt::{PacketId, QoS};
    use std::num::NonZeroU32;

    fn printed(format: &str, payload: &[u8]) -> String {
        let mut user = UserPropertyList::new();
        user.push("a", "b").unwrap();
        user.push("c", "d").unwrap();
        let mut ids = SubscriptionIdList::new();
        ids.push(NonZeroU32::new(7).unwrap());
        let topic = Topic::parse("f/topic").unwrap();
        let publish = Publish {
            dup: false,
            retain: true,
            qos: QoS::AtLeastOnce,
            topic: Some(topic),
            packet_id: PacketId::new(42),
            properties: PublishProperties {
                payload_format: Some(PayloadFormat::Utf8),
                message_expiry_secs: Some(100),
                response_topic: Topic::parse("r/t").ok(),
                correlation_data: Some(b"co\"r"),
                content_type: Some("text/plain"),
                subscription_ids: ids.view(),
                user: user.view(),
                topic_alias: None,
            },
            payload,
        };
        let at = "2026-11-21T04:10:46.445872589+01:00[+01:00]".parse().unwrap();
        let mut out = Vec::new();
        match Format::parse(format)
            .unwrap()
            .print(&Printed { topic, publish: &publish, at: &at, pretty: false }, &mut out)
        {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(NotJson) => "not JSON".into(),
        }
    }

    /// The right-hand sides are what mosquitto_sub 2.0.11 prints.
    #[test]
    fn each_letter_prints_what_mosquitto_sub_prints() {
        let rows = [
            ("%t|%p|%x|%X|%q|%r|%l|%m", "f/topic|hi\n|68690a|68690A|1|1|3|42"),
            (
                "[%10t][%-10t][%010t][%3.3t][%-20.4t][%.2t]",
                "[   f/topic][f/topic   ][   f/topic][f/t][f/to                ][f/]",
            ),
            ("[%5l][%-5l][%05l][%-05l][%5q][%5r]", "[    3][3    ][00003][3    ][1][1]"),
            ("[%5p][%-5p][%2p][%.2p]", "[  hi\n][hi\n  ][hi\n][hi\n]"),
            ("[%A][%C][%D][%E][%F][%P][%R][%S]", "[][text/plain][co\"r][100][1][a:b c:d][r/t][7]"),
            ("[%12C][%-12C|%.3C]", "[  text/plain][text/plain  |tex]"),
            ("[%5m][%05m][%-5E][%05E][%5A][%05A]", "[   42][00042][100  ][00100][     ][00000]"),
            ("%I %U", "2026-11-21T04:10:46+0100 1795230646.445872589"),
            ("@Y-@m-@d @H @N @@ @s @z", "2026-11-21 04 445872589 @ 1795230646 +0100"),
            ("%%%5%\\\\|\\a\\e\\n\\r\\t\\v\\0|", "%%\\|\x07\x1b\n\r\t\x0b\0|"),
            ("", ""),
        ];
        for (format, expected) in rows {
            assert_eq!(printed(format, b"hi\n"), expected, "{format}");
        }
    }

    /// 2.0.11 cuts the payload here.
    #[test]
    fn a_padded_payload_in_hexadecimal_is_whole() {
        assert_eq!(printed("[%8x][%-8X][%08x][%2.2x]", b"hi\n"), "[  68690a][68690A  ][0068690a][68]");
    }

    #[test]
    fn json_has_mosquitto_subs_names() {
        let expected = concat!(
            r#"{"tst":"2026-11-21T04:10:46.445872+0100","topic":"f/topic","qos":1,"retain":1,"payloadlen":5,"mid":42,"#,
            r#""properties":{"content-type":"text/plain","response-topic":"r/t","correlation-data":"co\"r","#,
            r#""user-properties":{"a":"b","c":"d"},"payload-format-indicator":1,"message-expiry-interval":100,"#,
            r#""subscription-identifier":7},"payload":"#
        );
        assert_eq!(printed("%j", b"\"a\"\n\x01"), format!("{expected}\"\\\"a\\\"\\n\\u0001\"}}"));
        assert_eq!(printed("%J", b"[2.50]").replace("payloadlen\":6", "payloadlen\":5"), format!("{expected}[2.50]}}"));
        assert_eq!(printed("%J", b"bad"), "not JSON");
        assert!(printed("%j", b"\xff").ends_with("\"payload\":\"\u{fffd}\"}"));
    }

    #[test]
    fn a_wrong_format_names_its_fault() {
        let rows = [
            ("%q %Q", FormatError::Unknown('%', 'Q')),
            ("@", FormatError::Incomplete('@')),
            ("\\", FormatError::Incomplete('\\')),
            ("%", FormatError::Incomplete('%')),
            ("tail%5", FormatError::Incomplete('%')),
            ("%5.5", FormatError::Incomplete('%')),
            ("%-0", FormatError::Incomplete('%')),
            ("\\q", FormatError::Unknown('\\', 'q')),
            ("@!", FormatError::Unknown('@', '!')),
            ("@ü", FormatError::Unknown('@', 'ü')),
            ("%99999999999999999999t", FormatError::TooWide),
        ];
        for (format, expected) in rows {
            assert_eq!(Format::parse(format).unwrap_err(), expected, "{format}");
        }
    }
}
