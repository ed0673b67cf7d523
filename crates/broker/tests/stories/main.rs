//! Stories for the broker: what is said to it, and what it answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail")]

use midge_broker as broker;

mod aliases;
mod answers;
mod bridges;
mod chaos;
mod choices;
mod durable;
mod methods;
mod places;
mod play;
mod publish;
mod rights;
mod roles;
mod session;
mod words;
