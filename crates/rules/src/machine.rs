//! Runs the code of one clause for one event, step by step, within its budget.
use crate::alarm::Alarm;
use crate::builtin;
use crate::clock::parse_time;
use crate::door::{FaultKind, Level, Output, RequestId, World};
use crate::event::{Event, Occasion, as_str};
use crate::function::Function;
use crate::json;
use crate::midge::TIMERS;
use crate::number::{Decimal, NotNumber, atoi};
use crate::pattern::Pattern;
use crate::place::Place;
use crate::program::{ClauseCode, Op, Program, Wanted, When};
use crate::request;
use crate::state::{Incoming, Pending, Remote, State};
use crate::tree::{
    AlarmRule, Dialect, LineEnd, Method, Numbers, Operator, PinMode, Side, Special, TextRule, TopicRule,
};
use crate::value::{Kind, Value, until_nul};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use mqtt::{QoS, Topic};

/// Why a clause ends before its end.
#[derive(Debug)]
pub(crate) enum Abort {
    /// Something is wrong.
    Fault(FaultKind, Cow<'static, str>),
    /// It said so.
    Stop,
}

impl From<(FaultKind, &'static str)> for Abort {
    fn from((kind, message): (FaultKind, &'static str)) -> Self {
        Self::Fault(kind, message.into())
    }
}

type Step<T> = Result<T, Abort>;

/// What each value on the stack costs besides its bytes.
const VALUE_WEIGHT: usize = 48;
/// Bytes of text worked on that count as one step.
const BYTES_PER_STEP: usize = 32;

pub(crate) struct Machine<'a> {
    program: &'a Program,
    state: &'a mut State,
    world: &'a dyn World,
    event: &'a Event,
    clause: &'a ClauseCode,
    stack: Vec<Value>,
    stack_bytes: usize,
    at: usize,
    steps: u32,
}

/// Runs one clause if it really concerns the event; returns the steps used.
pub(crate) fn run(
    program: &Program,
    state: &mut State,
    world: &dyn World,
    event: &Event,
    clause: &ClauseCode,
    stack: &mut Vec<Value>,
) -> u32 {
    let mut machine = Machine {
        program,
        state,
        world,
        event,
        clause,
        stack: core::mem::take(stack),
        stack_bytes: 0,
        at: 0,
        steps: 0,
    };
    let result = machine.clause();
    let Machine { steps, at, stack: mut used, state, .. } = machine;
    if let Err(Abort::Fault(kind, message)) = result {
        state.fault(program.places.get(at).copied(), kind, message);
    }
    used.clear();
    *stack = used;
    state.counters.steps += u64::from(steps);
    steps
}

impl Machine<'_> {
    fn clause(&mut self) -> Step<()> {
        if !self.filter_matches()? {
            return Ok(());
        }
        self.state.counters.clauses += 1;
        if self.state.logging {
            self.log_event();
        }
        self.execute(self.clause.code.clone())
    }

    /// Filters that are computed are read now: an earlier clause may have changed their variables.
    fn filter_matches(&mut self) -> Step<bool> {
        let clause = self.clause;
        let When::Topic(_, Wanted::Computed(range)) = &clause.when else { return Ok(true) };
        self.execute(range.clone())?;
        let filter = self.pop();
        let Occasion::Topic(arrival) = &self.event.occasion else { return Ok(false) };
        let pattern = as_str(&filter).and_then(|text| Pattern::parse(text).ok());
        Ok(pattern.is_some_and(|pattern| pattern.matches(arrival.topic.borrow())))
    }

    fn execute(&mut self, range: Range<u32>) -> Step<()> {
        let program = self.program;
        let mut next = range.start as usize;
        while next < range.end as usize {
            self.at = next;
            self.charge(1)?;
            let Some(&op) = program.code.get(next) else { return Ok(()) };
            next += 1;
            match op {
                Op::Jump(target) => next = target as usize,
                Op::Unless(target) => {
                    let condition = self.pop();
                    if !self.truth(&condition) {
                        next = target as usize;
                    }
                }
                Op::Text(number) => self.push(Value::text(self.constant(number)))?,
                Op::Data(number) => self.push(Value::data(self.constant(number)))?,
                Op::Variable(number) => {
                    let value = self.state.variables.get(usize::from(number)).cloned().unwrap_or(Value::EMPTY);
                    self.push(value)?;
                }
                Op::Flash(slot) => {
                    let value = self.state.flash.get(&slot).map(|slot| slot.value.clone()).unwrap_or_default();
                    self.push(Value::text(value))?;
                }
                Op::Special(special) => {
                    let value = self.special(special);
                    self.push(value)?;
                }
                Op::Capture(nth) => {
                    let value = self.capture(nth);
                    self.push(value)?;
                }
                Op::Call(function, arguments) => self.call(function, usize::from(arguments))?,
                Op::Binary(operator) => self.binary(operator)?,
                Op::Not => {
                    let value = self.pop();
                    let truth = self.truth(&value);
                    self.push(Value::bool(!truth))?;
                }
                Op::Truth => {
                    let value = self.pop();
                    let truth = self.truth(&value);
                    self.push(Value::bool(truth))?;
                }
                Op::Negate => {
                    let value = self.pop();
                    let negated = match self.program.habits.numbers {
                        Numbers::Int32 => format!("{}", atoi(self.view(&value)).wrapping_neg()),
                        Numbers::Decimal => self.decimal(&value)?.negate().to_text(),
                    };
                    self.push(Value::text(negated))?;
                }
                action => self.action(action)?,
            }
        }
        Ok(())
    }

    fn action(&mut self, op: Op) -> Step<()> {
        match op {
            Op::Print(line) => self.print(line),
            Op::SerialOut => {
                let text = self.pop_text();
                self.log(|| format!("serial_out '{}'", lossy(&text)));
                self.emit(Output::Serial(text))
            }
            Op::System => {
                let text = self.pop_text();
                self.log(|| format!("system '{}'", lossy(&text)));
                self.emit(Output::System(text))
            }
            Op::Publish(side, qos, retain) => self.publish(side, qos, retain),
            Op::Subscribe(side, qos, retained) => self.subscribe(side, qos, retained),
            Op::Unsubscribe(side) => self.unsubscribe(side),
            Op::SetTimer => self.set_timer(),
            Op::SetAlarm => self.set_alarm(),
            Op::SetVariable(number) => self.set_variable(number),
            Op::SetFlash(slot) => {
                let value = self.pop();
                self.log_setvar(format_args!("@{slot}"), &value);
                self.state.set_flash(slot, &value.bytes);
                Ok(())
            }
            Op::Http { method, headers } => self.http(method, usize::from(headers)),
            Op::PinMode(mode) => {
                let pin = self.pop_pin()?;
                let word = if mode == PinMode::Output { "output" } else { "input" };
                self.log(|| format!("gpio_pinmode {pin} {word}"));
                self.emit(Output::PinMode { pin, mode })
            }
            Op::GpioOut => {
                let level = self.pop();
                let pin = self.pop_pin()?;
                let high = self.truth(&level);
                self.log(|| format!("gpio_out {pin} {}", u8::from(high)));
                self.emit(Output::GpioOut { pin, level: if high { Level::High } else { Level::Low } })
            }
            Op::GpioPwm => self.pwm(),
            Op::Fail => {
                let text = self.pop_text();
                Err(Abort::Fault(FaultKind::Script, lossy(&text).into_owned().into()))
            }
            Op::Stop => Err(Abort::Stop),
            Op::LogIf(heading) => self.log_heading("if", heading, "... (done) "),
            Op::LogElse(heading) => self.log_heading("if", heading, "... else (done) "),
            Op::LogWhile(heading) => self.log_heading("while", heading, "... (done) "),
            _ => {
                debug_assert!(false, "not an action: {op:?}");
                Ok(())
            }
        }
    }

    fn charge(&mut self, steps: usize) -> Step<()> {
        self.steps = self.steps.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > self.state.limits.steps_per_clause {
            return Err((FaultKind::Steps, "too many steps; the rest of this clause is left out").into());
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step<()> {
        let length = value.bytes.len();
        if length > self.state.limits.string_bytes {
            return Err((FaultKind::Length, "text too long").into());
        }
        self.charge(length / BYTES_PER_STEP)?;
        if !self.state.has_room(self.stack_bytes + length + VALUE_WEIGHT) {
            return Err((FaultKind::Memory, "out of memory for values").into());
        }
        self.stack_bytes += length + VALUE_WEIGHT;
        self.stack.push(value);
        Ok(())
    }

    /// The compiler has seen to it that there is one.
    fn pop(&mut self) -> Value {
        let value = self.stack.pop();
        debug_assert!(value.is_some(), "nothing on the stack");
        let value = value.unwrap_or(Value::EMPTY);
        self.stack_bytes = self.stack_bytes.saturating_sub(value.bytes.len() + VALUE_WEIGHT);
        value
    }

    fn emit(&mut self, output: Output) -> Step<()> {
        self.state.emit(output).map_err(Abort::from)
    }

    /// Something went wrong that does not end the clause.
    fn report(&mut self, kind: FaultKind, message: impl Into<String>) {
        self.state.fault(self.program.places.get(self.at).copied(), kind, message);
    }

    fn constant(&self, number: u32) -> Bytes {
        self.program.constants.get(number as usize).cloned().unwrap_or_default()
    }

    fn place(&self) -> Option<Place> {
        self.program.places.get(self.at).copied()
    }

    fn rule(&self) -> TextRule {
        self.program.habits.text
    }

    /// The part of a value that counts where text is meant.
    fn view<'v>(&self, value: &'v Value) -> &'v [u8] {
        match self.rule() {
            TextRule::Whole => &value.bytes,
            TextRule::UntilNul => until_nul(&value.bytes),
        }
    }

    fn pop_text(&mut self) -> Bytes {
        let value = self.pop();
        let length = self.view(&value).len();
        value.bytes.slice(..length)
    }

    fn truth(&self, value: &Value) -> bool {
        let text = self.view(value);
        match self.program.habits.numbers {
            Numbers::Int32 => atoi(text) != 0,
            Numbers::Decimal => match Decimal::parse(text) {
                Ok(number) => !number.is_zero(),
                Err(_) => !matches!(text, b"false" | b"null"),
            },
        }
    }

    fn decimal(&self, value: &Value) -> Step<Decimal> {
        let text = self.view(value);
        Decimal::parse(text).map_err(|error| match error {
            NotNumber::Text => Abort::Fault(FaultKind::Number, format!("not a number: \"{}\"", excerpt(text)).into()),
            NotNumber::Overflow => (FaultKind::Overflow, "number too large").into(),
        })
    }

    /// A whole number, fractions cut.
    fn integer(&self, value: &Value) -> Step<i64> {
        match self.program.habits.numbers {
            Numbers::Int32 => Ok(i64::from(atoi(self.view(value)))),
            Numbers::Decimal => Ok(self.decimal(value)?.to_i64()),
        }
    }

    fn pop_pin(&mut self) -> Step<u8> {
        let value = self.pop();
        u8::try_from(self.integer(&value)?).map_err(|_| (FaultKind::Pin, "pins are numbered from 0 to 255").into())
    }

    fn pop_number(&mut self, kind: FaultKind, message: &'static str) -> Step<u8> {
        let value = self.pop();
        let number = u8::try_from(self.integer(&value)?).ok().filter(|number| (1..=TIMERS).contains(number));
        number.ok_or_else(|| (kind, message).into())
    }

    fn binary(&mut self, operator: Operator) -> Step<()> {
        let right = self.pop();
        let left = self.pop();
        self.charge(left.bytes.len().min(right.bytes.len()) / BYTES_PER_STEP)?;
        let result = match operator {
            Operator::Equal => Value::bool(self.view(&left) == self.view(&right)),
            Operator::NotEqual => Value::bool(self.view(&left) != self.view(&right)),
            Operator::TextGreater => Value::bool(self.view(&left) > self.view(&right)),
            Operator::TextGreaterEqual => Value::bool(self.view(&left) >= self.view(&right)),
            Operator::Join => self.join(&left, &right)?,
            // Handled by jumps; as plain operators they would not differ.
            Operator::And => Value::bool(self.truth(&left) && self.truth(&right)),
            Operator::Or => Value::bool(self.truth(&left) || self.truth(&right)),
            operator => match self.program.habits.numbers {
                Numbers::Int32 => integers(operator, atoi(self.view(&left)), atoi(self.view(&right)))?,
                Numbers::Decimal => decimals(operator, self.decimal(&left)?, self.decimal(&right)?)?,
            },
        };
        self.push(result)
    }

    fn join(&self, left: &Value, right: &Value) -> Step<Value> {
        let length = left.bytes.len() + right.bytes.len();
        if length > self.state.limits.string_bytes {
            return Err((FaultKind::Length, "text too long").into());
        }
        if right.bytes.is_empty() {
            return Ok(Value { kind: Kind::Text, ..left.clone() });
        }
        let mut joined = Vec::with_capacity(length);
        joined.extend_from_slice(&left.bytes);
        joined.extend_from_slice(&right.bytes);
        Ok(Value::text(joined))
    }

    fn special(&mut self, special: Special) -> Value {
        let local = self.state.clock.local(self.state.now.wall);
        match special {
            Special::Timestamp => Value::text(match local {
                Some(local) => Bytes::copy_from_slice(&local.time_text()),
                None => Bytes::from_static(b"99:99:99"),
            }),
            Special::Weekday => Value::text(local.map_or("xxx", |local| local.weekday()).as_bytes()),
            Special::Date => Value::text(local.map_or(String::new(), |local| local.date_text())),
            Special::Seconds => Value::text(format!("{}", self.state.now.wall.0 / 1000)),
            Special::Adc => match self.world.adc() {
                Some(reading) => Value::text(format!("{reading}")),
                None => {
                    self.report(FaultKind::Pin, "the analog input cannot be read");
                    Value::text(Bytes::from_static(b"0"))
                }
            },
            of_event => self.of_event(of_event),
        }
    }

    /// What the event brought; empty where it is another's.
    fn of_event(&self, special: Special) -> Value {
        match (&self.event.occasion, special) {
            (Occasion::Topic(arrival), Special::ThisData) => Value::data(arrival.payload.clone()),
            (Occasion::Topic(arrival), Special::ThisTopic) => {
                Value::text(Bytes::copy_from_slice(arrival.topic.as_str().as_bytes()))
            }
            (Occasion::Topic(arrival), Special::ThisQos) => Value::text(format!("{}", arrival.qos as u8)),
            (Occasion::Topic(arrival), Special::ThisRetained) => Value::bool(arrival.retain),
            (Occasion::Serial(line), Special::ThisSerial) => Value::data(line.clone()),
            (Occasion::Gpio { high, .. }, Special::ThisGpio) => Value::bool(*high),
            (Occasion::Http(answer), Special::ThisHttpBody) => Value::text(answer.body.clone()),
            (Occasion::Http(answer), Special::ThisHttpHost) => Value::text(answer.host.clone()),
            (Occasion::Http(answer), Special::ThisHttpPath) => Value::text(answer.path.clone()),
            (Occasion::Http(answer), Special::ThisHttpCode) => Value::text(match self.program.dialect {
                Dialect::Compat => format!("{:3}", answer.code),
                Dialect::Midge => format!("{}", answer.code),
            }),
            (Occasion::Peer { name, .. }, Special::ThisPeer) => Value::text(Bytes::copy_from_slice(name.as_bytes())),
            _ => Value::EMPTY,
        }
    }

    fn capture(&self, nth: u8) -> Value {
        let Occasion::Topic(arrival) = &self.event.occasion else { return Value::EMPTY };
        let When::Topic(_, Wanted::Pattern(pattern)) = &self.clause.when else { return Value::EMPTY };
        let found = pattern.capture(arrival.topic.borrow(), nth).unwrap_or_default();
        Value::text(Bytes::copy_from_slice(found.as_bytes()))
    }

    fn call(&mut self, function: Function, arguments: usize) -> Step<()> {
        let start = self.stack.len().saturating_sub(arguments);
        let values: Vec<Value> = self.stack.drain(start..).collect();
        let bytes: usize = values.iter().map(|value| value.bytes.len()).sum();
        self.stack_bytes = self.stack_bytes.saturating_sub(bytes + values.len() * VALUE_WEIGHT);
        self.charge(bytes / BYTES_PER_STEP)?;
        let result = self.function(function, &values)?;
        self.push(result)
    }

    fn function(&mut self, function: Function, values: &[Value]) -> Step<Value> {
        let rule = self.rule();
        let text = |index: usize| values.get(index).map_or(&[] as &[u8], |value| self.view(value));
        let number = |index: usize| values.get(index).map_or(Ok(0), |value| self.integer(value));
        let string_bytes = self.state.limits.string_bytes;
        let too_long = || Abort::from((FaultKind::Length, "text too long"));
        let owned = |bytes: &[u8]| Value::text(Bytes::copy_from_slice(bytes));
        Ok(match function {
            Function::EatWhite => Value::text(builtin::eat_white(text(0))),
            Function::Binary => Value::data(Bytes::copy_from_slice(&[number(0)? as u8])),
            Function::ByteVal => {
                let index = usize::try_from(number(1)?).ok();
                let byte = index.and_then(|index| values.first()?.bytes.get(index));
                byte.map_or(Value::EMPTY, |byte| Value::text(format!("{byte}")))
            }
            Function::Substr => {
                let count = if values.len() > 2 { Some(number(2)?) } else { None };
                owned(builtin::substr(text(0), rule, number(1)?, count))
            }
            Function::CsvStr => owned(builtin::field(text(0), number(1)?, text(2))),
            Function::JsonParse => owned(&json::lookup(text(0), text(1)).unwrap_or_default()),
            Function::Len => Value::text(format!("{}", builtin::length(text(0), rule))),
            Function::Upper => Value::text(builtin::upper(text(0))),
            Function::Lower => Value::text(builtin::lower(text(0))),
            Function::Trim => owned(text(0).trim_ascii()),
            Function::Find => Value::text(format!("{}", builtin::find_character(text(0), rule, text(1)))),
            Function::Replace => {
                Value::text(builtin::replace(text(0), text(1), text(2), string_bytes).ok_or_else(too_long)?)
            }
            Function::Starts => Value::bool(text(0).starts_with(text(1))),
            Function::Ends => Value::bool(text(0).ends_with(text(1))),
            Function::Pad => {
                let fill = if values.len() > 2 { text(2) } else { b" " };
                Value::text(builtin::pad(text(0), rule, number(1)?, fill, string_bytes).ok_or_else(too_long)?)
            }
            Function::Hex => Value::text(builtin::hex(&values[0].bytes)),
            Function::Unhex => Value::data(builtin::unhex(text(0))),
            Function::JsonText => Value::text(json::quote(text(0))),
            Function::UrlText => Value::text(builtin::url_text(text(0))),
            Function::Matches => Value::bool(builtin::matches(text(0), text(1))),
            Function::Level => owned(builtin::field(text(0), number(1)?, b"/")),
            Function::IsNumber => Value::bool(!text(0).is_empty() && Decimal::parse(text(0)).is_ok()),
            Function::Number | Function::Floor | Function::Round | Function::Abs | Function::Min | Function::Max => {
                self.numeric(function, values)?
            }
            Function::RetainedTopic => self.retained(values),
            Function::GpioIn => self.gpio_in(number(0)?),
            Function::Setting => self.setting(values),
        })
    }

    fn numeric(&self, function: Function, values: &[Value]) -> Step<Value> {
        let all =
            |start: usize| -> Step<Vec<Decimal>> { values[start..].iter().map(|value| self.decimal(value)).collect() };
        let second = |fallback| values.get(1).map_or(Ok(fallback), |value| self.decimal(value));
        let result = match function {
            Function::Number => builtin::number(self.view(&values[0]), second(Decimal::ZERO)?),
            Function::Min => all(0)?.into_iter().min().unwrap_or(Decimal::ZERO),
            Function::Max => all(0)?.into_iter().max().unwrap_or(Decimal::ZERO),
            function => {
                let value = self.decimal(&values[0])?;
                match function {
                    Function::Floor => value.floor(),
                    Function::Abs if value < Decimal::ZERO => value.negate(),
                    Function::Abs => value,
                    _ => value.round(u32::try_from(second(Decimal::ZERO)?.to_i64()).unwrap_or(0)),
                }
            }
        };
        Ok(Value::text(result.to_text()))
    }

    fn retained(&mut self, values: &[Value]) -> Value {
        let pattern = values.first().and_then(as_str).and_then(|text| Pattern::parse(text).ok());
        let found = pattern.and_then(|pattern| self.world.retained(&pattern));
        Value::data(found.unwrap_or_default())
    }

    fn gpio_in(&mut self, pin: i64) -> Value {
        match u8::try_from(pin).ok().and_then(|pin| self.world.gpio(pin)) {
            Some(level) => Value::bool(level == Level::High),
            None => {
                self.report(FaultKind::Pin, format!("pin {pin} cannot be read"));
                Value::bool(false)
            }
        }
    }

    fn setting(&mut self, values: &[Value]) -> Value {
        let found = values.first().and_then(as_str).and_then(|name| self.world.setting(name));
        Value::text(found.unwrap_or_default())
    }

    fn print(&mut self, line: LineEnd) -> Step<()> {
        let text = self.pop_text();
        let text = match line {
            LineEnd::None => text,
            LineEnd::CrLf => {
                let mut whole = Vec::with_capacity(text.len() + 2);
                whole.extend_from_slice(&text);
                whole.extend_from_slice(b"\r\n");
                whole.into()
            }
        };
        self.emit(Output::Print(text))
    }

    fn publish(&mut self, side: Side, qos: QoS, retain: bool) -> Step<()> {
        let payload = self.pop();
        let topic = self.pop();
        let refused = self.program.habits.topics == TopicRule::TextOnly && topic.kind == Kind::Data;
        let text = core::str::from_utf8(self.view(&topic)).ok().filter(|_| !refused);
        let Some(topic) = text.and_then(|text| Topic::parse(text).ok()) else {
            return Err((FaultKind::Topic, "invalid topic string").into());
        };
        if side == Side::Remote && self.state.remote == Remote::Away && qos == QoS::AtMostOnce {
            self.state.counters.remote_dropped += 1;
            return Ok(());
        }
        self.log(|| {
            let what = match payload.kind {
                Kind::Text => lossy(until_nul(&payload.bytes)),
                Kind::Data => format!("binary ({} bytes)", payload.bytes.len()).into(),
            };
            format!("publish {} {topic} {what}", side.word())
        });
        self.emit(Output::Publish { side, topic: topic.to_buf(), payload: payload.bytes.clone(), qos, retain })?;
        if side == Side::Local {
            let message = Incoming { side, topic, payload: &payload.bytes, qos, retain: false };
            let place = self.place();
            self.state.message(self.program, place, message, self.event.chain + 1);
        }
        Ok(())
    }

    fn pop_pattern(&mut self) -> Option<Pattern> {
        let filter = self.pop();
        let pattern = as_str(&filter).and_then(|text| Pattern::parse(text).ok());
        if pattern.is_none() {
            self.report(FaultKind::Topic, "invalid topic filter");
        }
        pattern
    }

    fn subscribe(&mut self, side: Side, qos: QoS, retained: bool) -> Step<()> {
        let Some(pattern) = self.pop_pattern() else { return Ok(()) };
        if side == Side::Remote && self.state.remote == Remote::Away {
            self.state.counters.remote_dropped += 1;
            return Ok(());
        }
        self.log(|| format!("subscribe {} {}", side.word(), pattern.as_str()));
        let Some(filter) = pattern.wire() else { return Ok(()) };
        if side == Side::Local {
            let known = self.state.subscriptions.contains(&pattern);
            // Nothing is new: an identical duplicate is one subscription.
            if known && qos == QoS::AtMostOnce && !retained {
                return Ok(());
            }
            if !self.state.subscribe(pattern, filter.clone()) {
                return Err((FaultKind::Subscriptions, "too many subscriptions").into());
            }
        }
        self.emit(Output::Subscribe { side, filter, qos, retained })
    }

    fn unsubscribe(&mut self, side: Side) -> Step<()> {
        let Some(pattern) = self.pop_pattern() else { return Ok(()) };
        if side == Side::Remote && self.state.remote == Remote::Away {
            return Ok(());
        }
        // The old firmware logs the wrong word for its own broker; nobody reads the log by machine.
        self.log(|| format!("unsubscribe {} {}", side.word(), pattern.as_str()));
        let filter = match side {
            Side::Remote => pattern.wire(),
            Side::Local => {
                let work = self.state.subscriptions.len();
                self.charge(work)?;
                self.state.unsubscribe(&pattern)
            }
        };
        match filter {
            Some(filter) => self.emit(Output::Unsubscribe { side, filter }),
            None => Ok(()),
        }
    }

    fn set_timer(&mut self) -> Step<()> {
        let value = self.pop();
        let number = self.pop_number(FaultKind::Time, "timers are numbered from 1 to 32")?;
        let millis = match self.program.habits.numbers {
            // Negative numbers are huge ones here.
            Numbers::Int32 => u64::from(atoi(self.view(&value)) as u32),
            Numbers::Decimal => u64::try_from(self.decimal(&value)?.to_i64())
                .map_err(|_| Abort::from((FaultKind::Time, "a timer cannot be negative")))?,
        };
        self.log(|| format!("settimer {number} {millis}"));
        if millis == 0 {
            self.state.timers.remove(&number);
        } else {
            let due = self.state.now.instant + Duration::from_millis(millis);
            self.state.timers.insert(number, due);
        }
        Ok(())
    }

    fn set_alarm(&mut self) -> Step<()> {
        let time = self.pop_text();
        let number = self.pop_number(FaultKind::Time, "alarms are numbered from 1 to 32")?;
        self.log(|| format!("setalarm {number} {}", lossy(&time)));
        let local = self.state.clock.local(self.state.now.wall);
        let text: Bytes = match self.program.habits.alarms {
            AlarmRule::Text => time.slice(..time.len().min(9)),
            AlarmRule::Time if time.is_empty() => time,
            AlarmRule::Time => match parse_time(&time) {
                Some(second) => {
                    let time = crate::clock::LocalTime { day: 0, second };
                    Bytes::copy_from_slice(&time.time_text())
                }
                None => {
                    let message = format!("not a time of day: \"{}\"", excerpt(&time));
                    return Err(Abort::Fault(FaultKind::Time, message.into()));
                }
            },
        };
        if text.is_empty() {
            self.state.alarms.remove(&number);
        } else {
            self.state.alarms.insert(number, Alarm::new(&text, local));
        }
        Ok(())
    }

    fn set_variable(&mut self, number: u16) -> Step<()> {
        let value = self.pop();
        if self.state.logging {
            let name = self.program.variables.get(usize::from(number)).map_or("".into(), |name| lossy(name));
            self.log_setvar(format_args!("${name}"), &value);
        }
        if self.state.set_variable(number, value) {
            return Ok(());
        }
        let name = self.program.variables.get(usize::from(number)).map_or("".into(), |name| lossy(name));
        Err(Abort::Fault(FaultKind::Memory, format!("Out of mem for var ${name}").into()))
    }

    fn http(&mut self, method: Method, headers: usize) -> Step<()> {
        let body = match method {
            Method::Post | Method::Put => Some(self.pop_text()),
            Method::Get | Method::Delete => None,
        };
        let mut parts: Vec<Bytes> = (0..headers * 2).map(|_| self.pop_text()).collect();
        parts.reverse();
        let url = self.pop_text();
        let Some(target) = request::parse_url(&url) else {
            self.report(FaultKind::Url, format!("not a URL that can be fetched: \"{}\"", excerpt(&url)));
            return Ok(());
        };
        let Some(headers) = request::headers(&parts) else {
            self.report(FaultKind::Url, "a header's name is a word and its value is one line");
            return Ok(());
        };
        if self.state.requests.len() >= self.state.limits.http_in_flight {
            self.report(FaultKind::Requests, "too many HTTP requests without an answer");
            return Ok(());
        }
        let id = RequestId(self.state.next_request);
        let deadline = self.state.now.instant + self.state.limits.http_timeout;
        let request::Target { url, host, path } = target;
        self.emit(Output::Http(crate::door::Request { id, method, url, headers, body }))?;
        self.state.next_request += 1;
        self.state.requests.insert(id, Pending { host, path, deadline });
        Ok(())
    }

    fn pwm(&mut self) -> Step<()> {
        let duty = self.pop();
        let pin = self.pop_pin()?;
        let wanted = self.integer(&duty)?;
        let per_mille = match self.program.habits.numbers {
            // Negative numbers are huge ones here too.
            Numbers::Int32 if wanted < 0 => 1000,
            Numbers::Int32 | Numbers::Decimal => wanted.clamp(0, 1000) as u16,
        };
        self.log(|| format!("gpio_pwm {pin} {}", lossy(&duty.bytes)));
        self.emit(Output::Pwm { pin, per_mille })
    }

    fn log(&mut self, text: impl FnOnce() -> String) {
        if self.state.logging {
            let text = text();
            write_log(self.state, &text);
        }
    }

    fn log_setvar(&mut self, name: core::fmt::Arguments<'_>, value: &Value) {
        self.log(|| match value.kind {
            Kind::Text => format!("setvar {name} = {}", lossy(until_nul(&value.bytes))),
            Kind::Data => format!("setvar {name} = binary ({} bytes)", value.bytes.len()),
        });
    }

    fn log_heading(&mut self, word: &str, heading: u32, end: &str) -> Step<()> {
        if self.state.logging {
            let heading = self.constant(heading);
            write_log(self.state, &format!("{word} {}{end}", lossy(&heading)));
        }
        Ok(())
    }

    fn log_event(&mut self) {
        let text = match (&self.event.occasion, &self.clause.when) {
            (Occasion::Init, _) => "on init".into(),
            (Occasion::MqttConnect, _) => "on mqttconnect".into(),
            (Occasion::MqttDisconnect, _) => "on mqttdisconnect".into(),
            (Occasion::WifiConnect, _) => "on wificonnect".into(),
            (Occasion::WifiDisconnect, _) => "on wifidisconnect".into(),
            (Occasion::Serial(_), _) => "on serial".into(),
            (Occasion::Http(_), _) => "on http_response".into(),
            (Occasion::Timer(number), _) => format!("on timer {number}"),
            (Occasion::Alarm(number), _) => format!("on alarm {number}"),
            (Occasion::Gpio { pin, .. }, _) => format!("on gpio_interrupt {pin}"),
            (Occasion::Peer { name, .. }, _) => format!("on peer {name}"),
            (Occasion::Topic(arrival), When::Topic(side, Wanted::Pattern(pattern))) => {
                format!("on topic {} {} matched {}", side.word(), pattern.as_str(), arrival.topic.as_str())
            }
            (Occasion::Topic(arrival), _) => {
                format!("on topic {} matched {}", arrival.side.word(), arrival.topic.as_str())
            }
        };
        write_log(self.state, &text);
    }
}

fn write_log(state: &mut State, text: &str) {
    /// As long as the old firmware's lines get.
    const LINE: usize = 255;
    let mut line = Vec::with_capacity(text.len().min(LINE) + 12);
    match state.clock.local(state.now.wall) {
        Some(local) => line.extend_from_slice(&local.time_text()),
        None => line.extend_from_slice(b"99:99:99"),
    }
    line.extend_from_slice(b": ");
    line.extend_from_slice(&text.as_bytes()[..text.len().min(LINE)]);
    line.extend_from_slice(b"\r\n");
    state.emit_or_fault(Output::Log(line.into()));
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The beginning of a text, for a message.
fn excerpt(text: &[u8]) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = lossy(&text[..text.len().min(SHOWN * 4)]).chars().take(SHOWN).collect();
    if text.len() > shown.len() {
        shown.push('…');
    }
    shown
}

const DIVISION: (FaultKind, &str) = (FaultKind::Division, "division by zero");

fn integers(operator: Operator, left: i32, right: i32) -> Step<Value> {
    let result = match operator {
        Operator::Greater => return Ok(Value::bool(left > right)),
        Operator::GreaterEqual => return Ok(Value::bool(left >= right)),
        Operator::Less => return Ok(Value::bool(left < right)),
        Operator::LessEqual => return Ok(Value::bool(left <= right)),
        Operator::Add => left.wrapping_add(right),
        Operator::Subtract => left.wrapping_sub(right),
        Operator::Multiply => left.wrapping_mul(right),
        Operator::Divide | Operator::Quotient | Operator::Remainder if right == 0 => return Err(DIVISION.into()),
        Operator::Remainder => left.wrapping_rem(right),
        _ => left.wrapping_div(right),
    };
    Ok(Value::text(format!("{result}")))
}

fn decimals(operator: Operator, left: Decimal, right: Decimal) -> Step<Value> {
    let result = match operator {
        Operator::Greater => return Ok(Value::bool(left > right)),
        Operator::GreaterEqual => return Ok(Value::bool(left >= right)),
        Operator::Less => return Ok(Value::bool(left < right)),
        Operator::LessEqual => return Ok(Value::bool(left <= right)),
        Operator::Add => left.add(right),
        Operator::Subtract => left.sub(right),
        Operator::Multiply => left.mul(right),
        Operator::Divide | Operator::Quotient | Operator::Remainder if right.is_zero() => return Err(DIVISION.into()),
        Operator::Quotient => left.quotient(right),
        Operator::Remainder => left.remainder(right),
        _ => left.div(right),
    };
    match result {
        Some(number) => Ok(Value::text(number.to_text())),
        None => Err((FaultKind::Overflow, "number too large").into()),
    }
}
