//! Threads that check passwords: that takes its time on purpose, and the driver has none.
use access::Passwords;
use node::ConnId;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// More at once would take the processors from the messages.
const THREADS_MAX: usize = 4;

/// One password to be checked.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) conn: ConnId,
    /// Which reading of the files this is about.
    pub(super) revision: u64,
    pub(super) passwords: Arc<Passwords>,
    pub(super) user: Box<str>,
    pub(super) password: Zeroizing<Box<[u8]>>,
}

/// Whether it was the right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Whose.
    pub conn: ConnId,
    /// By which reading of the files.
    pub revision: u64,
    /// Right or wrong.
    pub is_right: bool,
}

/// The driver's end. The threads end with it.
#[derive(Debug)]
pub(super) struct Workers(Sender<Job>);

impl Workers {
    /// Starts the threads. `done` is called on them.
    pub(super) fn start(done: impl Fn(Checked) + Send + Sync + 'static) -> io::Result<Self> {
        let (jobs, received) = channel();
        let (received, done) = (Arc::new(Mutex::new(received)), Arc::new(done));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors.div_ceil(2).min(THREADS_MAX) {
            let (received, done) = (Arc::clone(&received), Arc::clone(&done));
            std::thread::Builder::new().name("midge-passwords".into()).spawn(move || work(&received, &*done))?;
        }
        Ok(Self(jobs))
    }

    pub(super) fn check(&self, job: Job) {
        // The threads live as long as this end does.
        let _ = self.0.send(job);
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, done: &(dyn Fn(Checked) + Sync)) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { conn, revision, passwords, user, password }) = job else { return };
        done(Checked { conn, revision, is_right: passwords.verify(&user, &password) });
    }
}
