//! Ring 4: `midge bench` at a running site. Run by name (`cargo test --test bench`, or `cargo xtask test`): real
//! processes and real ports.
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIDGE: &str = env!("CARGO_BIN_EXE_midge");
const PATIENCE: Duration = Duration::from_secs(20);

/// A site that keeps its state when it is started again.
struct Site {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl Site {
    fn start(directives: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!("listener {port} 127.0.0.1\n{directives}\n");
        fs::write(dir.path().join("site.conf"), config).unwrap();
        let process = spawn(&dir, port);
        Self { dir, port, process }
    }

    fn open() -> Self {
        Self::start("allow_anonymous true")
    }

    fn kill_and_start_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.dir, self.port);
    }

    fn bench(&self, words: &str) -> Output {
        let mut command = Command::new(MIDGE);
        command.arg("bench").arg(format!("127.0.0.1:{}", self.port)).args(["--json", "--quiet", "--warm-up", "0"]);
        command.args(words.split_whitespace()).output().unwrap()
    }

    /// The one report of a run in which nothing was lost.
    fn report(&self, words: &str) -> Value {
        let output = self.bench(words);
        assert!(output.status.success(), "{words}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(dir: &TempDir, port: u16) -> Child {
    let mut command = Command::new(MIDGE);
    command.arg("-c").arg(dir.path().join("site.conf")).arg("--data").arg(dir.path().join("data"));
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the site does not start");
        sleep(Duration::from_millis(10));
    }
    process
}

fn figures<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}")))
}

#[test]
fn every_flow_arrives_complete_and_in_order_with_every_qos_and_version() {
    let site = Site::open();
    for flow in ["fan-in --publishers 20", "fan-out --subscribers 20", "pairs --publishers 20", "wildcards"] {
        for (qos, version) in [(0, "311"), (1, "5"), (2, "31"), (2, "5")] {
            let words = format!("-s {flow} --seconds 0.2 -q {qos} -V {version} -w 5");
            let report = site.report(&words);
            let spoilt = figures(&report, ["lost", "doubled", "reordered", "refused", "disconnected"]);
            assert_eq!(spoilt, [0; 5], "{words}: {report}");
            assert!(report["delivered"].as_u64() > Some(20), "{words}: {report}");
            let [p50, p99, max] =
                ["latency_p50_us", "latency_p99_us", "latency_max_us"].map(|name| report[name].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{words}: {report}");
        }
    }
}

#[test]
fn an_open_flow_keeps_its_rate() {
    let report = Site::open().report("-s pairs --publishers 4 --rate 500 --seconds 1 -q 1");
    let [published, delivered] = figures(&report, ["published", "delivered"]);
    assert!((400..=600).contains(&published) && delivered > 300, "{report}");
}

#[test]
fn everything_retained_is_read_back_and_deleted() {
    let site = Site::open();
    // More than waits for a connection at once: the site has to go on by itself when that is written.
    let report = site.report("-s retained -n 6000");
    assert_eq!(figures(&report, ["acknowledged", "read", "lost", "doubled"]), [6000, 6000, 0, 0], "{report}");
    let mut ls = Command::new(MIDGE);
    let listed = ls.args(["retained", "ls", "bench/#", "--data"]).arg(site.dir.path().join("data")).output().unwrap();
    assert!(listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains("bench/"), "{listed:?}");
}

#[test]
fn what_was_queued_survives_a_kill() {
    let mut site = Site::open();
    let filled = site.report("-s queued -n 3000 --only fill");
    assert_eq!(filled["acknowledged"], 3000, "{filled}");
    site.kill_and_start_again();
    let drained = site.report("-s queued -n 3000 --only drain");
    assert_eq!(figures(&drained, ["read", "lost", "doubled", "reordered"]), [3000, 0, 0, 0], "{drained}");
    // The session has ended with the drain.
    let again = site.bench("-s queued -n 10 --only drain");
    assert_eq!(again.status.code(), Some(3), "{again:?}");
}

#[test]
fn the_brokers_own_memory_and_time_are_told() {
    let site = Site::open();
    let pid = site.process.id();
    let idle = site.report(&format!("-s idle -n 200 --pid {pid}"));
    assert!(idle["broker_rss_bytes_each"].is_number() && idle["disconnected"] == 0, "{idle}");
    let pairs = site.report(&format!("-s pairs --publishers 5 --seconds 0.3 --pid {pid}"));
    assert!(pairs["broker_cpu_us_per_delivery"].as_f64() > Some(0.0), "{pairs}");
}

#[test]
fn what_a_broker_swallows_is_lost_and_the_exit_code_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    fs::write(&acl, "topic read #\n").unwrap();
    let site = Site::start(&format!("allow_anonymous true\nacl_file {}", acl.display()));
    let output = site.bench("-s pairs --publishers 2 --seconds 0.2");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["delivered"] == 0 && report["lost"].as_u64() > Some(0), "{report}");
}

#[test]
fn what_can_not_be_measured_is_said_with_what_to_do() {
    let site = Site::start("allow_anonymous false\npassword_file /dev/null");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = silent.local_addr().unwrap().port();
    drop(silent);
    let at = |port: u16, words: &str| format!("127.0.0.1:{port} {words}");
    let rows = [
        (at(closed, ""), "does a broker listen there"),
        (at(site.port, ""), "the broker refuses clients: "),
        (at(site.port, "--topic a/+"), "--topic a/+"),
        (at(site.port, "--pid 0"), "is it the broker's process"),
        (at(site.port, "-s idle -n 100"), "101 connections need 117 open files, and this process may have 64"),
        ("no.such.host.invalid".to_owned(), "write HOST, HOST:PORT"),
    ];
    for (words, expected) in rows {
        let limit = if words.contains("idle") { "ulimit -n 64; " } else { "" };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit}exec \"$@\""), "sh", MIDGE, "bench"]).args(words.split_whitespace());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(expected), "{words}: {output:?}");
    }
}
