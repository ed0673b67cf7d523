//! What a client asks for in CONNECT.
use crate::packet::{Connect, Will};
use crate::property::{ConnectProperties, PublishProperties, UserPropertyList};
use crate::topic::TopicBuf;
use crate::types::{QoS, Version};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

/// How to connect, and the client's own limits. What is said in version 5 only is left out in the others.
#[derive(Clone)]
pub struct Options {
    /// Protocol version.
    pub version: Version,
    /// Client identifier; empty lets a server of 3.1.1 or 5 choose.
    pub client_id: String,
    /// Forget the session before.
    pub clean_start: bool,
    /// Keep Alive; 0 is off. A server of version 5 may ask for another.
    pub keep_alive_secs: u16,
    /// User name.
    pub user_name: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// What the server publishes when the client vanishes.
    pub will: Option<WillOptions>,
    /// Tells mosquitto that this is a bridge (3.1 and 3.1.1).
    pub bridge: bool,
    /// Session Expiry Interval in seconds (5).
    pub session_expiry_secs: Option<u32>,
    /// QoS 1 and 2 messages that the server may have in flight (5).
    pub receive_max: NonZeroU16,
    /// Topic aliases that the server may use (5).
    pub topic_alias_max: u16,
    /// Larger packets end the connection; the whole packet counts. Before version 5, where the server can't be told of
    /// it, larger messages of QoS 0 are passed over instead.
    pub packet_max: u32,
    /// Ask for response information (5).
    pub request_response_info: Option<bool>,
    /// Whether the server may send reason strings and user properties with everything (5).
    pub request_problem_info: Option<bool>,
    /// Authentication Method (5): what the server says by it is at [`super::Client::poll_said`].
    pub auth_method: Option<String>,
    /// Authentication Data (5).
    pub auth_data: Option<Vec<u8>>,
    /// User properties (5).
    pub user: UserPropertyList,
    /// When incoming QoS 1 and 2 messages are acknowledged.
    pub acknowledge: Acknowledge,
    /// Longest wait for the server's answer to CONNECT and PINGREQ.
    pub answer_timeout: Duration,
    /// QoS 1 and 2 messages that may be in flight, if the server does not allow fewer.
    pub in_flight_max: NonZeroU16,
    /// QoS 1 and 2 messages that may wait to be sent.
    pub waiting_max: usize,
}

/// Who acknowledges incoming messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledge {
    /// The client, at once.
    OnArrival,
    /// The caller with [`super::Client::acknowledge`], once the message is safe.
    ByCaller,
}

/// A will.
#[derive(Clone, Debug)]
pub struct WillOptions {
    /// Topic.
    pub topic: TopicBuf,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: QoS,
    /// Retain.
    pub retain: bool,
    /// Will Delay Interval in seconds (5).
    pub delay_secs: u32,
    /// Message Expiry Interval in seconds, from its publishing on (5).
    pub expiry_secs: Option<u32>,
    /// Other properties as [`PublishProperties::write_forwardable`] writes them (5).
    pub properties: Vec<u8>,
}

impl fmt::Debug for Options {
    /// Without credentials: this is for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_secs", &self.keep_alive_secs)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A clean session with the defaults of mosquitto's clients.
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive_secs: 60,
            user_name: None,
            password: None,
            will: None,
            bridge: false,
            session_expiry_secs: None,
            receive_max: NonZeroU16::MAX,
            topic_alias_max: 0,
            packet_max: u32::MAX,
            request_response_info: None,
            request_problem_info: None,
            auth_method: None,
            auth_data: None,
            user: UserPropertyList::new(),
            acknowledge: Acknowledge::OnArrival,
            answer_timeout: Duration::from_secs(20),
            in_flight_max: NonZeroU16::new(20).unwrap_or(NonZeroU16::MAX),
            waiting_max: 1000,
        }
    }

    /// Messages that the server may have in flight: before version 5 it cannot be told.
    pub(super) fn quota(&self) -> NonZeroU16 {
        match self.version {
            Version::V5 => self.receive_max,
            Version::V3_1 | Version::V3_1_1 => NonZeroU16::MAX,
        }
    }

    pub(super) fn connect(&self) -> Connect<'_> {
        Connect {
            version: self.version,
            bridge: self.bridge && self.version != Version::V5,
            clean_start: self.clean_start,
            keep_alive_secs: self.keep_alive_secs,
            client_id: &self.client_id,
            will: self.will.as_ref().map(WillOptions::view),
            user_name: self.user_name.as_deref(),
            password: self.password.as_deref(),
            properties: self.properties(),
        }
    }

    /// Defaults of the standard go unsaid.
    fn properties(&self) -> ConnectProperties<'_> {
        ConnectProperties {
            session_expiry_secs: self.session_expiry_secs,
            receive_max: Some(self.receive_max).filter(|&max| max != NonZeroU16::MAX),
            maximum_packet_size: NonZeroU32::new(self.packet_max).filter(|&max| max != NonZeroU32::MAX),
            topic_alias_max: Some(self.topic_alias_max).filter(|&max| max != 0),
            request_response_info: self.request_response_info,
            request_problem_info: self.request_problem_info,
            auth_method: self.auth_method.as_deref(),
            auth_data: self.auth_data.as_deref(),
            user: self.user.view(),
        }
    }
}

impl WillOptions {
    fn view(&self) -> Will<'_> {
        let properties = PublishProperties::parse_forwardable(&self.properties);
        debug_assert!(properties.is_ok(), "what write_forwardable writes can be read");
        Will {
            topic: self.topic.borrow(),
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            delay_secs: self.delay_secs,
            properties: PublishProperties { message_expiry_secs: self.expiry_secs, ..properties.unwrap_or_default() },
        }
    }
}
