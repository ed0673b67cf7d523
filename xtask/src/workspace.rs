//! What cargo and git know about the workspace.
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the work tree: xtask lies directly below it.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// The cargo that runs us, at the root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Names of its bench targets.
    pub(crate) benches: Vec<String>,
}

/// What a package asks for in its manifest.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Lies in the workspace.
    pub(crate) is_ours: bool,
    /// Not only for tests and build scripts.
    pub(crate) is_normal: bool,
}

/// Every package, in cargo's order.
pub(crate) fn packages() -> Result<Vec<Package>, String> {
    Ok(list(&metadata()?["packages"]).map(package).collect())
}

/// Where cargo builds.
pub(crate) fn target() -> Result<PathBuf, String> {
    Ok(PathBuf::from(text(&metadata()?["target_directory"])))
}

/// Where `.ci/run` installs packages for Node.
pub(crate) fn node_modules(target: &Path) -> PathBuf {
    target.join("npm/node_modules")
}

fn metadata() -> Result<Value, String> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output();
    let output = output.map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

fn package(json: &Value) -> Package {
    let manifest = Path::new(text(&json["manifest_path"]));
    let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root()).ok());
    let targets = |kind: &str| {
        let has = |target: &&Value| list(&target["kind"]).any(|value| value == kind);
        list(&json["targets"]).filter(has).map(|target| text(&target["name"]).to_owned()).collect()
    };
    Package {
        name: text(&json["name"]).to_owned(),
        folder: folder.map_or_else(String::new, |folder| folder.display().to_string()),
        dependencies: list(&json["dependencies"]).map(dependency).collect(),
        benches: targets("bench"),
    }
}

fn dependency(json: &Value) -> Dependency {
    Dependency {
        name: text(&json["name"]).to_owned(),
        is_ours: json["path"].is_string(),
        is_normal: json["kind"].is_null(),
    }
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_default()
}

/// A file of the work tree.
#[derive(Debug)]
pub(crate) struct Tracked {
    /// From the root.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every text file that git tracks, or would if it were added.
pub(crate) fn tracked() -> Result<Vec<Tracked>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let output = output.map_err(|error| format!("cannot run git ls-files: {error}"))?;
    let paths = output.stdout.split(|&byte| byte == 0).filter(|path| !path.is_empty());
    let paths = paths.map(|path| String::from_utf8_lossy(path).into_owned());
    // What was deleted and not yet committed can't be read, what is not UTF-8 has no lines.
    Ok(paths
        .filter_map(|path| Some(Tracked { text: std::fs::read_to_string(root().join(&path)).ok()?, path }))
        .collect())
}
