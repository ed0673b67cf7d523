//! Password files: those of Debian's `mosquitto_passwd`, our own, and wrong ones.
use midge_access::{Entry, Passwords, Scheme, check_user_name};
use proptest::prelude::*;

/// Written by mosquitto_passwd 2.0.11, with `-H sha512` for the second line.
const BY_MOSQUITTO: &str = "\
anna:$7$101$hDI6lKRweHn6k/Ie$38OSXPcdFbkyyepabcoZULvYH0KPXCs4BNzN3HU52mqvno1x/IxyFYgtIvWMseU5EKmQcRmEOuQznHmKB6vN0g==
old user:$6$LMYfmeGkhkZc4Fuj$WBZdoNIXBMwGfvtfvDbQhbv65P14X44/VRpIUJr2Gou73yTe8VWIX3p9HW/+W8L5EwdyS1nBWXasXVBNaoOoXA==
";

#[test]
fn what_mosquitto_passwd_wrote_is_read() {
    let file = Passwords::parse(BY_MOSQUITTO).unwrap();
    assert_eq!(file.len(), 2);
    for (user, password, good) in [
        ("anna", "öpen sesame", true),
        ("anna", "open sesame", false),
        ("anna", "", false),
        ("old user", "secret", true),
        ("old user", "secret ", false),
        ("Anna", "öpen sesame", false),
        ("", "", false),
    ] {
        assert_eq!(file.verify(user, password.as_bytes()), good, "{user}: {password}");
    }
}

#[test]
fn every_scheme_knows_its_password_again() {
    for scheme in [Scheme::Sha512, Scheme::Sha512Pbkdf2(101), Scheme::Argon2id] {
        let hash = Entry::make(scheme, b"one", &[7; 16]).unwrap();
        let entry = Entry::parse(&hash).unwrap();
        assert!(entry.verify(b"one") && !entry.verify(b"two") && !entry.verify(b""), "{hash}");
        assert_ne!(hash, Entry::make(scheme, b"one", &[8; 16]).unwrap());
        let file = Passwords::parse(&format!("\u{e4} b:{hash}")).unwrap();
        assert!(file.verify("\u{e4} b", b"one"));
        assert!(!format!("{file:?}").contains(&hash[15..]), "logs do not show hashes");
    }
}

#[test]
fn wrong_lines_are_named_without_what_may_be_a_password() {
    let good = Entry::make(Scheme::Sha512, b"x", &[1; 16]).unwrap();
    let cut = &good[..good.len() - 4];
    let rows = [
        ("plain:secret".to_owned(), "line 1: \"plain\": not a hash"),
        ("nobody".to_owned(), "line 1: found no ':'"),
        (format!(":{good}"), "line 1: found no user name"),
        (format!("a:{good}\n\n# a\na:{good}"), "line 4: \"a\" is on line 1 already"),
        (format!("a:{cut}"), "line 1: \"a\": not a hash"),
        (format!("a:{good}$x"), "line 1: \"a\": not a hash"),
        (format!("a:{good}:x"), "line 1: \"a\": not a hash"),
        ("a:$7$0$AAAA$AAAA".to_owned(), "line 1: \"a\": found 0 iterations"),
        ("a:$7$99999999$AAAA$AAAA".to_owned(), "line 1: \"a\": found 99999999 iterations"),
        ("a:$5$x$y".to_owned(), "line 1: \"a\": not $6$"),
        ("a:$argon2id$v=19$m=9,t=1,p=1".to_owned(), "line 1: \"a\": a damaged $argon2id$ hash"),
        (
            "a:$argon2id$v=19$m=4000000,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            "line 1: \"a\": found m=4000000,t=1,p=1: write at most",
        ),
    ];
    for (file, expected) in rows {
        let faults = Passwords::parse(&file).unwrap_err();
        assert!(faults[0].to_string().starts_with(expected), "{file}: {}", faults[0]);
        assert!(!faults[0].to_string().contains("secret"));
    }
    assert_eq!(Passwords::parse(&"x\n".repeat(10_000)).unwrap_err().len(), 50);
}

#[test]
fn nobody_in_particular_costs_what_somebody_costs() {
    let hash = Entry::make(Scheme::Sha512Pbkdf2(60_000), b"x", &[1; 16]).unwrap();
    let file =
        Passwords::parse(&format!("cheap:{}\nreal:{hash}", Entry::make(Scheme::Sha512, b"x", &[1; 16]).unwrap()));
    let file = file.unwrap();
    let time = |user: &str| {
        let start = std::time::Instant::now();
        assert!(!file.verify(user, b"wrong"));
        start.elapsed()
    };
    let (known, unknown) = ((0..5).map(|_| time("real")).min().unwrap(), (0..5).map(|_| time("nobody")).min().unwrap());
    assert!(unknown > known / 4 && known > unknown / 4, "{known:?} {unknown:?}");
}

#[test]
fn names_that_a_file_cannot_hold() {
    for name in ["", "a:b", "a\nb", "a\u{7f}", "#a", " a", "a "] {
        assert!(check_user_name(name).is_err(), "{name:?}");
    }
    assert!(check_user_name("with space and ü").is_ok());
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "(\\PC|[:$\n#]){0,80}") {
        let _ = Passwords::parse(&text);
        let _ = midge_access::Acl::parse(&text);
    }

    #[test]
    fn no_hash_is_too_odd(text in "\\$(6|7|argon2id)\\$[a-zA-Z0-9+/=$,]{0,60}") {
        let _ = Entry::parse(&text);
    }
}
