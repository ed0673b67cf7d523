//! What is wrong with a file: every problem with its place, for people and for programs.
use super::Config;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// More than this many problems are not listed: the file is of another kind.
const PROBLEMS_MAX: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The site does not start with it.
    Error,
    /// Accepted, but means something else here than it may seem.
    Note,
}

/// One place in a file and what is to be said about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// Which file of [`Report::sources`].
    #[serde(skip)]
    pub source: usize,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0: the file as a whole.
    pub column: usize,
    /// The key or directive concerned, as `section.key`; may be empty.
    pub key: String,
    /// What was found, and what to write.
    pub message: String,
    /// Whether it stops the start.
    pub severity: Severity,
}

/// What a line of a mosquitto.conf means here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same as in mosquitto.
    Honoured,
    /// Something else that comes near, or nothing that would be missed; the words say what.
    Mapped,
    /// Nothing: the site does not start with it; the words say why.
    NotSupported,
}

/// One line of a mosquitto.conf, and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LineReport {
    /// The file it stands in.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// Without its value, which may be a password.
    pub directive: String,
    /// Its meaning here.
    pub verdict: Verdict,
    /// The key that says the same in a TOML file.
    pub key: Option<String>,
    /// What differs, or why it is not supported.
    pub words: Vec<String>,
}

impl fmt::Display for LineReport {
    /// `FILE:LINE: directive: honoured (section.key): words`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Honoured => "honoured",
            Verdict::Mapped => "mapped",
            Verdict::NotSupported => "not supported",
        };
        write!(f, "{}:{}: {}: {verdict}", self.file, self.line, self.directive)?;
        if let Some(key) = &self.key {
            write!(f, " ({key})")?;
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, ": {}", self.words.join("; ")) }
    }
}

/// A line that was understood, or was to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub(super) source: usize,
    pub(super) line: usize,
    pub(super) directive: String,
    /// Of a TOML file, that says the same.
    pub(super) key: Option<String>,
    /// `listener` lines up to there.
    pub(super) listener: usize,
    /// The comments right above.
    pub(super) comments: Vec<String>,
}

/// What is in a file that a configuration names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// User names and passwords.
    Passwords,
    /// Access rules.
    Rules,
    /// A listener's certificate.
    Certificate,
    /// A listener's key.
    Key,
    /// Certificates of authorities, or a directory of such files.
    Authorities,
    /// Revocation lists.
    Revoked,
}

/// A file that a configuration names, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mention {
    /// Which file of [`Report::sources`].
    pub source: usize,
    /// From 1.
    pub line: usize,
    /// The key or directive that names it.
    pub key: String,
    /// What ought to be in it.
    pub kind: FileKind,
    /// The file that is named.
    pub path: PathBuf,
}

/// The outcome of a check.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The file that was checked, then those that it includes.
    sources: Vec<PathBuf>,
    config: Box<Config>,
    problems: Vec<Problem>,
    left_out: usize,
    heard: Vec<Heard>,
    named: Box<Named>,
}

/// What stands where.
#[derive(Clone, PartialEq, Debug, Default)]
struct Named {
    mentions: Vec<Mention>,
    /// Keys of a TOML file with their lines, in the order in which they were read.
    said: Vec<(String, usize)>,
}

impl Report {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            sources: vec![path.to_owned()],
            config: Box::default(),
            problems: Vec::new(),
            left_out: 0,
            heard: Vec::new(),
            named: Box::default(),
        }
    }

    /// Another file that is part of the configuration; its number.
    pub(super) fn add_source(&mut self, path: &Path) -> usize {
        self.sources.push(path.to_owned());
        self.sources.len() - 1
    }

    pub(super) fn heard(&mut self, heard: Heard) {
        self.heard.push(heard);
    }

    /// The keys of a TOML file with their lines.
    pub(super) fn set_said(&mut self, said: Vec<(String, usize)>) {
        self.named.said = said;
    }

    /// `FILE:LINE` where a key stands, or the first one of a section; `nth` if it may stand several times.
    pub(crate) fn place_of(&self, key: &str, nth: usize) -> Option<String> {
        let is_it = |said: &str| said == key || said.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        let heard = self.heard.iter().filter_map(|heard| Some((heard.key.as_deref()?, heard.source, heard.line)));
        let said = self.named.said.iter().map(|(said, line)| (said.as_str(), 0, *line));
        let (_, source, line) = heard.chain(said).filter(|(said, ..)| is_it(said)).nth(nth)?;
        Some(format!("{}:{line}", self.sources.get(source)?.display()))
    }

    pub(super) fn mention(&mut self, mention: Mention) {
        self.named.mentions.push(mention);
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::refused(path, &format!("can't be read: {error}; name another with -c FILE"))
    }

    pub(super) fn refused(path: &Path, message: &str) -> Self {
        let mut report = Self::new(path);
        let message = message.to_owned();
        report.tell(Problem { source: 0, line: 0, column: 0, key: String::new(), message, severity: Severity::Error });
        report
    }

    pub(super) fn not_text(path: &Path, bytes: &[u8], at: usize) -> Self {
        let before = String::from_utf8_lossy(&bytes[..at]);
        let (line, column) = place(&before, before.len());
        let mut report = Self::new(path);
        let message = format!("the byte 0x{:02x} is not UTF-8; save the file as UTF-8 text", bytes[at]);
        report.tell(Problem { source: 0, line, column, key: String::new(), message, severity: Severity::Error });
        report
    }

    /// An error at a byte offset of `text`.
    pub(super) fn error_at(&mut self, text: &str, offset: usize, key: String, message: String) {
        // The place of what will not be listed is not searched for: a hostile file must not cost quadratic time.
        let (line, column) = if self.problems.len() < PROBLEMS_MAX { place(text, offset) } else { (0, 0) };
        self.tell(Problem { source: 0, line, column, key, message, severity: Severity::Error });
    }

    pub(crate) fn tell(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Sets the configuration that was read and brings the problems into the order of the file.
    pub(super) fn finish(mut self, config: Config) -> Self {
        *self.config = config;
        self.sort();
        self
    }

    pub(crate) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| (problem.source, problem.line, problem.column));
    }

    /// The configuration as far as it could be read.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn all_heard(&self) -> &[Heard] {
        &self.heard
    }

    /// The files that the configuration names, which a check may look into.
    pub fn mentions(&self) -> &[Mention] {
        &self.named.mentions
    }

    /// The file that was checked, then those that it includes.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// What becomes of each line of a mosquitto.conf, in the order in which they count; empty for a TOML file.
    pub fn lines(&self) -> Vec<LineReport> {
        self.heard.iter().map(|heard| self.line(heard)).collect()
    }

    fn line(&self, heard: &Heard) -> LineReport {
        let of_line =
            || self.problems.iter().filter(|problem| (problem.source, problem.line) == (heard.source, heard.line));
        let verdict = if of_line().any(|problem| problem.severity == Severity::Error) {
            Verdict::NotSupported
        } else if of_line().next().is_some() {
            Verdict::Mapped
        } else {
            Verdict::Honoured
        };
        let words = of_line().map(|problem| match problem.key == heard.directive {
            true => problem.message.clone(),
            false => format!("{}: {}", problem.key, problem.message),
        });
        LineReport {
            file: self.sources.get(heard.source).map(|path| path.display().to_string()).unwrap_or_default(),
            line: heard.line,
            directive: heard.directive.clone(),
            verdict,
            key: heard.key.clone(),
            words: words.collect(),
        }
    }

    /// It was read from where its path says.
    pub(super) fn of_file(mut self) -> Self {
        self.config.source = Some(self.path().to_owned());
        self
    }

    /// Whether a site may start with this file.
    pub fn is_ok(&self) -> bool {
        self.left_out == 0 && self.problems.iter().all(|problem| problem.severity == Severity::Note)
    }

    /// Errors and notes, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file that was checked.
    pub fn path(&self) -> &Path {
        self.sources.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The configuration, if a site may start with it.
    ///
    /// # Errors
    /// The report itself, whose `Display` lists what is wrong.
    pub fn into_config(self) -> Result<Config, Self> {
        if self.is_ok() { Ok(*self.config) } else { Err(self) }
    }

    /// For `midge check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        let problem = |problem: &Problem| {
            let mut told = serde_json::json!(problem);
            if let (Some(path), Some(fields)) = (self.sources.get(problem.source), told.as_object_mut()) {
                fields.insert("file".to_owned(), path.display().to_string().into());
            }
            told
        };
        serde_json::json!({
            "file": self.path().display().to_string(),
            "ok": self.is_ok(),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
            "left_out": self.left_out,
            "lines": self.lines(),
        })
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    /// One line per problem: `FILE:LINE:COLUMN: key: what was found, what to write`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let path = self.sources.get(problem.source).map_or(self.path(), PathBuf::as_path);
            write!(f, "{}:", path.display())?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            if problem.severity == Severity::Note {
                f.write_str(" note:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}", problem.message)?;
        }
        if self.left_out > 0 {
            write!(f, "\n{}: {} more problems are not listed", self.path().display(), self.left_out)?;
        }
        Ok(())
    }
}

/// Line and column, both from 1, of a byte offset; the column counts characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.bytes().filter(|&byte| byte == b'\n').count(), 1 + before[start..].chars().count())
}

/// What was found, short enough for a message and on one line.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word of other lengths can't be near, and a hostile one must not cost quadratic time.
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let near = known.into_iter().map(|candidate| (distance(word.as_bytes(), candidate.as_bytes()), candidate)).min()?;
    (near.0 <= 1 + near.1.len() / 4).then_some(near.1)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [("", "abc", 3), ("name", "naem", 1), ("mailbox", "mailboxes", 2), ("a", "b", 1)] {
            assert_eq!(distance(from.as_bytes(), to.as_bytes()), expected, "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["name", "data", "sync", "mailbox"];
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("Mailboxes", known), Some("mailbox"));
        assert_eq!(nearest("mailboxs", known), Some("mailbox"));
        assert_eq!(nearest("temperature", known), None);
        assert_eq!(nearest(&"n".repeat(1_000_000), known), None);
    }

    #[test]
    fn places_count_characters() {
        let text = "a\nöä = 1\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, text.find('=').unwrap()), (2, 4));
        assert_eq!(place(text, 3), (2, 1));
        assert_eq!(place(text, 1_000), (3, 1));
    }
}
