//! Statements of the standard by their ids, `[MQTT-3.3.1-2]`: cited beside code, and beside a test. The list of all of
//! them is `spec/statements.txt`; `docs/conformance.md` is made of it and of the citations, and of the quirks of the
//! ESP8266 broker and theirs.
mod breaks;
mod citations;
mod paper;
mod quirks;
mod statements;

use crate::workspace::{self, Tracked};
use citations::{Citations, Side};
use quirks::Quirks;
use statements::{Statement, Who};

/// Where the table is kept, from the root.
const PAPER: &str = "docs/conformance.md";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if there is a gap.
    #[arg(long)]
    strict: bool,
    /// Write docs/conformance.md anew.
    #[arg(long)]
    write: bool,
    /// Break code that statements ask for, in a copy of the work tree, and see that their tests fail.
    #[arg(long = "break")]
    breaks: bool,
}

impl Args {
    /// What every commit is held to.
    pub(crate) fn strict() -> Self {
        Self { strict: true, write: false, breaks: false }
    }
}

/// Lists the gaps; true unless they are to count.
pub(crate) fn run(args: &Args) -> bool {
    if args.breaks {
        let noticed = workspace::tracked().and_then(|files| breaks::run(&Look::at(&files)?, &files));
        return noticed.unwrap_or_else(|error| {
            println!("{error}");
            false
        });
    }
    let gaps = workspace::tracked().and_then(|files| {
        let look = Look::at(&files)?;
        if args.write {
            std::fs::write(workspace::root().join(PAPER), look.paper()).map_err(|error| format!("{PAPER}: {error}"))?;
        }
        Ok((look.gaps(), look.statements.len(), look.quirks.len()))
    });
    let (gaps, count, quirks) = match gaps {
        Ok(found) => found,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    gaps.iter().for_each(|gap| println!("{gap}"));
    println!("spec: {count} statements, {quirks} quirks, {} gaps", gaps.len());
    gaps.is_empty() || !args.strict
}

/// Says so if the table is not what the code and the list make of it.
///
/// # Errors
/// The list itself cannot be read.
pub(crate) fn is_up_to_date(files: &[Tracked]) -> Result<bool, String> {
    let paper = Look::at(files)?.paper();
    Ok(files.iter().any(|file| file.path == PAPER && file.text == paper))
}

/// All statements, and who cites them.
struct Look {
    statements: Vec<Statement>,
    citations: Citations,
    quirks: Quirks,
}

impl Look {
    fn at(files: &[Tracked]) -> Result<Self, String> {
        let statements = statements::parse(include_str!("spec/statements.txt"))?;
        let quirks = Quirks::of(include_str!("spec/quirks.txt"), files)?;
        Ok(Self { statements, citations: Citations::of(files), quirks })
    }

    fn paper(&self) -> String {
        let mut page = paper::write(&self.statements, &self.citations);
        self.quirks.write(&mut page);
        page
    }

    /// Statements without code or test or reason, and citations of what is no statement.
    fn gaps(&self) -> Vec<String> {
        let missing = self.statements.iter().filter_map(|statement| {
            let there = |side| !self.citations.of_statement(&statement.id, side).is_empty();
            let missing = gap(statement, there(Side::Code), there(Side::Tests))?;
            Some(format!("{}: {missing} ({})", statement.id, statement.asks))
        });
        let known = |id: &str| self.statements.iter().any(|statement| statement.id == id);
        let unknown =
            self.citations.ids().filter(|id| !known(id)).map(|id| format!("{id}: there is no such statement"));
        missing.chain(unknown).chain(self.quirks.gaps()).collect()
    }
}

/// What is missing. Whom only clients are bound by needs nothing, but where it is cited at all.
fn gap(statement: &Statement, in_code: bool, in_tests: bool) -> Option<&'static str> {
    if statement.why.is_some() {
        return None;
    }
    match (in_code, in_tests) {
        (true, true) => None,
        (true, false) => Some("no test cites it"),
        (false, true) => Some("no code cites it"),
        (false, false) if statement.who == Who::Client => None,
        (false, false) => Some("neither code nor test cites it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(code: &str, test: &str) -> Look {
        let statements = "## Part\n1-1 server One.\n1-2 client Two.\n1-3 both Three.\n    why: Because.\n";
        let file = |path: &str, text: &str| Tracked { path: path.into(), text: text.into() };
        let files = [file("crates/a/src/lib.rs", code), file("crates/a/tests/b.rs", test)];
        let quirks = Quirks::of("", &files).unwrap();
        Look { statements: statements::parse(statements).unwrap(), citations: Citations::of(&files), quirks }
    }

    #[test]
    fn each_kind_of_gap_is_found() {
        let gaps = |code, test| look(code, test).gaps();
        assert_eq!(gaps("fn f() {} // [MQTT-1-1]", "fn t() {} // [MQTT-1-1]"), Vec::<String>::new());
        assert_eq!(gaps("fn f() {} // [MQTT-1-1]", ""), ["1-1: no test cites it (One.)"]);
        assert_eq!(gaps("", "fn t() {} // [MQTT-1-1]"), ["1-1: no code cites it (One.)"]);
        assert_eq!(gaps("", ""), ["1-1: neither code nor test cites it (One.)"]);
        let both = "// [MQTT-1-1] [MQTT-1-2] [MQTT-9-9]";
        assert_eq!(gaps(both, "// [MQTT-1-1]"), ["1-2: no test cites it (Two.)", "9-9: there is no such statement"]);
    }

    #[test]
    fn the_list_can_be_read_and_its_table_is_the_one_that_is_kept() {
        let files = workspace::tracked().unwrap();
        assert!(Look::at(&files).unwrap().statements.len() > 250);
        assert!(is_up_to_date(&files).unwrap(), "run: cargo xtask spec --write");
    }
}
