//! Every setting, its reply, its limits, and what a restart leaves of it.
use crate::support::Bench;
use midge_node::console::{Input, Output};
use midge_node::settings::{SETTINGS, Setting};
use std::collections::BTreeMap;

/// [quirk:spellings]
#[test]
fn settings_reply_as_the_firmware_does() {
    let mut bench = Bench::open();
    for (said, reply) in [
        ("ssid net", "SSID set (auto_connect = 1)"),
        ("password x", "Password set"),
        ("auto_connect 0", "Auto Connect set"),
        ("ap_ssid mine", "AP SSID set"),
        ("ap_password 12345678", "AP Password set"),
        ("ap_password 1234567", "Password to short (min. 8)"),
        ("ap_channel 13", "AP channel set to 13"),
        ("ap_channel 14", "Invalid channel (1-13)"),
        ("ap_channel x", "Invalid channel (1-13)"),
        ("ap_open 0", "Open Auth set"),
        ("ap_on 1", "AP already on"),
        ("ap_on 0", "AP off"),
        ("ap_on 0", "AP already off"),
        ("ap_on 1", "AP on"),
        ("speed 160", "Clock speed update successful"),
        ("speed 100", "Clock speed update failed"),
        ("bitrate 9600", "Bitrate set to 9600"),
        ("system_output 2", "System output set to 2"),
        ("network 10.1.2.3", "Network set to 10.1.2.0"),
        ("dns 1.2.3.4", "DNS set to 1.2.3.4"),
        ("dns dhcp", "DNS from DHCP"),
        ("ip 1.2.3.4", "IP address set to 1.2.3.4"),
        ("ip dhcp", "IP from DHCP"),
        ("ip 1.2.3.256", "Invalid arg 1.2.3.256 (an IPv4 address)"),
        ("netmask 255.255.0.0", "IP netmask set to 255.255.0.0"),
        ("gw 1.2.3.1", "Gateway set to 1.2.3.1"),
        ("mdns_mode 2", "mDNS mode set to 2"),
        ("config_port 7778", "Config port set to 7778"),
        ("config_port 0", "WARNING: if you save this, remote console access will be disabled!~Config port set to 0"),
        ("config_port 70000", "Invalid arg 70000 (0-65535)"),
        ("config_access 0", "WARNING: if you save this, remote console access will be disabled!~Config access set"),
        ("config_access 1", "Config access set"),
        ("broker_port 1884", "Broker port set"),
        ("broker_user bob", "Broker username set"),
        ("broker_password none", "Broker password set"),
        ("broker_access 3", "Broker access set"),
        ("broker_access 4", "Invalid arg 4 (0-3)"),
        ("broker_subscriptions 99", "Broker subscriptions set"),
        ("broker_retained_messages 99", "Broker retained messages set"),
        ("broker_clients 9", "Broker max clients set"),
        ("broker_autoretain 1", "Broker autoretain set"),
        ("mqtt_host h", "MQTT host set"),
        ("mqtt_port 1", "MQTT port set"),
        ("mqtt_ssl 1", "MQTT ssl on"),
        ("mqtt_ssl 0", "MQTT ssl off"),
        ("mqtt_user u", "MQTT user set"),
        ("mqtt_password p", "MQTT password set"),
        ("mqtt_id i", "MQTT id set"),
        ("ntp_server s", "NTP server set to s"),
        ("ntp_interval 60", "NTP interval set to 60 s"),
        ("ntp_timezone -3", "NTP timezone set to -3 h"),
        ("ntp_timezone 25", "Invalid arg 25 (-24-24)"),
        ("dns_name n", "DNS name set"),
        ("pwm_period 100", "PWM period set"),
    ] {
        assert_eq!(bench.ask(&format!("set {said}")), format!("{reply}~CMD>"), "{said}");
    }
    let long = "x".repeat(300);
    assert!(bench.ask(&format!("set mqtt_host {long}")).starts_with("Invalid arg xxx"));
    assert_eq!(bench.console.settings().value("mqtt_host"), Some("h"));
    assert_eq!(bench.console.settings().value("auto_connect"), Some("0"));
    assert_eq!(bench.console.settings().value("nonsense"), None);
}

#[test]
fn changes_are_told_once_with_what_they_bring_along() {
    let mut bench = Bench::open();
    bench.ask("set ssid net");
    bench.ask("set ssid net");
    bench.ask("set ap_password 12345678");
    let changed = |name, value: &str| Output::Changed { name, value: value.into() };
    let expected = [
        changed("ssid", "net"),
        changed("auto_connect", "1"),
        changed("ap_password", "12345678"),
        changed("ap_open", "0"),
    ];
    assert_eq!(bench.asked, expected);
}

#[test]
fn what_is_set_and_not_saved_is_gone_after_a_restart() {
    let mut stored = BTreeMap::new();
    let mut bench = Bench::open();
    bench.ask("set ssid kept");
    bench.ask("set broker_password none");
    bench.ask("set broker_user none");
    bench.ask("save");
    bench.ask("set ssid lost");
    let mut bench = bench.restart(&mut stored);
    assert_eq!(bench.console.settings().value("ssid"), Some("kept"));
    assert_eq!(bench.console.settings().value("auto_connect"), Some("1"));
    bench.ask("lock pw");
    let mut bench = bench.restart(&mut stored);
    assert_eq!(bench.ask("save"), "Invalid command. Config locked~CMD>");
    assert_eq!(bench.ask("unlock pw"), "Config unlocked~CMD>");
    assert_eq!(bench.ask("lock"), "Config locked (pw: pw)~CMD>");
    bench.system("unlock pw");
    bench.ask("reset factory");
    bench.handle(Input::MayRestart { session: None, factory: true, outcome: Ok(()) });
    let bench = bench.restart(&mut stored);
    assert_eq!(bench.console.settings().value("ssid"), Some("ssid"));
    assert!(stored.is_empty());
}

/// Every setting goes through the store as it was.
#[test]
fn every_setting_survives() {
    let (mut stored, mut bench) = (BTreeMap::new(), Bench::open());
    let mut expected = Vec::new();
    for Setting { name, default, .. } in SETTINGS {
        let value = ["2", "1", "0", "160", "10.0.0.0", "abcdefgh"]
            .into_iter()
            .find(|value| {
                let said = bench.ask(&format!("set {name} {value}"));
                value != default && !["Invalid", "short", "failed"].iter().any(|word| said.contains(word))
            })
            .unwrap();
        expected.push((*name, bench.console.settings().value(name).unwrap().to_owned()));
        assert_ne!((*name, bench.console.settings().value(name)), (*name, Some(*default)), "{value}");
    }
    // `ssid` and `ap_password` bring others along: those were set after them.
    bench.ask("save");
    let bench = bench.restart(&mut stored);
    for (name, value) in expected {
        assert_eq!(bench.console.settings().value(name), Some(&*value), "{name}");
    }
}

#[test]
fn damaged_settings_are_left_out() {
    let mut bench = Bench::new();
    for (key, value) in [
        (&b"ssid"[..], &b""[..]),
        (b"ssid", b"\x02net"),
        (b"ssid", b"\x01\xff"),
        (b"nonsense", b"\x01x"),
        (b"\xff", b"\x01x"),
        (b"config_port", b"\x0170000"),
        (b"ap_channel", b"\x010"),
        (b"locked", b"\x010"),
        (b"lock_password", &[b'\x01'; 64]),
    ] {
        assert!(bench.console.restore(key, value).is_err(), "{key:?}");
    }
    assert!(!bench.console.settings().is_locked());
}

#[test]
fn what_the_configuration_file_says_goes_before_what_is_stored() {
    let config = midge_node::console::Config {
        presets: vec![("config_port".into(), "7000".into()), ("config_access".into(), "1".into())],
        ..midge_node::console::Config::default()
    };
    let mut bench = Bench::with(config);
    assert_eq!(bench.console.settings().value("config_port"), Some("7000"));
    assert_eq!(bench.connect(1, [127, 0, 0, 1]), "CMD>");
    bench.connect(2, [198, 51, 100, 1]);
    assert_eq!(bench.closed, [2]);
}
