//! What holds for any script and any events.
use crate::support::{Bench, Things};
use midge_rules::{
    Clock, Dialect, Engine, FaultKind, Input, Level, Limits, Oddities, Output, Reply, RequestId, Side, check, convert,
    dialect_of, simulate::describe,
};
use mqtt::{Instant, Now, QoS, Topic, Wall};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// Words of both dialects, and some that are neither.
const WORDS: [&str; 96] = [
    "on",
    "init",
    "do",
    "timer",
    "alarm",
    "1",
    "2",
    "topic",
    "local",
    "remote",
    "serial",
    "http_response",
    "mqttconnect",
    "gpio_interrupt",
    "0",
    "pullup",
    "nopullup",
    "config",
    "print",
    "println",
    "serial_out",
    "system",
    "publish",
    "retained",
    "subscribe",
    "unsubscribe",
    "if",
    "then",
    "else",
    "elseif",
    "endif",
    "while",
    "done",
    "settimer",
    "setalarm",
    "setvar",
    "$a",
    "$b",
    "@1",
    "@9",
    "=",
    "http_get",
    "http_post",
    "gpio_pinmode",
    "output",
    "input",
    "gpio_out",
    "gpio_pwm",
    "not",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "div",
    "|",
    ">",
    "gte",
    "str_gt",
    "#",
    "#00",
    "#6162",
    "$this_data",
    "$this_topic",
    "$this_serial",
    "$this_gpio",
    "$this_http_body",
    "$timestamp",
    "$weekday",
    "$adc",
    "retained_topic",
    "eatwhite",
    "binary",
    "byte_val",
    "substr",
    "csvstr",
    "json_parse",
    "gpio_in",
    "\"a/+\"",
    "\"\"",
    "\"http://h/p\"",
    "\"12:00:00\"",
    "9999999999",
    "\"-5\"",
    "and",
    "or",
    "mod",
    "!=",
    "<=",
    "option",
    "int32",
    "len",
    "replace",
    "pad",
    "%c\n",
];

fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(WORDS.to_vec());
    (any::<bool>(), vec(word, 0..60)).prop_map(|(midge, words)| {
        let text = words.join(" ");
        if midge { format!("% midge\n{text}") } else { text }
    })
}

/// A script of the old firmware that passes its check, made by its grammar.
mod grammar {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    pub(super) enum Scene {
        Plain,
        Topic,
        Serial,
        Gpio,
        Http,
    }

    fn value(scene: Scene) -> BoxedStrategy<String> {
        let of_scene: Vec<&'static str> = match scene {
            Scene::Plain => vec!["$timestamp"],
            Scene::Topic => vec!["$this_data", "$this_topic"],
            Scene::Serial => vec!["$this_serial"],
            Scene::Gpio => vec!["$this_gpio"],
            Scene::Http => vec!["$this_http_body", "$this_http_code", "$this_http_host", "$this_http_path"],
        };
        let literals = vec![
            "0",
            "1",
            "2",
            "7",
            "12",
            "abc",
            "\"\"",
            "\"2x\"",
            "\"-3\"",
            "\" 4\"",
            "\"1.9\"",
            "\"true\"",
            "\"12:00:00\"",
            "\"a/b\"",
            "#00",
            "#4142",
            "#3100",
            "\"{\\\"a\\\":[1,{\\\"b\\\":\\\"x\\\"}]}\"",
            "\"grün\"",
            "007",
            "2147483647",
            "on",
            "done",
            "\"a,b,,c\"",
        ];
        prop_oneof![
            4 => prop::sample::select(literals).prop_map(str::to_string),
            3 => prop::sample::select(vec!["$a", "$b", "$c", "@1", "@2", "$weekday", "$adc"]).prop_map(str::to_string),
            3 => prop::sample::select(of_scene).prop_map(str::to_string),
        ]
        .boxed()
    }

    fn expr(scene: Scene) -> BoxedStrategy<String> {
        value(scene)
            .prop_recursive(3, 12, 3, move |inner| {
                let operator =
                    prop::sample::select(vec!["=", ">", "gte", "str_gt", "str_gte", "+", "-", "*", "div", "|"]);
                prop_oneof![
                    3 => (inner.clone(), vec((operator, inner.clone()), 1..4)).prop_map(|(first, rest)| {
                        rest.iter().fold(first, |text, (operator, operand)| format!("{text} {operator} {operand}"))
                    }),
                    1 => inner.clone().prop_map(|e| format!("({e})")),
                    1 => inner.clone().prop_map(|e| format!("not({e})")),
                    1 => inner.clone().prop_map(|e| format!("eatwhite({e})")),
                    1 => inner.clone().prop_map(|e| format!("binary({e})")),
                    1 => inner.clone().prop_map(|e| format!("retained_topic({e})")),
                    1 => (inner.clone(), 0..5).prop_map(|(e, n)| format!("byte_val({e},{n})")),
                    1 => (inner.clone(), -4..5, 0..4).prop_map(|(e, n, m)| format!("substr({e},\"{n}\",{m})")),
                    1 => (inner.clone(), 0..3).prop_map(|(e, n)| format!("csvstr({e},{n},\",\")")),
                    1 => inner.clone().prop_map(|e| format!("json_parse(a.1.b,{e})")),
                    1 => Just("gpio_in(4)".to_string()),
                ]
            })
            .boxed()
    }

    fn topic(scene: Scene) -> BoxedStrategy<String> {
        prop_oneof![
            4 => prop::sample::select(vec!["a", "a/b", "\"x/+\"", "#61", "$a", "$b"]).prop_map(str::to_string),
            1 => value(scene),
        ]
        .boxed()
    }

    fn side() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["local", "remote"])
    }

    fn action(scene: Scene) -> BoxedStrategy<String> {
        let e = || expr(scene);
        let simple = prop_oneof![
            3 => e().prop_map(|e| format!("println {e}")),
            1 => e().prop_map(|e| format!("print {e}")),
            1 => e().prop_map(|e| format!("serial_out {e}")),
            1 => e().prop_map(|e| format!("system {e}")),
            2 => (side(), topic(scene), e(), any::<bool>()).prop_map(|(side, topic, e, retained)| {
                format!("publish {side} {topic} {e}{}", if retained { " retained" } else { "" })
            }),
            1 => (side(), topic(scene)).prop_map(|(side, topic)| format!("subscribe {side} {topic}")),
            1 => (side(), topic(scene)).prop_map(|(side, topic)| format!("unsubscribe {side} {topic}")),
            1 => (1..5, e()).prop_map(|(n, e)| format!("settimer {n} {e}")),
            1 => (1..7, e()).prop_map(|(n, e)| format!("setalarm {n} {e}")),
            4 => (prop::sample::select(vec!["$a", "$b", "$c", "@1", "@2"]), e())
                .prop_map(|(v, e)| format!("setvar {v} = {e}")),
            1 => e().prop_map(|e| format!("http_get \"http://h/\" | {e}")),
            1 => (e(), e()).prop_map(|(u, e)| format!("http_post \"http://h/\" | {u} , {e}")),
            1 => Just("gpio_pinmode 5 input pullup".to_string()),
            1 => e().prop_map(|e| format!("gpio_out 12 {e}")),
            1 => e().prop_map(|e| format!("gpio_pwm 13 {e}")),
        ];
        simple
            .prop_recursive(3, 16, 3, move |inner| {
                let block = vec(inner, 0..3).prop_map(|actions| actions.join(" "));
                prop_oneof![
                    2 => (expr(scene), block.clone()).prop_map(|(e, a)| format!("if {e} then {a} endif")),
                    2 => (expr(scene), block.clone(), block.clone())
                        .prop_map(|(e, a, b)| format!("if {e} then {a} else {b} endif")),
                    1 => (expr(scene), block).prop_map(|(e, a)| {
                        let stop = format!("if {e} then setvar $i = 9 endif");
                        format!("setvar $i = 0 while 3 > $i do {a} setvar $i = $i + 1 {stop} done")
                    }),
                ]
            })
            .boxed()
    }

    fn clause() -> impl Strategy<Value = String> {
        let event = prop_oneof![
            Just(("mqttconnect".to_string(), Scene::Plain)),
            Just(("wificonnect".to_string(), Scene::Plain)),
            (1..5).prop_map(|n| (format!("timer {n}"), Scene::Plain)),
            (1..7).prop_map(|n| (format!("alarm {n}"), Scene::Plain)),
            Just(("serial".to_string(), Scene::Serial)),
            Just(("http_response".to_string(), Scene::Http)),
            Just(("gpio_interrupt 4 pullup".to_string(), Scene::Gpio)),
            (side(), prop::sample::select(vec!["\"#\"", "\"a/+\"", "a", "$a", "\"#/b\"", "\"a/#/b\""]))
                .prop_map(|(side, filter)| (format!("topic {side} {filter}"), Scene::Topic)),
        ];
        event.prop_flat_map(|(event, scene)| {
            vec(action(scene), 0..5).prop_map(move |actions| format!("on {event}\ndo {}\n", actions.join("\n  ")))
        })
    }

    pub(super) fn script() -> impl Strategy<Value = String> {
        vec(clause(), 1..6).prop_map(|clauses| {
            format!(
                "on init do setvar $a = a setvar $b = \"a/b\" setvar $c = \"\" setvar $i = 0 subscribe local \"#\"\n{}",
                clauses.concat()
            )
        })
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Message(Side, &'static str, Vec<u8>),
    After(u64),
    Serial(Vec<u8>),
    Edge(Level),
    Reply(Option<(u16, Vec<u8>)>),
    Connect,
    Disconnect,
    Up,
    Clock(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let bytes = || {
        prop_oneof![
            vec(any::<u8>(), 0..6),
            prop::sample::select(vec!["1", "on", "a/b", "12:00:00", "x\0y", "-7", "21.5", "{\"a\":[0,{\"b\":true}]}"])
                .prop_map(|text| text.as_bytes().to_vec()),
        ]
    };
    let side = prop::sample::select(vec![Side::Local, Side::Remote]);
    prop_oneof![
        4 => (side, prop::sample::select(vec!["a", "a/b", "x/y/b", "$SYS/a"]), bytes())
            .prop_map(|(side, topic, payload)| Happening::Message(side, topic, payload)),
        3 => prop::sample::select(vec![1u64, 7, 50, 1000, 60_000, 3_600_000]).prop_map(Happening::After),
        1 => bytes().prop_map(Happening::Serial),
        1 => prop::sample::select(vec![Level::Low, Level::High]).prop_map(Happening::Edge),
        2 => prop::option::of((prop::sample::select(vec![200u16, 404]), bytes())).prop_map(Happening::Reply),
        1 => Just(Happening::Connect),
        1 => Just(Happening::Disconnect),
        1 => Just(Happening::Up),
        1 => (0u64..172_800).prop_map(Happening::Clock),
    ]
}

fn small() -> Limits {
    Limits { chain: 3, events: 32, steps_per_clause: 5000, ..Limits::default() }
}

/// Plays the events and writes down what comes out; places differ between dialects and are left out.
fn play(script: &str, happenings: &[Happening], limits: Limits) -> Vec<String> {
    let mut bench = Bench::with(script, Oddities::default(), limits);
    bench.things.retained.insert("a/b".into(), b"kept\0more".to_vec());
    bench.things.pins.insert(4, Level::High);
    let mut said = Vec::new();
    let mut requests = Vec::new();
    for happening in happenings {
        for output in bench.outputs.drain(..) {
            match output {
                Output::Fault(fault) => said.push(format!("fault {}: {}", fault.kind.word(), fault.message)),
                output => {
                    if let Output::Http(request) = &output {
                        requests.push(request.id);
                    }
                    said.push(describe(&output));
                }
            }
        }
        said.push(format!("{happening:?}"));
        match happening {
            Happening::Message(side, topic, payload) => bench.message(*side, topic, payload),
            Happening::After(millis) => bench.after(*millis),
            Happening::Serial(line) => bench.input(Input::Serial(line)),
            Happening::Edge(level) => {
                bench.things.pins.insert(4, *level);
                bench.input(Input::Edge { pin: 4 });
            }
            Happening::Reply(reply) => {
                if let Some(id) = requests.pop() {
                    let reply = match reply {
                        Some((code, body)) => Reply::Answered { code: *code, body },
                        None => Reply::Failed,
                    };
                    bench.input(Input::Http { id, reply });
                }
            }
            Happening::Connect => bench.input(Input::RemoteConnected),
            Happening::Disconnect => bench.input(Input::RemoteDisconnected),
            Happening::Up => bench.input(Input::LinkUp),
            Happening::Clock(second) => {
                bench.now.wall = Wall(1_704_067_200_000 + second * 1000);
                bench.input(Input::Clock(Clock::Set { offset_millis: 0 }));
            }
        }
    }
    said.extend(bench.said().into_iter().filter(|line| !line.starts_with("fault")));
    said
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), midge in any::<bool>()) {
        let mut text = if midge { b"% midge\n".to_vec() } else { Vec::new() };
        text.extend_from_slice(&bytes);
        let report = check(&text, Oddities::default(), &Limits::default());
        for diagnostic in &report.diagnostics {
            diagnostic.render(&text, "bytes");
        }
        prop_assert_eq!(report.is_ok(), Engine::load(&text, Oddities::default(), Limits::default()).is_ok());
        let _ = convert(&text, Oddities::default(), &Limits::default());
    }

    #[test]
    fn any_words_are_survived(script in soup(), happenings in vec(happening(), 0..6)) {
        let report = check(script.as_bytes(), Oddities::default(), &Limits::default());
        for diagnostic in &report.diagnostics {
            diagnostic.render(script.as_bytes(), "soup");
        }
        if report.is_ok() {
            play(&script, &happenings, small());
        }
    }

    #[test]
    fn a_converted_script_does_the_same(script in grammar::script(), happenings in vec(happening(), 0..12)) {
        // An else that an inner if takes may leave the outer one without what it needs: an error there too.
        prop_assume!(check(script.as_bytes(), Oddities::default(), &Limits::default()).is_ok());
        let converted = convert(script.as_bytes(), Oddities::default(), &Limits::default())
            .unwrap_or_else(|errors| panic!("{}\n{script}", errors[0]));
        prop_assert_eq!(dialect_of(converted.as_bytes()), Dialect::Midge);
        let (old, new) = (play(&script, &happenings, small()), play(&converted, &happenings, small()));
        prop_assert_eq!(old, new, "{}\n{}", script, converted);
        // Converting twice changes nothing.
        let again = convert(converted.as_bytes(), Oddities::default(), &Limits::default()).expect("it is midge");
        prop_assert_eq!(again, converted);
    }

    /// Never more than the budgets, whatever the script does. Bodies are made of what costs most.
    #[test]
    fn no_script_exceeds_its_budgets(
        body in vec(prop::sample::select(HUNGRY.to_vec()), 1..12),
        inputs in vec((any::<bool>(), vec(any::<u8>(), 0..40)), 1..8),
    ) {
        let script = format!(
            "% midge\non init do subscribe local \"#\" setvar $a = \"xy\" setvar $b = \"\"\n\
             on topic local \"#\" do {}\n\
             on timer 1 do settimer 1, 1 publish local \"t\", $a",
            body.join("\n")
        );
        let mut budget = Budget::new(&script)?;
        budget.handle(Input::Start, true)?;
        for (polls, payload) in &inputs {
            let topic = Topic::parse("in").expect("a topic");
            let message = Input::Message { side: Side::Local, topic, payload, qos: QoS::AtMostOnce, retain: false };
            budget.handle(message, *polls)?;
            budget.handle(Input::Timeout, *polls)?;
        }
    }

    /// The same of scripts that a grammar makes, their loops without an end, in both dialects.
    #[test]
    fn no_script_of_the_grammar_exceeds_its_budgets(
        script in grammar::script(),
        happenings in vec((any::<bool>(), happening()), 1..16),
    ) {
        let endless = script.replace("while 3 > $i do", "while 1 do");
        prop_assume!(check(endless.as_bytes(), Oddities::default(), &Limits::default()).is_ok());
        let converted = convert(endless.as_bytes(), Oddities::default(), &Limits::default())
            .unwrap_or_else(|errors| panic!("{}\n{endless}", errors[0]));
        for script in [endless, converted] {
            let mut budget = Budget::new(&script)?;
            budget.handle(Input::Start, true)?;
            for (polls, happening) in &happenings {
                budget.happen(happening, *polls)?;
                budget.handle(Input::Timeout, *polls)?;
            }
        }
    }
}

/// An engine with little to spend, and what is held against it after each input.
struct Budget {
    engine: Engine,
    limits: Limits,
    world: Things,
    now: Now,
}

impl Budget {
    fn new(script: &str) -> Result<Self, TestCaseError> {
        let limits = Limits {
            steps_per_clause: 2000,
            steps_per_turn: 4000,
            memory_bytes: 20_000,
            string_bytes: 3000,
            events: 16,
            outputs: 40,
            chain: 5,
            ..Limits::default()
        };
        let engine = Engine::load(script.as_bytes(), Oddities::default(), limits.clone());
        let engine = engine.map_err(|errors| TestCaseError::fail(format!("{}\n{script}", errors[0])))?;
        Ok(Self { engine, limits, world: Things::default(), now: Now { instant: Instant(0), wall: Wall(0) } })
    }

    fn handle(&mut self, input: Input<'_>, polls: bool) -> Result<(), TestCaseError> {
        let (engine, limits) = (&mut self.engine, &self.limits);
        let before = engine.counters().steps;
        engine.handle(self.now, input, &self.world);
        let steps = engine.counters().steps - before;
        // One clause may end after the turn's budget is used up, and its last step may be a long one.
        let steps_max = u64::from(limits.steps_per_turn + limits.steps_per_clause) + 4 * 3000 / 32;
        prop_assert!(steps <= steps_max, "{steps} steps");
        // Faults are kept room for.
        prop_assert!(engine.memory_bytes() <= limits.memory_bytes + 32 * 300, "{} bytes", engine.memory_bytes());
        let mut outputs = 0;
        while polls && let Some(output) = engine.poll_output() {
            outputs += 1;
            if let Output::Print(text) = output {
                prop_assert!(text.len() <= limits.string_bytes + 2);
            }
        }
        prop_assert!(outputs <= limits.outputs + 32);
        self.now.instant += Duration::from_millis(1);
        Ok(())
    }

    fn happen(&mut self, happening: &Happening, polls: bool) -> Result<(), TestCaseError> {
        let input = match happening {
            Happening::Message(side, topic, payload) => {
                let topic = Topic::parse(topic).expect("a topic");
                Input::Message { side: *side, topic, payload, qos: QoS::AtMostOnce, retain: false }
            }
            Happening::After(millis) => {
                self.now.instant += Duration::from_millis(*millis);
                Input::Timeout
            }
            Happening::Serial(line) => Input::Serial(line),
            Happening::Edge(level) => {
                self.world.pins.insert(4, *level);
                Input::Edge { pin: 4 }
            }
            // Whose answer this is, nobody knows any more.
            Happening::Reply(_) => Input::Http { id: RequestId(1), reply: Reply::Failed },
            Happening::Connect => Input::RemoteConnected,
            Happening::Disconnect => Input::RemoteDisconnected,
            Happening::Up => Input::LinkUp,
            Happening::Clock(second) => {
                self.now.wall = Wall(1_704_067_200_000 + second * 1000);
                Input::Clock(Clock::Set { offset_millis: 0 })
            }
        };
        self.handle(input, polls)
    }
}

/// Actions that grow, repeat and breed.
const HUNGRY: [&str; 14] = [
    "setvar $a = $a | $a",
    "while 1 do setvar $a = $a | \"x\" done",
    "while 1 do print $a done",
    "while 1 do publish local \"again\", $a done",
    "publish local \"one\", $a publish local \"two\", $this_data",
    "setvar $a = replace($a, \"x\", $a)",
    "setvar $b = pad($a, 2999)",
    "while len($b) < 9999 do setvar $b = $b | $this_data | \"q\" done",
    "settimer 1, 1",
    "subscribe local $a",
    "while 1 do subscribe local $a setvar $a = $a | \"/z\" done",
    "setvar $a = json_text($a)",
    "http_get \"http://h/\" | $a",
    "while 1 do done",
];

/// The limits are reached by the bodies above: otherwise the property says little.
#[test]
fn hungry_scripts_do_reach_the_budgets() {
    let limits = Limits {
        memory_bytes: 20_000,
        string_bytes: 3000,
        outputs: 200,
        events: 16,
        subscriptions: 50,
        ..Limits::default()
    };
    for (body, kind) in [
        ("while 1 do done", FaultKind::Steps),
        ("while 1 do print 1 done", FaultKind::Outputs),
        ("setvar $a = \"x\" while 1 do setvar $a = $a | $a done", FaultKind::Length),
        ("subscribe local \"t\" while 1 do publish local \"t\", 1 done", FaultKind::Outputs),
        ("subscribe local \"t\" publish local \"t\", 1 settimer 1, 1", FaultKind::Chain),
        ("setvar $n = 1 while 1 do subscribe local $n setvar $n = $n + 1 done", FaultKind::Subscriptions),
        ("while 1 do http_get \"http://h/\" done", FaultKind::Requests),
        ("println 1 / 0", FaultKind::Division),
        ("println 1 mod 0", FaultKind::Division),
        ("println 99999999999999999999 * 99999999999999999999", FaultKind::Overflow),
        ("println \"a\" + 1", FaultKind::Number),
        ("http_get \"ftp://h/\"", FaultKind::Url),
        ("publish local \"a\" | \"/+\", 1", FaultKind::Topic),
        ("println gpio_in(99)", FaultKind::Pin),
        ("settimer 1, -1", FaultKind::Time),
        ("fail \"so\"", FaultKind::Script),
    ] {
        let script = format!(
            "% midge\non init do {body}\non timer 1 do println 2\non topic local \"t\" do publish local \"t\", 1\n\
             on init do println \"goes on\""
        );
        let mut engine = Engine::load(script.as_bytes(), Oddities::default(), limits.clone())
            .unwrap_or_else(|errors| panic!("{}", errors[0].render(script.as_bytes(), "script")));
        let mut said = Vec::new();
        engine.handle(Now::default(), Input::Start, &Things::default());
        while let Some(output) = engine.poll_output() {
            said.push(output);
        }
        assert!(engine.counters().faults(kind) > 0, "{body}: {:?}", said.iter().map(describe).collect::<Vec<_>>());
        let fault = said.iter().find_map(|output| match output {
            Output::Fault(fault) if fault.kind == kind => Some(fault),
            _ => None,
        });
        assert!(fault.is_some_and(|fault| fault.place.is_some()), "{body}: has a place");
    }
}

/// Memory is refused before it is taken.
#[test]
fn memory_is_a_budget() {
    let limits = Limits { memory_bytes: 4000, string_bytes: 3000, ..Limits::default() };
    let script = "% midge\non init do setvar $a = pad(\"\", 2000) setvar $b = $a | \"\" println $b println \"end\"\n\
                  on init do println \"goes on\"";
    let mut bench = Bench::with(script, Oddities::default(), limits);
    assert_eq!(bench.engine.counters().faults(FaultKind::Memory), 1);
    assert_eq!(bench.console(), "goes on~");
}
