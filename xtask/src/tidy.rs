//! What no compiler checks. Every complaint names file and line and what to do.
mod crates;
mod functions;
mod lexer;
mod papers;
mod words;

use crate::{spec, workspace};

/// A rule that is broken.
pub(crate) struct Complaint {
    /// File and line, or the crate.
    place: String,
    /// What was found and what to do.
    words: String,
}

impl Complaint {
    fn at(path: &str, line: usize, words: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), words: words.into() }
    }

    fn about(place: impl Into<String>, words: impl Into<String>) -> Self {
        Self { place: place.into(), words: words.into() }
    }
}

/// Prints every complaint; true if there is none.
pub(crate) fn run() -> bool {
    let complaints = match complaints() {
        Ok(complaints) => complaints,
        Err(error) => vec![Complaint::about("tidy", error)],
    };
    for Complaint { place, words } in &complaints {
        println!("{place}: {words}");
    }
    println!("tidy: {} complaints", complaints.len());
    complaints.is_empty()
}

fn complaints() -> Result<Vec<Complaint>, String> {
    let files = workspace::tracked()?;
    let mut complaints = Vec::new();
    for file in &files {
        words::check(&file.path, &file.text, &mut complaints);
        if file.path.ends_with(".rs") {
            functions::check(&file.path, &file.text, &mut complaints);
        }
    }
    crates::check(&workspace::packages()?, &files, &mut complaints);
    papers::check(&files, &mut complaints);
    if !spec::is_up_to_date(&files)? {
        complaints.push(Complaint::about("docs/conformance.md", "out of date: run cargo xtask spec --write"));
    }
    Ok(complaints)
}
