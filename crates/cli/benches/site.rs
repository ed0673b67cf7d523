//! How fast a link between two sites is: the release program and real sockets. `cargo xtask bench site`, or
//! `cargo bench -p midge-cli --bench site`. What one site costs is measured beside other brokers: `cargo xtask bench
//! brokers`.
//!
//! Every message has 64 bytes of payload. A figure with a store names its sync mode.
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PAYLOAD: usize = 64;
const SECONDS: u64 = 3;
const MIDGE: &str = env!("CARGO_BIN_EXE_midge");

fn main() -> io::Result<()> {
    let scratch = tempfile::tempdir()?;
    across(scratch.path())
}

/// A broker and its port.
struct Broker {
    process: Child,
    port: u16,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Broker {
    fn midge(dir: &Path, name: &'static str, config: &str) -> io::Result<Self> {
        let port = free_port()?;
        let path = dir.join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let mut command = Command::new(MIDGE);
        command.arg("-c").arg(path).args(["-p", &port.to_string(), "--data"]).arg(dir.join(name));
        Self::start(name, port, command)
    }

    fn start(name: &'static str, port: u16, mut command: Command) -> io::Result<Self> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let broker = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{name} does not start")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(broker)
    }

    fn client(&self, id: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut packet = vec![0x10, 12 + id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, id.len() as u8];
        packet.extend_from_slice(id.as_bytes());
        stream.write_all(&packet)?;
        stream.read_exact(&mut [0; 4])?;
        Ok(stream)
    }

    fn subscriber(&self, id: &str, topic: &str, qos: u8) -> io::Result<TcpStream> {
        let mut stream = self.client(id)?;
        let mut packet = vec![0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8];
        packet.extend_from_slice(topic.as_bytes());
        packet.push(qos);
        stream.write_all(&packet)?;
        stream.read_exact(&mut [0; 5])?;
        Ok(stream)
    }
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}

/// A PUBLISH whose payload begins with `nanos`.
fn publish(topic: &str, qos: u8, id: u16, nanos: u64, out: &mut Vec<u8>) {
    let id_len = if qos > 0 { 2 } else { 0 };
    out.extend_from_slice(&[0x30 | qos << 1, (2 + topic.len() + id_len + PAYLOAD) as u8, 0, topic.len() as u8]);
    out.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.extend_from_slice(&nanos.to_be_bytes());
    out.extend_from_slice(&[b'x'; PAYLOAD - 8]);
}

fn publish_len(topic: &str, qos: u8) -> usize {
    2 + 2 + topic.len() + if qos > 0 { 2 } else { 0 } + PAYLOAD
}

// across a link -----------------------------------------------------------------------------------------------------

fn across(dir: &Path) -> io::Result<()> {
    let (here, there) = linked(dir)?;
    writeln!(
        io::stdout(),
        "across a link on one machine, {PAYLOAD} bytes, one publisher, one subscriber; sync = \"os\""
    )?;
    for (qos, rate) in [(0, 1_000), (1, 1_000), (1, 20_000)] {
        let mut flow = flow(&here, &there, qos, rate)?;
        flow.latencies.sort_unstable();
        let at = |share: f64| flow.latencies[((flow.latencies.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        writeln!(
            io::stdout(),
            "  QoS {qos}, {rate:>6} msg/s: p50 {:>7.0} us, p99 {:>7.0} us; \
             sent {}, {} at the subscriber, {} lost, {:.0} msg/s",
            at(0.5),
            at(0.99),
            flow.sent,
            flow.latencies.len(),
            flow.sent - flow.latencies.len(),
            flow.latencies.len() as f64 / flow.took.as_secs_f64(),
        )?;
    }
    Ok(())
}

fn linked(dir: &Path) -> io::Result<(Broker, Broker)> {
    let port = std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let (a, b): (PathBuf, PathBuf) = (dir.join("here"), dir.join("there"));
    let token = Command::new(MIDGE).args(["create", "--data"]).arg(&a).output()?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    Command::new(MIDGE).args(["join", &token, "--data"]).arg(&b).output()?;
    let here = Broker::midge(dir, "here", &format!("[mesh]\nport = {port}\n"))?;
    let there = Broker::midge(dir, "there", &format!("[mesh]\npeers = [\"127.0.0.1:{port}\"]\n"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = Command::new(MIDGE).args(["status", "--json", "--data"]).arg(&a).output()?;
        if String::from_utf8_lossy(&status.stdout).contains("\"up\": true") {
            return Ok((here, there));
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("the two sites do not meet"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

struct Flow {
    sent: usize,
    latencies: Vec<u64>,
    took: Duration,
}

/// Messages from a client of one site to a client of the other, as many a second as asked for, whatever happens.
fn flow(here: &Broker, there: &Broker, qos: u8, rate: usize) -> io::Result<Flow> {
    let topic = format!("flow/{qos}/{rate:05}");
    let total = rate * SECONDS as usize;
    let mut ear = there.subscriber(&format!("ear{qos}{rate}"), &topic, qos)?;
    let mut mouth = here.client(&format!("mouth{qos}{rate}"))?;
    // The other site has to learn what is wanted there.
    thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    let listener = thread::spawn({
        let len = publish_len(&topic, qos);
        move || -> io::Result<Vec<u64>> {
            let mut latencies = Vec::with_capacity(total);
            let mut packet = vec![0; len];
            ear.set_read_timeout(Some(Duration::from_secs(10)))?;
            while latencies.len() < total && ear.read_exact(&mut packet).is_ok() {
                let id_at = len - PAYLOAD - 2;
                if qos > 0 {
                    ear.write_all(&[0x40, 2, packet[id_at], packet[id_at + 1]])?;
                }
                let stamp = packet[len - PAYLOAD..len - PAYLOAD + 8].try_into().map(u64::from_be_bytes);
                let now = start.elapsed().as_nanos() as u64;
                latencies.push(now.saturating_sub(stamp.unwrap_or(now)));
            }
            Ok(latencies)
        }
    });
    let mut acknowledgements = mouth.try_clone()?;
    // Nobody counts them here: what counts is the far subscriber's PUBACK.
    thread::spawn(move || io::copy(&mut acknowledgements, &mut io::sink()));
    let tick = Duration::from_millis(1);
    let (mut sent, mut batch) = (0, Vec::new());
    while sent < total {
        let due = (start.elapsed().as_nanos() as usize * rate / 1_000_000_000).min(total);
        batch.clear();
        while sent < due {
            let id = (sent % 65_535) as u16 + 1;
            publish(&topic, qos, id, start.elapsed().as_nanos() as u64, &mut batch);
            sent += 1;
        }
        mouth.write_all(&batch)?;
        thread::sleep(tick);
    }
    let latencies = listener.join().map_err(|_| io::Error::other("panic"))??;
    Ok(Flow { sent, took: start.elapsed(), latencies })
}
