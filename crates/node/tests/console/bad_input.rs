//! What nobody should send.
use crate::support::Bench;
use midge_node::console::{Channel, Input, SessionId, Terminal};

#[test]
fn a_line_of_a_megabyte_is_an_error_and_the_next_is_read() {
    let mut bench = Bench::open();
    for _ in 0..1024 {
        bench.send(1, &[b'x'; 1024]);
        assert_eq!(bench.read(1), "");
    }
    assert_eq!(bench.ask(""), "Line too long (max. 65536 bytes)~CMD>");
    assert_eq!(bench.ask("time"), "Sat 09:40:00~CMD>");
    assert_eq!(bench.console.counters().lines_too_long, 1);
    let value = "y".repeat(60_000);
    assert!(bench.ask(&format!("set ssid {value}")).starts_with("Invalid arg yyy"));
    assert_eq!(bench.ask(&format!("publish local a {value}")), "Published topic~CMD>");
}

#[test]
fn rubbish_is_no_command() {
    let mut bench = Bench::open();
    for byte in 0..=255_u8 {
        bench.send(1, &[byte, b'\n']);
    }
    for rubbish in ["\0\0\0", "\u{feff}show", "show\0stats", "set \x1b[2J x", "%00", "\\", "@1", "set @999999999999 x"]
    {
        assert!(bench.ask(rubbish).ends_with("CMD>"), "{rubbish:?}");
    }
    assert!(!bench.read(1).contains('\x1b'));
    assert!(bench.acts.is_empty() && bench.closed.is_empty());
}

#[test]
fn a_page_cannot_talk_through_its_readers_browser() {
    let mut bench = Bench::open();
    bench.send(1, b"POST /x?y HTTP/1.1\r\nHost: localhost:7777\r\n\r\nset broker_user mallory\nscript delete\n");
    assert_eq!((&bench.closed[..], bench.console.counters().browsers), (&[1][..], 1));
    assert_ne!(bench.console.settings().value("broker_user"), Some("mallory"));
    // What only looks like it is a word like others.
    bench.connect(2, [127, 0, 0, 1]);
    bench.send(2, b"GET HTTP\npublish local GET HTTP/1.1\n");
    assert_eq!(bench.closed.len(), 1);
}

#[test]
fn too_many_consoles_are_turned_away() {
    let mut bench = Bench::new();
    for id in 1..=16 {
        assert_eq!(bench.connect(id, [127, 0, 0, 1]), "CMD>");
    }
    assert_eq!(bench.connect(17, [127, 0, 0, 1]), "");
    assert_eq!((&bench.closed[..], bench.console.counters().full), (&[17][..], 1));
    bench.handle(Input::Closed { session: SessionId(3) });
    assert_eq!(bench.connect(18, [127, 0, 0, 1]), "CMD>");
}

/// [quirk:console-output] Whoever goes on asking and does not read gets no more done, and holds no more than is
/// bounded.
#[test]
fn a_console_that_does_not_read_is_held_back() {
    let mut bench = Bench::open();
    bench.world.script = Some(b"x".repeat(60_000));
    for _ in 0..40 {
        bench.send(1, "show script\n".repeat(10).as_bytes());
    }
    let done = bench.console.counters().commands;
    assert!((2..=4).contains(&done), "{done}");
    // It reads: everything is answered.
    let said = bench.read(1);
    assert_eq!(said.matches("--end--").count(), 400);
    assert!(bench.closed.is_empty());
    // It floods while it is held back.
    bench.ask("lock pw");
    bench.send(1, b"unlock x\n");
    for _ in 0..200 {
        bench.send(1, &[b'\n'; 1024]);
    }
    assert_eq!((&bench.closed[..], bench.console.counters().impatient), (&[1][..], 1));
}

#[test]
fn a_console_that_does_not_hear_the_script_is_closed() {
    let mut bench = Bench::new();
    bench.open_as(1, Channel::Local, Terminal::Plain);
    bench.open_as(2, Channel::Local, Terminal::Plain);
    for _ in 0..3000 {
        bench.say(&"x".repeat(1000));
        bench.read(2);
    }
    assert_eq!((&bench.closed[..], bench.console.open_sessions()), (&[1][..], 1));
}

#[test]
fn nobody_answers_for_a_console_that_is_gone() {
    let mut bench = Bench::new();
    bench.send(9, b"show\n");
    bench.handle(Input::Closed { session: SessionId(9) });
    bench.handle(Input::Written { session: SessionId(9) });
    bench.handle(Input::Scanned { session: SessionId(9), networks: None });
    assert_eq!(bench.read(9), "");
}
