//! NATs and bad networks as a pure wrapper of datagrams: who may reach whom, late, twice or never.
//!
//! It never opens a socket, reads a clock or draws randomness of its own: time and seed are arguments, so the same
//! seed tells the same story. Tests drive it in virtual time, `midge demo` in real time.
//! Start at [`Nat`] for one translator, at [`World`] for networks behind networks.
#![no_std]

extern crate alloc;

mod dice;
mod nat;
mod wire;
mod world;

pub use nat::{Config, Filtering, Kind, Mapping, Nat};
pub use wire::{Rate, Wire};
pub use world::{Arrival, Counters, NetId, World};
