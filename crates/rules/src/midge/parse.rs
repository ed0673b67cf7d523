//! Tokens to a tree. After an error the parser goes on at the next statement, so one check finds several.
use super::KEYWORDS;
use super::lex::{Lexeme, Lexer, Token};
use crate::diagnostic::Diagnostic;
use crate::function::{FUNCTIONS, Function};
use crate::limits::Limits;
use crate::number::Decimal;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::tree::{
    Action, ActionKind, Arm, Clause, Comment, Config, ConfigValue, Dialect, Expr, ExprKind, Grouping, Habits, LineEnd,
    Link, Method, Operator, PeerChange, PeerName, PinMode, Pull, SPECIALS, Scene, Script, Side, Statement, Trigger,
};
use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use mqtt::{QoS, Topic};

/// Timers and alarms of one script.
pub(crate) const TIMERS: u8 = 32;
/// Flash variables.
pub(crate) const FLASH_SLOTS: u8 = 64;
const ERRORS_SHOWN: usize = 20;
const OPERANDS: usize = 1000;

type Parsed<T> = Result<T, Box<Diagnostic>>;

/// Parses a whole script.
pub(crate) fn parse(source: &[u8], limits: &Limits) -> Result<Script, Vec<Diagnostic>> {
    let text = core::str::from_utf8(source).map_err(|error| {
        let place = source[..error.valid_up_to()].iter().fold(Place::START, |place, &byte| place.after(byte));
        vec![Diagnostic::error(place, 1, "not UTF-8 text").hint("save the file as UTF-8; write binary data as #00ff")]
    })?;
    let mut parser = Parser {
        lexer: Lexer::new(text),
        current: Lexeme { token: Token::End, place: Place::START, width: 1 },
        depth: 0,
        scene: Scene::Plain,
        habits: Habits::MIDGE,
        names: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
        limits,
    };
    parser.current = parser.lex();
    let statements = parser.statements();
    parser.check_names();
    if !parser.errors.is_empty() {
        parser.errors.sort_by_key(|error| error.place);
        parser.errors.truncate(ERRORS_SHOWN);
        return Err(parser.errors);
    }
    let Parser { habits, names, warnings, .. } = parser;
    let variables = names.into_iter().map(|name| name.text.as_bytes().into()).collect();
    Ok(Script { dialect: Dialect::Midge, habits, variables, statements, comments: Vec::<Comment>::new(), warnings })
}

struct Name<'a> {
    text: &'a str,
    place: Place,
    assigned: bool,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    current: Lexeme<'a>,
    depth: u16,
    scene: Scene,
    habits: Habits,
    names: Vec<Name<'a>>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    limits: &'a Limits,
}

impl<'a> Parser<'a> {
    /// The next token; what is no token is reported and skipped.
    fn lex(&mut self) -> Lexeme<'a> {
        loop {
            match self.lexer.next() {
                Ok(lexeme) => return lexeme,
                Err(error) => {
                    if self.errors.len() < ERRORS_SHOWN {
                        self.errors.push(*error);
                    }
                }
            }
        }
    }

    fn bump(&mut self) -> Lexeme<'a> {
        let next = self.lex();
        core::mem::replace(&mut self.current, next)
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.current.token, Token::Word(have) if have == word)
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.current.token, Token::Symbol(have) if have == symbol)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.bump();
        }
        found
    }

    fn fail(&self, message: impl Into<Cow<'static, str>>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(self.current.place, self.current.width, message))
    }

    fn fail_hint(&self, message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Box<Diagnostic> {
        Box::new(self.fail(message).hint(hint))
    }

    /// What stands here, for a message.
    fn found(&self) -> String {
        match &self.current.token {
            Token::End => "the end of the script".to_owned(),
            Token::Word(word) => format!("'{word}'"),
            Token::Variable(name) => format!("'${name}'"),
            Token::Flash(slot) => format!("'@{slot}'"),
            Token::Symbol(symbol) => format!("'{symbol}'"),
            Token::Number(number) => number.chars().take(20).collect(),
            Token::Text(_) => "a string".to_owned(),
            Token::Hex(_) => "binary data".to_owned(),
        }
    }

    fn expect(&mut self, word: &'static str, hint: &'static str) -> Parsed<()> {
        if self.take(word) {
            return Ok(());
        }
        Err(self.fail_hint(format!("'{word}' expected, found {}", self.found()), hint))
    }

    fn expect_symbol(&mut self, symbol: &'static str, hint: &'static str) -> Parsed<()> {
        if !self.is_symbol(symbol) {
            return Err(self.fail_hint(format!("'{symbol}' expected, found {}", self.found()), hint));
        }
        self.bump();
        Ok(())
    }

    fn nest<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= self.limits.depth {
            return Err(self.fail_hint("nested too deep", "use fewer brackets, or variables for the parts"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn statements(&mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        while self.current.token != Token::End && self.errors.len() < ERRORS_SHOWN {
            match self.statement(statements.is_empty()) {
                Ok(statement) => statements.extend(statement),
                Err(error) => {
                    self.errors.push(*error);
                    self.depth = 0;
                    while !matches!(self.current.token, Token::End | Token::Word("on" | "config" | "option")) {
                        self.bump();
                    }
                }
            }
        }
        statements
    }

    fn statement(&mut self, first: bool) -> Parsed<Option<Statement>> {
        let place = self.current.place;
        self.scene = Scene::Plain;
        if self.take("on") {
            let trigger = self.event()?;
            self.expect("do", "write: on EVENT do ACTIONS")?;
            let actions = self.actions(&[])?;
            return Ok(Some(Statement::Clause(Clause { place, trigger, actions })));
        }
        if self.take("config") {
            let name = self.setting_word("a setting's name expected")?;
            let value = match self.current.token {
                Token::Flash(_) => ConfigValue::Flash(self.flash_slot()?),
                _ => ConfigValue::Text(self.setting_word("a value expected")?),
            };
            return Ok(Some(Statement::Config(Config { place, name, value })));
        }
        if self.is("option") {
            if !first {
                return Err(self.fail_hint("options come first", "move it above the first on or config"));
            }
            self.bump();
            let Token::Word(option) = self.current.token else { return Err(self.fail("an option's name expected")) };
            if !self.habits.adopt(option) {
                let hint = "options are int32, c_text, each_subscription, text_topics, text_alarms";
                return Err(self.fail_hint(format!("unknown option '{option}'"), hint));
            }
            self.bump();
            return Ok(None);
        }
        let hint = "a statement is: on EVENT do ACTIONS, or: config NAME VALUE";
        Err(self.fail_hint(format!("'on' or 'config' expected, found {}", self.found()), hint))
    }

    fn setting_word(&mut self, message: &'static str) -> Parsed<Box<[u8]>> {
        let word = match &self.current.token {
            Token::Word(word) | Token::Number(word) => word.as_bytes().into(),
            Token::Text(text) => text.as_ref().into(),
            _ => return Err(self.fail_hint(message, "write: config NAME VALUE, the value in quotes if it has blanks")),
        };
        self.bump();
        Ok(word)
    }

    fn event(&mut self) -> Parsed<Trigger> {
        let Token::Word(word) = self.current.token else { return Err(self.no_event()) };
        let trigger = match word {
            "init" => Trigger::Init,
            "mqttconnect" => Trigger::MqttConnect,
            "mqttdisconnect" => Trigger::MqttDisconnect,
            "wificonnect" => Trigger::WifiConnect,
            "wifidisconnect" => Trigger::WifiDisconnect,
            "serial" => Trigger::Serial,
            "http_response" => Trigger::HttpResponse,
            "timer" | "alarm" => {
                self.bump();
                let number = self.small_number(1, TIMERS, "timers and alarms are numbered from 1 to 32")?;
                return Ok(if word == "timer" { Trigger::Timer(number) } else { Trigger::Alarm(number) });
            }
            "topic" => {
                self.scene = Scene::Topic;
                self.bump();
                let side = self.side()?;
                let filter = self.filter()?;
                return Ok(Trigger::Topic { side, filter });
            }
            "gpio_interrupt" => {
                self.bump();
                let pin = self.small_number(0, u8::MAX, "pins are numbered from 0 to 255")?;
                let pull = match self.current.token {
                    Token::Word("pullup") => Pull::Up,
                    Token::Word("nopullup") => Pull::None,
                    _ => {
                        let hint = "write: on gpio_interrupt 4 pullup do …";
                        return Err(self.fail_hint("'pullup' or 'nopullup' expected", hint));
                    }
                };
                self.bump();
                self.scene = Scene::Gpio;
                return Ok(Trigger::Gpio { pin, pull });
            }
            "peer" => return self.peer_event(),
            _ => return Err(self.no_event()),
        };
        self.scene = trigger.scene();
        self.bump();
        Ok(trigger)
    }

    fn no_event(&self) -> Box<Diagnostic> {
        let hint = "events are init, topic, timer, alarm, mqttconnect, mqttdisconnect, wificonnect, wifidisconnect, \
                    serial, gpio_interrupt, http_response, peer";
        self.fail_hint(format!("an event expected, found {}", self.found()), hint)
    }

    fn peer_event(&mut self) -> Parsed<Trigger> {
        const HINT: &str = "write: on peer \"NAME\" up do …, or: on peer any down do …";
        self.bump();
        let name = match &self.current.token {
            Token::Word("any") => PeerName::Any,
            Token::Text(text) => match core::str::from_utf8(text) {
                Ok(name) => PeerName::Named(name.into()),
                Err(_) => return Err(self.fail("a site's name is UTF-8 text")),
            },
            _ => return Err(self.fail_hint("a site's name or 'any' expected", HINT)),
        };
        self.bump();
        let change = match self.current.token {
            Token::Word("up") => PeerChange::Up,
            Token::Word("down") => PeerChange::Down,
            _ => return Err(self.fail_hint("'up' or 'down' expected", HINT)),
        };
        self.bump();
        self.scene = Scene::Peer;
        Ok(Trigger::Peer { name, change })
    }

    fn side(&mut self) -> Parsed<Side> {
        let side = match self.current.token {
            Token::Word("local") => Side::Local,
            Token::Word("remote") => Side::Remote,
            _ => {
                let hint = "write local for the own broker, remote for the one of mqtt_host";
                return Err(self.fail_hint(format!("'local' or 'remote' expected, found {}", self.found()), hint));
            }
        };
        self.bump();
        Ok(side)
    }

    /// An expression where a filter belongs; one that is written down is checked at once.
    fn filter(&mut self) -> Parsed<Expr> {
        let lexeme = self.current.clone();
        let filter = self.expr()?;
        if let (ExprKind::Text(text), Token::Text(_)) = (&filter.kind, &lexeme.token) {
            let parsed = core::str::from_utf8(text).ok().map(Pattern::parse);
            let message = match parsed {
                Some(Ok(_)) => return Ok(filter),
                Some(Err(error)) => format!("not a topic filter: {error}"),
                None => "a topic filter is UTF-8 text".to_owned(),
            };
            return Err(Box::new(Diagnostic::error(lexeme.place, lexeme.width, message)));
        }
        Ok(filter)
    }

    fn small_number(&mut self, first: u8, last: u8, hint: &'static str) -> Parsed<u8> {
        let number = match self.current.token {
            Token::Number(text) => text.parse().ok().filter(|number| (first..=last).contains(number)),
            _ => None,
        };
        let number = number.ok_or_else(|| {
            self.fail_hint(format!("a number from {first} to {last} expected, found {}", self.found()), hint)
        })?;
        self.bump();
        Ok(number)
    }

    fn flash_slot(&mut self) -> Parsed<u8> {
        let slot = match self.current.token {
            Token::Flash(text) => text.parse().ok().filter(|slot| (1..=FLASH_SLOTS).contains(slot)),
            _ => None,
        };
        let slot = slot.ok_or_else(|| self.fail_hint("no such flash variable", "flash variables are @1 to @64"))?;
        self.bump();
        Ok(slot)
    }

    /// Actions up to one of `closers`, or, where there are none, up to the next statement.
    fn actions(&mut self, closers: &[&str]) -> Parsed<Vec<Action>> {
        self.nest(|parser| {
            let mut actions = Vec::new();
            while !parser.closes(closers) {
                let place = parser.current.place;
                let Token::Word(word) = parser.current.token else { return Err(parser.no_action(closers)) };
                actions.push(Action { place, kind: parser.action(word, closers)? });
            }
            // Most lists are short, and a growing one takes room for four.
            actions.shrink_to_fit();
            Ok(actions)
        })
    }

    fn closes(&self, closers: &[&str]) -> bool {
        match self.current.token {
            Token::Word(word) if closers.contains(&word) => true,
            Token::Word("on" | "config" | "option") | Token::End => closers.is_empty(),
            _ => false,
        }
    }

    fn no_action(&self, closers: &[&str]) -> Box<Diagnostic> {
        let mut error = self.fail(format!("an action expected, found {}", self.found()));
        let hint: Cow<'static, str> = match (&self.current.token, closers.last()) {
            (Token::End | Token::Word("on" | "config"), Some(closer)) => format!("write {closer} first").into(),
            (Token::Word(word @ ("endif" | "done" | "else" | "elseif")), _) => {
                format!("nothing is open that {word} could end").into()
            }
            (Token::Word(word), _) => match suggestion(word) {
                Some(meant) => format!("did you mean {meant}?").into(),
                None => "texts are written in quotes".into(),
            },
            _ => "a comma separates what belongs to one action: publish local \"topic\", $value".into(),
        };
        error.hint = Some(hint);
        error
    }

    fn action(&mut self, word: &'a str, closers: &[&str]) -> Parsed<ActionKind> {
        let known = KEYWORDS.contains(&word);
        if known && word != "local" {
            let parsed = self.known_action(word)?;
            if let Some(kind) = parsed {
                return Ok(kind);
            }
        }
        Err(self.no_action(closers))
    }

    fn known_action(&mut self, word: &str) -> Parsed<Option<ActionKind>> {
        let simple = match word {
            "print" | "println" | "serial_out" | "system" | "fail" => true,
            "if" | "while" | "publish" | "subscribe" | "unsubscribe" | "settimer" | "setalarm" | "setvar"
            | "http_get" | "http_post" | "http_put" | "http_delete" | "gpio_pinmode" | "gpio_out" | "gpio_pwm"
            | "stop" => false,
            _ => return Ok(None),
        };
        self.bump();
        if simple {
            let text = self.expr()?;
            return Ok(Some(match word {
                "print" => ActionKind::Print { text, line: LineEnd::None },
                "println" => ActionKind::Print { text, line: LineEnd::CrLf },
                "serial_out" => ActionKind::SerialOut(text),
                "system" => ActionKind::System(text),
                _ => ActionKind::Fail(text),
            }));
        }
        Ok(Some(match word {
            "if" => self.conditional()?,
            "while" => {
                let (condition, heading) = self.condition()?;
                self.expect("do", "write: while CONDITION do ACTIONS done")?;
                let actions = self.actions(&["done"])?;
                self.bump();
                ActionKind::While(Arm { condition, heading, actions })
            }
            "publish" => self.publish()?,
            "subscribe" => self.subscribe()?,
            "unsubscribe" => ActionKind::Unsubscribe { side: self.side()?, filter: self.filter()? },
            "settimer" => {
                let (number, millis) = self.pair("write: settimer 1, 500")?;
                ActionKind::SetTimer { number, millis }
            }
            "setalarm" => {
                let (number, time) = self.pair("write: setalarm 1, \"06:30:00\"")?;
                ActionKind::SetAlarm { number, time }
            }
            "gpio_out" => {
                let (pin, level) = self.pair("write: gpio_out 4, 1")?;
                ActionKind::GpioOut { pin, level }
            }
            "gpio_pwm" => {
                let (pin, duty) = self.pair("write: gpio_pwm 4, 500")?;
                ActionKind::GpioPwm { pin, duty }
            }
            "gpio_pinmode" => self.pin_mode()?,
            "setvar" => self.assignment()?,
            "stop" => ActionKind::Stop,
            method => self.http(method)?,
        }))
    }

    /// Two expressions with a comma between them.
    fn pair(&mut self, hint: &'static str) -> Parsed<(Expr, Expr)> {
        let first = self.expr()?;
        self.expect_symbol(",", hint)?;
        Ok((first, self.expr()?))
    }

    fn publish(&mut self) -> Parsed<ActionKind> {
        let side = self.side()?;
        let lexeme = self.current.clone();
        let (topic, payload) = self.pair("write: publish local \"topic\", $value")?;
        if let (ExprKind::Text(text), Token::Text(_)) = (&topic.kind, &lexeme.token) {
            let error = core::str::from_utf8(text).map_or(None, |text| Topic::parse(text).err());
            if let Some(error) = error {
                return Err(Box::new(Diagnostic::error(lexeme.place, lexeme.width, format!("not a topic: {error}"))));
            }
        }
        let (qos, retain) = self.delivery()?;
        Ok(ActionKind::Publish { side, topic, payload, qos, retain })
    }

    fn subscribe(&mut self) -> Parsed<ActionKind> {
        let side = self.side()?;
        let filter = self.filter()?;
        let (qos, retained) = self.delivery()?;
        Ok(ActionKind::Subscribe { side, filter, qos, retained })
    }

    /// `qos N` and `retained`, in any order.
    fn delivery(&mut self) -> Parsed<(QoS, bool)> {
        let (mut qos, mut retained) = (QoS::AtMostOnce, false);
        loop {
            if self.take("retained") {
                retained = true;
            } else if self.take("qos") {
                let bits = self.small_number(0, 2, "write: qos 1")?;
                qos = QoS::from_bits(bits).unwrap_or_default();
            } else {
                return Ok((qos, retained));
            }
        }
    }

    fn conditional(&mut self) -> Parsed<ActionKind> {
        let mut arms = Vec::new();
        loop {
            let (condition, heading) = self.condition()?;
            self.expect("then", "write: if CONDITION then ACTIONS endif")?;
            let actions = self.actions(&["elseif", "else", "endif"])?;
            arms.push(Arm { condition, heading, actions });
            if self.take("elseif") {
                continue;
            }
            let otherwise = if self.take("else") { Some(self.actions(&["endif"])?) } else { None };
            self.bump();
            return Ok(ActionKind::If { arms, otherwise });
        }
    }

    /// A condition and its first two words.
    fn condition(&mut self) -> Parsed<(Expr, Box<[u8]>)> {
        let first = self.found();
        let second = self.lexer.clone().next().map_or(Token::End, |lexeme| lexeme.token);
        let second: &str = match second {
            Token::Word(word) | Token::Variable(word) | Token::Flash(word) | Token::Number(word) => word,
            Token::Symbol(symbol) => symbol,
            Token::Text(_) | Token::Hex(_) | Token::End => "",
        };
        let heading = format!("{} {second}", first.trim_matches('\''));
        Ok((self.expr()?, heading.trim_end().as_bytes().into()))
    }

    fn assignment(&mut self) -> Parsed<ActionKind> {
        const HINT: &str = "write: setvar $name = VALUE, or: setvar @1 = VALUE";
        match self.current.token {
            Token::Variable(name) => {
                if SPECIALS.iter().any(|row| row.0 == name) || name.starts_with(|first: char| first.is_ascii_digit()) {
                    return Err(self.fail_hint(format!("${name} cannot be set"), "choose another name"));
                }
                let variable = self.variable(name)?;
                self.names[usize::from(variable)].assigned = true;
                self.bump();
                self.expect_symbol("=", HINT)?;
                Ok(ActionKind::SetVariable { variable, value: self.expr()? })
            }
            Token::Flash(_) => {
                let slot = self.flash_slot()?;
                self.expect_symbol("=", HINT)?;
                Ok(ActionKind::SetFlash { slot, value: self.expr()? })
            }
            _ => Err(self.fail_hint(format!("a variable expected, found {}", self.found()), HINT)),
        }
    }

    fn variable(&mut self, name: &'a str) -> Parsed<u16> {
        if let Some(index) = self.names.iter().position(|have| have.text == name) {
            return Ok(index as u16);
        }
        if self.names.len() >= self.limits.variables {
            return Err(self.fail(format!("more than {} variables", self.limits.variables)));
        }
        self.names.push(Name { text: name, place: self.current.place, assigned: false });
        Ok((self.names.len() - 1) as u16)
    }

    fn check_names(&mut self) {
        for name in self.names.iter().filter(|name| !name.assigned) {
            let error =
                Diagnostic::error(name.place, name.text.len() as u32 + 1, format!("${} is never set", name.text));
            self.errors.push(error.hint(format!("write somewhere: setvar ${} = VALUE", name.text)));
        }
    }

    fn pin_mode(&mut self) -> Parsed<ActionKind> {
        const HINT: &str = "write: gpio_pinmode 4 output, or: gpio_pinmode 4 input pullup";
        let pin = self.expr()?;
        let mode = if self.take("output") {
            PinMode::Output
        } else if self.take("input") {
            PinMode::Input(if self.take("pullup") { Pull::Up } else { Pull::None })
        } else {
            return Err(self.fail_hint(format!("'input' or 'output' expected, found {}", self.found()), HINT));
        };
        Ok(ActionKind::PinMode { pin, mode })
    }

    fn http(&mut self, word: &str) -> Parsed<ActionKind> {
        let method = match word {
            "http_post" => Method::Post,
            "http_put" => Method::Put,
            "http_delete" => Method::Delete,
            _ => Method::Get,
        };
        let url = self.expr()?;
        let body = match method {
            Method::Post | Method::Put => {
                self.expect_symbol(",", "write: http_post URL, DATA")?;
                Some(self.expr()?)
            }
            Method::Get | Method::Delete => None,
        };
        let mut headers = Vec::new();
        while self.take("header") {
            if headers.len() >= 32 {
                return Err(self.fail("more than 32 headers"));
            }
            headers.push(self.pair("write: header \"Name\", VALUE")?);
        }
        Ok(ActionKind::Http { method, url, body, headers })
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.nest(|parser| parser.chain(0))
    }

    /// One level of precedence, 0 binding least.
    fn chain(&mut self, level: usize) -> Parsed<Expr> {
        const LEVELS: usize = 7;
        match level {
            LEVELS => return self.unary(),
            2 if self.is("not") => {
                let place = self.bump().place;
                let inner = self.nest(|parser| parser.chain(2))?;
                return Ok(Expr { place, kind: ExprKind::Not(Box::new(inner)) });
            }
            2 => return self.chain(3),
            _ => {}
        }
        let first = self.chain(level + 1)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.operator(level) {
            // a < b < c means nothing that anybody wants.
            if level == 3 && !rest.is_empty() {
                return Err(self.fail_hint("comparisons do not chain", "use brackets, or: A and B"));
            }
            if rest.len() >= OPERANDS {
                return Err(self.fail("expression too long"));
            }
            let place = self.bump().place;
            rest.push(Link { place, operator, operand: self.chain(level + 1)? });
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let place = first.place;
        Ok(Expr { place, kind: ExprKind::Chain { grouping: Grouping::Left, first: Box::new(first), rest } })
    }

    fn operator(&self, level: usize) -> Option<Operator> {
        let word = match self.current.token {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
            _ => return None,
        };
        let (operator, own_level) = match word {
            "or" => (Operator::Or, 0),
            "and" => (Operator::And, 1),
            "=" => (Operator::Equal, 3),
            "!=" => (Operator::NotEqual, 3),
            ">" => (Operator::Greater, 3),
            ">=" | "gte" => (Operator::GreaterEqual, 3),
            "<" => (Operator::Less, 3),
            "<=" => (Operator::LessEqual, 3),
            "str_gt" => (Operator::TextGreater, 3),
            "str_gte" => (Operator::TextGreaterEqual, 3),
            "|" => (Operator::Join, 4),
            "+" => (Operator::Add, 5),
            "-" => (Operator::Subtract, 5),
            "*" => (Operator::Multiply, 6),
            "/" => (Operator::Divide, 6),
            "div" => (Operator::Quotient, 6),
            "mod" => (Operator::Remainder, 6),
            _ => return None,
        };
        (own_level == level).then_some(operator)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        if self.is_symbol("-") {
            let place = self.bump().place;
            let inner = self.nest(Self::unary)?;
            return Ok(Expr { place, kind: ExprKind::Negate(Box::new(inner)) });
        }
        self.primary()
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let place = self.current.place;
        let kind = match &self.current.token {
            Token::Symbol("(") => {
                self.bump();
                let inner = self.expr()?;
                self.expect_symbol(")", "a bracket is open")?;
                return Ok(inner);
            }
            Token::Text(text) => ExprKind::Text(text.as_ref().into()),
            Token::Hex(bytes) => ExprKind::Hex(bytes.as_slice().into()),
            Token::Number(text) => {
                let number = Decimal::parse(text.as_bytes()).map_err(|_| self.fail("number too large"))?;
                ExprKind::Number(number.to_text().into_bytes().into())
            }
            Token::Flash(_) => return Ok(Expr { place, kind: ExprKind::Flash(self.flash_slot()?) }),
            Token::Variable(name) => self.named(name)?,
            Token::Word(word) => {
                let kind = self.call(word)?;
                return Ok(Expr { place, kind });
            }
            Token::Symbol(_) | Token::End => {
                return Err(
                    self.fail_hint(format!("a value expected, found {}", self.found()), "texts are written in quotes")
                );
            }
        };
        self.bump();
        Ok(Expr { place, kind })
    }

    fn named(&mut self, name: &'a str) -> Parsed<ExprKind> {
        if let Some((_, special, scene, _)) = SPECIALS.iter().find(|row| row.0 == name) {
            if scene.is_some_and(|scene| scene != self.scene) {
                return Err(
                    self.fail_hint(format!("${name} has no value here"), "it exists in the clauses of its own event")
                );
            }
            return Ok(ExprKind::Special(*special));
        }
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            return match name.parse() {
                Ok(nth @ 1..=9) if self.scene == Scene::Topic => Ok(ExprKind::Capture(nth)),
                _ => Err(self.fail_hint(
                    format!("${name} has no value here"),
                    "$1 to $9 are what the wildcards of on topic stand for",
                )),
            };
        }
        Ok(ExprKind::Variable(self.variable(name)?))
    }

    fn call(&mut self, word: &str) -> Parsed<ExprKind> {
        let Some(row) = Function::named(word) else {
            let hint = match suggestion(word) {
                _ if word == "not" => "put it in brackets: (not …)".into(),
                _ if KEYWORDS.contains(&word) => "a value is missing before it".into(),
                Some(meant) => format!("did you mean {meant}? A text is written \"{word}\""),
                None => format!("a text is written \"{word}\""),
            };
            return Err(self.fail_hint(format!("a value expected, found '{word}'"), hint));
        };
        self.bump();
        let lexeme = self.current.clone();
        self.expect_symbol("(", "a function's arguments stand in brackets")?;
        let mut arguments = Vec::new();
        while !self.is_symbol(")") {
            if !arguments.is_empty() {
                self.expect_symbol(",", "a comma separates arguments")?;
            }
            arguments.push(self.expr()?);
            if arguments.len() > *row.arguments.end() {
                break;
            }
        }
        if !row.arguments.contains(&arguments.len()) {
            let (least, most) = (row.arguments.start(), row.arguments.end());
            let wanted = if least == most { format!("{least}") } else { format!("{least} to {most}") };
            let message = format!("{word} takes {wanted} argument(s)");
            return Err(Box::new(Diagnostic::error(lexeme.place, 1, message)));
        }
        self.expect_symbol(")", "a bracket is open")?;
        Ok(ExprKind::Call(row.function, arguments))
    }
}

/// A known word that differs from `word` by little.
fn suggestion(word: &str) -> Option<&'static str> {
    let known = KEYWORDS.into_iter().chain(FUNCTIONS.iter().map(|row| row.name));
    let allowed = if word.len() > 4 { 2 } else { 1 };
    known
        .filter(|name| *name != word)
        .map(|name| (distance(word, name), name))
        .filter(|(far, _)| *far <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// How many letters have to be changed, added or dropped.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 20;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
