//! Access control lists in mosquitto's format. The rules, in the order in which they decide:
//!
//! 1. `$SYS` is read by whoever else may read it, and written by nobody but for a bridge's state.
//! 2. Lines of the client's user (before the first `user` line: of clients without a name), `deny` lines first; the
//!    first that matches topic and access decides.
//! 3. `pattern` lines, for everybody, in the same way; with a `+` or `#` in its name or identifier a client is denied.
//! 4. Nothing matches: denied.
//!
//! Subscriptions are granted; what they bring is decided for each message.
use crate::{FAULTS_MAX, Fault, quoted};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use mqtt::{Filter, FilterBuf, Topic};

/// What a client wants to do with a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Get messages of it.
    Read,
    /// Publish to it.
    Write,
}

/// Who wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who<'a> {
    /// User name; none for anonymous clients.
    pub user: Option<&'a str>,
    /// Client identifier.
    pub client_id: &'a str,
}

/// Yes or no, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// What decided it.
    pub reason: Reason,
}

/// What decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// This line of the file, from 1.
    Line(usize),
    /// No line matches.
    NoLine,
    /// Clients do not write to `$SYS`.
    System,
    /// There are patterns, and the user name has a wildcard in it.
    DangerousUser,
    /// There are patterns, and the client identifier has a wildcard in it.
    DangerousClientId,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::NoLine => f.write_str("no line matches"),
            Self::System => f.write_str("clients do not write to $SYS"),
            Self::DangerousUser => f.write_str("a user name with '+' or '#' could reach others through patterns"),
            Self::DangerousClientId => {
                f.write_str("a client identifier with '+' or '#' could reach others through patterns")
            }
        }
    }
}

/// A whole file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acl {
    /// Of clients without a user name.
    anonymous: Rules,
    users: BTreeMap<Box<str>, Rules>,
    patterns: Rules,
}

/// Lines that are looked at together: "Any deny topics are handled before topics that grant read/write access."
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rules {
    deny: Vec<Rule>,
    grant: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    effect: Effect,
    filter: FilterBuf,
    line: usize,
    /// `%c` or `%u` occurs.
    substitutes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Effect {
    Deny,
    Read,
    Write,
    ReadWrite,
}

impl Effect {
    /// What a line that matches says of an access; nothing if it is about another one.
    fn on(self, access: Access) -> Option<bool> {
        match (self, access) {
            (Self::Deny, _) => Some(false),
            (Self::ReadWrite, _) | (Self::Read, Access::Read) | (Self::Write, Access::Write) => Some(true),
            (Self::Read, Access::Write) | (Self::Write, Access::Read) => None,
        }
    }
}

impl Rules {
    fn add(&mut self, rule: Rule) {
        let rules = if rule.effect == Effect::Deny { &mut self.deny } else { &mut self.grant };
        rules.push(rule);
    }

    fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.grant.is_empty()
    }

    fn decide(&self, who: Who<'_>, access: Access, topic: Topic<'_>) -> Option<Decision> {
        self.deny.iter().chain(&self.grant).find_map(|rule| {
            let allowed = rule.effect.on(access)?;
            rule.matches(who, topic).then_some(Decision { allowed, reason: Reason::Line(rule.line) })
        })
    }
}

impl Rule {
    fn matches(&self, who: Who<'_>, topic: Topic<'_>) -> bool {
        if !self.substitutes {
            return self.filter.borrow().matches(topic);
        }
        let Some(text) = self.filter_of(who) else { return false };
        // A client identifier may spell anything: `$share/…` is a topic like others here.
        Filter::parse(&text).is_ok_and(|filter| filter.share().is_none() && filter.matches(topic))
    }

    /// The filter as it is for one client; nothing if the line needs a user name and there is none.
    fn filter_of(&self, who: Who<'_>) -> Option<String> {
        let mut text = String::with_capacity(self.filter.as_str().len() + who.client_id.len());
        let mut rest = self.filter.as_str();
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('c') {
                text.push_str(who.client_id);
                rest = after;
            } else if let Some(after) = after.strip_prefix('u') {
                text.push_str(who.user?);
                rest = after;
            } else {
                text.push('%');
                rest = after;
            }
        }
        text.push_str(rest);
        Some(text)
    }
}

impl Acl {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All lines that are wrong, up to a bound: such a file must not come into force in parts.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut acl = Self::default();
        let mut user: Option<Box<str>> = None;
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            match acl.line(number, line, &mut user) {
                Ok(()) => {}
                Err(message) if faults.len() < FAULTS_MAX => faults.push(Fault { line: number, message }),
                Err(_) => break,
            }
        }
        if faults.is_empty() { Ok(acl) } else { Err(faults) }
    }

    fn line(&mut self, number: usize, line: &str, user: &mut Option<Box<str>>) -> Result<(), String> {
        // mosquitto takes spaces only for what separates words, and `#` for a comment in the first column only.
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.starts_with('#') || line.trim_matches(' ').is_empty() {
            return Ok(());
        }
        let (word, rest) = first_word(line);
        match word {
            "user" if rest.is_empty() => Err("found no name: write user NAME".to_string()),
            "user" => {
                *user = Some(rest.trim_end().into());
                Ok(())
            }
            "topic" => {
                let rule = rule(number, rest, false)?;
                let rules = match user {
                    Some(user) => self.users.entry(user.clone()).or_default(),
                    None => &mut self.anonymous,
                };
                rules.add(rule);
                Ok(())
            }
            "pattern" => {
                self.patterns.add(rule(number, rest, true)?);
                Ok(())
            }
            other => Err(format!("found {}: write user, topic or pattern, and a space after it", quoted(other))),
        }
    }

    /// May this client do this with this topic? Which line says so?
    pub fn decide(&self, who: Who<'_>, access: Access, topic: Topic<'_>) -> Decision {
        let denied = |reason| Decision { allowed: false, reason };
        if access == Access::Write && topic.as_str().starts_with("$SYS") && !is_bridge_state(topic) {
            return denied(Reason::System);
        }
        let own = match who.user {
            Some(user) => self.users.get(user),
            None => Some(&self.anonymous),
        };
        if let Some(decision) = own.and_then(|rules| rules.decide(who, access, topic)) {
            return decision;
        }
        if self.patterns.is_empty() {
            return denied(Reason::NoLine);
        }
        if who.user.is_some_and(has_wildcard) {
            return denied(Reason::DangerousUser);
        }
        if has_wildcard(who.client_id) {
            return denied(Reason::DangerousClientId);
        }
        self.patterns.decide(who, access, topic).unwrap_or_else(|| denied(Reason::NoLine))
    }
}

fn has_wildcard(name: &str) -> bool {
    name.contains(['+', '#'])
}

/// What bridges of other brokers say of themselves: the one place below `$SYS` that clients may write to.
fn is_bridge_state(topic: Topic<'_>) -> bool {
    let mut levels = topic.levels();
    levels.by_ref().take(3).eq(["$SYS", "broker", "connection"])
        && levels.nth(1) == Some("state")
        && levels.next().is_none()
}

/// The first word, and what follows it without the spaces between them.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_start_matches(' ')))
}

/// `[read|write|readwrite|deny] FILTER`
fn rule(line: usize, text: &str, is_pattern: bool) -> Result<Rule, String> {
    let (word, rest) = first_word(text.trim_end());
    let (effect, filter) = match (word, rest) {
        ("", _) => return Err("found no topic: write topic [read|write|readwrite|deny] FILTER".to_string()),
        (filter, "") => (Effect::ReadWrite, filter),
        ("read", filter) => (Effect::Read, filter),
        ("write", filter) => (Effect::Write, filter),
        ("readwrite", filter) => (Effect::ReadWrite, filter),
        ("deny", filter) => (Effect::Deny, filter),
        (other, _) => {
            let write = "write read, write, readwrite or deny (a filter with spaces needs one of them before it)";
            return Err(format!("found {}: {write}", quoted(other)));
        }
    };
    let filter = match Filter::parse(filter) {
        Ok(parsed) if parsed.share().is_none() => parsed.to_buf(),
        Ok(_) => return Err(format!("found {}: rules are about topics, write the filter alone", quoted(filter))),
        Err(reason) => return Err(format!("found {}: {reason}", quoted(filter))),
    };
    let substitutes = is_pattern && (filter.as_str().contains("%c") || filter.as_str().contains("%u"));
    Ok(Rule { effect, filter, line, substitutes })
}
