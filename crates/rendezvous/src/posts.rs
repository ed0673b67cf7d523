//! What goes out: announcements and letters, sealed anew for every place.
use crate::door::{self, KnockTag};
use crate::member::{Member, Route};
use crate::pace::jittered;
use crate::place::Place;
use crate::rendezvous::Rendezvous;
use crate::seal::{Cover, NONCE_LEN, Padding, seal_announce, seal_letter};
use crate::wire::{Announce, Challenge, Letter};
use crate::{Fingerprint, Instant, Output, PeerKey, PlaceId};
use alloc::string::String;
use alloc::vec::Vec;
use rand_core::Rng;

/// One copy of a letter.
enum Target {
    Mailbox(PlaceId),
    /// The address of a door place.
    Door(PlaceId),
    /// The address that a datagram came from.
    Back(Route),
}

impl Rendezvous {
    /// Announces at one place, if anybody may be found through it, and sets the time of the next announcement.
    pub(crate) fn announce(&mut self, now: Instant, id: PlaceId) {
        let Some(place) = self.places.get(&id) else { return };
        let (is_door, step) = (place.is_door(), place.step);
        if self.is_of_use(place) {
            let sealed = self.seal_announce(is_door);
            // What is posted to a mailbox for everybody comes back to us, too.
            let cost = self.pace.cost(sealed.len()) * if is_door { 1 } else { 2 };
            if let Err(ready) = self.budget.check(now, cost) {
                self.counters.put_off += 1;
                self.set_announce_at(id, ready, step);
                return;
            }
            self.budget.spend(now, cost);
            self.announce_sequence = self.announce_sequence.saturating_add(1);
            let topic = (!is_door).then(|| self.mesh.announce_topic.clone());
            self.post_sealed(id, topic, None, sealed);
        }
        let pause = self.pace.announce_pause(step, self.members.len(), self.want());
        let pause = jittered(&mut self.rng, pause);
        self.set_announce_at(id, now + pause, step.saturating_add(1));
    }

    fn set_announce_at(&mut self, id: PlaceId, at: Instant, step: u32) {
        if let Some(place) = self.places.get_mut(&id) {
            (place.announce_at, place.step) = (at, step);
        }
    }

    /// A door behind which we know somebody who is linked or paused is left alone.
    fn is_of_use(&self, place: &Place) -> bool {
        let occupant = place.occupant.and_then(|peer| self.members.get(&peer));
        occupant.is_none_or(Member::is_missing)
    }

    fn seal_announce(&mut self, is_door: bool) -> Vec<u8> {
        let announce = Announce {
            sender: self.site.public,
            challenge: self.challenge,
            sequence: self.announce_sequence,
            name: self.name.clone(),
        };
        let nonce = self.fresh_nonce();
        seal_announce(&self.cover(is_door, nonce), &self.site, self.mesh.fingerprint, &announce)
    }

    fn cover(&self, is_door: bool, nonce: [u8; NONCE_LEN]) -> Cover<'_> {
        let (key, padding) = match is_door {
            true => (&self.mesh.door, Padding::Largest),
            false => (&self.mesh.mailbox, Padding::Smallest),
        };
        Cover { key, nonce, padding }
    }

    fn fresh_nonce(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        self.rng.fill_bytes(&mut nonce);
        nonce
    }

    fn post_sealed(&mut self, place: PlaceId, topic: Option<String>, to: Option<Vec<u8>>, sealed: Vec<u8>) {
        let bytes = if topic.is_some() {
            sealed
        } else {
            if let (None, Some(door)) = (&to, self.places.get_mut(&place)) {
                door.knock = door::tag(&sealed);
            }
            door::datagram(self.mesh.fingerprint, &sealed)
        };
        self.push_post(place, topic, to, bytes);
    }

    fn push_post(&mut self, place: PlaceId, topic: Option<String>, to: Option<Vec<u8>>, bytes: Vec<u8>) {
        self.counters.posted += 1;
        self.counters.posted_bytes += bytes.len() as u64;
        self.outputs.push_back(Output::Post { place, topic, to, bytes });
    }

    /// Sends the letter that is due to a member, if it is still of use and the budgets allow it.
    pub(crate) fn send_due_letter(&mut self, now: Instant, peer: PeerKey) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.due = None;
        let Some(session) = member.session.filter(|_| member.is_unsettled()) else { return };
        let echo = member.challenge_of(session);
        let interval = self.pace.letter_interval;
        let letters = member.letters.check(now, interval);
        match letters.and_then(|()| self.post_letter(now, peer, echo, None)) {
            Ok(()) => self.note_letter_sent(now, peer),
            Err(ready) => {
                self.counters.put_off += 1;
                if let Some(member) = self.members.get_mut(&peer) {
                    member.due = Some(ready);
                }
            }
        }
    }

    fn note_letter_sent(&mut self, now: Instant, peer: PeerKey) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.letters.spend(now, self.pace.letter_interval);
        member.note_sent(now);
        if member.awaits_reply() && member.tries < self.pace.retries_max {
            let pause = jittered(&mut self.rng, self.pace.retry_pause(member.tries));
            member.due = Some(now + pause);
        }
    }

    /// Posts a letter wherever the peer may find it; `Err` says when the site's budget will allow it.
    pub(crate) fn post_letter(
        &mut self,
        now: Instant,
        peer: PeerKey,
        echo: Challenge,
        guest: Option<Route>,
    ) -> Result<(), Instant> {
        let Some(member) = self.members.get(&peer) else { return Ok(()) };
        let targets = self.targets(peer, member, guest);
        let letter = self.letter(member, echo);
        let mut posts = Vec::with_capacity(targets.len());
        for target in targets {
            let nonce = self.fresh_nonce();
            let Some(member) = self.members.get(&peer) else { return Ok(()) };
            let is_door = !matches!(target, Target::Mailbox(_));
            posts.push((target, seal_letter(&self.cover(is_door, nonce), &member.keys, self.site.public, &letter)));
        }
        let cost = posts.iter().map(|(_, sealed)| self.pace.cost(sealed.len())).sum();
        self.budget.check(now, cost)?;
        self.budget.spend(now, cost);
        let topic = self.mesh.card_topic(peer);
        for (target, sealed) in posts {
            match target {
                Target::Mailbox(place) => self.post_sealed(place, Some(topic.clone()), None, sealed),
                Target::Door(place) => self.post_sealed(place, None, None, sealed),
                Target::Back(route) => self.post_sealed(route.place, None, Some(route.to), sealed),
            }
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.sequence = member.sequence.saturating_add(1);
        }
        Ok(())
    }

    fn letter(&self, member: &Member, echo: Challenge) -> Letter {
        // The card of a link that works is in use: a run that has not proved itself must not get it.
        let proven = member.session == Some(echo.session);
        Letter {
            challenge: self.challenge,
            echo,
            sequence: member.sequence,
            acknowledged: if proven { member.holds } else { 0 },
            name: self.name.clone(),
            card: if proven || !member.is_up() { member.sent_card() } else { None },
        }
    }

    fn targets(&self, peer: PeerKey, member: &Member, guest: Option<Route>) -> Vec<Target> {
        let mut targets = Vec::new();
        for (&id, place) in self.places.iter().filter(|(_, place)| place.reachable) {
            if !place.is_door() {
                targets.push(Target::Mailbox(id));
            } else if place.is_door_of(peer) {
                targets.push(Target::Door(id));
            }
        }
        let known = member.route.clone();
        let guest = guest.filter(|guest| known.as_ref() != Some(guest));
        for route in known.into_iter().chain(guest) {
            // A door place's own address is served already.
            if !self.places.get(&route.place).is_some_and(|place| place.reachable && place.is_door_of(peer)) {
                targets.push(Target::Back(route));
            }
        }
        targets
    }

    /// Tells whoever knocked in the name of another mesh which one this is.
    pub(crate) fn refuse(&mut self, now: Instant, place: PlaceId, to: &[u8], tag: KnockTag) {
        if self.refusals.take(now, crate::pace::BREATH) {
            let ours: Fingerprint = self.mesh.fingerprint;
            self.push_post(place, None, Some(to.into()), door::refusal(ours, tag));
        }
    }
}
