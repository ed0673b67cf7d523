//! In the making.

pub use mqtt;
