//! One connection on its way from the socket to MQTT and back.
use super::websocket::{self, CloseCode, Decoder, Event, Upgrade};
use super::{Introduction, Manner, News, READ_WINDOW, proxy};
use crate::config::{CertificateName, Protocol};
use crate::driver::{Peer, Socketed};
use crate::tls;
use node::ConnId;
use rustls::ServerConnection;
use std::io::{self, Read, Write};
use std::net::Shutdown;

/// Bytes read from one connection before the others have their turn.
const READ_BUDGET: usize = 256 * 1024;
/// What is to become of a line.
pub(super) enum Next {
    /// Nothing until something happens.
    Wait,
    /// It has more to read.
    Again,
    /// It has begun to say goodbye.
    Leave,
    /// It is over; if it never became MQTT, why.
    End(Option<String>),
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// What comes first is a PROXY header.
    Proxy(Vec<u8>),
    /// TLS agrees on keys.
    Handshake,
    /// A request for a WebSocket.
    Request(Vec<u8>),
    /// MQTT, or frames of it.
    Serving,
    /// What is to be sent is sent, nothing more is told.
    Leaving { why: Option<String> },
    /// All is sent; the other end closes.
    Lingering { why: Option<String> },
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) conn: ConnId,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// Whether it is in the list of those that have something to do.
    pub(super) is_busy: bool,
    socket: Socketed,
    stage: Stage,
    tls: Option<Box<ServerConnection>>,
    frames: Option<Decoder>,
    protocol: Protocol,
    user_name: CertificateName,
    address: Option<Peer>,
    /// Bytes for the socket, if there is no TLS that keeps them.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes of MQTT that the driver handed over and that are not sent.
    owed: usize,
    /// Bytes of MQTT that the driver has been given and has not used up.
    untaken: usize,
}

/// Why a line ends before it is MQTT, or breaks afterwards.
type Broken = Option<String>;

impl Line {
    pub(super) fn new(conn: ConnId, socket: Socketed, manner: &Manner) -> Result<Self, String> {
        let tls = match &manner.tls {
            None => None,
            Some(config) => {
                let mut tls = ServerConnection::new(config.clone()).map_err(|error| error.to_string())?;
                // Bounded by the driver's window.
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
        };
        let mut line = Self {
            conn,
            is_readable: true,
            is_writable: true,
            is_busy: false,
            socket,
            stage: Stage::Proxy(Vec::new()),
            tls,
            frames: None,
            protocol: manner.protocol,
            user_name: manner.user_name,
            address: None,
            unsent: Vec::new(),
            sent: 0,
            owed: 0,
            untaken: 0,
        };
        if !manner.proxy_protocol {
            line.stage = line.after_proxy();
        }
        Ok(line)
    }

    fn after_proxy(&self) -> Stage {
        if self.tls.is_some() { Stage::Handshake } else { Stage::Request(Vec::new()) }
    }

    /// What it is still doing if it is not MQTT yet.
    pub(super) fn unready_stage(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Proxy(_) => Some("the PROXY header"),
            Stage::Handshake => Some("the TLS handshake"),
            Stage::Request(_) => Some("the WebSocket request"),
            Stage::Serving | Stage::Leaving { .. } | Stage::Lingering { .. } => None,
        }
    }

    /// MQTT bytes from the driver.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        self.owed += bytes.len();
        if self.frames.is_some() {
            let mut frame = Vec::with_capacity(bytes.len() + 10);
            websocket::encode(bytes, &mut frame);
            self.put(&frame);
        } else {
            self.put(bytes);
        }
    }

    /// The driver has used up so many bytes.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.untaken = self.untaken.saturating_sub(bytes);
    }

    /// Says goodbye once all is sent.
    pub(super) fn close(&mut self) {
        if !matches!(self.stage, Stage::Leaving { .. } | Stage::Lingering { .. }) {
            self.leave(CloseCode::Normal, None);
        }
    }

    fn leave(&mut self, code: CloseCode, why: Broken) {
        if self.frames.is_some() {
            let mut frame = Vec::new();
            websocket::encode_close(code, &mut frame);
            self.put(&frame);
        }
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.stage = Stage::Leaving { why };
        // What comes now is thrown away.
        self.untaken = 0;
    }

    /// Takes bytes for the other end.
    fn put(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            // Its buffer has no limit, so that this never fails.
            Some(tls) => drop(tls.writer().write_all(bytes)),
            None => self.unsent.extend_from_slice(bytes),
        }
    }

    /// Reads and writes what is there.
    pub(super) fn advance(&mut self, buffer: &mut [u8], news: &mut Vec<News>) -> Next {
        let was_leaving = matches!(self.stage, Stage::Leaving { .. });
        let more = match self.read(buffer, news) {
            Ok(more) => more,
            Err(why) => {
                // An alert may be on its way.
                let _ = self.write();
                return Next::End(why);
            }
        };
        match self.write() {
            Ok(true) => {
                if self.owed > 0 {
                    news.push(News::Written { conn: self.conn, bytes: std::mem::take(&mut self.owed) });
                }
                if let Stage::Leaving { why } = &mut self.stage {
                    let why = why.take();
                    // An error means that the other end has gone already.
                    let _ = self.socket.shutdown(Shutdown::Write);
                    self.stage = Stage::Lingering { why };
                    return if was_leaving { Next::Again } else { Next::Leave };
                }
            }
            Ok(false) => {}
            Err(error) => return Next::End(self.unready_stage().map(|stage| format!("{stage}: {error}"))),
        }
        match (&self.stage, more) {
            (Stage::Leaving { .. }, _) if !was_leaving => Next::Leave,
            (_, true) => Next::Again,
            (_, false) => Next::Wait,
        }
    }

    /// Whether everything is sent.
    fn write(&mut self) -> io::Result<bool> {
        if !self.is_writable {
            return Ok(false);
        }
        loop {
            let wrote = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                Some(_) => return Ok(true),
                None => match self.unsent.get(self.sent..) {
                    None | Some([]) => {
                        self.unsent = Vec::new();
                        self.sent = 0;
                        return Ok(true);
                    }
                    Some(rest) => self.socket.write(rest).inspect(|n| self.sent += n),
                },
            };
            match wrote {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_writable = false;
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there is more to read at once.
    fn read(&mut self, buffer: &mut [u8], news: &mut Vec<News>) -> Result<bool, Broken> {
        let mut budget = READ_BUDGET;
        while self.is_readable && self.untaken < READ_WINDOW {
            if budget == 0 {
                return Ok(true);
            }
            let through_tls = self.tls.is_some() && !matches!(self.stage, Stage::Proxy(_) | Stage::Lingering { .. });
            let read = if through_tls { self.read_tls() } else { self.socket.read(buffer) };
            match read {
                Ok(0) => return Err(self.end_of_stream()),
                Ok(n) => {
                    budget = budget.saturating_sub(n);
                    match through_tls {
                        true => self.decrypt(buffer, news)?,
                        false => self.take(buffer.get_mut(..n).unwrap_or_default(), news)?,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unready_stage().map(|stage| format!("{stage}: {error}"))),
            }
        }
        Ok(false)
    }

    fn read_tls(&mut self) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read_tls(&mut self.socket),
            None => Ok(0),
        }
    }

    fn end_of_stream(&mut self) -> Broken {
        if let Stage::Leaving { why } | Stage::Lingering { why } = &mut self.stage {
            return why.take();
        }
        self.unready_stage().map(|stage| format!("the client has gone before {stage} was complete"))
    }

    /// Takes what TLS has been given; all of its plain bytes are taken at once.
    fn decrypt(&mut self, buffer: &mut [u8], news: &mut Vec<News>) -> Result<(), Broken> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if let Err(error) = tls.process_new_packets() {
            let stage = self.unready_stage().unwrap_or("TLS");
            return Err(Some(format!("{stage}: {error}")));
        }
        if matches!(self.stage, Stage::Handshake) && !tls.is_handshaking() {
            self.stage = Stage::Request(Vec::new());
            self.take(&mut [], news)?;
        }
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            match tls.reader().read(buffer) {
                Ok(0) => return Err(self.end_of_stream()),
                Ok(n) => self.take(buffer.get_mut(..n).unwrap_or_default(), news)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Some(error.to_string())),
            }
        }
    }

    /// Plain bytes.
    fn take(&mut self, bytes: &mut [u8], news: &mut Vec<News>) -> Result<(), Broken> {
        match &mut self.stage {
            Stage::Proxy(begun) => {
                begun.extend_from_slice(bytes);
                match proxy::header(begun) {
                    proxy::Header::More => Ok(()),
                    proxy::Header::Wrong(why) => Err(Some(why.to_owned())),
                    proxy::Header::Complete { taken, client } => {
                        let rest = begun.split_off(taken);
                        self.address = client.map(Peer::Remote);
                        self.stage = self.after_proxy();
                        self.take_first(rest, news)
                    }
                }
            }
            // Only TLS itself is read then.
            Stage::Handshake => Ok(()),
            Stage::Request(_) if self.protocol == Protocol::Mqtt => {
                self.introduce(news)?;
                self.take(bytes, news)
            }
            Stage::Request(begun) => {
                begun.extend_from_slice(bytes);
                let request = std::mem::take(begun);
                self.upgrade(request, news)
            }
            Stage::Serving if self.frames.is_some() => self.take_frames(bytes, news),
            Stage::Serving => {
                self.receive(bytes.to_vec(), news);
                Ok(())
            }
            Stage::Leaving { .. } | Stage::Lingering { .. } => Ok(()),
        }
    }

    /// Bytes that came together with the PROXY header.
    fn take_first(&mut self, mut rest: Vec<u8>, news: &mut Vec<News>) -> Result<(), Broken> {
        if !matches!(self.stage, Stage::Handshake) {
            return self.take(&mut rest, news);
        }
        let mut rest = rest.as_slice();
        let mut buffer = vec![0; 16 * 1024];
        while !rest.is_empty() {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            tls.read_tls(&mut rest).map_err(|error| Some(error.to_string()))?;
            self.decrypt(&mut buffer, news)?;
        }
        Ok(())
    }

    fn upgrade(&mut self, mut request: Vec<u8>, news: &mut Vec<News>) -> Result<(), Broken> {
        match websocket::upgrade(&request) {
            Upgrade::More => self.stage = Stage::Request(request),
            Upgrade::Accept { taken, response } => {
                self.put(response.as_bytes());
                self.introduce(news)?;
                self.frames = Some(Decoder::default());
                return self.take(request.get_mut(taken..).unwrap_or_default(), news);
            }
            Upgrade::Refuse { response, why } => {
                self.put(response.as_bytes());
                self.leave(CloseCode::Normal, Some(format!("the WebSocket request is refused: {why}")));
            }
        }
        Ok(())
    }

    /// MQTT begins.
    fn introduce(&mut self, news: &mut Vec<News>) -> Result<(), Broken> {
        let certificate = self.tls.as_ref().and_then(|tls| tls.peer_certificates()?.first());
        let user = match (self.user_name, certificate) {
            (CertificateName::Unused, _) | (_, None) => None,
            (wanted, Some(certificate)) => match tls::user_name(certificate, wanted) {
                Some(user) => Some(user),
                None => {
                    return Err(Some("the client's certificate has no name that could be its user name".to_owned()));
                }
            },
        };
        self.stage = Stage::Serving;
        let client = Introduction { address: self.address, user };
        news.push(News::Ready { conn: self.conn, client });
        Ok(())
    }

    fn take_frames(&mut self, bytes: &mut [u8], news: &mut Vec<News>) -> Result<(), Broken> {
        let Some(mut frames) = self.frames.take() else { return Ok(()) };
        let (mut received, mut pongs, mut goodbye) = (Vec::with_capacity(bytes.len()), Vec::new(), None);
        let outcome = frames.decode(bytes, |event| match event {
            Event::Bytes(bytes) => received.extend_from_slice(bytes),
            Event::Ping(payload) => websocket::encode_pong(payload, &mut pongs),
            Event::Close => goodbye = Some(CloseCode::Normal),
        });
        self.frames = Some(frames);
        if !received.is_empty() {
            self.receive(received, news);
        }
        // Who pings and does not read gets no answers that would pile up.
        if !self.is_writable {
            pongs.clear();
        }
        self.put(&pongs);
        if let Some(code) = outcome.err().or(goodbye) {
            self.leave(code, None);
        }
        Ok(())
    }

    fn receive(&mut self, bytes: Vec<u8>, news: &mut Vec<News>) {
        if !bytes.is_empty() {
            self.untaken += bytes.len();
            news.push(News::Received { conn: self.conn, bytes });
        }
    }
}
