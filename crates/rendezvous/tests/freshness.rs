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

#[test]
fn forgetting_a_site_does_not_revive_its_ended_runs() {
    let (mut a, mut b_before) = (Site::start(1, 1), Site::start(2, 2));
    let peer = b_before.core.peer_key();
    let announcement = a.posted(To::Everybody);
    b_before.mail.clear();
    b_before.read(1, &announcement);
    let withheld = b_before.posted(To::One);
    let mut b = Site::start(2, 3);
    b.read(1, &announcement);
    a.read(1, &b.posted(To::One));
    a.handle(2, Input::Forget { peer });
    a.read(2, &withheld);
    assert_eq!(a.told, [found(peer, true)]);
    // The one that runs is found again.
    a.mail.clear();
    let (mut rounds, mut at) = (0, 3);
    while a.told.len() < 2 {
        rounds += 1;
        at += 60;
        assert!(rounds < 5, "not found again");
        b.handle(at, Input::Timeout);
        let (from_a, from_b) = (std::mem::take(&mut a.mail), std::mem::take(&mut b.mail));
        from_b.iter().for_each(|mail| a.read(at, mail));
        from_a.iter().for_each(|mail| b.read(at, mail));
    }
    assert_eq!(a.told, [found(peer, true), found(peer, true)]);
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

/// Waits for what is due, until nothing is within an hour; the letters and the announcements of that time.
fn wait_an_hour(site: &mut Site, from_secs: u64) -> (usize, usize) {
    site.mail.clear();
    let end = Instant((from_secs + 3_600) * 1_000_000);
    while let Some(at) = site.core.poll_timeout().filter(|&at| at < end) {
        site.handle(at.0.div_ceil(1_000_000), Input::Timeout);
    }
    let announcements = site.mail.iter().filter(|(topic, _)| *topic == site.everybody).count();
    (site.mail.len() - announcements, announcements)
}

#[test]
fn a_letter_without_an_answer_is_sent_five_times_and_then_announcements_go_on() {
    let (mut a, mut b) = (Site::start(1, 1), Site::start(2, 2));
    let announcement = a.posted(To::Everybody);
    b.read(1, &announcement);
    a.read(1, &b.posted(To::One));
    a.handle(1, Input::LocalCard { peer: b.core.peer_key(), card: b"card" });
    a.posted(To::One);
    let (letters, announcements) = wait_an_hour(&mut a, 1);
    assert_eq!(letters, 4, "after the first");
    assert!((50..=80).contains(&announcements), "{announcements}");
}

/// The limit on answers, at its edge: six at once for one site, however many runs of it announce themselves.
#[test]
fn answers_to_what_may_be_replays_are_rationed() {
    let mut a = Site::start(1, 1);
    a.mail.clear();
    let runs: Vec<_> = (2..42).map(|run| Site::start(2, run).posted(To::Everybody)).collect();
    let answers = |a: &mut Site, secs: u64, runs: &[(String, Vec<u8>)]| {
        runs.iter().for_each(|run| a.read(secs, run));
        let answers = a.mail.iter().filter(|(topic, _)| *topic != a.everybody).count();
        a.mail.clear();
        answers
    };
    assert_eq!(answers(&mut a, 1, &runs[..20]), 6);
    // Sixteen sessions are remembered: these are known to have been heard.
    assert_eq!(answers(&mut a, 2, &runs[4..20]), 0);
    assert_eq!(a.core.counters().replayed, 16);
    assert_eq!(answers(&mut a, 31, &runs[20..]), 3);
    assert_eq!(a.told, []);
}

/// The mailbox's seal and the doors' differ: nobody can carry messages from one to the other.
#[test]
fn messages_of_a_mailbox_do_not_open_at_doors_nor_the_other_way_round() {
    let (mut a, mut b) = (Site::start(1, 1), Site::start(2, 2));
    let announcement = a.posted(To::Everybody);
    b.handle(1, Input::Member { peer: a.core.peer_key(), name: "site 1" });
    b.handle(1, Input::LocalCard { peer: a.core.peer_key(), card: &[7; 900] });
    b.read(1, &announcement);
    let (topic, sealed) = b.posted(To::One);
    assert_eq!(sealed.len(), 1190);
    let mut datagram = vec![midge_rendezvous::DOOR_MAGIC, 1];
    datagram.extend_from_slice(&a.core.fingerprint().0);
    datagram.extend_from_slice(&sealed);
    let place = PlaceId::DOORSTEP;
    a.handle(1, Input::Arrived { place, topic: None, from: Some(&[9]), bytes: &datagram });
    b.handle(2, Input::Place { id: PlaceId(5), kind: PlaceKind::Door { peer: None }, reachable: true });
    let Some(Output::Post { place: PlaceId(5), bytes: knock, .. }) = b.told.pop() else { panic!("no knock") };
    for topic in [&topic, &a.everybody.clone()] {
        a.read(2, &(topic.clone(), knock[10..].to_vec()));
    }
    assert_eq!((a.core.counters().bad_seal, a.told.len()), (3, 0));
    // At the right door it opens.
    a.handle(2, Input::Arrived { place, topic: None, from: Some(&[9]), bytes: &knock });
    assert_eq!(a.core.counters().announcements, 1);
}
