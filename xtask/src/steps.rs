//! Steps that are run one after the other, counted, and summed up at the end.
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A step that takes longer hangs: it is given up, so that the others are heard of.
const STEP_MAX: Duration = Duration::from_secs(25 * 60);

/// Lines of a failed step that are shown once more, right above the summary: logs of whole runs are cut at their
/// beginning, and what failed is what they are read for.
const LAST_LINES: usize = 80;

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With its number of tests; a step without any counts as one.
    Passed(u32),
    /// With the tests that passed and those that did not.
    Failed(u32, u32),
    /// With what is missing.
    NotRun(String),
}

struct Row {
    name: String,
    outcome: Outcome,
    took: Duration,
    /// The last of what it printed.
    last_lines: VecDeque<String>,
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Summary(Vec<Row>);

impl Summary {
    /// Runs a command and keeps what became of it; everything it prints is seen.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) {
        println!("\n=== {name}");
        let started = Instant::now();
        let mut last_lines = VecDeque::new();
        let outcome = execute(command, STEP_MAX, |line| {
            println!("{line}");
            last_lines.truncate(LAST_LINES - 1);
            last_lines.push_front(line.to_owned());
        });
        self.0.push(Row { name: name.to_owned(), outcome, took: started.elapsed(), last_lines });
    }

    /// Keeps what became of a step that is not a command of its own.
    pub(crate) fn note(&mut self, name: &str, outcome: Outcome, took: Duration) {
        if let Outcome::NotRun(reason) = &outcome {
            println!("\n=== {name}\nNOT RUN: {reason}");
        }
        self.0.push(Row { name: name.to_owned(), outcome, took, last_lines: VecDeque::new() });
    }

    /// Prints the table and the totals; false if something failed, or did not run where all has to (`CI=true`).
    pub(crate) fn finish(&self) -> bool {
        let strict = std::env::var("CI").is_ok_and(|value| value == "true");
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in self.0.iter().filter(|row| matches!(row.outcome, Outcome::Failed(..))) {
            println!("\n=== the end of what failed: {}", row.name);
            row.last_lines.iter().rev().for_each(|line| println!("{line}"));
        }
        println!("\n=== summary");
        for Row { name, outcome, took, .. } in &self.0 {
            let words = match outcome {
                Outcome::Passed(passed) => format!("{passed} passed"),
                Outcome::Failed(passed, failed) => format!("{passed} passed, {failed} FAILED"),
                Outcome::NotRun(reason) => format!("NOT RUN: {reason}"),
            };
            println!("{name:width$}  {:>6.1} s  {words}", took.as_secs_f64());
        }
        let (passed, failed) = self.totals(strict);
        let not_run = self.0.iter().filter(|row| matches!(row.outcome, Outcome::NotRun(_))).count();
        if not_run > 0 {
            let verdict = if strict { "which CI=true counts as failed" } else { "see above for what they need" };
            println!("{not_run} steps NOT RUN, {verdict}");
        }
        println!("{passed} passed, {failed} failed");
        failed == 0
    }

    fn totals(&self, strict: bool) -> (u32, u32) {
        self.0.iter().fold((0, 0), |(passed, failed), row| match row.outcome {
            Outcome::Passed(more) => (passed + more, failed),
            Outcome::Failed(more, worse) => (passed + more, failed + worse),
            Outcome::NotRun(_) => (passed, failed + u32::from(strict)),
        })
    }
}

/// Hands the output on line by line and adds up the totals in it.
fn execute(command: &mut Command, at_most: Duration, mut print: impl FnMut(&str)) -> Outcome {
    let deadline = Instant::now() + at_most;
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            print(&format!("cannot run {}: {error}", command.get_program().display()));
            return Outcome::Failed(0, 1);
        }
    };
    let (lines, output) = mpsc::channel();
    let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    for stream in stdout.into_iter().chain(stderr) {
        let lines = lines.clone();
        std::thread::spawn(move || {
            let read = BufReader::new(stream).split(b'\n').map_while(Result::ok);
            read.map(|line| lines.send(line)).take_while(Result::is_ok).for_each(drop);
        });
    }
    drop(lines);
    let (mut passed, mut failed) = (0, 0);
    loop {
        match output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                print(&line);
                if let Some((more, worse)) = totals_in(&line) {
                    passed += more;
                    failed += worse;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                print(&format!("given up: no end within {} minutes", at_most.as_secs() / 60));
                // What it started itself may go on; nobody waits for that.
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::Failed(passed, failed.max(1));
            }
        }
    }
    match child.wait() {
        Ok(status) if status.success() && failed == 0 => Outcome::Passed(passed.max(1)),
        Ok(_) | Err(_) => Outcome::Failed(passed, failed.max(1)),
    }
}

/// The totals of a test runner: `test result: ok. 10 passed; 0 failed; …` or the last line of our own scripts,
/// `10 passed, 0 failed`.
fn totals_in(line: &str) -> Option<(u32, u32)> {
    let totals = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let (passed, rest) = totals.split_once(" passed")?;
    let (failed, rest) = rest.trim_start_matches([';', ',']).trim_start().split_once(" failed")?;
    let is_end = rest.is_empty() || rest.starts_with(';');
    Some((passed.parse().ok()?, failed.parse().ok()?)).filter(|_| is_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_in_the_last_lines_of_runners() {
        let rows = [
            (
                "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((10, 0)),
            ),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", Some((1, 2))),
            ("12 passed, 3 failed", Some((12, 3))),
            ("12 passed, 3 failed tests were seen", None),
            ("nothing passed, 3 failed", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(totals_in(line), expected, "{line}");
        }
    }

    fn drop_line(_: &str) {}

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let mut summary = Summary::default();
        summary.run("long", Command::new("sh").args(["-c", "seq 1000; exit 1"]));
        let row = &summary.0[0];
        assert_eq!(
            (row.last_lines.len(), row.last_lines[0].as_str(), &row.outcome),
            (80, "1000", &Outcome::Failed(0, 1))
        );
        assert_eq!(row.last_lines.back().map(String::as_str), Some("921"));
    }

    #[test]
    fn a_command_counts_by_its_totals_and_fails_by_its_code() {
        let patience = Duration::from_secs(60);
        let sh = |script: &str| execute(Command::new("sh").args(["-c", script]), patience, drop_line);
        assert_eq!(sh("true"), Outcome::Passed(1));
        assert_eq!(sh("echo '3 passed, 0 failed'; echo '4 passed, 0 failed'"), Outcome::Passed(7));
        assert_eq!(sh("echo '3 passed, 1 failed'"), Outcome::Failed(3, 1));
        assert_eq!(sh("echo '3 passed, 0 failed'; exit 1"), Outcome::Failed(3, 1));
        assert_eq!(execute(&mut Command::new("/no/such/program"), patience, drop_line), Outcome::Failed(0, 1));
    }

    #[test]
    fn a_step_that_hangs_is_given_up() {
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "echo '3 passed, 0 failed'; exec sleep 1000"]);
        assert_eq!(execute(&mut hangs, Duration::from_secs(1), drop_line), Outcome::Failed(3, 1));
    }

    #[test]
    fn what_did_not_run_counts_as_failed_only_where_all_has_to_run() {
        let mut summary = Summary::default();
        summary.note("a", Outcome::Passed(2), Duration::ZERO);
        summary.note("b", Outcome::NotRun("needs root".into()), Duration::ZERO);
        assert_eq!(summary.totals(false), (2, 0));
        assert_eq!(summary.totals(true), (2, 1));
    }
}
