//! Property sections: which property may stand where, how often, with which values [MQTT5 2.2.2.2].
use super::DecodeError;
use super::read::Reader;
use super::write::{self, Length, Sink, Written, length, variable};
use crate::property::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    SubscribeProperties, UserProperties, id,
};
use crate::topic::Topic;
use crate::types::{PayloadFormat, QoS};
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

type Read<T> = Result<T, DecodeError>;

/// One property as its packet keeps it: a second one of the kind is refused.
fn once<T>(slot: &mut Option<T>, id: u8, value: T) -> Read<()> {
    if slot.replace(value).is_some() { Err(DecodeError::PropertyTwice(id)) } else { Ok(()) }
}

fn flag(reader: &mut Reader<'_>, id: u8) -> Read<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::PropertyValue(id)),
    }
}

fn payload_format(reader: &mut Reader<'_>) -> Read<PayloadFormat> {
    let utf8 = flag(reader, id::PAYLOAD_FORMAT)?;
    Ok(if utf8 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes })
}

fn nonzero_u16(reader: &mut Reader<'_>, id: u8) -> Read<NonZeroU16> {
    NonZeroU16::new(reader.u16()?).ok_or(DecodeError::PropertyValue(id))
}

fn nonzero_u32(reader: &mut Reader<'_>, id: u8) -> Read<NonZeroU32> {
    NonZeroU32::new(reader.u32()?).ok_or(DecodeError::PropertyValue(id))
}

fn subscription_id(reader: &mut Reader<'_>) -> Read<NonZeroU32> {
    NonZeroU32::new(reader.variable()?).ok_or(DecodeError::PropertyValue(id::SUBSCRIPTION_ID))
}

/// A text [MQTT-3.3.2-13], and never a filter [MQTT-3.3.2-14].
fn response_topic<'a>(reader: &mut Reader<'a>) -> Read<Topic<'a>> {
    Topic::parse(reader.text()?).map_err(|_| DecodeError::PropertyValue(id::RESPONSE_TOPIC))
}

/// Walks a section: the identifier of the next property, and the bytes from it on.
fn next<'a>(reader: &mut Reader<'a>) -> Read<Option<(u8, &'a [u8])>> {
    if reader.is_empty() {
        return Ok(None);
    }
    let from = reader.rest();
    let id = reader.variable()?;
    u8::try_from(id).map(|id| Some((id, from))).map_err(|_| DecodeError::PropertyMisplaced(id))
}

/// Checks a User Property, both texts of it [MQTT-1.5.7-1]; the view begins at the first one of a section, so that
/// sections without any have an empty one.
fn user<'a>(view: &mut UserProperties<'a>, from: &'a [u8], reader: &mut Reader<'a>) -> Read<()> {
    if view.0.is_empty() {
        view.0 = from;
    }
    reader.text()?;
    reader.text()?;
    Ok(())
}

fn misplaced<T>(id: u8) -> Read<T> {
    Err(DecodeError::PropertyMisplaced(u32::from(id)))
}

/// Moves past the value of a property: for views of checked sections.
pub(crate) fn skip(id: u8, reader: &mut Reader<'_>) -> Read<()> {
    match id {
        id::PAYLOAD_FORMAT
        | id::REQUEST_PROBLEM_INFO
        | id::REQUEST_RESPONSE_INFO
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_AVAILABLE
        | id::SUBSCRIPTION_ID_AVAILABLE
        | id::SHARED_AVAILABLE => reader.take(1).map(drop),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAX | id::TOPIC_ALIAS_MAX | id::TOPIC_ALIAS => reader.take(2).map(drop),
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => reader.take(4).map(drop),
        id::SUBSCRIPTION_ID => reader.variable().map(drop),
        id::USER_PROPERTY => {
            reader.binary()?;
            reader.binary().map(drop)
        }
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_ID
        | id::AUTH_METHOD
        | id::AUTH_DATA
        | id::RESPONSE_INFO
        | id::SERVER_REFERENCE
        | id::REASON_STRING => reader.binary().map(drop),
        _ => misplaced(id),
    }
}

/// Which properties a message may carry in this place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Publish,
    Will,
    Kept,
}

fn parse_message<'a>(section: &'a [u8], place: Place, delay: &mut Option<u32>) -> Read<PublishProperties<'a>> {
    let mut properties = PublishProperties::default();
    let mut reader = Reader::new(section);
    while let Some((property, from)) = next(&mut reader)? {
        match (property, place) {
            (id::PAYLOAD_FORMAT, _) => {
                once(&mut properties.payload_format, property, payload_format(&mut reader)?)?;
            }
            (id::MESSAGE_EXPIRY, Place::Publish | Place::Will) => {
                once(&mut properties.message_expiry_secs, property, reader.u32()?)?;
            }
            (id::TOPIC_ALIAS, Place::Publish) => {
                let alias = NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAlias)?;
                once(&mut properties.topic_alias, property, alias)?;
            }
            (id::RESPONSE_TOPIC, _) => {
                once(&mut properties.response_topic, property, response_topic(&mut reader)?)?;
            }
            (id::CORRELATION_DATA, _) => once(&mut properties.correlation_data, property, reader.binary()?)?,
            // [MQTT-3.3.2-19]
            (id::CONTENT_TYPE, _) => once(&mut properties.content_type, property, reader.text()?)?,
            (id::SUBSCRIPTION_ID, Place::Publish) => {
                subscription_id(&mut reader)?;
                if properties.subscription_ids.0.is_empty() {
                    properties.subscription_ids.0 = from;
                }
            }
            (id::USER_PROPERTY, _) => user(&mut properties.user, from, &mut reader)?,
            (id::WILL_DELAY, Place::Will) => once(delay, property, reader.u32()?)?,
            _ => return misplaced(property),
        }
    }
    Ok(properties)
}

impl<'a> PublishProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        parse_message(section, Place::Publish, &mut None)
    }

    /// Will properties with the Will Delay Interval beside them.
    pub(crate) fn parse_will(section: &'a [u8]) -> Read<(Self, u32)> {
        let mut delay = None;
        let properties = parse_message(section, Place::Will, &mut delay)?;
        Ok((properties, delay.unwrap_or(0)))
    }

    /// What a stored message may carry.
    pub(crate) fn parse_forwardable(section: &'a [u8]) -> Read<Self> {
        if section.is_empty() { Ok(Self::default()) } else { parse_message(section, Place::Kept, &mut None) }
    }

    /// Appends the properties that travel with a message to every receiver: payload format, content type, response
    /// topic, correlation data and user properties in their order [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
    /// [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
    /// Their lengths are those of packets read or checked before: what does not fit is left out.
    pub fn write_forwardable(&self, out: &mut Vec<u8>) {
        let fits = self.write_kept(&mut Length::default());
        debug_assert!(fits.is_ok(), "properties from a packet can be said again");
        if fits.is_ok() {
            let _ = self.write_kept(out);
        }
    }

    fn write_kept(&self, sink: &mut impl Sink) -> Written {
        if let Some(format) = self.payload_format {
            sink.put(&[id::PAYLOAD_FORMAT, u8::from(format == PayloadFormat::Utf8)]);
        }
        put_text(sink, id::CONTENT_TYPE, self.content_type)?;
        put_text(sink, id::RESPONSE_TOPIC, self.response_topic.map(Topic::as_str))?;
        put_binary(sink, id::CORRELATION_DATA, self.correlation_data)?;
        put_user(sink, self.user)
    }

    /// Whether the section is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.payload_format.is_none()
            && self.message_expiry_secs.is_none()
            && self.topic_alias.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.content_type.is_none()
            && self.subscription_ids.is_empty()
            && self.user.is_empty()
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_u32(sink, id::MESSAGE_EXPIRY, self.message_expiry_secs);
        put_u16(sink, id::TOPIC_ALIAS, self.topic_alias.map(NonZeroU16::get));
        for subscription in self.subscription_ids {
            sink.put(&[id::SUBSCRIPTION_ID]);
            variable(sink, subscription.get());
        }
        self.write_kept(sink)
    }

    /// The will's section: no alias, no identifiers.
    pub(crate) fn write_will(&self, delay_secs: u32, sink: &mut impl Sink) -> Written {
        put_u32(sink, id::WILL_DELAY, Some(delay_secs).filter(|&delay| delay != 0));
        put_u32(sink, id::MESSAGE_EXPIRY, self.message_expiry_secs);
        self.write_kept(sink)
    }
}

impl<'a> ConnectProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        let r = &mut reader;
        while let Some((property, from)) = next(r)? {
            match property {
                id::SESSION_EXPIRY => once(&mut to.session_expiry_secs, property, r.u32()?)?,
                id::RECEIVE_MAX => once(&mut to.receive_max, property, nonzero_u16(r, property)?)?,
                id::MAXIMUM_PACKET_SIZE => once(&mut to.maximum_packet_size, property, nonzero_u32(r, property)?)?,
                id::TOPIC_ALIAS_MAX => once(&mut to.topic_alias_max, property, r.u16()?)?,
                id::REQUEST_RESPONSE_INFO => once(&mut to.request_response_info, property, flag(r, property)?)?,
                id::REQUEST_PROBLEM_INFO => once(&mut to.request_problem_info, property, flag(r, property)?)?,
                id::AUTH_METHOD => once(&mut to.auth_method, property, r.text()?)?,
                id::AUTH_DATA => once(&mut to.auth_data, property, r.binary()?)?,
                id::USER_PROPERTY => user(&mut to.user, from, r)?,
                _ => return misplaced(property),
            }
        }
        if to.auth_data.is_some() && to.auth_method.is_none() {
            return Err(DecodeError::AuthMethodMissing);
        }
        Ok(to)
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_u32(sink, id::SESSION_EXPIRY, self.session_expiry_secs);
        put_u16(sink, id::RECEIVE_MAX, self.receive_max.map(NonZeroU16::get));
        put_u32(sink, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size.map(NonZeroU32::get));
        put_u16(sink, id::TOPIC_ALIAS_MAX, self.topic_alias_max);
        put_flag(sink, id::REQUEST_RESPONSE_INFO, self.request_response_info);
        put_flag(sink, id::REQUEST_PROBLEM_INFO, self.request_problem_info);
        put_auth(sink, self.auth_method, self.auth_data)?;
        put_user(sink, self.user)
    }
}

impl<'a> ConnAckProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        let r = &mut reader;
        while let Some((property, from)) = next(r)? {
            match property {
                id::SESSION_EXPIRY => once(&mut to.session_expiry_secs, property, r.u32()?)?,
                id::RECEIVE_MAX => once(&mut to.receive_max, property, nonzero_u16(r, property)?)?,
                id::MAXIMUM_QOS => once(&mut to.maximum_qos, property, maximum_qos(r)?)?,
                id::RETAIN_AVAILABLE => once(&mut to.retain_available, property, flag(r, property)?)?,
                id::MAXIMUM_PACKET_SIZE => once(&mut to.maximum_packet_size, property, nonzero_u32(r, property)?)?,
                id::ASSIGNED_CLIENT_ID => once(&mut to.assigned_client_id, property, r.text()?)?,
                id::TOPIC_ALIAS_MAX => once(&mut to.topic_alias_max, property, r.u16()?)?,
                id::REASON_STRING => once(&mut to.reason_string, property, r.text()?)?,
                id::WILDCARD_AVAILABLE => once(&mut to.wildcard_available, property, flag(r, property)?)?,
                id::SUBSCRIPTION_ID_AVAILABLE => {
                    once(&mut to.subscription_id_available, property, flag(r, property)?)?;
                }
                id::SHARED_AVAILABLE => once(&mut to.shared_available, property, flag(r, property)?)?,
                id::SERVER_KEEP_ALIVE => once(&mut to.server_keep_alive_secs, property, r.u16()?)?,
                id::RESPONSE_INFO => once(&mut to.response_info, property, r.text()?)?,
                id::SERVER_REFERENCE => once(&mut to.server_reference, property, r.text()?)?,
                id::AUTH_METHOD => once(&mut to.auth_method, property, r.text()?)?,
                id::AUTH_DATA => once(&mut to.auth_data, property, r.binary()?)?,
                id::USER_PROPERTY => user(&mut to.user, from, r)?,
                _ => return misplaced(property),
            }
        }
        if to.auth_data.is_some() && to.auth_method.is_none() {
            return Err(DecodeError::AuthMethodMissing);
        }
        Ok(to)
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_u32(sink, id::SESSION_EXPIRY, self.session_expiry_secs);
        put_u16(sink, id::RECEIVE_MAX, self.receive_max.map(NonZeroU16::get));
        // Said only if it is less than the default, which has no number of its own.
        put_flag(
            sink,
            id::MAXIMUM_QOS,
            match self.maximum_qos {
                Some(QoS::AtMostOnce) => Some(false),
                Some(QoS::AtLeastOnce) => Some(true),
                Some(QoS::ExactlyOnce) | None => None,
            },
        );
        put_flag(sink, id::RETAIN_AVAILABLE, self.retain_available);
        put_u32(sink, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size.map(NonZeroU32::get));
        put_text(sink, id::ASSIGNED_CLIENT_ID, self.assigned_client_id)?;
        put_u16(sink, id::TOPIC_ALIAS_MAX, self.topic_alias_max);
        put_text(sink, id::REASON_STRING, self.reason_string)?;
        put_flag(sink, id::WILDCARD_AVAILABLE, self.wildcard_available);
        put_flag(sink, id::SUBSCRIPTION_ID_AVAILABLE, self.subscription_id_available);
        put_flag(sink, id::SHARED_AVAILABLE, self.shared_available);
        put_u16(sink, id::SERVER_KEEP_ALIVE, self.server_keep_alive_secs);
        put_text(sink, id::RESPONSE_INFO, self.response_info)?;
        put_text(sink, id::SERVER_REFERENCE, self.server_reference)?;
        put_auth(sink, self.auth_method, self.auth_data)?;
        put_user(sink, self.user)
    }
}

/// 0 or 1; 2 is said by leaving it out.
fn maximum_qos(reader: &mut Reader<'_>) -> Read<QoS> {
    let one = flag(reader, id::MAXIMUM_QOS)?;
    Ok(if one { QoS::AtLeastOnce } else { QoS::AtMostOnce })
}

impl<'a> AckProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        while let Some((property, from)) = next(&mut reader)? {
            match property {
                id::REASON_STRING => once(&mut to.reason_string, property, reader.text()?)?,
                id::USER_PROPERTY => user(&mut to.user, from, &mut reader)?,
                _ => return misplaced(property),
            }
        }
        Ok(to)
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_text(sink, id::REASON_STRING, self.reason_string)?;
        put_user(sink, self.user)
    }
}

impl<'a> SubscribeProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        while let Some((property, from)) = next(&mut reader)? {
            match property {
                id::SUBSCRIPTION_ID => once(&mut to.subscription_id, property, subscription_id(&mut reader)?)?,
                id::USER_PROPERTY => user(&mut to.user, from, &mut reader)?,
                _ => return misplaced(property),
            }
        }
        Ok(to)
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        if let Some(subscription) = self.subscription_id {
            sink.put(&[id::SUBSCRIPTION_ID]);
            variable(sink, length(subscription.get() as usize)?);
        }
        put_user(sink, self.user)
    }
}

impl<'a> UserProperties<'a> {
    /// A section in which nothing but User Properties may stand: UNSUBSCRIBE's.
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        while let Some((property, from)) = next(&mut reader)? {
            match property {
                id::USER_PROPERTY => user(&mut to, from, &mut reader)?,
                _ => return misplaced(property),
            }
        }
        Ok(to)
    }

    pub(crate) fn write(self, sink: &mut impl Sink) -> Written {
        put_user(sink, self)
    }
}

impl<'a> DisconnectProperties<'a> {
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        while let Some((property, from)) = next(&mut reader)? {
            match property {
                id::SESSION_EXPIRY => once(&mut to.session_expiry_secs, property, reader.u32()?)?,
                id::REASON_STRING => once(&mut to.reason_string, property, reader.text()?)?,
                id::SERVER_REFERENCE => once(&mut to.server_reference, property, reader.text()?)?,
                id::USER_PROPERTY => user(&mut to.user, from, &mut reader)?,
                _ => return misplaced(property),
            }
        }
        Ok(to)
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_u32(sink, id::SESSION_EXPIRY, self.session_expiry_secs);
        put_text(sink, id::REASON_STRING, self.reason_string)?;
        put_text(sink, id::SERVER_REFERENCE, self.server_reference)?;
        put_user(sink, self.user)
    }
}

impl<'a> AuthProperties<'a> {
    /// The method is never left out, but with the whole section [MQTT5 3.15.2.2.2].
    pub(crate) fn parse(section: &'a [u8]) -> Read<Self> {
        let mut to = Self::default();
        let mut reader = Reader::new(section);
        while let Some((property, from)) = next(&mut reader)? {
            match property {
                id::AUTH_METHOD => once(&mut to.auth_method, property, reader.text()?)?,
                id::AUTH_DATA => once(&mut to.auth_data, property, reader.binary()?)?,
                id::REASON_STRING => once(&mut to.reason_string, property, reader.text()?)?,
                id::USER_PROPERTY => user(&mut to.user, from, &mut reader)?,
                _ => return misplaced(property),
            }
        }
        if to.auth_method.is_none() { Err(DecodeError::AuthMethodMissing) } else { Ok(to) }
    }

    pub(crate) fn write(&self, sink: &mut impl Sink) -> Written {
        put_auth(sink, self.auth_method, self.auth_data)?;
        put_text(sink, id::REASON_STRING, self.reason_string)?;
        put_user(sink, self.user)
    }
}

fn put_flag(sink: &mut impl Sink, id: u8, value: Option<bool>) {
    if let Some(value) = value {
        sink.put(&[id, u8::from(value)]);
    }
}

fn put_u16(sink: &mut impl Sink, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        sink.put(&[id]);
        sink.put(&value.to_be_bytes());
    }
}

fn put_u32(sink: &mut impl Sink, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        sink.put(&[id]);
        sink.put(&value.to_be_bytes());
    }
}

fn put_text(sink: &mut impl Sink, id: u8, value: Option<&str>) -> Written {
    let Some(value) = value else { return Ok(()) };
    sink.put(&[id]);
    write::text(sink, value)
}

fn put_binary(sink: &mut impl Sink, id: u8, value: Option<&[u8]>) -> Written {
    let Some(value) = value else { return Ok(()) };
    sink.put(&[id]);
    write::binary(sink, value)
}

/// Authentication Data makes sense only with a method.
fn put_auth(sink: &mut impl Sink, method: Option<&str>, data: Option<&[u8]>) -> Written {
    if data.is_some() && method.is_none() {
        return Err(super::EncodeError::AuthMethodMissing);
    }
    put_text(sink, id::AUTH_METHOD, method)?;
    put_binary(sink, id::AUTH_DATA, data)
}

fn put_user(sink: &mut impl Sink, properties: UserProperties<'_>) -> Written {
    for (name, value) in properties {
        sink.put(&[id::USER_PROPERTY]);
        write::text(sink, name)?;
        write::text(sink, value)?;
    }
    Ok(())
}

/// A section with its length before it, also where that is zero [MQTT-2.2.2-1].
pub(crate) fn section<S: Sink>(sink: &mut S, write: impl Fn(&mut Counted<'_, S>) -> Written) -> Written {
    let mut counted = Length::default();
    write(&mut Counted::Count(&mut counted))?;
    variable(sink, length(counted.0)?);
    write(&mut Counted::Write(sink))
}

/// The two passes of [`section`] as one type, so that one closure serves both.
pub(crate) enum Counted<'a, S> {
    Count(&'a mut Length),
    Write(&'a mut S),
}

impl<S: Sink> Sink for Counted<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        match self {
            Self::Count(length) => length.put(bytes),
            Self::Write(sink) => sink.put(bytes),
        }
    }
}
