//! How a verb ends when it can't do what was asked: words for the person, a code for the script.
use std::fmt;
use std::process::ExitCode;

/// Why a verb ended early. Its text says what, where, and what next.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Ends the process with 1.
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self::with_code(1, text)
    }

    /// Ends the process with a code of its own; an empty text prints nothing.
    pub(crate) fn with_code(code: u8, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// Leaves only the code, for `--quiet`.
    pub(crate) fn silent(self) -> Self {
        Self { text: String::new(), ..self }
    }

    /// Only the words.
    pub(crate) fn into_words(self) -> String {
        self.text
    }

    /// Tells the person and becomes the code.
    pub(crate) fn report(self) -> ExitCode {
        if !self.text.is_empty() {
            warn!("Error: {}", self.text);
        }
        ExitCode::from(self.code)
    }
}
