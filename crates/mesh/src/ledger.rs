//! What was accepted from one origin: the reason why nothing arrives twice.
use crate::event::Fault;
use crate::frame::Floor;
use crate::ranges::Ranges;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Epochs of one origin that may be open at a time; its floor closes them.
const EPOCHS_MAX: usize = 1024;
/// Ranges above the marks, in all epochs together. Large messages that one link after the other could not finish leave
/// a range each, so the window is no bound.
const RANGES_MAX: usize = 16_384;

/// Per start of the origin: the sequences that are settled, that is accepted or never to come.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    epochs: BTreeMap<u64, Ranges>,
    /// Ranges above the marks of all epochs.
    ranges: usize,
    /// Nothing below comes any more.
    floor: Floor,
    /// Epochs whose record must be written, or deleted if they are gone.
    dirty: BTreeSet<u64>,
    /// Epochs whose record was damaged: the origin's floor says where they stand.
    damaged: BTreeSet<u64>,
}

/// What a damaged epoch came to when the origin said HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Repair {
    pub(crate) epoch: u64,
    pub(crate) from: u64,
}

impl Ledger {
    pub(crate) fn restore(&mut self, epoch: u64, ranges: Ranges) {
        self.ranges += ranges.gaps();
        self.epochs.insert(epoch, ranges);
    }

    pub(crate) fn restore_damaged(&mut self, epoch: u64) {
        self.damaged.insert(epoch);
        self.dirty.insert(epoch);
    }

    pub(crate) fn damaged(&self) -> impl Iterator<Item = u64> {
        self.damaged.iter().copied()
    }

    /// Whether the message is new; then it and all between it and `previous` is settled.
    pub(crate) fn accept(&mut self, id: Floor, previous: u64) -> Result<bool, Fault> {
        if id < self.floor {
            return Ok(false);
        }
        if !self.epochs.contains_key(&id.epoch) && self.epochs.len() >= EPOCHS_MAX {
            return Err(Fault::LedgerFull);
        }
        let ranges = self.epochs.entry(id.epoch).or_default();
        if ranges.contains(id.sequence) {
            return Ok(false);
        }
        if self.ranges >= RANGES_MAX {
            return Err(Fault::LedgerFull);
        }
        let gaps = ranges.gaps();
        ranges.insert(previous.saturating_add(1), id.sequence);
        self.ranges = self.ranges + ranges.gaps() - gaps;
        self.dirty.insert(id.epoch);
        Ok(true)
    }

    /// The origin owes nothing below `floor`. Never touches epochs above it, so that a late word does no harm.
    pub(crate) fn raise(&mut self, floor: Floor) -> Vec<Repair> {
        if floor <= self.floor {
            return Vec::new();
        }
        self.floor = floor;
        let keep = self.epochs.split_off(&floor.epoch);
        let closed = core::mem::replace(&mut self.epochs, keep);
        self.dirty.extend(closed.into_keys());
        if floor.sequence > 1 && self.epochs.len() < EPOCHS_MAX {
            let ranges = self.epochs.entry(floor.epoch).or_default();
            if ranges.mark() < floor.sequence - 1 {
                ranges.insert(1, floor.sequence - 1);
                self.dirty.insert(floor.epoch);
            }
        }
        self.ranges = self.epochs.values().map(Ranges::gaps).sum();
        let open = self.damaged.split_off(&floor.epoch);
        self.damaged.clear();
        open.into_iter().map(|epoch| Repair { epoch, from: self.mark(epoch) + 1 }).collect()
    }

    fn mark(&self, epoch: u64) -> u64 {
        self.epochs.get(&epoch).map_or(0, Ranges::mark)
    }

    pub(crate) fn epochs(&self) -> impl Iterator<Item = (u64, &Ranges)> {
        self.epochs.iter().map(|(&epoch, ranges)| (epoch, ranges))
    }

    /// All epochs that may have a record.
    pub(crate) fn known_epochs(&self) -> BTreeSet<u64> {
        self.epochs.keys().chain(&self.dirty).chain(&self.damaged).copied().collect()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The epochs to write; `None` is to be deleted.
    pub(crate) fn take_dirty(&mut self) -> impl Iterator<Item = (u64, Option<&Ranges>)> {
        core::mem::take(&mut self.dirty).into_iter().map(|epoch| (epoch, self.epochs.get(&epoch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, sequence: u64) -> Floor {
        Floor { epoch, sequence }
    }

    #[test]
    fn accepts_once_and_settles_what_was_skipped() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.accept(id(1, 5), 0), Ok(true), "1 to 4 were never for us");
        assert_eq!(ledger.accept(id(1, 5), 0), Ok(false));
        assert_eq!(ledger.accept(id(1, 3), 0), Ok(false));
        assert_eq!(ledger.accept(id(1, 9), 7), Ok(true), "7 is still to come");
        assert_eq!(ledger.accept(id(1, 7), 0), Ok(true));
        assert_eq!(ledger.mark(1), 9);
    }

    #[test]
    fn a_floor_closes_older_epochs_and_only_those() {
        let mut ledger = Ledger::default();
        for epoch in [1, 2, 3] {
            assert_eq!(ledger.accept(id(epoch, 4), 2), Ok(true));
        }
        ledger.raise(id(2, 3));
        assert_eq!(ledger.epochs().map(|(epoch, _)| epoch).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((ledger.mark(2), ledger.mark(3)), (4, 0));
        assert_eq!(ledger.accept(id(1, 9), 0), Ok(false), "a late copy of a closed epoch");
        ledger.raise(id(1, 1));
        assert_eq!(ledger.accept(id(1, 9), 0), Ok(false), "a late word does no harm");
    }

    #[test]
    fn a_damaged_epoch_names_the_range_that_may_be_doubled() {
        let mut ledger = Ledger::default();
        ledger.restore_damaged(7);
        assert_eq!(ledger.raise(id(7, 40)), [Repair { epoch: 7, from: 40 }]);
        assert_eq!(ledger.accept(id(7, 39), 0), Ok(false));
        assert_eq!(ledger.accept(id(7, 40), 0), Ok(true));
    }

    #[test]
    fn gaps_and_epochs_are_bounded() {
        let mut ledger = Ledger::default();
        let mut sequence = 2;
        while ledger.accept(id(1, sequence), sequence - 1) == Ok(true) {
            sequence += 2;
        }
        assert_eq!(sequence, 2 + 2 * RANGES_MAX as u64);
        ledger.raise(id(1, sequence));
        let mut epoch = 2;
        while ledger.accept(id(epoch, 1), 0) == Ok(true) {
            epoch += 1;
        }
        assert_eq!(epoch, 1 + EPOCHS_MAX as u64);
    }
}
