//! Hostile scripts and a hostile world: an error with a place, a counter, and the rest goes on.
use crate::support::Bench;
use midge_rules::{FaultKind, Input, Limits, Oddities, Output, Reply, check, convert};

fn roomy() -> Limits {
    Limits { script_bytes: 2 * 1024 * 1024, ..Limits::default() }
}

fn first(script: &str, limits: &Limits) -> String {
    let report = check(script.as_bytes(), Oddities::default(), limits);
    report.diagnostics.first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_script_of_a_megabyte_is_refused() {
    let script = "on init do println 1\n".repeat(50_000);
    assert_eq!(
        first(&script, &Limits::default()),
        "1:1: error: the script has 1050000 bytes, more than the limit of 65536 \
         (raise the limit script_bytes, or split it)"
    );
    assert_eq!(first(&script, &roomy()), "", "with room for it, it runs");
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    for depth in [10_000, 100_000] {
        for (open, close) in [("(", ")"), ("not(", ")"), ("eatwhite(", ")")] {
            let compat = format!("on init do println {}1{}", open.repeat(depth), close.repeat(depth));
            assert!(first(&compat, &roomy()).contains("nested too deep"), "{open}");
            let midge = format!("% midge\non init do println {}1{}", open.repeat(depth), close.repeat(depth));
            assert!(first(&midge, &roomy()).contains("nested too deep"), "{open}");
        }
        for (script, expected) in [
            (format!("on init do {}", "if 1 then ".repeat(depth)), "nested too deep"),
            (format!("on init do {}", "while 1 do ".repeat(depth)), "nested too deep"),
            (format!("on init do {}", "if 1 then else ".repeat(depth)), "nested too deep"),
            (format!("% midge\non init do {}", "if 1 then ".repeat(depth)), "nested too deep"),
            (format!("% midge\non init do println {}1", "not ".repeat(depth)), "nested too deep"),
            (format!("% midge\non init do println {}1", "-".repeat(depth)), "nested too deep"),
            (format!("on init do println 1{}", "+1".repeat(depth)), "expression too long"),
            (format!("% midge\non init do println 1{}", "+1".repeat(depth)), "expression too long"),
        ] {
            let found = first(&script, &roomy());
            assert!(found.contains(expected), "{}: {found}", &script[..40]);
        }
    }
}

/// What is just allowed is also run, converted and dropped.
#[test]
fn the_deepest_allowed_nesting_runs() {
    for script in [
        format!("on init do println {}7{}", "(".repeat(97), ")".repeat(97)),
        format!("% midge\non init do println {}7{}", "(".repeat(97), ")".repeat(97)),
        format!("on init do {} println 7{}", "if 1 then ".repeat(97), " endif".repeat(97)),
        format!("on init do println 0{}", "+1-1".repeat(490)),
    ] {
        let said = Bench::new(&script).console();
        assert!(said == "7~" || said.len() < 6, "{said}");
        if let Err(errors) = convert(script.as_bytes(), Oddities::default(), &Limits::default()) {
            assert_eq!(errors[0].message, "this script cannot be converted as it is");
        }
    }
}

#[test]
fn binary_junk_has_a_place() {
    assert_eq!(
        first("on init do println 1\n\u{0}junk", &Limits::default()),
        "2:1: error: NUL byte in the script (a script is text; write binary data as #00ff)"
    );
    let report = check(b"% midge\non init do println \"\xff\"", Oddities::default(), &Limits::default());
    assert_eq!(
        report.diagnostics[0].to_string(),
        "2:21: error: not UTF-8 text (save the file as UTF-8; write binary data as #00ff)"
    );
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_blanks() {
    assert_eq!(Bench::new("\u{feff}% midge\r\non init do\r\nprintln 1 + 1\r\n").console(), "2~");
    assert_eq!(Bench::new("\u{feff}on init\r\ndo println 2*3+4\r\n").console(), "14~");
}

/// A site's thread may hand its rules to another.
#[test]
fn an_engine_can_be_sent() {
    fn sent<T: Send>(_: T) {}
    sent(Bench::new("on init do").engine);
}

#[test]
fn errors_show_the_line_and_a_caret() {
    let script = "% midge\non init do\n\tif 1 > 0 do println \"ü\" endif\nprintln hello\non time 1 do\nprint 1";
    let report = check(script.as_bytes(), Oddities::default(), &Limits::default());
    let shown: String =
        report.diagnostics.iter().map(|diagnostic| diagnostic.render(script.as_bytes(), "a.midge")).collect();
    assert_eq!(
        shown,
        "error: 'then' expected, found 'do'
 --> a.midge:3:11
  |
3 | \tif 1 > 0 do println \"ü\" endif
  | \t         ^^
  = hint: write: if CONDITION then ACTIONS endif
error: an event expected, found 'time'
 --> a.midge:5:4
  |
5 | on time 1 do
  |    ^^^^
  = hint: events are init, topic, timer, alarm, mqttconnect, mqttdisconnect, wificonnect, wifidisconnect, serial, \
         gpio_interrupt, http_response, peer
"
    );
    let misspelt = "% midge\non init do printn \"x\"";
    assert_eq!(
        first(misspelt, &Limits::default()),
        "2:12: error: an action expected, found 'printn' (did you mean print?)"
    );
}

/// Doubling messages: bounded by the chain and the queue, and everything else still happens.
#[test]
fn endless_recursion_through_topics_is_cut() {
    let mut bench = Bench::new(
        "on init do subscribe local a publish local a 1\n\
         on topic local a do publish local a 1 publish local a 2\n\
         on timer 1 do println alive\non init do settimer 1 5",
    );
    assert!(bench.engine.counters().faults(FaultKind::Events) > 0);
    assert!(bench.engine.counters().faults(FaultKind::Chain) > 0);
    bench.console();
    bench.after(5);
    assert_eq!(bench.console(), "alive~");
}

#[test]
fn division_by_zero_ends_the_clause_and_nothing_else() {
    for script in [
        "on init do println 1 div @1 println a\non init do println b",
        "% midge\non init do println 1 div @1 println \"a\"\non init do println \"b\"",
    ] {
        let mut bench = Bench::new(script);
        assert_eq!(bench.engine.counters().faults(FaultKind::Division), 1);
        assert_eq!(bench.console(), "b~");
    }
}

#[test]
fn unknown_pins_and_unplugged_sensors_are_reported() {
    let mut bench = Bench::new("% midge\non init do println gpio_in(77) | \"!\"");
    assert_eq!(bench.said(), ["fault pin at 2:20: pin 77 cannot be read", r#"print "0!\r\n""#]);
    let mut bench = Bench::new("on gpio_interrupt 9 pullup do println never on init do println i");
    bench.said();
    bench.input(Input::Edge { pin: 9 });
    bench.after(50);
    assert_eq!(bench.said(), ["fault pin at pin 9 cannot be read"]);
    bench.input(Input::Edge { pin: 8 });
    bench.after(50);
    assert_eq!(bench.said(), [""; 0], "nobody waits for that pin");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let mut bench = Bench::new(
        "on init do http_get http://h/ settimer 1 1000 on timer 1 do println t\n\
         on http_response do println $this_http_code",
    );
    let Some(Output::Http(request)) = bench.outputs.first().cloned() else { panic!("no request") };
    bench.after(29_999);
    assert_eq!(bench.console(), "t~", "nothing waits for it");
    bench.after(1);
    assert_eq!(bench.said(), ["http given up", r#"print " -1\r\n""#]);
    bench.input(Input::Http { id: request.id, reply: Reply::Answered { code: 200, body: b"late" } });
    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn an_answer_that_is_too_long_counts_as_failed() {
    let mut bench = Bench::new("on init do http_get http://h/ on http_response do println $this_http_code");
    bench.reply(Reply::Answered { code: 200, body: &vec![b'x'; 70_000] });
    assert_eq!(bench.said(), ["fault length at answer of h is too long", r#"print " -1\r\n""#]);
}

#[test]
fn requests_without_an_answer_are_bounded() {
    let mut bench =
        Bench::new("on init do setvar $i = 0 while 9 > $i do http_get http://h/ setvar $i = $i + 1 done println e");
    let said = bench.said();
    assert_eq!(said.len(), 10);
    assert_eq!(said[8], "fault requests at 1:42: too many HTTP requests without an answer");
    assert_eq!(said[9], r#"print "e\r\n""#);
}

#[test]
fn messages_that_are_too_long_never_reach_a_clause() {
    let mut bench = Bench::new("on init do subscribe local \"#\" on topic local \"#\" do println x");
    bench.said();
    bench.local("a", &vec![0; 100_000]);
    assert_eq!(bench.said(), ["fault length at message too long for a script"]);
    bench.local("a", b"");
    assert_eq!(bench.console(), "x~");
}

/// A flash variable is written at once, then at most once per interval, and always at the end.
#[test]
fn flash_is_not_worn_out() {
    let mut bench = Bench::new("on serial do setvar @1 = @1 + 1");
    bench.input(Input::Serial(b""));
    assert_eq!(bench.said(), [r#"flash @1 = "1""#]);
    for _ in 0..100 {
        bench.after(10);
        bench.input(Input::Serial(b""));
    }
    assert_eq!(bench.said(), [""; 0]);
    assert!(bench.engine.poll_timeout().is_some());
    bench.after(4000);
    assert_eq!(bench.said(), [r#"flash @1 = "101""#]);
    bench.input(Input::Serial(b""));
    assert_eq!(bench.said(), [""; 0]);
    bench.input(Input::Stop);
    assert_eq!(bench.said(), [r#"flash @1 = "102""#]);
    bench.input(Input::Stop);
    assert_eq!(bench.said(), [""; 0], "nothing has changed");
}

/// A turn ends when its steps are used up; what is left runs in the next one, which is wanted at once.
#[test]
fn long_work_is_done_in_turns() {
    let clause = "on init do setvar $i = 0 while 3000 > $i do setvar $i = $i + 1 done println $i\n";
    let mut bench = Bench::load(&clause.repeat(20), Oddities::default(), Limits::default()).expect("a good script");
    let mut turns = 1;
    bench.engine.handle(bench.now, Input::Start, &bench.things);
    while bench.engine.poll_timeout().is_some_and(|due| due <= bench.now.instant) {
        bench.engine.handle(bench.now, Input::Timeout, &bench.things);
        turns += 1;
    }
    assert!(turns > 3, "{turns} turns");
    while let Some(output) = bench.engine.poll_output() {
        bench.outputs.push(output);
    }
    assert_eq!(bench.console(), "3000~".repeat(20));
}
