//! What a site costs and how fast a link is: the release program, real sockets, and mosquitto beside it in the same run
//! where it is installed. `cargo xtask bench site`, or `cargo bench -p midge-cli --bench site`.
//!
//! CPU seconds are the brokers' own, user and system, from /proc. Every message has 64 bytes of payload. A figure with
//! a store names its sync mode.
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
    local(scratch.path())?;
    across(scratch.path())
}

/// A broker and its port.
struct Broker {
    name: &'static str,
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

    fn mosquitto(dir: &Path) -> io::Result<Option<Self>> {
        let found = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].iter().find(|path| Path::new(path).exists());
        let Some(program) = found else { return Ok(None) };
        let port = free_port()?;
        let path = dir.join("mosquitto.conf");
        let lines = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        std::fs::write(&path, lines + "max_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n")?;
        let mut command = Command::new(program);
        command.arg("-c").arg(path);
        Self::start("mosquitto", port, command).map(Some)
    }

    fn start(name: &'static str, port: u16, mut command: Command) -> io::Result<Self> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let broker = Self { name, process, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{name} does not start")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(broker)
    }

    /// CPU seconds so far, in the kernel's ticks of a hundredth.
    fn cpu_secs(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
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

// local -------------------------------------------------------------------------------------------------------------

fn local(dir: &Path) -> io::Result<()> {
    writeln!(io::stdout(), "local broker, QoS 0, {PAYLOAD} bytes: CPU seconds of the broker per million deliveries")?;
    let mut rows: Vec<(&str, Vec<f64>)> = vec![("100 pairs, 16 at a time", vec![]), ("1 to 100, 32 at a time", vec![])];
    let mut names = Vec::new();
    let brokers = [Some(Broker::midge(dir, "midge", "")?), Broker::mosquitto(dir)?];
    for broker in brokers.into_iter().flatten() {
        names.push(broker.name);
        rows[0].1.push(pairs(&broker)?);
        rows[1].1.push(fan_out(&broker)?);
    }
    for (what, figures) in rows {
        let listed: Vec<_> = names.iter().zip(&figures).map(|(name, secs)| format!("{name} {secs:.2}")).collect();
        let ratio = match figures[..] {
            [ours, theirs] => format!(", 1/{:.1} of mosquitto's", theirs / ours),
            _ => ", mosquitto is not installed".to_owned(),
        };
        writeln!(io::stdout(), "  {what:<24} {}{ratio}", listed.join(", "))?;
    }
    Ok(())
}

fn pairs(broker: &Broker) -> io::Result<f64> {
    let before = broker.cpu_secs()?;
    let delivered = thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|n| scope.spawn(move || pair(broker, n))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panic"))));
        results.sum::<io::Result<usize>>()
    })?;
    Ok((broker.cpu_secs()? - before) * 1e6 / delivered as f64)
}

/// One publisher and its subscriber; returns the deliveries.
fn pair(broker: &Broker, n: usize) -> io::Result<usize> {
    const BATCH: usize = 16;
    let topic = format!("pair/{n:03}");
    let mut ear = broker.subscriber(&format!("ear{n}"), &topic, 0)?;
    let mut mouth = broker.client(&format!("mouth{n}"))?;
    let mut batch = Vec::new();
    (0..BATCH).for_each(|_| publish(&topic, 0, 0, 0, &mut batch));
    let mut heard = vec![0; batch.len()];
    let (mut delivered, end) = (0, Instant::now() + Duration::from_secs(SECONDS));
    while Instant::now() < end {
        mouth.write_all(&batch)?;
        ear.read_exact(&mut heard)?;
        delivered += BATCH;
    }
    Ok(delivered)
}

fn fan_out(broker: &Broker) -> io::Result<f64> {
    const BATCH: usize = 32;
    let mut ears = Vec::new();
    for n in 0..100 {
        ears.push(broker.subscriber(&format!("fan{n}"), "fan/out", 0)?);
    }
    let mut mouth = broker.client("fan-mouth")?;
    let mut batch = Vec::new();
    (0..BATCH).for_each(|_| publish("fan/out", 0, 0, 0, &mut batch));
    let mut heard = vec![0; batch.len()];
    let before = broker.cpu_secs()?;
    let (mut delivered, end) = (0, Instant::now() + Duration::from_secs(SECONDS));
    while Instant::now() < end {
        mouth.write_all(&batch)?;
        for ear in &mut ears {
            ear.read_exact(&mut heard)?;
        }
        delivered += BATCH * ears.len();
    }
    Ok((broker.cpu_secs()? - before) * 1e6 / delivered as f64)
}

// across a link -----------------------------------------------------------------------------------------------------

fn across(dir: &Path) -> io::Result<()> {
    let (here, there) = linked(dir)?;
    writeln!(
        io::stdout(),
        "\nacross a link on one machine, {PAYLOAD} bytes, one publisher, one subscriber; sync = \"os\""
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
