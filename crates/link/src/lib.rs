//! One authenticated path between two sites through NATs, for any number of peers over one UDP port: ICE finds the
//! path, QUIC with raw Ed25519 keys guards it, TURN lends one where there is none. Datagrams and time go in, datagrams
//! and frames come out.
//!
//! It knows no MQTT, no topics, no mesh: frames are bytes. It has no clock, socket, file or thread, and never carries
//! cards to peers: that is the rendezvous' part. Its crates draw randomness of their own where it is no secret.
//! Start at [`Endpoint`]; its door is [`Input`] and [`Output`].

mod card;
mod connection;
mod door;
mod endpoint;
mod evict;
mod frame;
mod gather;
mod key;
mod path;
mod peer;
mod relay;
mod session;
mod site;
mod stun;
mod tls;

pub use card::{Candidate, Card, CardError};
pub use door::{
    Config, Counters, DownReason, Event, Input, Lane, Limits, Output, PeerStatus, StunService, Traffic, TurnServer,
};
pub use endpoint::{BadKey, DOOR_BYTE, Endpoint};
pub use key::PeerKey;
pub use path::{CandidateType, Path, PathKind};
pub use stun::respond_binding;
