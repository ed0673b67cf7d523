//! Cards: ours that are told, the peer's that are heard.

use super::connect::Link;
use super::{Peer, Search};
use crate::card::Card;
use crate::door::{DownReason, Output};
use crate::session::{Credentials, Pace, Session, told};
use crate::site::Site;

impl Peer {
    /// Tells our card, if it has changed.
    pub(super) fn tell(&mut self, site: &mut Site) {
        let Some(Credentials { ufrag, pwd }) = self.newest().map(|session| session.credentials().clone()) else {
            return;
        };
        let card = Card {
            instance: site.instance,
            generation: self.told.as_ref().map_or(0, |card| card.generation),
            connection: self.connection,
            ufrag,
            pwd,
            candidates: told(&site.locals),
        };
        if self.told.as_ref() == Some(&card) || card.candidates.is_empty() {
            return;
        }
        let card = Card { generation: site.next_serial(), ..card };
        self.told = Some(card.clone());
        site.outputs.push_back(Output::LocalCard { peer: self.key, card });
    }

    /// The peer's card arrived.
    pub(crate) fn card(&mut self, site: &mut Site, card: Card) {
        let known = self.remote.as_ref().filter(|known| known.instance == card.instance);
        if known.is_some_and(|known| card.generation <= known.generation) {
            site.counters.cards_stale += u64::from(known.is_some_and(|known| card != *known));
            return;
        }
        let now = site.now;
        let mut spoken_to = false;
        for session in self.sessions().filter(|session| session.speaks_to(&card)) {
            session.set_remote(&card);
            session.set_pace(Pace::Search);
            spoken_to = true;
        }
        if let Some(live) = self.live.as_mut().filter(|_| spoken_to) {
            (live.since, live.pruned) = (now, false);
        }
        if !spoken_to {
            self.search_with(site, &card);
        }
        self.remote = Some(card);
        if self.search.wake(now) {
            self.sessions().filter(|session| session.is_exhausted()).for_each(|session| session.search_again(now));
        }
        self.permit(site);
        self.void_if_given_up(site);
    }

    /// The peer has new credentials. Ours stay: were they renewed by a card that arrives, two cards that cross would
    /// make both sides renew theirs for ever.
    pub(super) fn search_with(&mut self, site: &mut Site, card: &Card) {
        // That the peer tries again says nothing of a way; that it is elsewhere now does.
        if self.remote.as_ref().is_none_or(|known| !known.is_from_same_place(card)) {
            self.failures = 0;
        }
        match &mut self.next {
            Some(next) if next.remote().is_none() => next.set_remote(card),
            Some(_) | None => {
                let Some(credentials) = self.newest().map(|session| session.credentials().clone()) else { return };
                let mut session = Session::new(credentials, self.role, site.tie_breaker(), &site.locals, site.now);
                session.set_remote(card);
                self.next = Some(session);
            }
        }
        self.search = Search::Running { since: site.now };
    }

    /// The peer's card may say that our connection no longer exists for it.
    pub(super) fn void_if_given_up(&mut self, site: &mut Site) {
        let Link::Up { greeting, .. } = &self.link else { return };
        let Some(card) = &self.remote else { return };
        if card.instance != greeting.instance || card.connection > greeting.connection {
            self.go_down(site, DownReason::Restarted);
        }
    }

    /// The peer is known to have started anew.
    pub(crate) fn restart(&mut self, site: &mut Site) {
        let stale = match &self.link {
            Link::Up { greeting, .. } => {
                // If its card came first, the connection may already be with its new life.
                self.remote.as_ref().is_none_or(|card| card.instance != greeting.instance)
            }
            Link::Down => false,
        };
        if stale {
            self.go_down(site, DownReason::Restarted);
        }
        self.told = None;
        self.tell(site);
    }

    pub(super) fn permit(&mut self, site: &mut Site) {
        let remotes: Vec<_> =
            self.sessions().flat_map(|session| session.remotes_for_relay().collect::<Vec<_>>()).collect();
        site.permit(&remotes);
    }

    /// Our own candidates have changed.
    pub(crate) fn locals_changed(&mut self, site: &mut Site) {
        for session in self.sessions() {
            session.set_locals(&site.locals);
        }
        if let Some(live) = &mut self.live {
            let gone = live.path.is_some_and(|(local, _)| site.locals.iter().all(|known| known.address != local));
            if gone {
                live.path = None;
            }
            if gone || live.session.pace() != Pace::Settled {
                live.session.set_pace(Pace::Search);
                (live.since, live.pruned) = (site.now, false);
            }
        }
        self.permit(site);
        self.tell(site);
    }
}
