//! Rust without its comments, strings and characters: enough to count braces and read names.

/// Replaces the inside of every comment, string and character by blanks; lines and columns stay.
pub(super) fn code_only(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    let mut after_word = false;
    while let Some(c) = rest.chars().next() {
        let len = literal_len(rest, after_word).unwrap_or(0);
        if len == 0 {
            code.push(c);
            after_word = c.is_alphanumeric() || c == '_';
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            after_word = false;
            rest = &rest[len..];
        }
    }
    code
}

/// Length of the comment, string or character that `text` begins with.
fn literal_len(text: &str, after_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_len(text));
    }
    if text.starts_with('"') {
        return Some(quoted_len(text, 1, b'"'));
    }
    if text.starts_with('\'') {
        return character_len(text);
    }
    if after_word {
        return None;
    }
    raw_string_len(text).or_else(|| {
        let prefix = ["b\"", "c\"", "b'"].into_iter().find(|prefix| text.starts_with(prefix))?;
        Some(quoted_len(text, prefix.len(), prefix.as_bytes()[1]))
    })
}

/// They nest.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_len(text: &str, from: usize, quote: u8) -> usize {
    let mut bytes = text.bytes().enumerate().skip(from);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `'x'` and `'\n'`, but not the lifetime `'x`.
fn character_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    match chars.next()? {
        (_, '\\') => Some(quoted_len(text, 1, b'\'')),
        _ => match chars.next()? {
            (at, '\'') => Some(at + 1),
            _ => None,
        },
    }
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string_len(text: &str) -> Option<usize> {
    let after_r = ["r", "br", "cr"].into_iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let inside = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + len)
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn literals_and_comments_become_blanks_and_nothing_moves() {
        let rows = [
            ("a // {\nb", "a b"),
            ("a /* { /* } */ \n */ b", "a b"),
            ("f(\"{\\\"}\", x)", "f( , x)"),
            ("f(r#\"\"{\"#, x)", "f( , x)"),
            ("f(b\"{\", br\"}\", b'{')", "f( , , )"),
            ("m('{', '\\'', '\\u{7f}', &'a str)", "m( , , , &'a str)"),
            ("var\" }", "var"),
            ("for\"x\" {", "for {"),
            ("\"ü{\" }", "}"),
            ("'ü' }", "}"),
        ];
        for (source, expected) in rows {
            let code = code_only(source);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
            assert_eq!(code.chars().count(), source.chars().count(), "{source}");
        }
    }
}
