//! Lines for whoever reads them. A reader that has gone (`midge status | head -1`) ends no command: where the standard
//! macros would panic, these say nothing.
use std::fmt;
use std::io::{self, Write};

/// A line on standard output.
macro_rules! say {
    ($($line:tt)*) => { $crate::terminal::out(format_args!("{}\n", format_args!($($line)*))) };
}

/// A line on standard error.
macro_rules! warn {
    ($($line:tt)*) => { $crate::terminal::err(format_args!("{}\n", format_args!($($line)*))) };
}

pub(crate) fn out(text: fmt::Arguments<'_>) {
    let _ = io::stdout().write_fmt(text);
}

pub(crate) fn err(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}
