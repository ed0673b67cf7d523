//! The thread: an event queue of its own, and the connections on it.
use super::line::{Line, Next};
use super::{FAREWELL, News, Order};
use mio::{Events, Interest, Poll, Token};
use node::ConnId;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

pub(super) const WAKER: Token = Token(usize::MAX);
const EVENTS_PER_ROUND: usize = 1_024;
/// Bytes that one read takes at most.
const READ_BUFFER: usize = 64 * 1024;

pub(super) struct Worker {
    poll: Poll,
    orders: Receiver<Order>,
    patience: Duration,
    tell: Box<dyn Fn(Vec<News>) + Send>,
    lines: Slab<Line>,
    by_conn: HashMap<ConnId, usize>,
    /// Lines that have something to do.
    busy: Vec<usize>,
    /// When those must be MQTT that are not yet; in the order of time, since all have the same patience.
    unready: VecDeque<(Instant, ConnId)>,
    /// When those are given up that are saying goodbye.
    leaving: VecDeque<(Instant, ConnId)>,
    news: Vec<News>,
    buffer: Vec<u8>,
    is_stopping: bool,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        orders: Receiver<Order>,
        patience: Duration,
        tell: Box<dyn Fn(Vec<News>) + Send>,
    ) -> Self {
        Self {
            poll,
            orders,
            patience,
            tell,
            lines: Slab::new(),
            by_conn: HashMap::new(),
            busy: Vec::new(),
            unready: VecDeque::new(),
            leaving: VecDeque::new(),
            news: Vec::new(),
            buffer: vec![0; READ_BUFFER],
            is_stopping: false,
        }
    }

    pub(super) fn work(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        while !(self.is_stopping && self.lines.is_empty()) {
            let deadline = self.unready.front().into_iter().chain(self.leaving.front()).map(|(at, _)| *at).min();
            let rest = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = if self.busy.is_empty() { rest } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                Ok(()) | Err(_) => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.stir(event.token().0, readable, event.is_writable());
            }
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            for key in std::mem::take(&mut self.busy) {
                self.advance(key);
            }
            self.expire(Instant::now());
            if !self.news.is_empty() {
                (self.tell)(std::mem::take(&mut self.news));
            }
        }
    }

    fn stir(&mut self, key: usize, readable: bool, writable: bool) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.is_readable |= readable;
        line.is_writable |= writable;
        self.mark(key);
    }

    fn mark(&mut self, key: usize) {
        if let Some(line) = self.lines.get_mut(key)
            && !std::mem::replace(&mut line.is_busy, true)
        {
            self.busy.push(key);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Take { conn, mut socket, manner } => {
                let key = self.lines.vacant_key();
                let interests = Interest::READABLE | Interest::WRITABLE;
                let registered = self.poll.registry().register(&mut socket, Token(key), interests);
                match registered.map_err(|error| error.to_string()).and_then(|()| Line::new(conn, socket, &manner)) {
                    Ok(line) => {
                        self.lines.insert(line);
                        self.by_conn.insert(conn, key);
                        self.unready.push_back((Instant::now() + self.patience, conn));
                        self.mark(key);
                    }
                    Err(why) => self.news.push(News::Ended { conn, why: Some(why) }),
                }
            }
            Order::Write { conn, bytes } => self.change(conn, |line| line.send(&bytes)),
            Order::Taken { conn, bytes } => self.change(conn, |line| line.taken(bytes)),
            Order::Close { conn } => self.close(conn),
            Order::Stop => {
                self.is_stopping = true;
                for conn in self.lines.iter().map(|(_, line)| line.conn).collect::<Vec<_>>() {
                    self.close(conn);
                }
            }
        }
    }

    fn change(&mut self, conn: ConnId, change: impl FnOnce(&mut Line)) {
        let Some(&key) = self.by_conn.get(&conn) else { return };
        if let Some(line) = self.lines.get_mut(key) {
            change(line);
            self.mark(key);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let by = Instant::now() + FAREWELL;
        self.change(conn, Line::close);
        self.leaving.push_back((by, conn));
    }

    fn advance(&mut self, key: usize) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.is_busy = false;
        let conn = line.conn;
        match line.advance(&mut self.buffer, &mut self.news) {
            Next::Wait => {}
            Next::Again => self.mark(key),
            Next::Leave => {
                self.leaving.push_back((Instant::now() + FAREWELL, conn));
                self.mark(key);
            }
            Next::End(why) => self.end(key, why),
        }
    }

    fn end(&mut self, key: usize, why: Option<String>) {
        let line = self.lines.remove(key);
        self.by_conn.remove(&line.conn);
        self.news.push(News::Ended { conn: line.conn, why });
    }

    fn expire(&mut self, now: Instant) {
        while let Some(conn) = pop_due(&mut self.unready, now) {
            let Some(&key) = self.by_conn.get(&conn) else { continue };
            if let Some(stage) = self.lines.get(key).and_then(Line::unready_stage) {
                self.end(key, Some(format!("{stage} took too long")));
            }
        }
        while let Some(conn) = pop_due(&mut self.leaving, now) {
            if let Some(&key) = self.by_conn.get(&conn) {
                self.end(key, None);
            }
        }
    }
}

fn pop_due(queue: &mut VecDeque<(Instant, ConnId)>, now: Instant) -> Option<ConnId> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    is_due.then(|| queue.pop_front())?.map(|(_, conn)| conn)
}
