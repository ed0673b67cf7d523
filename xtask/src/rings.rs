//! The four rings of tests in order. What a step needs and this machine lacks is said, never passed over.
//!
//! A new test of ring 4 is a new row of [`steps`].
use crate::steps::{Outcome, Summary};
use crate::workspace::{self, cargo};
use crate::{check, fuzz, sim};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this ring. Repeatable.
    #[arg(long = "ring", value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=4))]
    rings: Vec<u8>,
    /// Only steps with this in their name.
    #[arg(value_name = "WORD")]
    word: Option<String>,
    /// Begin with what `cargo xtask check` looks at besides tests.
    #[arg(long)]
    checks: bool,
    /// Say what would run and what it needs.
    #[arg(long)]
    list: bool,
}

/// What a step asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Namespaces and firewall rules.
    Root,
    /// In the search path, or in one of the folders for administrators.
    Program(&'static str),
    /// A module of Python.
    Python(&'static str),
    /// A package of Node's, in `npm/node_modules` of the target directory.
    Node(&'static str),
    /// A file below the target directory, where `.ci/run` puts it.
    Built(&'static str),
}
use Need::{Built, Node, Program, Python, Root};

struct Step {
    ring: u8,
    name: &'static str,
    needs: &'static [Need],
    command: fn(&Path) -> Command,
}

/// Networks of our own, real NATs, mailboxes, relays and devices.
const LABORATORY: &[Need] = &[
    Root,
    Program("ip"),
    Program("nft"),
    Program("conntrack"),
    Program("mosquitto"),
    Program("turnserver"),
    Python("paho.mqtt.client"),
];

const SEEDS: u32 = 200;
const FUZZ_SMOKE_SECS: u32 = 10;

/// One `cargo test` runs rings 1 to 3, which are tests of the crates to cargo; rows of ring 3 are for `--ring`. Real
/// ports begin in ring 4.
// A flat table.
fn steps() -> Vec<Step> {
    vec![
        Step { ring: 1, name: "transcripts, tables, sites, paths", needs: &[], command: |_| cargo(&["test"]) },
        Step { ring: 1, name: "xtask", needs: &[], command: |_| cargo(&["test", "--package", "xtask"]) },
        Step { ring: 2, name: "seeds", needs: &[], command: |_| sim::command(&["--seeds", &SEEDS.to_string()]) },
        Step {
            ring: 3,
            name: "paths over simulated NATs",
            needs: &[],
            // Of all packages, or features would be others and everything built anew.
            command: |_| cargo(&["test", "--workspace", "--test", "paths"]),
        },
        Step {
            ring: 4,
            name: "release build",
            needs: &[],
            command: |_| cargo(&["build", "--release", "--bin", "midge"]),
        },
        Step {
            ring: 4,
            name: "demo",
            needs: &[],
            command: |target| {
                let mut command = Command::new(target.join("release/midge"));
                command.args(["demo", "--once"]);
                command
            },
        },
        Step {
            ring: 4,
            name: "pub and sub beside mosquitto's",
            needs: &[Program("mosquitto"), Program("mosquitto_pub"), Program("mosquitto_sub")],
            command: |_| cargo(&["test", "--test", "mosquitto"]),
        },
        Step {
            ring: 4,
            name: "load on a running site",
            needs: &[],
            command: |_| cargo(&["test", "--workspace", "--test", "bench"]),
        },
        Step {
            ring: 4,
            name: "sites in namespaces",
            needs: LABORATORY,
            command: |target| python("tests/real/mesh.py", target),
        },
        Step {
            ring: 4,
            name: "kill -9 and losses of power",
            needs: &[Program("strace")],
            command: |target| python("tests/real/durability.py", target),
        },
        Step {
            ring: 4,
            name: "a site as a service",
            needs: &[Program("strace"), Program("mosquitto_pub")],
            command: |target| python("tests/real/service.py", target),
        },
        Step {
            ring: 4,
            name: "listeners of every kind",
            needs: &[],
            command: |_| cargo(&["test", "--workspace", "--test", "listeners"]),
        },
        Step {
            ring: 4,
            name: "clients of others on every listener",
            needs: &[
                Program("openssl"),
                Program("mosquitto"),
                Program("mosquitto_pub"),
                Program("mosquitto_sub"),
                Python("paho.mqtt.client"),
                Python("aiomqtt"),
                Node("mqtt"),
                Program("chromium"),
                Built("umqtt/simple.py"),
            ],
            command: |target| {
                let mut command = python("tests/real/foreign.py", target);
                command.env("NODE_PATH", workspace::node_modules(target));
                command
            },
        },
        Step {
            ring: 4,
            name: "consoles on a running site",
            needs: &[Program("mosquitto_pub"), Program("mosquitto_sub")],
            command: |target| python("tests/real/console.py", target),
        },
        Step {
            ring: 4,
            name: "names on the local network",
            needs: &[Root, Program("ip"), Program("openssl")],
            command: |target| python("tests/real/mdns.py", target),
        },
        Step {
            ring: 4,
            name: "in mosquitto's place",
            needs: &[Root, Program("mosquitto"), Program("mosquitto_pub"), Program("mosquitto_sub")],
            command: |target| python("tests/real/swap.py", target),
        },
        Step {
            ring: 4,
            name: "what mosquitto lets one choose",
            needs: &[Program("mosquitto"), Program("mosquitto_passwd")],
            command: |target| python("tests/real/choices.py", target),
        },
        Step {
            ring: 4,
            name: "clients that prove their password",
            needs: &[],
            command: |target| python("tests/real/scram.py", target),
        },
        Step {
            ring: 4,
            name: "bad input from everywhere",
            needs: LABORATORY,
            command: |target| python("tests/real/bad_input.py", target),
        },
        Step {
            ring: 4,
            name: "scripts on a running site",
            needs: &[Program("mosquitto"), Program("mosquitto_pub"), Program("mosquitto_sub"), Program("openssl")],
            command: |target| python("tests/real/scripts.py", target),
        },
        Step {
            ring: 4,
            name: "bridges to mosquitto and from it",
            needs: &[Program("mosquitto"), Program("mosquitto_passwd"), Program("openssl"), Python("paho.mqtt.client")],
            command: |target| python("tests/real/bridges.py", target),
        },
        Step {
            ring: 4,
            name: "fuzz smoke",
            needs: &[Program("cargo-fuzz")],
            command: |_| fuzz::command(FUZZ_SMOKE_SECS),
        },
    ]
}

/// A script of the laboratory with the program that it tests.
fn python(script: &str, target: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).env("MIDGE", target.join("release/midge"));
    command
}

/// Runs what was asked for, or says what that would be.
pub(crate) fn run(args: &Args) -> bool {
    let target = match workspace::target() {
        Ok(target) => target,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    let is_wanted = |step: &Step| {
        let right_ring = args.rings.is_empty() || args.rings.contains(&step.ring);
        right_ring && args.word.as_ref().is_none_or(|word| step.name.contains(word))
    };
    if !steps().iter().any(is_wanted) {
        println!("no step is of that ring and has that word in its name; cargo xtask test --list shows them");
        return false;
    }
    let mut summary = Summary::default();
    if args.checks && !args.list {
        check::without_tests(false, &mut summary);
    }
    for step in steps().into_iter().filter(|step| is_wanted(step)) {
        let name = format!("ring {}: {}", step.ring, step.name);
        let missing: Vec<String> = step.needs.iter().filter(|need| !need.is_met()).map(Need::words).collect();
        if args.list {
            let needs: Vec<String> = step.needs.iter().map(Need::words).collect();
            println!("{name}{}{}", if needs.is_empty() { "" } else { "  needs " }, needs.join(", "));
        } else if missing.is_empty() {
            summary.run(&name, (step.command)(&target).current_dir(workspace::root()));
        } else {
            summary.note(&name, Outcome::NotRun(format!("needs {}", missing.join(", "))), Duration::ZERO);
        }
    }
    args.list || summary.finish()
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Self::Root => is_root(),
            Self::Program(name) => find(name).is_some(),
            Self::Python(module) => succeeds("python3", &["-c", &format!("import {module}")]),
            Self::Node(package) => {
                find("node").is_some()
                    && workspace::target().is_ok_and(|target| workspace::node_modules(&target).join(package).is_dir())
            }
            Self::Built(file) => workspace::target().is_ok_and(|target| target.join(file).is_file()),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Root => "root".into(),
            Self::Program(name) => (*name).into(),
            Self::Python(module) => format!("Python's {module}"),
            Self::Node(package) => format!("Node's {package}"),
            Self::Built(file) => format!("{file} in the target directory, as .ci/run puts it there"),
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_stand_in_order_and_only_the_last_needs_more_than_rust() {
        let steps = steps();
        assert!(steps.is_sorted_by_key(|step| step.ring));
        assert!(steps.iter().all(|step| step.ring == 4 || step.needs.is_empty()));
    }

    #[test]
    fn a_missing_program_is_no_program() {
        assert!(Need::Program("sh").is_met());
        assert!(!Need::Program("no-such-program-anywhere").is_met());
        assert!(!Need::Python("no_such_module_anywhere").is_met());
    }
}
