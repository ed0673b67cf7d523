//! `midge script check` and `convert`, without the files.
use crate::compat::Oddities;
use crate::diagnostic::{Diagnostic, Severity};
use crate::engine::{dialect_of, parse};
use crate::limits::Limits;
use crate::midge;
use crate::pattern::Pattern;
use crate::tree::{Action, ActionKind, Dialect, Expr, ExprKind, Script, Side, Special, Statement, TopicRule, Trigger};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What is to be said about a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which language it is written in.
    pub dialect: Dialect,
    /// Findings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Whether the script can run.
    pub fn is_ok(&self) -> bool {
        self.diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning)
    }

    /// The old firmware's one line: `Syntax okay`, or `Error (…) at >>…`.
    pub fn classic(&self) -> String {
        let error = self.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
        match error {
            None => "Syntax okay".into(),
            Some(error) => match &error.classic {
                Some(classic) => classic.clone(),
                None => alloc::format!("Error ({}) at line {}", error.message, error.place.line),
            },
        }
    }
}

/// Looks at a script without running it.
pub fn check(text: &[u8], oddities: Oddities, limits: &Limits) -> Report {
    let dialect = dialect_of(text);
    let mut diagnostics = match parse(text, oddities, limits, false) {
        Err(errors) => errors,
        Ok(mut script) => {
            let mut warnings = core::mem::take(&mut script.warnings);
            Survey::of(&script).report(&script, &mut warnings);
            warnings
        }
    };
    diagnostics.sort_by_key(|diagnostic| diagnostic.place);
    Report { dialect, diagnostics }
}

/// The same script in `midge`. What is `midge` already comes back as it is.
pub fn convert(text: &[u8], oddities: Oddities, limits: &Limits) -> Result<String, Vec<Diagnostic>> {
    let script = parse(text, oddities, limits, true)?;
    if script.dialect == Dialect::Midge {
        return Ok(String::from_utf8_lossy(text).into_owned());
    }
    let converted = midge::print(&script);
    // Deeply grouped expressions need more brackets than `midge` allows: better no script than one that does not load.
    let roomy = Limits { script_bytes: usize::MAX, ..limits.clone() };
    match midge::parse(converted.as_bytes(), &roomy) {
        Ok(_) => Ok(converted),
        Err(errors) => {
            Err(vec![Diagnostic::error(crate::Place::START, 1, "this script cannot be converted as it is").hint(
                alloc::format!("the result would not load: {}", errors.first().map_or("", |error| &error.message)),
            )])
        }
    }
}

/// What a script has, for findings that need all of it.
#[derive(Default)]
struct Survey {
    /// By variable: whether binary data is stored in it somewhere.
    data: Vec<bool>,
    subscribes: bool,
}

impl Survey {
    fn of(script: &Script) -> Self {
        let mut survey = Self { data: vec![false; script.variables.len()], subscribes: false };
        // Variables are copied to variables: as often as there are any is enough.
        for _ in 0..=script.variables.len() {
            let before = survey.data.clone();
            each_action(script, &mut |action| match &action.kind {
                ActionKind::SetVariable { variable, value } if survey.is_data(value) => {
                    survey.data[usize::from(*variable)] = true;
                }
                ActionKind::Subscribe { side: Side::Local, .. } => survey.subscribes = true,
                _ => {}
            });
            if before == survey.data {
                break;
            }
        }
        survey
    }

    fn is_data(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Hex(_) | ExprKind::Special(Special::ThisData | Special::ThisSerial) => true,
            ExprKind::Variable(variable) => self.data.get(usize::from(*variable)).copied().unwrap_or(false),
            ExprKind::Call(function, _) => {
                matches!(function, crate::function::Function::RetainedTopic | crate::function::Function::Binary)
            }
            _ => false,
        }
    }

    fn report(&self, script: &Script, warnings: &mut Vec<Diagnostic>) {
        each_action(script, &mut |action| {
            if let ActionKind::Publish { topic, .. } = &action.kind {
                let variable = matches!(topic.kind, ExprKind::Variable(_) | ExprKind::Call(..));
                if script.habits.topics == TopicRule::TextOnly && variable && self.is_data(topic) {
                    let warning =
                        Diagnostic::warning(topic.place, 1, "this may hold binary data, which is refused as a topic");
                    warnings.push(warning.hint("make it text where it is set: setvar $t = $this_data | \"\""));
                }
            }
        });
        for statement in &script.statements {
            let Statement::Clause(clause) = statement else { continue };
            let Trigger::Topic { side, filter } = &clause.trigger else { continue };
            if *side == Side::Local && !self.subscribes {
                let warning = Diagnostic::warning(clause.place, 2, "nothing subscribes, so this never happens");
                warnings.push(warning.hint("write: on init do subscribe local FILTER"));
            }
            if let ExprKind::Text(text) = &filter.kind {
                let error = core::str::from_utf8(text).ok().and_then(|text| Pattern::parse(text).err());
                if let Some(error) = error {
                    warnings.push(Diagnostic::warning(
                        filter.place,
                        text.len() as u32,
                        alloc::format!("matches nothing: {error}"),
                    ));
                }
            }
        }
    }
}

fn each_action<'s>(script: &'s Script, visit: &mut impl FnMut(&'s Action)) {
    for statement in &script.statements {
        if let Statement::Clause(clause) = statement {
            walk(&clause.actions, visit);
        }
    }
}

fn walk<'s>(actions: &'s [Action], visit: &mut impl FnMut(&'s Action)) {
    for action in actions {
        visit(action);
        match &action.kind {
            ActionKind::If { arms, otherwise } => {
                arms.iter().for_each(|arm| walk(&arm.actions, visit));
                walk(otherwise.as_deref().unwrap_or_default(), visit);
            }
            ActionKind::While(arm) => walk(&arm.actions, visit),
            _ => {}
        }
    }
}
