//! What comes in: opened, dated, believed or not.
use crate::door::{Datagram, KnockTag};
use crate::keys::PairKeys;
use crate::member::{Link, Member, Order, Route, Standing};
use crate::pace::BREATH;
use crate::rendezvous::Rendezvous;
use crate::seal::{Opened, Refused, SealedLetter, SignedAnnounce, open};
use crate::wire::{Letter, Session};
use crate::{Event, Fingerprint, Instant, Output, PeerKey, PlaceId};
use core::time::Duration;

/// A member that was not heard for so many letters' time gets a full budget of letters when it is heard again.
const SILENCE: u32 = 5;

impl Rendezvous {
    /// A message from a mailbox.
    pub(crate) fn mail(&mut self, now: Instant, topic: &str, bytes: &[u8]) {
        let opened = match open(&self.mesh.mailbox, self.mesh.fingerprint, bytes) {
            Ok(opened) => opened,
            Err(refused) => return self.count(refused),
        };
        match opened {
            Opened::Announce(announce) if topic == self.mesh.announce_topic => self.announced(now, &announce, None),
            Opened::Letter(letter) if topic == self.own_topic => self.lettered(now, &letter, None),
            Opened::Announce(_) | Opened::Letter(_) => self.counters.wrong_topic += 1,
        }
    }

    /// A message at a door.
    pub(crate) fn datagram(&mut self, now: Instant, place: PlaceId, from: Option<&[u8]>, bytes: &[u8]) {
        let ours = self.mesh.fingerprint;
        match Datagram::parse(bytes) {
            None => self.counters.wrong_size += 1,
            Some(Datagram::Refusal { mesh, tag }) => self.refused(mesh, tag),
            Some(Datagram::Sealed { mesh, tag, sealed: _ }) if mesh != ours => {
                self.counters.wrong_mesh += 1;
                if let Some(to) = from {
                    self.refuse(now, place, to, tag);
                }
            }
            Some(Datagram::Sealed { sealed, .. }) => {
                let route = from.map(|to| Route { place, to: to.into() });
                match open(&self.mesh.door, ours, sealed) {
                    Ok(Opened::Announce(announce)) => self.announced(now, &announce, route),
                    Ok(Opened::Letter(letter)) => self.lettered(now, &letter, route),
                    Err(refused) => self.count(refused),
                }
            }
        }
    }

    fn count(&mut self, refused: Refused) {
        match refused {
            Refused::Size => self.counters.wrong_size += 1,
            Refused::Seal => self.counters.bad_seal += 1,
            Refused::Malformed => self.counters.malformed += 1,
            Refused::Version(version) => {
                self.counters.unknown_version += 1;
                let (word, bit) = (usize::from(version / 64), 1 << (version % 64));
                if self.strange_versions[word] & bit == 0 {
                    self.strange_versions[word] |= bit;
                    self.outputs.push_back(Output::Event(Event::UnknownVersion { version }));
                }
            }
        }
    }

    /// Only whoever received our knock can repeat its tag, so nobody else can make us report a wrong mesh.
    fn refused(&mut self, theirs: Fingerprint, tag: KnockTag) {
        let ours = self.mesh.fingerprint;
        let knocked = self.places.iter_mut().find(|(_, place)| place.knock == Some(tag));
        let Some((&place, door)) = knocked.filter(|_| theirs != ours) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.wrong_mesh += 1;
        door.knock = None;
        if door.refused_by.replace(theirs) != Some(theirs) {
            self.outputs.push_back(Output::Event(Event::WrongMesh { place, theirs, ours }));
        }
    }

    /// An announcement is a reason to look, never to believe: it may be a replay.
    fn announced(&mut self, now: Instant, signed: &SignedAnnounce, route: Option<Route>) {
        let announce = &signed.announce;
        let peer = announce.sender;
        if peer == self.site.public {
            self.counters.own += 1;
            return;
        }
        if let Some(member) = self.members.get(&peer) {
            if member.standing == Standing::Paused {
                return self.counters.paused += 1;
            }
            match member.order_of_announce(announce) {
                Order::New => {}
                Order::Replayed => return self.counters.replayed += 1,
                Order::EndedSession => return self.counters.ended_session += 1,
            }
            if member.is_up() && member.session == Some(announce.challenge.session) {
                return self.counters.announcements += 1;
            }
        }
        if !signed.is_genuine() {
            return self.counters.malformed += 1;
        }
        let caller = Standing::Caller { since: now };
        if !self.members.contains_key(&peer) && !self.admit(peer, announce.name.clone(), caller) {
            return;
        }
        let Some(member) = self.members.get_mut(&peer) else { return };
        if let Standing::Caller { .. } = member.standing {
            member.standing = caller;
        }
        member.note_announce(announce);
        self.counters.announcements += 1;
        if member.session != Some(announce.challenge.session) {
            self.counters.unproven += 1;
            self.answer(now, peer, announce.challenge.session, route);
        } else if member.is_unsettled() {
            // It is there and looks for somebody: what it lacks of ours is worth another round.
            member.tries = 0;
            let earliest = member.sent_at.map_or(now, |at| now.max(at + BREATH));
            member.bring_forward(earliest);
        }
    }

    fn lettered(&mut self, now: Instant, sealed: &SealedLetter, route: Option<Route>) {
        let peer = sealed.sender;
        if peer == self.site.public {
            self.counters.own += 1;
            return;
        }
        // A letter proves itself without having been announced; its seal is checked before anything is remembered.
        let letter = match self.members.get(&peer) {
            Some(member) => sealed.open(&member.keys),
            None => {
                PairKeys::new(&self.mesh, &self.site, peer).map_or(Err(Refused::Malformed), |keys| sealed.open(&keys))
            }
        };
        let letter = match letter {
            Ok(letter) => letter,
            Err(refused) => return self.count(refused),
        };
        let caller = Standing::Caller { since: now };
        if !self.members.contains_key(&peer) && !self.admit(peer, letter.name.clone(), caller) {
            return;
        }
        let Some(member) = self.members.get_mut(&peer) else { return };
        if member.standing == Standing::Paused {
            self.counters.paused += 1;
            return;
        }
        match member.order_of_letter(&letter) {
            Order::New => member.note_letter(&letter),
            Order::Replayed => return self.counters.replayed += 1,
            Order::EndedSession => return self.counters.ended_session += 1,
        }
        let session = letter.challenge.session;
        if letter.echo.session == self.challenge.session && member.proves(session, letter.echo.epoch) {
            self.believe(now, peer, letter, route);
        } else {
            self.counters.unproven += 1;
            self.answer(now, peer, session, route);
        }
    }

    /// Answers what may be a replay, once and at a bounded rate, so that the other side can prove itself.
    fn answer(&mut self, now: Instant, peer: PeerKey, session: Session, route: Option<Route>) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        if !member.may_answer(session, now) && route.is_none() {
            return;
        }
        if !member.answers.take(now, self.pace.answer_interval) {
            self.counters.put_off += 1;
            return;
        }
        let echo = member.challenge_of(session);
        if self.post_letter(now, peer, echo, route).is_err() {
            self.counters.put_off += 1;
        }
    }

    /// A letter that can only have been written now, by that member.
    fn believe(&mut self, now: Instant, peer: PeerKey, letter: Letter, route: Option<Route>) {
        self.counters.fresh += 1;
        self.learn_where(peer, route);
        let Some(member) = self.members.get_mut(&peer) else { return };
        let began = member.session != Some(letter.challenge.session);
        let silence = self.pace.letter_interval.saturating_mul(SILENCE);
        if began || member.heard_at.is_none_or(|at| now.since(at) > silence) {
            member.letters.refill(now);
        }
        member.heard_at = Some(now);
        member.tries = 0;
        let restarted = began && member.is_up();
        if began {
            self.challenge.epoch = self.challenge.epoch.saturating_add(1);
            member.begin_session(letter.challenge.session, letter.echo.epoch, self.challenge.epoch);
        }
        let first_time = matches!(member.standing, Standing::Caller { .. });
        if began || first_time || member.name != letter.name {
            member.standing = Standing::Member;
            member.name.clone_from(&letter.name);
            self.outputs.push_back(Output::Found { peer, name: letter.name, first_time });
        }
        member.acknowledged = member.acknowledged.max(letter.acknowledged.min(member.generation));
        if let Some(card) = letter.card.filter(|card| card.generation > member.holds) {
            member.holds = card.generation;
            member.owes_acknowledgement = true;
            self.outputs.push_back(Output::PeerCard { peer, card: card.bytes });
        }
        // After the card: by it, the link layer knows whether its link is with the new run already.
        if restarted {
            self.outputs.push_back(Output::Event(Event::PeerRestarted { peer }));
        }
        self.reply(now, peer, began);
    }

    fn learn_where(&mut self, peer: PeerKey, route: Option<Route>) {
        let Some(route) = route else { return };
        if let Some(door) = self.places.get_mut(&route.place).filter(|place| place.is_door()) {
            door.occupant = Some(peer);
            door.refused_by = None;
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.route = Some(route);
        }
    }

    fn reply(&mut self, now: Instant, peer: PeerKey, began: bool) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let waits = |member: &Member| member.sent_at.is_some_and(|at| now.since(at) < BREATH);
        if member.awaits_reply() && (began || !waits(member)) {
            // It may not know us yet, so it hears from us in any case; best with a card.
            let pause = match (&member.card, member.link) {
                (None, _) => self.pace.card_wait,
                // It was restarted: the link layer is about to change the card.
                (Some(_), Link::Up) => self.pace.coalesce,
                (Some(_), Link::Down) => Duration::ZERO,
            };
            member.bring_forward(now + pause);
        } else if member.owes_acknowledgement {
            member.bring_forward(now + self.pace.acknowledge);
        } else if member.awaits_reply() {
            member.bring_forward(now + self.pace.retry_first);
        } else {
            member.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SiteKey;
    use crate::seal::{Cover, NONCE_LEN, Padding, seal_announce};
    use crate::wire::{Announce, Challenge};
    use crate::{Config, Input, Pace, Token};

    /// A member that is turned against the others announces a site that it is not.
    #[test]
    fn an_announcement_that_another_member_signed_admits_nobody() {
        let mut site = Rendezvous::new(&Config {
            token: Token::from_secret([1; 32]),
            key_seed: [2; 32],
            rng_seed: [3; 32],
            name: "a".into(),
            members_max: 4,
            pace: Pace::default(),
        });
        let (mallory, alice) = (SiteKey::new(&[4; 32]), SiteKey::new(&[5; 32]));
        let topic = site.mesh.announce_topic.clone();
        for (sender, known) in [(alice.public, 0), (mallory.public, 1)] {
            let challenge = Challenge { session: Session([6; 16]), epoch: 0 };
            let announce = Announce { sender, challenge, sequence: 0, name: "x".into() };
            let cover = Cover { key: &site.mesh.mailbox, nonce: [7; NONCE_LEN], padding: Padding::Smallest };
            let bytes = seal_announce(&cover, &mallory, site.mesh.fingerprint, &announce);
            let place = PlaceId(1);
            site.handle(Instant(0), Input::Arrived { place, topic: Some(&topic), from: None, bytes: &bytes });
            assert_eq!((site.members.len(), site.counters.malformed), (known, 1));
        }
    }
}
