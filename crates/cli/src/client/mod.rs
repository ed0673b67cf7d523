//! What `pub` and `sub` have in common: the flags of mosquitto's clients, and one connection to one broker.
pub(crate) mod arguments;
pub(crate) mod connect;
pub(crate) mod format;
mod json;
pub(crate) mod lines;
mod property;
pub(crate) mod session;
mod trace;
mod url;
mod way;
