//! The gateway: a thread that takes PROXY headers, TLS and WebSocket off connections, so that the driver sees MQTT
//! bytes and nothing else. Both sides hand each other batches; neither waits for the other, and neither lets more wait
//! than [`READ_WINDOW`] and [`WRITE_WINDOW`] for a connection.
mod line;
pub mod proxy;
pub mod websocket;
mod worker;

use crate::config::{CertificateName, Listener, Protocol};
use crate::driver::{Peer, Socketed};
use crate::tls::{self, TlsError};
use mio::{Poll, Waker};
use node::ConnId;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of one connection that the driver may have left unread; beyond that its socket is not read.
pub const READ_WINDOW: usize = 128 * 1024;
/// Bytes of one connection that the gateway may have left unwritten; beyond that the driver hands over no more.
pub const WRITE_WINDOW: usize = 256 * 1024;
/// How long a connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the connections of a listener need before they are MQTT.
#[derive(Clone, Debug)]
pub struct Manner {
    /// A PROXY header comes first.
    pub proxy_protocol: bool,
    /// Then TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// What of a client's certificate is its user name.
    pub user_name: CertificateName,
    /// Then this.
    pub protocol: Protocol,
}

impl Manner {
    /// Reads what the listener needs; `None`: its connections are MQTT from their first byte.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub fn of(listener: &Listener) -> Result<Option<Self>, TlsError> {
        let Listener { proxy_protocol, protocol, .. } = *listener;
        if !proxy_protocol && listener.tls.is_none() && protocol == Protocol::Mqtt {
            return Ok(None);
        }
        let config = listener.tls.as_ref().map(tls::server).transpose()?;
        let user_name = listener.tls.as_ref().map_or(CertificateName::Unused, |tls| tls.user_name);
        Ok(Some(Self { proxy_protocol, tls: config, user_name, protocol }))
    }
}

/// What the driver wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// Make MQTT of this connection.
    Take { conn: ConnId, socket: Socketed, manner: Arc<Manner> },
    /// Send these bytes of MQTT.
    Write { conn: ConnId, bytes: Vec<u8> },
    /// So many bytes of [`News::Received`] are used up.
    Taken { conn: ConnId, bytes: usize },
    /// Send what there is, then say goodbye. [`News::Ended`] follows.
    Close { conn: ConnId },
    /// No more orders come.
    Stop,
}

/// What the driver is told.
#[derive(Debug)]
pub enum News {
    /// MQTT begins.
    Ready {
        /// Which connection.
        conn: ConnId,
        /// What is known about the client by now.
        client: Introduction,
    },
    /// Bytes of MQTT.
    Received {
        /// From which connection.
        conn: ConnId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// So many bytes are in the kernel's hands.
    Written {
        /// Of which connection.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The connection is gone.
    Ended {
        /// Which.
        conn: ConnId,
        /// Why, if it never became MQTT.
        why: Option<String>,
    },
}

/// What a connection has shown before its first byte of MQTT.
#[derive(Debug, Default)]
pub struct Introduction {
    /// The client's address according to the proxy.
    pub address: Option<Peer>,
    /// The user name that its certificate proves.
    pub user: Option<Box<str>>,
}

/// The driver's end.
#[derive(Debug)]
pub struct Gateway {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    has_orders: bool,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts the thread. `tell` is called on it, once a round. What is not MQTT after `patience` is closed.
    ///
    /// # Errors
    /// When the system has no thread or event queue to give.
    pub fn start(patience: Duration, tell: impl Fn(Vec<News>) + Send + 'static) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::WAKER)?);
        let (orders, received) = channel();
        let worker = worker::Worker::new(poll, received, patience, Box::new(tell));
        let thread = std::thread::Builder::new().name("midge-gateway".into()).spawn(move || worker.work())?;
        Ok(Self { orders, waker, has_orders: false, thread: Some(thread) })
    }

    /// Leaves an order, which is seen after [`Gateway::wake`].
    pub(crate) fn order(&mut self, order: Order) {
        // The thread ends after [`Order::Stop`] only.
        self.has_orders |= self.orders.send(order).is_ok();
    }

    /// Once a round of the driver.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.has_orders) {
            // A failed wake-up delays the orders until the next event; they are not lost.
            let _ = self.waker.wake();
        }
    }
}

/// What was handed over is still sent, within a few seconds.
impl Drop for Gateway {
    fn drop(&mut self) {
        self.order(Order::Stop);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
