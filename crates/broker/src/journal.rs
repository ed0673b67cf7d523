//! What is to be stored, in batches, and who waits for it.
use crate::door::Change;
use crate::queue::BodyId;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The changes of the open batch, the batches under way, and how many queues owe each stored message.
#[derive(Debug)]
pub(crate) struct Journal {
    changes: Vec<Change>,
    /// Our number of the open batch.
    open: u64,
    committed: u64,
    /// Batches under way: the node's number and ours.
    sealed: VecDeque<(u64, u64)>,
    /// Whether what the running operation sends waits for the open batch.
    holding: bool,
    /// Whether the running operation sent something that does not wait.
    sent_unheld: bool,
    bodies: HashMap<BodyId, u32, FixedState>,
    next_body: NonZeroU64,
}

impl Journal {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            changes: Vec::new(),
            open: 1,
            committed: 0,
            sealed: VecDeque::new(),
            holding: false,
            sent_unheld: false,
            bodies: HashMap::with_hasher(FixedState::with_seed(seed)),
            next_body: NonZeroU64::MIN,
        }
    }

    /// A new operation, a packet or an input, which depends on nothing yet.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.holding = false;
        self.sent_unheld = false;
    }

    /// What this operation sends from now on waits for the open batch.
    pub(crate) fn hold(&mut self) {
        self.holding = true;
    }

    /// What was promised in this batch of ours is not stored yet, so what follows from it waits too.
    pub(crate) fn hold_after(&mut self, batch: u64) {
        if batch > self.committed {
            self.holding = true;
        }
    }

    /// The batch that bytes appended now wait for. Called where bytes are appended.
    #[inline]
    pub(crate) fn holds(&mut self) -> Option<u64> {
        if self.holding {
            return Some(self.open);
        }
        self.sent_unheld = true;
        None
    }

    /// Whether the running operation waits for the open batch.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding
    }

    /// Our number of the open batch.
    pub(crate) fn open_batch(&self) -> u64 {
        self.open
    }

    /// A change that what this operation sends depends on.
    pub(crate) fn store(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        debug_assert!(!self.sent_unheld, "an operation stores before it sends");
        self.holding = true;
        self.note(key, value);
    }

    /// A change that nothing sent depends on: lost with a crash, it costs a repetition that MQTT allows.
    pub(crate) fn note(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes.push(Change { key: key.into_boxed_slice(), value: value.map(Vec::into_boxed_slice) });
    }

    /// A new number for a message body that will be stored.
    pub(crate) fn new_body(&mut self) -> BodyId {
        let id = BodyId(self.next_body);
        // 2^64 messages take longer than any store lasts.
        self.next_body = self.next_body.saturating_add(1);
        id
    }

    /// A body that a store had.
    pub(crate) fn known_body(&mut self, id: BodyId) {
        self.next_body = self.next_body.max(id.0.saturating_add(1));
    }

    /// One more queue owes this body.
    pub(crate) fn retain_body(&mut self, id: BodyId) {
        *self.bodies.entry(id).or_insert(0) += 1;
    }

    /// One queue less; the body goes with the last one.
    pub(crate) fn release_body(&mut self, id: BodyId) {
        if let Some(count) = self.bodies.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.bodies.remove(&id);
                self.note(crate::record::body_key(id), None);
            }
        }
    }

    /// Whether a queue owes this body.
    pub(crate) fn owes_body(&self, id: BodyId) -> bool {
        self.bodies.contains_key(&id)
    }

    /// Closes the open batch under the node's number.
    pub(crate) fn seal(&mut self, batch: u64) -> Vec<Change> {
        self.sealed.push_back((batch, self.open));
        self.open += 1;
        core::mem::take(&mut self.changes)
    }

    /// The node's batch and all before it are stored: the last number of ours that this means.
    pub(crate) fn committed(&mut self, batch: u64) -> u64 {
        while let Some(&(_, ours)) = self.sealed.front().filter(|(theirs, _)| *theirs <= batch) {
            self.committed = ours;
            self.sealed.pop_front();
        }
        self.committed
    }
}
