//! No function is longer than a screen.
use super::Complaint;
use super::lexer::code_only;

const LINES_MAX: usize = 70;

/// On the line before a function, in a comment: it is long because it is flat.
const EXEMPT: &str = "A flat table.";

/// Complains of each function of more than 70 lines.
pub(super) fn check(path: &str, source: &str, complaints: &mut Vec<Complaint>) {
    let lines: Vec<&str> = source.lines().collect();
    for Function { name, first, last } in functions(&code_only(source)) {
        let len = last - first + 1;
        let is_exempt = first.checked_sub(2).is_some_and(|before| lines[before].ends_with(EXEMPT));
        if len > LINES_MAX && !is_exempt {
            let words = format!("{name} has {len} lines: at most {LINES_MAX}, or `// {EXEMPT}` before it if it is one");
            complaints.push(Complaint::at(path, first, words));
        }
    }
}

struct Function<'a> {
    name: &'a str,
    /// Numbers of lines, from 1.
    first: usize,
    last: usize,
}

/// Functions with a body, nested ones too.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut open: Vec<(&str, usize, usize)> = Vec::new();
    let mut head: Option<(&str, usize)> = None;
    for (number, line) in code.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        if let Some(name) = name_of(line) {
            head = Some((name, number));
        }
        for byte in line.bytes() {
            match byte {
                b'{' => {
                    if let Some((name, first)) = head.take() {
                        open.push((name, first, depth));
                    }
                    depth += 1;
                }
                b'}' => {
                    depth = depth.saturating_sub(1);
                    if let Some((name, first, _)) = open.pop_if(|(.., at)| *at == depth) {
                        found.push(Function { name, first, last: number });
                    }
                }
                // A declaration without a body; an array type has its semicolon in brackets.
                b';' if line.trim_end().ends_with(';') && !line.contains('{') => head = None,
                _ => {}
            }
        }
    }
    found
}

/// The name after `fn`.
fn name_of(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_item = before
        .split_whitespace()
        .all(|word| word.starts_with("pub") || matches!(word, "const" | "async" | "unsafe" | "extern" | "default"));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_item && end > 0).then(|| &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(source: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        check("x.rs", source, &mut complaints);
        complaints.into_iter().map(|complaint| format!("{}: {}", complaint.place, complaint.words)).collect()
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = "    let x = \"}\"; // }\n".repeat(69);
        let long = format!("impl A {{\n    pub(crate) const fn f(\n        a: [u8; 4],\n    ) {{\n{body}    }}\n}}\n");
        let found = complaints(&long);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("x.rs:2: f has 73 lines"), "{found:?}");
    }

    #[test]
    fn short_functions_declarations_and_flat_tables_are_none() {
        let body = "    x();\n".repeat(68);
        assert!(complaints(&format!("fn f() {{\n{body}}}\n")).is_empty());
        assert!(complaints(&format!("// A flat table.\nfn f() {{\n{body}{body}}}\n")).is_empty());
        let body = "    fn g();\n".repeat(80);
        assert!(complaints(&format!("trait T {{\n    fn f();\n{body}}}\n")).is_empty());
    }
}
