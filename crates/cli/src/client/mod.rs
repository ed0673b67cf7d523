//! What `pub` and `sub` have in common: the flags of mosquitto's clients, and one connection to one broker.
pub(crate) mod arguments;
