//! `-D COMMAND NAME VALUE`: properties of MQTT 5 as they are written on the command line.
use super::arguments::PROPERTY_SEPARATOR;
use host::mqtt::property::{
    ConnectProperties, DisconnectProperties, PublishProperties, SubscribeProperties, UserProperties, UserPropertyList,
};
use host::mqtt::{PayloadFormat, TopicBuf, topic::Topic};
use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroU32};

/// What `-D` gave for each packet that `pub` and `sub` send.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) connect: Bag,
    pub(crate) publish: Bag,
    pub(crate) subscribe: Bag,
    pub(crate) unsubscribe: Bag,
    pub(crate) disconnect: Bag,
    pub(crate) will: Bag,
}

/// Properties of one packet: which of them may be set is [`ALLOWED`]'s to say.
#[derive(Debug, Default)]
pub(crate) struct Bag {
    payload_format: Option<PayloadFormat>,
    message_expiry_secs: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<TopicBuf>,
    correlation_data: Option<Vec<u8>>,
    topic_alias: Option<NonZeroU16>,
    pub(crate) will_delay_secs: Option<u32>,
    pub(crate) session_expiry_secs: Option<u32>,
    pub(crate) receive_max: Option<NonZeroU16>,
    pub(crate) maximum_packet_size: Option<NonZeroU32>,
    pub(crate) topic_alias_max: Option<u16>,
    request_response_info: Option<bool>,
    request_problem_info: Option<bool>,
    user: UserPropertyList,
}

/// Which properties a packet can have, by the standard and as far as the client sends them.
const ALLOWED: [(&str, &[&str]); 6] = [
    (
        "connect",
        &[
            "maximum-packet-size",
            "receive-maximum",
            "request-problem-information",
            "request-response-information",
            "session-expiry-interval",
            "topic-alias-maximum",
            "user-property",
        ],
    ),
    (
        "publish",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "topic-alias",
            "user-property",
        ],
    ),
    ("subscribe", &["user-property"]),
    ("unsubscribe", &["user-property"]),
    ("disconnect", &["session-expiry-interval", "user-property"]),
    (
        "will",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "user-property",
            "will-delay-interval",
        ],
    ),
];

impl Properties {
    /// Reads the arguments that [`super::arguments::join_properties`] made.
    pub(crate) fn parse(joined: &[OsString]) -> Result<Self, String> {
        let mut properties = Self::default();
        for argument in joined {
            let text = argument.to_str().ok_or("-D: not UTF-8, which every text of MQTT is")?;
            let words: Vec<&str> = text.split(PROPERTY_SEPARATOR).collect();
            properties.set(&words).map_err(|why| format!("-D {}: {why}", words.join(" ")))?;
        }
        Ok(properties)
    }

    fn set(&mut self, words: &[&str]) -> Result<(), String> {
        let (command, name) = match words {
            [command, "user-property", _, _] => (command.to_ascii_lowercase(), "user-property"),
            [_, "user-property", ..] => return Err("write -D COMMAND user-property KEY VALUE".into()),
            [command, name, _] => (command.to_ascii_lowercase(), *name),
            _ => return Err("write -D COMMAND NAME VALUE".into()),
        };
        let Some((_, names)) = ALLOWED.iter().find(|(known, _)| *known == command) else {
            return Err("COMMAND is connect, publish, subscribe, unsubscribe, disconnect or will".into());
        };
        if name.starts_with("authentication-") {
            return Err("is said by --auth-method SCRAM-SHA-256".into());
        }
        if !names.contains(&name) {
            return Err(format!("{command} can have: {}", names.join(", ")));
        }
        let bag = match command.as_str() {
            "connect" => &mut self.connect,
            "publish" => &mut self.publish,
            "subscribe" => &mut self.subscribe,
            "unsubscribe" => &mut self.unsubscribe,
            "disconnect" => &mut self.disconnect,
            _ => &mut self.will,
        };
        bag.set(name, &words[2..])
    }
}

impl Bag {
    fn set(&mut self, name: &str, values: &[&str]) -> Result<(), String> {
        let value = values.first().copied().unwrap_or_default();
        match name {
            "content-type" => self.content_type = Some(value.to_owned()),
            "correlation-data" => self.correlation_data = Some(value.as_bytes().to_vec()),
            "message-expiry-interval" => self.message_expiry_secs = Some(number(value)?),
            "payload-format-indicator" => {
                let format = |utf8| if utf8 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes };
                self.payload_format = Some(format(flag(value)?));
            }
            "response-topic" => {
                self.response_topic = Some(Topic::parse(value).map_err(|error| error.to_string())?.to_buf());
            }
            "topic-alias" => self.topic_alias = Some(number(value)?),
            "will-delay-interval" => self.will_delay_secs = Some(number(value)?),
            "session-expiry-interval" => self.session_expiry_secs = Some(number(value)?),
            "receive-maximum" => self.receive_max = Some(number(value)?),
            "maximum-packet-size" => self.maximum_packet_size = Some(number(value)?),
            "topic-alias-maximum" => self.topic_alias_max = Some(number(value)?),
            "request-response-information" => self.request_response_info = Some(flag(value)?),
            "request-problem-information" => self.request_problem_info = Some(flag(value)?),
            _ => {
                let content = values.get(1).copied().unwrap_or_default();
                self.user.push(value, content).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// For PUBLISH, and for the message of the will.
    pub(crate) fn publish(&self) -> PublishProperties<'_> {
        PublishProperties {
            payload_format: self.payload_format,
            message_expiry_secs: self.message_expiry_secs,
            topic_alias: self.topic_alias,
            response_topic: self.response_topic.as_ref().map(TopicBuf::borrow),
            correlation_data: self.correlation_data.as_deref(),
            content_type: self.content_type.as_deref(),
            user: self.user.view(),
            ..PublishProperties::default()
        }
    }

    /// For CONNECT.
    pub(crate) fn connect(&self) -> ConnectProperties<'_> {
        ConnectProperties {
            session_expiry_secs: self.session_expiry_secs,
            receive_max: self.receive_max,
            maximum_packet_size: self.maximum_packet_size,
            topic_alias_max: self.topic_alias_max,
            request_response_info: self.request_response_info,
            request_problem_info: self.request_problem_info,
            user: self.user.view(),
            ..ConnectProperties::default()
        }
    }

    /// For SUBSCRIBE.
    pub(crate) fn subscribe(&self) -> SubscribeProperties<'_> {
        SubscribeProperties { user: self.user.view(), ..SubscribeProperties::default() }
    }

    /// User properties, to be kept.
    pub(crate) fn user_list(&self) -> &UserPropertyList {
        &self.user
    }

    /// For UNSUBSCRIBE.
    pub(crate) fn user(&self) -> UserProperties<'_> {
        self.user.view()
    }

    /// For DISCONNECT.
    pub(crate) fn disconnect(&self) -> DisconnectProperties<'_> {
        DisconnectProperties {
            session_expiry_secs: self.session_expiry_secs,
            user: self.user.view(),
            ..DisconnectProperties::default()
        }
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number in the range of this property"))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("'{text}' is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Properties, String> {
        Properties::parse(&[OsString::from(words.join(PROPERTY_SEPARATOR))])
    }

    #[test]
    fn each_property_lands_in_its_packet() {
        let parsed = parse(&["PUBLISH", "content-type", "text/plain"]).unwrap();
        assert_eq!(parsed.publish.publish().content_type, Some("text/plain"));
        let parsed = parse(&["will", "will-delay-interval", "4294967295"]).unwrap();
        assert_eq!(parsed.will.will_delay_secs, Some(u32::MAX));
        let parsed = parse(&["connect", "receive-maximum", "5"]).unwrap();
        assert_eq!(parsed.connect.connect().receive_max, NonZeroU16::new(5));
        let parsed = parse(&["subscribe", "user-property", "", "-t"]).unwrap();
        assert_eq!(parsed.subscribe.subscribe().user.iter().collect::<Vec<_>>(), [("", "-t")]);
    }

    #[test]
    fn a_wrong_property_says_what_would_be_right() {
        let rows: [(&[&str], &str); 11] = [
            (&["publish", "nosuch", "b"], "publish can have: content-type"),
            (&["nosuch", "content-type", "b"], "COMMAND is connect"),
            (&["publish", "topic-alias", "70000"], "not a number in the range"),
            (&["publish", "topic-alias", "0"], "not a number in the range"),
            (&["publish", "payload-format-indicator", "2"], "neither 0 nor 1"),
            (&["publish", "response-topic", "a/+"], "never in a topic name"),
            (&["publish", "content-type"], "write -D COMMAND NAME VALUE"),
            (&["publish", "user-property", "a"], "write -D COMMAND user-property KEY VALUE"),
            (&["publish"], "write -D COMMAND NAME VALUE"),
            (&["connect", "authentication-method", "x"], "--auth-method"),
            (&["subscribe", "subscription-identifier", "1"], "subscribe can have: user-property"),
        ];
        for (words, expected) in rows {
            let error = parse(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
