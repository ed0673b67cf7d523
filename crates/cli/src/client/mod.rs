//! What `pub` and `sub` have in common: the flags of mosquitto's clients, and one connection to one broker.
pub(crate) mod arguments;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod property;
pub(crate) mod url;
