//! Who may come in and do what: the rules read from files, the questions of the broker answered, slow ones elsewhere.
//!
//! The driver owns a [`Gate`]. What takes no time it answers at once; a password is checked by the threads of
//! `workers`, so many at a time for each address. [`Reloader`] reads the files again, on the thread of whoever asks.
mod files;
mod gate;
mod proof;
mod realm;
mod workers;

pub use ::access::scram;
pub use ::access::{Access, Acl, Decision, Reason, Scheme, Who, check_user_name};
pub use files::{hash_plain, password_line, read_text, replace_user, write_private};
pub use gate::{Admitted, Answer, Checked, Counts, Door, Gate, Guest, Word};
pub use proof::{Challenge, Proving};
pub use realm::{LoadError, Realm, Realms};
pub(crate) use realm::{check_passwords, check_rules};

use crate::config::Listener;
use crate::driver::{Bus, Command};

/// Reads the files again when somebody asks for it.
#[derive(Clone, Debug)]
pub struct Reloader {
    listeners: Vec<Listener>,
    bus: Bus,
}

impl Reloader {
    pub(crate) fn new(listeners: &[Listener], bus: Bus) -> Self {
        Self { listeners: listeners.to_vec(), bus }
    }

    /// Puts what the files say now into force. Returns once they are read; the driver acts on them a moment later.
    ///
    /// # Errors
    /// When one of them can't be read or is wrong: all the old rules stay in force, and the log says so too.
    pub fn reload(&self) -> Result<(), LoadError> {
        let loaded = Realms::load(&self.listeners);
        let told = loaded.as_ref().map(|_| ()).map_err(Clone::clone);
        self.bus.send(Command::Rules(loaded));
        told
    }
}
