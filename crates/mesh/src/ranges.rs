//! A set of sequence numbers from 1 on, dense at its lower end.
use crate::frame::Malformed;
use crate::wire::{Reader, put_varint};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Everything up to a mark, and ranges above it: never adjacent, never overlapping.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    mark: u64,
    /// First to last, both inside; all above `mark + 1`.
    above: BTreeMap<u64, u64>,
}

impl Ranges {
    /// All numbers up to `mark`.
    pub fn up_to(mark: u64) -> Self {
        Self { mark, above: BTreeMap::new() }
    }

    /// The number up to which nothing is missing.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// How many ranges there are above the mark.
    pub fn gaps(&self) -> usize {
        self.above.len()
    }

    /// First and last of each range above the mark, in order.
    pub fn above(&self) -> impl Iterator<Item = (u64, u64)> {
        self.above.iter().map(|(&first, &last)| (first, last))
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        number <= self.mark || self.above.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    /// Adds `first..=last`; nothing if that is empty.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last || last <= self.mark {
            return;
        }
        let (mut first, mut last) = (first, last);
        if let Some((&before, &end)) = self.above.range(..first).next_back()
            && end >= first - 1
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.above.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.above.remove(&start);
        }
        if first <= self.mark.saturating_add(1) {
            self.mark = last;
        } else {
            self.above.insert(first, last);
        }
    }

    /// Mark, number of ranges, then for each the gap before it and its length, less one each.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, ranges_max: usize) {
        put_varint(out, self.mark);
        put_varint(out, self.above.len().min(ranges_max) as u64);
        let mut end = self.mark;
        for (&first, &last) in self.above.iter().take(ranges_max) {
            put_varint(out, first - end - 2);
            put_varint(out, last - first);
            end = last;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mark = reader.varint()?;
        let mut end = mark;
        let above = reader.list(2, |reader| {
            let first = end.checked_add(2).and_then(|end| end.checked_add(reader.varint().ok()?));
            let first = first.ok_or(Malformed::Number)?;
            let last = first.checked_add(reader.varint()?).ok_or(Malformed::Number)?;
            end = last;
            Ok((first, last))
        })?;
        Ok(Self { mark, above: above.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn same_as_a_plain_set(inserts in prop::collection::vec((1u64..60, 0u64..6), 0..60)) {
            let mut plain = BTreeSet::new();
            let mut ranges = Ranges::default();
            for (first, len) in inserts {
                ranges.insert(first, first + len);
                plain.extend(first..=first + len);
            }
            for number in 1..70 {
                prop_assert_eq!(ranges.contains(number), plain.contains(&number));
            }
            let mut end = ranges.mark();
            for (first, last) in ranges.above() {
                prop_assert!(first > end + 1 && last >= first);
                end = last;
            }
            let mut bytes = Vec::new();
            ranges.encode(&mut bytes, usize::MAX);
            prop_assert_eq!(Ranges::decode(&mut Reader::new(&bytes)), Ok(ranges));
        }
    }

    #[test]
    fn the_largest_numbers_are_no_trap() {
        let mut ranges = Ranges::default();
        ranges.insert(u64::MAX, u64::MAX);
        ranges.insert(1, u64::MAX - 1);
        assert_eq!(ranges.mark(), u64::MAX);
        ranges.insert(5, u64::MAX);
    }
}
