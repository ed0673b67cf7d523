//! One message as one JSON object, with the names of mosquitto_sub's `%j` and `%J`.
use super::format::{NotJson, Printed};
use host::mqtt::PayloadFormat;
use host::mqtt::property::{PublishProperties, SubscriptionIds, UserProperties};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How the payload stands in the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// As a string.
    Text,
    /// As it is: it has to be JSON.
    Json,
}

/// Appends the object to `out`.
pub(crate) fn print(message: &Printed<'_>, payload: Payload, out: &mut Vec<u8>) -> Result<(), NotJson> {
    let publish = message.publish;
    let payload = match payload {
        Payload::Text => Shown::Text(String::from_utf8_lossy(publish.payload)),
        Payload::Json => Shown::Json(serde_json::from_slice(publish.payload).map_err(|_| NotJson)?),
    };
    let object = Object {
        tst: message.at.strftime("%Y-%m-%dT%H:%M:%S.%6f%z").to_string(),
        topic: message.topic.as_str(),
        qos: publish.qos as u8,
        retain: u8::from(publish.retain),
        payloadlen: publish.payload.len(),
        mid: publish.packet_id.map(|id| id.get()),
        properties: Properties::of(&publish.properties),
        payload,
    };
    let written = match message.pretty {
        true => serde_json::to_writer_pretty(out, &object),
        false => serde_json::to_writer(out, &object),
    };
    written.map_err(|_| NotJson)
}

#[derive(Serialize)]
struct Object<'a> {
    tst: String,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
    payload: Shown<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Text(Cow<'a, str>),
    Json(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Properties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_properties: Option<Pairs<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_alias: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_identifier: Option<Ids<'a>>,
}

impl<'a> Properties<'a> {
    /// `None` for a message without any.
    fn of(from: &PublishProperties<'a>) -> Option<Self> {
        if *from == PublishProperties::default() {
            return None;
        }
        Some(Self {
            content_type: from.content_type,
            response_topic: from.response_topic.map(|topic| topic.as_str()),
            correlation_data: from.correlation_data.map(String::from_utf8_lossy),
            user_properties: (!from.user.is_empty()).then_some(Pairs(from.user)),
            payload_format_indicator: from.payload_format.map(|format| u8::from(format == PayloadFormat::Utf8)),
            message_expiry_interval: from.message_expiry_secs,
            topic_alias: from.topic_alias.map(|alias| alias.get()),
            subscription_identifier: (!from.subscription_ids.is_empty()).then_some(Ids(from.subscription_ids)),
        })
    }
}

/// An object in the order of the packet; a name that came twice stands there twice, as in mosquitto_sub.
struct Pairs<'a>(UserProperties<'a>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct Ids<'a>(SubscriptionIds<'a>);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ids = self.0.iter();
        match (ids.next(), ids.next()) {
            (Some(only), None) => serializer.serialize_u32(only.get()),
            _ => {
                let mut seq = serializer.serialize_seq(None)?;
                for id in self.0 {
                    seq.serialize_element(&id.get())?;
                }
                seq.end()
            }
        }
    }
}
