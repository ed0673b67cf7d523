//! The brokers that are compared: where their programs are, how they are told to serve alone on one port, and how they
//! are started and stopped.
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program that is measured.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    /// What it says of its version.
    pub(super) version: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Midge,
    Mosquitto,
    Nats,
    Rumqttd,
}

/// Whom the ratios are to.
pub(super) const PEER: &str = "mosquitto";
pub(super) const OURS: &str = "midge";

/// Others than ours: name, kind, how to get it.
const OTHERS: [(&str, Kind, &str); 3] = [
    (PEER, Kind::Mosquitto, "apt-get install mosquitto"),
    ("nats-server", Kind::Nats, "apt-get install nats-server"),
    ("rumqttd", Kind::Rumqttd, "cargo install rumqttd"),
];

/// Ours and every other that is installed; says which are not.
pub(super) fn installed(midge: &Path) -> Vec<Broker> {
    let ours =
        Broker { name: OURS, program: midge.to_owned(), version: version(midge, "--version"), kind: Kind::Midge };
    let mut found = vec![ours];
    for (name, kind, how) in OTHERS {
        match find(name) {
            Some(program) => {
                let flag = if kind == Kind::Mosquitto { "-h" } else { "--version" };
                found.push(Broker { name, version: version(&program, flag), program, kind });
            }
            None => println!("{name} is not installed and not compared: {how}"),
        }
    }
    found
}

/// In the search path, in the folders for administrators, or where cargo installs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).chain(home);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The first line that names one.
fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let Ok(output) = output else { return "?".to_owned() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.chars().any(|c| c.is_ascii_digit())).unwrap_or("?");
    let named =
        ["midge ", "mosquitto version ", "nats-server: v", "rumqttd "].iter().find_map(|name| line.strip_prefix(name));
    named.unwrap_or(line).trim().to_owned()
}

/// A broker that runs, with its state in a directory of its own.
pub(super) struct Running {
    process: Child,
    pub(super) port: u16,
}

/// Until a broker answers.
const START_MAX: Duration = Duration::from_secs(20);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// As a crash would end it.
    pub(super) fn kill(mut self) {
        // Ended already is as good; the rest is Drop's.
        let _ = self.process.kill();
    }

    /// Lets it say goodbye, so that a profile or a store is complete.
    pub(super) fn terminate(mut self) {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Broker {
    /// Starts it and waits until it accepts connections.
    pub(super) fn start(&self, dir: &Path, prefix: &[&str]) -> Result<Running, String> {
        let running = self.spawn(dir, prefix)?;
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(("127.0.0.1", running.port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not start", self.name));
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(200));
        Ok(running)
    }

    /// Starts it, with `prefix` before its command, as `taskset` is.
    pub(super) fn spawn(&self, dir: &Path, prefix: &[&str]) -> Result<Running, String> {
        let port = free_port()?;
        let mut command = Command::new("sh");
        // Some brokers leave the limit of open files where they find it.
        command.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"", "sh"]).args(prefix).arg(&self.program);
        self.configure(dir, port, &mut command).map_err(|error| format!("{}: {error}", dir.display()))?;
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        Ok(Running { process, port })
    }

    /// One listener, no log of single messages, and the same limits for all.
    fn configure(&self, dir: &Path, port: u16, command: &mut Command) -> std::io::Result<()> {
        let file = dir.join("config");
        let text = match self.kind {
            Kind::Midge => "[limits]\nconnections_per_address_max = 20000\ninflight_max = 1000\n".to_owned(),
            Kind::Mosquitto => format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
                 max_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\nsys_interval 0\nuser root\n"
            ),
            Kind::Nats => format!(
                "listen: 127.0.0.1:{}\nserver_name: bench\njetstream {{ store_dir: \"{}\" }}\n\
                 mqtt {{ listen: \"127.0.0.1:{port}\", max_ack_pending: 65535 }}\nmax_connections: 20000\n",
                free_port().map_err(std::io::Error::other)?,
                dir.join("store").display()
            ),
            Kind::Rumqttd => format!(
                "id = 0\n[router]\nid = 0\nmax_connections = 11000\nmax_outgoing_packet_count = 200\n\
                 max_segment_size = 104857600\nmax_segment_count = 10\n[v4.1]\nname = \"v4\"\n\
                 listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n[v4.1.connections]\n\
                 connection_timeout_ms = 60000\nmax_payload_size = 20480\nmax_inflight_count = 100\n\
                 dynamic_filters = true\n"
            ),
        };
        fs::write(&file, text)?;
        match self.kind {
            Kind::Midge => {
                command.arg("-c").arg(toml(&file)?).args(["-p", &port.to_string(), "--data"]).arg(dir.join("data"));
            }
            Kind::Mosquitto | Kind::Nats => {
                command.arg("-c").arg(file);
            }
            Kind::Rumqttd => {
                command.args(["-q", "-c"]).arg(toml(&file)?);
            }
        }
        Ok(())
    }
}

/// The same file under a name that says what it is.
fn toml(file: &Path) -> std::io::Result<PathBuf> {
    let named = file.with_extension("toml");
    fs::rename(file, &named)?;
    Ok(named)
}

fn free_port() -> Result<u16, String> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
    port.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}
