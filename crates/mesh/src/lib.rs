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
mod home;
mod interest;
mod ledger;
mod mesh;
mod outbox;
mod peer;
mod ranges;
mod recent;
mod record;
mod replica;
mod sending;
mod session;
mod site;
mod stamp;
mod sync;
mod wire;

pub use config::{Config, Rights, Window};
pub use door::{Change, Damaged, Input, Lane, Output};
pub use event::{Event, Fault, PeerStatus, Refusal, Stats};
pub use mesh::Mesh;
pub use ranges::Ranges;
pub use site::SiteId;
pub use stamp::Stamp;
