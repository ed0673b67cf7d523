//! Widths of lines, and words that don't belong in a finished text.
use super::Complaint;
use super::lexer::code_only;
use crate::workspace;

const WIDTH_MAX: usize = 120;

/// Left by work that is not finished. Written in two halves, so that this file may be checked too.
const UNFINISHED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("db", "g!("),
];

/// Ends of names that say nothing about what a thing is.
const EMPTY_NAMES: [&str; 6] = ["Manager", "Handler", "Helper", "Helpers", "Util", "Utils"];

/// Complains of wide lines, unfinished work, empty names and paths of this machine.
pub(super) fn check(path: &str, text: &str, complaints: &mut Vec<Complaint>) {
    let is_code = [".rs", ".sh", "/run", ".toml"].iter().any(|end| path.ends_with(end));
    let is_lock = path.ends_with(".lock");
    let here = workspace::root();
    let here =
        here.parent().filter(|parent| parent.components().count() > 1).map(|path| format!("{}/", path.display()));
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        let mut complain = |words: String| complaints.push(Complaint::at(path, number, words));
        let width = line.chars().count();
        // Neither a text literal nor a row of a table can be broken; rustfmt keeps everything else.
        let is_breakable = !line.contains('"') && !line.contains("! | ");
        if is_code && is_breakable && width > WIDTH_MAX {
            complain(format!("{width} wide: at most {WIDTH_MAX}"));
        }
        if let Some(word) = UNFINISHED.iter().find(|word| is_code && line.contains(*word)) {
            complain(format!("{word}: finish it, or open an issue and say here what is true today"));
        }
        if let Some(here) = here.as_ref().filter(|here| line.contains(here.as_str())) {
            complain(format!("{here}: a path of this machine"));
        }
        if !is_lock && line.ends_with([' ', '\t']) {
            complain("blanks at the end of the line".into());
        }
    }
    if path.ends_with(".rs") {
        names(path, &code_only(text), complaints);
    }
}

fn names(path: &str, code: &str, complaints: &mut Vec<Complaint>) {
    for (number, line) in code.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').skip_while(|word| !is_keyword(word));
        let name = words.nth(1).unwrap_or_default();
        if let Some(end) = EMPTY_NAMES.iter().find(|end| name.ends_with(*end)) {
            complaints.push(Complaint::at(path, number, format!("{name}: '{end}' says nothing; name what it is")));
        }
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "struct" | "enum" | "trait" | "type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        let mut complaints = Vec::new();
        check(path, text, &mut complaints);
        complaints.len()
    }

    #[test]
    fn each_rule_is_seen_once() {
        let rows = [
            ("a.rs", "fn f() {}\n".to_owned(), 0),
            ("a.rs", "x".repeat(121), 1),
            ("a.rs", format!("\"{}\"", "x".repeat(121)), 0),
            ("a.md", "x".repeat(121), 0),
            ("a.rs", "ü".repeat(120), 0),
            ("a.rs", format!("// {}: later", UNFINISHED[0]), 1),
            ("a.rs", format!("    {}\"x\")", UNFINISHED[3]), 1),
            ("a.rs", "pub struct PacketManager;".to_owned(), 1),
            ("a.rs", "// struct PacketManager".to_owned(), 0),
            ("a.rs", "let x = 1; ".to_owned(), 1),
        ];
        for (path, text, expected) in rows {
            assert_eq!(complaints(path, &text), expected, "{text}");
        }
    }
}
