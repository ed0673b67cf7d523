//! Each command and its reply.
use crate::support::{Bench, World};
use midge_node::console::{Act, Input, Output, Remote, SessionId};

/// Rows of a dialogue on one console: what is said, what comes back.
fn check(bench: &mut Bench, rows: &[(&str, &str)]) {
    for (said, expected) in rows {
        assert_eq!(bench.ask(said), *expected, "{said}");
    }
}

/// The dialogue of the specification, §10.
#[test]
fn the_specifications_dialogue() {
    let mut bench = Bench::open();
    check(
        &mut bench,
        &[
            ("set broker_user bob", "Broker username set~CMD>"),
            ("set foo 1", "~Invalid Command~CMD>"),
            ("set ssid", "Invalid number of arguments~CMD>"),
            ("", "\nCMD>"),
            ("lock", "No password defined~CMD>"),
            ("lock pw", "Config locked (pw: pw)~CMD>"),
            ("save", "Invalid command. Config locked~CMD>"),
            ("unlock x", ""),
        ],
    );
    bench.pass(1000);
    assert_eq!(bench.read(1), "Unlock failed. Invalid password~CMD>");
    check(
        &mut bench,
        &[
            ("unlock pw", "Config unlocked~CMD>"),
            ("publish local t v keep", "Invalid arg keep~CMD>"),
            ("quit", "Quitting console~CMD>"),
        ],
    );
    assert_eq!(bench.closed, [1]);
}

#[test]
fn short_commands() {
    let mut bench = Bench::open();
    check(
        &mut bench,
        &[
            ("  \r", "\nCMD>"),
            ("nonsense", "~Invalid Command~CMD>"),
            ("show nonsense", "~Invalid Command~CMD>"),
            ("save", "Config saved~CMD>"),
            ("save config", "Config saved~CMD>"),
            ("save all", "~Invalid Command~CMD>"),
            ("save_retained", "Saved retained topics successfully~CMD>"),
            ("delete_retained", "Deleted retained topics~CMD>"),
            ("time", "Sat 09:40:00~CMD>"),
            ("scan", "Scanning...~CMD>"),
            ("unlock", "Invalid number of arguments~CMD>"),
            ("help quit", "quit: ends this console~CMD>"),
            ("help nonsense", "~Invalid Command~CMD>"),
            ("help set broker_clients", "set broker_clients <0 to 65535>: at once~0 until it is set~CMD>"),
            (
                "help set ip",
                "set ip <an IPv4 address, or dhcp>: kept, shown, and told to the hook command~dhcp until it is set~CMD>",
            ),
            (
                "help set mqtt_password",
                "set mqtt_password <0 to 31 bytes>: counts at the next start, if it is saved~CMD>",
            ),
            ("help set nonsense", "Invalid arg nonsense~CMD>"),
            ("show backlog", "CMD>"),
        ],
    );
    assert_eq!(bench.acts, [Act::ForgetRetained]);
    assert_eq!(bench.asked, [Output::Scan { session: SessionId(1) }]);
    bench.handle(midge_node::console::Input::Scanned { session: SessionId(1), networks: None });
    assert_eq!(bench.read(1), "\rscan fail !!!~CMD>");
    let networks = Some("4,\"net\",-60,\"00:11:22:33:44:55\",6\n0,\"\x1b[2J\",-80,\"66:77:88:99:aa:bb\",1\n");
    bench.handle(midge_node::console::Input::Scanned { session: SessionId(1), networks });
    let expected = "\r4,\"net\",-60,\"00:11:22:33:44:55\",6~0,\"\u{fffd}[2J\",-80,\"66:77:88:99:aa:bb\",1~CMD>";
    assert_eq!(bench.read(1), expected);
}

#[test]
fn help_says_the_firmwares_lines_first() {
    let help = Bench::open().ask("help");
    let lines: Vec<&str> = help.split('~').collect();
    assert_eq!(lines[0], "show [config|stats|mqtt]");
    assert_eq!(lines[20], "set [mqtt_host|mqtt_port|mqtt_ssl|mqtt_user|mqtt_password|mqtt_id] <val>");
    assert_eq!(lines.last(), Some(&"CMD>"));
}

#[test]
fn messages_are_published() {
    let mut bench = Bench::open();
    check(
        &mut bench,
        &[
            ("publish local a/b hello", "Published topic~CMD>"),
            ("publish local a/b hello\\ world retained", "Published topic~CMD>"),
            ("publish local a/%62 %00%ff", "Published topic~CMD>"),
            ("publish remote a b", "Invalid arg remote~CMD>"),
            ("publish", "Invalid number of arguments~CMD>"),
            ("publish local a", "Invalid number of arguments~CMD>"),
            ("publish local a b retained x", "Invalid number of arguments~CMD>"),
            ("publish nowhere a b", "~Invalid Command~CMD>"),
            ("publish local a/# b", "Invalid arg a/#~CMD>"),
            ("publish local $SYS/x b", "Invalid arg $SYS/x~CMD>"),
            ("publish local %ff b", "Invalid arg \u{fffd}~CMD>"),
        ],
    );
    bench.world.remote = Remote::Connected;
    assert_eq!(bench.ask("publish remote site7/x on"), "Published topic~CMD>");
    let published: Vec<(bool, String, Vec<u8>, bool)> = bench
        .acts
        .iter()
        .map(|act| match act {
            Act::Publish(message) => (false, message),
            Act::PublishRemote(message) => (true, message),
            other => panic!("{other:?}"),
        })
        .map(|(remote, m)| (remote, m.topic().as_str().into(), m.payload().to_vec(), m.retain()))
        .collect();
    let row = |remote, topic: &str, payload: &[u8], retain| (remote, topic.to_owned(), payload.to_vec(), retain);
    let expected = [
        row(false, "a/b", b"hello", false),
        row(false, "a/b", b"hello world", true),
        row(false, "a/b", b"\0\xff", false),
        row(true, "site7/x", b"on", false),
    ];
    assert_eq!(published, expected);
}

#[test]
// A flat table.
fn the_configuration_is_shown_in_the_firmwares_order() {
    let mut bench = Bench::open();
    let shown = bench.ask("show");
    let expected = [
        "Version midge 1 (build: test)",
        "STA: SSID:ssid PW:password [AutoConnect:0]",
        "AP:  SSID:MyAP PW:none [open] IP:192.168.4.1/24",
        "Network console access on port 7777 (mode 3)",
        "MQTT broker max. subscription: 30",
        "MQTT broker max. retained messages: 30",
        "MQTT client disabled",
        "Clock speed: 80",
        "Serial bitrate: 115200",
        "CMD>",
    ];
    assert_eq!(shown, expected.join("~"));
    assert_eq!(bench.ask("show config"), shown);
    for line in [
        "set ssid net",
        "set password secret88",
        "set ap_password hidden88",
        "set ap_on 0",
        "set ip 10.0.0.9",
        "set netmask 255.0.0.0",
        "set gw 10.0.0.1",
        "set dns 10.0.0.2",
        "set mdns_mode 1",
        "set config_access 0",
        "set broker_autoretain 1",
        "set broker_port 1884",
        "set broker_clients 5",
        "set broker_user bob",
        "set broker_password geheim",
        "set broker_access 1",
        "set mqtt_host broker.example",
        "set mqtt_password s3cret",
        "set mqtt_ssl 1",
        "set ntp_server none",
        "set speed 160",
        "set bitrate 9600",
        "set system_output 1",
    ] {
        assert!(bench.ask(line).ends_with("~CMD>"), "{line}");
    }
    bench.world.remote = Remote::Disconnected;
    let expected = [
        "Version midge 1 (build: test)",
        "STA: SSID:net PW:secret88",
        "AP:  SSID:MyAP PW:hidden88 [disabled] IP:192.168.4.1/24",
        "Static IP: 10.0.0.9 Netmask: 255.0.0.0 Gateway: 10.0.0.1",
        "DNS: 10.0.0.2",
        "mDNS: STA interface",
        "No network console access",
        "MQTT broker max. subscription: 30",
        "MQTT broker max. retained messages: 30 (auto saved)",
        "MQTT broker port: 1884",
        "MQTT broker max. clients: 5",
        "MQTT broker username: bob",
        "MQTT broker password: geheim",
        "MQTT broker: local access only",
        "MQTT client enabled",
        "MQTT client host: broker.example",
        "MQTT client port: 1883",
        "MQTT client user: none",
        "MQTT client password: s3cret",
        "MQTT client id: midge_c0ffee",
        "MQTT SSL: on",
        "Clock speed: 160",
        "Serial bitrate: 9600",
        "System output: command reply",
        "CMD>",
    ];
    assert_eq!(bench.ask("show config"), expected.join("~"));
    bench.ask("lock pw");
    let locked = bench.ask("show config");
    for secret in ["secret88", "hidden88", "geheim", "s3cret"] {
        assert!(!locked.contains(secret), "{secret}");
    }
    assert_eq!(locked.matches("***").count(), 4);
}

#[test]
fn statistics_are_shown() {
    let mut bench = Bench::open();
    bench.pass(3_723_000);
    let mut expected = [
        "System uptime: 1:02:03",
        "Free mem: 12345",
        "Interpreter loop: 7",
        "External IP-address: 192.0.2.7",
        "0 Stations connected to AP",
        "NTP synced: 10:42:03 ",
        "CMD>",
    ];
    // The console was silent for too long and is closed: another one asks.
    bench.connect(2, [127, 0, 0, 1]);
    assert_eq!(bench.ask_as(2, "show stats"), expected.join("~"));
    bench.world.clock_offset = None;
    bench.ask_as(2, "set ap_on 0");
    expected[4] = "AP disabled";
    expected[5] = "NTP no sync";
    assert_eq!(bench.ask_as(2, "show stats"), expected.join("~"));
}

/// [quirk:spellings]
#[test]
fn mqtt_script_and_variables_are_shown() {
    let mut bench = Bench::open();
    let nobody = "Current clients: 0~Current subsriptions:~Retained topics:~\"tank/level\" len: 2 (QoS 1)~\
                  MQTT client disconnected~Script disabled~CMD>";
    assert_eq!(bench.ask("show mqtt"), nobody);
    assert_eq!(bench.ask("show script"), "CMD>");
    assert_eq!(bench.ask("show vars"), "@1: ~@2: two~@3: ~@4: ~@5: ~@6: ~@7: ~@8: ~@11: eleven~CMD>");
    bench.world = World {
        remote: Remote::Connected,
        script: Some(b"on init\ndo\n\tprintln \x1b1\n".to_vec()),
        is_running: true,
        clients: vec!["phone".into(), "pump".into()],
        ..World::default()
    };
    let somebody = "Current clients: 2~phone, pump~Current subsriptions:~phone: \"home/#\" (QoS 1)~\
                    pump: \"home/#\" (QoS 1)~local: \"a/+\" (QoS 0)~Retained topics:~\"tank/level\" len: 2 (QoS 1)~\
                    MQTT client connected~Script enabled~CMD>";
    assert_eq!(bench.ask("show mqtt"), somebody);
    assert_eq!(bench.ask("show script"), "\r   1: on init\n\r   2: do\n\r   3: \tprintln 1~--end--~CMD>");
    assert_eq!(bench.ask("show script 3"), "\r   3: \tprintln 1~--end--~CMD>");
    assert_eq!(bench.ask("show script 99"), "~--end--~CMD>");
    assert_eq!(bench.ask("show script x"), "Invalid arg x~CMD>");
    assert!(bench.ask("show vars").starts_with("level: 80~mode: \u{fffd}[2J~@1: ~"));
}

#[test]
fn flash_variables_logging_time_and_backlog_are_set() {
    let mut bench = Bench::open();
    check(
        &mut bench,
        &[
            ("set @1 on", "@1 written to flash~CMD>"),
            ("set @64 x", "@64 written to flash~CMD>"),
            ("set @0 x", "Invalid flash slot number~CMD>"),
            ("set @x x", "Invalid flash slot number~CMD>"),
            ("set script_logging 1", "Script logging set~CMD>"),
            ("set script_logging 2", "Invalid arg 2~CMD>"),
            ("set ntp_time 10:00:00", "Time set to 10:00:00 ~CMD>"),
            ("set ntp_time 25:00:00", "Time format hh:mm:ss~CMD>"),
            ("set ntp_weekday Tue", "Weekday set to Tue~CMD>"),
            ("set ntp_weekday Tuesday", "Set weekday failed~CMD>"),
            ("set backlog 100", "Backlog set to 100 chars~CMD>"),
            ("set backlog 50", "Backlog already set~CMD>"),
            ("set backlog 0", "Backlog off~CMD>"),
            ("set backlog 99999999999", "No memory~CMD>"),
            ("set backlog x", "Invalid arg x~CMD>"),
        ],
    );
    let expected = [
        Act::Flash { slot: 1, value: b"on".to_vec() },
        Act::Flash { slot: 64, value: b"x".to_vec() },
        Act::Logging(true),
        Act::TimeOfDay(36_000),
        Act::Weekday(1),
    ];
    assert_eq!(bench.acts, expected);
}

#[test]
fn a_reset_restarts_and_a_factory_reset_forgets() {
    let mut bench = Bench::open();
    bench.ask("set ssid net");
    bench.ask("save");
    assert_eq!(bench.ask("reset all"), "~Invalid Command~CMD>");
    bench.asked.clear();
    let session = Some(SessionId(1));
    let may = |bench: &mut Bench, factory, outcome| bench.handle(Input::MayRestart { session, factory, outcome });
    assert_eq!(bench.ask("reset"), "CMD>");
    assert_eq!(bench.asked, [Output::MayRestart { session, factory: false }]);
    may(&mut bench, false, Ok(()));
    assert!(bench.asked.contains(&Output::Restart) && bench.acts.is_empty());
    assert_eq!(bench.console.settings().value("ssid"), Some("net"));
    bench.asked.clear();
    // Before anything has changed.
    bench.ask("reset factory");
    assert_eq!(bench.asked, [Output::MayRestart { session, factory: true }]);
    may(&mut bench, true, Err("port 80 can't be opened"));
    assert_eq!(bench.read(1), "\rNo restart: port 80 can't be opened~CMD>");
    assert!(!bench.asked.contains(&Output::Restart) && bench.acts.is_empty());
    assert_eq!(bench.console.settings().value("ssid"), Some("net"));
    may(&mut bench, true, Ok(()));
    assert!(bench.asked.contains(&Output::Restart));
    assert_eq!(bench.console.settings().value("ssid"), Some("ssid"));
    assert_eq!(bench.acts, [Act::DeleteScript]);
}
