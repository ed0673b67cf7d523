//! The commands: a table of them, and those that are short.
use super::door::{Act, Channel, Event, Output, Start, View};
use super::words::shown;
use super::{Console, Remote, SessionId};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::time::Duration;
use mqtt::message::MessageOptions;
use mqtt::{Message, Now, QoS, Topic};

/// Who gave a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asker {
    /// `None`: the script.
    pub(super) session: Option<SessionId>,
    pub(super) channel: Channel,
    /// A lock does not hold for it.
    pub(super) is_script: bool,
}

/// What follows a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    Prompt,
    /// The reply is held back.
    Wait(Duration),
    Close,
}

/// One command being done.
pub(super) struct Ask<'a> {
    pub(super) now: Now,
    pub(super) view: &'a dyn View,
    pub(super) asker: Asker,
    words: Vec<Vec<u8>>,
    pub(super) reply: Vec<u8>,
    pub(super) after: After,
}

impl<'a> Ask<'a> {
    pub(super) fn new(now: Now, view: &'a dyn View, asker: Asker, words: Vec<Vec<u8>>) -> Self {
        Self { now, view, asker, words, reply: Vec::new(), after: After::Prompt }
    }

    /// A line of the reply.
    pub(super) fn say(&mut self, line: impl fmt::Display) {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = write!(text, "{line}\r\n");
        self.reply.extend_from_slice(text.as_bytes());
    }

    pub(super) fn word(&self, index: usize) -> &[u8] {
        self.words.get(index).map_or(&[], |word| word)
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn text(&self, index: usize) -> Option<&str> {
        core::str::from_utf8(self.word(index)).ok()
    }

    pub(super) fn unknown(&mut self) {
        self.reply.extend(b"\r\nInvalid Command\r\n");
    }

    pub(super) fn bad_count(&mut self) {
        self.say("Invalid number of arguments");
    }

    pub(super) fn bad_word(&mut self, index: usize) {
        let word = shown(self.word(index));
        self.say(format_args!("Invalid arg {word}"));
    }

    fn who(&self) -> Channel {
        self.asker.channel
    }
}

/// When a command works although the console is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lock {
    Free,
    Refused,
    /// Only for those who stand before the machine, or may reach its files.
    NotFromNetwork,
    /// As `show` without what tells too much.
    Harmless,
}

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Second words that it takes, for completion.
    pub(super) completions: &'static [&'static str],
    /// What `help NAME` says: lines.
    pub(super) help: &'static str,
    lock: Lock,
    run: fn(&mut Console, &mut Ask<'_>),
}

/// All commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        completions: &[],
        help: "help: all commands\r\nhelp <command>: what it does",
        lock: Lock::Free,
        run: |_, ask| super::complete::help(ask),
    },
    Command {
        name: "show",
        completions: &["backlog", "config", "mqtt", "script", "stats", "vars"],
        help: "show [config]: the settings\r\nshow stats: uptime, memory, script, time\r\n\
               show mqtt: clients, subscriptions, retained topics\r\n\
               show script [<line>]: the stored script, from a line on\r\n\
               show vars: variables of the script and flash variables\r\n\
               show backlog: what the script said while no console was open",
        lock: Lock::Harmless,
        run: Console::show,
    },
    Command {
        name: "set",
        completions: &[],
        help: "set <name> <value>: changes a setting; it is lost at the next start without save (help set <name>)\r\n\
               set @<n> <value>: writes a flash variable at once",
        lock: Lock::Refused,
        run: Console::set,
    },
    Command {
        name: "save",
        completions: &["config"],
        help: "save: keeps all settings for the next start",
        lock: Lock::Refused,
        run: Console::save,
    },
    Command {
        name: "lock",
        completions: &[],
        help: "lock <password>: no more changes until unlock; saves all settings\r\nlock: the same with the last password",
        lock: Lock::Free,
        run: Console::lock,
    },
    Command {
        name: "unlock",
        completions: &[],
        help: "unlock <password>: ends a lock; saves all settings",
        lock: Lock::Free,
        run: Console::unlock,
    },
    Command {
        name: "publish",
        completions: &["local", "remote"],
        help: "publish local <topic> <data> [retained]: to the clients of this site and its mesh\r\n\
               publish remote <topic> <data> [retained]: to the broker of mqtt_host\r\n\
               \\x is x and %hh a byte in <topic> and <data>: hello\\ world",
        lock: Lock::Refused,
        run: Console::publish,
    },
    Command {
        name: "delete_retained",
        completions: &[],
        help: "delete_retained: clears every retained message, on all sites of the mesh",
        lock: Lock::Refused,
        run: |console, ask| {
            console.acts.push_back(Act::ForgetRetained);
            ask.say("Deleted retained topics");
        },
    },
    Command {
        name: "save_retained",
        completions: &[],
        help: "save_retained: nothing to do, retained messages are always stored",
        lock: Lock::Refused,
        run: |_, ask| ask.say("Saved retained topics successfully"),
    },
    Command {
        name: "script",
        completions: &["delete", "revert", "run"],
        help: "script <port> [run]: takes a script on this TCP port: nc HOST <port> < FILE\r\n\
               script <url> [run]: gets a script over HTTP or HTTPS\r\n\
               script run: starts the stored script anew\r\nscript revert: back to the script before\r\n\
               script delete: no script any more\r\n\
               A script that begins with % midge runs at once, others with run or at the next start.",
        lock: Lock::Refused,
        run: Console::script,
    },
    Command {
        name: "time",
        completions: &[],
        help: "time: day of the week and local time",
        lock: Lock::Free,
        run: Console::time,
    },
    Command {
        name: "scan",
        completions: &[],
        help: "scan: wireless networks, if the hook command can tell",
        lock: Lock::Free,
        run: |console, ask| {
            ask.say("Scanning...");
            if let Some(session) = ask.asker.session {
                console.outputs.push_back(Output::Scan { session });
            }
        },
    },
    Command {
        name: "reset",
        completions: &["factory"],
        help: "reset: starts the site again; what was set and not saved is gone\r\n\
               reset factory: the same with all settings at their defaults, without script and flash variables",
        lock: Lock::NotFromNetwork,
        run: Console::reset,
    },
    Command {
        name: "quit",
        completions: &[],
        help: "quit: ends this console",
        lock: Lock::Free,
        run: |_, ask| {
            ask.say("Quitting console");
            ask.after = After::Close;
        },
    },
];

/// Longest time for which the answer to a wrong password is held back: 2 to this power, in seconds.
const SLOWEST: u32 = 5;

impl Console {
    pub(super) fn execute(&mut self, ask: &mut Ask<'_>) {
        self.counters.commands += 1;
        if ask.len() == 0 {
            return ask.reply.push(b'\n');
        }
        let Some(command) = COMMANDS.iter().find(|command| command.name.as_bytes() == ask.word(0)) else {
            return ask.unknown();
        };
        if self.settings.is_locked() && !ask.asker.is_script && !is_free(command.lock, ask) {
            return ask.say("Invalid command. Config locked");
        }
        (command.run)(self, ask);
    }

    fn set(&mut self, ask: &mut Ask<'_>) {
        if ask.len() < 3 {
            return ask.bad_count();
        }
        if let Some(slot) = ask.word(1).strip_prefix(b"@") {
            let slot = core::str::from_utf8(slot).ok().and_then(|slot| slot.parse().ok());
            return self.set_flash(slot, ask);
        }
        let (Some(name), Some(value)) = (ask.text(1), ask.text(2)) else { return ask.bad_word(2) };
        match name {
            "script_logging" => match value {
                "0" | "1" => {
                    self.logging = value == "1";
                    self.acts.push_back(Act::Logging(self.logging));
                    ask.say("Script logging set");
                }
                _ => ask.bad_word(2),
            },
            "backlog" => self.set_backlog(value.parse().ok(), ask),
            "ntp_time" => match seconds_of_day(value) {
                Some(seconds) => {
                    self.acts.push_back(Act::TimeOfDay(seconds));
                    ask.say(format_args!("Time set to {} ", Clock(seconds)));
                }
                None => ask.say("Time format hh:mm:ss"),
            },
            "ntp_weekday" => match (0..).zip(WEEKDAYS).find(|(_, day)| *day == value) {
                Some((number, day)) => {
                    self.acts.push_back(Act::Weekday(number));
                    ask.say(format_args!("Weekday set to {day}"));
                }
                None => ask.say("Set weekday failed"),
            },
            name => match self.settings.set(name, value) {
                Ok(reply) => ask.say(reply),
                Err(crate::settings::Refusal::Unknown) => ask.unknown(),
                Err(crate::settings::Refusal::Value(reply)) => ask.say(shown(reply.as_bytes())),
            },
        }
    }

    fn set_flash(&mut self, slot: Option<u8>, ask: &mut Ask<'_>) {
        const SLOTS: core::ops::RangeInclusive<u8> = 1..=64;
        let value = ask.word(2);
        match slot.filter(|slot| SLOTS.contains(slot)) {
            Some(slot) if value.len() <= self.config.script.flash_bytes => {
                self.acts.push_back(Act::Flash { slot, value: value.to_vec() });
                ask.say(format_args!("@{slot} written to flash"));
            }
            Some(_) => ask.bad_word(2),
            None => ask.say("Invalid flash slot number"),
        }
    }

    fn set_backlog(&mut self, bytes: Option<usize>, ask: &mut Ask<'_>) {
        match bytes {
            None => ask.bad_word(2),
            Some(0) => {
                self.backlog = None;
                ask.say("Backlog off");
            }
            Some(_) if self.backlog.is_some() => ask.say("Backlog already set"),
            Some(bytes) if bytes > self.config.limits.backlog_bytes => ask.say("No memory"),
            Some(bytes) => {
                self.backlog = Some((alloc::collections::VecDeque::new(), bytes));
                ask.say(format_args!("Backlog set to {bytes} chars"));
            }
        }
    }

    fn save(&mut self, ask: &mut Ask<'_>) {
        if !matches!(ask.word(1), b"" | b"config") {
            return ask.unknown();
        }
        self.settings.save();
        ask.say("Config saved");
    }

    fn lock(&mut self, ask: &mut Ask<'_>) {
        if self.settings.is_locked() {
            return ask.say("Config already locked");
        }
        let password = match ask.text(1) {
            Some("") => match self.settings.lock_password() {
                Some(password) => password.to_owned(),
                None => return ask.say("No password defined"),
            },
            Some(password) if password.len() <= crate::settings::LOCK_PASSWORD_MAX => password.to_owned(),
            Some(_) | None => return ask.bad_word(1),
        };
        self.settings.lock(&password);
        self.outputs.push_back(Output::Event(Event::Locked(true)));
        ask.say(format_args!("Config locked (pw: {})", shown(password.as_bytes())));
    }

    fn unlock(&mut self, ask: &mut Ask<'_>) {
        if ask.len() < 2 {
            return ask.bad_count();
        }
        let is_right = |password: &str| is_same(password.as_bytes(), ask.word(1));
        if self.settings.is_locked() && !self.settings.lock_password().is_some_and(is_right) {
            self.counters.wrong_passwords += 1;
            self.outputs.push_back(Output::Event(Event::WrongPassword { from: ask.who() }));
            let is_remote = matches!(ask.who(), Channel::Network(_));
            // Who stands before the machine does not wait for what others guess.
            let slowness = if is_remote { self.wrong.min(SLOWEST) } else { 0 };
            self.wrong = self.wrong.saturating_add(u32::from(is_remote));
            ask.after = After::Wait(Duration::from_secs(1 << slowness));
            return ask.say("Unlock failed. Invalid password");
        }
        self.wrong = 0;
        self.settings.unlock();
        self.outputs.push_back(Output::Event(Event::Locked(false)));
        ask.say("Config unlocked");
    }

    fn publish(&mut self, ask: &mut Ask<'_>) {
        if !(4..=5).contains(&ask.len()) {
            return ask.bad_count();
        }
        let is_remote = match ask.word(1) {
            b"local" => false,
            b"remote" => true,
            _ => return ask.unknown(),
        };
        if ask.len() == 5 && ask.word(4) != b"retained" {
            return ask.bad_word(4);
        }
        if is_remote && ask.view.remote() != Remote::Connected {
            return ask.bad_word(1);
        }
        let topic = ask.text(2).and_then(|topic| Topic::parse(topic).ok());
        // What is said about a site below $SYS, the site says.
        let Some(topic) = topic.filter(|topic| !topic.as_str().starts_with('$')) else { return ask.bad_word(2) };
        let options = MessageOptions { qos: QoS::AtMostOnce, retain: ask.len() == 5, ..MessageOptions::default() };
        let Ok(message) = Message::new(topic, ask.word(3), options) else { return ask.bad_word(3) };
        self.acts.push_back(if is_remote { Act::PublishRemote(message) } else { Act::Publish(message) });
        ask.say("Published topic");
    }

    fn script(&mut self, ask: &mut Ask<'_>) {
        let start = match (ask.len(), ask.word(2)) {
            (2, _) => None,
            (3, b"run") => Some(Start::Now),
            (3, _) => return ask.bad_word(2),
            _ => return ask.bad_count(),
        };
        let status = ask.view.script();
        let Some(session) = ask.asker.session else { return ask.bad_word(1) };
        match ask.word(1) {
            b"delete" => {
                self.acts.push_back(Act::DeleteScript);
                self.outputs.push_back(Output::Event(Event::Script { bytes: None, by: ask.who() }));
                ask.say("Script deleted");
            }
            b"revert" if !status.has_previous => ask.say("No script before this one"),
            b"revert" => {
                self.acts.push_back(Act::RevertScript);
                ask.say("Script reverted");
            }
            b"run" if status.text.is_none() => ask.say("No script"),
            b"run" => {
                self.acts.push_back(Act::RunScript);
                ask.say("Script started");
            }
            port if port.first().is_some_and(u8::is_ascii_digit) => {
                let port = ask.text(1).and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                let Some(port) = port else { return ask.say("Invalid port") };
                self.awaited.insert(session, start);
                let from = match ask.who() {
                    Channel::Network(address) => Some(address),
                    Channel::Serial | Channel::Local | Channel::Application => None,
                };
                self.outputs.push_back(Output::Listen { session, port, from });
                ask.say(format_args!("Waiting for script upload on port {port}"));
            }
            _ => {
                let url = ask.text(1).filter(|url| url.starts_with("http://") || url.starts_with("https://"));
                let Some(url) = url.map(ToOwned::to_owned) else { return ask.bad_word(1) };
                self.awaited.insert(session, start);
                ask.say(format_args!("HTTP request to {} started", shown(url.as_bytes())));
                self.outputs.push_back(Output::Fetch { session, url });
            }
        }
    }

    fn time(&mut self, ask: &mut Ask<'_>) {
        let (day, seconds) = local_time(ask);
        ask.say(format_args!("{day} {}", Clock(seconds)));
    }

    fn reset(&mut self, ask: &mut Ask<'_>) {
        let factory = match ask.word(1) {
            b"" => false,
            b"factory" => true,
            _ => return ask.unknown(),
        };
        self.outputs.push_back(Output::MayRestart { session: ask.asker.session, factory });
    }

    /// A site that would not come back must not go: nobody could help it from afar.
    pub(super) fn restart(&mut self, session: Option<SessionId>, factory: bool, outcome: Result<(), &str>) {
        if let Err(why) = outcome {
            let why = shown(why.as_bytes());
            let reply = alloc::format!("No restart: {why}\r\n");
            match session {
                Some(session) => self.tell(session, &reply),
                None => self.say(reply.as_bytes()),
            }
            return self.outputs.push_back(Output::Event(Event::NoRestart { why }));
        }
        if factory {
            self.settings.reset();
            self.acts.push_back(Act::DeleteScript);
        }
        self.outputs.push_back(Output::Event(Event::Restart { factory }));
        self.outputs.push_back(Output::Restart);
    }
}

fn is_free(lock: Lock, ask: &Ask<'_>) -> bool {
    match lock {
        Lock::Free => true,
        Lock::Refused => false,
        Lock::NotFromNetwork => !matches!(ask.who(), Channel::Network(_)),
        Lock::Harmless => !matches!(ask.word(1), b"mqtt" | b"script" | b"vars"),
    }
}

/// In a time that does not tell how much of it is right.
fn is_same(password: &[u8], guess: &[u8]) -> bool {
    let different = password.iter().zip(guess).fold(0, |sum, (a, b)| sum | (a ^ b));
    password.len() == guess.len() && different == 0
}

pub(super) const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_SECS: i64 = 86_400;

/// Weekday and seconds of the day; in UTC while the time is not known.
pub(super) fn local_time(ask: &Ask<'_>) -> (&'static str, u32) {
    let wall = i64::try_from(ask.now.wall.0).unwrap_or(i64::MAX);
    let seconds = wall.saturating_add(ask.view.clock_offset().unwrap_or(0)).div_euclid(1000);
    // 1970-01-01 was a Thursday.
    let day = (seconds.div_euclid(DAY_SECS) + 3).rem_euclid(7);
    let name = usize::try_from(day).ok().and_then(|day| WEEKDAYS.get(day)).copied().unwrap_or_default();
    (name, u32::try_from(seconds.rem_euclid(DAY_SECS)).unwrap_or_default())
}

fn seconds_of_day(text: &str) -> Option<u32> {
    let mut parts = text.split(':').map(|part| {
        let is_number = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| is_number)
    });
    let mut part = |end: u32| parts.next().flatten().filter(|number| *number < end);
    let (hours, minutes, seconds) = (part(24)?, part(60)?, part(60)?);
    parts.next().is_none().then_some(hours * 3600 + minutes * 60 + seconds)
}

/// `hh:mm:ss`.
pub(super) struct Clock(pub(super) u32);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60, self.0 % 60)
    }
}
