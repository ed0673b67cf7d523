//! Listeners of every kind over real sockets: what is let in, as whom, and what is turned away and counted. Opens
//! ports on loopback, so it is run by name, as a step of `cargo xtask test`.
use midge::config::{Access, Bind, CertificateName, Config, Listener, LogTarget, Protocol, Tls};
use midge::tls::{ClientTls, Trust};
use midge::{Setup, Site};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::StreamOwned;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// CONNECT of version 3.1.1 by "ab", and its CONNACK.
const CONNECT: &[u8] = b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02ab";
const CONNACK: &[u8] = b"\x20\x02\0\0";
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory with certificates, and a site that uses them.
struct Stage {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Stage {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let stage = Self { dir: TempDir::new().unwrap(), ca };
        fs::write(stage.path("ca.pem"), stage.ca.pem()).unwrap();
        stage.certify("server", 1);
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate in `NAME.pem` and its key in `NAME.key`.
    fn certify(&self, name: &str, serial: u64) {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        fs::write(self.path(&format!("{name}.pem")), params.signed_by(&key, &self.ca).unwrap().pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn revoke(&self, serial: u64) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(self.path("revoked.pem"), list.signed_by(&self.ca).unwrap().pem().unwrap()).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls { certificate: self.path("server.pem"), key: self.path("server.key"), ..Tls::default() }
    }

    /// A site with these listeners and the default limits, changed by `change`.
    fn site(&self, listeners: Vec<Listener>, change: impl FnOnce(&mut Config)) -> Site {
        let mut config = Config { listeners, ..Config::default() };
        config.log.to = vec![LogTarget::File(self.path("log"))];
        change(&mut config);
        let data = self.path("data");
        Site::start(Setup { config, data, datagrams: None, again: None }).unwrap()
    }

    fn client_tls(&self, identity: Option<&str>) -> ClientTls {
        let file = |name: &str, end: &str| self.path(&format!("{name}.{end}"));
        ClientTls {
            trust: Trust::Authorities(vec![self.path("ca.pem")]),
            identity: identity.map(|name| (file(name, "pem"), file(name, "key"))),
            ..ClientTls::default()
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn listener() -> Listener {
    Listener::on_loopback(0)
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn secured(tls: &ClientTls, address: SocketAddr) -> StreamOwned<rustls::ClientConnection, TcpStream> {
    let connection = midge::tls::connect(&tls.load().unwrap(), "localhost").unwrap();
    StreamOwned::new(connection, dial(address))
}

/// Whether the other end is a broker that takes us.
fn is_welcome(stream: &mut (impl Read + Write)) -> bool {
    // Each is somebody else: the same client once more would end its older connection.
    static CLIENTS: AtomicU16 = AtomicU16::new(0);
    let mut connect = CONNECT.to_vec();
    let id = connect.len() - 2;
    let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
    connect[id..].copy_from_slice(&[b'A' + (number / 50) as u8, b'0' + (number % 50) as u8]);
    let mut answer = [0; 4];
    stream.write_all(&connect).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == CONNACK
}

/// Waits for what another thread is about to do.
fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A masked binary frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
    bytes.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Makes a WebSocket of it.
fn upgrade(stream: &mut (impl Read + Write)) {
    stream.write_all(UPGRADE).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
}

fn read_all(stream: &mut (impl Read + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the last byte is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn a_certificate_says_who_is_there_and_a_list_who_is_not_any_more() {
    let stage = Stage::new();
    stage.certify("anna", 7);
    stage.certify("bert", 8);
    stage.revoke(8);
    let tls = Tls {
        authorities: vec![stage.path("ca.pem")],
        require_certificate: true,
        revoked: Some(stage.path("revoked.pem")),
        user_name: CertificateName::CommonName,
        ..stage.tls()
    };
    let site = stage.site(vec![Listener { tls: Some(tls), ..listener() }], |_| {});
    let address = site.listeners()[0];
    assert!(is_welcome(&mut secured(&stage.client_tls(Some("anna")), address)));
    assert!(stage.log().contains("u'anna'"), "{}", stage.log());
    assert!(!is_welcome(&mut secured(&stage.client_tls(Some("bert")), address)));
    assert!(!is_welcome(&mut secured(&stage.client_tls(None), address)));
    assert!(!is_welcome(&mut dial(address)));
    eventually("counted", || site.status().unwrap().broker.turned_away == 3);
    let log = stage.log();
    assert!(log.contains("Revoked") && log.contains("no certificates"), "{log}");
}

#[test]
fn a_certificate_is_changed_without_a_restart_and_stays_if_the_new_one_is_bad() {
    let stage = Stage::new();
    let site = stage.site(vec![Listener { tls: Some(stage.tls()), ..listener() }], |_| {});
    let address = site.listeners()[0];
    let served = || {
        let mut stream = secured(&stage.client_tls(None), address);
        assert!(is_welcome(&mut stream));
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let (old, mut kept) = (served(), secured(&stage.client_tls(None), address));
    assert!(is_welcome(&mut kept));
    let reload = site.reloader();
    fs::write(stage.path("server.key"), "nonsense").unwrap();
    reload();
    eventually("told", || stage.log().contains("stay as they were"));
    assert_eq!(served(), old);
    stage.certify("server", 2);
    reload();
    eventually("changed", || served() != old);
    // Whoever is there stays.
    kept.write_all(b"\xc0\0").unwrap();
    let mut pong = [0; 2];
    kept.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\xd0\0");
}

#[test]
fn mqtt_in_frames() {
    let stage = Stage::new();
    let plain = Listener { protocol: Protocol::WebSockets, ..listener() };
    let secure = Listener { tls: Some(stage.tls()), ..plain.clone() };
    let site = stage.site(vec![plain, secure], |_| {});
    let check = |stream: &mut dyn ReadWrite| {
        upgrade(&mut &mut *stream);
        // A CONNECT in three frames, with a ping in between; the answers each in a frame of its own.
        let bytes =
            [frame(0x02, &CONNECT[..3]), frame(0x89, b"?"), frame(0x00, &CONNECT[3..9]), frame(0x80, &CONNECT[9..])];
        stream.write_all(&bytes.concat()).unwrap();
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\x8a\x01?\x82\x04\x20\x02\0\0");
        stream.write_all(&frame(0x88, b"\x03\xe8")).unwrap();
        assert_eq!(read_all(stream), b"\x88\x02\x03\xe8");
    };
    check(&mut dial(site.listeners()[0]));
    check(&mut secured(&stage.client_tls(None), site.listeners()[1]));
    eventually("gone", || site.status().unwrap().broker.clients == 0);
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn what_is_no_mqtt_in_frames_is_told_so() {
    let stage = Stage::new();
    let site = stage.site(vec![Listener { protocol: Protocol::WebSockets, ..listener() }], |_| {});
    let address = site.listeners()[0];
    let answer = |request: &[u8]| {
        let mut stream = dial(address);
        stream.write_all(request).unwrap();
        String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
    };
    assert!(answer(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 426 "));
    assert!(answer(CONNECT).starts_with("HTTP/1.1 400 "));
    assert!(answer(&[b"GET / HTTP/1.1\r\nX: ", [b'y'; 9_000].as_slice()].concat()).starts_with("HTTP/1.1 431 "));
    eventually("counted", || site.status().unwrap().broker.turned_away == 3);
    let closed = |frame: &[u8]| {
        let mut stream = dial(address);
        upgrade(&mut stream);
        stream.write_all(frame).unwrap();
        read_all(&mut stream)
    };
    assert_eq!(closed(&frame(0x81, b"text")), b"\x88\x02\x03\xeb", "1003");
    assert_eq!(closed(&frame(0x83, b"")), b"\x88\x02\x03\xea", "1002");
    // The broker is not pleased with what is in the frame.
    assert_eq!(closed(&frame(0x82, b"\xc0\0")), b"\x88\x02\x03\xe8", "1000");
}

#[test]
fn a_proxy_says_where_clients_are_and_limits_are_theirs() {
    let stage = Stage::new();
    let proxied = Listener { proxy_protocol: true, ..listener() };
    let secure = Listener { tls: Some(stage.tls()), ..proxied.clone() };
    let site = stage.site(vec![proxied, secure], |config| config.limits.connections_per_address_max = 1);
    let through = |index: usize, last: u8| {
        let mut stream = dial(site.listeners()[index]);
        let addresses = [192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b];
        stream.write_all(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &addresses].concat()).unwrap();
        stream
    };
    let (mut one, mut two) = (through(0, 1), through(0, 2));
    assert!(is_welcome(&mut one) && is_welcome(&mut two));
    assert!(!is_welcome(&mut through(0, 2)), "its address has one already");
    let connection = midge::tls::connect(&stage.client_tls(None).load().unwrap(), "localhost").unwrap();
    let mut three = StreamOwned::new(connection, through(1, 3));
    assert!(is_welcome(&mut three));
    let log = stage.log();
    assert!(log.contains("connected from 192.0.2.1:4660") && log.contains("connected from 192.0.2.3:4660"), "{log}");
    assert!(!is_welcome(&mut dial(site.listeners()[0])), "no header");
    eventually("counted", || site.status().unwrap().broker.turned_away == 2);
    drop(two);
    eventually("there is room again", || is_welcome(&mut through(0, 2)));
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_site() {
    let stage = Stage::new();
    let path = stage.path("m.sock");
    let bind = Bind::Unix { path: path.clone(), mode: Some(0o600) };
    // What a killed site left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let site = stage.site(vec![Listener::plain(bind.clone())], |_| {});
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    assert!(is_welcome(&mut stream));
    let config = Config { listeners: vec![Listener::plain(bind.clone())], ..Config::default() };
    let setup = Setup { config: config.clone(), data: stage.path("other"), datagrams: None, again: None };
    assert!(Site::start(setup).unwrap_err().to_string().contains("taken"));
    assert!(is_welcome(&mut UnixStream::connect(&path).unwrap()), "it is still there");
    site.stop();
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let refusal = Site::start(Setup { config, data: stage.path("third"), datagrams: None, again: None }).unwrap_err();
    assert!(refusal.to_string().contains("no socket"), "{refusal}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn listeners_addresses_and_rates_have_limits() {
    let stage = Stage::new();
    let started = Instant::now();
    let small = Listener { connections_max: Some(1), ..listener() };
    let site = stage.site(vec![small, listener()], |config| {
        config.limits.connections_per_address_max = 3;
        config.limits.connection_rate_per_address_max = 1;
    });
    let [small, large] = [0, 1].map(|index| site.listeners()[index]);
    let mut first = dial(small);
    assert!(is_welcome(&mut first));
    assert!(!is_welcome(&mut dial(small)), "one through this listener");
    let mut second = dial(large);
    let mut third = dial(large);
    assert!(is_welcome(&mut second) && is_welcome(&mut third));
    assert!(!is_welcome(&mut dial(large)), "three from this address");
    assert_eq!(site.status().unwrap().broker.turned_away, 2);
    drop((first, second, third));
    eventually("gone", || site.status().unwrap().broker.clients == 0);
    // Ten seconds' worth of one a second, of which three are spent and some have come back.
    let admitted = (0..20).filter(|_| is_welcome(&mut dial(large))).count();
    let at_most = 8 + started.elapsed().as_secs() as usize;
    assert!((7..=at_most).contains(&admitted), "{admitted} of {at_most}");
}

#[test]
fn d12_half_open_connections_end_and_disturb_nobody() {
    let stage = Stage::new();
    let secure = Listener { tls: Some(stage.tls()), ..listener() };
    let frames = Listener { protocol: Protocol::WebSockets, ..listener() };
    let proxied = Listener { proxy_protocol: true, ..listener() };
    let site = stage.site(vec![secure, frames, proxied], |config| {
        config.limits.handshake_max = Duration::from_secs(1);
    });
    let mut silent: Vec<TcpStream> = site.listeners().iter().flat_map(|at| (0..20).map(|_| dial(*at))).collect();
    for stream in silent.iter_mut().step_by(2) {
        // The beginning of a ClientHello; of no request, of no header.
        stream.write_all(b"\x16\x03\x01").unwrap();
    }
    assert!(is_welcome(&mut secured(&stage.client_tls(None), site.listeners()[0])));
    for stream in &mut silent {
        read_all(stream);
    }
    eventually("counted", || site.status().unwrap().broker.turned_away == 60);
    assert!(stage.log().contains("took too long"), "{}", stage.log());
    assert!(is_welcome(&mut secured(&stage.client_tls(None), site.listeners()[0])));
}

#[test]
fn a_reader_that_stops_costs_no_more_than_its_windows() {
    let stage = Stage::new();
    let secure = Listener { tls: Some(stage.tls()), ..listener() };
    let site = stage.site(vec![secure, listener()], |_| {});
    let mut slow = secured(&stage.client_tls(None), site.listeners()[0]);
    assert!(is_welcome(&mut slow));
    slow.write_all(b"\x82\x06\0\x01\0\x01t\0").unwrap();
    let mut suback = [0; 5];
    slow.read_exact(&mut suback).unwrap();
    let mut publisher = dial(site.listeners()[1]);
    publisher.write_all(b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02cd").unwrap();
    publisher.read_exact(&mut [0; 4]).unwrap();
    let mut publish = b"\x30\x83\x80\x04\0\x01t".to_vec();
    publish.resize(publish.len() + 65_536, b'x');
    for _ in 0..1_000 {
        publisher.write_all(&publish).unwrap();
    }
    // 64 MB for somebody who does not read: dropped and counted beyond the buffers, and everybody else is served.
    publisher.write_all(b"\xc0\0").unwrap();
    publisher.read_exact(&mut [0; 2]).unwrap();
    assert!(site.status().unwrap().broker.dropped > 500);
    let mut message = vec![0; publish.len()];
    slow.read_exact(&mut message).unwrap();
    assert_eq!(message, publish);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let stage = Stage::new();
    let start = |tls: Tls| {
        let config = Config { listeners: vec![Listener { tls: Some(tls), ..listener() }], ..Config::default() };
        Site::start(Setup { config, data: stage.path("data"), datagrams: None, again: None }).unwrap_err().to_string()
    };
    fs::write(stage.path("empty"), "").unwrap();
    stage.certify("other", 9);
    let rows = [
        (Tls { certificate: stage.path("nowhere"), ..stage.tls() }, "nowhere: "),
        (Tls { certificate: stage.path("empty"), ..stage.tls() }, "no certificate in PEM form"),
        (Tls { key: stage.path("empty"), ..stage.tls() }, "no key in PEM form"),
        (Tls { key: stage.path("other.key"), ..stage.tls() }, "other.key: does not fit"),
        (Tls { authorities: vec![stage.path("empty")], ..stage.tls() }, "no certificate"),
    ];
    for (tls, expected) in rows {
        let said = start(tls);
        assert!(said.contains(expected), "{said}");
    }
}

/// A site of a mesh whose mailbox is another site's listener with TLS and a password.
#[test]
fn a_mailbox_is_reached_by_tls() {
    let (broker, member) = (Stage::new(), Stage::new());
    let line = midge::access::password_line("anna", b"w@x", midge::access::Scheme::Sha512).unwrap();
    fs::write(broker.path("passwords"), line).unwrap();
    let access = Access { password_file: Some(broker.path("passwords")), ..Access::default() };
    let door = Listener { tls: Some(broker.tls()), allow_anonymous: false, access, ..listener() };
    let broker_site = broker.site(vec![door], |_| {});
    let port = broker_site.listeners()[0].port();
    fs::create_dir(member.path("data")).unwrap();
    midge::identity::save_token(&member.path("data"), &midge::Token::from_secret([7; 32])).unwrap();
    fs::write(member.path("empty"), "").unwrap();
    let trouble_with = |mailbox: String, ca: PathBuf| {
        let text = format!("[mesh]\nmailbox = [\"{mailbox}\"]\nca_file = \"{}\"\n", ca.display());
        let mesh = midge::config::check(text.as_bytes(), "x.toml".as_ref()).into_config().unwrap().mesh;
        let site = member.site(Vec::new(), |config| config.mesh = mesh);
        let mailbox = || site.status().unwrap().mesh.unwrap().mailboxes.remove(0);
        eventually("the mailbox was tried", || mailbox().reachable || mailbox().trouble.is_some());
        mailbox().trouble.unwrap_or_default()
    };
    let right = format!("mqtts://anna:w%40x@localhost:{port}");
    let rows = [
        (right.clone(), broker.path("ca.pem"), ""),
        (right.clone(), member.path("ca.pem"), "invalid peer certificate"),
        (right.clone(), member.path("nowhere"), "nowhere: "),
        (right, member.path("empty"), "no certificate in PEM form"),
        (format!("mqtts://anna:wrong@localhost:{port}"), broker.path("ca.pem"), "refuses the connection"),
        (format!("mqtt://anna:w%40x@localhost:{port}"), broker.path("ca.pem"), "ended the connection"),
    ];
    for (mailbox, ca, expected) in rows {
        let said = trouble_with(mailbox, ca);
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{expected}: {said}");
    }
}
