//! Password files of any bytes: users, or faults that name their lines, and no hash or password in the words.
#![no_main]
use libfuzzer_sys::fuzz_target;
use access::Passwords;

fuzz_target!(|text: &str| {
    match Passwords::parse(text) {
        Err(faults) => {
            let lines = text.lines().count();
            assert!(!faults.is_empty() && faults.iter().all(|fault| (1..=lines).contains(&fault.line)));
        }
        Ok(passwords) => assert!(passwords.len() <= text.lines().count()),
    }
});
