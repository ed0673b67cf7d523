//! What a console has the host do beside the conversation: take a script on a port, tell a command of the operator.
use super::{News, Rebirth};
use crate::driver::{Bus, Command};
use node::console::{SessionId, UploadFault};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long an upload is waited for, and how long it may be silent.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a waiting thread looks whether the site has ended.
const LOOK: Duration = Duration::from_millis(500);
/// What waits for the hook command at most.
const ORDERS_MAX: usize = 64;
/// How long the hook command may take.
const HOOK_PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for what a hook has said, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
const HOOK_BYTES_MAX: u64 = 64 * 1024;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    uploads: AtomicBool,
    restarts: AtomicBool,
    stopped: AtomicBool,
}

impl Running {
    /// The site ends.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Takes one script on `address`; one upload at a time. `from`: nobody else may send it.
pub(super) fn upload(
    running: &Arc<Running>,
    address: SocketAddr,
    from: Option<IpAddr>,
    bytes_max: usize,
    tell: impl Fn(Result<Vec<u8>, UploadFault>) + Clone + Send + 'static,
) {
    if running.uploads.swap(true, Ordering::Relaxed) {
        return tell(Err(UploadFault::Busy));
    }
    let shared = Arc::clone(running);
    // Listening begins before the console says that it does.
    let listener = match listen(address) {
        Ok(listener) => listener,
        Err(_) => {
            running.uploads.store(false, Ordering::Relaxed);
            return tell(Err(UploadFault::Port));
        }
    };
    let teller = tell.clone();
    let work = move || {
        let outcome = take(&listener, from, bytes_max, &shared.stopped);
        drop(listener);
        shared.uploads.store(false, Ordering::Relaxed);
        teller(outcome);
    };
    let spawned = std::thread::Builder::new().name("midge-upload".into()).stack_size(128 * 1024).spawn(work);
    if spawned.is_err() {
        running.uploads.store(false, Ordering::Relaxed);
        tell(Err(UploadFault::Threads));
    }
}

/// Sees whether the site could start again; one look at a time.
pub(super) fn look_ahead(
    running: &Arc<Running>,
    rebirth: Rebirth,
    tell: impl Fn(Result<(), String>) + Clone + Send + 'static,
) {
    let Some(plan) = rebirth.plan else { return tell(Ok(())) };
    if running.restarts.swap(true, Ordering::Relaxed) {
        return tell(Err("somebody else has asked for one just now".to_owned()));
    }
    let (teller, shared) = (tell.clone(), Arc::clone(running));
    let work = move || {
        let outcome = plan.check(&rebirth.own_ports);
        shared.restarts.store(false, Ordering::Relaxed);
        teller(outcome);
    };
    let spawned = std::thread::Builder::new().name("midge-restart".into()).spawn(work);
    if spawned.is_err() {
        running.restarts.store(false, Ordering::Relaxed);
        tell(Err("the system has no thread to give".to_owned()));
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Also for `accept` (socket(7)).
    socket.set_read_timeout(Some(LOOK))?;
    socket.bind(&address.into())?;
    socket.listen(4)?;
    Ok(socket)
}

fn take(
    listener: &Socket,
    from: Option<IpAddr>,
    bytes_max: usize,
    stopped: &AtomicBool,
) -> Result<Vec<u8>, UploadFault> {
    let is_wanted = |peer: &socket2::SockAddr| {
        let peer = peer.as_socket().map(|peer| peer.ip().to_canonical());
        from.is_none_or(|from| peer == Some(from.to_canonical()))
    };
    let begun = Instant::now();
    let mut stream = loop {
        if begun.elapsed() >= PATIENCE || stopped.load(Ordering::Relaxed) {
            return Err(UploadFault::Silence);
        }
        match listener.accept() {
            // Whoever else connects first must not be the one whose script runs.
            Ok((stream, peer)) if is_wanted(&peer) => break stream,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if stream.set_read_timeout(Some(LOOK)).is_err() {
        return Err(UploadFault::Silence);
    }
    let (mut text, mut heard, mut piece) = (Vec::new(), Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(text),
            Ok(count) if text.len() + count > bytes_max => return Err(UploadFault::TooLong),
            Ok(count) => {
                text.extend_from_slice(piece.get(..count).unwrap_or_default());
                heard = Instant::now();
            }
            Err(error) if is_timeout(&error) => {
                if heard.elapsed() >= PATIENCE || stopped.load(Ordering::Relaxed) {
                    return Err(UploadFault::Silence);
                }
            }
            Err(_) => return Err(UploadFault::Silence),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The operator's command for what midge can't do by itself.
#[derive(Debug)]
pub(super) struct Hook {
    orders: SyncSender<Order>,
    bus: Bus,
}

#[derive(Debug)]
enum Order {
    Changed { name: &'static str, value: Box<str> },
    Scan { session: SessionId },
}

impl Hook {
    /// `None` when the system has no thread to give.
    pub(super) fn start(program: PathBuf, bus: Bus) -> Option<Self> {
        let (orders, received) = sync_channel(ORDERS_MAX);
        let teller = bus.clone();
        let work = move || obey(&program, &received, &teller);
        let spawned = std::thread::Builder::new().name("midge-hook".into()).stack_size(256 * 1024).spawn(work);
        spawned.ok().map(|_| Self { orders, bus })
    }

    /// A setting has another value. With too many at once the latest are lost: the program asks for all by `show`.
    pub(super) fn changed(&self, name: &'static str, value: &str) {
        let _ = self.orders.try_send(Order::Changed { name, value: value.into() });
    }

    /// Somebody wants to know the wireless networks.
    pub(super) fn scan(&self, session: SessionId) {
        if self.orders.try_send(Order::Scan { session }).is_err() {
            self.bus.send(Command::Console(News::Scanned { session, networks: None }));
        }
    }
}

fn obey(program: &Path, orders: &Receiver<Order>, bus: &Bus) {
    for order in orders {
        match order {
            // The value goes by standard input: arguments can be read by everybody on the machine.
            Order::Changed { name, value } => drop(run(program, &["set", name], value.as_bytes())),
            Order::Scan { session } => {
                let networks = run(program, &["scan"], b"").ok().flatten();
                bus.send(Command::Console(News::Scanned { session, networks }));
            }
        }
    }
}

/// What the program printed, if it ended well and in time.
fn run(program: &Path, words: &[&str], input: &[u8]) -> io::Result<Option<String>> {
    let mut child = std::process::Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read is none that fails; a setting fits into the pipe.
        let _ = stdin.write_all(input);
    }
    let stdout = child.stdout.take();
    let (tell, said) = std::sync::mpsc::channel();
    std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map(|stdout| stdout.take(HOOK_BYTES_MAX).read_to_end(&mut text));
        if read.is_some_and(|read| read.is_ok()) {
            // Nobody waits any longer if it took too long.
            let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
        }
    })?;
    let ended_well = wait(&mut child)?;
    // What it leaves running may hold its output open for ever.
    Ok(said.recv_timeout(LAST_WORDS).ok().filter(|_| ended_well))
}

fn wait(child: &mut Child) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if begun.elapsed() >= HOOK_PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_does_not_end_is_ended_and_its_words_are_bounded() {
        let shell = Path::new("/bin/sh");
        assert_eq!(run(shell, &["-c", "cat"], b"value").unwrap(), Some("value".to_owned()));
        assert_eq!(run(shell, &["-c", "exit 1"], b"").unwrap(), None);
        let long = run(shell, &["-c", "head -c 60000 /dev/zero"], b"").unwrap();
        assert_eq!(long.map(|text| text.len()), Some(60_000));
        assert!(run(Path::new("/nowhere/at/all"), &[], b"").is_err());
        assert_eq!(
            run(shell, &["-c", "sleep 5 & exit 0"], b"").unwrap(),
            None,
            "nobody waits for what it leaves behind"
        );
    }
}
