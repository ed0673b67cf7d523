//! Text to tokens, one at a time.
use crate::diagnostic::Diagnostic;
use crate::place::Place;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    /// `$name`, without the `$`.
    Variable(&'a str),
    /// `@7`, without the `@`.
    Flash(&'a str),
    Text(Cow<'a, [u8]>),
    Hex(Vec<u8>),
    Number(&'a str),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Lexeme<'a> {
    pub(crate) token: Token<'a>,
    pub(crate) place: Place,
    pub(crate) width: u32,
}

#[derive(Clone)]
pub(crate) struct Lexer<'a> {
    source: &'a str,
    at: usize,
    place: Place,
}

type Lexed<T> = Result<T, Box<Diagnostic>>;

const SYMBOLS: [&str; 14] = ["!=", ">=", "<=", "(", ")", ",", "=", ">", "<", "|", "+", "-", "*", "/"];

impl<'a> Lexer<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, at: 0, place: Place::START }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.source[self.at..self.at + bytes];
        self.place = taken.bytes().fold(self.place, Place::after);
        self.at += bytes;
        taken
    }

    /// How many bytes from here on satisfy `wanted`.
    fn span(&self, from: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let bytes = &self.rest().as_bytes()[from..];
        from + bytes.iter().position(|&byte| !wanted(byte)).unwrap_or(bytes.len())
    }

    fn skip_blanks(&mut self) {
        loop {
            let blank = self.span(0, |byte| byte.is_ascii_whitespace());
            self.advance(blank);
            if !self.rest().starts_with('%') {
                return;
            }
            let comment = self.span(0, |byte| byte != b'\n');
            self.advance(comment);
        }
    }

    /// The next token. After an error the next call goes on behind it.
    pub(crate) fn next(&mut self) -> Lexed<Lexeme<'a>> {
        self.skip_blanks();
        let place = self.place;
        let token = self.token()?;
        let width = if self.place.line == place.line { self.place.column - place.column } else { 1 };
        Ok(Lexeme { token, place, width: width.max(1) })
    }

    fn token(&mut self) -> Lexed<Token<'a>> {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let Some(&first) = self.rest().as_bytes().first() else { return Ok(Token::End) };
        match first {
            b'"' => self.text(),
            b'#' => self.hex(),
            b'$' | b'@' => {
                let length = self.span(1, name);
                if length == 1 {
                    return Err(self.unknown("a name is missing"));
                }
                let word = &self.advance(length)[1..];
                Ok(if first == b'$' { Token::Variable(word) } else { Token::Flash(word) })
            }
            b'0'..=b'9' => self.number(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let length = self.span(0, name);
                Ok(Token::Word(self.advance(length)))
            }
            _ => match SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) {
                None => Err(self.unknown("unknown character")),
                Some(symbol) => {
                    self.advance(symbol.len());
                    Ok(Token::Symbol(symbol))
                }
            },
        }
    }

    fn unknown(&mut self, message: &'static str) -> Box<Diagnostic> {
        let place = self.place;
        let character = self.rest().chars().next().unwrap_or(' ');
        self.advance(character.len_utf8());
        let error = Diagnostic::error(place, 1, message);
        Box::new(match character {
            '&' => error.hint("write: and"),
            '\'' => error.hint("strings are written \"so\""),
            ';' => error.hint("nothing is needed between actions"),
            '$' => error.hint("write $name"),
            '@' => error.hint("write @1 for the first flash variable"),
            '!' => error.hint("write: not"),
            '\\' => error.hint("write such a text in quotes"),
            _ => error,
        })
    }

    /// Digits and one point. The sign is an operator.
    fn number(&mut self) -> Lexed<Token<'a>> {
        let place = self.place;
        let mut length = self.span(0, |byte| byte.is_ascii_digit());
        if self.rest()[length..].starts_with('.') {
            length = self.span(length + 1, |byte| byte.is_ascii_digit());
        }
        let whole = self.span(length, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':'));
        let text = self.advance(whole);
        if whole > length || text.ends_with('.') {
            let error = Diagnostic::error(place, whole as u32, format!("not a number: {text}"));
            return Err(Box::new(error.hint(format!("if it is meant as text, write \"{text}\""))));
        }
        Ok(Token::Number(text))
    }

    fn hex(&mut self) -> Lexed<Token<'a>> {
        let place = self.place;
        let length = self.span(1, |byte| byte.is_ascii_alphanumeric());
        let digits = &self.advance(length)[1..];
        let wrong = |message: &'static str| {
            Box::new(
                Diagnostic::error(place, length as u32, message)
                    .hint("binary data is written #00ff; quote a topic: \"#\""),
            )
        };
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(wrong("number of hexdigits must be multiple of 2"));
        }
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let bytes: Option<Vec<u8>> =
            digits.as_bytes().chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect();
        bytes.map(Token::Hex).ok_or_else(|| wrong("not a hexdigit"))
    }

    fn text(&mut self) -> Lexed<Token<'a>> {
        let opened = self.place;
        self.advance(1);
        let plain = self.span(0, |byte| !matches!(byte, b'"' | b'\\' | b'\n'));
        if self.rest().as_bytes().get(plain) == Some(&b'"') {
            let text = self.advance(plain);
            self.advance(1);
            return Ok(Token::Text(Cow::Borrowed(text.as_bytes())));
        }
        let mut out = Vec::new();
        loop {
            let plain = self.span(0, |byte| !matches!(byte, b'"' | b'\\' | b'\n'));
            out.extend_from_slice(self.advance(plain).as_bytes());
            match self.rest().as_bytes().first() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(Token::Text(Cow::Owned(out)));
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => {
                    let width = self.place.column.saturating_sub(opened.column);
                    let error = Diagnostic::error(opened, width, "string is not closed on its line");
                    return Err(Box::new(error.hint("close it with \"; write \\n for a line end inside")));
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Lexed<()> {
        let place = self.place;
        let bytes = self.rest().as_bytes();
        let simple = match bytes.get(1) {
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b't') => Some(b'\t'),
            Some(&byte @ (b'\\' | b'"' | b'%')) => Some(byte),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            self.advance(2);
            return Ok(());
        }
        let digits = self.rest().get(2..4).filter(|_| bytes.get(1) == Some(&b'x'));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.push(byte);
            self.advance(4);
            return Ok(());
        }
        let braces = self.rest().strip_prefix("\\u{").and_then(|rest| rest.split_once('}'));
        let code = braces.filter(|(digits, _)| digits.len() <= 6).and_then(|(digits, _)| {
            Some((u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?, digits.len()))
        });
        if let Some((character, digits)) = code {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            self.advance(digits + 4);
            return Ok(());
        }
        // The rest of the line is not worth a second error.
        let rest = self.span(0, |byte| byte != b'\n');
        self.advance(rest);
        let error = Diagnostic::error(place, 2, "unknown escape in a string");
        Err(Box::new(error.hint("there are \\n \\r \\t \\\\ \\\" \\% \\x41 and \\u{e9}")))
    }
}
