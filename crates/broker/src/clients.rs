//! Sessions by client identifier [MQTT-3.1.3-2], which only the session itself keeps.
use crate::index::ListenerId;
use crate::listener::Listeners;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The table. Every listener in it has a session.
#[derive(Debug)]
pub(crate) struct Clients {
    table: HashTable<ListenerId>,
    state: FixedState,
}

impl Clients {
    pub(crate) fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), state: FixedState::with_seed(seed) }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn find(&self, client_id: &str, listeners: &Listeners) -> Option<ListenerId> {
        self.table.find(self.state.hash_one(client_id), |&id| name(listeners, id) == client_id).copied()
    }

    /// `id` is in `listeners` already.
    pub(crate) fn insert(&mut self, id: ListenerId, listeners: &Listeners) {
        let hash = self.state.hash_one(name(listeners, id));
        self.table.insert_unique(hash, id, |&id| self.state.hash_one(name(listeners, id)));
    }

    /// `id` is in `listeners` still.
    pub(crate) fn remove(&mut self, id: ListenerId, listeners: &Listeners) {
        let hash = self.state.hash_one(name(listeners, id));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
    }
}

fn name(listeners: &Listeners, id: ListenerId) -> &str {
    listeners.session(id).map_or("", |session| &session.client_id)
}
