//! The store's own thread: batches in, commits in order, a word to the driver after each.
use crate::store::{Store, StoreError};
use node::Change;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Deletions outweigh what is left after about this many changes.
const COMPACT_EVERY: u64 = 1_000_000;

/// Bytes handed over and not yet committed, beyond which clients wait; beyond four times as much peers wait too.
const BEHIND_BYTES: usize = 32 << 20;

enum Job {
    Commit { batch: u64, changes: Vec<Change> },
    Stop,
}

/// The driver's end.
#[derive(Debug)]
pub struct Storage {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
    /// Batches handed over and not yet committed, with their bytes.
    under_way: VecDeque<(u64, usize)>,
    bytes: usize,
}

/// Who has to wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Behind {
    /// Nobody.
    Not,
    /// Clients.
    Much,
    /// Peers too.
    VeryMuch,
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
        Ok(Self { jobs, thread: Some(thread), under_way: VecDeque::new(), bytes: 0 })
    }

    /// Hands a batch over. Batches are committed in the order of these calls.
    pub fn commit(&mut self, batch: u64, changes: Vec<Change>) {
        let size = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + 64;
        let bytes = changes.iter().map(size).sum();
        self.under_way.push_back((batch, bytes));
        self.bytes += bytes;
        // After a failed commit the thread has ended and the driver has been told: nothing more is acknowledged.
        let _ = self.jobs.send(Job::Commit { batch, changes });
    }

    /// The store has reported this batch.
    pub fn committed(&mut self, batch: u64) {
        while let Some((_, bytes)) = self.under_way.front().copied().filter(|(first, _)| *first <= batch) {
            self.under_way.pop_front();
            self.bytes -= bytes;
        }
    }

    /// Whether the disk is so slow that memory would fill up with what waits for it.
    pub fn behind(&self) -> Behind {
        match self.bytes {
            0..=BEHIND_BYTES => Behind::Not,
            bytes if bytes <= 4 * BEHIND_BYTES => Behind::Much,
            _ => Behind::VeryMuch,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SyncMode;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_waits_for_the_disk_is_counted_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), SyncMode::Os).unwrap();
        let (go, wait) = sync_channel::<()>(0);
        let (tell, told) = channel();
        let mut storage = Storage::start(store, move |done| {
            tell.send(done.unwrap()).unwrap();
            // The first report is slow, as a disk may be.
            let _ = wait.recv();
        })
        .unwrap();
        let change = |n: u8| vec![Change { key: Box::new([b'x', n]), value: Some(vec![n; 20 << 20].into()) }];
        storage.commit(1, change(1));
        assert_eq!(storage.behind(), Behind::Not);
        storage.commit(2, change(2));
        assert_eq!(storage.behind(), Behind::Much);
        (3..8).for_each(|n| storage.commit(u64::from(n), change(n)));
        assert_eq!(storage.behind(), Behind::VeryMuch);
        storage.committed(told.recv().unwrap());
        drop(go);
        while storage.behind() != Behind::Not {
            storage.committed(told.recv().unwrap());
        }
        storage.stop();
    }
}
