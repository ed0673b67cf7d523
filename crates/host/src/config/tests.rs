//! Files as operators write them, and what they are told.
use super::*;
use crate::config::keys::SECTIONS;
use crate::config::native::{header, names};
use proptest::prelude::*;
use std::time::Duration;

fn port(listener: &Listener) -> u16 {
    match &listener.bind {
        Bind::Tcp(address) => address.port(),
        Bind::Unix { .. } => 0,
    }
}

fn toml(text: &str) -> Report {
    check(text.as_bytes(), Path::new("midge.toml"))
}

fn conf(text: &str) -> Report {
    check(text.as_bytes(), Path::new("mosquitto.conf"))
}

fn good(report: Report) -> Config {
    report.into_config().unwrap_or_else(|report| panic!("{report}"))
}

/// Each row: a file, and for each problem its place with key and a part of what is said.
fn told(read: fn(&str) -> Report, rows: &[(&str, &[&str])]) {
    for (text, problems) in rows {
        let report = read(text);
        let lines: Vec<String> = report.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), problems.len(), "{text}\n{report}");
        for (line, expected) in lines.iter().zip(*problems) {
            let (place, part) = expected.split_once(" … ").unwrap_or((expected, ""));
            let name = report.path().display();
            assert!(line.starts_with(&format!("{name}:{place}")), "{text}\n{line}\nnot at {place}");
            assert!(line.contains(part), "{text}\n{line}\ndoes not say: {part}");
        }
        assert_eq!(report.is_ok(), report.problems().iter().all(|p| p.severity == Severity::Note));
    }
}

#[test]
fn without_a_word_only_this_machine_is_served() {
    let config = good(toml(""));
    assert_eq!(config, Config::default());
    assert_eq!(config, good(toml("# nothing\n[site]\n[mesh]\n[limits]\n[log]\n")));
    let binds: Vec<String> = config.listeners.iter().map(|listener| listener.bind.to_string()).collect();
    assert_eq!(binds, ["127.0.0.1:1883"]);
    assert_eq!(config.site.sync, SyncMode::Os);
}

#[test]
fn everything_at_once() {
    let config = good(toml(
        r##"
        [site]
        name = "cabin"
        data = "/var/lib/midge"
        sync = "disk"
        [[listener]]
        bind = "localhost:1883"
        [[listener]]
        bind = "[::]:1884"
        allow_anonymous = true
        protocol = "mqtt"
        [mesh]
        port = 7_883
        peers = ["a.example:7883", "[2001:db8::1]:7"]
        mailbox = ["mqtt://u:p@b.example"]
        stun = ["s.example"]
        turn = ["turn:u:p@t.example"]
        lan = false
        dht = false
        export = ["home/#"]
        import = []
        session_scope = "site"
        [limits]
        packet_max = "1 MiB"
        keep_alive_max = "10 min"
        session_expiry_max = "30d"
        inflight_max = 0x10
        queue_bytes_max = 2_097_152
        tombstone_life = 86400
        queue_full = "drop"
        max_qos = 1
        retain_available = false
        [log]
        level = "debug"
        to = "/var/log/midge.log"
        "##,
    ));
    assert_eq!(config.site.name.as_deref(), Some("cabin"));
    assert_eq!(config.site.data.as_deref(), Some(Path::new("/var/lib/midge")));
    assert_eq!(config.site.sync, SyncMode::Disk);
    let binds: Vec<String> = config.listeners.iter().map(|listener| listener.bind.to_string()).collect();
    assert_eq!(binds, ["127.0.0.1:1883", "[::]:1884"]);
    assert_eq!(config.mesh.port, 7_883);
    assert_eq!(
        config.mesh.peers.iter().map(Address::to_string).collect::<Vec<_>>(),
        ["a.example:7883", "[2001:db8::1]:7"]
    );
    assert_eq!(config.mesh.mailbox[0].to_string(), "mqtt://b.example:1883");
    assert_eq!(config.mesh.stun[0].to_string(), "s.example:3478");
    assert_eq!(config.mesh.turn[0].to_string(), "turn:t.example:3478");
    assert_eq!(config.mesh.export[0].as_str(), "home/#");
    assert!(config.mesh.import.is_empty());
    assert_eq!((config.limits.packet_max, config.limits.inflight_max), (1 << 20, 16));
    assert_eq!(config.limits.keep_alive_max, Duration::from_secs(600));
    assert_eq!(config.limits.session_expiry_max, Duration::from_secs(30 * 86_400));
    assert_eq!(config.limits.queue_bytes_max, 2 << 20);
    assert_eq!(config.limits.tombstone_life, Duration::from_secs(86_400));
    assert_eq!(config.queue_full, QueueFull::Drop);
    assert_eq!((config.max_qos, config.retain_available), (mqtt::QoS::AtLeastOnce, false));
    assert_eq!(
        config.log,
        Log { level: Level::Debug, to: vec![LogTarget::File("/var/log/midge.log".into())], ..Log::default() }
    );
}

#[test]
fn every_example_of_a_key_is_accepted_and_every_default_too() {
    for section in SECTIONS {
        for key in section.keys {
            let bind = match (section.name, key.name) {
                ("listener", "mode") => "bind = \"unix:/run/m.sock\"\n".to_owned(),
                ("listener", name) if name != "bind" => "bind = \"127.0.0.1:1\"\n".to_owned(),
                ("bridge", name) => bridge_around(name),
                _ => String::new(),
            };
            let needed = match (section.name, key.name) {
                ("console", "serial") => "[serial]\ndevice = \"/dev/ttyS0\"\n",
                _ => "",
            };
            let text = format!("{}\n{bind}{} = {}\n{needed}", header(section), key.name, key.example);
            good(toml(&text));
            // One value, and no words around it.
            let value = key.default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let default = value.filter(|value| !value.contains('`')).unwrap_or_default();
            if default.starts_with(['"', '[', '0']) || default == "false" {
                assert_eq!(
                    good(toml(&format!("{}\n{bind}{} = {default}\n", header(section), key.name))).limits,
                    Limits::default()
                );
            }
        }
    }
    for limit in LIMITS {
        let quote = if limit.unit == Unit::Count { "" } else { "\"" };
        let text = format!("[limits]\n{} = {quote}{}{quote}\n", limit.name, limit.unit.show(limit.default));
        assert_eq!(good(toml(&text)), Config::default(), "{text}");
    }
}

/// What a bridge must have besides this key.
fn bridge_around(key: &str) -> String {
    let mut lines = vec![("name", "\"a\""), ("address", "\"b\""), ("topics", "[\"x\"]")];
    match key {
        "bridge_certfile" => lines.extend([("bridge_cafile", "\"c\""), ("bridge_keyfile", "\"k\"")]),
        "bridge_keyfile" => lines.extend([("bridge_cafile", "\"c\""), ("bridge_certfile", "\"c\"")]),
        "bridge_insecure" | "bridge_alpn" | "bridge_tls_version" => lines.push(("bridge_cafile", "\"c\"")),
        _ => {}
    }
    lines.iter().filter(|(name, _)| *name != key).map(|(name, value)| format!("{name} = {value}\n")).collect()
}

#[test]
fn keys_are_unique() {
    for section in SECTIONS {
        let mut all: Vec<&str> = names(section).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), names(section).count(), "{}", section.name);
    }
}

#[test]
fn unknown_words() {
    told(
        toml,
        &[
            ("[site]\nnmae = \"x\"", &["2:1: site.nmae: … did you mean name?"]),
            ("[mesh]\n  maibox = []", &["2:3: mesh.maibox: … did you mean mailbox?"]),
            ("[limits]\nqueue_message_max = 5", &["2:1: limits.queue_message_max: … did you mean queue_messages_max?"]),
            ("[sites]", &["1:2: sites: … did you mean site?"]),
            ("[weather]", &["1:2: weather: … [site], [[listener]], [access], [mesh]"]),
            ("name = \"x\"", &["1:1: name: … belongs below [site]"]),
            ("packet_max = 5", &["1:1: packet_max: … belongs below [limits]"]),
            ("[mesh]\nsync = \"os\"", &["2:1: mesh.sync: … belongs below [site]"]),
            ("[site]\ntemperature = 5", &["2:1: site.temperature: … knows name, data, sync"]),
            ("[site]\n\"a b\" = 5", &["2:1: site.\"a b\": … unknown"]),
        ],
    );
}

#[test]
fn wrong_values_with_what_to_write() {
    told(
        toml,
        &[
            ("[site]\nname = 5", &["2:8: site.name: … found an integer: write text in quotes"]),
            ("[site]\nname = \"\"", &["2:8: site.name: … 1 to 64"]),
            ("[site]\nname = \"a/b\"", &["2:8: site.name: … without spaces"]),
            ("[site]\nname = \"a\\u0000\"", &["2:8: site.name: … control"]),
            ("[site]\nsync = \"ram\"", &["2:8: site.sync: … write \"os\" or \"disk\""]),
            ("[mesh]\nport = 70000", &["2:8: mesh.port: … found 70000: write a number from 0"]),
            ("[mesh]\nport = \"7\"", &["2:8: mesh.port: … without quotes"]),
            ("[mesh]\npeers = \"a:1\"", &["2:9: mesh.peers: … write a list"]),
            (
                "[mesh]\npeers = [\"a:1\", \"b\", 3, \"c:0\"]",
                &[
                    "2:17: mesh.peers: … port is missing",
                    "2:22: mesh.peers: … text in quotes",
                    "2:25: mesh.peers: … 1 to 65535",
                ],
            ),
            ("[mesh]\nexport = [\"a#\"]", &["2:11: mesh.export: … such as \"home/#\""]),
            ("[mesh]\nexport = [\"$share/g/a\"]", &["2:11: mesh.export: … plain filter"]),
            ("[limits]\ninflight_max = 0", &["2:16: limits.inflight_max: … from 1 to 65535"]),
            ("[limits]\ninflight_max = \"5\"", &["2:16: limits.inflight_max: … without quotes"]),
            ("[limits]\ninflight_max = -5", &["2:16: limits.inflight_max: … found -5"]),
            ("[limits]\npacket_max = \"10 megs\"", &["2:14: limits.packet_max: … \"10 MiB\""]),
            ("[limits]\npacket_max = 1.5", &["2:14: limits.packet_max: … found a float"]),
            ("[limits]\npacket_max = 99999999999999999999999", &["2:14: limits.packet_max: … from 1 KiB"]),
            ("[limits]\ntombstone_life = \"1s\"", &["2:18: limits.tombstone_life: … from 1h"]),
            ("[limits]\npacket_max = \"100 MiB\"", &["2:14: limits.packet_max: … queue_bytes_max (64 MiB) is smaller"]),
            (
                "[limits]\nqueue_bytes_max = \"1 MiB\"",
                &["2:19: limits.queue_bytes_max: … smaller than packet_max (16 MiB)"],
            ),
            ("[log]\nto = \"file\"", &["2:6: log.to: … \"/PATH\""]),
            ("[log]\nto = [\"stderr\", \"none\"]", &["2:17: log.to: … write \"stderr\""]),
            ("[log]\ntime = \"%!\"", &["2:8: log.time: … strftime"]),
            ("[log]\nfacility = \"local8\"", &["2:12: log.facility: … local7"]),
            ("[site]\nuser = \"\"", &["2:8: site.user: … name of a user"]),
            ("mesh = 3", &["1:1: mesh: … write [mesh] on a line"]),
            ("[listener]\nbind = \"127.0.0.1:1\"", &["1:1: listener: … write [[listener]]"]),
            ("listener = [1]", &["1:13: listener: … write [[listener]]"]),
        ],
    );
}

#[test]
fn a_console_that_others_reach_must_be_meant() {
    told(
        toml,
        &[
            ("[console]\nbind = \"0.0.0.0:7777\"", &["2:8: console.bind: … write access = \"internal\""]),
            ("[console]\nbind = \"nowhere\"", &["2:8: console.bind:"]),
            ("[console]\naccess = \"all\"", &["2:10: console.access: … write \"none\" or \"internal\""]),
            ("[console]\nserial = true", &["2:10: console.serial: … write [serial] device"]),
            ("[console]\nport = 7777", &["2:1: console.port:"]),
            ("[limits]\nconsole_sessions_max = 0", &["2:24: limits.console_sessions_max: … from 1 to 64"]),
        ],
    );
    let config = |text: &str| good(toml(text)).console;
    let open = config("[console]\nbind = \"0.0.0.0:7777\"\naccess = \"internal\"");
    assert_eq!((open.bind, open.access), (ConsoleBind::At("0.0.0.0:7777".parse().unwrap()), Some(1)));
    assert_eq!(config("[console]\nbind = \"off\"").bind, ConsoleBind::Off);
    assert_eq!(config("").bind, ConsoleBind::Loopback);
}

#[test]
fn listeners_that_others_reach_must_be_meant() {
    told(
        toml,
        &[
            ("[[listener]]\nbind = \"0.0.0.0:1883\"", &["2:8: listener.bind: … write allow_anonymous = true"]),
            (
                "[[listener]]\nbind = \"[::]:1883\"\nallow_anonymous = false",
                &["3:19: listener.allow_anonymous: … there is no password_file"],
            ),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\nallow_anonymous = false",
                &["3:19: listener.allow_anonymous: … there is no password_file"],
            ),
            (
                "[[listener]]\nbind = \"0.0.0.0:1883\"\nallow_anonymous = 1",
                &["3:19: listener.allow_anonymous: … true or false"],
            ),
            ("[[listener]]\nallow_anonymous = true", &["1:1: listener.bind: … write bind ="]),
            ("[[listener]]\nbind = 1883", &["2:8: listener.bind: … \"127.0.0.1:1883\""]),
            ("[[listener]]\nbind = \"*:1883\"", &["2:8: listener.bind: … \"[::]:1883\""]),
            ("[[listener]]\nbind = \"127.0.0.1\"", &["2:8: listener.bind: … port is missing"]),
            ("[[listener]]\nbind = \"my.host:1883\"", &["2:8: listener.bind: … IP address of this machine"]),
            (
                "[[listener]]\nbind = \"127.0.0.1:7\"\n[[listener]]\nbind = \"127.0.0.1:7\"",
                &["4:8: listener.bind: … another port"],
            ),
        ],
    );
    assert_eq!(
        good(toml("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"")).listeners.len(),
        2
    );
}

#[test]
fn listeners_of_every_kind() {
    let config = good(toml(
        r#"
        [[listener]]
        bind = "127.0.0.1:8883"
        interface = "lo"
        connections_max = 7
        tls = { cert = "/c", key = "/k", ca = "/a", require_certificate = true, crl = "/r", user_name = "cn", version_min = "1.3" }
        [[listener]]
        bind = "unix:/run/m.sock"
        mode = "660"
        [[listener]]
        bind = "127.0.0.1:8080"
        protocol = "websockets"
        proxy_protocol = true
        [listener.tls]
        cert = "/c"
        key = "/k"
        "#,
    ));
    let shown: Vec<String> = config.listeners.iter().map(Listener::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:8883 (TLS)", "unix:/run/m.sock", "127.0.0.1:8080 (WebSocket over TLS)"]);
    let tls = Tls {
        certificate: "/c".into(),
        key: "/k".into(),
        authorities: vec!["/a".into()],
        require_certificate: true,
        revoked: Some("/r".into()),
        user_name: CertificateName::CommonName,
        version_min: TlsVersion::V1_3,
    };
    let first = &config.listeners[0];
    assert_eq!(
        (first.tls.as_ref(), first.connections_max, first.interface.as_deref()),
        (Some(&tls), Some(7), Some("lo"))
    );
    assert_eq!(config.listeners[1].bind, Bind::Unix { path: "/run/m.sock".into(), mode: Some(0o660) });
    assert!(config.listeners[2].proxy_protocol && !first.proxy_protocol);
}

#[test]
fn listeners_that_do_not_fit_together() {
    told(
        toml,
        &[
            ("[[listener]]\nbind = \"127.0.0.1:1\"\ntls = {}", &["3:7: listener.tls: … write cert ="]),
            ("[[listener]]\nbind = \"127.0.0.1:1\"\ntls = { cert = \"/c\" }", &["3:7: listener.tls: … write key ="]),
            ("[[listener]]\nbind = \"127.0.0.1:1\"\ntls = true", &["3:7: listener.tls: … write { cert ="]),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\ntls = { cert = 5, key = \"/k\" }",
                &["3:16: listener.tls.cert: … text in quotes"],
            ),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\ntls = { cret = \"/c\", cert = \"/c\", key = \"/k\" }",
                &["3:9: listener.tls.cret: … did you mean cert?"],
            ),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\ntls = { cert = \"/c\", key = \"/k\", require_certificate = true }",
                &["3:7: listener.tls: … write ca ="],
            ),
            ("[[listener]]\nbind = \"127.0.0.1:1\"\nmode = \"660\"", &["3:8: listener.mode: … Unix socket"]),
            ("[[listener]]\nbind = \"unix:/x\"\nmode = \"888\"", &["3:8: listener.mode: … octal"]),
            ("[[listener]]\nbind = \"unix:x\"", &["2:8: listener.bind: … whole path"]),
            ("[[listener]]\nbind = \"unix:/x\"\ninterface = \"lo\"", &["3:13: listener.interface: … no network"]),
            (
                "[[listener]]\nbind = \"unix:/x\"\n[[listener]]\nbind = \"unix:/x\"",
                &["4:8: listener.bind: … another path"],
            ),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\nconnections_max = 0",
                &["3:19: listener.connections_max: … from 1"],
            ),
            (
                "[[listener]]\nbind = \"127.0.0.1:1\"\nprotocol = \"unix\"",
                &["3:12: listener.protocol: … \"mqtt\" or \"websockets\""],
            ),
        ],
    );
}

#[test]
fn a_mosquitto_conf_with_listeners_of_every_kind() {
    let config = good(conf(
        "per_listener_settings true\nlistener 8883\nsocket_domain ipv4\nallow_anonymous true\ncertfile /c\nkeyfile /k\n\
         cafile /a\ncapath /d\nrequire_certificate true\nuse_identity_as_username true\ncrlfile /r\n\
         tls_version tlsv1.3\nmax_connections 5\nlistener 9001 127.0.0.1\nprotocol websockets\n\
         allow_anonymous true\nenable_proxy_protocol 2\nbind_interface lo\nlistener 0 /run/m q.sock\n\
         allow_anonymous true\nlistener 8884 ::1\nallow_anonymous true\ncertfile /c\nkeyfile /k\ncafile /a\n",
    ));
    let shown: Vec<String> = config.listeners.iter().map(Listener::to_string).collect();
    assert_eq!(shown, ["0.0.0.0:8883 (TLS)", "127.0.0.1:9001 (WebSocket)", "unix:/run/m q.sock", "[::1]:8884 (TLS)"]);
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.authorities, [Path::new("/a"), Path::new("/d")]);
    assert_eq!((tls.require_certificate, tls.user_name), (true, CertificateName::CommonName));
    assert_eq!((tls.revoked.as_deref(), tls.version_min), (Some(Path::new("/r")), TlsVersion::V1_3));
    assert_eq!(config.listeners[0].connections_max, Some(5));
    let second = &config.listeners[1];
    assert_eq!((second.proxy_protocol, second.interface.as_deref(), second.connections_max), (true, Some("lo"), None));
    // As mosquitto: whoever needs no certificate is not asked for one.
    assert_eq!(config.listeners[3].tls.as_ref().unwrap().authorities, Vec::<PathBuf>::new());
}

#[test]
fn what_is_not_built_is_refused_with_its_line() {
    told(
        toml,
        &[
            ("[mesh]\nlan = true", &["2:7: mesh.lan: … not built yet"]),
            ("[mesh]\ndht = true", &["2:7: mesh.dht: … not built yet"]),
            ("[mesh]\ndht = [\"router.example:6881\"]", &["2:7: mesh.dht: … not built yet"]),
            ("[mesh]\nsession_scope = \"mesh\"", &["2:17: mesh.session_scope: … not built yet"]),
            ("[mesh]\nmailbox = [\"wss://b.example\"]", &["2:12: mesh.mailbox: … not reached over HTTP"]),
            ("[rules]\nfile = \"x\"", &["1:2: rules: … scripts stand in [script]"]),
        ],
    );
    for later in keys::NOT_BUILT {
        let text = if later.section.is_empty() {
            format!("[{}]", later.name)
        } else {
            format!("[[{}]]\nbind = \"127.0.0.1:1\"\n{} = 1", later.section, later.name)
        };
        let report = toml(&text);
        assert!(report.to_string().contains(later.reason) && !report.is_ok(), "{report}");
    }
}

#[test]
fn all_problems_are_listed_in_the_order_of_the_file() {
    told(
        toml,
        &[(
            "[mesh]\nport = -1\nlan = true\n[site]\nnmae = 1\nsync = 2\n[[listener]]\nbind = 3\n",
            &["2:8: mesh.port", "3:7: mesh.lan", "5:1: site.nmae", "6:8: site.sync", "8:8: listener.bind"],
        )],
    );
}

#[test]
fn what_is_not_toml() {
    told(
        toml,
        &[
            ("[site]\nname = cabin", &["2:8: not TOML: … quoted"]),
            ("[site]\nname = \"a\"\nname = \"b\"", &["3:1: not TOML: … duplicate key"]),
            ("[site", &["1:6: not TOML: … "]),
            ("öl = ", &["1:1: not TOML: … invalid unquoted key", "1:6: not TOML: … quoted"]),
        ],
    );
}

#[test]
fn files_that_are_no_text() {
    let report = check(b"[site]\nname = \"\xc3\xa4\xff\"", Path::new("x.toml"));
    assert_eq!(report.to_string(), "x.toml:2:10: the byte 0xff is not UTF-8; save the file as UTF-8 text");
    let report = check(&vec![b'#'; FILE_BYTES_MAX as usize + 1], Path::new("x.toml"));
    assert!(report.to_string().contains("longer than 1 MiB"));
    assert!(good(check(b"\xef\xbb\xbf[site]\nname = \"bom\"", Path::new("x.toml"))).site.name.is_some());
    let report = read(Path::new("/nonexistent/midge.toml"));
    assert!(!report.is_ok() && report.to_string().contains("can't be read"), "{report}");
}

#[test]
fn a_flood_of_problems_is_cut() {
    let text: String = (0..5_000).map(|number| format!("x{number} = 1\n")).collect();
    let report = toml(&text);
    assert_eq!(report.problems().len(), 200);
    assert!(report.to_string().ends_with("4800 more problems are not listed"));
    assert!(!report.is_ok());
}

#[test]
fn the_same_for_programs() {
    let json = toml("[site]\nnmae = 1").to_json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["line"], 2);
    assert_eq!(json["problems"][0]["key"], "site.nmae");
    assert_eq!(json["problems"][0]["severity"], "error");
    assert_eq!(toml("").to_json()["ok"], true);
}

#[test]
fn secrets_are_never_shown() {
    for text in [
        "[mesh]\nmailbox = [\"mqtt://user:hunter2@b.example:0\"]",
        "[mesh]\nmailbox = [\"wss://user:hunter2@b.example\"]",
        "[mesh]\nturn = [\"turn:user:hunter2@\"]",
        "[mesh]\nturn = [\"turn:user:hunter2\"]",
        "[mesh]\nturn = [\"hunter2\"]",
    ] {
        let report = toml(text);
        assert!(!report.is_ok());
        assert!(!format!("{report} {report:?} {}", report.to_json()).contains("hunter2"), "{report}");
    }
    let config = good(toml("[mesh]\nturn = [\"turn:user:hunter2@t.example\"]\nmailbox = [\"mqtt://u:hunter2@b\"]"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_format_is_told_by_name_then_by_contents() {
    for (name, text, is_native) in [
        ("a.toml", "listener 1883", true),
        ("a.conf", "[site]", false),
        ("a", "# c\n\n[site]\nname = \"x\"", true),
        ("a", "# c\nlistener 1883\nallow_anonymous true", false),
        ("a", "site.name = \"x\"", true),
        ("a", "", true),
    ] {
        let expected = if is_native { Format::Native } else { Format::Mosquitto };
        assert_eq!(Format::of(Path::new(name), text), expected, "{name} {text}");
    }
}

#[test]
fn a_mosquitto_conf() {
    let config = good(conf(
        "# comment\n\nlistener 1883\nlistener 1884 127.0.0.1\nprotocol mqtt\nallow_anonymous true\npersistence true\n\
         persistence_location /var/lib/mos quitto/\nmax_inflight_messages 5\nmax_queued_messages 50\n\
         max_packet_size 100000\nmax_keepalive 100\npersistent_client_expiration 2m\nlog_dest file /tmp/x.log\n\
         log_type error\nlog_type  notice \nper_listener_settings false\n\
         retain_available false\n",
    ));
    let binds: Vec<String> = config.listeners.iter().map(|listener| listener.bind.to_string()).collect();
    assert_eq!(binds, ["[::]:1883", "127.0.0.1:1884"]);
    assert_eq!(config.site.data.as_deref(), Some(Path::new("/var/lib/mos quitto/")));
    let limits = &config.limits;
    assert_eq!((limits.inflight_max, limits.queue_messages_max, limits.packet_max), (5, 50, 100_000));
    assert_eq!(limits.keep_alive_max, Duration::from_secs(100));
    assert_eq!(limits.session_expiry_max, Duration::from_secs(60 * 86_400));
    assert_eq!(config.log, Log { to: vec![LogTarget::File("/tmp/x.log".into())], ..Log::default() });
    assert_eq!((config.queue_full, config.retain_available), (QueueFull::Drop, false));
}

#[test]
fn a_mosquitto_conf_without_listeners_serves_this_machine() {
    let loopback = vec![Listener::on_loopback(1883)];
    assert_eq!(good(conf("")).listeners, loopback);
    assert_eq!(good(conf("persistence true\nallow_anonymous true\nlog_type all")).listeners, loopback);
    let both = good(conf("port 1885\nlistener 1886\nallow_anonymous true"));
    let ports: Vec<u16> = both.listeners.iter().map(port).collect();
    assert_eq!(ports, [1886, 1885]);
    assert_eq!(good(conf("bind_address localhost\nallow_anonymous true")).listeners, loopback);
}

#[test]
fn zero_has_mosquittos_meaning() {
    let limits = |text| good(conf(text)).limits;
    assert_eq!(limits("max_inflight_messages 0").inflight_max, 65_535);
    assert_eq!(limits("max_queued_messages 0").queue_messages_max, 100_000_000);
    assert_eq!(limits("message_size_limit 0").payload_max, 268_435_460);
    assert_eq!(limits("message_size_limit 1000"), Limits { payload_max: 1_000, ..limits("") });
    assert_eq!(limits("max_inflight_bytes 0"), limits(""));
    assert_eq!(limits("max_inflight_bytes 1").inflight_bytes_max, 1);
}

#[test]
fn what_mosquitto_lets_one_choose_about_messages() {
    let choices = |text| {
        let config = good(conf(text));
        (config.overlapping, config.upgrade_qos, config.queue_qos0)
    };
    assert_eq!(choices(""), (Overlap::ByVersion, false, false));
    assert_eq!(choices("allow_duplicate_messages true\nupgrade_outgoing_qos true"), (Overlap::Each, true, false));
    assert_eq!(choices("allow_duplicate_messages false\nqueue_qos0_messages true"), (Overlap::Once, false, true));
}

#[test]
fn what_a_mosquitto_conf_is_told() {
    told(
        conf,
        &[
            ("listener 1883", &["1:10: listener: … add the line: allow_anonymous true"]),
            ("listener 1883\nallow_anonymous false", &["2:17: allow_anonymous: … there is no password_file"]),
            ("allow_anonymous maybe", &["1:17: allow_anonymous: … true or false"]),
            ("log_dest file /a\0b", &["1:10: log_dest: … a zero byte"]),
            ("listener", &["1:1: listener: … listener PORT"]),
            ("listener 0 mosquitto.sock\nallow_anonymous true", &["1:10: listener: … IP address"]),
            ("listener 0\nallow_anonymous true", &["1:10: listener: … write listener 0 /PATH"]),
            ("listener 1883 /run/m.sock\nallow_anonymous true", &["1:10: listener: … write listener 0 /run/m.sock"]),
            ("listener 99999\nallow_anonymous true", &["1:10: listener: … 1 to 65535"]),
            ("listener 1883 my.host\nallow_anonymous true", &["1:10: listener: … IP address"]),
            ("listener 1883 ::1 x\nallow_anonymous true", &["1:10: listener: … after the address"]),
            ("listener 1 ::1\nlistener 1 ::1\nallow_anonymous true", &["2:10: listener: … another port"]),
            ("protocol mqttsn", &["1:10: protocol: … write mqtt or websockets"]),
            ("persistence no", &["1:13: persistence: … write true or false"]),
            ("password_file", &["1:1: password_file: … found no path"]),
            ("check_retain_source often", &["1:21: check_retain_source: … true or false"]),
            ("mount_point a/#", &["1:13: mount_point: … stand alone in a level"]),
            ("acl_file /x\nper_listener_settings true", &["2:23: per_listener_settings: … stands too late"]),
            ("auto_id_prefix", &["1:1: auto_id_prefix: … found nothing"]),
            ("include_dir /etc/mosquitto/conf.d", &["1:13: include_dir: … by files only"]),
            ("tls_version tlsv1.1", &["1:13: tls_version: … write tlsv1.2"]),
            ("psk_file /x", &["1:10: psk_file: … pre-shared keys"]),
            ("ciphers HIGH", &["1:9: ciphers: … take the line out"]),
            ("enable_proxy_protocol 1", &["1:23: enable_proxy_protocol: … version 1"]),
            ("websockets_headers_size 4096", &["1:25: note: websockets_headers_size: … 8 KiB"]),
            ("websockets_headers_size 65536", &["1:25: websockets_headers_size: … 8192"]),
            ("socket_domain ipx", &["1:15: socket_domain: … ipv4 or ipv6"]),
            ("max_connections 0", &["1:17: max_connections: … from 1, or -1"]),
            ("listener 1 ::1\nallow_anonymous true\ncertfile /c", &["3:10: certfile: … add keyfile"]),
            ("listener 1 ::1\nallow_anonymous true\nkeyfile /k", &["3:9: keyfile: … add certfile"]),
            ("listener 1 ::1\nallow_anonymous true\nrequire_certificate true", &["3:21: listener: … add certfile"]),
            (
                "listener 1 ::1\nallow_anonymous true\ncertfile /c\nkeyfile /k\nrequire_certificate true",
                &["5:21: listener: … add cafile"],
            ),
            (
                "listener 1 ::1\nallow_anonymous true\ncertfile /c\nkeyfile /k\ncafile /a\nuse_identity_as_username true",
                &["6:26: listener: … add require_certificate true"],
            ),
            ("allow_anonymous true\nper_listener_settings true", &["2:23: per_listener_settings: … too late"]),
            (
                "per_listener_settings true\nlistener 1 ::1\nallow_anonymous true\nlistener 2 ::1",
                &["4:10: listener: … add the line"],
            ),
            ("listener 1 ::1\nsocket_domain ipv4\nallow_anonymous true", &["1:10: socket_domain: … IPv6"]),
            ("listner 1883", &["1:9: listner: … did you mean listener?"]),
            ("quux 1", &["1:6: quux: … unknown to mosquitto"]),
            ("max_inflight_messages 70000", &["1:23: max_inflight_messages: … from 1 to 65535"]),
            ("max_inflight_messages x", &["1:23: max_inflight_messages: … write a number"]),
            ("max_queued_messages 0", &["1:21: note: max_queued_messages: … highest"]),
            ("autosave_interval 1800", &["1:19: note: autosave_interval: … stored at once"]),
            ("log_dest dlt", &["1:10: log_dest: … automotive"]),
            ("log_dest loud", &["1:10: log_dest: … write stderr"]),
            ("log_dest file /a\nlog_dest file /b", &["2:10: log_dest: … second file"]),
            ("log_timestamp_format %!", &["1:22: log_timestamp_format: … strftime"]),
            ("max_qos 3\nport 1\nallow_anonymous true\nlistener 2", &["1:9: max_qos: … 0, 1 or 2"]),
            ("user a:b", &["1:6: user: … name of a user"]),
            ("log_type loud", &["1:10: log_type: … information"]),
            ("persistent_client_expiration 5 x", &["1:30: persistent_client_expiration: … y"]),
            ("persistent_client_expiration ü", &["1:30: persistent_client_expiration: … y"]),
        ],
    );
}

const BRIDGES_CONF: &str = "connection office\naddress a.example b.example:8883\nround_robin true\ntopic # both 2 here/ there/\ntopic x\n\
         topic \"\" in 1 a b\nremote_clientid c\nlocal_clientid d\nusername u\npassword p\ncleansession true\n\
         local_cleansession false\nkeepalive_interval 9\nnotifications_local_only true\nnotification_topic n/t\n\
         try_private false\nstart_type lazy\nthreshold 3\nidle_timeout 7\nrestart_timeout 2 50\n\
         bridge_protocol_version mqttv50\nbridge_attempt_unsubscribe false\nbridge_outgoing_retain false\n\
         bridge_max_packet_size 9999\nbridge_receive_maximum 7\nbridge_session_expiry_interval 99\n\
         bridge_bind_address 127.0.0.1\nbridge_cafile /ca\nbridge_certfile /c\nbridge_keyfile /k\n\
         bridge_insecure true\nbridge_alpn mqtt\nbridge_tls_version tlsv1.3\nconnection second\naddress b\ntopic y";

const BRIDGES_TOML: &str = r#"
        [[bridge]]
        topics = ['# both 2 here/ there/', "x", '"" in 1 a b']
        name = "office"
        address = "a.example b.example:8883"
        round_robin = true
        remote_clientid = "c"
        local_clientid = "d"
        remote_username = "u"
        remote_password = "p"
        cleansession = true
        local_cleansession = false
        keepalive_interval = 9
        notifications_local_only = true
        notification_topic = "n/t"
        try_private = false
        start_type = "lazy"
        threshold = 3
        idle_timeout = 7
        restart_timeout = "2 50"
        relay = true
        bridge_protocol_version = "mqttv50"
        bridge_attempt_unsubscribe = false
        bridge_outgoing_retain = false
        bridge_max_packet_size = 9_999
        bridge_receive_maximum = 7
        bridge_session_expiry_interval = 99
        bridge_bind_address = "127.0.0.1"
        bridge_cafile = "/ca"
        bridge_certfile = "/c"
        bridge_keyfile = "/k"
        bridge_insecure = true
        bridge_alpn = "mqtt"
        bridge_tls_version = "tlsv1.3"
        [[bridge]]
        name = "second"
        address = "b"
        topics = ["y"]
        relay = true
        "#;

#[test]
fn bridges_in_both_forms() {
    let (old, new) = (good(conf(BRIDGES_CONF)), good(toml(BRIDGES_TOML)));
    assert_eq!(old.bridges, new.bridges);
    let [first, second] = &old.bridges[..] else { panic!("two bridges") };
    let relay = second.relay("cabin", 1000);
    assert_eq!((&*relay.remote_client_id, &*relay.local_client_id), ("cabin.second", "local.cabin.second"));
    let state = relay.notification.map(|told| told.topic.as_str().to_owned());
    assert_eq!(state.as_deref(), Some("$SYS/broker/connection/cabin.second/state"));
    assert_eq!((relay.packet_max, relay.clean_local), (1000, false));
    // Its own limit counts below this site's.
    assert_eq!([1000, 99_999].map(|site| first.relay("cabin", site).packet_max), [1000, 9999]);
    assert!(!format!("{old:?}").contains("\"p\""), "a password in the log");
}

#[test]
fn what_bridges_are_told() {
    told(
        conf,
        &[
            ("topic # both", &["1:7: topic: … below a line connection"]),
            ("connection a", &["1:12: connection: … address is missing"]),
            ("connection a\naddress b", &["1:12: connection: … nothing passes"]),
            (
                "connection a\naddress b\ntopic # out 3",
                &["1:12: connection: … nothing passes", "3:7: topic: … PATTERN"],
            ),
            ("connection a\naddress b\ntopic x\nbridge_insecure true", &["1:12: connection: … authorities"]),
            ("connection a\naddress b\ntopic x\nbridge_psk 1", &["4:12: bridge_psk: … pre-shared keys"]),
            ("connection a\naddress b\ntopic x\nrestart_timeout 9 3", &["4:17: restart_timeout: … longest pause"]),
            ("connection a\naddress b\ntopic x\nkeepalive_interval 4", &["4:20: keepalive_interval: … 5 to 65535"]),
            ("connection a\naddress b\ntopic x\nconnection a\naddress b\ntopic x", &["4:12: connection: … twice"]),
            (
                "connection a\naddress b\ntopic x\nclientid i\nconnection c\naddress b\ntopic x\nclientid i",
                &["5:12: connection: … session of \"a\""],
            ),
            ("connection a/b", &["1:12: connection: … without spaces"]),
        ],
    );
    told(
        toml,
        &[
            ("[[bridge]]", &["1:1: bridge.name: … found no name"]),
            ("[[bridge]]\nname = \"a\"", &["1:1: bridge: … address is missing"]),
            (
                "[[bridge]]\nname = \"a\"\naddress = \"b\"\ntopics = [\"x\", \"# up\"]\nthresold = 1\nthreshold = true",
                &[
                    "4:16: bridge.topics: … PATTERN",
                    "5:1: bridge.thresold: … threshold",
                    "6:13: bridge.threshold: … number",
                ],
            ),
        ],
    );
}

#[test]
fn the_data_directory_of_the_platform() {
    let none = |_: &str| None;
    assert_eq!(default_data_dir(true, none), Some(PathBuf::from("/var/lib/midge")));
    assert_eq!(default_data_dir(false, none), None);
    let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/anna"));
    assert_eq!(default_data_dir(false, home), Some(PathBuf::from("/home/anna/.local/state/midge")));
    let relative = |name: &str| Some(PathBuf::from(if name == "HOME" { "/h" } else { "not/absolute" }));
    assert_eq!(default_data_dir(false, relative), Some(PathBuf::from("/h/.local/state/midge")));
}

/// Pieces that make mutated files interesting.
fn file() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[site]\n".to_owned()),
        Just("[[listener]]\n".to_owned()),
        Just("[mesh]\n".to_owned()),
        Just("[limits]\n".to_owned()),
        Just("listener 1883\n".to_owned()),
        "(name|bind|peers|turn|mailbox|port|packet_max|log_type|topic) ?=? ?(\"[^\"]{0,12}\"|[0-9]{1,22}|\\[.{0,9}\\]|.{0,9})\n",
        "\\PC{0,20}\n",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Lines that are mostly right.
fn conf_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "(listener [1-9][0-9]{2}( (127.0.0.1|::1))?|port 1883|allow_anonymous (true|false)|per_listener_settings true)\n",
        "(protocol websockets|max_connections [1-9]|socket_domain ipv4|bind_interface [a-z\"\\\\]{1,4}|max_qos [0-2])\n",
        "(certfile|keyfile|cafile|capath|password_file|acl_file|pid_file|persistence_location) /[a-z \"\\\\ü]{0,6}\n",
        "(require_certificate true|use_identity_as_username true|crlfile /r|tls_version tlsv1.3|max_topic_alias 3)\n",
        "(auto_id_prefix|clientid_prefixes) [a-z\"\\\\ü]{1,4}\n",
        "(max_inflight_messages|max_queued_messages|max_queued_bytes|max_packet_size|max_keepalive) [0-9]{1,7}\n",
        "(sys_interval [0-9]{1,4}|persistent_client_expiration [0-9]{1,3}[hdwmy]|persistence (true|false))\n",
        "(log_dest (stderr|stdout|syslog|topic|none|file /l)|log_type (all|error|none)|log_facility [0-7])\n",
        "(log_timestamp (true|false)|log_timestamp_format [a-z %YmdHMS\"]{1,8}|connection_messages false|user root)\n",
        "(# [a-z\"'\\[=]{0,9}|)\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in file(), name in prop_oneof![Just("a.toml"), Just("a.conf"), Just("a")]) {
        let report = check(text.as_bytes(), Path::new(name));
        let _ = (report.to_string(), report.to_json());
        let lines = text.lines().count();
        for problem in report.problems() {
            prop_assert!(problem.line <= lines + 1 && !problem.message.is_empty());
        }
    }

    #[test]
    fn what_can_be_imported_is_the_same(lines in prop::collection::vec(conf_line(), 0..12)) {
        let text = lines.concat();
        let imported = to_toml(conf(&text));
        let adapted = conf(&text).into_config();
        prop_assert_eq!(imported.is_ok(), adapted.is_ok());
        if let (Ok(imported), Ok(adapted)) = (imported, adapted) {
            let loaded = toml(&imported).into_config().map_err(|report| report.to_string());
            // What was implied is written down.
            let adapted = Config { listener_is_implied: false, ..adapted };
            prop_assert_eq!(loaded, Ok(adapted), "{}\n{}", text, imported);
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), name in prop_oneof![Just("a.toml"), Just("a.conf")]) {
        let _ = check(&bytes, Path::new(name)).to_string();
    }
}

/// Who may come in, and by which files, listener by listener.
fn accesses(config: &Config) -> Vec<String> {
    let path = |path: &Option<PathBuf>| path.as_ref().map_or("-".to_owned(), |path| path.display().to_string());
    let line = |listener: &Listener| {
        let access = &listener.access;
        let anonymous = if listener.allow_anonymous { "anyone" } else { "named" };
        let Bind::Tcp(address) = &listener.bind else { panic!("{listener:?}") };
        format!("{} {anonymous} {} {}", address.port(), path(&access.password_file), path(&access.acl_file))
    };
    config.listeners.iter().map(line).collect()
}

#[test]
fn who_may_come_in_where() {
    let rows: &[(&str, &[&str])] = &[
        ("", &["1883 anyone - -"]),
        ("[access]\nacl_file = \"a\"", &["1883 anyone - a"]),
        ("[access]\npassword_file = \"p\"", &["1883 named p -"]),
        ("[[listener]]\nbind = \"0.0.0.0:1\"\n[access]\npassword_file = \"p\"", &["1 named p -"]),
        ("access.password_file = \"p\"\n[[listener]]\nbind = \"[::]:1\"\nallow_anonymous = true", &["1 anyone p -"]),
        (
            "access.acl_file = \"a\"\n[[listener]]\nbind = \"[::]:1\"\npassword_file = \"q\"\n\
             [[listener]]\nbind = \"127.0.0.1:2\"\nacl_file = \"b\"",
            &["1 named q a", "2 anyone - b"],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(&accesses(&good(toml(text))), expected, "{text}");
    }
    let rows: &[(&str, &[&str])] = &[
        ("", &["1883 anyone - -"]),
        ("password_file p", &["1883 anyone p -"]),
        ("password_file p\nport 1", &["1 named p -"]),
        ("listener 1\npassword_file p\nallow_anonymous true\nlistener 2", &["1 anyone p -", "2 anyone p -"]),
        ("listener 1\nallow_anonymous true\nacl_file a b", &["1 anyone - a b"]),
        (
            "per_listener_settings true\nlistener 1\npassword_file p\nlistener 2\nallow_anonymous true\nacl_file a",
            &["1 named p -", "2 anyone - a"],
        ),
        (
            "per_listener_settings true\nport 7\npassword_file p\nlistener 2\nallow_anonymous true",
            &["2 anyone - -", "7 named p -"],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(&accesses(&good(conf(text))), expected, "{text}");
    }
}

#[test]
fn what_clients_are_called() {
    let access = |config: Config| config.listeners[0].access.clone();
    let expected = Access {
        client_id_prefix: Some("dev-".into()),
        client_id_from_user: true,
        assigned_id_prefix: "dev-x".into(),
        allow_empty_client_id: false,
        ..Access::default()
    };
    let keys = "client_id_prefix = \"dev-\"\nclient_id_from_user = true\nassigned_id_prefix = \"dev-x\"\n\
                allow_empty_client_id = false";
    assert_eq!(access(good(toml(&format!("[access]\n{keys}")))), expected);
    assert_eq!(access(good(toml(&format!("[[listener]]\nbind = \"127.0.0.1:1\"\n{keys}")))), expected);
    let directives = "clientid_prefixes dev-\nuse_username_as_clientid true\nauto_id_prefix dev-x\n\
                      allow_zero_length_clientid false\ncheck_retain_source false";
    assert_eq!(access(good(conf(directives))), expected);
}
