//! Where the ids stand: beside which function of which file.
use crate::workspace::Tracked;
use std::collections::{BTreeMap, BTreeSet};

/// Beside code or beside a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Code,
    Tests,
}

/// Every id that is cited, with its places: `broker/src/publish.rs:retain`.
#[derive(Debug, Default)]
pub(super) struct Citations(BTreeMap<String, [BTreeSet<String>; 2]>);

static NOWHERE: BTreeSet<String> = BTreeSet::new();

impl Citations {
    pub(super) fn of(files: &[Tracked]) -> Self {
        let mut citations = Self::default();
        for file in files {
            if let Some(path) = file.path.strip_prefix("crates/").filter(|path| path.ends_with(".rs")) {
                citations.read(path, &file.text);
            }
        }
        citations
    }

    pub(super) fn of_statement(&self, id: &str, side: Side) -> &BTreeSet<String> {
        self.0.get(id).map_or(&NOWHERE, |places| &places[side as usize])
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn read(&mut self, path: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let mut in_tests = path.contains("/tests/") || path.ends_with("tests.rs");
        for (at, line) in lines.iter().enumerate() {
            in_tests |= line.starts_with("#[cfg(test)]");
            let side = if in_tests { Side::Tests } else { Side::Code };
            for id in ids(line) {
                let place = match name(&lines, at) {
                    Some(name) => format!("{path}:{name}"),
                    None => path.to_owned(),
                };
                self.0.entry(id).or_default()[side as usize].insert(place);
            }
        }
    }
}

/// Ids such as `MQTT-3.3.1-2` in brackets; `MQTT311-3.1.2-22` is one of 3.1.1.
fn ids(line: &str) -> impl Iterator<Item = String> {
    line.split("[MQTT").skip(1).filter_map(|rest| {
        let (id, _) = rest.split_once(']')?;
        let (old, id) = match id.strip_prefix("311-") {
            Some(id) => ("311-", id),
            None => ("", id.strip_prefix('-')?),
        };
        let is_id = id.contains('-') && id.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
        is_id.then(|| format!("{old}{id}"))
    })
}

/// What a citation stands beside: the item below a comment of its own, else the function around it.
pub(super) fn name<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let line = lines.get(at)?;
    let (indent, text) = (indent(line), line.trim_start());
    if text.starts_with("//!") {
        return None;
    }
    if text.starts_with("///") || (indent == 0 && text.starts_with("//")) {
        let is_item = |line: &&&str| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#');
        return lines.get(at..)?.iter().find(is_item).and_then(|line| item(line));
    }
    let around = |line: &&&str| function(line).is_some() && (self::indent(line) < indent || line.len() == text.len());
    lines.get(..=at)?.iter().rev().find(around).and_then(|line| function(line))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn function(line: &str) -> Option<&str> {
    let words = line.trim_start();
    if words.starts_with("//") {
        return None;
    }
    let (before, rest) = words.split_once("fn ")?;
    let is_start = before.is_empty() || before.ends_with(' ');
    Some(ident(rest)).filter(|name| is_start && !name.is_empty())
}

/// The name of a function, a type, a constant, a variant or a field.
fn item(line: &str) -> Option<&str> {
    let words = line.trim_start().split([' ', '(']).map(ident);
    let is_name = |word: &&str| {
        !word.is_empty() && !matches!(*word, "pub" | "crate" | "fn" | "const" | "struct" | "enum" | "type" | "mod")
    };
    words.into_iter().find(is_name)
}

fn ident(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_their_brackets() {
        let line = "as [MQTT-3.3.1-2] and [MQTT-4.7.1-1] and [MQTT311-3.1.2-22], not [MQTT-x] or MQTT-1.2-3";
        assert_eq!(ids(line).collect::<Vec<_>>(), ["3.3.1-2", "4.7.1-1", "311-3.1.2-22"]);
    }

    #[test]
    fn a_citation_stands_beside_what_is_below_or_around_it() {
        let rows = [
            ("//! [MQTT-1-1]\nfn f() {}", "a/src/b.rs"),
            ("/// [MQTT-1-1]\n#[inline]\npub(crate) fn f() {}", "a/src/b.rs:f"),
            ("enum E {\n    /// [MQTT-1-1]\n    One(u8),\n}", "a/src/b.rs:One"),
            ("fn f() {\n    g(); // [MQTT-1-1]\n}\nfn g() {}", "a/src/b.rs:f"),
            ("fn f() {\n    let x = 1;\n    // [MQTT-1-1]\n    fn g() {}\n}", "a/src/b.rs:f"),
            ("fn f() {} // [MQTT-1-1]", "a/src/b.rs:f"),
            ("// [MQTT-1-1]\nconst TABLE: &[u8] = &[];", "a/src/b.rs:TABLE"),
        ];
        for (text, expected) in rows {
            let mut citations = Citations::default();
            citations.read("a/src/b.rs", text);
            let places: Vec<_> = citations.of_statement("1-1", Side::Code).iter().collect();
            assert_eq!(places, [expected], "{text}");
        }
    }

    #[test]
    fn tests_are_told_from_code() {
        let mut citations = Citations::default();
        citations.read("a/src/b.rs", "fn f() {} // [MQTT-1-1]\n#[cfg(test)]\nmod tests {\n    // [MQTT-1-2]\n}");
        assert_eq!(citations.of_statement("1-1", Side::Code).len(), 1);
        assert_eq!(citations.of_statement("1-2", Side::Tests).len(), 1);
        assert_eq!(citations.of_statement("1-2", Side::Code).len(), 0);
    }
}
