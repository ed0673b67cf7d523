//! The rules at their door.
#![allow(clippy::panic, reason = "tests fail by panicking, their helpers too")]

mod bad_input;
mod docs;
mod examples;
mod language;
mod policy;
mod properties;
mod support;

mod vectors;
