//! Who may use whom, what the cores must do without, and that each dependency has its sentence.
use super::Complaint;
use crate::workspace::{Package, Tracked};
use std::collections::BTreeSet;

/// A crate and the crates of ours that it may use, as ARCHITECTURE.md draws the arrows.
const ARROWS: [(&str, &[&str]); 14] = [
    ("mqtt", &[]),
    ("access", &["mqtt"]),
    ("broker", &["mqtt"]),
    ("mesh", &["mqtt"]),
    ("link", &[]),
    ("rendezvous", &[]),
    ("rules", &["mqtt"]),
    ("node", &["mqtt", "broker", "mesh", "rules"]),
    ("host", &["node", "link", "rendezvous", "access", "mqtt"]),
    ("cli", &["host", "nat"]),
    ("capi", &["host"]),
    ("nat", &[]),
    ("sim", &["mqtt", "broker", "mesh", "link", "rendezvous", "rules", "node", "nat"]),
    ("xtask", &[]),
];

/// No clocks, sockets, files and threads: the compiler sees to it once the standard library is gone.
const WITHOUT_STD: [&str; 7] = ["mqtt", "access", "broker", "mesh", "rendezvous", "rules", "node"];

const PAPER: &str = "docs/dependencies.md";

/// Complains of forbidden arrows, of cores with the standard library, of doors without a map, of unexplained
/// dependencies.
pub(super) fn check(packages: &[Package], files: &[Tracked], complaints: &mut Vec<Complaint>) {
    for package in packages {
        arrows(package, packages, complaints);
        door(package, files, complaints);
    }
    dependencies(packages, files, complaints);
}

fn short(package: &Package) -> &str {
    package.folder.rsplit('/').next().unwrap_or_default()
}

/// Arrows of tests are free.
fn arrows(package: &Package, packages: &[Package], complaints: &mut Vec<Complaint>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == short(package)) else {
        complaints
            .push(Complaint::about(&package.folder, "has no row in xtask/src/tidy/crates.rs and ARCHITECTURE.md"));
        return;
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.is_ours && dependency.is_normal);
    for used in ours.filter_map(|dependency| packages.iter().find(|package| package.name == dependency.name)) {
        if !allowed.contains(&short(used)) {
            let words = format!("must not use {}: a new arrow is a decision of its own (STYLE.md 4)", short(used));
            complaints.push(Complaint::about(&package.folder, words));
        }
    }
}

/// The first lines of a crate say what it is for, and what it does without.
fn door(package: &Package, files: &[Tracked], complaints: &mut Vec<Complaint>) {
    let doors = ["lib.rs", "main.rs"].map(|name| format!("{}/src/{name}", package.folder));
    let Some(door) = files.iter().find(|file| doors.contains(&file.path)) else { return };
    if !door.text.starts_with("//! ") {
        complaints.push(Complaint::at(
            &door.path,
            1,
            "begin with what the crate is for, what it never does, where to start",
        ));
    }
    let has_std = !door.text.lines().any(|line| line == "#![no_std]");
    if has_std && WITHOUT_STD.contains(&short(package)) {
        complaints.push(Complaint::at(&door.path, 1, "a core does without the standard library: write #![no_std]"));
    }
}

fn dependencies(packages: &[Package], files: &[Tracked], complaints: &mut Vec<Complaint>) {
    let paper = files.iter().find(|file| file.path == PAPER).map_or("", |file| file.text.as_str());
    let explained = |name: &str| paper.contains(&format!("`{name}`"));
    let foreign: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| !dependency.is_ours)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for name in foreign.into_iter().filter(|name| !explained(name)) {
        let words = format!("no sentence on `{name}`: what it saves, who keeps it, what it pulls in");
        complaints.push(Complaint::about(PAPER, words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(folder: &str, uses: &[(&str, bool)]) -> Package {
        let dependency = |(name, is_ours): &(&str, bool)| Dependency {
            name: if *is_ours { format!("midge-{name}") } else { (*name).to_owned() },
            is_ours: *is_ours,
            is_normal: true,
        };
        Package {
            name: format!("midge-{folder}"),
            folder: format!("crates/{folder}"),
            dependencies: uses.iter().map(dependency).collect(),
            benches: Vec::new(),
        }
    }

    fn file(path: &str, text: &str) -> Tracked {
        Tracked { path: path.into(), text: text.into() }
    }

    fn places(packages: &[Package], files: &[Tracked]) -> Vec<String> {
        let mut complaints = Vec::new();
        check(packages, files, &mut complaints);
        complaints.into_iter().map(|complaint| complaint.place).collect()
    }

    #[test]
    fn a_forbidden_arrow_is_found_and_an_allowed_one_is_not() {
        let allowed = [package("mqtt", &[]), package("broker", &[("mqtt", true)])];
        assert!(places(&allowed, &[]).is_empty());
        let forbidden = [package("broker", &[("mesh", true)]), package("mesh", &[])];
        assert_eq!(places(&forbidden, &[]), ["crates/broker"]);
        assert_eq!(places(&[package("news", &[])], &[]), ["crates/news"]);
    }

    #[test]
    fn a_core_says_what_it_is_for_and_does_without_std() {
        let mqtt = [package("mqtt", &[])];
        let path = "crates/mqtt/src/lib.rs";
        assert!(places(&mqtt, &[file(path, "//! For.\n#![no_std]\n")]).is_empty());
        assert_eq!(places(&mqtt, &[file(path, "#![no_std]\n")]).len(), 1);
        assert_eq!(places(&mqtt, &[file(path, "//! For.\n")]).len(), 1);
        assert!(places(&[package("host", &[])], &[file("crates/host/src/lib.rs", "//! For.\n")]).is_empty());
    }

    #[test]
    fn each_foreign_crate_has_its_sentence() {
        let nat = [package("nat", &[("slab", false)])];
        assert_eq!(places(&nat, &[]), [PAPER]);
        assert!(places(&nat, &[file(PAPER, "| `slab` | saves |")]).is_empty());
    }
}
