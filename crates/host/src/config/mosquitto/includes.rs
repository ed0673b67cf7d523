//! `include_dir`: files of a directory, in mosquitto's order, read before any line is understood.
use super::Line;
use crate::config::report::{Problem, Report, Severity, quoted};
use crate::config::{FILE_BYTES_MAX, read_bounded};
use std::path::{Path, PathBuf};

/// More files than this are another kind of directory.
const FILES_MAX: usize = 1_000;

/// A file with its bytes, or why they can't be had.
type Found = (PathBuf, Result<Vec<u8>, String>);

/// Reads the files of a directory, or says why it can't be read.
pub(in crate::config) type Include<'a> = dyn Fn(&Path) -> Result<Vec<Found>, String> + 'a;

/// All included files, by the line that includes them; their numbers in the report go before them.
#[derive(Default)]
pub(super) struct Included(Vec<(usize, usize, String)>);

impl Included {
    pub(super) fn at(&self, line: usize) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().filter(move |(at, _, _)| *at == line).map(|(_, source, text)| (*source, text.as_str()))
    }
}

/// For a text that is no file of this machine.
pub(in crate::config) fn from_nowhere(_: &Path) -> Result<Vec<Found>, String> {
    Err("files can be included by files only".to_owned())
}

/// All files that end in `.conf`, in mosquitto's order.
pub(in crate::config) fn from_disk(directory: &Path) -> Result<Vec<Found>, String> {
    let fail = |error: std::io::Error| format!("can't be read: {error}");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.len() > ".conf".len() && name.ends_with(".conf") {
            paths.push((order(&name), path));
        }
        if paths.len() > FILES_MAX {
            return Err(format!("holds more than {FILES_MAX} files: name another directory"));
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = read_bounded(&path, FILE_BYTES_MAX).map_err(fail);
        (path, bytes)
    };
    Ok(paths.into_iter().map(|(_, path)| read(path)).collect())
}

/// `A` before `a`, both before `B`.
fn order(name: &str) -> Vec<(char, char)> {
    name.chars().map(|c| (c.to_ascii_lowercase(), c)).collect()
}

/// Reads what the lines of the main file include; what can't be read is told.
pub(super) fn find(text: &str, include: &Include<'_>, report: &mut Report) -> Included {
    let mut included = Included::default();
    for (index, raw) in text.lines().enumerate() {
        let Some(line) = Line::read(raw, index + 1).filter(|line| line.name == "include_dir") else { continue };
        let mut fail = |key: &str, source, line: usize, column, message| {
            let key = key.to_owned();
            report.tell(Problem { source, line, column, key, message, severity: Severity::Error });
        };
        if line.value.is_empty() {
            fail("include_dir", 0, line.place.line, line.place.column, "found no path: write one".to_owned());
            continue;
        }
        let files = match include(Path::new(line.value)) {
            Ok(files) => files,
            Err(reason) => {
                let message = format!("{} {reason}", quoted(line.value));
                fail("include_dir", 0, line.place.line, line.place.column, message);
                continue;
            }
        };
        for (path, bytes) in files {
            let source = report.add_source(&path);
            let text = bytes.and_then(|bytes| match bytes.len() as u64 > FILE_BYTES_MAX {
                true => Err("longer than 1 MiB: this is not a configuration file".to_owned()),
                false => String::from_utf8(bytes).map_err(|_| "is not UTF-8: save the file as UTF-8 text".to_owned()),
            });
            match text {
                Ok(text) => included.0.push((line.place.line, source, text)),
                Err(reason) => {
                    let problem = Problem {
                        source,
                        line: 0,
                        column: 0,
                        key: String::new(),
                        message: reason,
                        severity: Severity::Error,
                    };
                    report.tell(problem);
                }
            }
        }
    }
    included
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_mosquittos_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "A.conf", "01.conf", "a.conf", "B.conf", "00.conf", "no.txt", ".conf"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let files = from_disk(dir.path()).unwrap();
        let names: Vec<String> =
            files.into_iter().map(|(_, bytes)| String::from_utf8(bytes.unwrap()).unwrap()).collect();
        assert_eq!(names, ["00.conf", "01.conf", "A.conf", "a.conf", "B.conf", "b.conf"]);
    }
}
