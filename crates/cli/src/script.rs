//! `midge script`: what a script says before a site runs it, and the one that a site runs.
mod trial;

use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status::ask;
use crate::terminal;
use clap::Subcommand;
use host::control::{Begin, Request, ScriptRequest};
use host::rules::simulate::SimulateError;
use host::rules::{Diagnostic, Dialect, Limits, Oddities, Severity, check, convert, simulate};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// Errors and warnings, each with line, column and what to write instead.
    Check {
        #[command(flatten)]
        script: Script,
    },
    /// What a script does about a list of events, at any speed; docs/rules.md has the words of scenarios.
    Sim {
        #[command(flatten)]
        script: Script,
        /// The events, one per line; `-`: standard input. Without it only `on init` runs.
        #[arg(value_name = "SCENARIO")]
        scenario: Option<PathBuf>,
    },
    /// The same script in the new dialect, behaving the same, on standard output.
    Convert {
        #[command(flatten)]
        script: Script,
    },
    /// Run a script on a broker of its own, in real time, and tell what happens until Ctrl-C.
    Run(trial::Args),
    /// Give the running site a script. One with errors replaces nothing; the one before is kept.
    Load {
        /// The script; `-`: standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        site: Site,
    },
    /// Take the script before this one again.
    Revert {
        #[command(flatten)]
        site: Site,
    },
    /// Stop the script of the running site and forget it, its flash variables too.
    Delete {
        #[command(flatten)]
        data: DataDir,
    },
    /// Print the script of the running site.
    Show {
        #[command(flatten)]
        data: DataDir,
    },
}

#[derive(clap::Args, Debug)]
struct Site {
    /// Begin with the next start of the site; until then no script runs.
    #[arg(long)]
    next_start: bool,
    #[command(flatten)]
    data: DataDir,
}

impl Site {
    fn begin(&self) -> Begin {
        if self.next_start { Begin::NextStart } else { Begin::Now }
    }
}

#[derive(clap::Args, Debug)]
struct Script {
    /// The script; `-`: standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Treat the oddities of the old firmware as everybody expects it (docs/from-esp-umqtt.md).
    #[arg(long)]
    fixed: bool,
}

/// As `midge check`: what was read can't be used.
const BAD_SCRIPT: u8 = 3;
const STANDARD_INPUT: &str = "-";
/// Longer files are refused unread: a script may have 64 KiB, a scenario is written by hand.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.act {
        Act::Check { script } => look(script),
        Act::Sim { script, scenario } => try_out(script, scenario.as_deref()),
        Act::Convert { script } => translate(script),
        Act::Run(args) => trial::run(args),
        Act::Load { file, site } => {
            let request = ScriptRequest::Load { text: read(file)?, begin: site.begin() };
            tell(&site.data, request)
        }
        Act::Revert { site } => tell(&site.data, ScriptRequest::Revert { begin: site.begin() }),
        Act::Delete { data } => tell(data, ScriptRequest::Delete),
        Act::Show { data } => {
            let answer = ask(&data.path()?, &Request::Script(ScriptRequest::Show))?;
            match answer["script"].as_str() {
                Some(text) => terminal::out(format_args!("{text}")),
                None => return Err(Failure::new("the site has no script; give it one with: midge script load FILE")),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tell(data: &DataDir, request: ScriptRequest) -> Result<ExitCode, Failure> {
    let answer = ask(&data.path()?, &Request::Script(request))?;
    let runs = answer["running"].as_bool().unwrap_or_default();
    say!("{}", if runs { "The script runs." } else { "No script runs now." });
    Ok(ExitCode::SUCCESS)
}

impl Script {
    fn oddities(&self) -> Oddities {
        if self.fixed { Oddities::FIXED } else { Oddities::default() }
    }

    fn name(&self) -> String {
        name(&self.file)
    }
}

fn look(script: &Script) -> Result<ExitCode, Failure> {
    let text = read(&script.file)?;
    let report = check(&text, script.oddities(), &Limits::default());
    if script.json {
        let document = json!({
            "file": script.name(),
            "dialect": word(report.dialect),
            "ok": report.is_ok(),
            "diagnostics": report.diagnostics.iter().map(finding).collect::<Vec<_>>(),
        });
        say!("{document:#}");
    } else {
        report.diagnostics.iter().for_each(|found| show(found, &text, &script.name()));
        if report.diagnostics.is_empty() {
            say!("{}: nothing to complain about", script.name());
        }
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BAD_SCRIPT) })
}

fn try_out(script: &Script, scenario: Option<&Path>) -> Result<ExitCode, Failure> {
    if scenario.is_some_and(|file| is_standard_input(file) && is_standard_input(&script.file)) {
        return Err(Failure::new("script and scenario can't both be standard input: give one of them as a file"));
    }
    let text = read(&script.file)?;
    let events = match scenario {
        Some(file) => String::from_utf8(read(file)?)
            .map_err(|_| Failure::with_code(BAD_SCRIPT, format!("{}: a scenario is UTF-8 text", name(file))))?,
        None => String::new(),
    };
    match simulate(&text, &events, script.oddities(), Limits::default()) {
        Ok(transcript) if script.json => {
            let faults: Vec<Value> = transcript.faults.iter().map(fault).collect();
            say!("{:#}", json!({ "ok": true, "transcript": transcript.text, "faults": faults }));
            Ok(ExitCode::SUCCESS)
        }
        Ok(transcript) => {
            terminal::out(format_args!("{transcript}"));
            Ok(ExitCode::SUCCESS)
        }
        Err(SimulateError::Script(found)) => Ok(refuse(script.json, &found, &text, &script.name())),
        Err(SimulateError::Scenario(found)) => {
            let name = scenario.map(name).unwrap_or_default();
            Ok(refuse(script.json, &[found], events.as_bytes(), &name))
        }
    }
}

fn translate(script: &Script) -> Result<ExitCode, Failure> {
    let text = read(&script.file)?;
    match convert(&text, script.oddities(), &Limits::default()) {
        Ok(converted) if script.json => say!("{:#}", json!({ "ok": true, "script": converted })),
        Ok(converted) => terminal::out(format_args!("{converted}")),
        Err(found) => return Ok(refuse(script.json, &found, &text, &script.name())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Findings that leave nothing else to say: in JSON where results go, in words where errors go.
fn refuse(json: bool, found: &[Diagnostic], text: &[u8], name: &str) -> ExitCode {
    if json {
        let diagnostics: Vec<Value> = found.iter().map(finding).collect();
        say!("{:#}", json!({ "file": name, "ok": false, "diagnostics": diagnostics }));
    } else {
        found.iter().for_each(|found| terminal::err(format_args!("{}", found.render(text, name))));
    }
    ExitCode::from(BAD_SCRIPT)
}

fn show(found: &Diagnostic, text: &[u8], name: &str) {
    terminal::out(format_args!("{}", found.render(text, name)));
}

fn finding(found: &Diagnostic) -> Value {
    json!({
        "severity": match found.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        },
        "line": found.place.line,
        "column": found.place.column,
        "width": found.width,
        "message": found.message,
        "hint": found.hint,
        "classic": found.classic,
    })
}

fn fault(fault: &host::rules::Fault) -> Value {
    json!({
        "line": fault.place.map(|place| place.line),
        "column": fault.place.map(|place| place.column),
        "kind": fault.kind.word(),
        "message": fault.message,
    })
}

fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Compat => "compat",
        Dialect::Midge => "midge",
    }
}

fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == STANDARD_INPUT
}

fn name(file: &Path) -> String {
    if is_standard_input(file) { "standard input".into() } else { file.display().to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let outcome = if is_standard_input(file) {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    match outcome {
        Ok(length) if length as u64 > FILE_BYTES_MAX => {
            Err(Failure::with_code(BAD_SCRIPT, format!("{}: longer than 4 MiB, which no script is", name(file))))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(format!("{}: {error}", name(file)))),
    }
}
