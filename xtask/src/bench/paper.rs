//! `docs/performance.md`: the measured part is written anew, what people wrote around it stays.
use super::brokers::{Broker, OURS, PEER};
use super::compare::{Found, USER_INSTRUCTIONS};
use super::rows::{Goal, Limit, Row};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- measured: cargo xtask bench writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// What a run is described by.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) command: String,
    pub(super) rounds: u32,
    pub(super) seconds: u32,
    pub(super) pinned: bool,
}

/// The measured part.
pub(super) fn measured(run: &Run, rows: &[&Row], brokers: &[Broker], found: &Found, page: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "`{}` on {}, {}.", run.command, date(), machine());
    let place = if run.pinned { "broker on one processor, bench on the other" } else { "no processors reserved" };
    let _ = writeln!(text, "{} rounds of {} s each, {place}. Brokers:\n", run.rounds, run.seconds);
    for broker in brokers {
        let _ = writeln!(text, "- {}: {}", broker.name, broker.version);
    }
    let _ = write!(text, "\n| scenario | figure |");
    brokers.iter().for_each(|broker| {
        let _ = write!(text, " {} |", broker.name);
    });
    let _ = writeln!(text, " of {PEER}'s | asked | |");
    let _ = writeln!(text, "|---|---|{}---|---|---|", "---|".repeat(brokers.len()));
    for row in rows {
        row.goals.iter().for_each(|goal| line(&mut text, (row, goal), brokers, found, page));
    }
    counted(&mut text, rows, brokers, found);
    text
}

/// Instructions, if they were counted.
fn counted(text: &mut String, rows: &[&Row], brokers: &[Broker], found: &Found) {
    let of = |row: &Row, broker: &Broker| found.median(row.key, broker.name, USER_INSTRUCTIONS);
    let mut lines = String::new();
    for row in rows.iter().filter(|row| brokers.iter().any(|broker| of(row, broker).is_some())) {
        let _ = write!(lines, "| {} |", row.words);
        for broker in brokers {
            let figure = of(row, broker).map_or_else(|| "–".to_owned(), |value| rounded(value).to_string());
            let _ = write!(lines, " {figure} |");
        }
        lines.push('\n');
    }
    if !lines.is_empty() {
        let names = brokers.iter().map(|broker| broker.name).collect::<Vec<_>>().join(" | ");
        let _ = write!(text, "\nThousand instructions in user mode for each delivery, by callgrind:\n\n");
        let _ = write!(text, "| scenario | {names} |\n|---|{}\n{lines}", "---|".repeat(brokers.len()));
    }
}

fn line(text: &mut String, (row, goal): (&Row, &Goal), brokers: &[Broker], found: &Found, page: &str) {
    let of = |broker: &str| found.median(row.key, broker, goal.figure);
    let _ = write!(text, "| {} | {} |", row.words, goal.words);
    for broker in brokers {
        let figure = of(broker.name).map_or_else(|| "–".to_owned(), |value| format!("{}", rounded(value)));
        let _ = write!(text, " {figure} |");
    }
    let share = of(OURS).zip(of(PEER)).map(|(ours, theirs)| ours / theirs).filter(|share| share.is_finite());
    let (asked, met) = match goal.limit {
        Limit::Share(limit) => (ratio(limit), share.map(|share| share <= limit)),
        Limit::AtMost(limit) => (format!("≤ {limit}"), of(OURS).map(|ours| ours <= limit)),
    };
    let verdict = match met {
        Some(true) => "met".to_owned(),
        Some(false) if page.contains(&format!("\n### {}\n", row.key)) => format!("[missed](#{})", row.key),
        Some(false) => "missed".to_owned(),
        None => "not measured".to_owned(),
    };
    let _ = writeln!(text, " {} | {asked} | {verdict} |", share.map_or_else(|| "–".to_owned(), ratio));
}

/// As people compare: 1/20 rather than 0.05.
fn ratio(share: f64) -> String {
    if share > 0.0 && share <= 0.5 { format!("1/{}", rounded(1.0 / share)) } else { rounded(share).to_string() }
}

/// Three digits that matter.
fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 100.0 {
        1.0
    } else if value.abs() >= 10.0 {
        10.0
    } else {
        100.0
    };
    (value * digits).round() / digits
}

/// Puts the measured part into the page.
pub(super) fn write(path: &Path, measured: &str) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", path.display());
    let page = fs::read_to_string(path).map_err(failed)?;
    let page = replace(&page, measured).ok_or_else(|| format!("{} has no place between its marks", path.display()))?;
    fs::write(path, page).map_err(failed)
}

fn replace(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{measured}\n{END}{after}"))
}

fn date() -> String {
    said(Command::new("date").arg("+%Y-%m-%d")).unwrap_or_else(|| "a day without a date".to_owned())
}

/// Processor, their number, kernel.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named =
        |line: &str| line.strip_prefix("model name").and_then(|rest| rest.split_once(": ")?.1.to_owned().into());
    let model = cpu.lines().find_map(named).unwrap_or_else(|| "an unknown processor".to_owned());
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = said(Command::new("uname").arg("-sr")).unwrap_or_default();
    format!("{count} × {model}, {kernel}")
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::brokers;
    use crate::bench::rows::ROWS;
    use serde_json::json;

    #[test]
    fn a_share_is_written_as_people_compare() {
        let rows = [(0.05, "1/20"), (1.0 / 9.5, "1/9.5"), (0.65, "0.65"), (1.0, "1"), (0.0, "0"), (1.25, "1.25")];
        for (share, expected) in rows {
            assert_eq!(ratio(share), expected);
        }
    }

    #[test]
    fn only_the_measured_part_changes() {
        let page = format!("# Head\n\n{BEGIN}old\n{END}\n## Why\n");
        assert_eq!(replace(&page, "new\n").unwrap(), format!("# Head\n\n{BEGIN}\nnew\n\n{END}\n## Why\n"));
        assert_eq!(replace("# Head\n", "new"), None);
    }

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let ours = brokers::installed(Path::new("/nowhere/midge")).remove(0);
        let mut theirs = ours.clone();
        theirs.name = PEER;
        let both = [ours, theirs];
        let row = ROWS.iter().find(|row| row.key == "fan-in-q0").unwrap();
        let verdict = |figures: [Option<f64>; 2], page: &str| {
            let mut found = Found::default();
            for (broker, figure) in both.iter().zip(figures) {
                if let Some(figure) = figure {
                    found.add(row, broker, &json!({ "broker_cpu_us_per_delivery": figure }));
                }
            }
            let mut text = String::new();
            line(&mut text, (row, &row.goals[0]), &both, &found, page);
            text.rsplit(" | ").next().unwrap().trim_end_matches(" |\n").to_owned()
        };
        assert_eq!(verdict([Some(1.0), Some(20.0)], ""), "met");
        assert_eq!(verdict([Some(1.1), Some(20.0)], ""), "missed");
        assert_eq!(verdict([Some(1.1), Some(20.0)], "\n### fan-in-q0\n"), "[missed](#fan-in-q0)");
        assert_eq!(verdict([Some(1.0), None], ""), "not measured");
    }
}
