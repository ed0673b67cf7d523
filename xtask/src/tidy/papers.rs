//! What the papers say must be there: the files they link to, and the names in the journey of a message.
use super::Complaint;
use crate::workspace::{self, Tracked};
use std::collections::BTreeSet;
use std::path::Path;

/// The section of ARCHITECTURE.md that follows a message by names.
const JOURNEY: (&str, &str) = ("ARCHITECTURE.md", "## The journey of one PUBLISH");

/// Complains of links to nowhere and of names that the code does not have any more.
pub(super) fn check(files: &[Tracked], complaints: &mut Vec<Complaint>) {
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = workspace::root().join(&file.path);
        let folder = folder.parent().unwrap_or(Path::new("."));
        for (number, target) in links(&file.text).filter(|(_, target)| !folder.join(target).exists()) {
            complaints.push(Complaint::at(&file.path, number, format!("{target}: there is no such file")));
        }
    }
    let Some(paper) = files.iter().find(|file| file.path == JOURNEY.0) else { return };
    let words = words_of_code(files);
    for (number, name) in names(&paper.text).filter(|(_, name)| !words.contains(name)) {
        complaints.push(Complaint::at(JOURNEY.0, number, format!("{name}: the code has no such name")));
    }
}

/// Targets of links within the repository, with their lines; places inside a file are left out.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(n, line)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
        files.map(move |target| (n + 1, target.split('#').next().unwrap_or(target)))
    })
}

/// Names in the journey, without what stands before the last `::`.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != JOURNEY.1).skip(1);
    let lines = lines.take_while(|(_, line)| !line.starts_with("## "));
    lines.flat_map(|(n, line)| line.split('`').skip(1).step_by(2).map(move |name| (n + 1, name))).filter_map(
        |(n, name)| {
            let last = name.rsplit("::").next().unwrap_or(name);
            let is_name = !last.is_empty() && last.chars().all(|c| c.is_alphanumeric() || c == '_');
            is_name.then_some((n, last))
        },
    )
}

/// Every word of the crates' code, and the crates' own names.
fn words_of_code(files: &[Tracked]) -> BTreeSet<&str> {
    let code = files.iter().filter(|file| file.path.starts_with("crates/") && file.path.ends_with(".rs"));
    let words = code.flat_map(|file| file.text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.chain(files.iter().filter_map(|file| file.path.strip_prefix("crates/")?.split('/').next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_the_repository_are_found() {
        let text = "a [b](c.md) [d](https://e.f/g) [h](#i)\n[j](k/l.md#m)";
        assert_eq!(links(text).collect::<Vec<_>>(), [(1, "c.md"), (2, "k/l.md")]);
    }

    #[test]
    fn names_are_taken_from_the_journey_alone() {
        let text = format!("`outside`\n{}\n`A::b` and `c d`, `e`\n## Next\n`outside`\n", JOURNEY.1);
        assert_eq!(names(&text).collect::<Vec<_>>(), [(3, "b"), (3, "e")]);
    }
}
