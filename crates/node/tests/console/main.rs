//! The console at its door: bytes in, bytes out.
#![allow(clippy::panic, reason = "tests fail by panicking, their helpers too")]

mod bad_input;
mod commands;
mod sessions;
mod settings;
mod support;
mod uploads;
