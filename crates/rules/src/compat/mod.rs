//! The old firmware's language, read as it read it.
mod lex;
mod parse;

pub(crate) use parse::parse;

/// Oddities of the original that are reproduced unless somebody asks for the sane form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Oddities {
    /// After `if … then … endif`, a directly following `else` belongs to that `if` although it was closed.
    pub dangling_else: Oddity,
    /// Topics of binary kind are refused by `publish`.
    pub data_topics: Oddity,
    /// `http_post` skips one word, unread, between its two expressions.
    pub http_post: Oddity,
}

/// How an oddity is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Oddity {
    /// As the old firmware has it; `check` warns.
    #[default]
    Original,
    /// As everybody expects it.
    Fixed,
}

impl Oddities {
    /// All fixed.
    pub const FIXED: Self = Self { dangling_else: Oddity::Fixed, data_topics: Oddity::Fixed, http_post: Oddity::Fixed };
}
