//! One MQTT broker as a value: who is connected, who wants what, what is owed to whom.
//!
//! For: a site that serves its own clients. Network clients, peer sites, bridges and the program itself are all
//! participants with a [`Role`]. Never: sockets, clocks, disks, that peers exist, how a password is checked.
//! Start reading at [`door`] (what is said to it and what it answers), then `broker.rs`, then `publish.rs` (the road of
//! one message).
//!
//! One batch: [`Broker::handle`] any number of times, poll the outputs, [`Broker::seal`], write the changes, then
//! [`Broker::committed`] and poll again. What depends on a change waits for that; everything else goes out at once.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod aliases;
mod authenticate;
mod broker;
mod clients;
pub mod config;
mod connect;
mod connection;
mod crowd;
mod dice;
pub mod door;
pub mod event;
mod index;
mod journal;
mod letter;
mod listener;
mod outgoing;
mod place;
mod policy;
mod publish;
mod queue;
mod receive;
mod record;
mod restore;
mod retained;
mod role;
mod route;
mod routes;
mod session;
mod subscribe;
mod timer;
mod trie;
mod will;

pub use broker::{Broker, SessionStatus, SubscriptionStatus};
pub use config::{Admission, Config, Overlap, WhenFull};
pub use door::{
    AttachId, Authentication, BridgeTerms, Change, ConnId, Credentials, Damaged, Delivery, Input, Output, Verdict,
    Welcome,
};
pub use event::{Cause, Drop, Event, Stats};
pub use outgoing::Outgoing;
pub use place::{Place, check_mount_point};
pub use policy::{Access, Policy, Who};
pub use role::{Role, may_hear};
