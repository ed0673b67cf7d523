//! What clauses are run for.
use crate::program::{ClauseCode, When};
use crate::tree::{PeerChange, PeerName, Side};
use crate::value::{Value, until_nul};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use bytes::Bytes;
use mqtt::{QoS, TopicBuf};

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) occasion: Occasion,
    /// How many own messages led to it.
    pub(crate) chain: u16,
}

#[derive(Clone, Debug)]
pub(crate) enum Occasion {
    Init,
    MqttConnect,
    MqttDisconnect,
    WifiConnect,
    WifiDisconnect,
    Serial(Bytes),
    Timer(u8),
    Alarm(u8),
    Topic(Arc<Arrival>),
    Gpio { pin: u8, high: bool },
    Http(Arc<Answer>),
    Peer { name: Box<str>, change: PeerChange },
}

/// A message that came.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) side: Side,
    pub(crate) topic: TopicBuf,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// An HTTP response, or code -1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

impl Event {
    pub(crate) fn new(occasion: Occasion) -> Self {
        Self { occasion, chain: 0 }
    }

    /// What it holds, for the memory budget.
    pub(crate) fn weight(&self) -> usize {
        const OWN: usize = 128;
        OWN + match &self.occasion {
            Occasion::Serial(line) => line.len(),
            Occasion::Topic(arrival) => arrival.topic.as_str().len() + arrival.payload.len(),
            Occasion::Http(answer) => answer.body.len() + answer.host.len() + answer.path.len(),
            Occasion::Peer { name, .. } => name.len(),
            _ => 0,
        }
    }
}

impl Occasion {
    /// Whether a clause waits for it; for messages the index has said so already.
    pub(crate) fn concerns(&self, clause: &ClauseCode) -> bool {
        match (self, &clause.when) {
            (Self::Init, When::Init)
            | (Self::MqttConnect, When::MqttConnect)
            | (Self::MqttDisconnect, When::MqttDisconnect)
            | (Self::WifiConnect, When::WifiConnect)
            | (Self::WifiDisconnect, When::WifiDisconnect)
            | (Self::Serial(_), When::Serial)
            | (Self::Http(_), When::HttpResponse) => true,
            (Self::Timer(number), When::Timer(own)) | (Self::Alarm(number), When::Alarm(own)) => number == own,
            (Self::Gpio { pin, .. }, When::Gpio(own)) => pin == own,
            (Self::Peer { name, change }, When::Peer(wanted, own)) => {
                change == own
                    && match wanted {
                        PeerName::Any => true,
                        PeerName::Named(wanted) => wanted == name,
                    }
            }
            _ => false,
        }
    }
}

/// A filter or topic out of a value.
pub(crate) fn as_str(value: &Value) -> Option<&str> {
    core::str::from_utf8(until_nul(&value.bytes)).ok()
}
