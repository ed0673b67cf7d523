//! A script as a tree. Both dialects parse to it; it is what gets compiled, converted and checked.
use crate::diagnostic::Diagnostic;
use crate::function::Function;
use crate::place::Place;
use alloc::boxed::Box;
use alloc::vec::Vec;
use mqtt::QoS;

/// Which of the two languages a script is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// The old firmware's.
    Compat,
    /// The one for new scripts, chosen by a first line `% midge`.
    Midge,
}

/// Where the dialects differ once a script runs. Each can be had in `midge` by an `option` line: a converted script
/// says in its first lines which old habits it relies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Habits {
    /// What a number is.
    pub numbers: Numbers,
    /// Where a text ends and what it is counted in.
    pub text: TextRule,
    /// How often one message is an event.
    pub deliveries: Deliveries,
    /// What may be a topic.
    pub topics: TopicRule,
    /// What an alarm's time is.
    pub alarms: AlarmRule,
}

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Exact decimals; anything else is an error.
    Decimal,
    /// `option int32`: whatever a text begins with, in 32 bits that wrap around; a condition is a number that isn't 0.
    Int32,
}

/// Where a text ends and what it is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextRule {
    /// All of it, counted in characters.
    Whole,
    /// `option c_text`: up to the first NUL byte wherever text is meant, counted in bytes.
    UntilNul,
}

/// How often one message is an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deliveries {
    /// Once.
    Once,
    /// `option each_subscription`: once for each local subscription that matches.
    EachSubscription,
}

/// What may be a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicRule {
    /// Any valid topic.
    Any,
    /// `option text_topics`: not what came out of a message, serial line or hex literal unchanged.
    TextOnly,
}

/// What an alarm's time is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlarmRule {
    /// A time of day; anything else is an error.
    Time,
    /// `option text_alarms`: any text, compared with `hh:mm:ss` byte by byte.
    Text,
}

impl Habits {
    /// Those of `midge`.
    pub const MIDGE: Self = Self {
        numbers: Numbers::Decimal,
        text: TextRule::Whole,
        deliveries: Deliveries::Once,
        topics: TopicRule::Any,
        alarms: AlarmRule::Time,
    };

    /// Those of `compat`.
    pub const COMPAT: Self = Self {
        numbers: Numbers::Int32,
        text: TextRule::UntilNul,
        deliveries: Deliveries::EachSubscription,
        topics: TopicRule::TextOnly,
        alarms: AlarmRule::Text,
    };

    /// Takes up the habit that an `option` line names.
    pub(crate) fn adopt(&mut self, option: &str) -> bool {
        match option {
            "int32" => self.numbers = Numbers::Int32,
            "c_text" => self.text = TextRule::UntilNul,
            "each_subscription" => self.deliveries = Deliveries::EachSubscription,
            "text_topics" => self.topics = TopicRule::TextOnly,
            "text_alarms" => self.alarms = AlarmRule::Text,
            _ => return false,
        }
        true
    }
}

/// Which broker is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The site's own.
    Local,
    /// The one that the remote client is connected to.
    Remote,
}

impl Side {
    /// The word for it in scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) dialect: Dialect,
    pub(crate) habits: Habits,
    /// Names by number, without `$`.
    pub(crate) variables: Vec<Box<[u8]>>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) warnings: Vec<Diagnostic>,
}

#[derive(Debug)]
pub(crate) struct Comment {
    pub(crate) place: Place,
    pub(crate) text: Box<[u8]>,
}

#[derive(Debug)]
pub(crate) enum Statement {
    Clause(Clause),
    Config(Config),
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) place: Place,
    pub(crate) name: Box<[u8]>,
    pub(crate) value: ConfigValue,
}

#[derive(Debug)]
pub(crate) enum ConfigValue {
    Text(Box<[u8]>),
    Flash(u8),
}

#[derive(Debug)]
pub(crate) struct Clause {
    pub(crate) place: Place,
    pub(crate) trigger: Trigger,
    pub(crate) actions: Vec<Action>,
}

#[derive(Debug)]
pub(crate) enum Trigger {
    Init,
    MqttConnect,
    MqttDisconnect,
    WifiConnect,
    WifiDisconnect,
    Serial,
    HttpResponse,
    Timer(u8),
    Alarm(u8),
    Topic { side: Side, filter: Expr },
    Gpio { pin: u8, pull: Pull },
    Peer { name: PeerName, change: PeerChange },
}

#[derive(Debug)]
pub(crate) enum PeerName {
    Any,
    Named(Box<str>),
}

/// What happened to a peer site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerChange {
    /// A link to it stands.
    Up,
    /// No link to it any more.
    Down,
}

/// Resistor of an input pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull {
    /// As it is.
    None,
    /// Towards the supply.
    Up,
}

#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) place: Place,
    pub(crate) kind: ActionKind,
}

#[derive(Debug)]
pub(crate) enum ActionKind {
    Print { text: Expr, line: LineEnd },
    SerialOut(Expr),
    System(Expr),
    Publish { side: Side, topic: Expr, payload: Expr, qos: QoS, retain: bool },
    Subscribe { side: Side, filter: Expr, qos: QoS, retained: bool },
    Unsubscribe { side: Side, filter: Expr },
    If { arms: Vec<Arm>, otherwise: Option<Vec<Action>> },
    While(Arm),
    SetTimer { number: Expr, millis: Expr },
    SetAlarm { number: Expr, time: Expr },
    SetVariable { variable: u16, value: Expr },
    SetFlash { slot: u8, value: Expr },
    Http { method: Method, url: Expr, body: Option<Expr>, headers: Vec<(Expr, Expr)> },
    PinMode { pin: Expr, mode: PinMode },
    GpioOut { pin: Expr, level: Expr },
    GpioPwm { pin: Expr, duty: Expr },
    Fail(Expr),
    Stop,
}

/// A condition and what it guards.
#[derive(Debug)]
pub(crate) struct Arm {
    pub(crate) condition: Expr,
    /// The first words of the condition, for the log.
    pub(crate) heading: Box<[u8]>,
    pub(crate) actions: Vec<Action>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineEnd {
    None,
    CrLf,
}

/// Method of an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Fetch.
    Get,
    /// Send for processing.
    Post,
    /// Store.
    Put,
    /// Remove.
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What a pin is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinMode {
    /// Driven.
    Output,
    /// Read.
    Input(Pull),
    /// Read, and every edge is reported with [`crate::Input::Edge`].
    Watched(Pull),
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) place: Place,
    pub(crate) kind: ExprKind,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Text(Box<[u8]>),
    Number(Box<[u8]>),
    Hex(Box<[u8]>),
    Variable(u16),
    Flash(u8),
    Special(Special),
    Capture(u8),
    Call(Function, Vec<Expr>),
    /// Operands with operators between them.
    Chain {
        grouping: Grouping,
        first: Box<Expr>,
        rest: Vec<Link>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
}

/// What a chain without brackets means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grouping {
    /// `a - b - c` is `(a - b) - c`.
    Left,
    /// `a - b - c` is `a - (b - c)`: the old firmware.
    Right,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) place: Place,
    pub(crate) operator: Operator,
    pub(crate) operand: Expr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    TextGreater,
    TextGreaterEqual,
    Join,
    Add,
    Subtract,
    Multiply,
    Divide,
    Quotient,
    Remainder,
}

impl Operator {
    /// As `midge` writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::TextGreater => "str_gt",
            Self::TextGreaterEqual => "str_gte",
            Self::Join => "|",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Quotient => "div",
            Self::Remainder => "mod",
        }
    }
}

/// Values that the event or the moment gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    ThisData,
    ThisTopic,
    ThisSerial,
    ThisGpio,
    ThisHttpBody,
    ThisHttpCode,
    ThisHttpHost,
    ThisHttpPath,
    Timestamp,
    Weekday,
    Adc,
    ThisQos,
    ThisRetained,
    ThisPeer,
    Date,
    Seconds,
}

/// Kinds of clauses that give values of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scene {
    Topic,
    Serial,
    Gpio,
    Http,
    Peer,
    Plain,
}

/// Name, value, the kind of clause that it exists in, and the dialect that it came with.
pub(crate) const SPECIALS: [(&str, Special, Option<Scene>, Dialect); 16] = [
    ("this_data", Special::ThisData, Some(Scene::Topic), Dialect::Compat),
    ("this_topic", Special::ThisTopic, Some(Scene::Topic), Dialect::Compat),
    ("this_serial", Special::ThisSerial, Some(Scene::Serial), Dialect::Compat),
    ("this_gpio", Special::ThisGpio, Some(Scene::Gpio), Dialect::Compat),
    ("this_http_body", Special::ThisHttpBody, Some(Scene::Http), Dialect::Compat),
    ("this_http_code", Special::ThisHttpCode, Some(Scene::Http), Dialect::Compat),
    ("this_http_host", Special::ThisHttpHost, Some(Scene::Http), Dialect::Compat),
    ("this_http_path", Special::ThisHttpPath, Some(Scene::Http), Dialect::Compat),
    ("timestamp", Special::Timestamp, None, Dialect::Compat),
    ("weekday", Special::Weekday, None, Dialect::Compat),
    ("adc", Special::Adc, None, Dialect::Compat),
    ("this_qos", Special::ThisQos, Some(Scene::Topic), Dialect::Midge),
    ("this_retained", Special::ThisRetained, Some(Scene::Topic), Dialect::Midge),
    ("this_peer", Special::ThisPeer, Some(Scene::Peer), Dialect::Midge),
    ("date", Special::Date, None, Dialect::Midge),
    ("seconds", Special::Seconds, None, Dialect::Midge),
];

impl Special {
    pub(crate) fn name(self) -> &'static str {
        SPECIALS.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }
}

impl Trigger {
    pub(crate) fn scene(&self) -> Scene {
        match self {
            Self::Topic { .. } => Scene::Topic,
            Self::Serial => Scene::Serial,
            Self::Gpio { .. } => Scene::Gpio,
            Self::HttpResponse => Scene::Http,
            Self::Peer { .. } => Scene::Peer,
            Self::Init
            | Self::MqttConnect
            | Self::MqttDisconnect
            | Self::WifiConnect
            | Self::WifiDisconnect
            | Self::Timer(_)
            | Self::Alarm(_) => Scene::Plain,
        }
    }
}
