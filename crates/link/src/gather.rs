//! Asks STUN servers for our addresses outside the NATs, and keeps the mappings open while somebody needs them.

use crate::door::Event;
use crate::stun::{self, TransactionId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Waits before the second, third, … try.
const RETRIES: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(4),
];
/// Mappings of careless NATs last 30 s.
const KEEP_OPEN: Duration = Duration::from_secs(25);
/// A server that is silent is asked again after this.
const SILENT_RETRY: Duration = Duration::from_secs(60);
/// An answer older than this is asked for again when somebody starts to need it.
const STALE: Duration = Duration::from_secs(10);
/// An answer is never doubted earlier than this.
const DOUBT_MIN: Duration = Duration::from_secs(1);

/// The questions under way.
#[derive(Default)]
pub(crate) struct Gatherer {
    queries: BTreeMap<(SocketAddr, SocketAddr), Query>,
    needed: bool,
}

struct Query {
    id: TransactionId,
    tries: usize,
    /// When to ask next; `None`: not until needed.
    due: Option<Instant>,
    mapped: Option<SocketAddr>,
    answered_at: Option<Instant>,
}

/// A question to send.
pub(crate) struct Question {
    pub(crate) local: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Gatherer {
    /// Who asks whom; what is known of pairs that stay is kept.
    pub(crate) fn set(&mut self, now: Instant, locals: &[SocketAddr], servers: &[SocketAddr]) {
        let fits = |local: &SocketAddr, server: &SocketAddr| local.is_ipv4() == server.is_ipv4();
        self.queries.retain(|(local, server), _| locals.contains(local) && servers.contains(server));
        for local in locals {
            for server in servers.iter().filter(|server| fits(local, server)) {
                let due = self.needed.then_some(now);
                let query = Query { id: [0; 12], tries: 0, due, mapped: None, answered_at: None };
                self.queries.entry((*local, *server)).or_insert(query);
            }
        }
    }

    /// A path may have died because a NAT in front of us was changed: what was learnt is asked for again.
    pub(crate) fn doubt(&mut self, now: Instant) {
        for query in self.queries.values_mut() {
            let recent = query.answered_at.is_some_and(|at| now.saturating_duration_since(at) < DOUBT_MIN);
            if !recent && query.tries == 0 {
                query.due = Some(now);
            }
        }
    }

    /// Whether somebody looks for a path: only then mappings are kept open.
    pub(crate) fn set_needed(&mut self, now: Instant, needed: bool) {
        if self.needed == needed {
            return;
        }
        self.needed = needed;
        for query in self.queries.values_mut() {
            let fresh = query.answered_at.filter(|at| now.saturating_duration_since(*at) < STALE);
            query.tries = 0;
            query.due = needed.then(|| fresh.map_or(now, |at| at + KEEP_OPEN));
        }
    }

    /// The addresses found, each with the one that it stands for, without repetitions.
    pub(crate) fn found(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let mut found = Vec::new();
        for ((local, _), query) in &self.queries {
            if let Some(mapped) = query.mapped
                && mapped != *local
                && !found.contains(&(*local, mapped))
            {
                found.push((*local, mapped));
            }
        }
        found
    }

    /// The first of our addresses from which the server answers.
    pub(crate) fn way_to(&self, server: SocketAddr) -> Option<SocketAddr> {
        let mut queries = self.queries.iter();
        queries.find(|((_, asked), query)| *asked == server && query.mapped.is_some()).map(|((local, _), _)| *local)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.queries.values().filter_map(|query| query.due).min()
    }

    /// The questions that are due, with fresh transaction ids from `draw`.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        mut draw: impl FnMut() -> TransactionId,
        events: &mut Vec<Event>,
    ) -> Vec<Question> {
        let mut questions = Vec::new();
        for ((local, server), query) in &mut self.queries {
            if query.due.is_none_or(|due| due > now) {
                continue;
            }
            if query.tries > RETRIES.len() {
                events.push(Event::StunSilent { server: *server });
                query.tries = 0;
                query.due = Some(now + SILENT_RETRY);
                continue;
            }
            // One id for all tries, so that a late answer counts.
            if query.tries == 0 {
                query.id = draw();
            }
            query.due = Some(now + RETRIES.get(query.tries).copied().unwrap_or(Duration::from_secs(8)));
            query.tries += 1;
            questions.push(Question { local: *local, server: *server, bytes: stun::binding_request(query.id) });
        }
        questions
    }

    /// Takes an answer; false when it is not one of ours.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        (local, server): (SocketAddr, SocketAddr),
        datagram: &[u8],
        events: &mut Vec<Event>,
    ) -> bool {
        let Some(query) = self.queries.get_mut(&(local, server)) else { return false };
        if query.tries == 0 || stun::transaction_id(datagram) != Some(query.id) {
            return false;
        }
        let Some(mapped) = stun::mapped_address(datagram).filter(|mapped| crate::card::is_reachable(*mapped)) else {
            return false;
        };
        if query.mapped.replace(mapped) != Some(mapped) {
            events.push(Event::Reflexive { local, server, mapped });
        }
        query.answered_at = Some(now);
        query.tries = 0;
        query.due = self.needed.then_some(now + KEEP_OPEN);
        true
    }
}
