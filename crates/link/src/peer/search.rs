//! The search for a path, and the care for one that was found.

use super::Peer;
use super::connect::{Dial, Link};
use crate::door::{Event, Output};
use crate::path::PathKind;
use crate::session::{Ends, Pace, Session};
use crate::site::Site;
use std::time::{Duration, Instant};

/// A search that has found nothing by then has failed.
const SEARCH_MAX: Duration = Duration::from_secs(20);
/// Rest after a failed search, doubled each time up to [`REST_MAX`].
const REST: Duration = Duration::from_secs(2);
const REST_MAX: Duration = Duration::from_secs(300);
/// Better pairs than the first may still turn up for this long.
const SETTLE_AFTER: Duration = Duration::from_secs(8);
/// Then only the path and one spare are kept.
const PRUNE_AFTER: Duration = Duration::from_secs(30);
/// A relayed path is compared with a fresh search after this, doubled each time up to [`UPGRADE_MAX`].
pub(super) const UPGRADE: Duration = Duration::from_secs(60);
const UPGRADE_MAX: Duration = Duration::from_secs(1200);

/// The session whose path is in use.
pub(super) struct Live {
    pub(super) session: Session,
    pub(super) path: Option<Ends>,
    pub(super) since: Instant,
    pub(super) pruned: bool,
}

/// How the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// `next`, or `live` if there is no `next`, is being tried since then.
    Running { since: Instant },
    /// It failed; tried again then, or as soon as the peer is heard of.
    Resting { until: Instant },
    /// There is a path.
    Over,
}

impl Search {
    pub(super) fn is_resting(self) -> bool {
        matches!(self, Self::Resting { .. })
    }

    /// Ends a rest; false when there was none.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        let rested = self.is_resting();
        if rested {
            *self = Self::Running { since: now };
        }
        rested
    }
}

impl Peer {
    /// Looks for a path with new credentials of ours.
    pub(super) fn search_afresh(&mut self, site: &mut Site) {
        let credentials = site.fresh_credentials();
        let mut session = Session::new(credentials, self.role, site.tie_breaker(), &site.locals, site.now);
        if let Some(card) = &self.remote {
            session.set_remote(card);
        }
        self.next = Some(session);
        self.search = Search::Running { since: site.now };
        site.gatherer.doubt(site.now);
        self.permit(site);
        self.tell(site);
    }

    pub(super) fn drive_sessions(&mut self, site: &mut Site) {
        let now = site.now;
        let resting = self.search.is_resting();
        if let Some(next) = &mut self.next {
            if !resting {
                next.handle_timeout(now);
            }
            if let Some(path) = core::iter::from_fn(|| next.poll_nominated()).last()
                && let Some(session) = self.next.take()
            {
                self.promote(site, session, path);
            }
        }
        if let Some(live) = &mut self.live {
            // A path that is lost is not searched for more eagerly than a new one.
            if live.path.is_some() || !resting {
                live.session.handle_timeout(now);
            }
            if let Some(path) = core::iter::from_fn(|| live.session.poll_nominated()).last() {
                self.take_path(site, path);
            }
        }
        let mut sent = Vec::new();
        for session in self.sessions() {
            sent.extend(core::iter::from_fn(|| session.poll_transmit()));
        }
        for (ends, bytes) in sent {
            self.send(site, Some(ends), None, None, bytes);
        }
    }

    /// The search has found a path.
    pub(super) fn promote(&mut self, site: &mut Site, session: Session, path: Ends) {
        let before = self.path();
        self.live = Some(Live { session, path: before, since: site.now, pruned: false });
        self.search = Search::Over;
        self.take_path(site, path);
    }

    pub(super) fn take_path(&mut self, site: &mut Site, path: Ends) {
        let now = site.now;
        let Some(live) = &mut self.live else { return };
        let before = live.path.replace(path);
        (live.since, live.pruned) = (now, false);
        if self.next.is_none() {
            self.search = Search::Over;
        }
        self.failures = 0;
        if before == Some(path) {
            return;
        }
        self.health.path_changed(now);
        self.dial = Dial::at(now);
        site.bind(path);
        self.learn_address(site, path.1);
        if let Link::Up { connection, .. } = &mut self.link {
            connection.path_changed(now);
            if let Some(path) = self.described_path() {
                site.outputs.push_back(Output::PathChanged { peer: self.key, path });
            }
        }
    }

    /// Ends, rests and begins searches.
    pub(super) fn drive_search(&mut self, site: &mut Site) {
        let now = site.now;
        match self.search {
            Search::Over => self.look_for_better(site),
            Search::Resting { until } if until <= now => {
                if let Some(live) = self.live.as_mut().filter(|live| live.path.is_none()) {
                    live.session.search_again(now);
                }
                self.search_afresh(site);
            }
            Search::Resting { .. } => {}
            Search::Running { since } => {
                let asked = self.newest().is_some_and(|session| session.remote().is_some());
                let exhausted = self.next.as_ref().is_some_and(Session::is_exhausted);
                let late = now >= since + SEARCH_MAX;
                if asked && (late || exhausted && now >= since + SEARCH_MAX / 2) {
                    self.search_failed(site);
                }
            }
        }
    }

    pub(super) fn search_failed(&mut self, site: &mut Site) {
        let healthy = matches!(self.link, Link::Up { .. }) && self.path().is_some() && !self.health.is_alarmed();
        if healthy {
            // It was only about a better one.
            self.next = None;
            self.search = Search::Over;
            self.tell(site);
            return;
        }
        let wait = REST.saturating_mul(1 << self.failures.min(10)).min(REST_MAX);
        let retry_in = site.jittered(wait);
        site.renew_relays(SEARCH_MAX);
        self.failures += 1;
        self.search = Search::Resting { until: site.now + retry_in };
        site.event(Event::NoPath { peer: self.key, failures: self.failures, retry_in });
    }

    /// With a path in use: spares the effort for others, or looks for a better one.
    pub(super) fn look_for_better(&mut self, site: &mut Site) {
        let now = site.now;
        let Some(live) = &mut self.live else { return };
        let Some(path) = live.path else {
            // It was the machine's own address that went.
            if now >= live.since + SETTLE_AFTER {
                self.search_afresh(site);
            }
            return;
        };
        if live.session.is_exhausted() {
            live.path = None;
            self.search_afresh(site);
            return;
        }
        if live.session.pace() == Pace::Search && now >= live.since + SETTLE_AFTER {
            live.session.set_pace(Pace::Settled);
        }
        if !live.pruned && now >= live.since + PRUNE_AFTER {
            live.session.prune(path);
            live.pruned = true;
        }
        let relayed = live.session.path(path).kind == PathKind::Relayed;
        if relayed && now >= live.since + self.upgrade_wait {
            self.upgrade_wait = (2 * self.upgrade_wait).min(UPGRADE_MAX);
            live.since = now;
            self.search_afresh(site);
        }
    }

    /// When the search, or a session, has something to do.
    pub(super) fn search_due(&mut self) -> Option<Instant> {
        let resting = self.search.is_resting();
        // Without the peer's card there is nobody to write to.
        let next = self.next.as_mut().filter(|next| !resting && next.remote().is_some());
        let live = self.live.as_mut().filter(|live| live.path.is_some() || !resting);
        let asked = next.is_some() || live.is_some();
        let sessions = [next.and_then(Session::poll_timeout), live.and_then(|live| live.session.poll_timeout())];
        let search = match self.search {
            Search::Running { since } => asked.then_some(since + SEARCH_MAX),
            Search::Resting { until } => Some(until),
            Search::Over => None,
        };
        sessions.into_iter().chain([search]).flatten().min()
    }
}
