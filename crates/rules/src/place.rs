//! Where something stands in a script.
use core::fmt;

/// Line and column, both from 1; a column counts characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 1.
    pub column: u32,
}

impl Place {
    /// The first character of a script.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place after `byte`.
    pub(crate) fn after(self, byte: u8) -> Self {
        match byte {
            b'\n' => Self { line: self.line.saturating_add(1), column: 1 },
            // The bytes that continue a UTF-8 character take no column of their own.
            0x80..=0xbf => self,
            _ => Self { column: self.column.saturating_add(1), ..self },
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::START
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
