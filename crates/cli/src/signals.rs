//! The signals that ask a site to stop.
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// Watches for Ctrl-C and for what a service supervisor sends.
pub(crate) struct Stop(Signals);

/// Begins to watch: from now on these signals do not end the process by themselves.
pub(crate) fn catch() -> io::Result<Stop> {
    Signals::new([SIGINT, SIGTERM]).map(Stop)
}

impl Stop {
    /// Blocks until one comes.
    pub(crate) fn wait(mut self) {
        self.0.forever().next();
    }
}
