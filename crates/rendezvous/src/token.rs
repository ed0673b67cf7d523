//! The mesh's secret and its text form.
use crate::base32;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

const PREFIX: &str = "midge1-";
/// Groups of the text form: four digits and one that checks them.
const GROUPS: usize = 13;
const GROUP_DIGITS: usize = 4;
const GROUP_LEN: usize = GROUP_DIGITS + 1;
const TEXT_DIGITS: usize = GROUPS * GROUP_LEN;

/// The secret that makes a site a member: whoever holds it can join the mesh. `Display` writes it out in full.
///
/// ```
/// let token = midge_rendezvous::Token::from_secret([7; 32]);
/// let text = token.to_string();
/// assert!(text.starts_with("midge1-"));
/// assert_eq!(text.parse(), Ok(token));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: [u8; 32],
}

/// A short name of a mesh, safe to show and to send: it is derived one way from the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 8]);

/// Why a text is not a token. Numbers count from one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// It does not start with `midge1-`.
    NotAToken,
    /// A character that no token contains.
    Character {
        /// Where in the text, counted in characters.
        position: usize,
        /// The character.
        found: char,
    },
    /// Too few or too many characters.
    Length {
        /// How many digits and letters follow the prefix.
        found: usize,
    },
    /// This group of five does not fit its check letter: the typo is in it, or it is out of its place.
    Group {
        /// Which of the thirteen.
        number: usize,
        /// As found.
        text: String,
    },
    /// Each group is right in itself, the whole is not: parts of different tokens.
    Checksum,
}

impl Token {
    /// A token for 32 bytes from a cryptographic generator.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The name of the mesh for people and for strangers.
    pub fn fingerprint(&self) -> Fingerprint {
        crate::keys::fingerprint(&self.secret)
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Four bits over the whole secret: they fill the last digit of the 52 that 256 bits need.
    fn checksum(secret: &[u8; 32]) -> u8 {
        Sha256::new().chain_update(b"midge token checksum").chain_update(secret).finalize()[0] & 0x0f
    }
}

/// The digit that guards a group. Distinct weights catch each single typo and each swap of neighbours for certain (its
/// own included, hence the last doubling); the group's number in it catches groups out of place.
fn check_digit(number: usize, digits: &[u8]) -> u8 {
    base32::times_two(digits.iter().fold(number as u8 + 1, |sum, digit| base32::times_two(sum) ^ digit))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 33];
        bytes[..32].copy_from_slice(&self.secret);
        bytes[32] = Self::checksum(&self.secret) << 4;
        let mut digits = base32::digits(&bytes);
        f.write_str(PREFIX)?;
        for (number, group) in digits[..GROUPS * GROUP_DIGITS].chunks(GROUP_DIGITS).enumerate() {
            if number > 0 {
                f.write_str("-")?;
            }
            for &digit in group.iter().chain([&check_digit(number, group)]) {
                write!(f, "{}", base32::letter(digit))?;
            }
        }
        bytes.zeroize();
        digits.zeroize();
        Ok(())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Case, white space and hyphens do not matter after the prefix.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = match text.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &text[PREFIX.len()..],
            _ => return Err(TokenError::NotAToken),
        };
        // One more than fits is kept apart: a longer text must not be cut silently.
        let mut typed = [0; TEXT_DIGITS];
        let mut found = 0;
        for (at, letter) in body.chars().enumerate() {
            if letter == '-' || letter.is_whitespace() {
                continue;
            }
            let position = PREFIX.len() + at + 1;
            let digit = base32::digit(letter).ok_or(TokenError::Character { position, found: letter })?;
            if let Some(place) = typed.get_mut(found) {
                *place = digit;
            }
            found += 1;
        }
        if found != TEXT_DIGITS {
            return Err(TokenError::Length { found });
        }
        let token = Self::from_digits(&typed);
        typed.zeroize();
        token
    }
}

impl Token {
    fn from_digits(typed: &[u8; TEXT_DIGITS]) -> Result<Self, TokenError> {
        let mut digits = [0; GROUPS * GROUP_DIGITS];
        for (number, (group, into)) in typed.chunks(GROUP_LEN).zip(digits.chunks_mut(GROUP_DIGITS)).enumerate() {
            let (data, check) = group.split_at(GROUP_DIGITS);
            if check != [check_digit(number, data)] {
                let text = group.iter().map(|&digit| base32::letter(digit)).collect();
                return Err(TokenError::Group { number: number + 1, text });
            }
            into.copy_from_slice(data);
        }
        let mut bytes = base32::bytes(&digits);
        let mut secret = [0; 32];
        secret.copy_from_slice(&bytes[..32]);
        let checksum = (digits[digits.len() - 1]) & 0x0f;
        bytes.zeroize();
        digits.zeroize();
        if checksum == Self::checksum(&secret) { Ok(Self { secret }) } else { Err(TokenError::Checksum) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, secret)", self.fingerprint())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}-{c:02x}{d:02x}")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken => write!(f, "not a mesh token: it must start with {PREFIX}"),
            Self::Character { position, found } => {
                let letter = match found {
                    '0' => "; perhaps the letter o",
                    '1' => "; perhaps the letter l or i",
                    '8' => "; perhaps the letter b",
                    _ => "",
                };
                write!(f, "the mesh token has {found:?} at character {position}, which no token contains{letter}")
            }
            Self::Length { found } => {
                let word = if *found < TEXT_DIGITS { "cut short" } else { "too long" };
                write!(f, "the mesh token is {word}: {found} letters and digits after {PREFIX}, must be {TEXT_DIGITS}")
            }
            Self::Group { number, text } => {
                write!(
                    f,
                    "the mesh token has a typo in group {number} of {GROUPS}, {text:?}, or it is out of its place"
                )
            }
            Self::Checksum => {
                f.write_str("the mesh token does not fit its checksum: parts of two tokens may be mixed; copy it again")
            }
        }
    }
}

impl core::error::Error for TokenError {}
