//! The signals that ask a command to stop, or a site for something that mosquitto does on them.
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;

/// Watches for Ctrl-C and for what a service supervisor sends.
pub(crate) struct Stop(Signals);

/// What a signal asks of a running site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// SIGHUP: read the files again.
    Reload,
    /// SIGUSR1: write what is in memory to the disk.
    Save,
    /// SIGUSR2: show the subscriptions.
    Tree,
}

/// Begins to watch: from now on these signals do not end the process by themselves.
pub(crate) fn catch() -> io::Result<Stop> {
    Signals::new([SIGINT, SIGTERM]).map(Stop)
}

/// The same for a site, for which others mean something too.
pub(crate) fn catch_with_requests() -> io::Result<Stop> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]).map(Stop)
}

impl Stop {
    /// Blocks until one comes.
    pub(crate) fn wait(self) {
        self.wait_and(|_| {});
    }

    /// Blocks until the site is to stop; `serve` is called with whatever else is asked of it.
    pub(crate) fn wait_and(mut self, serve: impl Fn(Request)) {
        for signal in self.0.forever() {
            match signal {
                SIGHUP => serve(Request::Reload),
                SIGUSR1 => serve(Request::Save),
                SIGUSR2 => serve(Request::Tree),
                _ => return,
            }
        }
    }
}
