//! Deletions of neighbours put together: what a queue gives back is numbered, and one statement for a hundred records
//! is cheaper than a hundred.

/// Keys of the same length that count up in their last eight bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run<'c> {
    pub(super) first: &'c [u8],
    pub(super) last: &'c [u8],
}

/// Runs that may go on: more are rarely given back in turn.
const OPEN_MAX: usize = 4;

/// The runs that may go on, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Runs<'c>(Vec<Run<'c>>);

impl<'c> Runs<'c> {
    /// One more key. Returns a run that is over.
    pub(super) fn delete(&mut self, key: &'c [u8]) -> Option<Run<'c>> {
        if let Some(run) = self.0.iter_mut().find(|run| follows(run.last, key)) {
            run.last = key;
            return None;
        }
        let over = (self.0.len() == OPEN_MAX).then(|| self.0.remove(0));
        self.0.push(Run { first: key, last: key });
        over
    }

    /// A run that has this key in it is over, as the key is about to be written; asked until there is none.
    pub(super) fn part_from(&mut self, key: &[u8]) -> Option<Run<'c>> {
        let at = self.0.iter().position(|run| run.first <= key && key <= run.last)?;
        Some(self.0.remove(at))
    }

    /// All are over.
    pub(super) fn end(self) -> impl Iterator<Item = Run<'c>> {
        self.0.into_iter()
    }
}

/// Whether no key of the same length can stand between the two.
fn follows(before: &[u8], key: &[u8]) -> bool {
    let (Some((head, number)), Some((own_head, own_number))) = (before.split_last_chunk(), key.split_last_chunk())
    else {
        return false;
    };
    head == own_head && u64::from_be_bytes(*number).checked_add(1) == Some(u64::from_be_bytes(*own_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(head: &str, number: u64) -> Vec<u8> {
        [head.as_bytes(), &number.to_be_bytes()].concat()
    }

    #[test]
    fn only_the_next_number_follows() {
        let rows = [
            (key("q", 1), key("q", 2), true),
            (key("q", 255), key("q", 256), true),
            (key("q", 1), key("q", 3), false),
            (key("q", 2), key("q", 1), false),
            (key("q", 1), key("b", 2), false),
            (key("q", 1), key("qq", 2), false),
            (key("q", u64::MAX), key("r", 0), false),
            (key("", u64::MAX), key("", 0), false),
            (b"short".to_vec(), b"shoru".to_vec(), false),
        ];
        for (before, after, expected) in rows {
            assert_eq!(follows(&before, &after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn runs_in_turn_are_kept_apart() {
        let keys: Vec<_> = (1..=9).flat_map(|number| [key("q", number), key("b", number + 100)]).collect();
        let mut runs = Runs::default();
        assert!(keys.iter().all(|key| runs.delete(key).is_none()));
        assert_eq!(runs.part_from(&key("q", 10)), None);
        assert_eq!(runs.part_from(&key("q", 5)), Some(Run { first: &keys[0], last: &keys[16] }));
        assert_eq!(runs.end().collect::<Vec<_>>(), [Run { first: &keys[1], last: &keys[17] }]);
    }

    #[test]
    fn the_oldest_ends_first() {
        let keys: Vec<_> = (0..6).map(|number| key("q", number * 2)).collect();
        let mut runs = Runs::default();
        let over: Vec<_> = keys.iter().filter_map(|key| runs.delete(key)).map(|run| run.first).collect();
        assert_eq!(over, [keys[0].as_slice(), keys[1].as_slice()]);
    }
}
