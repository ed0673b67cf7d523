//! What `midge` has and the old language had not, and what both say in the log.
use crate::support::Bench;
use midge_rules::{Clock, Input, Limits, Logging, Oddities, PeerChange, Side};
use mqtt::{Now, QoS, Topic};
use std::time::Duration;

/// Expressions and what they print.
#[test]
fn functions() {
    for (expression, expected) in [
        ("0.1 + 0.2", "0.3"),
        ("10 / 4", "2.5"),
        ("-7 div 2", "-3"),
        ("1 + \" 2 \"", "3"),
        ("$unset + 1", "1"),
        ("21.50 = 21.5", "1"),
        ("\"21.50\" = 21.5", "0"),
        ("number(\"21.50\") = 21.5", "1"),
        ("number(\"x\") | number(\"x\", -1)", "0-1"),
        ("is_number(\"1e3\") | is_number(\"\") | is_number(\"1x\")", "100"),
        ("floor(-1.5) | \" \" | round(2.345, 2) | \" \" | abs(-3)", "-2 2.35 3"),
        ("min(3, 1, 2) | max(3, 1, 2)", "13"),
        ("upper(\"grün\") | lower(\"ÄB\")", "GRÜNäb"),
        ("trim(\"  a b \")", "a b"),
        ("find(\"grün\", \"n\") | find(\"a\", \"b\")", "3-1"),
        ("replace(\"a.b.c\", \".\", \"/\")", "a/b/c"),
        ("starts(\"abc\", \"ab\") | ends(\"abc\", \"ab\")", "10"),
        ("pad(7, 3, 0) | pad(\"x\", 2)", "007 x"),
        ("hex(#00ff) | hex(unhex(\"0a\"))", "00ff0a"),
        ("json_text(\"a\\\"b\")", "\"a\\\"b\""),
        ("url_text(\"a b\")", "a%20b"),
        ("matches(\"a/+\", \"a/b\") | matches(\"a/+\", \"b\")", "10"),
        ("level(\"a/b/c\", 1)", "b"),
        ("csvstr(\"a, b\", 1, \", \")", "b"),
        ("substr(\"hello\", 1)", "ello"),
        ("setting(\"mqtt_host\")", "broker.example"),
        ("(not \"off\") | (not \"false\") | (not 0) | (not \"\") | (not \"null\")", "01111"),
        ("1 and 0 or 1", "1"),
        ("$adc", "512"),
        ("$timestamp | $weekday | $date", "99:99:99xxx"),
    ] {
        let script = format!("% midge\non init do println {expression}\non serial do setvar $unset = 1");
        assert_eq!(Bench::new(&script).console(), format!("{expected}~"), "{expression}");
    }
}

#[test]
fn and_and_or_look_no_further_than_they_must() {
    let mut bench = Bench::new("% midge\non init do println 0 and 1 / 0 println 1 or 1 / 0");
    assert_eq!(bench.console(), "0~1~");
}

#[test]
fn wildcards_are_captured() {
    let mut bench = Bench::new(
        "% midge\non init do subscribe local \"dev/#\"\n\
         on topic local \"dev/+/set/#\" do publish local \"out/\" | $1, $2 | \"=\" | $this_data",
    );
    bench.said();
    bench.local("dev/lamp/set/dim/level", b"7");
    assert_eq!(bench.said(), [r#"publish local out/lamp "dim/level=7""#]);
}

#[test]
fn qos_and_retain_can_be_said_and_seen() {
    let mut bench = Bench::new(
        "% midge\non init do subscribe local \"a\" qos 1 retained publish local \"b\", 1 retained qos 2\n\
         on topic local \"a\" do println $this_qos | $this_retained",
    );
    assert_eq!(bench.said(), ["subscribe local a qos 1 retained", r#"publish local b "1" qos 2 retained"#]);
    let topic = Topic::parse("a").expect("a topic");
    bench.input(Input::Message { side: Side::Local, topic, payload: b"", qos: QoS::AtLeastOnce, retain: true });
    assert_eq!(bench.console(), "11~");
}

/// QoS 0 is dropped while the remote broker is away, as it always was; more is handed over for its client to keep.
#[test]
fn remote_messages_while_it_is_away() {
    let mut bench = Bench::new("% midge\non init do publish remote \"a\", 1 publish remote \"b\", 2 qos 1");
    assert_eq!(bench.said(), [r#"publish remote b "2" qos 1"#]);
    assert_eq!(bench.engine.counters().remote_dropped, 1);
}

#[test]
fn sites_come_and_go() {
    let mut bench = Bench::new(
        "% midge\non peer \"cabin\" up do println \"cabin\"\non peer any down do println $this_peer\n\
         on mqttdisconnect do println \"gone\"",
    );
    for (name, change) in [("cabin", PeerChange::Up), ("shed", PeerChange::Up), ("shed", PeerChange::Down)] {
        bench.input(Input::Peer { name, change });
    }
    bench.input(Input::RemoteDisconnected);
    assert_eq!(bench.console(), "cabin~shed~gone~");
}

#[test]
fn conditions_and_loops() {
    let script = "% midge\non init do\n\
        setvar $i = 0\n\
        while $i < 4 do\n\
          if $i = 0 then println \"none\" elseif $i = 1 then println \"one\"\n\
          elseif $i >= 3 then stop else println \"more\" endif\n\
          setvar $i = $i + 1\n\
        done\n\
        println \"never\"\n\
        on init do fail \"as said\" println \"never\"";
    assert_eq!(
        Bench::new(script).said(),
        [r#"print "none\r\n""#, r#"print "one\r\n""#, r#"print "more\r\n""#, "fault script at 10:12: as said"]
    );
}

#[test]
fn the_clock_is_seen() {
    let mut bench =
        Bench::new("% midge\non serial do println $date | \" \" | $weekday | \" \" | $timestamp | \" \" | $seconds");
    bench.input(Input::Clock(Clock::Set { offset_millis: 5_400_000 }));
    bench.input(Input::Serial(b""));
    assert_eq!(bench.console(), "2024-01-01 Mon 01:30:00 1704067200~");
}

/// An hour that comes twice in autumn has its alarms once; one that is left out in spring has them at its end.
#[test]
fn daylight_saving_neither_doubles_nor_loses_alarms() {
    let script = "% midge\non init do setalarm 1, \"02:30\" setalarm 2, \"03:00\" setalarm 3, \"02:59:59\"\n\
                  on alarm 1 do println \"1 \" | $timestamp\non alarm 2 do println \"2 \" | $timestamp\n\
                  on alarm 3 do println \"3 \" | $timestamp";
    let play = |spans: &[(i64, std::ops::Range<u64>)]| {
        let mut bench = Bench::load(script, Oddities::default(), Limits::default()).expect("a good script");
        let midnight = bench.now;
        let mut input = Input::Start;
        for (zone_hours, seconds) in spans {
            for second in seconds.clone() {
                let passed = Duration::from_secs(second);
                bench.now = Now { instant: midnight.instant + passed, wall: midnight.wall + passed };
                if second == seconds.start {
                    bench.input(Input::Clock(Clock::Set { offset_millis: zone_hours * 3_600_000 }));
                }
                bench.input(std::mem::replace(&mut input, Input::Timeout));
            }
        }
        bench.console()
    };
    // In UTC: the shift is at one o'clock.
    let (before, after) = (0..3600, 3600..10_800);
    let autumn = [(2, before.clone()), (1, after.clone())];
    assert_eq!(play(&autumn), "1 02:30:00~3 02:59:59~2 03:00:00~");
    assert_eq!(play(&[(1, before), (2, after)]), "1 03:00:00~2 03:00:00~3 03:00:00~");
}

/// Two edges within 50 ms are one, and the level at its end is what counts.
#[test]
fn pins_are_debounced() {
    let mut bench = Bench::new("on gpio_interrupt 4 nopullup do print $this_gpio");
    assert_eq!(bench.said(), ["pin 4 watched nopullup"]);
    bench.things.pins.insert(4, midge_rules::Level::Low);
    bench.input(Input::Edge { pin: 4 });
    bench.after(30);
    bench.input(Input::Edge { pin: 4 });
    bench.after(20);
    assert_eq!(bench.console(), "0");
    bench.after(50);
    assert_eq!(bench.console(), "");
}

#[test]
fn pwm_and_timers_take_numbers_as_the_old_ones_did() {
    let mut bench = Bench::new(
        "on init do gpio_pwm 2 \"-1\" gpio_pwm 2 1200 gpio_pwm 2 500 settimer 1 \"-1\" settimer 2 5 settimer 2 0\n\
         on timer 1 do println one on timer 2 do println two",
    );
    assert_eq!(bench.said(), ["pwm 2 0", "pwm 2 1000", "pwm 2 1000", "pwm 2 500"]);
    bench.after(100_000);
    assert_eq!(bench.console(), "", "minus one is 49 days");
}

#[test]
fn the_log_is_worded_as_the_original_words_it() {
    let mut bench = Bench::new(
        "on init do settimer 1 5\n\
         on topic local \"a/+\" do setvar $x = $this_data \
         if $x = on then publish local b $x else publish local c x | \"y\" endif \
         while 0 do done\n\
         on timer 1 do subscribe local \"a/#\" gpio_out 2 1 setvar $y = 1 setalarm 1 12:00 serial_out s",
    );
    bench.input(Input::Logging(Logging::On));
    bench.clock(0, "08:00:00");
    bench.after(5);
    bench.local("a/b", b"on");
    bench.local("a/b", b"off");
    let log: Vec<String> =
        bench.said().into_iter().filter_map(|line| Some(line.strip_prefix("log 08:00:00: ")?.to_string())).collect();
    assert_eq!(
        log,
        [
            "on timer 1",
            "subscribe local a/#",
            "gpio_out 2 1",
            "setvar $y = 1",
            "setalarm 1 12:00",
            "serial_out 's'",
            "on topic local a/+ matched a/b",
            "setvar $x = binary (2 bytes)",
            "if $x =... (done)",
            "publish local b binary (2 bytes)",
            "on topic local a/+ matched a/b",
            "setvar $x = binary (3 bytes)",
            "if $x =... else (done)",
            "publish local c xy",
        ]
    );
}
