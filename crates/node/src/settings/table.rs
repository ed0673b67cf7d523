//! All settings in one table.
use super::value::Kind;

/// When a setting takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// With the command.
    AtOnce,
    /// With the next start, if it is saved.
    AtStart,
    /// Never by itself: a host has no such thing. It is kept, shown, and told to the hook command if there is one.
    ByHook,
}

/// One setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its name for `set`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds until it is set.
    pub default: &'static str,
    /// The console's reply, `{}` for the value.
    pub reply: &'static str,
    /// When it takes effect.
    pub when: When,
}

const fn row(name: &'static str, kind: Kind, default: &'static str, reply: &'static str, when: When) -> Setting {
    Setting { name, kind, default, reply, when }
}

const FLAG: Kind = Kind::Number(0, 1);
const ACCESS: Kind = Kind::Number(0, 3);
const U16: Kind = Kind::Number(0, u16::MAX as i64);
const WORD: Kind = Kind::Text(31);
const HOST: Kind = Kind::Text(255);
use When::{AtOnce, AtStart, ByHook};

/// All settings, in the order of the old firmware's documentation.
pub const SETTINGS: &[Setting] = &[
    row("ssid", Kind::Text(32), "ssid", "SSID set (auto_connect = 1)", ByHook),
    row("password", Kind::Secret { least: 0, most: 63 }, "password", "Password set", ByHook),
    row("auto_connect", FLAG, "0", "Auto Connect set", ByHook),
    row("ap_ssid", Kind::Text(32), "MyAP", "AP SSID set", ByHook),
    row("ap_password", Kind::Secret { least: 8, most: 63 }, "none", "AP Password set", ByHook),
    row("ap_channel", Kind::Number(1, 13), "1", "AP channel set to {}", ByHook),
    row("ap_open", FLAG, "1", "Open Auth set", ByHook),
    row("ap_on", FLAG, "1", "", ByHook),
    row("speed", Kind::Speed, "80", "Clock speed update successful", ByHook),
    row("bitrate", Kind::Number(50, 4_000_000), "115200", "Bitrate set to {}", AtStart),
    row("system_output", Kind::Number(0, 2), "2", "System output set to {}", AtOnce),
    row("network", Kind::Network, "192.168.4.1", "Network set to {}", AtOnce),
    row("dns", Kind::AddressOrDhcp, "dhcp", "DNS set to {}", ByHook),
    row("ip", Kind::AddressOrDhcp, "dhcp", "IP address set to {}", ByHook),
    row("netmask", Kind::Address, "0.0.0.0", "IP netmask set to {}", ByHook),
    row("gw", Kind::Address, "0.0.0.0", "Gateway set to {}", ByHook),
    row("mdns_mode", Kind::Number(0, 2), "0", "mDNS mode set to {}", AtOnce),
    row("config_port", U16, "7777", "Config port set to {}", AtStart),
    row("config_access", ACCESS, "3", "Config access set", AtOnce),
    row("broker_port", Kind::Number(1, u16::MAX as i64), "1883", "Broker port set", AtStart),
    row("broker_user", WORD, "none", "Broker username set", AtOnce),
    row("broker_password", Kind::ClearableSecret(31), "", "Broker password set", AtOnce),
    row("broker_access", ACCESS, "3", "Broker access set", AtOnce),
    row("broker_subscriptions", U16, "30", "Broker subscriptions set", AtOnce),
    row("broker_retained_messages", U16, "30", "Broker retained messages set", AtOnce),
    row("broker_clients", U16, "0", "Broker max clients set", AtOnce),
    row("broker_autoretain", FLAG, "0", "Broker autoretain set", ByHook),
    row("mqtt_host", HOST, "none", "MQTT host set", AtStart),
    row("mqtt_port", U16, "1883", "MQTT port set", AtStart),
    row("mqtt_ssl", FLAG, "0", "", AtStart),
    row("mqtt_user", WORD, "none", "MQTT user set", AtStart),
    row("mqtt_password", Kind::Secret { least: 0, most: 31 }, "", "MQTT password set", AtStart),
    row("mqtt_id", Kind::Text(47), "", "MQTT id set", AtStart),
    row("ntp_server", HOST, "none", "NTP server set to {}", AtOnce),
    row("ntp_interval", Kind::Number(1, u32::MAX as i64), "300", "NTP interval set to {} s", AtOnce),
    row("ntp_timezone", Kind::Number(-24, 24), "0", "NTP timezone set to {} h", AtOnce),
    row("dns_name", HOST, "none", "DNS name set", ByHook),
    row("pwm_period", Kind::Number(1, u32::MAX as i64), "5000", "PWM period set", AtStart),
];
