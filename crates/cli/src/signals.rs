//! The signals that ask a command to stop, or a site to read its files again.
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// Watches for Ctrl-C and for what a service supervisor sends.
pub(crate) struct Stop(Signals);

/// Begins to watch: from now on these signals do not end the process by themselves.
pub(crate) fn catch() -> io::Result<Stop> {
    Signals::new([SIGINT, SIGTERM]).map(Stop)
}

/// The same for a site, for which SIGHUP means something.
pub(crate) fn catch_with_reload() -> io::Result<Stop> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).map(Stop)
}

impl Stop {
    /// Blocks until one comes.
    pub(crate) fn wait(self) {
        self.wait_and(|| {});
    }

    /// Blocks until the site is to stop; `reload` is called whenever it is to read its files again.
    pub(crate) fn wait_and(mut self, reload: impl Fn()) {
        for signal in self.0.forever() {
            if signal != SIGHUP {
                return;
            }
            reload();
        }
    }
}
