//! Whether the path in use still works. QUIC's acknowledgements tell while there is traffic, its keep-alive when there
//! is none; ICE's checks only help to find out where else to go.

use super::Peer;
use super::connect::Link;
use crate::connection::Pulse;
use crate::door::{DownReason, Event};
use crate::path::PathKind;
use crate::session::{Ends, Pace};
use crate::site::Site;
use std::time::{Duration, Instant};

/// Something was sent and nothing came back: look closer.
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// After so long in alarm, another pair of the session takes over, if one answers.
const FAIL_OVER_AFTER: Duration = Duration::from_millis(700);
/// Look for a new path with new credentials.
const SEARCH_AFTER: Duration = Duration::from_millis(2800);
/// Give the connection up (a dead path is found within 6 s while traffic waits).
const DEAD_AFTER: Duration = Duration::from_millis(5500);

/// What is known of the path's health.
#[derive(Default)]
pub(super) struct Health {
    pulse: Pulse,
    /// When the oldest packet was sent that nothing has answered.
    waiting: Option<Instant>,
    alarm: Option<Instant>,
}

impl Health {
    /// Of a connection that has just come up.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { pulse, ..Self::default() }
    }

    pub(super) fn is_alarmed(&self) -> bool {
        self.alarm.is_some()
    }

    /// Another path gets its own chance.
    pub(super) fn path_changed(&mut self, now: Instant) {
        self.alarm = None;
        self.waiting = self.waiting.map(|_| now);
    }

    /// When it is time to look again.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let steps = [SUSPECT_AFTER, SEARCH_AFTER, DEAD_AFTER];
        let waiting = self.waiting.and_then(|since| steps.map(|step| since + step).into_iter().find(|at| *at > now));
        // In alarm at every turn, until something answers.
        let alarm = self.alarm.map(|alarm| (alarm + FAIL_OVER_AFTER).max(now + FAIL_OVER_AFTER / 4));
        [waiting, alarm].into_iter().flatten().min()
    }

    /// Takes a new reading; true when something was answered.
    fn read(&mut self, now: Instant, pulse: Pulse) -> bool {
        let before = core::mem::replace(&mut self.pulse, pulse);
        let answered = pulse.answered > before.answered;
        if answered {
            self.waiting = None;
        } else if pulse.asked > before.asked && self.waiting.is_none() {
            self.waiting = Some(now);
        }
        answered
    }
}

impl Peer {
    /// The driver was late by this much: what it finds waiting may have been answered long ago.
    pub(crate) fn forgive(&mut self, late: Duration) {
        self.health.waiting = self.health.waiting.map(|since| since + late);
        self.health.alarm = self.health.alarm.map(|since| since + late);
    }

    /// QUIC arrived from elsewhere than our path leads: the peer may have moved, and our path be dead.
    pub(crate) fn heard_from(&mut self, now: Instant, ends: Ends) {
        self.heard = Some(ends);
        let Some(live) = self.live.as_ref().filter(|live| live.path != Some(ends)) else { return };
        let age = |ends| live.session.answered_at(ends).map(|at| now.saturating_duration_since(at));
        let path_age = live.path.and_then(age);
        if path_age.is_none_or(|age| age > 2 * SUSPECT_AFTER) && self.health.alarm.is_none() {
            self.alarm(now);
        }
    }

    /// Looks at the path, and does what its state asks for.
    pub(super) fn check_health(&mut self, site: &mut Site) {
        let now = site.now;
        let Link::Up { connection, .. } = &mut self.link else { return };
        if self.health.read(now, connection.pulse()) {
            self.calm();
        }
        let Some(since) = self.health.waiting else {
            self.check_alarm(site);
            return;
        };
        if now >= since + DEAD_AFTER {
            self.bury(site);
            return;
        }
        if now >= since + SUSPECT_AFTER && self.health.alarm.is_none() {
            self.alarm(now);
            site.gatherer.doubt(now);
            site.event(Event::PathSuspect { peer: self.key });
        }
        self.check_alarm(site);
    }

    fn bury(&mut self, site: &mut Site) {
        if self.described_path().is_some_and(|path| path.kind == PathKind::Relayed) {
            site.renew_relays(DEAD_AFTER);
        }
        self.give_up(site, DownReason::DeadPath);
        if self.next.is_none() {
            self.search_afresh(site);
        }
    }

    fn alarm(&mut self, now: Instant) {
        self.health.alarm = Some(now);
        if let Some(live) = &mut self.live {
            live.session.set_pace(Pace::Alarm);
        }
    }

    pub(super) fn check_alarm(&mut self, site: &mut Site) {
        let now = site.now;
        let (Some(alarm), Some(live)) = (self.health.alarm, &mut self.live) else { return };
        let Some(path) = live.path else { return };
        if self.health.waiting.is_none() && live.session.answered_at(path).is_some_and(|at| at > alarm) {
            self.calm();
        } else if now >= alarm + FAIL_OVER_AFTER && live.session.fail_over(now, path) {
            self.drive_sessions(site);
        } else if now >= alarm + (SEARCH_AFTER - SUSPECT_AFTER) && self.next.is_none() {
            self.search_afresh(site);
        }
    }

    pub(super) fn calm(&mut self) {
        if self.health.alarm.take().is_some()
            && let Some(live) = &mut self.live
        {
            live.session.set_pace(Pace::Settled);
        }
    }
}
