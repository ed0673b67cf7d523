//! A tree as text in `midge`. What the old language means by habit is written out: brackets, quotes, and an `option`
//! line for each habit that the script could notice losing.
use super::needs::Needs;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::tree::{
    Action, ActionKind, Arm, Comment, Config, ConfigValue, Deliveries, Expr, ExprKind, Grouping, LineEnd, Link, Method,
    Numbers, Operator, PeerChange, PeerName, PinMode, Pull, SPECIALS, Script, Special, Statement, TextRule, TopicRule,
    Trigger,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use mqtt::{QoS, Topic};

/// Writes `script`.
pub(crate) fn print(script: &Script) -> String {
    let mut printer = Printer {
        out: String::from("% midge\n"),
        names: names(&script.variables),
        comments: &script.comments,
        indent: 0,
    };
    printer.options(script);
    for statement in &script.statements {
        printer.statement(statement);
    }
    printer.comments_before(None);
    printer.out
}

/// Names that `midge` accepts, as close to the old ones as can be.
fn names(variables: &[Box<[u8]>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(variables.len());
    for name in variables {
        let mut clean: String = String::from_utf8_lossy(name)
            .chars()
            .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
            .collect();
        if clean.starts_with(|first: char| first.is_ascii_digit()) || SPECIALS.iter().any(|row| row.0 == clean) {
            clean.insert_str(0, "v_");
        }
        // Two names may have become one.
        while names.contains(&clean) {
            clean.push('_');
        }
        names.push(clean);
    }
    names
}

struct Printer<'a> {
    out: String,
    names: Vec<String>,
    comments: &'a [Comment],
    indent: usize,
}

impl Printer<'_> {
    fn options(&mut self, script: &Script) {
        let needs = Needs::of(script);
        let habits = script.habits;
        for (needed, option, meaning) in [
            (
                needs.int32 && habits.numbers == Numbers::Int32,
                "int32",
                "numbers are what a text begins with, in 32 bits",
            ),
            (
                needs.c_text && habits.text == TextRule::UntilNul,
                "c_text",
                "text ends at a NUL byte and is counted in bytes",
            ),
            (
                needs.each_subscription && habits.deliveries == Deliveries::EachSubscription,
                "each_subscription",
                "a message is an event for each subscription that matches",
            ),
            (
                needs.text_topics && habits.topics == TopicRule::TextOnly,
                "text_topics",
                "binary data is refused as a topic",
            ),
            (needs.text_alarms, "text_alarms", "the time of an alarm may be any text"),
        ] {
            if needed {
                let _ = writeln!(self.out, "{:<26}% {meaning}", format!("option {option}"));
            }
        }
    }

    fn line(&mut self, text: &str) {
        for _ in 0..self.indent {
            self.out.push_str("    ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// The comments that stand before `place`, or all that are left.
    fn comments_before(&mut self, place: Option<Place>) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if place.is_some_and(|place| comment.place > place) {
                return;
            }
            self.comments = rest;
            let text = format!("% {}", String::from_utf8_lossy(&comment.text));
            self.line(text.trim_end());
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Config(Config { place, name, value }) => {
                self.comments_before(Some(*place));
                let value = match value {
                    ConfigValue::Text(text) => literal(text),
                    ConfigValue::Flash(slot) => format!("@{slot}"),
                };
                self.line(&format!("config {} {value}", setting(name)));
            }
            Statement::Clause(clause) => {
                self.out.push('\n');
                self.comments_before(Some(clause.place));
                let event = self.trigger(&clause.trigger);
                self.line(&format!("on {event} do"));
                self.block(&clause.actions);
            }
        }
    }

    fn trigger(&self, trigger: &Trigger) -> String {
        match trigger {
            Trigger::Init => "init".into(),
            Trigger::MqttConnect => "mqttconnect".into(),
            Trigger::MqttDisconnect => "mqttdisconnect".into(),
            Trigger::WifiConnect => "wificonnect".into(),
            Trigger::WifiDisconnect => "wifidisconnect".into(),
            Trigger::Serial => "serial".into(),
            Trigger::HttpResponse => "http_response".into(),
            Trigger::Timer(number) => format!("timer {number}"),
            Trigger::Alarm(number) => format!("alarm {number}"),
            Trigger::Topic { side, filter } => format!("topic {} {}", side.word(), self.filter(filter)),
            Trigger::Gpio { pin, pull: Pull::Up } => format!("gpio_interrupt {pin} pullup"),
            Trigger::Gpio { pin, pull: Pull::None } => format!("gpio_interrupt {pin} nopullup"),
            Trigger::Peer { name, change } => {
                let name = match name {
                    PeerName::Any => "any".to_string(),
                    PeerName::Named(name) => quoted(name.as_bytes()),
                };
                let change = match change {
                    PeerChange::Up => "up",
                    PeerChange::Down => "down",
                };
                format!("peer {name} {change}")
            }
        }
    }

    fn block(&mut self, actions: &[Action]) {
        self.indent += 1;
        for action in actions {
            self.comments_before(Some(action.place));
            match &action.kind {
                ActionKind::If { arms, otherwise } => self.conditional(arms, otherwise.as_deref()),
                ActionKind::While(arm) => {
                    let head = format!("while {} do", self.expr(&arm.condition));
                    self.line(&head);
                    self.block(&arm.actions);
                    self.line("done");
                }
                kind => {
                    let text = self.action(kind);
                    self.line(&text);
                }
            }
        }
        self.indent -= 1;
    }

    fn conditional(&mut self, arms: &[Arm], otherwise: Option<&[Action]>) {
        let (mut arms, mut otherwise) = (arms, otherwise);
        let mut word = "if";
        loop {
            for arm in arms {
                let head = format!("{word} {} then", self.expr(&arm.condition));
                self.line(&head);
                self.block(&arm.actions);
                word = "elseif";
            }
            // An else that holds nothing but another if goes on with it.
            match otherwise {
                Some([Action { kind: ActionKind::If { arms: inner, otherwise: last }, .. }]) => {
                    arms = inner;
                    otherwise = last.as_deref();
                }
                Some(actions) => {
                    self.line("else");
                    self.block(actions);
                    break;
                }
                None => break,
            }
        }
        self.line("endif");
    }

    fn action(&self, kind: &ActionKind) -> String {
        match kind {
            ActionKind::Print { text, line: LineEnd::None } => format!("print {}", self.expr(text)),
            ActionKind::Print { text, line: LineEnd::CrLf } => format!("println {}", self.expr(text)),
            ActionKind::SerialOut(text) => format!("serial_out {}", self.expr(text)),
            ActionKind::System(text) => format!("system {}", self.expr(text)),
            ActionKind::Fail(text) => format!("fail {}", self.expr(text)),
            ActionKind::Stop => "stop".into(),
            ActionKind::Publish { side, topic, payload, qos, retain } => {
                let words = delivery(*qos, *retain);
                format!("publish {} {}, {}{words}", side.word(), self.topic(topic), self.expr(payload))
            }
            ActionKind::Subscribe { side, filter, qos, retained } => {
                format!("subscribe {} {}{}", side.word(), self.filter(filter), delivery(*qos, *retained))
            }
            ActionKind::Unsubscribe { side, filter } => format!("unsubscribe {} {}", side.word(), self.filter(filter)),
            ActionKind::SetTimer { number, millis } => self.pair("settimer", number, millis),
            ActionKind::SetAlarm { number, time } => self.pair("setalarm", number, time),
            ActionKind::GpioOut { pin, level } => self.pair("gpio_out", pin, level),
            ActionKind::GpioPwm { pin, duty } => self.pair("gpio_pwm", pin, duty),
            ActionKind::SetVariable { variable, value } => {
                format!("setvar {} = {}", self.name(*variable), self.expr(value))
            }
            ActionKind::SetFlash { slot, value } => format!("setvar @{slot} = {}", self.expr(value)),
            ActionKind::PinMode { pin, mode } => {
                let mode = match mode {
                    PinMode::Output => "output",
                    PinMode::Input(Pull::Up) | PinMode::Watched(Pull::Up) => "input pullup",
                    PinMode::Input(Pull::None) | PinMode::Watched(Pull::None) => "input",
                };
                format!("gpio_pinmode {} {mode}", self.expr(pin))
            }
            ActionKind::Http { method, url, body, headers } => {
                let word = match method {
                    Method::Get => "http_get",
                    Method::Post => "http_post",
                    Method::Put => "http_put",
                    Method::Delete => "http_delete",
                };
                let mut text = format!("{word} {}", self.expr(url));
                if let Some(body) = body {
                    let _ = write!(text, ", {}", self.expr(body));
                }
                for (name, value) in headers {
                    let _ = write!(text, " header {}, {}", self.expr(name), self.expr(value));
                }
                text
            }
            // Printed by block().
            ActionKind::If { .. } | ActionKind::While(_) => String::new(),
        }
    }

    fn pair(&self, word: &str, first: &Expr, second: &Expr) -> String {
        format!("{word} {}, {}", self.expr(first), self.expr(second))
    }

    fn name(&self, variable: u16) -> String {
        format!("${}", self.names.get(usize::from(variable)).map_or("", String::as_str))
    }

    fn filter(&self, filter: &Expr) -> String {
        self.checked(filter, |text| Pattern::parse(text).is_ok())
    }

    fn topic(&self, topic: &Expr) -> String {
        self.checked(topic, |text| Topic::parse(text).is_ok())
    }

    /// A wrong topic that is written down is an error in `midge`, but no harm in the old language until it is used; so
    /// it is hidden from the check.
    fn checked(&self, expr: &Expr, good: impl Fn(&str) -> bool) -> String {
        match &expr.kind {
            ExprKind::Text(text) if core::str::from_utf8(text).is_ok_and(&good) => quoted(text),
            ExprKind::Text(text) => format!("({} | \"\")", quoted(text)),
            _ => self.expr(expr),
        }
    }

    fn expr(&self, expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Text(text) => literal(text),
            ExprKind::Number(text) => String::from_utf8_lossy(text).into_owned(),
            ExprKind::Hex(bytes) => hex(bytes),
            ExprKind::Variable(variable) => self.name(*variable),
            ExprKind::Flash(slot) => format!("@{slot}"),
            // The old one is filled up to three characters.
            ExprKind::Special(Special::ThisHttpCode) => "pad($this_http_code, 3)".into(),
            ExprKind::Special(special) => format!("${}", special.name()),
            ExprKind::Capture(nth) => format!("${nth}"),
            ExprKind::Not(inner) => format!("not {}", self.operand(inner)),
            ExprKind::Negate(inner) => format!("-{}", self.operand(inner)),
            ExprKind::Call(function, arguments) => {
                let arguments: Vec<String> = arguments
                    .iter()
                    .map(|argument| match &argument.kind {
                        ExprKind::Text(text) => quoted(text),
                        _ => self.expr(argument),
                    })
                    .collect();
                format!("{}({})", function.name(), arguments.join(", "))
            }
            ExprKind::Chain { grouping, first, rest } => self.chain(*grouping, first, rest),
        }
    }

    fn chain(&self, grouping: Grouping, first: &Expr, rest: &[Link]) -> String {
        // Where grouping makes no difference, brackets would only be in the way.
        let same = |operator: Operator| rest.iter().all(|link| link.operator == operator);
        let flat = grouping == Grouping::Left || same(Operator::Join) || same(Operator::Add);
        let mut text = self.operand(first);
        let mut open = 0;
        for (number, link) in rest.iter().enumerate() {
            let last = number + 1 == rest.len();
            let _ = write!(text, " {} ", link.operator.word());
            if !flat && !last {
                text.push('(');
                open += 1;
            }
            text.push_str(&self.operand(&link.operand));
        }
        text.push_str(&")".repeat(open));
        text
    }

    fn operand(&self, expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Chain { .. } | ExprKind::Not(_) | ExprKind::Negate(_) => format!("({})", self.expr(expr)),
            _ => self.expr(expr),
        }
    }
}

fn delivery(qos: QoS, retained: bool) -> String {
    let mut words = match qos {
        QoS::AtMostOnce => String::new(),
        qos => format!(" qos {}", qos as u8),
    };
    if retained {
        words.push_str(" retained");
    }
    words
}

fn setting(name: &[u8]) -> String {
    let word = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if word { String::from_utf8_lossy(name).into_owned() } else { quoted(name) }
}

/// A text; one that is a plain whole number without its quotes.
fn literal(text: &[u8]) -> String {
    let digits = !text.is_empty() && text.len() <= 9 && text.iter().all(u8::is_ascii_digit);
    match text {
        _ if !digits => quoted(text),
        [b'0', _, ..] => quoted(text),
        _ => String::from_utf8_lossy(text).into_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("#"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", control as u32);
                }
                other => out.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}
