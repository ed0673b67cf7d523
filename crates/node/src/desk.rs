//! The console's place in a site: what it is shown, and what it has done.
use crate::console::{Act, Remote, ScriptStatus, Start, View, words};
use crate::door::Output;
use crate::node::{CONSOLE, Node, RULES};
use crate::script::{self, Begin, Script};
use crate::settings::SETTINGS;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use broker::{Admission, Broker};
use mqtt::{Message, MessageOptions, Now, QoS, Wall};
use rules::{Dialect, Logging, Side};

const DAY_MILLIS: i64 = 86_400_000;
const HOUR_MILLIS: i64 = 3_600_000;

/// What is known of the time: by the host, and by whoever set it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    host: rules::Clock,
    /// `set ntp_time` and `set ntp_weekday`.
    shift_millis: Option<i64>,
    /// `ntp_timezone`.
    zone_millis: i64,
}

impl Clock {
    /// What to add to the wall time for local time.
    pub(crate) fn offset(self) -> Option<i64> {
        let own = match (self.host, self.shift_millis) {
            (rules::Clock::Unset, None) => return None,
            (rules::Clock::Unset, Some(shift)) => shift,
            (rules::Clock::Set { offset_millis }, shift) => offset_millis.saturating_add(shift.unwrap_or(0)),
        };
        Some(own.saturating_add(self.zone_millis))
    }

    fn as_rules(self) -> rules::Clock {
        self.offset().map_or(rules::Clock::Unset, |offset_millis| rules::Clock::Set { offset_millis })
    }

    /// Local milliseconds since 1970, without the zone of the settings.
    fn unzoned(self, wall: Wall) -> i64 {
        let offset = self.offset().unwrap_or(self.zone_millis) - self.zone_millis;
        i64::try_from(wall.0).unwrap_or(i64::MAX).saturating_add(offset)
    }

    fn shift(&mut self, millis: i64) {
        self.shift_millis = Some(self.shift_millis.unwrap_or(0).saturating_add(millis));
    }
}

/// What the console may look at.
pub(crate) struct Sight<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) script: &'a Script,
    pub(crate) clock: Option<i64>,
    pub(crate) has_remote: bool,
}

impl View for Sight<'_> {
    fn clients(&self, each: &mut dyn FnMut(&str)) {
        let mut connected: Vec<&str> =
            self.broker.sessions().filter(|s| s.origin.is_some()).map(|session| session.client_id).collect();
        connected.reverse();
        connected.into_iter().for_each(each);
    }

    fn subscriptions(&self, each: &mut dyn FnMut(Option<&str>, &str, QoS)) {
        for session in self.broker.sessions() {
            for held in self.broker.subscriptions(session.client_id) {
                each(Some(session.client_id), &held.filter, held.options.qos);
            }
        }
        for held in self.broker.participant_subscriptions(RULES) {
            each(None, &held.filter, held.options.qos);
        }
    }

    fn retained(&self, each: &mut dyn FnMut(&Message)) {
        // The site's own figures are no topics that anybody has set.
        self.broker.retained_iter().filter(|message| !message.topic().as_str().starts_with('$')).for_each(each);
    }

    fn remote(&self) -> Remote {
        match (self.script.is_remote_connected(), self.has_remote) {
            (true, _) => Remote::Connected,
            (false, true) => Remote::Disconnected,
            (false, false) => Remote::Disabled,
        }
    }

    fn script(&self) -> ScriptStatus<'_> {
        let text = self.script.text();
        ScriptStatus {
            text,
            has_previous: self.script.previous().is_some(),
            is_running: self.script.is_running(),
            events: self.script.counters().map_or(0, |counters| counters.events),
        }
    }

    fn variables(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        self.script.variables().for_each(|(name, value)| each(name, value));
    }

    fn flash(&self, each: &mut dyn FnMut(u8, &[u8])) {
        self.script.flash().into_iter().for_each(|(slot, value)| each(slot, value));
    }

    fn clock_offset(&self) -> Option<i64> {
        self.clock
    }
}

impl Node {
    pub(crate) fn sight_and_console(&mut self) -> (Sight<'_>, &mut crate::Console) {
        let has_remote = self.console.settings().text("mqtt_host") != "none";
        let (broker, script, clock) = (&self.broker, &self.script, self.clock.offset());
        (Sight { broker, script, clock, has_remote }, &mut self.console)
    }

    /// What the console wants done by its own site.
    pub(crate) fn console_acts(&mut self, now: Now, act: Act) {
        match act {
            Act::Publish(message) => self.publish_as_console(now, &message),
            Act::PublishRemote(message) => {
                self.outputs.push_back(Output::Script(rules::Output::Publish {
                    side: Side::Remote,
                    topic: message.topic().to_buf(),
                    payload: bytes::Bytes::copy_from_slice(message.payload()),
                    qos: message.qos(),
                    retain: message.retain(),
                }));
            }
            Act::ForgetRetained => self.forget_retained(now),
            Act::Script { text, start } => {
                if rules::dialect_of(&text) == Dialect::Compat {
                    // As the firmware does: first upload, then set @1.
                    self.script.handle(now, script::Input::ClearFlash, &self.broker);
                }
                let begin = match start {
                    Start::Now => Begin::Now,
                    Start::NextStart => Begin::NextStart,
                };
                self.script.handle(now, script::Input::Install { text: &text, begin }, &self.broker);
            }
            Act::DeleteScript => self.script.handle(now, script::Input::Delete, &self.broker),
            Act::RevertScript => {
                self.script.handle(now, script::Input::Revert { begin: Begin::AsDialect }, &self.broker);
            }
            Act::RunScript => {
                let text = self.script.text().unwrap_or_default().to_vec();
                self.script.handle(now, script::Input::Install { text: &text, begin: Begin::Now }, &self.broker);
            }
            Act::Flash { slot, value } => {
                self.script.handle(now, script::Input::SetFlash { slot, value: &value }, &self.broker);
            }
            Act::Logging(on) => {
                let logging = if on { Logging::On } else { Logging::Off };
                self.script.handle(now, script::Input::Logging(logging), &self.broker);
            }
            Act::TimeOfDay(seconds) => {
                let wanted = i64::from(seconds) * 1000;
                self.clock.shift(wanted - self.clock.unzoned(now.wall).rem_euclid(DAY_MILLIS));
                self.tell_clock(now);
            }
            Act::Weekday(day) => {
                // 1970-01-01 was a Thursday; Monday is 0.
                let days = self.clock.unzoned(now.wall).saturating_add(self.clock.zone_millis).div_euclid(DAY_MILLIS);
                self.clock.shift((i64::from(day) - (days + 3).rem_euclid(7)) * DAY_MILLIS);
                self.tell_clock(now);
            }
        }
    }

    fn publish_as_console(&mut self, now: Now, message: &Message) {
        self.broker.handle(now, broker::Input::Publish { id: CONSOLE, message });
    }

    fn forget_retained(&mut self, now: Now) {
        let topics = self.broker.retained_iter().map(|message| message.topic().to_buf());
        let topics: Vec<_> = topics.filter(|topic| !topic.borrow().as_str().starts_with('$')).collect();
        let options = MessageOptions { qos: QoS::AtLeastOnce, retain: true, ..MessageOptions::default() };
        for topic in topics {
            // An empty payload is never too long.
            if let Ok(message) = Message::new(topic.borrow(), b"", options) {
                self.publish_as_console(now, &message);
            }
        }
    }

    /// What the script wants of the host, or of the console.
    pub(crate) fn script_asks(&mut self, now: Now, output: rules::Output) {
        match output {
            rules::Output::System(line) => {
                let (sight, console) = self.sight_and_console();
                console.system(now, &line, &sight);
            }
            rules::Output::Config { name, value } => {
                // The firmware puts it into a command line.
                let is_compat = rules::dialect_of(self.script.text().unwrap_or_default()) == Dialect::Compat;
                let value = if is_compat { words::whole(&value).into() } else { value };
                let (sight, console) = self.sight_and_console();
                console.configure(now, &name, &value, &sight);
            }
            output => {
                if let rules::Output::Print(text) | rules::Output::Log(text) = &output {
                    self.console.say(text);
                }
                self.outputs.push_back(Output::Script(output));
            }
        }
    }

    /// The host knows another time.
    pub(crate) fn set_clock(&mut self, now: Now, clock: rules::Clock) {
        self.clock.host = clock;
        self.tell_clock(now);
    }

    /// Local milliseconds since 1970 as scripts and consoles know the time; `None` while it is not known.
    pub fn local_millis(&self, now: Now) -> Option<i64> {
        let offset = self.clock.offset()?;
        Some(i64::try_from(now.wall.0).unwrap_or(i64::MAX).saturating_add(offset))
    }

    fn tell_clock(&mut self, now: Now) {
        self.script.handle(now, script::Input::Clock(self.clock.as_rules()), &self.broker);
    }

    /// All settings, for scripts that look at them.
    pub(crate) fn tell_settings(&mut self, now: Now) {
        for setting in SETTINGS {
            let value = self.console.settings().text(setting.name).to_owned();
            self.setting_changed(now, setting.name, &value);
        }
    }

    /// What settings say of clients, within what the configuration allows.
    pub(crate) fn narrow_broker(&mut self) {
        let settings = self.console.settings();
        let mut config = self.broker_config.clone();
        if settings.broker_login().is_some() {
            config.admission = Admission::Verified;
        }
        config.subscriptions_total_max = settings.limit("broker_subscriptions").or(config.subscriptions_total_max);
        let retained = settings.limit("broker_retained_messages");
        config.retained_count_max =
            retained.map_or(config.retained_count_max, |max| max.min(config.retained_count_max));
        self.broker.configure(config);
    }

    pub(crate) fn setting_changed(&mut self, now: Now, name: &str, value: &str) {
        self.script.handle(now, script::Input::Setting { name, value }, &self.broker);
        if name.starts_with("broker_") {
            self.narrow_broker();
        }
        if name == "ntp_timezone" {
            self.clock.zone_millis = self.console.settings().number(name) * HOUR_MILLIS;
            self.tell_clock(now);
        }
    }
}
