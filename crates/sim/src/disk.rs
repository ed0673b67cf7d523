//! A site's disk: what is committed survives a crash, what is under way may or may not.
use crate::dice::Dice;
use node::Change;
use std::collections::{BTreeMap, VecDeque};

/// Records by key, and the batches on their way there.
#[derive(Debug, Default)]
pub struct Disk {
    records: BTreeMap<Box<[u8]>, Box<[u8]>>,
    under_way: VecDeque<Batch>,
    /// Batches committed so far.
    pub commits: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    /// When it will be committed, in microseconds.
    at: u64,
    changes: Vec<Change>,
}

impl Disk {
    /// A batch sets out. Batches arrive in order.
    pub fn commit(&mut self, number: u64, at: u64, changes: Vec<Change>) {
        let at = self.under_way.back().map_or(at, |last| last.at.max(at));
        self.under_way.push_back(Batch { number, at, changes });
    }

    /// When the next batch is committed.
    pub fn due(&self) -> Option<u64> {
        self.under_way.front().map(|batch| batch.at)
    }

    /// The last batch that is committed by `now`, if there is a new one.
    pub fn arrive(&mut self, now: u64) -> Option<u64> {
        let mut last = None;
        while self.due().is_some_and(|at| at <= now) {
            let Some(batch) = self.under_way.pop_front() else { break };
            last = Some(batch.number);
            self.apply(batch);
        }
        last
    }

    fn apply(&mut self, batch: Batch) {
        self.commits += 1;
        for change in batch.changes {
            match change.value {
                Some(value) => self.records.insert(change.key, value),
                None => self.records.remove(&change.key),
            };
        }
    }

    /// The site dies: of the batches under way a beginning has reached the disk, as many as the dice say.
    pub fn crash(&mut self, dice: &mut Dice) {
        let reached = dice.below(self.under_way.len() as u64 + 1);
        for batch in std::mem::take(&mut self.under_way).into_iter().take(reached as usize) {
            self.apply(batch);
        }
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.records.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Tears one record. The store's check sums find that at the next start, and its owner is told the key without a
    /// value. Returns whether there was a record whose key starts so.
    pub fn tear(&mut self, prefix: &[u8], dice: &mut Dice) -> bool {
        let keys: Vec<_> = self.records.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        let Some(key) = keys.get(dice.below(keys.len() as u64) as usize) else { return false };
        if let Some(value) = self.records.get_mut(key) {
            *value = Box::default();
        }
        true
    }

    /// Forgets every record whose key starts so: for planted bugs.
    pub fn forget(&mut self, prefix: &[u8]) {
        self.records.retain(|key, _| !key.starts_with(prefix));
    }
}
