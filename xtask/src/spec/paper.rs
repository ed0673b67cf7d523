//! The table for readers.
use super::citations::{Citations, Side};
use super::statements::{Break, Statement, Who};
use std::collections::BTreeSet;
use std::fmt::Write;

const HEAD: &str = "\
# Conformance

Every normative statement of MQTT 5.0 in a few words of our own, and those of 3.1.1 that say something else; where midge
does it, and which tests cite it. `cargo xtask spec --write` makes this page from `xtask/src/spec/statements.txt` and
the ids in code and tests; `cargo xtask spec --strict` fails if a statement has neither both nor a reason. 3.1 has no
ids: what it says otherwise is in the tests of [the codec](../crates/mqtt/tests/codec.rs) and of
[sessions](../crates/broker/tests/stories/session.rs).

Files are below `crates/`.
";

const TABLE: &str = "| id | binds | asks for | code | tests |\n|---|---|---|---|---|\n";

/// The whole page.
pub(super) fn write(statements: &[Statement], citations: &Citations) -> String {
    let mut page = String::from(HEAD);
    summary(&mut page, statements, citations);
    broken(&mut page, statements);
    let mut part = "";
    for statement in statements {
        if statement.part != part {
            part = &statement.part;
            let _ = write!(page, "\n## {part}\n\n{TABLE}");
        }
        row(&mut page, statement, citations);
    }
    page
}

fn summary(page: &mut String, statements: &[Statement], citations: &Citations) {
    let cited = |statement: &&Statement| {
        [Side::Code, Side::Tests].iter().all(|side| !citations.of_statement(&statement.id, *side).is_empty())
    };
    let (all, proven) = (statements.len(), statements.iter().filter(cited).count());
    let reasoned = statements.iter().filter(|statement| !cited(statement) && statement.why.is_some()).count();
    let _ = writeln!(
        page,
        "\n{all} statements: {proven} with code and tests, {reasoned} with a reason instead, {} that bind clients only.",
        all - proven - reasoned
    );
}

fn broken(page: &mut String, statements: &[Statement]) {
    page.push_str("\n## Shown by breaking it\n\n");
    page.push_str("`cargo xtask spec --break` replaces each of these pieces of code in a copy of the work tree, and fails unless\n");
    page.push_str("tests that cite the statement do.\n\n");
    page.push_str("| id | what is wrong then | in | code | replaced by |\n|---|---|---|---|---|\n");
    for statement in statements {
        if let Some(Break { words, file, right, wrong }) = &statement.broken {
            let file = file.trim_start_matches("crates/");
            let (right, wrong) = (code(right), code(wrong));
            let _ = writeln!(page, "| {} | {words} | `{file}` | {right} | {wrong} |", statement.id);
        }
    }
}

/// In a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn row(page: &mut String, statement: &Statement, citations: &Citations) {
    let code = places(citations.of_statement(&statement.id, Side::Code));
    let tests = places(citations.of_statement(&statement.id, Side::Tests));
    let (id, who, asks) = (&statement.id, statement.who.word(), &statement.asks);
    let why = match &statement.why {
        Some(why) => why,
        None if statement.who == Who::Client && code.is_empty() && tests.is_empty() => "binds clients only",
        None => "",
    };
    let blank = if code.is_empty() || why.is_empty() { "" } else { "; " };
    let _ = writeln!(page, "| {id} | {who} | {asks} | {code}{blank}{why} | {tests} |");
}

fn places(places: &BTreeSet<String>) -> String {
    places.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(", ")
}
