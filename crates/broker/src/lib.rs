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

pub mod config;
pub mod door;
pub mod event;
mod outgoing;
mod role;

pub use config::{Admission, Config, WhenFull};
pub use door::{AttachId, Change, ConnId, Credentials, Damaged, Delivery, Input, Output, Verdict};
pub use event::{Cause, Drop, Event, Stats};
pub use outgoing::Outgoing;
pub use role::{Role, may_hear};

// Broker (broker.rs), being written:
// pub fn new(config: Config, seed: u64) -> Self
// pub fn handle(&mut self, now: Now, input: Input<'_>)
// pub fn poll_output(&mut self) -> Option<Output>
// pub fn poll_timeout(&self) -> Option<Instant>
// pub fn outgoing(&mut self, conn: ConnId) -> Option<&mut Outgoing>   // also after Output::Close, until it is empty
// pub fn seal(&mut self, batch: u64) -> Vec<Change>     // every sealed batch must be answered by committed()
// pub fn committed(&mut self, batch: u64)               // poll again after
// pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged>
// pub fn restored(&mut self, now: Now)                  // always, also with an empty store
// pub fn configure(&mut self, config: Config)
// pub fn stats(&self) -> Stats
// pub fn retained(&self, topic: Topic<'_>) -> Option<&Message>
// pub fn retained_iter(&self) -> impl Iterator<Item = &Message>
// pub fn sessions(&self) -> impl Iterator<Item = SessionStatus<'_>>
