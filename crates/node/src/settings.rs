//! The settings that the console shows and sets: names, defaults and replies of the ESP8266 broker.
//!
//! A setting lives in memory until [`Settings::save`] makes it a record of the store: what was set and not saved is
//! gone after a restart, as people who know the old firmware expect.
mod table;
mod value;

pub use table::{SETTINGS, Setting, When};
pub use value::Kind;

use crate::door::Change;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use value::Misfit;

/// Version of a stored setting.
const STORED_VERSION: u8 = 1;
/// Records beside those of [`SETTINGS`]: nobody sets them by name.
const LOCKED: &str = "locked";
const LOCK_PASSWORD: &str = "lock_password";
/// The word for a user name that nobody is asked for.
const NOBODY: &str = "none";
/// Bytes of a password for `lock`.
pub(crate) const LOCK_PASSWORD_MAX: usize = 31;

/// The values of all settings, and which of them the store has.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Those that differ from their default.
    values: BTreeMap<&'static str, Box<str>>,
    stored: BTreeMap<&'static str, Box<str>>,
    /// What [`Settings::save`] has not handed over yet.
    changes: Vec<Change>,
    /// Set since the last [`Settings::take_changed`].
    changed: Vec<&'static str>,
    client_id: Box<str>,
}

/// Whom a door lets in, by where they come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// 1: internal ones, 2: external ones, 3: both, 0: nobody.
    mask: i64,
    /// Its /24 is internal.
    network: Ipv4Addr,
}

impl Access {
    /// Whether somebody from there may come. The old firmware's test: `internal` is whoever is in the same /24 as
    /// `network`; here also this machine itself.
    pub fn admits(self, address: IpAddr) -> bool {
        let bit = match address.to_canonical() {
            address if address.is_loopback() => 1,
            IpAddr::V4(address) if address.octets()[..3] == self.network.octets()[..3] => 1,
            _ => 2,
        };
        self.mask & bit != 0
    }
}

/// Why a setting keeps its value; its text is the console's reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No setting is called so.
    Unknown,
    /// The value does not do.
    Value(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("Invalid Command"),
            Self::Value(reply) => f.write_str(reply),
        }
    }
}

impl Settings {
    /// All at their defaults; `client_id` is that of `mqtt_id`.
    pub fn new(client_id: &str) -> Self {
        Self {
            values: BTreeMap::new(),
            stored: BTreeMap::new(),
            changes: Vec::new(),
            changed: Vec::new(),
            client_id: client_id.into(),
        }
    }

    /// The value in its printed form; `None` if no setting is called so.
    pub fn value(&self, name: &str) -> Option<&str> {
        let setting = Setting::named(name)?;
        let default = if setting.name == "mqtt_id" { &*self.client_id } else { setting.default };
        Some(self.values.get(setting.name).map_or(default, |value| value))
    }

    /// The value of one of [`SETTINGS`]; empty if it is none of them.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.value(name).unwrap_or_default()
    }

    /// The value as a number, 0 where it is none.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// The value as an address, unspecified where it is none.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        self.text(name).parse().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// What a limit is set to; `None` while nobody has set another than its default.
    pub fn limit(&self, name: &str) -> Option<usize> {
        self.values.get(name)?.parse().ok()
    }

    /// Whom `config_access`, or `broker_access`, lets in.
    pub fn access(&self, name: &str) -> Access {
        Access { mask: self.number(name), network: self.address("network") }
    }

    /// User name and password of the broker's clients; `None`: nobody is asked.
    pub fn broker_login(&self) -> Option<(&str, &str)> {
        let user = Some(self.text("broker_user")).filter(|user| *user != NOBODY)?;
        Some((user, self.text("broker_password")))
    }

    /// Gives a setting another value until the next start, and says the console's reply to it.
    ///
    /// # Errors
    /// When there is no such setting or the value does not do: nothing has changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<String, Refusal> {
        let setting = Setting::named(name).ok_or(Refusal::Unknown)?;
        let value = match setting.kind.parse(value) {
            Ok(parsed) => parsed,
            Err(Misfit(range)) => return Err(Refusal::Value(setting.refusal(value, &range))),
        };
        if setting.name == "ap_on" && self.text("ap_on") == &*value {
            return Ok(if &*value == "0" { "AP already off" } else { "AP already on" }.to_owned());
        }
        let reply = setting.reply(&value);
        self.put(setting.name, value);
        match setting.name {
            "ssid" => self.put("auto_connect", "1".into()),
            "ap_password" => self.put("ap_open", "0".into()),
            _ => {}
        }
        Ok(reply)
    }

    fn put(&mut self, name: &'static str, value: Box<str>) {
        if self.value(name) == Some(&*value) {
            return;
        }
        self.keep(name, value);
        if !self.changed.contains(&name) {
            self.changed.push(name);
        }
    }

    fn keep(&mut self, name: &'static str, value: Box<str>) {
        let is_default = Setting::named(name).is_some_and(|setting| {
            let default = if name == "mqtt_id" { &*self.client_id } else { setting.default };
            default == &*value
        });
        if is_default {
            self.values.remove(name);
        } else {
            self.values.insert(name, value);
        }
    }

    /// Names of settings whose value has changed since the last call, in order.
    pub fn take_changed(&mut self) -> Vec<&'static str> {
        core::mem::take(&mut self.changed)
    }

    /// Makes the present values those of the next start.
    pub fn save(&mut self) {
        for (&name, value) in &self.values {
            if self.stored.get(name) != Some(value) {
                self.changes.push(Change { key: name.as_bytes().into(), value: Some(record(value)) });
            }
        }
        for &name in self.stored.keys() {
            if !self.values.contains_key(name) {
                self.changes.push(Change { key: name.as_bytes().into(), value: None });
            }
        }
        self.stored.clone_from(&self.values);
    }

    /// Back to the defaults, also for the next start.
    pub fn reset(&mut self) {
        let before = core::mem::take(&mut self.values);
        self.changed.extend(before.into_keys().filter(|name| Setting::named(name).is_some()));
        self.changed.sort_unstable();
        self.changed.dedup();
        self.save();
    }

    /// Whether [`Settings::take_changes`] has something.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Changes of records for the store.
    pub fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }

    /// One record from the store.
    ///
    /// # Errors
    /// When there is no such setting, or the value does not do: its default holds.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), DamagedSetting> {
        let name = core::str::from_utf8(key).map_err(|_| DamagedSetting::Name)?;
        let text = match value.split_first() {
            Some((&STORED_VERSION, text)) => core::str::from_utf8(text).map_err(|_| DamagedSetting::Value)?,
            Some((&version, _)) => return Err(DamagedSetting::Version(version)),
            None => return Err(DamagedSetting::Value),
        };
        let (name, value) = match name {
            LOCKED if text == "1" => (LOCKED, text.into()),
            LOCK_PASSWORD if text.len() <= LOCK_PASSWORD_MAX => (LOCK_PASSWORD, text.into()),
            LOCKED | LOCK_PASSWORD => return Err(DamagedSetting::Value),
            _ => {
                let setting = Setting::named(name).ok_or(DamagedSetting::Name)?;
                (setting.name, setting.kind.parse_stored(text).map_err(|_| DamagedSetting::Value)?)
            }
        };
        self.stored.insert(name, value.clone());
        self.keep(name, value);
        Ok(())
    }

    /// Whether the console refuses what changes or shows too much.
    pub fn is_locked(&self) -> bool {
        self.values.contains_key(LOCKED)
    }

    /// The password that unlocks; `None` if there was never one.
    pub(crate) fn lock_password(&self) -> Option<&str> {
        self.values.get(LOCK_PASSWORD).map(|password| &**password)
    }

    /// Locks with a password; the whole configuration is saved with it.
    pub(crate) fn lock(&mut self, password: &str) {
        self.values.insert(LOCKED, "1".into());
        self.values.insert(LOCK_PASSWORD, password.into());
        self.save();
    }

    /// Unlocks, and saves the whole configuration; the password stays for the next `lock`.
    pub(crate) fn unlock(&mut self) {
        self.values.remove(LOCKED);
        self.save();
    }
}

/// A stored setting that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DamagedSetting {
    /// No setting is called so.
    Name,
    /// The value has a version that this program does not know.
    Version(u8),
    /// The value does not do.
    Value,
}

impl fmt::Display for DamagedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("a stored setting has a name that nobody knows"),
            Self::Version(version) => write!(f, "a stored setting has unknown version {version}"),
            Self::Value => f.write_str("a stored setting has a value that does not do"),
        }
    }
}

impl core::error::Error for DamagedSetting {}

fn record(value: &str) -> Box<[u8]> {
    let mut record = Vec::with_capacity(value.len() + 1);
    record.push(STORED_VERSION);
    record.extend_from_slice(value.as_bytes());
    record.into()
}

impl Setting {
    /// The row with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    fn reply(&self, value: &str) -> String {
        match (self.name, value) {
            ("ap_on", "0") => "AP off".to_owned(),
            ("ap_on", _) => "AP on".to_owned(),
            ("mqtt_ssl", "0") => "MQTT ssl off".to_owned(),
            ("mqtt_ssl", _) => "MQTT ssl on".to_owned(),
            ("dns", "dhcp") => "DNS from DHCP".to_owned(),
            ("ip", "dhcp") => "IP from DHCP".to_owned(),
            ("config_port", "0") | ("config_access", "0") => {
                format!("{NO_REMOTE_WARNING}{}", self.reply.replace("{}", value))
            }
            _ => self.reply.replace("{}", value),
        }
    }

    fn refusal(&self, value: &str, range: &str) -> String {
        match self.name {
            "ap_channel" => "Invalid channel (1-13)".to_owned(),
            "speed" => "Clock speed update failed".to_owned(),
            "ap_password" if value.len() < 8 => "Password to short (min. 8)".to_owned(),
            _ => format!("Invalid arg {value} ({range})"),
        }
    }
}

/// Before the reply to a setting that would shut the network's consoles out.
const NO_REMOTE_WARNING: &str = "WARNING: if you save this, remote console access will be disabled!\r\n";
