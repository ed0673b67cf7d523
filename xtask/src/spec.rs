//! Statements of the standard by their ids, `[MQTT-3.3.1-2]`: cited beside code, and beside a test.
use crate::workspace;
use std::collections::BTreeMap;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if there is a gap.
    #[arg(long)]
    strict: bool,
}

#[derive(Default)]
struct Cited {
    beside_code: Vec<String>,
    beside_tests: Vec<String>,
}

/// Lists the gaps; true unless they are to count.
pub(crate) fn run(args: &Args) -> bool {
    let files = match workspace::tracked() {
        Ok(files) => files,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    let mut cited: BTreeMap<String, Cited> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.starts_with("crates/") && file.path.ends_with(".rs")) {
        let mut in_tests = file.path.contains("/tests/") || file.path.ends_with("tests.rs");
        for (number, line) in file.text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
            in_tests |= line.starts_with("#[cfg(test)]");
            for id in ids(line) {
                let places = cited.entry(id.to_owned()).or_default();
                let side = if in_tests { &mut places.beside_tests } else { &mut places.beside_code };
                side.push(format!("{}:{number}", file.path));
            }
        }
    }
    let mut gaps = 0;
    for (id, Cited { beside_code, beside_tests }) in &cited {
        let (missing, there) = match (beside_code.first(), beside_tests.first()) {
            (Some(code), None) => ("no test", code),
            (None, Some(test)) => ("no code", test),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        gaps += 1;
        println!("{id}: {missing} cites it ({there})");
    }
    println!("spec: {} statements cited, {gaps} on one side only", cited.len());
    gaps == 0 || !args.strict
}

/// Ids such as `MQTT-3.3.1-2` in brackets.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    line.split("[MQTT-").skip(1).filter_map(|rest| {
        let (id, _) = rest.split_once(']')?;
        let is_id = id.contains('-') && id.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
        is_id.then_some(id)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_found_in_their_brackets() {
        let found: Vec<_> = super::ids("as [MQTT-3.3.1-2] and [MQTT-4.7.1-1], not [MQTT-x] or MQTT-1.2-3").collect();
        assert_eq!(found, ["3.3.1-2", "4.7.1-1"]);
    }
}
