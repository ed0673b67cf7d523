//! Where a site keeps its key, its store and its control socket.
use crate::failure::Failure;
use std::path::PathBuf;

/// `--data DIR`, common to every verb that concerns the site of this machine.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct DataDir {
    /// Directory of the site's state [default: the user's state directory].
    #[arg(long = "data", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl DataDir {
    /// The directory given, else the platform's.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => default_dir(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
                .ok_or_else(|| Failure::new("no home directory is known (HOME is unset); give one with --data DIR")),
        }
    }

    /// Only what was given: a configuration file may name another default.
    pub(crate) fn given(&self) -> Option<PathBuf> {
        self.dir.clone()
    }
}

/// systemd's `StateDirectory=`, then the XDG base directories, then what they default to.
fn default_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(dir) = variable("STATE_DIRECTORY") {
        return Some(dir);
    }
    if let Some(dir) = variable("XDG_STATE_HOME").filter(|dir| dir.is_absolute()) {
        return Some(dir.join("midge"));
    }
    let home = variable("HOME")?;
    if cfg!(target_os = "macos") {
        return Some(home.join("Library/Application Support/midge"));
    }
    Some(home.join(".local/state/midge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_wins() {
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let rows: [(Variables<'_>, Option<&str>); 5] = [
            (&[], None),
            (&[("HOME", "/home/a")], Some("/home/a/.local/state/midge")),
            (&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")], Some("/s/midge")),
            (&[("HOME", "/home/a"), ("XDG_STATE_HOME", "relative")], Some("/home/a/.local/state/midge")),
            (&[("HOME", "/home/a"), ("STATE_DIRECTORY", "/var/lib/midge")], Some("/var/lib/midge")),
        ];
        for (variables, expected) in rows {
            let found = default_dir(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            });
            if cfg!(not(target_os = "macos")) {
                assert_eq!(found, expected.map(PathBuf::from), "{variables:?}");
            }
        }
    }
}
