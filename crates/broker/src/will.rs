//! What a client wants said when it is gone without a word.
use core::time::Duration;
use mqtt::packet;
use mqtt::{Message, Wall};

/// A will. Its message expires from the moment on that it is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) delay: Duration,
    pub(crate) expiry_secs: Option<u32>,
}

impl Will {
    /// Retained or not as it says [MQTT-3.1.2-14] [MQTT-3.1.2-15], its user properties in order [MQTT-3.1.3-10].
    pub(crate) fn new(will: &packet::Will<'_>) -> Self {
        let message = Message::from_will(will, Wall::default());
        Self {
            message: message.with(will.qos, will.retain, None),
            delay: Duration::from_secs(u64::from(will.delay_secs)),
            expiry_secs: will.properties.message_expiry_secs,
        }
    }

    /// The message as published now.
    pub(crate) fn message(&self, now: Wall) -> Message {
        match self.expiry_secs {
            Some(secs) => {
                let expires = now + Duration::from_secs(u64::from(secs));
                self.message.with(self.message.qos(), self.message.retain(), Some(expires))
            }
            None => self.message.clone(),
        }
    }
}
