//! Every broker through every row, interleaved: round, row, broker, the order of brokers turned round every other time,
//! so that whatever else the machine does hits all of them.
use super::brokers::{Broker, Running};
use super::rows::{CPU, Row, Way};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How it is measured.
#[derive(Debug)]
pub(super) struct Setting {
    /// The program with `bench` in it.
    pub(super) midge: PathBuf,
    /// Where brokers have their state.
    pub(super) scratch: PathBuf,
    pub(super) rounds: u32,
    pub(super) seconds: u32,
    /// Broker on the first processor, bench on the second.
    pub(super) pinned: bool,
}

/// Figures by row, broker and name, one for each round.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<(&'static str, &'static str, String), Vec<f64>>);

impl Found {
    /// The middle of the rounds.
    pub(super) fn median(&self, row: &str, broker: &str, figure: &str) -> Option<f64> {
        let key = self.0.keys().find(|(r, b, f)| *r == row && *b == broker && f == figure)?;
        let mut values = self.0.get(key)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = values.get(middle)?;
        if values.len() % 2 == 1 { Some(*upper) } else { Some((upper + values.get(middle - 1)?) / 2.0) }
    }

    pub(super) fn add(&mut self, row: &Row, broker: &Broker, report: &Value) {
        for (name, value) in report.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                self.0.entry((row.key, broker.name, name.clone())).or_default().push(value);
            }
        }
    }
}

/// Runs it all; what fails is said and left out.
pub(super) fn run(setting: &Setting, rows: &[&Row], brokers: &[Broker]) -> Found {
    let mut found = Found::default();
    for round in 1..=setting.rounds {
        for row in rows {
            let mut order: Vec<_> = brokers.iter().collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for broker in order {
                match measure(setting, row, broker) {
                    Ok(report) => {
                        println!("round {round} · {} · {}: {}", row.key, broker.name, brief(row, &report));
                        found.add(row, broker, &report);
                    }
                    Err(error) => println!("round {round} · {} · {}: {error}", row.key, broker.name),
                }
            }
        }
    }
    found
}

/// Instructions of every flow but those for latency, once: they are the same every time.
pub(super) fn count(setting: &Setting, rows: &[&Row], brokers: &[Broker], found: &mut Found) {
    let is_flow = |row: &&&Row| row.goals.iter().any(|goal| goal.figure == CPU);
    // Some can't do without what valgrind does not have.
    let is_able = |broker: &&Broker| match idle(setting, broker) {
        Ok(_) => true,
        Err(error) => {
            println!("callgrind · {}: {error}", broker.name);
            false
        }
    };
    let able: Vec<&Broker> = brokers.iter().filter(is_able).collect();
    for row in rows.iter().filter(is_flow) {
        for &broker in &able {
            match instructions(setting, row, broker) {
                Ok(report) => {
                    println!("callgrind · {} · {}: {}", row.key, broker.name, report[USER_INSTRUCTIONS]);
                    found.add(row, broker, &report);
                }
                Err(error) => println!("callgrind · {} · {}: {error}", row.key, broker.name),
            }
        }
    }
}

/// The figures that the row is about.
fn brief(row: &Row, report: &Value) -> String {
    let figures = row.goals.iter().map(|goal| format!("{} {}", goal.words, report[goal.figure]));
    figures.collect::<Vec<_>>().join(", ")
}

fn measure(setting: &Setting, row: &Row, broker: &Broker) -> Result<Value, String> {
    let dir = setting.scratch.join(format!("{}-{}", broker.name, row.key));
    // Left by a run that was broken off.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let report = match row.way {
        Way::Bench(args) => setting.start(broker, &dir).and_then(|running| setting.bench(&running, args)),
        Way::Startup => startup(setting, broker, &dir),
        Way::KilledQueue => killed_queue(setting, broker, &dir),
    };
    // Scratch goes with its folder, if not now.
    let _ = std::fs::remove_dir_all(&dir);
    report
}

impl Setting {
    fn broker_prefix(&self) -> &'static [&'static str] {
        if self.pinned { &["taskset", "-c", "0"] } else { &[] }
    }

    fn start(&self, broker: &Broker, dir: &Path) -> Result<Running, String> {
        broker.start(dir, self.broker_prefix())
    }

    /// `midge bench` against it.
    fn bench(&self, running: &Running, args: &str) -> Result<Value, String> {
        let mut command = Command::new(if self.pinned { Path::new("taskset") } else { &self.midge });
        if self.pinned {
            command.args(["-c", "1"]).arg(&self.midge);
        }
        let (address, pid) = (format!("127.0.0.1:{}", running.port), running.pid().to_string());
        command.args(["bench", &address, "--json", "--quiet", "--pid", &pid]);
        command.args(["--seconds", &self.seconds.to_string()]).args(args.split_whitespace());
        let output = command.output().map_err(|error| format!("{}: {error}", self.midge.display()))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("midge bench: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// What fills the queue takes its memory, what drains it the rest.
fn killed_queue(setting: &Setting, broker: &Broker, dir: &Path) -> Result<Value, String> {
    let running = setting.start(broker, dir)?;
    let mut report = setting.bench(&running, "-s queued --only fill")?;
    running.kill();
    let running = setting.start(broker, dir)?;
    let drained = setting.bench(&running, "-s queued --only drain")?;
    if let (Some(report), Some(drained)) = (report.as_object_mut(), drained.as_object()) {
        report.extend(drained.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(report)
}

/// What [`instructions`] finds.
pub(super) const USER_INSTRUCTIONS: &str = "user_kiloinstructions_per_delivery";

/// Thousand instructions in user mode for each delivery, counted by callgrind: the same in every run, where times are
/// not, and all there is where the machine has no counters. What a start and an end cost is taken off, but not what it
/// takes to connect.
fn instructions(setting: &Setting, row: &Row, broker: &Broker) -> Result<Value, String> {
    let Way::Bench(args) = row.way else { return Err("no flow".to_owned()) };
    let idle = idle(setting, broker)?;
    let work = |running: &Running| setting.bench(running, &format!("--warm-up 0 {args}"));
    let (all, report) = profiled(setting, broker, work)?;
    let delivered = report["delivered"].as_f64().filter(|count| *count > 0.0).ok_or("nothing was delivered")?;
    Ok(serde_json::json!({ USER_INSTRUCTIONS: (all - idle) / delivered / 1e3 }))
}

/// Instructions of a start and an end.
fn idle(setting: &Setting, broker: &Broker) -> Result<f64, String> {
    profiled(setting, broker, |_| Ok(Value::Null)).map(|(all, _)| all)
}

/// Instructions of a broker from start to end, and what was done to it meanwhile.
fn profiled(
    setting: &Setting,
    broker: &Broker,
    work: impl FnOnce(&Running) -> Result<Value, String>,
) -> Result<(f64, Value), String> {
    let dir = setting.scratch.join(format!("{}-callgrind", broker.name));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let profile = dir.join("profile");
    let out = format!("--callgrind-out-file={}", profile.display());
    let running = broker.start(&dir, &["valgrind", "--tool=callgrind", &out])?;
    let report = work(&running);
    running.terminate();
    let text = std::fs::read_to_string(&profile).map_err(|error| format!("callgrind left no profile: {error}"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    let total = total.and_then(|number| number.split(' ').next()?.parse().ok()).ok_or("the profile has no sum")?;
    let _ = std::fs::remove_dir_all(&dir);
    Ok((total, report?))
}

const STARTS: usize = 5;
const STARTUP_MAX: Duration = Duration::from_secs(20);

/// The middle of some starts with the same state: the first of them makes what the others find.
fn startup(setting: &Setting, broker: &Broker, dir: &Path) -> Result<Value, String> {
    let mut millis = Vec::new();
    let mut anonymous = 0.0;
    for _ in 0..STARTS {
        let began = Instant::now();
        let running = broker.spawn(dir, setting.broker_prefix())?;
        while !is_answered(running.port) {
            if began.elapsed() > STARTUP_MAX {
                return Err("no CONNACK within 20 s".to_owned());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_secs(1));
        anonymous = anonymous_kib(running.pid())?;
        running.terminate();
    }
    millis.sort_by(f64::total_cmp);
    let middle = millis.get(STARTS / 2).copied();
    Ok(serde_json::json!({ "first_connack_ms": middle, "anonymous_kib": anonymous }))
}

/// Whether a CONNECT of 3.1.1 is answered with success.
fn is_answered(port: u16) -> bool {
    const CONNECT: &[u8] = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07startup";
    let mut answer = [0; 4];
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(STARTUP_MAX))?;
        stream.write_all(CONNECT)?;
        stream.read_exact(&mut answer)
    });
    asked.is_ok() && answer == [0x20, 2, 0, 0]
}

fn anonymous_kib(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{path} has no RssAnon"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::ROWS;

    #[test]
    fn the_middle_of_the_rounds_is_found() {
        let broker = crate::bench::brokers::installed(Path::new("/nowhere/midge")).remove(0);
        let mut found = Found::default();
        for (n, expected) in [(3.0, 3.0), (9.0, 6.0), (4.0, 4.0)] {
            found.add(&ROWS[0], &broker, &serde_json::json!({ "lost": n, "scenario": "x", "share": null }));
            assert_eq!(found.median(ROWS[0].key, "midge", "lost"), Some(expected));
        }
        assert_eq!(found.median(ROWS[0].key, "midge", "share"), None);
        assert_eq!(found.median(ROWS[0].key, "mosquitto", "lost"), None);
    }
}
