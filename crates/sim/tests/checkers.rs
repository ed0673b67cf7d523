//! Each checker is shown to see the bug that it is for: planted in the shell around the cores, found within some seeds.
use midge_sim::Verdict;
use midge_sim::story::{Planted, Story};

const SEEDS: u64 = 200;

/// The first seed whose story, with this bug planted, breaks a promise of this kind.
fn finds(planted: Planted, is_it: fn(&Verdict) -> bool) {
    let found = (0..SEEDS).find(|seed| {
        let outcome = Story { planted: Some(planted), ..Story::new(*seed) }.run();
        outcome.verdicts.iter().any(is_it)
    });
    assert!(found.is_some(), "{planted:?} was not seen in {SEEDS} seeds");
}

#[test]
fn performing_before_the_commit_loses_what_was_acknowledged() {
    finds(Planted::PerformsBeforeCommit, |verdict| matches!(verdict, Verdict::Lost(_)));
}

#[test]
fn a_forgotten_ledger_doubles_what_was_accepted() {
    finds(Planted::ForgetsLedger, |verdict| matches!(verdict, Verdict::Doubled(_)));
}

#[test]
fn swapped_words_are_out_of_order() {
    finds(Planted::SwapsWords, |verdict| matches!(verdict, Verdict::Reordered(_)));
}

#[test]
fn sites_that_stay_apart_differ() {
    finds(Planted::StaysApart, |verdict| matches!(verdict, Verdict::RetainedDiffers(_)));
}

#[test]
fn a_script_that_copies_in_circles_is_restless() {
    finds(Planted::CopiesInCircles, |verdict| matches!(verdict, Verdict::Restless(_)));
}

#[test]
fn changed_words_are_invented() {
    finds(Planted::ChangesWords, |verdict| matches!(verdict, Verdict::Invented(_)));
}

#[test]
fn links_that_break_all_the_time_send_too_many_frames() {
    finds(Planted::Flaps, |verdict| matches!(verdict, Verdict::Unbounded(_)));
}

#[test]
fn disks_are_torn_in_some_worlds() {
    let torn = |seed| Story { trace: true, ..Story::new(seed) }.run().trace.iter().any(|line| line.contains("is torn"));
    assert!((0..40).any(torn), "no disk is ever torn");
}

#[test]
fn without_a_bug_every_promise_holds() {
    for seed in 1000..1040 {
        let outcome = Story::new(seed).run();
        assert!(outcome.verdicts.is_empty(), "replay: cargo xtask sim --seed {seed}: {:?}", outcome.verdicts);
        assert!(outcome.messages > 20, "seed {seed} tells no story");
    }
}

#[test]
fn one_seed_tells_one_story() {
    let told = |seed| Story { trace: true, ..Story::new(seed) }.run().trace;
    let (first, second) = (told(7), told(7));
    assert!(first.len() > 100, "a trace of {} lines", first.len());
    assert_eq!(first, second);
    assert_ne!(first, told(8));
}
