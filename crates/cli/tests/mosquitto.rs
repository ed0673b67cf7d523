//! Ring 4: `midge pub` and `midge sub` beside Debian's mosquitto_pub and mosquitto_sub, at Debian's mosquitto.
//! Run by name (`cargo test --test mosquitto`, or `cargo xtask test`): real processes and real ports.
//!
//! Nothing sleeps for luck: subscribers register a durable session first (`-E`), what is published waits in it.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whose client runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Midge,
    Mosquitto,
}
use Whose::{Midge, Mosquitto};

const VERSIONS: [&str; 3] = ["31", "311", "5"];
const QOS: [&str; 3] = ["0", "1", "2"];
const PATIENCE: Duration = Duration::from_secs(20);

/// A mosquitto of our own on a free port.
struct Broker {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl Broker {
    fn start(directives: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!("listener {port} 127.0.0.1\npersistence false\nmax_queued_messages 0\n{directives}\n");
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let process = spawn(dir.path(), port);
        Self { dir, port, process }
    }

    fn open() -> Self {
        Self::start("allow_anonymous true")
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = spawn(self.dir.path(), self.port);
    }

    /// `pub` or `sub` with its flags, at this broker.
    fn client(&self, whose: Whose, verb: &str, flags: &[&str]) -> Command {
        let mut command = match whose {
            Midge => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
                command.arg(verb);
                command
            }
            Mosquitto => Command::new(format!("mosquitto_{verb}")),
        };
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, whose: Whose, verb: &str, flags: &[&str]) -> Output {
        self.client(whose, verb, flags).output().unwrap()
    }

    /// Runs and has to succeed; what it printed.
    fn ok(&self, whose: Whose, verb: &str, flags: &[&str]) -> String {
        let output = self.run(whose, verb, flags);
        assert!(output.status.success(), "{whose:?} {verb} {flags:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Stopped already by the test is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(dir: &Path, port: u16) -> Child {
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let log = fs::File::create(dir.join("log")).unwrap();
    let config = dir.join("mosquitto.conf");
    let process = Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_version_and_qos_passes_between_the_two_families() {
    let broker = Broker::open();
    for (from, to) in [(Midge, Mosquitto), (Mosquitto, Midge), (Midge, Midge)] {
        for (version, qos) in VERSIONS.iter().flat_map(|version| QOS.map(|qos| (*version, qos))) {
            let id = format!("{from:?}-{version}-{qos}");
            let session = ["-V", version, "-q", qos, "-t", "some/+", "-c", "-i", &id];
            broker.ok(to, "sub", &[&session[..], &["-E"]].concat());
            // A session keeps no QoS 0: that is shown with a retained message below.
            let publish = ["-V", version, "-q", if qos == "0" { "1" } else { qos }, "-t", "some/topic", "-m", "hällo"];
            broker.ok(from, "pub", &publish);
            if qos != "0" {
                let got = broker.ok(to, "sub", &[&session[..], &["-C", "1", "-W", "10", "-F", "%t %q %p"]].concat());
                assert_eq!(got, format!("some/topic {qos} hällo\n"), "{from:?} to {to:?}, {version}, QoS {qos}");
            }
            let topic = format!("kept/{id}");
            broker.ok(from, "pub", &["-V", version, "-q", qos, "-t", &topic, "-m", "kept", "-r"]);
            let flags = ["-V", version, "-q", qos, "-t", &topic, "-C", "1", "-W", "10", "-F", "%r %q %p"];
            assert_eq!(broker.ok(to, "sub", &flags), format!("1 {qos} kept\n"));
            broker.ok(from, "pub", &["-V", version, "-q", "1", "-t", &topic, "-n", "-r"]);
        }
    }
}

#[test]
fn each_format_prints_what_mosquitto_sub_prints() {
    let broker = Broker::open();
    let message = [
        "-V 5 -q 1 -r -t f/topic -D publish content-type text/plain -D publish response-topic r/t",
        "-D publish correlation-data co -D publish user-property a b -D publish user-property c d",
        "-D publish payload-format-indicator 1",
    ];
    let message = message.join(" ");
    let message: Vec<&str> = message.split(' ').chain(["-m", "{\"a\": 1}"]).collect();
    broker.ok(Midge, "pub", &message);
    let formats = [
        "%t|%p|%x|%X|%q|%r|%l|%m",
        "[%10t][%-10t][%010t][%3.3t][%-20.4t][%.2t]",
        "[%5l][%-5l][%05l][%-05l][%5q][%5r][%10p][%.2p]",
        "[%A][%C][%D][%E][%F][%P][%R][%S][%12C][%-12C|%.3C][%5A][%5S]",
        "[%5m][%05m][%-5E][%05E]",
        "@@ \\a\\e\\n\\r\\t\\v\\\\ %%%5%",
        "@Y-@m-@d",
    ];
    for version in VERSIONS {
        for format in formats {
            let flags = ["-V", version, "-q", "1", "-t", "f/#", "-C", "1", "-W", "10", "-F", format];
            let [ours, theirs] = [Midge, Mosquitto].map(|whose| broker.ok(whose, "sub", &flags));
            assert_eq!(ours, theirs, "{version} {format}");
        }
        for flags in [&["-v"][..], &["-N"], &["-v", "-N"], &[]] {
            let flags = [&["-V", version, "-t", "f/#", "-C", "1", "-W", "10"], flags].concat();
            let [ours, theirs] = [Midge, Mosquitto].map(|whose| broker.ok(whose, "sub", &flags));
            assert_eq!(ours, theirs, "{flags:?}");
        }
        for format in ["%j", "%J"] {
            let flags = ["-V", version, "-q", "1", "-t", "f/#", "-C", "1", "-W", "10", "-F", format];
            let [ours, theirs] = [Midge, Mosquitto].map(|whose| broker.ok(whose, "sub", &flags));
            assert_eq!(without_time(&ours), without_time(&theirs), "{version} {format}");
        }
    }
}

/// They differ in the time stamp, where 2.0.11 writes two zone marks, and in the order of properties.
fn without_time(line: &str) -> serde_json::Value {
    let mut object: serde_json::Value = serde_json::from_str(line).unwrap();
    let time = object.as_object_mut().unwrap().remove("tst").unwrap();
    assert!(time.as_str().unwrap().len() > 26, "{time}");
    object
}

#[test]
fn exit_codes_are_mosquittos() {
    let broker = Broker::open();
    let refusing = Broker::start("allow_anonymous false");
    broker.ok(Mosquitto, "pub", &["-t", "r/1", "-m", "one", "-r", "-q", "1"]);
    let rows: &[(&Broker, &str, &str)] = &[
        (&broker, "pub", "-t a -m b"),
        (&broker, "pub", "-t a -m b -q 2 -V 5"),
        (&broker, "pub", "-t a -n -r --repeat 2"),
        (&broker, "pub", "-t a"),
        (&broker, "pub", "-m b"),
        (&broker, "pub", "-t a/+ -m b"),
        (&broker, "pub", "-t a -m b -n"),
        (&broker, "pub", "-t a -m b -q 3"),
        (&broker, "pub", "-t a -m b -q"),
        (&broker, "pub", "-t a -m b --nonsense"),
        (&broker, "pub", "-t a -m b -V 9"),
        (&broker, "pub", "-t a -m b -c"),
        (&broker, "pub", "-t a -m b -k 2"),
        (&broker, "pub", "-t a -m b -p 99999"),
        (&broker, "pub", "-t a -m b -P x"),
        (&broker, "pub", "-t a -m b --will-payload x"),
        (&broker, "pub", "-t a -m b -i x -I y"),
        (&broker, "pub", "-t a -m b -D publish nosuch b"),
        (&broker, "pub", "-t a -m b -D nosuch content-type b"),
        (&broker, "pub", "-t a -m b -D publish topic-alias 70000"),
        (&broker, "pub", "-t a -f /no/such/file"),
        (&broker, "pub", "-t a -s"),
        (&broker, "pub", "-t a -l"),
        (&broker, "pub", "-t a -m b -p 1"),
        (&broker, "sub", ""),
        (&broker, "sub", "-t a -W 1"),
        (&broker, "sub", "-t a -W 1 --quiet"),
        (&broker, "sub", "-t r/# -C 1 -W 5"),
        (&broker, "sub", "-t r/# -C 2 -W 1"),
        (&broker, "sub", "-t r/# -C 1 -R -W 1"),
        (&broker, "sub", "-t r/# -C 1 -T r/1 -W 1"),
        (&broker, "sub", "-t a/#/b -W 1"),
        (&broker, "sub", "-t a -E"),
        (&broker, "sub", "-t a -W 0"),
        (&broker, "sub", "-t a -C 0"),
        (&broker, "sub", "-t a -C 1 -R --retained-only"),
        (&broker, "sub", "-t a -F %Q"),
        (&broker, "sub", "-t a -V 5 -x -1"),
        (&broker, "sub", "-t a -p 1"),
        (&refusing, "pub", "-t a -m b -V 31"),
        (&refusing, "pub", "-t a -m b"),
        (&refusing, "pub", "-t a -m b -V 5"),
        (&refusing, "sub", "-t a -V 31"),
        (&refusing, "sub", "-t a"),
        (&refusing, "sub", "-t a -V 5 --quiet"),
    ];
    for (broker, verb, flags) in rows {
        let words: Vec<&str> = flags.split_whitespace().collect();
        let [ours, theirs] = [Midge, Mosquitto].map(|whose| broker.run(whose, verb, &words));
        assert_eq!(ours.status.code(), theirs.status.code(), "{verb} {flags}: {ours:?}");
        let is_quiet = words.contains(&"--quiet");
        assert_eq!(ours.stderr.is_empty(), ours.status.success() || is_quiet, "{verb} {flags}: {ours:?}");
    }
}

#[test]
fn lines_arrive_all_and_in_order() {
    let broker = Broker::open();
    let lines: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
    for qos in ["1", "2"] {
        let session = ["-t", "lines", "-q", qos, "-c", "-i", "reader"];
        broker.ok(Midge, "sub", &[&session[..], &["-E"]].concat());
        let published = feed(&mut broker.client(Midge, "pub", &["-t", "lines", "-q", qos, "-l"]), lines.as_bytes());
        assert!(published.status.success(), "{published:?}");
        let got = broker.ok(Midge, "sub", &[&session[..], &["-C", "5000", "-W", "20"]].concat());
        assert!(got == lines, "QoS {qos}: {} bytes of {}", got.len(), lines.len());
    }
    let whole = feed(&mut broker.client(Midge, "pub", &["-t", "whole", "-r", "-q", "1", "-s"]), lines.as_bytes());
    assert!(whole.status.success(), "{whole:?}");
    assert_eq!(broker.ok(Midge, "sub", &["-t", "whole", "-C", "1", "-W", "10", "-N"]), lines);
}

#[test]
fn a_lost_broker_is_waited_for_and_lines_go_on() {
    let mut broker = Broker::open();
    let mut publisher = broker.client(Midge, "pub", &["-t", "a", "-q", "1", "-l", "-d"]);
    let mut publisher = publisher.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    input.write_all(b"before\n").unwrap();
    let mut trace = BufReader::new(publisher.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(trace.any(|line| line.contains("received PUBACK")));
    let mut subscriber = broker.client(Midge, "sub", &["-t", "a", "-q", "1", "-C", "1", "-W", "20", "-d"]);
    let mut subscriber = subscriber.spawn().unwrap();
    let mut heard = BufReader::new(subscriber.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(heard.any(|line| line.contains("received SUBACK")));
    broker.stop();
    input.write_all(b"while it is gone\n").unwrap();
    broker.start_again();
    // Whatever the subscriber missed until it was back, it hears the one that comes after.
    until("the subscriber is back and hears", || {
        broker.ok(Mosquitto, "pub", &["-t", "a", "-m", "after", "-q", "1"]);
        subscriber.try_wait().unwrap().is_some_and(|status| status.success())
    });
    drop(input);
    let trace: Vec<String> = trace.collect();
    assert!(publisher.wait().unwrap().success());
    let count = |what: &str| trace.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("sending CONNECT"), count("received PUBACK")), (1, 1), "{trace:?}");
}

#[test]
fn the_will_speaks_for_a_client_that_vanishes_and_not_for_one_that_is_interrupted() {
    let broker = Broker::open();
    let witness = ["-t", "wills/#", "-q", "1", "-c", "-i", "witness"];
    broker.ok(Mosquitto, "sub", &[&witness[..], &["-E"]].concat());
    for (signal, name) in [("INT", "interrupted"), ("KILL", "vanished")] {
        let topic = format!("wills/{name}");
        let flags = ["-t", "x", "-d", "--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1"];
        let mut child = broker.client(Midge, "sub", &flags).stderr(Stdio::null()).spawn().unwrap();
        let mut trace = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(trace.any(|line| line.contains("received SUBACK")));
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        assert_eq!(status.success(), signal == "INT", "{status}");
    }
    let got = broker.run(Mosquitto, "sub", &[&witness[..], &["-v", "-W", "1"]].concat());
    assert_eq!(String::from_utf8_lossy(&got.stdout), "wills/vanished gone\n");
}

#[test]
fn retained_messages_are_shown_hidden_and_cleared() {
    let broker = Broker::open();
    let fill = || {
        for topic in ["r/1", "r/2", "r/3"] {
            broker.ok(Midge, "pub", &["-t", topic, "-m", topic, "-r", "-q", "1"]);
        }
    };
    fill();
    let seen = |flags: &[&str]| {
        let output = broker.run(Midge, "sub", &[&["-t", "r/#", "-W", "1"], flags].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(seen(&[]), "r/1\nr/2\nr/3\n");
    assert_eq!(seen(&["-R"]), "");
    assert_eq!(seen(&["-T", "r/1", "-T", "r/3"]), "r/2\n");
    // The clearing itself comes back as two empty messages, as with mosquitto_sub.
    assert_eq!(seen(&["--remove-retained", "-T", "r/2", "-R"]), "\n\n");
    assert_eq!(seen(&[]), "r/2\n");
    fill();
    // Ends by itself: its own clearing comes back as the first message that is not retained.
    let cleared = broker.ok(Midge, "sub", &["-t", "r/#", "--remove-retained", "--retained-only"]);
    assert_eq!(cleared, "r/1\nr/2\nr/3\n");
    assert_eq!(seen(&[]), "");
}

#[test]
fn a_session_keeps_what_was_not_counted() {
    let broker = Broker::open();
    for qos in ["1", "2"] {
        let session = ["-t", "count", "-q", qos, "-c", "-i", "counter"];
        broker.ok(Midge, "sub", &[&session[..], &["-E"]].concat());
        for message in ["a", "b", "c"] {
            broker.ok(Midge, "pub", &["-t", "count", "-q", qos, "-m", message]);
        }
        for message in ["a", "b", "c"] {
            let got = broker.ok(Midge, "sub", &[&session[..], &["-C", "1", "-W", "10"]].concat());
            assert_eq!(got, format!("{message}\n"), "QoS {qos}");
        }
    }
}

#[test]
fn a_url_is_all_that_is_needed() {
    let broker = Broker::open();
    let url = format!("mqtt://127.0.0.1:{}/by/url", broker.port);
    let midge = |verb: &str, flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        let output = command.arg(verb).args(["-L", &url]).args(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    midge("pub", &["-m", "hello", "-r"]);
    assert_eq!(midge("sub", &["-C", "1", "-W", "10", "-v"]), "by/url hello\n");
}
