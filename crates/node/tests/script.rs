//! The rules as a part of the site: what they hear, say and keep, and that they leave the broker its time.
use midge_node::rules::{Clock, Level, Output as Wish, Reply, RequestId, Side};
use midge_node::script::{Begin, Event as ScriptEvent, Input as ScriptInput};
use midge_node::{Change, Config, Event, Input, Membership, MeshConfig, Node, Output, SiteId};
use mqtt::{Instant, Message, MessageOptions, Now, QoS, Topic, Wall};
use std::collections::BTreeMap;
use std::time::Duration;

/// A node with its disk and its clock.
struct Bench {
    node: Node,
    disk: BTreeMap<Box<[u8]>, Box<[u8]>>,
    now: Now,
    wishes: Vec<Wish>,
    events: Vec<String>,
    frames: Vec<(SiteId, Vec<u8>)>,
}

const START: Now = Now { instant: Instant(1_000_000), wall: Wall(1_704_067_200_000) };

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text).expect("a topic")
}

impl Bench {
    fn new() -> Self {
        Self::on(BTreeMap::new(), Config::default())
    }

    fn on(disk: BTreeMap<Box<[u8]>, Box<[u8]>>, config: Config) -> Self {
        let mut node = Node::new(config, [7; 32]);
        for (key, value) in &disk {
            node.restore(key, value).expect("its own record");
        }
        node.restored(START);
        let (wishes, events, frames) = Default::default();
        let mut bench = Self { node, disk, now: START, wishes, events, frames };
        bench.say(ScriptInput::Start);
        bench.round();
        bench
    }

    fn with(script: &str) -> Self {
        let mut bench = Self::new();
        bench.install(script, Begin::Now);
        bench.round();
        bench
    }

    fn install(&mut self, script: &str, begin: Begin) {
        self.say(ScriptInput::Install { text: script.as_bytes(), begin });
    }

    fn say(&mut self, input: ScriptInput<'_>) {
        self.node.handle(self.now, Input::Script(input));
    }

    fn publish(&mut self, name: &str, payload: &str) {
        self.publish_as(name, payload, MessageOptions::default());
    }

    fn publish_as(&mut self, name: &str, payload: &str, options: MessageOptions<'_>) {
        let message = Message::new(topic(name), payload.as_bytes(), options).expect("a message");
        self.node.handle(self.now, Input::Publish { message: &message });
    }

    /// One batch.
    fn round(&mut self) {
        self.node.handle(self.now, Input::Timeout);
        self.drain();
        if let Some((batch, changes)) = self.node.seal(self.now, Vec::new()) {
            for Change { key, value } in changes {
                match value {
                    Some(value) => drop(self.disk.insert(key, value)),
                    None => drop(self.disk.remove(&key)),
                }
            }
            self.node.committed(self.now, batch);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Script(wish) => self.wishes.push(wish),
                Output::Event(Event::Script(event)) => self.events.push(event.to_string()),
                Output::Frame { peer, bytes, .. } => self.frames.push((peer, bytes)),
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { instant: self.now.instant + time, wall: self.now.wall + time };
        self.round();
    }

    fn retained(&self, name: &str) -> Option<String> {
        self.node.broker().retained(topic(name)).map(|message| String::from_utf8_lossy(message.payload()).into_owned())
    }

    fn printed(&mut self) -> String {
        let printed = |wish: Wish| if let Wish::Print(text) = wish { Some(text) } else { None };
        let texts: Vec<_> = std::mem::take(&mut self.wishes).into_iter().filter_map(printed).collect();
        String::from_utf8_lossy(&texts.concat()).into_owned()
    }
}

#[test]
fn a_script_hears_messages_once_and_answers() {
    let mut bench = Bench::with(
        "% midge
        on init do subscribe local \"room/#\" subscribe local \"room/+/heat\"
        on topic local \"room/+/heat\" do publish local \"seen/\" | $1, $this_data retained println $this_data",
    );
    bench.publish("room/attic/heat", "21");
    bench.publish("room/attic/light", "on");
    bench.round();
    assert_eq!(bench.retained("seen/attic").as_deref(), Some("21"));
    assert_eq!(bench.printed(), "21\r\n");
    assert_eq!(bench.events, ["Script of 188 bytes runs (midge)."]);
}

#[test]
fn retained_messages_are_looked_up_and_asked_for() {
    let mut bench = Bench::new();
    for name in ["home/a/mode", "home/b/mode", "home/b/other", "zoo/mode"] {
        let options = MessageOptions { retain: true, ..MessageOptions::default() };
        bench.publish_as(name, name, options);
    }
    bench.install(
        "% midge
        on init do
            println retained_topic(\"home/+/mode\") | \";\" | retained_topic(\"zoo/mode\") | \";\" | retained_topic(\"x/#\")
            subscribe local \"zoo/#\" retained
        on topic local \"zoo/#\" do println $this_topic | $this_retained",
        Begin::Now,
    );
    bench.round();
    assert_eq!(bench.printed(), "home/b/mode;zoo/mode;\r\nzoo/mode1\r\n");
}

#[test]
fn flash_variables_and_scripts_survive_a_restart() {
    const COUNTER: &str = "% midge\non init do setvar @1 = @1 + 1 publish local \"starts\", @1 retained";
    let mut bench = Bench::with(COUNTER);
    bench.say(ScriptInput::Stop);
    bench.round();
    let mut again = Bench::on(bench.disk, Config::default());
    assert_eq!(again.retained("starts").as_deref(), Some("2"));
    again.install("on init do println 1", Begin::AsDialect);
    again.round();
    assert!(!again.node.script().is_running(), "compat begins with the next start");
    assert_eq!(again.node.script().previous(), Some(COUNTER.as_bytes()));
    let mut third = Bench::on(again.disk, Config::default());
    assert_eq!(third.printed(), "1\r\n");
    third.say(ScriptInput::Revert { begin: Begin::Now });
    third.round();
    assert_eq!(third.node.script().text(), Some(COUNTER.as_bytes()));
    assert_eq!(third.node.script().flash().get(&1), Some(&&b"3"[..]));
    third.say(ScriptInput::Delete);
    third.round();
    let fourth = Bench::on(third.disk, Config::default());
    assert_eq!(fourth.node.script().text(), None);
    assert!(fourth.node.script().flash().is_empty());
    assert_eq!(fourth.node.script().previous(), Some(COUNTER.as_bytes()));
}

#[test]
fn a_script_with_errors_replaces_nothing() {
    let mut bench = Bench::with("% midge\non init do subscribe local \"a\"\non topic local \"a\" do println \"old\"");
    bench.events.clear();
    bench.install("% midge\non init do fly", Begin::Now);
    bench.publish("a", "");
    bench.round();
    assert_eq!(bench.printed(), "old\r\n");
    assert_eq!(bench.events.len(), 1);
    assert!(bench.events[0].starts_with("Script does not run: 2:12: error: "), "{}", bench.events[0]);
}

/// A clause that uses all of its budget, for every message of a flood.
#[test]
fn a_greedy_script_leaves_the_broker_its_time() {
    let mut bench = Bench::with(
        "% midge
        on init do subscribe local \"flood\" setvar $n = 0
        on topic local \"flood\" do
            setvar $n = $n + 1 publish local \"count\", $n retained
            setvar $i = 0 while $i < 200 do setvar $i = $i + 1 done",
    );
    let steps = |bench: &Bench| bench.node.script().counters().expect("it runs").steps;
    for _ in 0..5000 {
        bench.publish("flood", "x");
    }
    let mut most = 0;
    let mut rounds = 0;
    while bench.node.poll_timeout().is_some_and(|at| at <= bench.now.instant) {
        let before = steps(&bench);
        bench.publish_as("other", &rounds.to_string(), MessageOptions { retain: true, ..MessageOptions::default() });
        bench.round();
        assert_eq!(bench.retained("other"), Some(rounds.to_string()), "everybody else is served in every batch");
        most = most.max(steps(&bench) - before);
        rounds += 1;
        assert!(rounds < 10_000, "it never comes to rest");
    }
    assert!(most <= 250_000, "{most} steps in one batch");
    let heard: u64 = bench.retained("count").expect("a count").parse().expect("a number");
    assert_eq!(heard + bench.node.script().lost(), 5000, "each message is heard or counted");
    assert!(heard >= 4096);
    assert_eq!(bench.events.iter().filter(|event| event.contains("too slow")).count(), 1, "{:?}", bench.events);
}

#[test]
fn an_answer_to_an_earlier_script_finds_nobody() {
    const ASKS: &str = "% midge\non init do http_get \"http://a/\"\non http_response do println $this_http_code";
    let mut bench = Bench::with(ASKS);
    let id = |bench: &mut Bench| match bench.wishes.pop() {
        Some(Wish::Http(request)) => request.id,
        other => panic!("{other:?}"),
    };
    let first = id(&mut bench);
    bench.install(&format!("{ASKS} % again"), Begin::Now);
    bench.round();
    let second = id(&mut bench);
    assert!(bench.wishes.contains(&Wish::HttpCancel(first)));
    for id in [first, RequestId(99), second] {
        bench.say(ScriptInput::Http { id, reply: Reply::Answered { code: 200 + id.0 as u16, body: b"" } });
    }
    bench.round();
    assert_eq!(bench.printed(), format!("{}\r\n", 200 + second.0));
}

#[test]
fn pins_time_serial_line_and_remote_broker_are_events() {
    let mut bench = Bench::with(
        "% midge
        on init do settimer 1, 1000
        on timer 1 do println $timestamp | gpio_in(5) | $adc
        on gpio_interrupt 4 pullup do println \"pin \" | $this_gpio
        on serial do println \"line \" | $this_serial
        on wificonnect do println \"net\"
        on wifidisconnect do println \"no net\"
        on mqttconnect do subscribe remote \"r/#\"
        on mqttdisconnect do println \"gone\"
        on topic remote \"r/#\" do println $this_topic",
    );
    bench.say(ScriptInput::Clock(Clock::Set { offset_millis: 3_600_000 }));
    bench.say(ScriptInput::Pin { pin: 5, level: Some(Level::High) });
    bench.say(ScriptInput::Adc(Some(512)));
    bench.say(ScriptInput::Pin { pin: 4, level: Some(Level::High) });
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.printed(), "", "the first level is no edge");
    bench.say(ScriptInput::Pin { pin: 4, level: Some(Level::Low) });
    bench.pass(Duration::from_millis(60));
    bench.say(ScriptInput::Serial(b"hello"));
    for up in [false, true, true, false] {
        bench.say(ScriptInput::Network { up });
    }
    bench.say(ScriptInput::Remote { connected: true });
    bench.say(ScriptInput::Remote { connected: true });
    bench.round();
    let is_subscription = |wish: &&Wish| matches!(wish, Wish::Subscribe { side: Side::Remote, .. });
    assert_eq!(bench.wishes.iter().filter(is_subscription).count(), 1);
    let message = Message::new(topic("r/1"), b"", MessageOptions::default()).expect("a message");
    bench.say(ScriptInput::Message { message: &message, qos: QoS::AtMostOnce, retain: false });
    bench.say(ScriptInput::Remote { connected: false });
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.printed(), "pin 0\r\nline hello\r\nnet\r\nno net\r\nr/1\r\ngone\r\n01:00:011512\r\n");
}

#[test]
fn a_fault_is_told_once_and_counted_each_time() {
    let mut bench =
        Bench::with("% midge\non init do subscribe local \"a\"\non topic local \"a\" do println 1 / $this_data");
    bench.events.clear();
    for _ in 0..100 {
        bench.publish("a", "0");
    }
    bench.round();
    assert_eq!(bench.events.len(), 1, "{:?}", bench.events);
    let counters = bench.node.script().counters().expect("it runs");
    assert_eq!(counters.faults(midge_node::rules::FaultKind::Division), 100);
}

#[test]
fn sites_that_come_and_go_are_events() {
    let site = |number: u8, name: &str| {
        let membership = Membership { site: SiteId([number; 32]), name: name.into(), config: MeshConfig::default() };
        Bench::on(BTreeMap::new(), Config { membership: Some(membership), ..Config::default() })
    };
    let (mut cabin, mut boat) = (site(1, "cabin"), site(2, "boat"));
    cabin.install(
        "% midge\non peer \"boat\" up do println \"up\"\non peer any down do println $this_peer | \" down\"",
        Begin::Now,
    );
    cabin.node.handle(cabin.now, Input::LinkUp { peer: SiteId([2; 32]), name: "boat" });
    boat.node.handle(boat.now, Input::LinkUp { peer: SiteId([1; 32]), name: "cabin" });
    for _ in 0..20 {
        cabin.pass(Duration::from_millis(100));
        boat.pass(Duration::from_millis(100));
        for (_, bytes) in std::mem::take(&mut cabin.frames) {
            boat.node.handle(boat.now, Input::Frame { peer: SiteId([1; 32]), bytes: &bytes });
        }
        for (_, bytes) in std::mem::take(&mut boat.frames) {
            cabin.node.handle(cabin.now, Input::Frame { peer: SiteId([2; 32]), bytes: &bytes });
        }
    }
    cabin.node.handle(cabin.now, Input::LinkDown { peer: SiteId([2; 32]) });
    cabin.round();
    assert_eq!(cabin.printed(), "up\r\nboat down\r\n");
}

impl Bench {
    /// As somebody at a console who uploads a script.
    fn upload(&mut self, script: &str) {
        use midge_node::console::{Channel, Input as Word, SessionId, Terminal};
        let session = SessionId(1);
        let mut tell = |word| self.node.handle(self.now, Input::Console(word));
        tell(Word::Opened { session, channel: Channel::Local, terminal: Terminal::Plain });
        tell(Word::Received { session, bytes: b"script 2000\n" });
        tell(Word::Uploaded { session, outcome: Ok(script.as_bytes()) });
        tell(Word::Closed { session });
        self.round();
    }

    fn flash(&self) -> Option<Vec<u8>> {
        self.node.script().flash().get(&1).map(|value| value.to_vec()).filter(|value| !value.is_empty())
    }
}

/// [quirk:upload-then-reset/compat] First upload, then `set @1`, then `reset`: people know it so.
#[test]
fn an_upload_in_compat_waits_for_the_next_start_and_clears_flash() {
    let mut bench = Bench::with("on init do setvar @1 = old println old");
    bench.printed();
    bench.upload("on init do println \"new\"|@1");
    assert_eq!((bench.printed(), bench.flash()), (String::new(), None));
    bench.say(ScriptInput::SetFlash { slot: 1, value: b"42" });
    bench.round();
    assert_eq!(Bench::on(bench.disk, Config::default()).printed(), "new42\r\n");
}

/// [quirk:upload-then-reset/midge]
#[test]
fn an_upload_in_midge_runs_at_once_and_keeps_flash() {
    let mut bench = Bench::with("on init do setvar @1 = old println old");
    bench.printed();
    bench.upload("% midge\non init do println \"new\" | @1");
    assert_eq!((bench.printed().as_str(), bench.flash().as_deref()), ("newold\r\n", Some(&b"old"[..])));
}

/// [quirk:start-without-script] In the original such a start clears them.
#[test]
fn flash_variables_survive_a_start_without_a_script() {
    let mut bench = Bench::new();
    bench.say(ScriptInput::SetFlash { slot: 1, value: b"42" });
    bench.say(ScriptInput::Stop);
    bench.round();
    let again = Bench::on(bench.disk, Config::default());
    assert_eq!(again.flash().as_deref(), Some(&b"42"[..]));
    assert_eq!(Bench::on(again.disk, Config::default()).flash().as_deref(), Some(&b"42"[..]));
}

/// `broker_…` settings narrow what the configuration allows, from the moment they are set.
#[test]
fn settings_say_what_clients_may() {
    let script = "config broker_user bob config broker_retained_messages 1 on init do println ready";
    let mut bench = Bench::with(script);
    for (name, payload) in [("a", "1"), ("b", "2"), ("a", "3")] {
        bench.publish_as(name, payload, MessageOptions { retain: true, ..MessageOptions::default() });
    }
    let conn = midge_node::ConnId { slot: 1, generation: 1 };
    bench.node.handle(bench.now, Input::Opened { conn, origin: "test", identity: None });
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c";
    bench.node.handle(bench.now, Input::Received { conn, bytes: connect });
    let mut asked = 0;
    while let Some(output) = bench.node.poll_output() {
        asked += usize::from(matches!(output, Output::Verify(_)));
    }
    assert_eq!((bench.retained("a").as_deref(), bench.retained("b")), (Some("3"), None));
    assert_eq!(asked, 1, "who wants to come in");
}

#[test]
fn damaged_records_are_named() {
    let mut node = Node::new(Config::default(), [1; 32]);
    for (key, value) in [(&b"st"[..], &b"\x09text"[..]), (b"sx", b"\x01"), (b"sf", b"\x01"), (b"st", b"")] {
        assert!(node.restore(key, value).is_err(), "{key:?}");
    }
    let event = ScriptEvent::Refused { error: "because".into() };
    assert_eq!(event.to_string(), "Script does not run: because");
}
