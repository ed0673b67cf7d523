//! Reads the configuration again while the site runs: what may change comes into force, all of it or nothing; what
//! takes effect at the next start only is named.
use crate::access::Realms;
use crate::config::{self, Config, LIMITS, Listener, Report};
use crate::driver::{Bus, Command};
use crate::gateway::Manner;
use crate::log::Log;
use crate::tls::TlsError;
use std::sync::{Arc, Mutex, PoisonError};

/// Limits of the rest that take effect at the next start: whoever goes by them was told once.
const LATER: &[&str] =
    &["handshake_max", "outbox_messages_max", "outbox_bytes_max", "peers_max", "clock_skew_max", "tombstone_life"];

/// What holds from now on.
#[derive(Debug)]
pub struct Fresh {
    /// The whole configuration, with the listeners that there are.
    pub(crate) config: Config,
    /// What the files of passwords and access rules say.
    pub(crate) realms: Realms,
    /// How connections are treated, listener by listener.
    pub(crate) manners: Vec<Result<Option<Manner>, TlsError>>,
    /// Where is told what happens, if that has changed.
    pub(crate) log: Option<Log>,
    /// What takes effect later: `FILE:LINE: KEY …`.
    pub(crate) later: Vec<String>,
}

/// Reads the files again when somebody asks for it, on the thread of whoever does.
#[derive(Clone, Debug)]
pub(crate) struct Reloader {
    state: Arc<Mutex<State>>,
    bus: Bus,
}

#[derive(Debug)]
struct State {
    /// As the file had it when it was last read.
    file: Config,
    /// What holds: what the file says, but for what the command line said instead, and for what can't change.
    running: Config,
}

impl Reloader {
    pub(crate) fn new(running: &Config, bus: Bus) -> Self {
        let file = running.source.as_deref().and_then(|path| config::read(path).into_config().ok());
        let (file, running) = (file.unwrap_or_else(|| running.clone()), running.clone());
        Self { state: Arc::new(Mutex::new(State { file, running })), bus }
    }

    /// Puts what the files say now into force. Returns what takes effect at the next start only, once all is read; the
    /// driver acts on it a moment later.
    ///
    /// # Errors
    /// When something can't be read or is wrong: all stays as it was, and the log says so too.
    pub(crate) fn reload(&self) -> Result<Vec<String>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.read() {
            Ok((file, fresh)) => {
                (state.file, state.running) = (file, fresh.config.clone());
                let later = fresh.later.clone();
                self.bus.send(Command::Fresh(Box::new(fresh)));
                self.bus.send(Command::Reload);
                Ok(later)
            }
            Err(why) => {
                self.bus.send(Command::Stale(why.clone()));
                Err(why)
            }
        }
    }
}

impl State {
    /// The file as it is now, and what follows from it.
    fn read(&self) -> Result<(Config, Fresh), String> {
        let (file, later, config) = match &self.running.source {
            None => (self.file.clone(), Vec::new(), self.running.clone()),
            Some(path) => {
                let report = config::read(path);
                if !report.is_ok() {
                    return Err(report.to_string());
                }
                let (later, config) = self.changed(&report);
                (report.config().clone(), later, config)
            }
        };
        let realms = Realms::load(&config.listeners).map_err(|error| error.to_string())?;
        let log = (config.log != self.running.log).then(|| Log::open(&config.log)).transpose();
        let log = log.map_err(|error| format!("can't open the log: {error}"))?;
        let manners = config.listeners.iter().map(Manner::of).collect();
        Ok((file, Fresh { config, realms, manners, log, later }))
    }

    /// What the file says otherwise than before: what of it has to wait, and what holds from now on.
    fn changed(&self, report: &Report) -> (Vec<String>, Config) {
        let (old, new, mut running) = (&self.file, report.config(), self.running.clone());
        let mut later = Vec::new();
        let mut wait = |key: &str, nth: usize, what: &str| {
            let place = report.place_of(key, nth).unwrap_or_else(|| report.path().display().to_string());
            later.push(format!("{place}: {what} takes effect at the next start"));
        };
        for key in config::changed_site_keys(old, new) {
            match key {
                "sys_interval" => running.site.sys_interval = new.site.sys_interval,
                key => wait(&format!("site.{key}"), 0, key),
            }
        }
        for limit in LIMITS.iter().filter(|limit| limit.of(&old.limits) != limit.of(&new.limits)) {
            let name = limit.name;
            if LATER.contains(&name) || name.starts_with("script_") || name.starts_with("console_") {
                wait(&format!("limits.{name}"), 0, name);
            } else {
                limit.copy(&new.limits, &mut running.limits);
            }
        }
        let sections = [
            ("mesh", old.mesh != new.mesh),
            ("http", old.http != new.http),
            ("script", old.script != new.script),
            ("pins", old.pins != new.pins),
            ("serial", old.serial != new.serial),
            ("ntp", old.ntp != new.ntp),
            ("mdns", old.mdns != new.mdns),
            ("console", old.console != new.console),
        ];
        for (section, _) in sections.iter().filter(|(_, differs)| *differs) {
            wait(section, 0, &format!("[{section}]"));
        }
        self.change_listeners(new, &mut running.listeners, &mut wait);
        take_changed(old, new, &mut running);
        (later, running)
    }

    /// Listeners stay where they are; what else is said of them holds from now on.
    fn change_listeners(&self, new: &Config, running: &mut [Listener], wait: &mut impl FnMut(&str, usize, &str)) {
        if self.running.listeners.iter().any(|listener| !self.file.listeners.iter().any(|of| is_same(of, listener))) {
            // The command line has one of its own, by the rules of the first in the file.
            if let (Some(listener), Some(first)) = (running.first_mut(), new.listeners.first()) {
                (listener.access, listener.allow_anonymous) = (first.access.clone(), first.allow_anonymous);
            }
            return;
        }
        for listener in running.iter_mut() {
            match new.listeners.iter().find(|new| is_same(new, listener)) {
                Some(new) => *listener = new.clone(),
                None => wait("", 0, &format!("that {} is not listened on any longer", listener.bind)),
            }
        }
        for (nth, new) in new.listeners.iter().enumerate() {
            if !running.iter().any(|listener| is_same(listener, new)) {
                wait("listener.bind", nth, &format!("that {new} is listened on"));
            }
        }
    }
}

/// Whether the socket and what is spoken there stay the same.
fn is_same(one: &Listener, other: &Listener) -> bool {
    let socket = |listener: &Listener| {
        let Listener { bind, interface, protocol, tls, proxy_protocol, .. } = listener.clone();
        (bind, interface, protocol, tls.is_some(), proxy_protocol)
    };
    socket(one) == socket(other)
}

/// What is taken over as it is, where the file has changed: what the command line says goes on to hold elsewhere.
fn take_changed(old: &Config, new: &Config, running: &mut Config) {
    macro_rules! take {
        ($($($field:ident).+),* $(,)?) => {
            $(if old.$($field).+ != new.$($field).+ {
                running.$($field).+ = new.$($field).+.clone();
            })*
        };
    }
    take!(
        access,
        bridges,
        queue_full,
        max_qos,
        retain_available,
        check_retain_source,
        overlapping,
        upgrade_qos,
        queue_qos0,
        log.level,
        log.to,
        log.time,
        log.facility,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Report {
        config::check(text.as_bytes(), Path::new("midge.toml"))
    }

    /// What waits when `before` becomes `after`, and what holds then.
    fn change(before: &str, after: &str, command_line: impl FnOnce(&mut Config)) -> (Vec<String>, Config) {
        let file = read(before).into_config().unwrap();
        let mut running = file.clone();
        command_line(&mut running);
        let (later, config) = State { file, running }.changed(&read(after));
        (later.into_iter().map(|words| words.replace(" takes effect at the next start", "")).collect(), config)
    }

    #[test]
    fn what_may_change_holds_and_what_may_not_is_named() {
        let before = "[site]\nname = \"a\"\n[[listener]]\nbind = \"127.0.0.1:1883\"\n[limits]\npeers_max = 5\n";
        let after = "[site]\nname = \"b\"\nsys_interval = 3\n\n[[listener]]\nbind = \"127.0.0.1:1883\"\nmax_qos = 1\n\
                     [[listener]]\nbind = \"127.0.0.1:1884\"\n[limits]\npeers_max = 6\nqueue_messages_max = 7\n\
                     queue_qos0 = true\n[mesh]\nport = 99\n";
        let (later, config) = change(before, after, |_| {});
        assert_eq!(
            later,
            [
                "midge.toml:2: name",
                "midge.toml:11: peers_max",
                "midge.toml:15: [mesh]",
                "midge.toml:9: that 127.0.0.1:1884 is listened on",
            ]
        );
        assert_eq!((config.site.name.as_deref(), config.site.sys_interval.as_secs()), (Some("a"), 3));
        assert_eq!((config.limits.peers_max, config.limits.queue_messages_max, config.queue_qos0), (5, 7, true));
        assert_eq!((config.listeners.len(), config.listeners[0].max_qos), (1, Some(mqtt::QoS::AtLeastOnce)));
        assert_eq!(config.mesh, Config::default().mesh);
        let (later, config) = change(after, before, |_| {});
        assert_eq!(later.len(), 4, "{later:?}");
        assert!(later[3].ends_with("that 127.0.0.1:1884 is not listened on any longer"), "{later:?}");
        assert_eq!((config.listeners.len(), config.limits.queue_messages_max), (2, 200_000));
        assert_eq!(change(after, after, |_| {}).0, [""; 0]);
    }

    #[test]
    fn what_the_command_line_says_goes_on_to_hold() {
        let (before, after) = ("", "[access]\npassword_file = \"/p\"\n[limits]\nmax_qos = 1\n");
        let (later, config) = change(before, after, |config| {
            config.listeners = vec![Listener::on_loopback(9)];
            config.log.level = config::Level::Debug;
        });
        assert_eq!(later, [""; 0]);
        assert_eq!((config.log.level, config.max_qos), (config::Level::Debug, mqtt::QoS::AtLeastOnce));
        let listener = config.listeners.first().unwrap();
        assert_eq!(listener.bind, Listener::on_loopback(9).bind);
        assert_eq!(
            (listener.access.password_file.as_deref(), listener.allow_anonymous),
            (Some(Path::new("/p")), false)
        );
    }

    #[test]
    fn a_mosquitto_conf_names_its_lines() {
        let read = |text: &str| config::check(text.as_bytes(), Path::new("mosquitto.conf"));
        let file = read("listener 1883\nallow_anonymous true").into_config().unwrap();
        let after = "allow_anonymous true\nmax_inflight_messages 3\nlistener 1883\nlistener 1884\npersistence false\n";
        let (later, config) = State { running: file.clone(), file }.changed(&read(after));
        let place = |line: usize, what: &str| format!("mosquitto.conf:{line}: {what} takes effect at the next start");
        assert_eq!(later, [place(5, "persistence"), place(4, "that [::]:1884 is listened on")]);
        assert_eq!(config.limits.inflight_max, 3);
    }
}
