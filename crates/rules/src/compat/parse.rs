//! The old firmware's parser: the same words accepted, the same errors at the same words, and a tree besides.
use super::lex::{self, Tokens};
use super::{Oddities, Oddity};
use crate::diagnostic::Diagnostic;
use crate::function::Function;
use crate::limits::Limits;
use crate::number::atoi;
use crate::tree::{
    Action, ActionKind, AlarmRule, Arm, Clause, Config, ConfigValue, Dialect, Expr, ExprKind, Grouping, Habits,
    LineEnd, Link, Method, Operator, PinMode, Pull, SPECIALS, Scene, Script, Side, Statement, TopicRule, Trigger,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use mqtt::QoS;

const TIMERS: i32 = 4;
const ALARMS: i32 = 6;
const FLASH_SLOTS: i32 = 8;
const PIN_LAST: i32 = 16;
const HEX_DIGITS: usize = 510;
/// Operands in one expression: more than any script holds, and few enough for the evaluator's stack.
const OPERANDS: usize = 1000;

const STOLEN_ELSE: &str = "this else belongs to the if that was just closed";

type Parsed<T> = Result<T, Box<Diagnostic>>;

/// Parses a whole script. The original stopped at its first error, and so does this.
pub(crate) fn parse(
    source: &[u8],
    oddities: Oddities,
    limits: &Limits,
    keep_comments: bool,
) -> Result<Script, Diagnostic> {
    let mut tokens = lex::lex(source, keep_comments)?;
    let comments = core::mem::take(&mut tokens.comments);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        depth: 0,
        scene: Scene::Plain,
        variables: Vec::new(),
        interrupts: 0,
        pwm_pins: Vec::new(),
        warnings: Vec::new(),
        oddities,
        limits,
    };
    let statements = parser.statements().map_err(|error| *error)?;
    let Parser { variables, warnings, .. } = parser;
    let topics = match oddities.data_topics {
        Oddity::Original => TopicRule::TextOnly,
        Oddity::Fixed => TopicRule::Any,
    };
    let habits = Habits { topics, alarms: AlarmRule::Text, ..Habits::COMPAT };
    Ok(Script { dialect: Dialect::Compat, habits, variables, statements, comments, warnings })
}

struct Parser<'a> {
    tokens: &'a Tokens,
    at: usize,
    depth: u16,
    /// Of the clause being read: decides which `$this_…` exist.
    scene: Scene,
    variables: Vec<Box<[u8]>>,
    interrupts: usize,
    pwm_pins: Vec<i32>,
    warnings: Vec<Diagnostic>,
    oddities: Oddities,
    limits: &'a Limits,
}

/// What ended a list of actions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    Endif,
    Done,
    /// `on`, `config`, `else` or the end, which stay where they are.
    Left,
}

impl<'a> Parser<'a> {
    fn is(&self, index: usize, word: &str) -> bool {
        self.tokens.word(index) == Some(word.as_bytes())
    }

    fn word(&self, index: usize) -> Parsed<&'a [u8]> {
        self.tokens.word(index).ok_or_else(|| self.fail(index, "end of text"))
    }

    /// The original's look-ahead: there has to be a word this far on.
    fn reach(&self, ahead: usize) -> Parsed<()> {
        self.word(self.at + ahead).map(|_| ())
    }

    fn fail(&self, index: usize, message: &'static str) -> Box<Diagnostic> {
        let mut error = Diagnostic::error(self.tokens.place(index), self.tokens.width(index), message);
        error.hint = hint(message).map(Into::into);
        error.classic = Some(self.classic(index, message));
        Box::new(error)
    }

    /// The original's text: up to eight words in a buffer of 128 bytes; one that does not fit is left out.
    fn classic(&self, index: usize, message: &str) -> String {
        let mut text = format!("Error ({message}) at >>");
        for word in (index..index + 8).map_while(|index| self.tokens.word(index)) {
            if 126usize.saturating_sub(text.len()) > word.len() {
                text.push_str(&String::from_utf8_lossy(word));
                text.push(' ');
            }
        }
        text
    }

    fn warn(&mut self, index: usize, message: &'static str, hint: &'static str) {
        let warning = Diagnostic::warning(self.tokens.place(index), self.tokens.width(index), message);
        self.warnings.push(warning.hint(hint));
    }

    fn expect(&mut self, word: &str, message: &'static str) -> Parsed<()> {
        if !self.is(self.at, word) {
            self.word(self.at)?;
            return Err(self.fail(self.at, message));
        }
        self.at += 1;
        Ok(())
    }

    fn nest<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= self.limits.depth {
            return Err(self.fail(self.at, "nested too deep"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// A number as the language knows it where no expression is allowed: the front of a word.
    fn number(&self, index: usize) -> Parsed<i32> {
        Ok(atoi(self.word(index)?))
    }

    fn numbered(&self, index: usize, last: i32, message: &'static str) -> Parsed<u8> {
        match self.number(index)? {
            number if (1..=last).contains(&number) => Ok(number as u8),
            _ => Err(self.fail(index, message)),
        }
    }

    fn pin(&self, index: usize) -> Parsed<i32> {
        match self.number(index)? {
            pin if (0..=PIN_LAST).contains(&pin) => Ok(pin),
            _ => Err(self.fail(index, "invalid gpio number")),
        }
    }

    fn literal(&self, index: usize, number: i32) -> Expr {
        Expr { place: self.tokens.place(index), kind: ExprKind::Number(format!("{number}").into_bytes().into()) }
    }

    fn statements(&mut self) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        while self.at < self.tokens.len() {
            self.scene = Scene::Plain;
            if self.is(self.at, "on") {
                statements.push(Statement::Clause(self.clause()?));
            } else if self.is(self.at, "config") {
                statements.extend(self.config()?.map(Statement::Config));
            } else {
                return Err(self.fail(self.at, "'on' or 'config' expected"));
            }
        }
        Ok(statements)
    }

    /// Always three words, whatever they are; fewer only at the very end, where they do nothing.
    fn config(&mut self) -> Parsed<Option<Config>> {
        let at = self.at;
        self.at += 3;
        let (Some(name), Some(value)) = (self.tokens.word(at + 1), self.tokens.word(at + 2)) else {
            self.warn(at, "config without a value does nothing", "write: config NAME VALUE");
            return Ok(None);
        };
        let value = match value {
            [b'@', slot @ ..] => match atoi(slot) {
                slot @ 1..=FLASH_SLOTS => ConfigValue::Flash(slot as u8),
                _ => {
                    self.warn(
                        at + 2,
                        "config with an invalid flash variable does nothing",
                        "flash variables are @1 to @8",
                    );
                    return Ok(None);
                }
            },
            value => ConfigValue::Text(unquoted(value).into()),
        };
        Ok(Some(Config { place: self.tokens.place(at), name: unquoted(name).into(), value }))
    }

    fn clause(&mut self) -> Parsed<Clause> {
        let place = self.tokens.place(self.at);
        self.at += 1;
        let trigger = self.event()?;
        self.expect("do", "'do' expected")?;
        let (actions, closed) = self.actions()?;
        if closed != Closed::Left {
            self.warn(self.at - 1, "closes nothing", "leave it out");
        }
        Ok(Clause { place, trigger, actions })
    }

    fn event(&mut self) -> Parsed<Trigger> {
        let word = self.word(self.at)?;
        let plain = match word {
            b"init" => Some(Trigger::Init),
            b"mqttconnect" => Some(Trigger::MqttConnect),
            b"wificonnect" => Some(Trigger::WifiConnect),
            b"wifidisconnect" => Some(Trigger::WifiDisconnect),
            b"serial" => Some(Trigger::Serial),
            b"http_response" => Some(Trigger::HttpResponse),
            _ => None,
        };
        if let Some(trigger) = plain {
            self.scene = trigger.scene();
            self.at += 1;
            return Ok(trigger);
        }
        match word {
            b"timer" => {
                self.reach(1)?;
                self.at += 2;
                Ok(Trigger::Timer(self.numbered(self.at - 1, TIMERS, "invalid timer number")?))
            }
            b"alarm" => {
                self.reach(1)?;
                self.at += 2;
                Ok(Trigger::Alarm(self.numbered(self.at - 1, ALARMS, "invalid alarm number")?))
            }
            b"topic" => {
                self.scene = Scene::Topic;
                self.reach(2)?;
                // The original shows the word after the next one; so does this.
                let (side, filter) = self.side_and_topic(1)?;
                Ok(Trigger::Topic { side, filter })
            }
            b"gpio_interrupt" => self.gpio_interrupt(),
            _ => Err(self.fail(self.at, "event spec (like 'topic') expected")),
        }
    }

    fn gpio_interrupt(&mut self) -> Parsed<Trigger> {
        self.scene = Scene::Gpio;
        self.reach(2)?;
        let at = self.at;
        let pin = self.pin(at + 1)?;
        if self.pwm_pins.contains(&pin) {
            return Err(self.fail(at, "pin defined as pwm before"));
        }
        let pull = match self.word(at + 2)? {
            b"pullup" => Pull::Up,
            b"nopullup" => Pull::None,
            _ => return Err(self.fail(at + 2, "expected 'pullup' or 'nopullup'")),
        };
        if self.interrupts >= self.limits.interrupts {
            return Err(self.fail(at, "too many gpio_interrupt"));
        }
        self.interrupts += 1;
        self.at += 3;
        Ok(Trigger::Gpio { pin: pin as u8, pull })
    }

    /// `local` or `remote` and one value after the word here. The value is read first, then the side is looked at;
    /// where the error is reported is counted from the word after the value.
    fn side_and_topic(&mut self, error_offset: usize) -> Parsed<(Side, Expr)> {
        let side_at = self.at + 1;
        self.at += 2;
        let topic = self.value()?;
        let side =
            self.side(side_at).ok_or_else(|| self.fail(self.at + error_offset, "'local' or 'remote' expected"))?;
        Ok((side, topic))
    }

    fn side(&self, index: usize) -> Option<Side> {
        match self.tokens.word(index)? {
            b"local" => Some(Side::Local),
            b"remote" => Some(Side::Remote),
            _ => None,
        }
    }

    fn actions(&mut self) -> Parsed<(Vec<Action>, Closed)> {
        self.nest(|parser| {
            let mut actions = Vec::new();
            loop {
                let closed = match parser.tokens.word(parser.at) {
                    None | Some(b"on" | b"config" | b"else") => Closed::Left,
                    Some(b"endif") => Closed::Endif,
                    Some(b"done") => Closed::Done,
                    Some(word) => {
                        let place = parser.tokens.place(parser.at);
                        let kind = parser.action(word)?;
                        actions.push(Action { place, kind });
                        continue;
                    }
                };
                parser.at += usize::from(closed != Closed::Left);
                // Most lists are short, and a growing one takes room for four.
                actions.shrink_to_fit();
                return Ok((actions, closed));
            }
        })
    }

    fn action(&mut self, word: &[u8]) -> Parsed<ActionKind> {
        match word {
            b"print" => Ok(ActionKind::Print { text: self.only_argument()?, line: LineEnd::None }),
            b"println" => Ok(ActionKind::Print { text: self.only_argument()?, line: LineEnd::CrLf }),
            b"serial_out" => Ok(ActionKind::SerialOut(self.only_argument()?)),
            b"system" => Ok(ActionKind::System(self.only_argument()?)),
            b"http_get" => {
                let url = self.only_argument()?;
                Ok(ActionKind::Http { method: Method::Get, url, body: None, headers: Vec::new() })
            }
            b"http_post" => self.http_post(),
            b"publish" => self.publish(),
            b"subscribe" => {
                self.reach(2)?;
                let (side, filter) = self.side_and_topic(1)?;
                Ok(ActionKind::Subscribe { side, filter, qos: QoS::AtMostOnce, retained: false })
            }
            b"unsubscribe" => {
                self.reach(2)?;
                let (side, filter) = self.side_and_topic(1)?;
                Ok(ActionKind::Unsubscribe { side, filter })
            }
            b"if" => self.conditional(),
            b"while" => self.repetition(),
            b"settimer" => {
                self.reach(2)?;
                let number = self.numbered(self.at + 1, TIMERS, "invalid timer number")?;
                let (number, millis) = self.number_then_expr(i32::from(number))?;
                Ok(ActionKind::SetTimer { number, millis })
            }
            b"setalarm" => {
                self.reach(2)?;
                let number = self.numbered(self.at + 1, ALARMS, "invalid alarm number")?;
                let (number, time) = self.number_then_expr(i32::from(number))?;
                Ok(ActionKind::SetAlarm { number, time })
            }
            b"setvar" => self.assignment(),
            b"gpio_pinmode" => self.pin_mode(),
            b"gpio_out" => {
                self.reach(2)?;
                let pin = self.pin(self.at + 1)?;
                let (pin, level) = self.number_then_expr(pin)?;
                Ok(ActionKind::GpioOut { pin, level })
            }
            b"gpio_pwm" => self.pwm(),
            _ => Err(self.fail(self.at, "action command expected")),
        }
    }

    fn only_argument(&mut self) -> Parsed<Expr> {
        self.reach(1)?;
        self.at += 1;
        self.expr()
    }

    fn number_then_expr(&mut self, number: i32) -> Parsed<(Expr, Expr)> {
        let number = self.literal(self.at + 1, number);
        self.at += 2;
        Ok((number, self.expr()?))
    }

    fn publish(&mut self) -> Parsed<ActionKind> {
        self.reach(3)?;
        let side_at = self.at + 1;
        self.at += 2;
        let topic = self.value()?;
        let payload = self.expr()?;
        let retain = self.is(self.at, "retained");
        self.at += usize::from(retain);
        let side = self.side(side_at).ok_or_else(|| self.fail(side_at, "'local' or 'remote' expected"))?;
        if self.oddities.data_topics == Oddity::Original && is_data(&topic) {
            self.warn(side_at + 1, "binary topics are refused", "make it text first: setvar $t = $this_data | \"\"");
        }
        Ok(ActionKind::Publish { side, topic, payload, qos: QoS::AtMostOnce, retain })
    }

    fn http_post(&mut self) -> Parsed<ActionKind> {
        self.reach(2)?;
        self.at += 1;
        let url = self.expr()?;
        let comma = self.is(self.at, ",");
        match self.oddities.http_post {
            Oddity::Fixed => self.at += usize::from(comma),
            Oddity::Original => {
                if !comma && self.at < self.tokens.len() {
                    self.warn(self.at, "http_post skips this word unread", "write a comma between URL and data");
                }
                self.at += 1;
            }
        }
        let body = self.expr()?;
        Ok(ActionKind::Http { method: Method::Post, url, body: Some(body), headers: Vec::new() })
    }

    /// The first two words of a condition, as the original logs them.
    fn heading(&self, index: usize) -> Box<[u8]> {
        let mut heading = Vec::new();
        for word in (index..index + 2).filter_map(|index| self.tokens.word(index)) {
            heading.extend_from_slice(word);
            heading.push(b' ');
        }
        heading.pop();
        heading.into()
    }

    fn conditional(&mut self) -> Parsed<ActionKind> {
        self.reach(3)?;
        let (if_at, before) = (self.at, self.warnings.len());
        self.at += 1;
        let heading = self.heading(self.at);
        let condition = self.expr()?;
        self.expect("then", "'then' expected")?;
        let (actions, closed) = self.actions()?;
        let mut otherwise = None;
        let takes_else = closed == Closed::Left || self.oddities.dangling_else == Oddity::Original;
        if takes_else && self.is(self.at, "else") {
            if closed != Closed::Left {
                self.warn(self.at, STOLEN_ELSE, "write an empty else before the inner endif");
            }
            self.at += 1;
            let (actions, _) = self.actions()?;
            if !self.is(self.at - 1, "endif") {
                return Err(self.fail(self.at - 1, "'endif' expected"));
            }
            otherwise = Some(actions);
        } else {
            match closed {
                // Its endif may have gone to an inner if together with its else, which was said.
                Closed::Left if self.warnings[before..].iter().any(|warning| warning.message == STOLEN_ELSE) => {}
                Closed::Left => self.warn(if_at, "if without endif", "close it with endif"),
                Closed::Done => self.warn(self.at - 1, "done closes an if", "write endif"),
                Closed::Endif => {}
            }
        }
        Ok(ActionKind::If { arms: vec![Arm { condition, heading, actions }], otherwise })
    }

    fn repetition(&mut self) -> Parsed<ActionKind> {
        self.reach(3)?;
        self.at += 1;
        let heading = self.heading(self.at);
        let condition = self.expr()?;
        self.expect("do", "'do' expected")?;
        let (actions, closed) = self.actions()?;
        if closed != Closed::Done {
            return Err(self.fail(self.at - 1, "'done' expected"));
        }
        Ok(ActionKind::While(Arm { condition, heading, actions }))
    }

    fn assignment(&mut self) -> Parsed<ActionKind> {
        self.reach(3)?;
        let at = self.at;
        let expect_equals = |parser: &mut Self| {
            if !parser.is(at + 2, "=") {
                return Err(parser.fail(at + 2, "'=' expected"));
            }
            parser.at += 3;
            parser.expr()
        };
        match self.word(at + 1)? {
            [b'@', slot @ ..] => match atoi(slot) {
                slot @ 1..=FLASH_SLOTS => Ok(ActionKind::SetFlash { slot: slot as u8, value: expect_equals(self)? }),
                _ => Err(self.fail(at + 1, "invalid flash var number")),
            },
            [b'$', name @ ..] if !name.is_empty() => {
                let variable = match self.variable(name) {
                    Some(variable) => variable,
                    None if self.variables.len() >= self.limits.variables => {
                        return Err(self.fail(at, "too many vars used"));
                    }
                    None => {
                        self.variables.push(name.into());
                        (self.variables.len() - 1) as u16
                    }
                };
                Ok(ActionKind::SetVariable { variable, value: expect_equals(self)? })
            }
            _ => Err(self.fail(at, "invalid var identifier")),
        }
    }

    fn variable(&self, name: &[u8]) -> Option<u16> {
        self.variables.iter().position(|have| **have == *name).map(|index| index as u16)
    }

    fn pin_mode(&mut self) -> Parsed<ActionKind> {
        self.reach(2)?;
        let at = self.at;
        let pin = self.pin(at + 1)?;
        if self.pwm_pins.contains(&pin) {
            return Err(self.fail(at, "pin defined as pwm before"));
        }
        let mode = match self.word(at + 2)? {
            b"output" => PinMode::Output,
            b"input" if self.is(at + 3, "pullup") => {
                self.at += 1;
                PinMode::Input(Pull::Up)
            }
            b"input" => PinMode::Input(Pull::None),
            _ => return Err(self.fail(at + 2, "expected 'input' or 'output'")),
        };
        self.at += 3;
        Ok(ActionKind::PinMode { pin: self.literal(at + 1, pin), mode })
    }

    fn pwm(&mut self) -> Parsed<ActionKind> {
        self.reach(1)?;
        let pin = self.pin(self.at + 1)?;
        if !self.pwm_pins.contains(&pin) {
            if self.pwm_pins.len() >= self.limits.pwm_pins {
                return Err(self.fail(self.at, "too many pwm channels"));
            }
            self.pwm_pins.push(pin);
        }
        let (pin, duty) = self.number_then_expr(pin)?;
        Ok(ActionKind::GpioPwm { pin, duty })
    }

    /// Operands from left to right; what they mean is grouped from the right, which the evaluator does.
    fn expr(&mut self) -> Parsed<Expr> {
        self.nest(|parser| {
            let first = parser.primary()?;
            let mut rest = Vec::new();
            while let Some(operator) = parser.tokens.word(parser.at).and_then(operator) {
                if rest.len() >= OPERANDS {
                    return Err(parser.fail(parser.at, "expression too long"));
                }
                let place = parser.tokens.place(parser.at);
                parser.at += 1;
                rest.push(Link { place, operator, operand: parser.primary()? });
            }
            if rest.is_empty() {
                return Ok(first);
            }
            let place = first.place;
            Ok(Expr { place, kind: ExprKind::Chain { grouping: Grouping::Right, first: Box::new(first), rest } })
        })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let at = self.at;
        let place = self.tokens.place(at);
        let kind = match self.word(at)? {
            b"(" => {
                self.reach(2)?;
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")", "expected ')'")?;
                return Ok(inner);
            }
            b"not" => {
                self.open(3, at)?;
                let inner = self.expr()?;
                self.expect(")", "expected ')'")?;
                ExprKind::Not(Box::new(inner))
            }
            b"retained_topic" => self.call(Function::RetainedTopic, 3, at)?,
            b"eatwhite" => self.call(Function::EatWhite, 3, at + 1)?,
            b"binary" => self.call(Function::Binary, 3, at + 1)?,
            b"byte_val" => self.call(Function::ByteVal, 5, at + 1)?,
            b"substr" => self.call(Function::Substr, 7, at + 1)?,
            b"csvstr" => self.call(Function::CsvStr, 7, at + 1)?,
            b"json_parse" => self.call(Function::JsonParse, 5, at + 1)?,
            b"gpio_in" => self.call(Function::GpioIn, 3, at)?,
            _ => return self.value(),
        };
        Ok(Expr { place, kind })
    }

    /// The bracket after a function's name; the original reports its absence at one of two words.
    fn open(&mut self, ahead: usize, error_at: usize) -> Parsed<()> {
        self.reach(ahead)?;
        if !self.is(self.at + 1, "(") {
            return Err(self.fail(error_at, "expected '('"));
        }
        self.at += 2;
        Ok(())
    }

    fn call(&mut self, function: Function, ahead: usize, error_at: usize) -> Parsed<ExprKind> {
        self.open(ahead, error_at)?;
        if function == Function::GpioIn {
            let pin = self.literal(self.at, self.pin(self.at)?);
            self.at += 1;
            self.expect(")", "expected ')'")?;
            return Ok(ExprKind::Call(function, vec![pin]));
        }
        let mut arguments = vec![self.expr()?];
        match function {
            Function::JsonParse => {
                self.expect(",", "expected ','")?;
                arguments.push(self.expr()?);
            }
            Function::ByteVal => arguments.push(self.number_argument()?),
            Function::Substr => {
                self.expect(",", "expected ','")?;
                // The only number that may be quoted, and so the only one that may be negative.
                let start = atoi(unquoted(self.word(self.at)?));
                arguments.push(self.literal(self.at, start));
                self.at += 1;
                arguments.push(self.number_argument()?);
            }
            Function::CsvStr => {
                arguments.push(self.number_argument()?);
                self.expect(",", "expected ','")?;
                let separator = unquoted(self.word(self.at)?).get(..1).unwrap_or_default();
                let place = self.tokens.place(self.at);
                arguments.push(Expr { place, kind: ExprKind::Text(separator.into()) });
                self.at += 1;
            }
            _ => {}
        }
        self.expect(")", "expected ')'")?;
        Ok(ExprKind::Call(function, arguments))
    }

    fn number_argument(&mut self) -> Parsed<Expr> {
        self.expect(",", "expected ','")?;
        let number = self.literal(self.at, self.number(self.at)?);
        self.at += 1;
        Ok(number)
    }

    /// One word: whatever is nothing else is a text.
    fn value(&mut self) -> Parsed<Expr> {
        let at = self.at;
        let kind = match self.word(at)? {
            [b'"', text @ ..] => ExprKind::Text(text.into()),
            [b'#', digits @ ..] => ExprKind::Hex(self.hex(digits)?),
            [b'$', name @ ..] if !name.is_empty() => self.named(name)?,
            [b'@', slot @ ..] if !slot.is_empty() => match atoi(slot) {
                slot @ 1..=FLASH_SLOTS => ExprKind::Flash(slot as u8),
                _ => return Err(self.fail(at + 2, "invalid flash slot number")),
            },
            text => ExprKind::Text(text.into()),
        };
        self.at += 1;
        Ok(Expr { place: self.tokens.place(at), kind })
    }

    fn named(&self, name: &[u8]) -> Parsed<ExprKind> {
        let special = SPECIALS.iter().find(|row| row.3 == Dialect::Compat && row.0.as_bytes() == name);
        match special {
            Some((_, special, scene, _)) if scene.is_none_or(|scene| scene == self.scene) => {
                Ok(ExprKind::Special(*special))
            }
            Some((_, special, ..)) => Err(self.fail(self.at, undefined(special.name()))),
            None => match self.variable(name) {
                Some(variable) => Ok(ExprKind::Variable(variable)),
                None => Err(self.fail(self.at, "unknown var name")),
            },
        }
    }

    /// Any bytes are digits to the original, with its arithmetic.
    fn hex(&self, digits: &[u8]) -> Parsed<Box<[u8]>> {
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(self.fail(self.at, "number of hexdigits must be multiple of 2"));
        }
        if digits.len() > HEX_DIGITS {
            return Err(self.fail(self.at, "hexbinary too long"));
        }
        let digit = |byte: u8| match byte {
            0..=b'9' => byte.wrapping_sub(b'0'),
            _ => byte.to_ascii_uppercase().wrapping_sub(b'A').wrapping_add(10),
        };
        Ok(digits.chunks_exact(2).map(|pair| (digit(pair[0]) << 4).wrapping_add(digit(pair[1]))).collect())
    }
}

fn unquoted(word: &[u8]) -> &[u8] {
    word.strip_prefix(b"\"").unwrap_or(word)
}

fn is_data(topic: &Expr) -> bool {
    use crate::tree::Special::{ThisData, ThisSerial};
    matches!(topic.kind, ExprKind::Hex(_) | ExprKind::Special(ThisData | ThisSerial))
}

fn operator(word: &[u8]) -> Option<Operator> {
    Some(match word {
        b"=" => Operator::Equal,
        b">" => Operator::Greater,
        b"gte" => Operator::GreaterEqual,
        b"str_gt" => Operator::TextGreater,
        b"str_gte" => Operator::TextGreaterEqual,
        b"+" => Operator::Add,
        b"-" => Operator::Subtract,
        b"*" => Operator::Multiply,
        b"div" => Operator::Quotient,
        b"|" => Operator::Join,
        _ => return None,
    })
}

fn undefined(special: &str) -> &'static str {
    match special {
        "this_data" => "undefined $this_data",
        "this_topic" => "undefined $this_topic",
        "this_serial" => "undefined $this_serial",
        "this_gpio" => "undefined $this_gpio",
        "this_http_body" => "undefined $this_http_body",
        "this_http_code" => "undefined $this_http_code",
        "this_http_host" => "undefined $this_http_host",
        _ => "undefined $this_http_path",
    }
}

/// What to write instead, for the messages where more can be said.
fn hint(message: &str) -> Option<&'static str> {
    Some(match message {
        "end of text" => "the script ends in the middle of a statement",
        "'on' or 'config' expected" => {
            "a statement is: on EVENT do ACTIONS, or: config NAME VALUE; keywords are lower case"
        }
        "'do' expected" => "write: on EVENT do ACTIONS, or: while CONDITION do ACTIONS done",
        "event spec (like 'topic') expected" => {
            "events are init, mqttconnect, wificonnect, wifidisconnect, serial, http_response, timer, alarm, topic, \
             gpio_interrupt"
        }
        "'local' or 'remote' expected" => "write local for the own broker, remote for the one of mqtt_host",
        "invalid timer number" => "timers are 1 to 4, written without quotes",
        "invalid alarm number" => "alarms are 1 to 6, written without quotes",
        "invalid gpio number" => "pins are 0 to 16",
        "action command expected" => {
            "an expression ended before this word: quote topics with + or -, write negative numbers as \"-5\""
        }
        "invalid flash var number" | "invalid flash slot number" => "flash variables are @1 to @8",
        "invalid var identifier" => "write: setvar $name = VALUE, or: setvar @1 = VALUE",
        "unknown var name" => {
            "a variable must be set by a setvar further up in the script; quote topics that begin with $"
        }
        "number of hexdigits must be multiple of 2" => "a # begins binary data such as #00ff; quote a topic: \"#\"",
        "'endif' expected" => "an if with an else is closed with endif",
        "nested too deep" => "use fewer brackets or nested ifs",
        message if message.starts_with("undefined $this_") => "it has a value only in the clauses of its own event",
        _ => return None,
    })
}
