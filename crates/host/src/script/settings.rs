//! What settings of the console ask of a script's surroundings. What the configuration file says of the same is among
//! them: at the start it goes before what was saved.
use crate::config::{Address, Bind, Config, Mdns, Ntp, RemoteBroker, Secret};
use if_addrs::{IfAddr, Interface};
use node::settings::Settings;
use std::collections::BTreeSet;
use std::time::Duration;

/// What `pwm_period` counts in.
const PWM_UNIT_NANOS: u64 = 200;
const NTP_PORT: u16 = 123;
/// The word for settings that name nothing.
const NONE: &str = "none";
/// What the old firmware was called on the network.
const MDNS_NAME: &str = "mqtt";

/// The remote broker by `mqtt_host` and its like, and the client identifier there.
pub(super) fn remote(settings: &Settings) -> Option<(RemoteBroker, String)> {
    let text = |name: &str| settings.value(name).unwrap_or_default().to_owned();
    let host = Some(text("mqtt_host")).filter(|host| host != NONE)?;
    let port = u16::try_from(settings.number("mqtt_port")).unwrap_or_default();
    let user = Some(text("mqtt_user")).filter(|user| user != NONE);
    let password = user.as_ref().map(|_| Secret::new(text("mqtt_password")));
    let tls = settings.number("mqtt_ssl") != 0;
    Some((RemoteBroker { address: Address { host, port }, tls, user, password }, text("mqtt_id")))
}

/// The time server by `ntp_server` and `ntp_interval`; the error is for the operator.
pub(super) fn ntp(settings: &Settings) -> Result<Option<Ntp>, String> {
    let server = settings.value("ntp_server").unwrap_or(NONE);
    if server == NONE {
        return Ok(None);
    }
    let server = Address::parse(server, Some(NTP_PORT)).map_err(|reason| format!("{server}: {reason}"))?;
    let seconds = u64::try_from(settings.number("ntp_interval")).unwrap_or_default().max(1);
    Ok(Some(Ntp { server, interval: Duration::from_secs(seconds) }))
}

/// What is announced by `mdns_mode`, and where: 1 is the network that the machine is a guest in, 2 its own one, the /24
/// of `network`. What the file says holds for mode 1. The error is for the operator.
pub(super) fn mdns(settings: &Settings, file: Option<&Mdns>, known: &[Interface]) -> Result<Option<Mdns>, String> {
    let own = settings.address("network").octets();
    let is_own = |interface: &&Interface| matches!(&interface.addr, IfAddr::V4(v4) if v4.ip.octets()[..3] == own[..3]);
    let own_ones: BTreeSet<&str> = known.iter().filter(is_own).map(|interface| interface.name.as_str()).collect();
    let usable = known.iter().filter(|interface| !interface.is_loopback()).map(|interface| interface.name.as_str());
    let interfaces: BTreeSet<&str> = match (settings.number("mdns_mode"), file) {
        (0, _) => return Ok(None),
        (1, Some(file)) => return Ok(Some(file.clone())),
        (1, None) => usable.filter(|name| !own_ones.contains(name)).collect(),
        _ => usable.filter(|name| own_ones.contains(name)).collect(),
    };
    if interfaces.is_empty() {
        let [a, b, c, _] = own;
        return Err(format!(
            "no network interface for mdns_mode {}: the setting network says that {a}.{b}.{c}.0/24 is this machine's own",
            settings.number("mdns_mode")
        ));
    }
    let name = file.map_or(MDNS_NAME, |file| &file.name).to_owned();
    Ok(Some(Mdns { name, interfaces: interfaces.into_iter().map(str::to_owned).collect() }))
}

/// Bits in a second on the serial line.
pub(super) fn bitrate(settings: &Settings) -> u32 {
    u32::try_from(settings.number("bitrate")).unwrap_or_default()
}

/// How long a period of pulses is. `file` is what the configuration file says, which a setting can't say as exactly.
pub(super) fn pulse_period(settings: &Settings, file: Option<u32>) -> Duration {
    let period = settings.number("pwm_period").unsigned_abs();
    match file.filter(|hz| pwm_period(*hz) == period) {
        Some(hz) => Duration::from_nanos(1_000_000_000 / u64::from(hz.max(1))),
        None => Duration::from_nanos(period.saturating_mul(PWM_UNIT_NANOS)),
    }
}

/// The setting for so many periods in a second.
fn pwm_period(hz: u32) -> u64 {
    (1_000_000_000 / PWM_UNIT_NANOS).div_ceil(u64::from(hz.max(1))).max(1)
}

/// What the configuration file says of things that settings name, too. What does not fit into a setting is only not
/// shown there.
pub(crate) fn presets(config: &Config) -> Vec<(String, String)> {
    let mut said: Vec<(&str, String)> = Vec::new();
    let port = config.listeners.iter().find_map(|listener| match &listener.bind {
        Bind::Tcp(address) => Some(address.port()),
        Bind::Unix { .. } => None,
    });
    said.extend(port.filter(|_| !config.listens_where_settings_say()).map(|port| ("broker_port", port.to_string())));
    if let Some(remote) = &config.script.remote {
        said.push(("mqtt_host", remote.address.host.clone()));
        said.push(("mqtt_port", remote.address.port.to_string()));
        said.push(("mqtt_ssl", u8::from(remote.tls).to_string()));
        said.extend(remote.user.clone().map(|user| ("mqtt_user", user)));
        said.extend(config.script.remote_id.clone().map(|id| ("mqtt_id", id)));
    }
    if let Some(ntp) = &config.ntp {
        let server = if ntp.server.port == NTP_PORT { ntp.server.host.clone() } else { ntp.server.to_string() };
        said.push(("ntp_server", server));
        said.push(("ntp_interval", ntp.interval.as_secs().to_string()));
    }
    if config.mdns.is_some() {
        said.push(("mdns_mode", "1".to_owned()));
    }
    let bitrate = config.serial.as_ref().and_then(|serial| serial.bitrate);
    said.extend(bitrate.map(|bitrate| ("bitrate", bitrate.to_string())));
    said.extend(config.pins.pwm_hz.map(|hz| ("pwm_period", pwm_period(hz).to_string())));
    let mut fitting = Settings::new("");
    said.retain(|(name, value)| fitting.set(name, value).is_ok());
    said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::{IfOperStatus, Ifv4Addr};

    fn set(lines: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new("midge_1");
        lines.iter().for_each(|(name, value)| drop(settings.set(name, value).unwrap()));
        settings
    }

    fn interface(name: &str, ip: &str) -> Interface {
        let ip = ip.parse().unwrap();
        let addr = IfAddr::V4(Ifv4Addr { ip, netmask: [255, 255, 255, 0].into(), prefixlen: 24, broadcast: None });
        let oper_status = IfOperStatus::Up;
        Interface { name: name.to_owned(), addr, index: None, oper_status, is_p2p: false }
    }

    #[test]
    fn the_remote_broker_is_who_the_settings_name() {
        assert_eq!(remote(&set(&[])), None);
        let (broker, id) = remote(&set(&[("mqtt_host", "broker.example"), ("mqtt_password", "unused")])).unwrap();
        assert_eq!((broker.to_string().as_str(), id.as_str()), ("mqtt://broker.example:1883", "midge_1"));
        assert_eq!((broker.user, broker.password), (None, None));
        let lines = [("mqtt_host", "::1"), ("mqtt_port", "8883"), ("mqtt_ssl", "1"), ("mqtt_user", "bob")];
        let (broker, _) = remote(&set(&[&lines[..], &[("mqtt_password", "geheim")]].concat())).unwrap();
        assert_eq!(broker.to_string(), "mqtts://[::1]:8883");
        assert_eq!(broker.password.map(|password| password.reveal().to_owned()).as_deref(), Some("geheim"));
    }

    #[test]
    fn time_comes_from_who_the_settings_name() {
        assert_eq!(ntp(&set(&[])), Ok(None));
        let found = ntp(&set(&[("ntp_server", "time.example"), ("ntp_interval", "60")])).unwrap().unwrap();
        assert_eq!((found.server.to_string().as_str(), found.interval.as_secs()), ("time.example:123", 60));
        let found = ntp(&set(&[("ntp_server", "127.0.0.1:1123")])).unwrap().unwrap();
        assert_eq!(found.server.to_string(), "127.0.0.1:1123");
        assert!(ntp(&set(&[("ntp_server", "time.example:x")])).unwrap_err().starts_with("time.example:x: "));
    }

    #[test]
    fn names_are_announced_on_the_side_that_the_mode_says() {
        let known = [interface("lo", "127.0.0.1"), interface("eth0", "10.0.0.5"), interface("ap0", "192.168.4.1")];
        let on = |mode: &str, file: Option<&Mdns>| mdns(&set(&[("mdns_mode", mode)]), file, &known);
        let mdns_on = |name: &str, interface: &str| Mdns { name: name.into(), interfaces: vec![interface.into()] };
        assert_eq!(on("0", None), Ok(None));
        assert_eq!(on("1", None), Ok(Some(mdns_on("mqtt", "eth0"))));
        assert_eq!(on("2", None), Ok(Some(mdns_on("mqtt", "ap0"))));
        let file = mdns_on("cabin", "wlan0");
        assert_eq!(on("1", Some(&file)), Ok(Some(file.clone())));
        assert_eq!(on("2", Some(&file)), Ok(Some(mdns_on("cabin", "ap0"))));
        let elsewhere = set(&[("mdns_mode", "2"), ("network", "10.9.9.0")]);
        assert!(mdns(&elsewhere, None, &known).unwrap_err().contains("10.9.9.0/24"));
    }

    #[test]
    fn pulses_and_the_serial_line_are_as_the_settings_say() {
        assert_eq!((bitrate(&set(&[])), bitrate(&set(&[("bitrate", "9600")]))), (115_200, 9600));
        let micros = |lines: &[(&str, &str)], file| pulse_period(&set(lines), file).as_nanos() as f64 / 1000.0;
        assert_eq!((micros(&[], None), micros(&[("pwm_period", "100000")], None)), (1000.0, 20_000.0));
        // What the file says is exact where the setting is rounded, unless a script has set another.
        let rounded = pwm_period(900_000).to_string();
        assert_eq!(micros(&[("pwm_period", &rounded)], Some(900_000)), 1.111);
        assert_eq!(micros(&[("pwm_period", "5000")], Some(900_000)), 1000.0);
    }

    #[test]
    fn the_files_words_are_shown_as_settings() {
        let text = "[script]\nremote = \"mqtts://bob:secret@broker.example\"\n[ntp]\nserver = \"time.example\"\n";
        let report = crate::config::check(text.as_bytes(), std::path::Path::new("midge.toml"));
        let presets = presets(&report.into_config().unwrap());
        let said: Vec<String> = presets.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let expected = ["mqtt_host broker.example", "mqtt_port 8883", "mqtt_ssl 1", "mqtt_user bob"];
        assert_eq!(said, [&expected[..], &["ntp_server time.example", "ntp_interval 300"]].concat());
    }
}
