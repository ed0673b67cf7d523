//! The rules at their door.
mod support;

mod vectors;
