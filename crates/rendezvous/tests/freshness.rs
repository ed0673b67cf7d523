//! A mailbox that withholds messages and releases them at the worst moment, played by hand.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test may fail")]
use midge_rendezvous::{Config, Event, Input, Instant, Output, Pace, PeerKey, PlaceId, PlaceKind, Rendezvous, Token};

const MAILBOX: PlaceId = PlaceId(0);

#[derive(Clone, Copy, PartialEq)]
enum To {
    Everybody,
    One,
}

struct Site {
    core: Rendezvous,
    everybody: String,
    /// Posted and not delivered yet.
    mail: Vec<(String, Vec<u8>)>,
    told: Vec<Output>,
}

impl Site {
    fn start(key: u8, run: u8) -> Self {
        let core = Rendezvous::new(&Config {
            token: Token::from_secret([1; 32]),
            key_seed: [key; 32],
            rng_seed: [run; 32],
            name: format!("site {key}"),
            members_max: 4,
            pace: Pace::default(),
        });
        let mut site = Self { core, everybody: String::new(), mail: Vec::new(), told: Vec::new() };
        site.handle(0, Input::Place { id: MAILBOX, kind: PlaceKind::Mailbox, reachable: true });
        site
    }

    fn handle(&mut self, secs: u64, input: Input<'_>) {
        self.core.handle(Instant(secs * 1_000_000), input);
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Post { topic: Some(topic), bytes, .. } => self.mail.push((topic, bytes)),
                Output::Listen { topics } => self.everybody = topics[0].clone(),
                told => self.told.push(told),
            }
        }
    }

    fn read(&mut self, secs: u64, (topic, bytes): &(String, Vec<u8>)) {
        self.handle(secs, Input::Arrived { place: MAILBOX, topic: Some(topic), from: None, bytes });
    }

    /// What was posted for everybody, or for one; the rest is lost.
    fn posted(&mut self, to: To) -> (String, Vec<u8>) {
        let everybody = self.everybody.clone();
        let is_meant = |topic: &String| (*topic == everybody) == (to == To::Everybody);
        let mut meant: Vec<_> = self.mail.drain(..).filter(|(topic, _)| is_meant(topic)).collect();
        assert_eq!(meant.len(), 1, "one message");
        meant.pop().unwrap()
    }
}

fn found(peer: PeerKey, first_time: bool) -> Output {
    Output::Found { peer, name: "site 2".into(), first_time }
}

#[test]
fn a_letter_withheld_until_its_writer_was_started_anew_is_not_believed() {
    let (mut a, mut b_before) = (Site::start(1, 1), Site::start(2, 2));
    let peer = b_before.core.peer_key();
    let announcement = a.posted(To::Everybody);
    b_before.mail.clear();
    b_before.read(1, &announcement);
    // It proves itself to this run of A, and waits.
    let withheld = b_before.posted(To::One);
    drop(b_before);
    let mut b = Site::start(2, 3);
    b.mail.clear();
    b.read(2, &announcement);
    a.read(2, &b.posted(To::One));
    assert_eq!(a.told, [found(peer, true)]);
    a.read(3, &withheld);
    assert_eq!(a.told.len(), 1, "{:?}", a.told);
    assert_eq!((a.core.counters().fresh, a.core.counters().unproven), (1, 1));
}

#[test]
fn an_ended_run_is_not_even_answered() {
    let (mut a, mut b_before) = (Site::start(1, 1), Site::start(2, 2));
    let peer = b_before.core.peer_key();
    let announcement = a.posted(To::Everybody);
    let announced_before = b_before.posted(To::Everybody);
    b_before.read(1, &announcement);
    a.read(1, &b_before.posted(To::One));
    a.handle(2, Input::Timeout);
    a.mail.iter().for_each(|mail| b_before.read(2, mail));
    // Found by A, it makes a card and sends it; the letter waits.
    b_before.mail.clear();
    b_before.handle(2, Input::LocalCard { peer: a.core.peer_key(), card: b"old" });
    let withheld = b_before.posted(To::One);
    drop(b_before);
    let mut b = Site::start(2, 3);
    a.mail.clear();
    a.read(4, &b.posted(To::Everybody));
    b.read(4, &a.posted(To::One));
    b.handle(5, Input::Timeout);
    b.mail.clone().iter().for_each(|mail| a.read(5, mail));
    assert_eq!(a.told, [found(peer, true), found(peer, false)]);
    a.handle(6, Input::Timeout);
    a.mail.clear();
    for old in [&withheld, &announced_before] {
        a.read(6, old);
        a.handle(6, Input::Timeout);
    }
    assert_eq!(a.mail.len(), 0);
    assert_eq!(a.told.len(), 2, "{:?}", a.told);
    assert_eq!(a.core.counters().ended_session, 2);
}

/// A restart of the peer is believed at once, and only once, and the old link is called dead.
#[test]
fn a_restart_is_told_after_the_card_that_comes_with_it() {
    let (mut a, mut b) = (Site::start(1, 1), Site::start(2, 2));
    let peer = b.core.peer_key();
    let announcement = a.posted(To::Everybody);
    b.mail.clear();
    b.read(1, &announcement);
    a.read(1, &b.posted(To::One));
    a.handle(1, Input::LocalCard { peer, card: b"card of a" });
    a.handle(1, Input::LinkUp { peer });
    a.mail.clear();
    a.told.clear();
    let mut again = Site::start(2, 3);
    again.handle(2, Input::Member { peer: a.core.peer_key(), name: "site 1" });
    again.handle(2, Input::LocalCard { peer: a.core.peer_key(), card: b"new card of b" });
    // A's answer to what may be a replay does not give away the card of the link that works.
    a.read(2, &again.mail[0].clone());
    assert_eq!(a.told, []);
    again.mail.clear();
    again.read(2, &a.posted(To::One));
    assert!(matches!(again.told.as_slice(), [Output::Found { first_time: false, .. }]), "{:?}", again.told);
    a.read(2, &again.posted(To::One));
    let card = Output::PeerCard { peer, card: b"new card of b".to_vec() };
    assert_eq!(a.told, [found(peer, false), card, Output::Event(Event::PeerRestarted { peer })]);
}

/// Opened by the right site, but left where letters are not left: somebody moved it.
#[test]
fn a_message_on_another_topic_is_not_believed() {
    let (mut a, mut b) = (Site::start(1, 1), Site::start(2, 2));
    let announcement = a.posted(To::Everybody);
    let (everybody, bytes) = b.posted(To::Everybody);
    b.read(1, &announcement);
    let (to_a, letter) = b.posted(To::One);
    a.read(1, &(everybody, letter));
    a.read(1, &(to_a, bytes));
    assert_eq!((a.core.counters().wrong_topic, a.told.len()), (2, 0));
}
