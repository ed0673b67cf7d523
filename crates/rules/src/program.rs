//! A script ready to run: flat code, and an index of what waits for which topic.
use crate::function::Function;
use crate::index::PatternIndex;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::tree::{
    Action, ActionKind, Arm, Config, Dialect, Expr, ExprKind, Grouping, Habits, LineEnd, Link, Method, Operator,
    PeerChange, PeerName, PinMode, Pull, Script, Side, Special, Statement, Trigger,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use mqtt::{QoS, Topic};

/// One operation. Values go over a stack; an action takes its arguments from there, the last on top.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Op {
    Text(u32),
    Data(u32),
    Variable(u16),
    Flash(u8),
    Special(Special),
    Capture(u8),
    Call(Function, u8),
    Binary(Operator),
    Not,
    Negate,
    /// `1` or `0` for whatever is there.
    Truth,
    Jump(u32),
    /// Takes a value; goes on elsewhere unless it is true.
    Unless(u32),
    /// Log lines; cost a step and nothing else while nobody reads them.
    LogIf(u32),
    LogElse(u32),
    LogWhile(u32),
    Print(LineEnd),
    SerialOut,
    System,
    Publish(Side, QoS, bool),
    Subscribe(Side, QoS, bool),
    Unsubscribe(Side),
    SetTimer,
    SetAlarm,
    SetVariable(u16),
    SetFlash(u8),
    Http {
        method: Method,
        headers: u8,
    },
    PinMode(PinMode),
    GpioOut,
    GpioPwm,
    Fail,
    Stop,
}

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) dialect: Dialect,
    pub(crate) habits: Habits,
    pub(crate) code: Vec<Op>,
    /// Of each operation.
    pub(crate) places: Vec<Place>,
    pub(crate) constants: Vec<Bytes>,
    pub(crate) variables: Vec<Box<[u8]>>,
    pub(crate) clauses: Vec<ClauseCode>,
    pub(crate) configs: Vec<Config>,
    pub(crate) pwm_pins: Vec<u8>,
    pub(crate) interrupts: Vec<(u8, Pull)>,
    local: Interests,
    remote: Interests,
}

/// Which `on topic` clauses wait for what.
#[derive(Debug)]
struct Interests {
    index: PatternIndex,
    /// Clauses whose filter has to be computed for each message.
    computed: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct ClauseCode {
    pub(crate) when: When,
    pub(crate) code: Range<u32>,
}

#[derive(Debug)]
pub(crate) enum When {
    Init,
    MqttConnect,
    MqttDisconnect,
    WifiConnect,
    WifiDisconnect,
    Serial,
    HttpResponse,
    Timer(u8),
    Alarm(u8),
    Topic(Side, Wanted),
    Gpio(u8),
    Peer(PeerName, PeerChange),
}

#[derive(Debug)]
pub(crate) enum Wanted {
    Pattern(Pattern),
    /// Code that leaves the filter on the stack.
    Computed(Range<u32>),
    /// A filter that is none: nothing matches it.
    Nothing,
}

impl Program {
    /// Clauses that may take a message on `topic`, in the order of the script.
    pub(crate) fn waiting_for(&self, side: Side, topic: Topic<'_>, found: &mut Vec<u32>) {
        let interests = self.interests(side);
        interests.index.matching(topic, found);
        found.extend_from_slice(&interests.computed);
        found.sort_unstable();
    }

    fn interests(&self, side: Side) -> &Interests {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }
}

/// Turns the tree into code.
pub(crate) fn compile(script: Script) -> Program {
    let empty = || Interests { index: PatternIndex::new(), computed: Vec::new() };
    let program = Program {
        dialect: script.dialect,
        habits: script.habits,
        code: Vec::new(),
        places: Vec::new(),
        constants: Vec::new(),
        variables: script.variables,
        clauses: Vec::new(),
        configs: Vec::new(),
        pwm_pins: Vec::new(),
        interrupts: Vec::new(),
        local: empty(),
        remote: empty(),
    };
    let mut compiler = Compiler { program, known: BTreeMap::new() };
    for statement in script.statements {
        match statement {
            Statement::Clause(clause) => compiler.clause(clause.trigger, &clause.actions),
            Statement::Config(config) => compiler.program.configs.push(config),
        }
    }
    let mut program = compiler.program;
    program.code.shrink_to_fit();
    program.places.shrink_to_fit();
    program
}

struct Compiler {
    program: Program,
    /// Constants by what they are.
    known: BTreeMap<Bytes, u32>,
}

impl Compiler {
    fn here(&self) -> u32 {
        self.program.code.len() as u32
    }

    fn push(&mut self, place: Place, op: Op) -> u32 {
        let at = self.here();
        self.program.code.push(op);
        self.program.places.push(place);
        at
    }

    /// Lets a jump that was written before lead here.
    fn land(&mut self, jump: u32) {
        let here = self.here();
        match self.program.code.get_mut(jump as usize) {
            Some(Op::Jump(target) | Op::Unless(target)) => *target = here,
            _ => debug_assert!(false, "only jumps land"),
        }
    }

    fn constant(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&number) = self.known.get(bytes) {
            return number;
        }
        let number = self.program.constants.len() as u32;
        let bytes = Bytes::copy_from_slice(bytes);
        self.program.constants.push(bytes.clone());
        self.known.insert(bytes, number);
        number
    }

    fn clause(&mut self, trigger: Trigger, actions: &[Action]) {
        let number = self.program.clauses.len() as u32;
        let when = match trigger {
            Trigger::Init => When::Init,
            Trigger::MqttConnect => When::MqttConnect,
            Trigger::MqttDisconnect => When::MqttDisconnect,
            Trigger::WifiConnect => When::WifiConnect,
            Trigger::WifiDisconnect => When::WifiDisconnect,
            Trigger::Serial => When::Serial,
            Trigger::HttpResponse => When::HttpResponse,
            Trigger::Timer(number) => When::Timer(number),
            Trigger::Alarm(number) => When::Alarm(number),
            Trigger::Peer { name, change } => When::Peer(name, change),
            Trigger::Gpio { pin, pull } => {
                self.program.interrupts.push((pin, pull));
                When::Gpio(pin)
            }
            Trigger::Topic { side, filter } => When::Topic(side, self.wanted(number, side, &filter)),
        };
        let start = self.here();
        self.actions(actions);
        let code = start..self.here();
        self.program.clauses.push(ClauseCode { when, code });
    }

    fn wanted(&mut self, number: u32, side: Side, filter: &Expr) -> Wanted {
        let written = match &filter.kind {
            ExprKind::Text(text) | ExprKind::Hex(text) => Some(text),
            _ => None,
        };
        let Some(text) = written else {
            let start = self.here();
            self.expr(filter);
            let range = start..self.here();
            self.interests(side).computed.push(number);
            return Wanted::Computed(range);
        };
        // As everywhere in the old language, a filter ends at its first NUL.
        let text = crate::value::until_nul(text);
        match core::str::from_utf8(text).ok().and_then(|text| Pattern::parse(text).ok()) {
            Some(pattern) => {
                self.interests(side).index.insert(&pattern, number);
                Wanted::Pattern(pattern)
            }
            None => Wanted::Nothing,
        }
    }

    fn interests(&mut self, side: Side) -> &mut Interests {
        match side {
            Side::Local => &mut self.program.local,
            Side::Remote => &mut self.program.remote,
        }
    }

    fn actions(&mut self, actions: &[Action]) {
        for action in actions {
            self.action(action);
        }
    }

    fn action(&mut self, action: &Action) {
        let op = match &action.kind {
            ActionKind::If { arms, otherwise } => return self.conditional(action.place, arms, otherwise.as_deref()),
            ActionKind::While(arm) => return self.repetition(action.place, arm),
            ActionKind::Print { text, line } => self.after([text], Op::Print(*line)),
            ActionKind::SerialOut(text) => self.after([text], Op::SerialOut),
            ActionKind::System(text) => self.after([text], Op::System),
            ActionKind::Publish { side, topic, payload, qos, retain } => {
                self.after([topic, payload], Op::Publish(*side, *qos, *retain))
            }
            ActionKind::Subscribe { side, filter, qos, retained } => {
                self.after([filter], Op::Subscribe(*side, *qos, *retained))
            }
            ActionKind::Unsubscribe { side, filter } => self.after([filter], Op::Unsubscribe(*side)),
            ActionKind::SetTimer { number, millis } => self.after([number, millis], Op::SetTimer),
            ActionKind::SetAlarm { number, time } => self.after([number, time], Op::SetAlarm),
            ActionKind::SetVariable { variable, value } => self.after([value], Op::SetVariable(*variable)),
            ActionKind::SetFlash { slot, value } => self.after([value], Op::SetFlash(*slot)),
            ActionKind::Http { method, url, body, headers } => {
                self.expr(url);
                for (name, value) in headers {
                    self.expr(name);
                    self.expr(value);
                }
                self.after(body.as_ref(), Op::Http { method: *method, headers: headers.len() as u8 })
            }
            ActionKind::PinMode { pin, mode } => self.after([pin], Op::PinMode(*mode)),
            ActionKind::GpioOut { pin, level } => self.after([pin, level], Op::GpioOut),
            ActionKind::GpioPwm { pin, duty } => {
                self.claim(pin);
                self.after([pin, duty], Op::GpioPwm)
            }
            ActionKind::Fail(text) => self.after([text], Op::Fail),
            ActionKind::Stop => Op::Stop,
        };
        self.push(action.place, op);
    }

    fn after<'e>(&mut self, arguments: impl IntoIterator<Item = &'e Expr>, op: Op) -> Op {
        for argument in arguments {
            self.expr(argument);
        }
        op
    }

    /// A pin that is written down is known to be a PWM pin before the first clause runs.
    fn claim(&mut self, pin: &Expr) {
        if let ExprKind::Number(text) = &pin.kind {
            let pin = core::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            if let Some(pin) = pin.filter(|pin| !self.program.pwm_pins.contains(pin)) {
                self.program.pwm_pins.push(pin);
            }
        }
    }

    fn conditional(&mut self, place: Place, arms: &[Arm], otherwise: Option<&[Action]>) {
        let mut ends = Vec::new();
        for (number, arm) in arms.iter().enumerate() {
            let last = number + 1 == arms.len() && otherwise.is_none();
            let heading = self.constant(&arm.heading);
            self.expr(&arm.condition);
            let next = self.push(place, Op::Unless(0));
            self.push(place, Op::LogIf(heading));
            self.actions(&arm.actions);
            if !last {
                ends.push(self.push(place, Op::Jump(0)));
            }
            self.land(next);
            if let (true, Some(actions)) = (number + 1 == arms.len(), otherwise) {
                self.push(place, Op::LogElse(heading));
                self.actions(actions);
            }
        }
        for end in ends {
            self.land(end);
        }
    }

    fn repetition(&mut self, place: Place, arm: &Arm) {
        let heading = self.constant(&arm.heading);
        let start = self.here();
        self.expr(&arm.condition);
        let end = self.push(place, Op::Unless(0));
        self.push(place, Op::LogWhile(heading));
        self.actions(&arm.actions);
        self.push(place, Op::Jump(start));
        self.land(end);
    }

    fn expr(&mut self, expr: &Expr) {
        let op = match &expr.kind {
            ExprKind::Text(text) | ExprKind::Number(text) => Op::Text(self.constant(text)),
            ExprKind::Hex(bytes) => Op::Data(self.constant(bytes)),
            ExprKind::Variable(number) => Op::Variable(*number),
            ExprKind::Flash(slot) => Op::Flash(*slot),
            ExprKind::Special(special) => Op::Special(*special),
            ExprKind::Capture(nth) => Op::Capture(*nth),
            ExprKind::Call(function, arguments) => self.after(arguments, Op::Call(*function, arguments.len() as u8)),
            ExprKind::Not(inner) => self.after([&**inner], Op::Not),
            ExprKind::Negate(inner) => self.after([&**inner], Op::Negate),
            ExprKind::Chain { grouping, first, rest } => {
                self.expr(first);
                return match grouping {
                    Grouping::Left => self.left_chain(rest),
                    Grouping::Right => self.right_chain(rest),
                };
            }
        };
        self.push(expr.place, op);
    }

    fn left_chain(&mut self, rest: &[Link]) {
        for link in rest {
            match link.operator {
                Operator::And => self.and(link),
                Operator::Or => self.or(link),
                operator => {
                    self.expr(&link.operand);
                    self.push(link.place, Op::Binary(operator));
                }
            }
        }
    }

    /// All operands from the left, then the operators from the right.
    fn right_chain(&mut self, rest: &[Link]) {
        for link in rest {
            self.expr(&link.operand);
        }
        for link in rest.iter().rev() {
            self.push(link.place, Op::Binary(link.operator));
        }
    }

    fn and(&mut self, link: &Link) {
        let no = self.push(link.place, Op::Unless(0));
        self.expr(&link.operand);
        self.push(link.place, Op::Truth);
        let end = self.push(link.place, Op::Jump(0));
        self.land(no);
        let zero = self.constant(b"0");
        self.push(link.place, Op::Text(zero));
        self.land(end);
    }

    fn or(&mut self, link: &Link) {
        let no = self.push(link.place, Op::Unless(0));
        let one = self.constant(b"1");
        self.push(link.place, Op::Text(one));
        let end = self.push(link.place, Op::Jump(0));
        self.land(no);
        self.expr(&link.operand);
        self.push(link.place, Op::Truth);
        self.land(end);
    }
}
