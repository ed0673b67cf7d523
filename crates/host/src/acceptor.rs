//! A thread that takes connections of one TCP port and gives each to somebody who does not make it wait.
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STACK_BYTES: usize = 128 * 1024;
/// Until the next try when the system has no descriptor: others may give some back.
const STARVED_PAUSE: Duration = Duration::from_millis(50);
/// For the call that wakes the thread at its end.
const WAKE_PATIENCE: Duration = Duration::from_millis(200);

/// Takes connections until it is dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Acceptor {
    /// Listens on `bind`; each connection is given to `serve`, one after the other. `name` is the thread's.
    ///
    /// # Errors
    /// When the address can't be listened on, or the system has no thread to give.
    pub(crate) fn start(
        bind: SocketAddr,
        name: &str,
        mut serve: impl FnMut(TcpStream) + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(bind)?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stopped);
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                match stream {
                    Ok(stream) => serve(stream),
                    Err(_) => std::thread::sleep(STARVED_PAUSE),
                }
            }
        })?;
        Ok(Self { address, stopped })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // A caller of our own wakes the thread; if none gets through, the process's end ends it.
        let _ = TcpStream::connect_timeout(&self.address, WAKE_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_port_is_free_once_nobody_takes_connections() {
        let (tell, heard) = channel();
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let acceptor = Acceptor::start(bind, "midge-test", move |stream| drop(tell.send(stream.peer_addr()))).unwrap();
        let address = acceptor.address();
        let caller = TcpStream::connect(address).unwrap();
        assert_eq!(heard.recv().unwrap().unwrap(), caller.local_addr().unwrap());
        drop(acceptor);
        // The thread ends, and what it holds with it.
        assert!(heard.recv().is_err());
        let is_refused = || TcpStream::connect(address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        let mut tries = (0..500).inspect(|_| std::thread::sleep(Duration::from_millis(10)));
        assert!(tries.any(|_| is_refused()));
    }
}
