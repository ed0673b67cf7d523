//! midge as a library: a site with its sockets, its disk and its clocks.
//!
//! For: the `midge` command and programs that embed a site. It is the only crate that touches the world; how messages
//! are routed or states merged is decided in the cores below it. Never: MQTT's rules, the mesh's protocol, NAT tricks.
//! Start reading at [`site`] (start, ask, stop), then [`driver`] (one round of the loop).
mod acceptor;
pub mod access;
pub mod bridge;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod datagrams;
mod dial;
pub mod driver;
pub mod gateway;
mod http;
pub mod identity;
mod inspect;
mod limits;
pub mod listing;
pub mod log;
pub mod mailbox;
mod metrics;
pub mod privileges;
mod reload;
mod resolve;
pub mod restart;
pub mod script;
pub mod site;
pub mod status;
pub mod store;
pub mod tls;

pub use inspect::inspect;
pub use link::respond_binding;
pub use mqtt;
pub use node::rules;
pub use rendezvous::Token;
pub use site::{Setup, Site, StartError};
