//! Two sites and a perfect mailbox: who says what, in how many words.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
mod world;
use world::{Faults, World};

#[test]
fn strangers_with_one_token_meet_in_two_messages_each() {
    let mut world = World::new(1, Faults::NONE);
    let (a, b) = (world.add_site("cabin"), world.add_site("home"));
    world.start(a);
    world.run_for_millis(3_400);
    let before = world.posted(a);
    world.start(b);
    world.run_for_millis(60);
    assert!(world.is_linked(a, b), "{}", world.story());
    assert!(world.posted(a) - before <= 2 && world.posted(b) <= 2, "{}", world.story());
}
