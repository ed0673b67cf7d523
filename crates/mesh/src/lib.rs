//! Which sites exist, what they want and what they missed.
//!
//! For: keeping sites that are joined by links one broker, whatever is lost, doubled or restarted in between.
//! Never: sockets, ICE, packets of clients, the broker, a clock, a disk. It is told the time and what was committed.
//! Start reading at [`door`] (what is said to it and what it answers), then `mesh.rs`, then `peer.rs` (one peer's
//! outbox, ledger and session). The wire is in [`frame`] and in `docs/mesh-protocol.md`.
//!
//! One batch: [`Mesh::handle`] any number of times, poll the outputs, [`Mesh::seal`], poll again (frames are built
//! there, so that one batch is one frame per peer), commit the changes, [`Mesh::committed`], poll again.
#![no_std]
extern crate alloc;

pub mod config;
pub mod door;
pub mod event;
pub mod frame;
mod site;

pub use config::{Config, Rights, Window};
pub use door::{Change, Damaged, Input, Lane, Output};
pub use event::{Event, Fault, PeerStatus, Refusal, Stats};
pub use mesh::Mesh;
pub use site::SiteId;

// Mesh (mesh.rs), being written:
// pub fn new(config: Config, site: SiteId, name: &str, seed: [u8; 32]) -> Self
// pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damaged>
// pub fn restored(&mut self, now: Now)                      // always, also with an empty store; picks the epoch
// pub fn handle(&mut self, now: Now, input: Input<'_>)
// pub fn poll_output(&mut self) -> Option<Output>
// pub fn poll_timeout(&self) -> Option<Instant>
// pub fn seal(&mut self, batch: u64) -> Vec<Change>          // also builds the frames of the batch: poll again after
// pub fn committed(&mut self, batch: u64)                    // poll again after
// pub fn stats(&self) -> Stats
// pub fn peers(&self) -> impl Iterator<Item = PeerStatus<'_>>
