//! What is wrong with a script, for the person who wrote it.
use crate::place::Place;
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt::{self, Write};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It works, and probably not as meant.
    Warning,
    /// The script cannot run.
    Error,
}

/// One finding in a script's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it begins.
    pub place: Place,
    /// How many characters it spans in its line, at least one.
    pub width: u32,
    /// What was found.
    pub message: Cow<'static, str>,
    /// What to write instead.
    pub hint: Option<Cow<'static, str>>,
    /// The old firmware's words for it: `Error (…) at >>…`.
    pub classic: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(place: Place, width: u32, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, place, width: width.max(1), message, hint: None, classic: None }
    }

    pub(crate) fn warning(place: Place, width: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, width, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Several lines with the script's line and a caret below it:
    ///
    /// ```text
    /// error: 'then' expected
    ///  --> pump.midge:3:18
    ///   |
    /// 3 |    if $level > 20 do
    ///   |                   ^^
    ///   = hint: write: if CONDITION then … endif
    /// ```
    pub fn render(&self, source: &[u8], name: &str) -> String {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        let mut out = String::new();
        let _ = writeln!(out, "{severity}: {}\n{margin}--> {name}:{}", self.message, self.place);
        let index = self.place.line.saturating_sub(1) as usize;
        if let Some(line) = source.split(|&byte| byte == b'\n').nth(index) {
            let (shown, before, under) = caret_line(line, self.place.column, self.width);
            let _ = writeln!(out, "{margin} |\n{number} | {shown}\n{margin} | {before}{under}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{margin} = hint: {hint}");
        }
        out
    }
}

/// The part of a line that is shown, the blanks before the carets, and the carets.
fn caret_line(line: &[u8], column: u32, width: u32) -> (String, String, String) {
    /// Characters shown of a line; the finding is among them.
    const SHOWN: usize = 120;
    let line = String::from_utf8_lossy(line);
    let at = column.saturating_sub(1) as usize;
    let skip = at.saturating_sub(SHOWN / 2);
    let visible = |character: char| if character.is_control() && character != '\t' { '·' } else { character };
    let shown: String = line.trim_end().chars().skip(skip).take(SHOWN).map(visible).collect();
    let before: String = line
        .chars()
        .chain(core::iter::repeat(' '))
        .skip(skip)
        .take(at - skip)
        .map(|character| if character == '\t' { '\t' } else { ' ' })
        .collect();
    let room = shown.chars().count().saturating_sub(at - skip).max(1);
    let under = "^".repeat((width as usize).clamp(1, room));
    (shown, before, under)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity}: {}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
