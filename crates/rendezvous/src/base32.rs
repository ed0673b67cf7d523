//! Base 32 in lower case (the alphabet of RFC 4648), five bits to a letter.
use alloc::string::String;
use alloc::vec::Vec;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The letter of a digit below 32.
pub(crate) fn letter(digit: u8) -> char {
    char::from(ALPHABET[usize::from(digit & 31)])
}

/// The digit of a letter in either case.
pub(crate) fn digit(letter: char) -> Option<u8> {
    match letter.to_ascii_lowercase() {
        letter @ 'a'..='z' => Some(letter as u8 - b'a'),
        letter @ '2'..='7' => Some(letter as u8 - b'2' + 26),
        _ => None,
    }
}

/// Bits in groups of five, the last one filled up with zeros.
pub(crate) fn digits(bytes: &[u8]) -> Vec<u8> {
    (0..(bytes.len() * 8).div_ceil(5))
        .map(|n| (n * 5..n * 5 + 5).fold(0, |digit, bit| digit << 1 | bit_of(bytes, bit)))
        .collect()
}

fn bit_of(bytes: &[u8], bit: usize) -> u8 {
    bytes.get(bit / 8).map_or(0, |byte| byte >> (7 - bit % 8) & 1)
}

/// The whole bytes in a row of digits; bits left over are not returned.
pub(crate) fn bytes(digits: &[u8]) -> Vec<u8> {
    let bit = |n: usize| digits[n / 5] >> (4 - n % 5) & 1;
    (0..digits.len() * 5 / 8).map(|n| (n * 8..n * 8 + 8).fold(0, |byte, at| byte << 1 | bit(at))).collect()
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    digits(bytes).into_iter().map(letter).collect()
}

/// A digit times two in the field of 32 elements (modulo x^5 + x^2 + 1).
pub(crate) fn times_two(digit: u8) -> u8 {
    let doubled = digit << 1;
    if doubled & 0x20 == 0 { doubled } else { doubled ^ 0x25 }
}
