//! The way to the broker: its address, a TCP connection, CONNECT and its answer.
use crate::failure::Failure;
use host::mqtt::codec::{self, Progress};
use host::mqtt::packet::{Connect, Packet};
use host::mqtt::property::ConnectProperties;
use host::mqtt::{ReasonCode, Version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For one connection, and for each answer of a handshake.
const PATIENCE: Duration = Duration::from_secs(20);
/// A CONNACK is shorter.
const CONNACK_MAX: u32 = 64 << 10;
/// Descriptors that are no connections: standard streams, the event queue, files of /proc.
const SPARE_FILES: u64 = 16;
const PORT: u16 = 1883;

/// Where the broker is and as whom it is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Door {
    text: String,
    address: SocketAddr,
    version: Version,
    user_name: Option<String>,
    password: Option<String>,
}

/// How a client introduces itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeting {
    /// The session ends with the connection, and begins with it.
    pub(super) is_clean: bool,
    /// 0 is none.
    pub(super) keep_alive_secs: u16,
}

impl Door {
    /// Looks `text` up: HOST, HOST:PORT, or an address in numbers.
    pub(super) fn find(text: &str, version: Version) -> Result<Self, Failure> {
        let found = text.to_socket_addrs().or_else(|_| (text.trim_matches(['[', ']']), PORT).to_socket_addrs());
        let mut found =
            found.map_err(|error| Failure::new(format!("{text}: {error}: write HOST, HOST:PORT or [IPV6]:PORT")))?;
        let Some(address) = found.next() else { return Err(Failure::new(format!("{text} has no address"))) };
        Ok(Self { text: text.to_owned(), address, version, user_name: None, password: None })
    }

    /// With a name and a password.
    pub(super) fn with_user(mut self, name: Option<String>, password: Option<String>) -> Self {
        (self.user_name, self.password) = (name, password);
        self
    }

    /// The words for what the system says.
    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        let next = match error.kind() {
            io::ErrorKind::ConnectionRefused => ": does a broker listen there?",
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ": no answer within 20 s",
            io::ErrorKind::AddrNotAvailable => ": this machine has no port left for one more connection to there",
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                ": the broker ends connections before it answers; its log and its limits may say why"
            }
            _ => "",
        };
        Failure::new(format!("{}: {error}{next}", self.text))
    }

    /// Connects and says CONNECT.
    pub(super) fn dial(&self, client_id: &str, greeting: Greeting) -> Result<TcpStream, Failure> {
        let expiry = (!greeting.is_clean && self.version == Version::V5).then_some(u32::MAX);
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: greeting.is_clean,
            keep_alive_secs: greeting.keep_alive_secs,
            client_id,
            will: None,
            user_name: self.user_name.as_deref(),
            password: self.password.as_deref().map(str::as_bytes),
            properties: ConnectProperties { session_expiry_secs: expiry, ..ConnectProperties::default() },
        };
        let mut packet = Vec::new();
        codec::encode(&Packet::Connect(connect), self.version, &mut packet)
            .map_err(|error| Failure::new(format!("name and password can't be sent: {error}")))?;
        let connected = TcpStream::connect_timeout(&self.address, PATIENCE).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&packet)?;
            Ok(stream)
        });
        connected.map_err(|error| self.failure(&error))
    }

    /// Reads CONNACK and not a byte more; returns how many unacknowledged messages the broker takes.
    pub(super) fn welcome(&self, stream: &mut TcpStream) -> Result<u16, Failure> {
        let packet = read_packet(stream).map_err(|error| self.failure(&error))?;
        match codec::decode(&packet, self.version, CONNACK_MAX) {
            Ok(Progress::Packet { packet: Packet::ConnAck(ack), .. }) if ack.reason == ReasonCode::Success => {
                Ok(ack.properties.receive_max.map_or(u16::MAX, std::num::NonZeroU16::get))
            }
            Ok(Progress::Packet { packet: Packet::ConnAck(ack), .. }) => {
                Err(Failure::new(format!("{}: the broker refuses clients: {}", self.text, ack.reason.text())))
            }
            _ => Err(Failure::new(format!("{}: what answers there does not speak MQTT", self.text))),
        }
    }
}

fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet)?;
    let mut len = usize::from(packet[1] & 0x7F);
    let mut shift = 7;
    while packet.last().is_some_and(|byte| byte & 0x80 != 0) && shift < 21 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        packet.push(byte[0]);
        len |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
    }
    if len > CONNACK_MAX as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer to CONNECT is too long for one"));
    }
    let head = packet.len();
    packet.resize(head + len, 0);
    stream.read_exact(&mut packet[head..])?;
    Ok(packet)
}

/// Makes room for as many connections, as far as this process may.
pub(super) fn reserve(connections: usize) -> Result<(), Failure> {
    let wanted = connections as u64 + SPARE_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < wanted) {
        return Err(Failure::new(format!(
            "{connections} connections need {wanted} open files, and this process may have {maximum} (ulimit -Hn): raise \
             the limit, as with LimitNOFILE= of systemd or in /etc/security/limits.conf, or ask for fewer"
        )));
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        Failure::new(format!("the limit of open files stays below {wanted} (ulimit -n {wanted}): {error}"))
    })
}
