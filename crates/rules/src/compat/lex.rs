//! The old firmware's lexer: bytes to words, as its three passes did it, in one.
use crate::diagnostic::Diagnostic;
use crate::place::Place;
use crate::tree::Comment;
use alloc::vec::Vec;

/// One word. A quoted one keeps its leading quote, which is how the parser knows it.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// It ends where the next one starts.
    start: u32,
    place: Place,
}

/// All words of a script.
#[derive(Debug)]
pub(crate) struct Tokens {
    text: Vec<u8>,
    spans: Vec<Span>,
    /// Where the text ends.
    pub(crate) end: Place,
    pub(crate) comments: Vec<Comment>,
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn word(&self, index: usize) -> Option<&[u8]> {
        let start = self.spans.get(index)?.start as usize;
        let end = self.spans.get(index + 1).map_or(self.text.len(), |next| next.start as usize);
        self.text.get(start..end)
    }

    pub(crate) fn place(&self, index: usize) -> Place {
        self.spans.get(index).map_or(self.end, |span| span.place)
    }

    /// Characters of a word, the closing quote included.
    pub(crate) fn width(&self, index: usize) -> u32 {
        let word = self.word(index).unwrap_or(b" ");
        let characters = word.iter().filter(|&&byte| !(0x80..=0xbf).contains(&byte)).count();
        (characters + usize::from(word.starts_with(b"\""))) as u32
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Outside,
    Inside(Place),
}

struct Lexer<'a> {
    source: &'a [u8],
    at: usize,
    place: Place,
    quotes: Quotes,
    tokens: Tokens,
    /// Where the word being read began.
    word: Option<(u32, Place)>,
    keep_comments: bool,
}

/// Splits `source`; comments are kept only where somebody wants them.
pub(crate) fn lex(source: &[u8], keep_comments: bool) -> Result<Tokens, Diagnostic> {
    let mut lexer = Lexer {
        source,
        at: 0,
        place: Place::START,
        quotes: Quotes::Outside,
        tokens: Tokens { text: Vec::new(), spans: Vec::new(), end: Place::START, comments: Vec::new() },
        word: None,
        keep_comments,
    };
    lexer.tokens.text.reserve(source.len());
    while let Some(byte) = lexer.next() {
        lexer.byte(byte)?;
    }
    lexer.end_word();
    lexer.tokens.end = lexer.place;
    lexer.tokens.text.shrink_to_fit();
    lexer.tokens.spans.shrink_to_fit();
    Ok(lexer.tokens)
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.source.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn byte(&mut self, byte: u8) -> Result<(), Diagnostic> {
        let here = self.place;
        self.place = here.after(byte);
        match (byte, self.quotes) {
            (0, _) => {
                return Err(Diagnostic::error(here, 1, "NUL byte in the script")
                    .hint("a script is text; write binary data as #00ff"));
            }
            (b'\\', _) => {
                if let Some(escaped) = self.next() {
                    self.place = self.place.after(escaped);
                    self.push(escaped, here);
                }
            }
            (b'"', Quotes::Outside) => {
                self.push(byte, here);
                self.quotes = Quotes::Inside(here);
            }
            (b'"', Quotes::Inside(_)) => {
                self.end_word();
                self.quotes = Quotes::Outside;
            }
            // The original read on with a comma here, which never ended well.
            (b'\n', Quotes::Inside(opened)) => {
                return Err(Diagnostic::error(
                    opened,
                    here.column.saturating_sub(opened.column),
                    "string is not closed on its line",
                )
                .hint("close it with \" before the end of the line"));
            }
            (b'%', Quotes::Outside) => self.comment(here),
            (b'|' | b'+' | b'-' | b'*' | b'=' | b'>' | b'(' | b')' | b',', Quotes::Outside) => {
                self.end_word();
                self.push(byte, here);
                self.end_word();
            }
            (0x01..=b' ', Quotes::Outside) => self.end_word(),
            _ => self.push(byte, here),
        }
        Ok(())
    }

    /// Drops the comment and its line end without ending the word before it: so `x%note`, newline, `y` is `xy`.
    fn comment(&mut self, here: Place) {
        let start = self.at;
        while let Some(byte) = self.next() {
            self.place = self.place.after(byte);
            if byte == b'\n' {
                break;
            }
        }
        if self.keep_comments {
            let text = self.source[start..self.at].trim_ascii().into();
            self.tokens.comments.push(Comment { place: here, text });
        }
    }

    fn push(&mut self, byte: u8, here: Place) {
        if self.word.is_none() {
            self.word = Some((self.tokens.text.len() as u32, here));
        }
        self.tokens.text.push(byte);
    }

    fn end_word(&mut self) {
        if let Some((start, place)) = self.word.take() {
            self.tokens.spans.push(Span { start, place });
        }
    }
}
