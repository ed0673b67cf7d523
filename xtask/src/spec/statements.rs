//! The list of statements as it is written.

/// One statement of the standard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// `3.3.1-2`, or `311-3.1.2-22` for one of 3.1.1.
    pub(super) id: String,
    pub(super) who: Who,
    pub(super) asks: String,
    /// Why it has no code or no test.
    pub(super) why: Option<String>,
    /// How it can be broken to see its tests fail.
    pub(super) broken: Option<Break>,
    /// The heading above it.
    pub(super) part: String,
}

/// A piece of code and what takes its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Break {
    pub(super) words: String,
    /// From the root.
    pub(super) file: String,
    pub(super) right: String,
    pub(super) wrong: String,
}

impl Break {
    /// The next of file, right and wrong; false if all are there.
    fn add(&mut self, line: &str) -> bool {
        let missing = [&mut self.file, &mut self.right, &mut self.wrong].into_iter().find(|part| part.is_empty());
        missing.map(|part| line.clone_into(part)).is_some()
    }
}

/// Whom it binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Server,
    Client,
    Both,
}

impl Who {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Server, Self::Client, Self::Both].into_iter().find(|who| who.word() == word)
    }
}

/// Reads the list, or names the line that is wrong.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, String> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut part = String::new();
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        let wrong = |what: &str| Err(format!("statements.txt:{number}: {what}"));
        if let Some(heading) = line.strip_prefix("## ") {
            part = heading.to_owned();
        } else if line.is_empty() || line.starts_with('#') {
        } else if let Some(code) = line.strip_prefix("        ") {
            let broken = statements.last_mut().and_then(|last| last.broken.as_mut());
            if !broken.is_some_and(|broken| broken.add(code)) {
                return wrong("file, code and wrong code belong to 'broken: '");
            }
        } else if let Some(note) = line.strip_prefix("    ") {
            let Some(last) = statements.last_mut() else { return wrong("a note before the first statement") };
            match note.split_once(": ") {
                Some(("why", why)) => last.why = Some(why.to_owned()),
                Some(("broken", broken)) => {
                    last.broken = Some(Break { words: broken.to_owned(), ..Break::default() });
                }
                _ => return wrong("a note begins with 'why: ' or 'broken: '"),
            }
        } else {
            let mut words = line.splitn(3, ' ');
            let (Some(id), Some(who), Some(asks)) = (words.next(), words.next().and_then(Who::parse), words.next())
            else {
                return wrong("write: ID server|client|both WHAT");
            };
            if statements.iter().any(|statement| statement.id == id) {
                return wrong("this id was there before");
            }
            let (id, asks, part) = (id.to_owned(), asks.to_owned(), part.clone());
            statements.push(Statement { id, who, asks, why: None, broken: None, part });
        }
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let rows = [
            ("1-1 server One.\n1-1 both Two.\n", "statements.txt:2: this id was there before"),
            ("1-1 nobody One.\n", "statements.txt:1: write: ID server|client|both WHAT"),
            ("    why: x\n", "statements.txt:1: a note before the first statement"),
            ("1-1 server One.\n        a\n", "statements.txt:2: file, code and wrong code belong to 'broken: '"),
            ("1-1 server One.\n    because\n", "statements.txt:2: a note begins with 'why: ' or 'broken: '"),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }
}
