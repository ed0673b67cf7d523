//! Who may come in and do what: the rules read from files, the questions of the broker answered, slow ones elsewhere.
//!
//! The driver owns a [`Gate`]. What takes no time it answers at once; a password is checked by the threads of
//! `workers`, so many at a time for each address.
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
