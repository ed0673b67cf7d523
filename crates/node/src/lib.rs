//! One site as one value: the broker for its clients, its part of the mesh, its rules, and what joins them.
//!
//! For: hosts and simulations, which own the world around it. Never: sockets, files, clocks, the kinds of links.
//! Start reading at [`door`] (what is said to a node and what it answers), then [`Node::handle`]; a message's way
//! between clients and peers is `Node::carry`.
//!
//! One batch: [`Node::handle`] any number of times, perform the outputs, [`Node::seal`] and hand its changes to the
//! store, perform the outputs again; when the store has the batch, [`Node::committed`], and perform what that releases.
#![no_std]
extern crate alloc;

pub mod bridge;
pub mod console;
mod desk;
pub mod door;
mod node;
mod peers;
pub mod script;
pub mod settings;
mod system;

pub use ::rules;
pub use broker::check_mount_point;
pub use broker::{Access, Admission, Authentication, BridgeTerms, Credentials, Place, Policy, Verdict, Welcome, Who};
pub use broker::{AttachId, Config as BrokerConfig, ConnId, Event as BrokerEvent, Outgoing, Stats as BrokerStats};
pub use broker::{Drop, Overlap, Role, SessionStatus, SubscriptionStatus, WhenFull};
pub use console::Console;
pub use door::{Change, Damaged, Event, Input, Output};
pub use mesh::{
    Config as MeshConfig, Event as MeshEvent, Lane, Mesh, PeerStatus, Rights, SiteId, Stats as MeshStats, Window,
};
pub use node::{Config, Membership, Node};
