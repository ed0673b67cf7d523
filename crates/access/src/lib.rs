//! Who may do what: password files and access control lists, in mosquitto's formats and with its meaning.
//!
//! For: the host, which reads the files and asks. Never: files, clocks, randomness, connections, who is connected.
//! Start reading at [`Acl`] (which line decides), [`Passwords`] (who is who) and [`scram`] (who proves it).
#![no_std]
extern crate alloc;

mod acl;
mod password;
pub mod scram;

pub use acl::{Access, Acl, Decision, Reason, Who};
pub use password::{Entry, Passwords, Scheme, check_user_name};

use alloc::string::String;
use core::fmt;

/// What is wrong with a line of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// What was found, and what to write.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// More faults than this are not listed: the file is of another kind.
const FAULTS_MAX: usize = 50;

/// A word of the file, short enough for a message and on one line.
fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    alloc::format!("{shown:?}")
}
