//! Several consoles at once, locks, access, terminals.
use crate::support::Bench;
use midge_node::console::{ASK_FOR_EDITING, Channel, Input, SessionId, Terminal};

/// [quirk:console-output]
#[test]
fn consoles_never_mix() {
    let mut bench = Bench::open();
    bench.connect(2, [127, 0, 0, 1]);
    bench.send(1, b"set mqtt_");
    bench.send(2, b"set broker_user b");
    bench.send(1, b"user a\nti");
    bench.send(2, b"ob\n");
    assert_eq!(bench.read(1), "MQTT user set~CMD>");
    assert_eq!(bench.read(2), "Broker username set~CMD>");
    bench.send(1, b"me\n");
    assert_eq!(bench.read(1), "Sat 09:40:00~CMD>");
    assert_eq!(bench.read(2), "");
    assert_eq!(bench.console.settings().value("broker_user"), Some("bob"));
    // What the script says both hear, between lines.
    bench.send(2, b"show st");
    bench.say("pump on\r\n");
    assert_eq!((bench.read(1), bench.read(2)), ("pump on~".into(), "pump on~".into()));
    bench.send(2, b"ats\n");
    assert!(bench.read(2).starts_with("System uptime"));
}

#[test]
fn a_locked_console_refuses_what_changes_or_tells_too_much() {
    let mut bench = Bench::open();
    bench.ask("lock pw");
    for said in [
        "save",
        "save config",
        "set ssid x",
        "set",
        "publish local a b",
        "script 2000",
        "script delete",
        "reset",
        "reset factory",
        "show mqtt",
        "show script",
        "show vars",
        "delete_retained",
        "save_retained",
    ] {
        assert_eq!(bench.ask(said), "Invalid command. Config locked~CMD>", "{said}");
    }
    for said in ["help", "show", "show config", "show stats", "show backlog", "scan", "time"] {
        assert!(!bench.ask(said).contains("locked"), "{said}");
    }
    assert_eq!(bench.ask("lock other"), "Config already locked~CMD>");
    assert!(bench.acts.is_empty());
    // Who stands before the machine may reset it.
    bench.open_as(2, Channel::Serial, Terminal::Interactive);
    bench.send(2, b"reset\r");
    let may = midge_node::console::Output::MayRestart { session: Some(SessionId(2)), factory: false };
    assert!(bench.asked.contains(&may));
}

/// [quirk:lock-leak]
#[test]
fn a_script_is_not_locked_out_and_does_not_unlock() {
    let mut bench = Bench::open();
    bench.ask("lock pw");
    bench.system("set ssid net");
    assert_eq!(bench.read(1), "SSID set (auto_connect = 1)~");
    bench.system("save");
    assert_eq!(bench.read(1), "Config saved~");
    assert!(bench.console.settings().is_locked());
    assert_eq!(bench.ask("save"), "Invalid command. Config locked~CMD>");
    // In the original both of these last only until the command is over.
    bench.system("unlock pw");
    assert!(!bench.console.settings().is_locked());
    bench.system("lock other");
    assert!(bench.console.settings().is_locked());
}

#[test]
fn wrong_passwords_are_slowed_and_counted() {
    let mut bench = Bench::open();
    bench.ask("lock pw");
    for (guess, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 32)] {
        assert_eq!(bench.ask(&format!("unlock {guess}")), "");
        // What is said meanwhile waits.
        assert_eq!(bench.ask("time"), "");
        bench.pass(seconds * 1000 - 1);
        assert_eq!(bench.read(1), "", "{guess}");
        bench.pass(1);
        let said = bench.read(1);
        assert!(said.starts_with("Unlock failed. Invalid password~CMD>Sat "), "{guess}: {said}");
    }
    assert_eq!(bench.console.counters().wrong_passwords, 7);
    // Nobody else waits for that; the owner at the machine is not slowed by guesses from the network.
    bench.open_as(2, Channel::Local, Terminal::Plain);
    bench.ask("unlock 8");
    assert!(bench.ask_as(2, "time").starts_with("Sat"));
    assert_eq!(bench.ask_as(2, "unlock x"), "");
    bench.pass(1000);
    assert_eq!(bench.read(2), "Unlock failed. Invalid password~CMD>");
    assert_eq!(bench.ask_as(2, "unlock pw"), "Config unlocked~CMD>");
}

#[test]
fn access_is_for_inside_outside_both_or_nobody() {
    let (own, inside, outside) = ([127, 0, 0, 1], [192, 168, 4, 77], [198, 51, 100, 1]);
    for (access, talks) in
        [(3, [true, true, true]), (1, [true, true, false]), (2, [false, false, true]), (0, [false, false, false])]
    {
        let mut bench = Bench::new();
        bench.open_as(1, Channel::Local, Terminal::Plain);
        bench.ask(&format!("set config_access {access}"));
        for ((id, address), talks) in (2..).zip([own, inside, outside]).zip(talks) {
            let said = bench.connect(id, address);
            assert_eq!(said, if talks { "CMD>" } else { "" }, "{access} {address:?}");
            assert_eq!(bench.closed.contains(&id), !talks);
        }
        assert_eq!(bench.console.counters().refused, talks.iter().filter(|talks| !**talks).count() as u64);
    }
}

#[test]
fn output_goes_to_the_serial_line_and_the_backlog_while_nobody_else_listens() {
    let mut bench = Bench::new();
    bench.open_as(1, Channel::Serial, Terminal::Interactive);
    bench.send(1, b"set backlog 10\r");
    bench.read(1);
    bench.say("0123456789abc\r\n");
    assert_eq!(bench.read(1), "0123456789abc~");
    bench.connect(2, [127, 0, 0, 1]);
    bench.say("x");
    assert_eq!((bench.read(1), bench.read(2)), (String::new(), "x".into()));
    assert_eq!(bench.ask_as(2, "show backlog"), "56789abc~CMD>");
    bench.ask_as(2, "set system_output 0");
    bench.handle(Input::Closed { session: SessionId(2) });
    bench.say("silent");
    assert_eq!(bench.read(1), "");
    // The line belongs to the script now.
    bench.send(1, b"time\r");
    assert_eq!(bench.read(1), "");
}

#[test]
fn a_terminal_gets_its_keys_drawn() {
    let mut bench = Bench::new();
    assert_eq!(bench.open_as(1, Channel::Local, Terminal::Interactive), "CMD>");
    bench.send(1, b"ti");
    assert_eq!(bench.read(1), "ti");
    bench.say("pump on\r\n");
    assert_eq!(bench.read(1), "\r\x1b[Kpump on~CMD>ti");
    bench.say("no end");
    assert_eq!(bench.read(1), "\r\x1b[Kno end~CMD>ti");
    bench.send(1, b"\t\r");
    assert_eq!(bench.read(1), "me ~Sat 09:40:00~CMD>");
    bench.send(1, b"s\t\t");
    assert_eq!(
        bench.read(1),
        "s~save  save_retained  scan  script  set  show  ~CMD>s~save  save_retained  scan  \
                               script  set  show  ~CMD>s"
    );
    // Long lists have several lines.
    bench.send(1, b"\x15set broker_\t\t");
    let listed = bench.read(1);
    assert!(listed.contains("broker_password  ~broker_port") && listed.ends_with("CMD>set broker_"), "{listed}");
    bench.send(1, b"\x15s");
    bench.read(1);
    bench.send(1, b"\x03\x1b[A\r");
    assert_eq!(bench.read(1), "^C~CMD>\r\x1b[KCMD>time ~Sat 09:40:00~CMD>");
    bench.send(1, b"\r");
    assert_eq!(bench.read(1), "~CMD>");
    bench.send(1, b"\x04");
    assert_eq!(bench.read(1), "~Quitting console~CMD>");
    assert_eq!(bench.closed, [1]);
}

#[test]
fn a_telnet_client_can_ask_for_its_lines_to_be_edited() {
    let mut bench = Bench::open();
    bench.send(1, &ASK_FOR_EDITING);
    assert_eq!(bench.read(1).chars().filter(|c| *c == '\u{fffd}').count(), 4);
    bench.send(1, b"tume\x7f\x7f\x7fime\r\n");
    assert!(bench.read(1).ends_with("ime~Sat 09:40:00~CMD>"));
}

#[test]
fn a_silent_console_on_the_network_is_closed() {
    let mut bench = Bench::open();
    bench.open_as(2, Channel::Local, Terminal::Plain);
    bench.pass(299_000);
    bench.connect(3, [127, 0, 0, 1]);
    bench.pass(1_000);
    assert_eq!((&bench.closed[..], bench.console.counters().silent), (&[1][..], 1));
    bench.pass(299_000);
    assert_eq!(bench.closed, [1, 3]);
    assert_eq!(bench.console.open_sessions(), 1);
}
