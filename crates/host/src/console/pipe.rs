//! What goes to one console, between the driver and the thread that writes.
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A console with more than this to read is not listened to.
const PAUSE: usize = 64 * 1024;

/// Bytes for a console, and whether it may go on talking.
#[derive(Debug, Default)]
pub struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outgoing: VecDeque<u8>,
    /// Bytes that the writer has taken and not sent.
    sending: usize,
    is_closed: bool,
    /// What was read last waits for the driver.
    is_untaken: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No thread can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More to send.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.lock().outgoing.extend(bytes);
        self.changed.notify_all();
    }

    /// Nothing more to send.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// The driver has taken what was read.
    pub(super) fn taken(&self) {
        self.lock().is_untaken = false;
        self.changed.notify_all();
    }

    /// For the reader: something was handed to the driver.
    pub(super) fn handed(&self) {
        self.lock().is_untaken = true;
    }

    /// For the reader: waits until it may read more. False: the console is closed.
    pub(super) fn may_read(&self) -> bool {
        let must_wait =
            |state: &mut State| !state.is_closed && (state.is_untaken || state.outgoing.len() + state.sending > PAUSE);
        let state = self.changed.wait_while(self.lock(), must_wait).unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    /// For the writer: what is to be sent next; `None` at the end.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let must_wait = |state: &mut State| state.outgoing.is_empty() && !state.is_closed;
        let mut state = self.changed.wait_while(self.lock(), must_wait).unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = std::mem::take(&mut state.outgoing).into();
        state.sending = bytes.len();
        (!bytes.is_empty()).then_some(bytes)
    }

    /// For the writer: it has sent that. True: there is nothing more now.
    pub(super) fn sent(&self) -> bool {
        let mut state = self.lock();
        state.sending = 0;
        self.changed.notify_all();
        state.outgoing.is_empty()
    }
}
