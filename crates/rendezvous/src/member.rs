//! What is known of one other site, and what is owed to it.
use crate::keys::PairKeys;
use crate::pace::{ANSWERS_AT_ONCE, BREATH, Budget, LETTERS_AT_ONCE, Pace};
use crate::wire::{Announce, Challenge, Letter, SentCard, Session};
use crate::{Instant, PlaceId};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Sessions of one site that are remembered, so that their messages are understood once.
const SESSIONS_MAX: usize = 16;

/// How a site is regarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It announced itself; nothing proves yet that this was not a replay.
    Caller {
        /// When it last did.
        since: Instant,
    },
    /// One of us: looked for while its link is down.
    Member,
    /// Ignored until resumed.
    Paused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Up,
    Down,
}

/// The way back to whoever knocked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) place: PlaceId,
    pub(crate) to: Vec<u8>,
}

/// One run of the other site, as far as its messages were heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) session: Session,
    announced: Option<u32>,
    lettered: Option<u32>,
    /// Its challenge's epoch as last heard, for us to repeat.
    pub(crate) epoch: u32,
    pub(crate) answered_at: Option<Instant>,
    ended: bool,
}

/// How a message relates to what was heard before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    New,
    Replayed,
    EndedSession,
}

/// Another site.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) standing: Standing,
    pub(crate) link: Link,
    pub(crate) keys: PairKeys,
    /// Their runs, latest heard last. One at most is proven.
    sessions: VecDeque<Heard>,
    /// The run that proved to be going on during ours.
    pub(crate) session: Option<Session>,
    /// The epoch that their proven session proved itself with; it may go on repeating this one.
    proven_epoch: u32,
    /// Our epoch since that session began for us: another one must repeat this or a later one.
    pub(crate) next_epoch: u32,
    pub(crate) heard_at: Option<Instant>,
    /// The generation of their card that we hold.
    pub(crate) holds: u32,
    /// They don't know yet that we hold it.
    pub(crate) owes_acknowledgement: bool,
    /// Our card for them, and the last generation that was used.
    pub(crate) card: Option<Vec<u8>>,
    pub(crate) generation: u32,
    /// The generation of our card that they hold.
    pub(crate) acknowledged: u32,
    pub(crate) sequence: u32,
    /// Tries since they were last heard.
    pub(crate) tries: u32,
    tried_at: Option<Instant>,
    pub(crate) sent_at: Option<Instant>,
    /// When the next letter is due.
    pub(crate) due: Option<Instant>,
    /// Where they last proved themselves from, if that was a door.
    pub(crate) route: Option<Route>,
    pub(crate) letters: Budget,
    pub(crate) answers: Budget,
}

impl Member {
    pub(crate) fn new(name: String, standing: Standing, keys: PairKeys, pace: &Pace) -> Self {
        Self {
            name,
            standing,
            link: Link::Down,
            keys,
            sessions: VecDeque::new(),
            session: None,
            proven_epoch: 0,
            next_epoch: 0,
            heard_at: None,
            holds: 0,
            owes_acknowledgement: false,
            card: None,
            generation: 0,
            acknowledged: 0,
            sequence: 0,
            tries: 0,
            tried_at: None,
            sent_at: None,
            due: None,
            route: None,
            letters: Budget::new(pace.letter_interval.saturating_mul(LETTERS_AT_ONCE)),
            answers: Budget::new(pace.answer_interval.saturating_mul(ANSWERS_AT_ONCE)),
        }
    }

    /// Whether announcements should go on for its sake.
    pub(crate) fn is_missing(&self) -> bool {
        self.standing == Standing::Member && self.link == Link::Down
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    fn lacks_our_card(&self) -> bool {
        self.card.is_some() && self.acknowledged < self.generation
    }

    fn lacks_their_card(&self) -> bool {
        self.link == Link::Down && self.holds == 0
    }

    /// Whether a letter would bring either side further.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.session.is_some() && (self.lacks_our_card() || self.lacks_their_card() || self.owes_acknowledgement)
    }

    /// Whether silence after a letter is a reason for another one.
    pub(crate) fn awaits_reply(&self) -> bool {
        self.lacks_our_card() || self.lacks_their_card()
    }

    pub(crate) fn bring_forward(&mut self, to: Instant) {
        self.due = Some(self.due.map_or(to, |due| due.min(to)));
    }

    /// Letters in quick succession count as one try.
    pub(crate) fn note_sent(&mut self, now: Instant) {
        if self.tried_at.is_none_or(|at| now.since(at) >= BREATH) {
            self.tried_at = Some(now);
            self.tries = self.tries.saturating_add(1);
        }
        self.sent_at = Some(now);
        self.owes_acknowledgement = false;
    }

    /// The link works: nothing is owed any more.
    pub(crate) fn settle(&mut self) {
        self.link = Link::Up;
        self.acknowledged = self.generation;
        self.owes_acknowledgement = false;
        self.tries = 0;
        self.due = None;
    }

    fn heard_mut(&mut self, session: Session) -> &mut Heard {
        let at = match self.sessions.iter().position(|heard| heard.session == session) {
            Some(at) => at,
            None => {
                if self.sessions.len() == SESSIONS_MAX {
                    self.forget_one_session();
                }
                self.sessions.push_back(Heard {
                    session,
                    announced: None,
                    lettered: None,
                    epoch: 0,
                    answered_at: None,
                    ended: false,
                });
                self.sessions.len() - 1
            }
        };
        &mut self.sessions[at]
    }

    /// The oldest that is neither proven nor ended; else the oldest that is not proven.
    fn forget_one_session(&mut self) {
        let proven = self.session;
        let spare = |heard: &Heard| Some(heard.session) != proven;
        let at = self.sessions.iter().position(|heard| spare(heard) && !heard.ended);
        if let Some(at) = at.or_else(|| self.sessions.iter().position(spare)) {
            self.sessions.remove(at);
        }
    }

    fn order(&self, session: Session, latest: impl Fn(&Heard) -> Option<u32>, sequence: u32) -> Order {
        match self.sessions.iter().find(|heard| heard.session == session) {
            Some(heard) if heard.ended => Order::EndedSession,
            Some(heard) if latest(heard).is_some_and(|latest| sequence <= latest) => Order::Replayed,
            Some(_) | None => Order::New,
        }
    }

    pub(crate) fn order_of_announce(&self, announce: &Announce) -> Order {
        self.order(announce.challenge.session, |heard| heard.announced, announce.sequence)
    }

    pub(crate) fn note_announce(&mut self, announce: &Announce) {
        let heard = self.heard_mut(announce.challenge.session);
        heard.announced = Some(announce.sequence);
        heard.epoch = heard.epoch.max(announce.challenge.epoch);
    }

    pub(crate) fn order_of_letter(&self, letter: &Letter) -> Order {
        self.order(letter.challenge.session, |heard| heard.lettered, letter.sequence)
    }

    pub(crate) fn note_letter(&mut self, letter: &Letter) {
        let heard = self.heard_mut(letter.challenge.session);
        heard.lettered = Some(letter.sequence);
        heard.epoch = heard.epoch.max(letter.challenge.epoch);
    }

    /// Whether a letter from `session` that repeats this epoch of our session was written while that session was the
    /// latest of its site: the going one may repeat what it proved itself with, another one only what was unknown
    /// before the going one began.
    pub(crate) fn proves(&self, session: Session, epoch: u32) -> bool {
        let least = if self.session == Some(session) { self.proven_epoch } else { self.next_epoch };
        epoch >= least
    }

    /// Another run of that site has begun: nothing of the one before counts.
    pub(crate) fn begin_session(&mut self, session: Session, proven_epoch: u32, next_epoch: u32) {
        if let Some(before) = self.session.replace(session) {
            self.heard_mut(before).ended = true;
        }
        (self.proven_epoch, self.next_epoch) = (proven_epoch, next_epoch);
        self.holds = 0;
        self.acknowledged = 0;
        self.owes_acknowledgement = false;
        self.tries = 0;
    }

    /// What to repeat to that run of the site.
    pub(crate) fn challenge_of(&self, session: Session) -> Challenge {
        let epoch = self.sessions.iter().find(|heard| heard.session == session).map_or(0, |heard| heard.epoch);
        Challenge { session, epoch }
    }

    /// Whether that run may be answered again; if so, this counts as the answer.
    pub(crate) fn may_answer(&mut self, session: Session, now: Instant) -> bool {
        let heard = self.heard_mut(session);
        let may = heard.answered_at.is_none_or(|at| now.since(at) >= BREATH);
        if may {
            heard.answered_at = Some(now);
        }
        may
    }

    /// Our card as it would be sent now.
    pub(crate) fn sent_card(&self) -> Option<SentCard> {
        self.card.as_ref().map(|bytes| SentCard { generation: self.generation, bytes: bytes.clone() })
    }
}
