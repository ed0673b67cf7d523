//! Sessions whose queues are over their limit with what other sites have acknowledged already. Those sites are asked to
//! wait, but only for a client that is there and takes its messages: all their traffic to this site waits meanwhile.
use crate::config::Config;
use crate::index::ListenerId;
use crate::listener::Listeners;
use alloc::collections::BTreeMap;
use core::time::Duration;
use mqtt::Instant;

/// Who has taken nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Crowd(BTreeMap<ListenerId, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The first sequence number of the queue, and since when it is that.
    front: Option<(u64, Instant)>,
    is_hopeless: bool,
}

/// What is to be done with one more message of another site for a queue that is over its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Excess {
    /// It is taken, and the sites wait from now on.
    TakeFirst,
    /// It is taken: it was under way already.
    Take,
    /// Nobody is there to make room.
    Drop,
}

impl Crowd {
    /// `is_there`: the session has a connection.
    pub(crate) fn exceed(&mut self, id: ListenerId, is_there: bool) -> Excess {
        if !is_there {
            return Excess::Drop;
        }
        match self.0.get(&id) {
            Some(waiting) if waiting.is_hopeless => Excess::Drop,
            Some(_) => Excess::Take,
            None => {
                self.0.insert(id, Waiting::default());
                Excess::TakeFirst
            }
        }
    }

    /// Whether other sites should wait.
    pub(crate) fn is_waited_for(&mut self, now: Instant, listeners: &Listeners, config: &Config) -> bool {
        self.0.retain(|id, waiting| {
            let there = listeners.get(*id).filter(|listener| listener.slot.is_some());
            let Some(queue) = there.and_then(|listener| Some(&listener.session()?.queue)) else { return false };
            let front = queue.first();
            match waiting.front {
                Some((old, since)) if old == front => waiting.is_hopeless = since + PATIENCE <= now,
                Some(_) | None => *waiting = Waiting { front: Some((front, now)), is_hopeless: false },
            }
            !queue.has_eased(config)
        });
        self.0.values().any(|waiting| !waiting.is_hopeless)
    }
}
