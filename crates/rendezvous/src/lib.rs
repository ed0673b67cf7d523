//! How sites find each other: cards as sealed bytes, left at every place that can be reached until the links are up.
//!
//! A site announces itself to the holders of its mesh's token, and answers announcements with letters that only their
//! recipient can read and that carry its card (what the link layer needs to reach it; opaque here). A letter is
//! believed only if it repeats a challenge drawn by this run of the recipient: there are no clocks to trust.
//!
//! Never here: sockets, ICE, MQTT, topics of clients, the broker, a clock. Start reading at [`Rendezvous`], then
//! `arrivals.rs` and `posts.rs`; the wire and the threat model are in `docs/rendezvous.md`.
#![no_std]
extern crate alloc;

mod arrivals;
mod base32;
mod door;
mod input;
mod keys;
mod member;
mod output;
mod pace;
mod place;
mod posts;
mod rendezvous;
mod seal;
mod time;
mod token;
mod wire;

pub use door::DOOR_MAGIC;
pub use input::Input;
pub use keys::PeerKey;
pub use output::{Counters, Event, Output};
pub use pace::Pace;
pub use place::{PlaceId, PlaceKind};
pub use rendezvous::{Config, MemberStatus, Rendezvous};
#[doc(hidden)]
pub use seal::fuzz_plaintext;
pub use time::Instant;
pub use token::{Fingerprint, Token, TokenError};
pub use wire::{CARD_LEN_MAX, NAME_LEN_MAX};
