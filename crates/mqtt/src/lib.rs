//! MQTT 3.1, 3.1.1 and 5.0 as values: bytes in, words out.
//!
//! For: whoever speaks MQTT — the broker, the clients of the mailbox and of the command line, bridges, tests.
//! Never: connections, clocks, sockets, peers. A caller owns the bytes and the time.
//! Start reading at [`packet`] (what can be said), then [`codec`] (how it is written down), then [`topic`].
//! Statements of the standards are cited as `[MQTT-3.3.1-2]` (5.0 numbers unless said).
#![no_std]
extern crate alloc;

pub mod client;
pub mod codec;
pub mod handshake;
pub mod inbox;
pub mod message;
pub mod packet;
pub mod property;
pub mod reason;
pub mod time;
pub mod topic;
pub mod types;

pub use inbox::Inbox;
pub use message::{Message, MessageError, MessageOptions};
pub use packet::Packet;
pub use reason::ReasonCode;
pub use time::{Instant, Now, Wall};
pub use topic::{Filter, FilterBuf, Topic, TopicBuf, TopicError};
pub use types::{PacketId, PayloadFormat, QoS, Version};
