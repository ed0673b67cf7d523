//! A world for sites: time, network, disks, devices, faults and checkers, all from one seed.
//!
//! For: showing that whole sites keep their promises whatever happens around them (ring 2 of the tests). It replaces
//! `host` and nothing else: the sites are real [`node::Node`]s, the devices real clients. Never: real time, sockets,
//! threads. The same seed tells the same story, to the byte.
//! Start reading at [`story`] (what happens in a run), then [`world`] (how), then [`checker`] (what must hold).
pub mod checker;
pub mod device;
pub mod dice;
pub mod disk;
pub mod network;
pub mod site;
pub mod story;
pub mod world;

pub use checker::Verdict;
pub use story::{Planted, Story};
pub use world::World;
