//! Scripts in the documentation are scripts.
use midge_rules::{Limits, Oddities, check, convert};

fn document(name: &str) -> String {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_string())).collect()
}

#[test]
fn scripts_in_the_documents_are_good() {
    let mut seen = 0;
    for name in ["rules.md", "from-esp-umqtt.md"] {
        let text = document(name);
        for block in blocks(&text, "midge").into_iter().chain(blocks(&text, "compat")) {
            let report = check(block.as_bytes(), Oddities::default(), &Limits::default());
            let said: Vec<_> = report.diagnostics.iter().map(|said| said.render(block.as_bytes(), name)).collect();
            assert!(said.is_empty(), "{said:?}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen} blocks");
}

#[test]
fn the_converted_script_in_the_document_is_what_convert_writes() {
    let text = document("from-esp-umqtt.md");
    let old = &blocks(&text, "compat")[0];
    let new = convert(old.as_bytes(), Oddities::default(), &Limits::default()).expect("a good script");
    assert_eq!(new, blocks(&text, "midge")[0]);
}

#[test]
fn every_limit_is_documented() {
    let text = document("rules.md");
    let limits = format!("{:?}", Limits::default());
    for field in limits.trim_start_matches("Limits { ").split(", ").filter_map(|field| field.split_once(':')) {
        assert!(text.contains(&format!("`{}`", field.0)), "{} is missing", field.0);
    }
}
