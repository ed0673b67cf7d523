//! The store's own thread: batches in, commits in order, a word to the driver after each.
use crate::store::{Store, StoreError};
use node::Change;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Deletions outweigh what is left after about this many changes.
const COMPACT_EVERY: u64 = 1_000_000;

enum Job {
    Commit { batch: u64, changes: Vec<Change> },
    Stop,
}

/// The driver's end.
#[derive(Debug)]
pub struct Storage {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Storage {
    /// Starts the thread. `done` is called on it after each batch, with the batch or with what went wrong.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(store: Store, done: impl Fn(Result<u64, StoreError>) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, received) = channel();
        let thread =
            std::thread::Builder::new().name("midge-store".into()).spawn(move || work(store, &received, &done))?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// Hands a batch over. Batches are committed in the order of these calls.
    pub fn commit(&self, batch: u64, changes: Vec<Change>) {
        // After a failed commit the thread has ended and the driver has been told: nothing more is acknowledged.
        let _ = self.jobs.send(Job::Commit { batch, changes });
    }

    /// Waits until everything handed over is committed.
    pub fn stop(mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn work(mut store: Store, jobs: &Receiver<Job>, done: &dyn Fn(Result<u64, StoreError>)) {
    let mut since_compaction = 0;
    while let Ok(Job::Commit { batch, mut changes }) = jobs.recv() {
        let mut last = batch;
        let mut stop = false;
        // What has piled up meanwhile becomes one commit.
        while let Ok(job) = jobs.try_recv() {
            match job {
                Job::Commit { batch, changes: more } => {
                    last = batch;
                    changes.extend(more);
                }
                Job::Stop => {
                    stop = true;
                    break;
                }
            }
        }
        since_compaction += changes.len() as u64;
        if let Err(error) = commit(&mut store, &changes) {
            return done(Err(error));
        }
        done(Ok(last));
        if stop {
            return;
        }
        if since_compaction >= COMPACT_EVERY {
            since_compaction = 0;
            if let Err(error) = store.compact() {
                return done(Err(error));
            }
        }
    }
}

fn commit(store: &mut Store, changes: &[Change]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    store.commit(changes.iter().map(|change| (&*change.key, change.value.as_deref())))
}
