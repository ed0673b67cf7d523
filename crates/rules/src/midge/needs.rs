//! Which habits of the old language a script could notice losing.
use crate::clock::parse_time;
use crate::function::Function;
use crate::tree::{Action, ActionKind, Arm, Expr, ExprKind, Operator, Script, Side, Special, Statement, Trigger};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) int32: bool,
    pub(crate) c_text: bool,
    pub(crate) each_subscription: bool,
    pub(crate) text_topics: bool,
    pub(crate) text_alarms: bool,
    subscribed: bool,
}

impl Needs {
    pub(crate) fn of(script: &Script) -> Self {
        let mut needs = Self::default();
        for statement in &script.statements {
            let Statement::Clause(clause) = statement else { continue };
            if let Trigger::Topic { filter, .. } = &clause.trigger {
                needs.expr(filter);
            }
            needs.actions(&clause.actions);
        }
        needs
    }

    fn actions(&mut self, actions: &[Action]) {
        for action in actions {
            self.action(&action.kind);
        }
    }

    fn action(&mut self, kind: &ActionKind) {
        match kind {
            ActionKind::Print { text, .. }
            | ActionKind::SerialOut(text)
            | ActionKind::System(text)
            | ActionKind::Fail(text)
            | ActionKind::SetVariable { value: text, .. }
            | ActionKind::SetFlash { value: text, .. } => self.expr(text),
            ActionKind::Unsubscribe { filter, .. } => self.expr(filter),
            ActionKind::Stop => {}
            ActionKind::Publish { topic, payload, .. } => {
                self.text_topics |= !matches!(topic.kind, ExprKind::Text(_) | ExprKind::Special(Special::ThisTopic));
                self.expr(topic);
                self.expr(payload);
            }
            ActionKind::Subscribe { side, filter, .. } => {
                if *side == Side::Local {
                    self.each_subscription |= self.subscribed || !matches!(filter.kind, ExprKind::Text(_));
                    self.subscribed = true;
                }
                self.expr(filter);
            }
            ActionKind::If { arms, otherwise } => {
                arms.iter().for_each(|arm| self.arm(arm));
                self.actions(otherwise.as_deref().unwrap_or_default());
            }
            ActionKind::While(arm) => self.arm(arm),
            ActionKind::SetAlarm { number, time } => {
                self.text_alarms |= !is_time(time);
                self.expr(number);
                self.expr(time);
            }
            ActionKind::SetTimer { number: first, millis: second }
            | ActionKind::GpioOut { pin: first, level: second }
            | ActionKind::GpioPwm { pin: first, duty: second } => {
                self.number(second);
                self.expr(first);
            }
            ActionKind::PinMode { pin, .. } => self.expr(pin),
            ActionKind::Http { url, body, headers, .. } => {
                self.expr(url);
                body.iter().for_each(|body| self.expr(body));
                headers.iter().for_each(|(name, value)| {
                    self.expr(name);
                    self.expr(value);
                });
            }
        }
    }

    fn arm(&mut self, arm: &Arm) {
        self.number(&arm.condition);
        self.actions(&arm.actions);
    }

    /// An expression that is taken as a number or a condition.
    fn number(&mut self, expr: &Expr) {
        self.int32 |= !is_plain_number(expr);
        self.expr(expr);
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Text(_)
            | ExprKind::Number(_)
            | ExprKind::Variable(_)
            | ExprKind::Flash(_)
            | ExprKind::Capture(_) => {}
            ExprKind::Hex(_) => self.c_text = true,
            ExprKind::Special(special) => {
                self.c_text |= matches!(special, Special::ThisData | Special::ThisSerial | Special::ThisHttpBody);
            }
            ExprKind::Call(function, arguments) => {
                self.int32 |= *function == Function::Binary;
                self.c_text |= matches!(
                    function,
                    Function::Binary | Function::RetainedTopic | Function::JsonParse | Function::Substr
                );
                arguments.iter().for_each(|argument| self.expr(argument));
            }
            ExprKind::Not(inner) => self.number(inner),
            ExprKind::Negate(inner) => {
                self.int32 = true;
                self.expr(inner);
            }
            ExprKind::Chain { first, rest, .. } => {
                self.expr(first);
                for link in rest {
                    self.int32 |= !is_of_texts(link.operator);
                    self.expr(&link.operand);
                }
            }
        }
    }
}

/// Operators that look at no number.
fn is_of_texts(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Equal | Operator::NotEqual | Operator::TextGreater | Operator::TextGreaterEqual | Operator::Join
    )
}

/// Whether it is the same number, and the same truth, to both languages.
fn is_plain_number(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Text(text) | ExprKind::Number(text) => {
            !text.is_empty() && text.len() <= 9 && text.iter().all(u8::is_ascii_digit)
        }
        ExprKind::Not(_) => true,
        // Grouped from the right, the first operator makes the result.
        ExprKind::Chain { rest, .. } => {
            rest.first().is_some_and(|link| is_of_texts(link.operator) && link.operator != Operator::Join)
        }
        _ => false,
    }
}

/// Whether it is written down, and a time to both languages.
fn is_time(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Text(text) => matches!(text.len(), 5 | 8) && parse_time(text).is_some(),
        _ => false,
    }
}
