//! Bridges to classic brokers: which messages pass, under which topics, and what is said to both brokers.
//!
//! A bridge is a client of two brokers that hands on packets. Its local half is a connection like others, with a
//! session of its own ([`broker::Role::Bridge`]): what waits for the other broker waits in that session's queue, under
//! the same promises as for any client. The remote half is a client of the other broker.
//!
//! PUBLISH and the packets of its handshake are handed on with their packet identifiers, one for one. So a handshake is
//! between the two brokers, which both keep its state over restarts, and [`Relay`] keeps none: nothing is acknowledged
//! on one side before the other side has it, and nothing passes twice at QoS 2.
mod relay;
mod topics;

pub use relay::{Config, Ended, Event, Notification, Relay, farewell};
pub use topics::{Direction, Misfit, TopicRule, Topics};
