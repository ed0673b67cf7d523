//! Packets as words and back.
use crate::broker::Role;
use crate::play::ROLES;
use mqtt::codec;
use mqtt::packet::*;
use mqtt::property::*;
use mqtt::{Filter, Message, MessageOptions, PacketId, QoS, ReasonCode, Topic, Version, Wall};
use std::fmt::Write;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// The value of `name=…` among the words.
fn value<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &str, name: &str) -> Option<u32> {
    value(words, name).map(|number| number.parse().unwrap())
}

fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

pub(crate) fn version(words: &str) -> Version {
    if has(words, "v5") {
        Version::V5
    } else if has(words, "v31") {
        Version::V3_1
    } else {
        Version::V3_1_1
    }
}

pub(crate) fn role(word: &str) -> Role {
    ROLES.into_iter().find(|role| format!("{role:?}").eq_ignore_ascii_case(word)).unwrap()
}

fn qos(words: &str) -> QoS {
    match words.split(' ').find(|word| matches!(*word, "q0" | "q1" | "q2")) {
        Some("q1") => QoS::AtLeastOnce,
        Some("q2") => QoS::ExactlyOnce,
        _ => QoS::AtMostOnce,
    }
}

fn id(words: &str) -> PacketId {
    let number = words.split(' ').find_map(|word| word.strip_prefix('#')?.parse().ok());
    PacketId::new(number.unwrap_or(1)).unwrap_or(PacketId(NonZeroU16::MAX))
}

fn reason(words: &str) -> ReasonCode {
    let code = words.split(' ').find_map(|word| word.strip_prefix("0x"));
    code.map_or(ReasonCode::Success, |code| ReasonCode::from_u8(u8::from_str_radix(code, 16).unwrap()).unwrap())
}

/// A payload between quotes; `'x'*5000` is many of it.
fn quoted(words: &str) -> Vec<u8> {
    let Some((_, rest)) = words.split_once('\'') else { return Vec::new() };
    let (text, rest) = rest.split_once('\'').unwrap();
    let times = rest.strip_prefix('*').map(|rest| rest.split(' ').next().unwrap().parse().unwrap());
    text.as_bytes().repeat(times.unwrap_or(1))
}

pub(crate) fn subscription(words: &str) -> (Filter<'_>, SubscribeOptions) {
    let (filter, options) = words.split_once(' ').unwrap_or((words, ""));
    let options = SubscribeOptions {
        qos: qos(options),
        no_local: has(options, "nl"),
        retain_as_published: has(options, "rap"),
        retain_handling: if has(options, "rh1") {
            RetainHandling::IfNew
        } else if has(options, "rh2") {
            RetainHandling::Never
        } else {
            RetainHandling::Always
        },
    };
    (Filter::parse(filter).unwrap(), options)
}

pub(crate) fn message(words: &str, now: Wall) -> Message {
    let topic = Topic::parse(words.split(' ').next().unwrap()).unwrap();
    let expires = number(words, "expiry").map(|secs| now + Duration::from_secs(u64::from(secs)));
    let options = MessageOptions { qos: qos(words), retain: has(words, "r"), properties: &[], expires };
    Message::new(topic, &quoted(words), options).unwrap()
}

/// What a client says.
pub(crate) fn encode(who: &str, words: &str, version: Version, out: &mut Vec<u8>) {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let ack = Ack { packet_id: id(rest), reason: reason(rest), properties: AckProperties::default() };
    let (mut subscriptions, mut filters) = (SubscriptionList::new(), FilterList::new());
    let payload = quoted(rest);
    let will = value(rest, "will");
    let user = user_properties(rest);
    let packet = match verb {
        "CONNECT" => Packet::Connect(connect(who, rest, version, will, user.view())),
        "SUB" => {
            for one in rest.split(" , ") {
                let (filter, options) = subscription(one);
                subscriptions.push(filter, options);
            }
            let properties = SubscribeProperties {
                subscription_id: number(rest, "id").and_then(NonZeroU32::new),
                ..SubscribeProperties::default()
            };
            Packet::Subscribe(Subscribe { packet_id: id(rest), properties, filters: subscriptions.view() })
        }
        "UNSUB" => {
            let texts = rest.split(" , ").map(|one| one.split(' ').next().unwrap());
            texts.for_each(|text| filters.push(Filter::parse(text).unwrap()));
            Packet::Unsubscribe(Unsubscribe {
                packet_id: id(rest),
                user: UserProperties::default(),
                filters: filters.view(),
            })
        }
        "PUB" => Packet::Publish(Publish { properties: properties(rest, user.view()), ..publish(rest, &payload) }),
        "PUBACK" => Packet::PubAck(ack),
        "PUBREC" => Packet::PubRec(ack),
        "PUBREL" => Packet::PubRel(ack),
        "PUBCOMP" => Packet::PubComp(ack),
        "PING" => Packet::PingReq,
        "AUTH" => Packet::Auth(Auth {
            reason: if has(rest, "again") { ReasonCode::ReAuthenticate } else { ReasonCode::ContinueAuthentication },
            properties: AuthProperties {
                auth_method: Some(value(rest, "method").unwrap_or("X")),
                auth_data: value(rest, "data").map(str::as_bytes),
                ..AuthProperties::default()
            },
        }),
        "DISCONNECT" => Packet::Disconnect(Disconnect {
            reason: reason(rest),
            properties: DisconnectProperties {
                session_expiry_secs: number(rest, "expiry"),
                ..DisconnectProperties::default()
            },
        }),
        other => panic!("what is '{other}'?"),
    };
    codec::encode(&packet, version, out).unwrap();
}

/// `props=k:v,k:w`
fn user_properties(words: &str) -> UserPropertyList {
    let mut list = UserPropertyList::new();
    for (name, text) in
        value(words, "props").iter().flat_map(|all| all.split(',')).map(|one| one.split_once(':').unwrap())
    {
        list.push(name, text).unwrap();
    }
    list
}

fn connect<'a>(
    who: &'a str,
    words: &'a str,
    version: Version,
    will: Option<&'a str>,
    user: UserProperties<'a>,
) -> Connect<'a> {
    let properties = ConnectProperties {
        session_expiry_secs: number(words, "expiry"),
        receive_max: number(words, "rmax").and_then(|max| NonZeroU16::new(max as u16)),
        maximum_packet_size: number(words, "pmax").and_then(NonZeroU32::new),
        auth_method: value(words, "method"),
        auth_data: value(words, "data").map(str::as_bytes),
        topic_alias_max: number(words, "amax").map(|max| max as u16),
        request_problem_info: number(words, "problems").map(|one| one == 1),
        ..ConnectProperties::default()
    };
    Connect {
        version,
        bridge: has(words, "bridge"),
        clean_start: !has(words, "clean=0"),
        keep_alive_secs: number(words, "keep").unwrap_or(0) as u16,
        client_id: value(words, "as").unwrap_or(who),
        will: will.map(|topic| Will {
            topic: Topic::parse(topic).unwrap(),
            payload: b"gone",
            qos: qos(words),
            retain: has(words, "r"),
            delay_secs: number(words, "delay").unwrap_or(0),
            properties: PublishProperties { user, ..PublishProperties::default() },
        }),
        user_name: value(words, "user"),
        password: value(words, "password").map(str::as_bytes),
        properties,
    }
}

fn publish<'a>(words: &'a str, payload: &'a [u8]) -> Publish<'a> {
    let topic = words.split(' ').next().unwrap();
    let qos = qos(words);
    Publish {
        dup: has(words, "dup"),
        retain: has(words, "r"),
        qos,
        topic: (topic != "-").then(|| Topic::parse(topic).unwrap()),
        packet_id: (qos > QoS::AtMostOnce).then(|| id(words)),
        properties: PublishProperties::default(),
        payload,
    }
}

fn properties<'a>(words: &'a str, user: UserProperties<'a>) -> PublishProperties<'a> {
    PublishProperties {
        message_expiry_secs: number(words, "expiry"),
        topic_alias: number(words, "alias").and_then(|alias| NonZeroU16::new(alias as u16)),
        content_type: value(words, "type"),
        payload_format: has(words, "utf8").then_some(mqtt::PayloadFormat::Utf8),
        response_topic: value(words, "reply").map(|topic| Topic::parse(topic).unwrap()),
        correlation_data: value(words, "token").map(str::as_bytes),
        user,
        ..PublishProperties::default()
    }
}

pub(crate) fn payload(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=32 => format!("'{}'", bytes.escape_ascii()),
        len => format!("'{}'*{len}", bytes[..1].escape_ascii()),
    }
}

pub(crate) fn delivery(message: &Message, qos: QoS, retain: bool, now: Wall) -> String {
    let mut text = format!("{} {}", message.topic(), payload(message.payload()));
    flags(&mut text, qos, retain);
    if let Some(secs) = message.remaining_secs(now) {
        let _ = write!(text, " expiry={secs}");
    }
    text
}

fn flags(text: &mut String, qos: QoS, retain: bool) {
    if qos > QoS::AtMostOnce {
        let _ = write!(text, " q{}", qos as u8);
    }
    if retain {
        text.push_str(" r");
    }
}

fn codes(codes: &[u8]) -> String {
    codes.iter().map(|code| if *code < 0x80 { format!(" {code}") } else { format!(" {code:#04x}") }).collect()
}

fn ack(name: &str, ack: &Ack<'_>) -> String {
    match ack.reason {
        ReasonCode::Success => format!("{name} #{}", ack.packet_id.get()),
        reason => format!("{name} #{} {:#04x}", ack.packet_id.get(), reason as u8),
    }
}

/// The reason string of what a client hears.
fn because<'a>(packet: &Packet<'a>) -> Option<&'a str> {
    match packet {
        Packet::ConnAck(connack) => connack.properties.reason_string,
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties.reason_string
        }
        Packet::SubAck(suback) => suback.properties.reason_string,
        Packet::UnsubAck(unsuback) => unsuback.properties.reason_string,
        Packet::Disconnect(disconnect) => disconnect.properties.reason_string,
        _ => None,
    }
}

/// What a client hears, with the reason in words or without.
pub(crate) fn packet(packet: &Packet<'_>, explains: bool) -> String {
    match because(packet).filter(|_| explains) {
        Some(reason) => format!("{} '{reason}'", without_reason(packet)),
        None => without_reason(packet),
    }
}

fn without_reason(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(connack) => {
            let mut text = String::from("CONNACK");
            if connack.session_present {
                text.push_str(" present");
            }
            if connack.reason != ReasonCode::Success {
                let _ = write!(text, " {:#04x}", connack.reason as u8);
            }
            let properties = &connack.properties;
            for (name, number) in [
                ("rmax", properties.receive_max.map(|max| u32::from(max.get()))),
                ("amax", properties.topic_alias_max.map(u32::from)),
                ("pmax", properties.maximum_packet_size.map(NonZeroU32::get)),
                ("qmax", properties.maximum_qos.map(|qos| qos as u32)),
                ("retain", properties.retain_available.map(u32::from)),
                ("expiry", properties.session_expiry_secs),
                ("keep", properties.server_keep_alive_secs.map(u32::from)),
            ] {
                if let Some(number) = number {
                    let _ = write!(text, " {name}={number}");
                }
            }
            if let Some(id) = properties.assigned_client_id {
                let _ = write!(text, " as={id}");
            }
            text.push_str(&method(properties.auth_method, properties.auth_data));
            text
        }
        Packet::Auth(auth) => {
            let properties = &auth.properties;
            format!("AUTH {:#04x}{}", auth.reason as u8, method(properties.auth_method, properties.auth_data))
        }
        Packet::Publish(publish) => heard_publish(publish),
        Packet::PubAck(one) => ack("PUBACK", one),
        Packet::PubRec(one) => ack("PUBREC", one),
        Packet::PubRel(one) => ack("PUBREL", one),
        Packet::PubComp(one) => ack("PUBCOMP", one),
        Packet::SubAck(suback) => format!("SUBACK{}{}", other_id(suback.packet_id), codes(suback.codes)),
        Packet::UnsubAck(unsuback) => format!("UNSUBACK{}{}", other_id(unsuback.packet_id), codes(unsuback.codes)),
        Packet::PingResp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => {
            let expiry = disconnect.properties.session_expiry_secs.map(|secs| format!(" expiry={secs}"));
            format!("DISCONNECT {:#04x}{}", disconnect.reason as u8, expiry.unwrap_or_default())
        }
        other => panic!("a broker does not say {other:?}"),
    }
}

fn method(method: Option<&str>, data: Option<&[u8]>) -> String {
    let data = data.map(|data| format!(" {}", payload(data))).unwrap_or_default();
    method.map(|method| format!(" method={method}{data}")).unwrap_or_default()
}

/// Requests have the identifier 1 unless they say another one.
fn other_id(id: PacketId) -> String {
    if id.get() == 1 { String::new() } else { format!(" #{}", id.get()) }
}

fn heard_publish(publish: &Publish<'_>) -> String {
    let topic = publish.topic.map_or("-", Topic::as_str);
    let mut text = format!("PUB {topic} {}", payload(publish.payload));
    flags(&mut text, publish.qos, publish.retain);
    if let Some(id) = publish.packet_id {
        let _ = write!(text, " #{}", id.get());
    }
    if publish.dup {
        text.push_str(" dup");
    }
    let ids: Vec<String> = publish.properties.subscription_ids.iter().map(|id| id.to_string()).collect();
    if !ids.is_empty() {
        let _ = write!(text, " ids={}", ids.join(","));
    }
    if let Some(secs) = publish.properties.message_expiry_secs {
        let _ = write!(text, " expiry={secs}");
    }
    if let Some(alias) = publish.properties.topic_alias {
        let _ = write!(text, " alias={alias}");
    }
    if let Some(kind) = publish.properties.content_type {
        let _ = write!(text, " type={kind}");
    }
    if publish.properties.payload_format.is_some() {
        text.push_str(" utf8");
    }
    if let Some(topic) = publish.properties.response_topic {
        let _ = write!(text, " reply={topic}");
    }
    if let Some(token) = publish.properties.correlation_data {
        let _ = write!(text, " token={}", token.escape_ascii());
    }
    let user: Vec<String> = publish.properties.user.iter().map(|(name, text)| format!("{name}:{text}")).collect();
    if !user.is_empty() {
        let _ = write!(text, " props={}", user.join(","));
    }
    text
}
