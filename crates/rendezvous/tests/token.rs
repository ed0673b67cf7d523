//! The token's text form: what it takes, and what it says of a typo.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_rendezvous::{Token, TokenError};
use proptest::prelude::*;

fn example() -> String {
    Token::from_secret(core::array::from_fn(|n| n as u8)).to_string()
}

/// Tokens are kept in files and heads: the form must not change.
#[test]
fn the_text_form_is_fixed() {
    assert_eq!(example(), "midge1-aaaqa-eayeh-audas-ocajn-bifq2-ydiog-b4ibx-ceqte-cqkrt-mfyyo-denbb-wha5z-dyp4t");
    assert_eq!(Token::from_secret([0; 32]).fingerprint().to_string(), "cf88-9255");
}

#[test]
fn case_spaces_and_hyphens_do_not_matter() {
    let token: Token = example().parse().unwrap();
    let spaced = example().to_uppercase().replace('-', " - ").replacen(" - ", "-", 1);
    for text in [spaced, format!("  {}\n", example()), format!("midge1-{}", example()[7..].replace('-', ""))] {
        assert_eq!(text.parse(), Ok(token.clone()), "{text:?}");
    }
}

#[test]
fn every_wrong_letter_and_every_swap_of_neighbours_is_found_in_its_group() {
    let text: Vec<char> = example().chars().collect();
    for at in 7..text.len() {
        let group = (at - 7) / 6 + 1;
        let check = |changed: &[char]| {
            if changed == text || text[at] == '-' {
                return;
            }
            let changed: String = changed.iter().collect();
            match changed.parse::<Token>() {
                Err(TokenError::Group { number, .. }) => assert_eq!(number, group, "{changed}"),
                other => panic!("{changed}: {other:?}"),
            }
        };
        for letter in ('a'..='z').chain('2'..='7') {
            let mut changed = text.clone();
            changed[at] = letter;
            check(&changed);
        }
        if text.get(at + 1).is_some_and(|&next| next != '-') {
            let mut changed = text.clone();
            changed.swap(at, at + 1);
            check(&changed);
        }
    }
}

#[test]
fn groups_out_of_place_are_found() {
    let text = example();
    let groups: Vec<&str> = text[7..].split('-').collect();
    for at in 0..groups.len() - 1 {
        let mut swapped = groups.clone();
        swapped.swap(at, at + 1);
        let error = format!("midge1-{}", swapped.join("-")).parse::<Token>().unwrap_err();
        assert!(matches!(error, TokenError::Group { number, .. } if number == at + 1), "{error}");
    }
}

#[test]
fn halves_of_two_tokens_do_not_make_a_third() {
    let other = Token::from_secret([0xee; 32]).to_string();
    let mixed = (1..13).map(|groups| format!("{}{}", &example()[..7 + groups * 6], &other[7 + groups * 6..]));
    // Four bits guard the whole: one mixture in sixteen passes.
    let found = mixed.filter(|mixed| mixed.parse::<Token>() == Err(TokenError::Checksum)).count();
    assert!(found >= 10, "{found}");
}

#[test]
fn what_is_wrong_is_said() {
    let short = &example()[..80];
    for (text, said) in [
        ("", "must start with midge1-"),
        ("1234", "must start with midge1-"),
        ("midge2-abcd", "must start with midge1-"),
        ("midge1-", "cut short: 0 letters"),
        (short, "cut short: 61 letters and digits after midge1-, must be 65"),
        (&format!("{}a", example()), "too long: 66"),
        (&example().replace("aaaqa", "aa0qe"), "'0' at character 10, which no token contains; perhaps the letter o"),
        (&example().replace("aaaqa", "aaaqf"), "typo in group 1 of 13, \"aaaqf\""),
    ] {
        let error = text.parse::<Token>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn debug_does_not_show_the_secret() {
    let token: Token = example().parse().unwrap();
    let shown = format!("{token:?}");
    assert!(shown.len() < 40 && shown.contains(&token.fingerprint().to_string()), "{shown}");
}

proptest! {
    #[test]
    fn any_secret_survives_its_text_form(secret: [u8; 32]) {
        let token = Token::from_secret(secret);
        prop_assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn no_text_makes_it_panic(text: String, tail in "[a-z2-7 -]{0,90}") {
        let _ = text.parse::<Token>();
        let _ = format!("midge1-{text}").parse::<Token>();
        let _ = format!("midge1-{tail}").parse::<Token>();
    }
}
