//! Any bytes are a script with an answer: errors with places inside it, or a script that loads and converts.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rules::{Engine, Limits, Oddities, check, convert};

fuzz_target!(|text: &[u8]| {
    let limits = Limits::default();
    for oddities in [Oddities::default(), Oddities::FIXED] {
        let report = check(text, oddities, &limits);
        let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u32 + 1;
        for diagnostic in &report.diagnostics {
            assert!(diagnostic.place.line <= lines && diagnostic.width >= 1);
            diagnostic.render(text, "script");
        }
        assert_eq!(report.is_ok(), Engine::load(text, oddities, limits.clone()).is_ok());
        if let Ok(converted) = convert(text, oddities, &limits) {
            let roomy = Limits { script_bytes: usize::MAX, ..limits.clone() };
            assert!(check(converted.as_bytes(), oddities, &roomy).is_ok(), "{converted}");
        }
    }
});
