//! The quirk policy of the ESP8266 broker: each row has its tests, which cite it as `[quirk:NAME]`, or as
//! `[quirk:NAME/compat]` and `[quirk:NAME/midge]`.
use super::citations;
use crate::workspace::Tracked;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const HEAD: &str = "
## Quirks of esp_uMQTT_broker

What scripts and people may have got used to: K is kept in the dialect `compat`, F fixed, O kept there with a warning of
`midge script check` and a switch. See [from-esp-umqtt.md](from-esp-umqtt.md).

| quirk | policy | what | tests |
|---|---|---|---|
";

/// One row of the policy.
#[derive(Debug, PartialEq, Eq)]
struct Quirk {
    name: String,
    policy: String,
    what: String,
    /// How its tests cite it.
    wanted: Vec<String>,
}

/// All rows, and which tests cite them.
#[derive(Debug)]
pub(super) struct Quirks {
    rows: Vec<Quirk>,
    cited: BTreeMap<String, BTreeSet<String>>,
}

impl Quirks {
    /// # Errors
    /// Names the line that is wrong.
    pub(super) fn of(list: &str, files: &[Tracked]) -> Result<Self, String> {
        let mut cited: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in files.iter().filter(|file| file.path.contains("/tests/") && file.path.ends_with(".rs")) {
            let lines: Vec<&str> = file.text.lines().collect();
            let path = file.path.strip_prefix("crates/").unwrap_or(&file.path);
            for (at, line) in lines.iter().enumerate() {
                for (id, _) in line.split("[quirk:").skip(1).filter_map(|rest| rest.split_once(']')) {
                    let name = citations::name(&lines, at).unwrap_or_default();
                    cited.entry(id.to_owned()).or_default().insert(format!("`{path}:{name}`"));
                }
            }
        }
        Ok(Self { rows: parse(list)?, cited })
    }

    /// Rows without a test, and citations of what is no row.
    pub(super) fn gaps(&self) -> Vec<String> {
        let wanted = || self.rows.iter().flat_map(|row| &row.wanted);
        let missing =
            wanted().filter(|id| !self.cited.contains_key(*id)).map(|id| format!("quirk:{id}: no test cites it"));
        let unknown = self.cited.keys().filter(|id| !wanted().any(|known| known == *id));
        missing.chain(unknown.map(|id| format!("quirk:{id}: there is no such quirk"))).collect()
    }

    /// The table for readers.
    pub(super) fn write(&self, page: &mut String) {
        page.push_str(HEAD);
        for Quirk { name, policy, what, wanted } in &self.rows {
            let tests: BTreeSet<&String> = wanted.iter().filter_map(|id| self.cited.get(id)).flatten().collect();
            let tests: Vec<&str> = tests.into_iter().map(String::as_str).collect();
            let _ = writeln!(page, "| {name} | {policy} | {what} | {} |", tests.join(", "));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn parse(list: &str) -> Result<Vec<Quirk>, String> {
    let mut rows: Vec<Quirk> = Vec::new();
    for (number, line) in list.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let &[name, policy @ ("K" | "F" | "O"), tests @ ("dialects" | "once"), what] = &words[..] else {
            return Err(format!("quirks.txt:{}: write: NAME K|F|O dialects|once WHAT", number + 1));
        };
        if rows.iter().any(|row| row.name == name) {
            return Err(format!("quirks.txt:{}: this name was there before", number + 1));
        }
        let wanted = match tests {
            "once" => vec![name.to_owned()],
            _ => vec![format!("{name}/compat"), format!("{name}/midge")],
        };
        rows.push(Quirk { name: name.to_owned(), policy: policy.to_owned(), what: what.to_owned(), wanted });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_wants_its_tests() {
        let list = "# a comment\none K dialects One.\ntwo F once Two.\n";
        let text = "// [quirk:one/compat] [quirk:three]\nfn t() {}\n";
        let file = |path: &str| Tracked { path: path.into(), text: text.into() };
        let quirks = Quirks::of(list, &[file("crates/a/tests/b.rs"), file("crates/a/src/c.rs")]).unwrap();
        let gaps = ["one/midge: no test cites it", "two: no test cites it", "three: there is no such quirk"];
        assert_eq!(quirks.gaps(), gaps.map(|gap| format!("quirk:{gap}")));
        let mut page = String::new();
        quirks.write(&mut page);
        assert!(page.ends_with("| one | K | One. | `a/tests/b.rs:t` |\n| two | F | Two. |  |\n"), "{page}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let rows = [
            ("one K dialects One.\none F once Two.", "quirks.txt:2: this name was there before"),
            ("# x\none X once One.", "quirks.txt:2: write: NAME K|F|O dialects|once WHAT"),
        ];
        for (list, expected) in rows {
            assert_eq!(Quirks::of(list, &[]).unwrap_err(), expected);
        }
    }
}
