//! The tables of `docs/configuration.md`, made from the tables that read the file: they can't disagree.
use super::LIMITS;
use super::keys::{NOT_BUILT, SECTIONS, Section, TLS_SECTION};
use super::limits::Unit;
use super::native::header;
use std::fmt::Write as _;

/// Markdown that describes every key: what it takes, what holds without it, what it is for.
pub fn reference() -> String {
    let mut text = String::new();
    for part in SECTIONS {
        section(&mut text, part);
        if part.name == "limits" {
            limits(&mut text);
        }
        text.push('\n');
        if part.name == "listener" {
            section(&mut text, &TLS_SECTION);
            text.push('\n');
        }
    }
    row(&mut text, format_args!("### Not built yet\n\nRefused with this reason:\n"));
    for later in NOT_BUILT {
        let name = if later.section.is_empty() {
            format!("[{}]", later.name)
        } else {
            format!("{}.{}", later.section, later.name)
        };
        row(&mut text, format_args!("- `{name}`: {}", later.reason));
    }
    text
}

fn section(text: &mut String, section: &Section) {
    row(text, format_args!("### `{}`\n\n{}\n", header(section), section.doc));
    row(text, format_args!("| key | takes | default | for |\n|---|---|---|---|"));
    for key in section.keys {
        let takes = format!("{}, as `{}`", key.takes, key.example);
        row(text, format_args!("| `{}` | {takes} | {} | {} |", key.name, key.default, key.doc));
    }
}

fn limits(text: &mut String) {
    for limit in LIMITS {
        let quote = if limit.unit == Unit::Count { "" } else { "\"" };
        let show = |amount| format!("{quote}{}{quote}", limit.unit.show(amount));
        let (least, most, default) = (show(limit.least), show(limit.most), show(limit.default));
        let doc = limit.doc.trim();
        row(text, format_args!("| `{}` | `{least}` to `{most}` | `{default}` | {doc} |", limit.name));
    }
}

fn row(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    const BEGIN: &str = "<!-- made by `cargo test -p midge`, see crates/host/src/config/reference.rs -->\n\n";
    const END: &str = "\n<!-- end of what is made -->";

    /// `MIDGE_UPDATE_DOCS=1 cargo test -p midge reference` brings the document up to date.
    #[test]
    fn the_document_says_what_the_code_does() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = document.split_once(BEGIN).expect("the begin of the made part");
        let (made, after) = rest.split_once(END).expect("the end of the made part");
        if made == reference() {
            return;
        }
        assert!(std::env::var_os("MIDGE_UPDATE_DOCS").is_some(), "out of date: run with MIDGE_UPDATE_DOCS=1");
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    }

    #[test]
    fn every_example_of_the_document_is_accepted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let document = std::fs::read_to_string(path).unwrap();
        let mut examples = 0;
        for (language, name) in [("toml", "midge.toml"), ("conf", "mosquitto.conf")] {
            for part in document.split(&format!("```{language}\n")).skip(1) {
                let example = part.split("```").next().unwrap();
                let report = crate::config::check(example.as_bytes(), &PathBuf::from(name));
                assert!(report.is_ok(), "{report}\n{example}");
                examples += 1;
            }
        }
        assert!(examples >= 3, "the document has examples");
    }
}
