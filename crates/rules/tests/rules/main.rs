//! The rules at their door.
mod bad_input;
mod language;
mod policy;
mod properties;
mod support;

mod vectors;
