//! `$SYS`: the site's own figures as retained messages, under the names that mosquitto 2 gives them.
//!
//! A value is published when it has changed, at most once an interval. Averages are exponential ones over 1, 5 and 15
//! minutes, per minute. Heap figures are not given: a pure core does not know them; `status` and the metrics do.
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use broker::Stats;
use core::time::Duration;
use mqtt::{Instant, Now};

/// What is known of one peer.
#[derive(Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_up: bool,
}

/// The tree as it was last told.
#[derive(Debug)]
pub(crate) struct System {
    interval: Duration,
    version: String,
    started: Instant,
    /// When the last figures were taken; none before the first.
    last: Option<(Instant, Stats)>,
    loads: [[f64; PERIODS.len()]; LOADS.len()],
    told: BTreeMap<String, String>,
}

/// A counter by its name in the tree.
type Counter = (&'static str, fn(&Stats) -> u64);

/// Averaging periods: name and minutes.
const PERIODS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

const LOADS: [Counter; 9] = [
    ("load/messages/received", |stats| stats.packets_received),
    ("load/messages/sent", |stats| stats.packets_sent),
    ("load/publish/dropped", Stats::dropped_in_all),
    ("load/publish/received", |stats| stats.publishes_received),
    ("load/publish/sent", |stats| stats.publishes_sent),
    ("load/bytes/received", |stats| stats.bytes_received),
    ("load/bytes/sent", |stats| stats.bytes_sent),
    ("load/sockets", |stats| stats.opened),
    ("load/connections", |stats| stats.connects),
];

/// Several names are mosquitto's older words for the same figure: dashboards use either.
const FIGURES: [Counter; 24] = [
    ("clients/total", |stats| stats.sessions),
    ("clients/maximum", |stats| stats.sessions_max),
    ("clients/connected", |stats| stats.connected),
    ("clients/active", |stats| stats.connected),
    ("clients/disconnected", absent),
    ("clients/inactive", absent),
    ("clients/expired", |stats| stats.expired),
    ("messages/received", |stats| stats.packets_received),
    ("messages/sent", |stats| stats.packets_sent),
    ("messages/stored", stored),
    ("store/messages/count", stored),
    ("store/messages/bytes", |stats| stats.retained_bytes + stats.queued_bytes),
    ("subscriptions/count", |stats| stats.subscriptions),
    ("shared_subscriptions/count", |stats| stats.shared_subscriptions),
    ("retained messages/count", |stats| stats.retained),
    ("publish/messages/dropped", Stats::dropped_in_all),
    ("publish/messages/received", |stats| stats.publishes_received),
    ("publish/messages/sent", |stats| stats.publishes_sent),
    ("publish/bytes/received", |stats| stats.payload_bytes_received),
    ("publish/bytes/sent", |stats| stats.payload_bytes_sent),
    ("bytes/received", |stats| stats.bytes_received),
    ("bytes/sent", |stats| stats.bytes_sent),
    ("publish/messages/refused", |stats| stats.refused),
    ("publish/messages/delivered", |stats| stats.delivered),
];

fn absent(stats: &Stats) -> u64 {
    stats.sessions.saturating_sub(stats.connected)
}

fn stored(stats: &Stats) -> u64 {
    stats.retained + stats.queued
}

impl System {
    /// As for [`System::new`].
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// `interval` zero: the tree is never told.
    pub(crate) fn new(interval: Duration, version: &str) -> Self {
        Self {
            interval,
            version: version.to_string(),
            started: Instant(0),
            last: None,
            loads: Default::default(),
            told: BTreeMap::new(),
        }
    }

    pub(crate) fn start(&mut self, now: Now) {
        self.started = now.instant;
    }

    /// When the tree is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last.as_ref().map_or(self.started, |(at, _)| *at + self.interval);
        (!self.interval.is_zero()).then_some(last)
    }

    /// Hands each topic below `$SYS/broker/` whose value has changed to `tell`.
    pub(crate) fn update<'a>(
        &mut self,
        now: Now,
        stats: Stats,
        peers: impl Iterator<Item = Peer<'a>>,
        mut tell: impl FnMut(&str, &str),
    ) {
        let version = core::mem::take(&mut self.version);
        self.put("version", &version, &mut tell);
        self.version = version;
        let uptime = format!("{} seconds", now.instant.since(self.started).as_secs());
        self.put("uptime", &uptime, &mut tell);
        for (name, figure) in FIGURES {
            self.put(name, &figure(&stats).to_string(), &mut tell);
        }
        self.average(now, &stats, &mut tell);
        for peer in peers {
            let name = format!("peer/{}/state", peer.name);
            self.put(&name, if peer.is_up { "1" } else { "0" }, &mut tell);
        }
        self.last = Some((now.instant, stats));
    }

    fn average(&mut self, now: Now, stats: &Stats, tell: &mut impl FnMut(&str, &str)) {
        let minutes = self.last.as_ref().map(|(at, _)| now.instant.since(*at).as_secs_f64() / 60.0);
        for (load, (name, counter)) in LOADS.into_iter().enumerate() {
            let before = self.last.as_ref().map_or(0, |(_, stats)| counter(stats));
            for (period, (period_name, period_minutes)) in PERIODS.into_iter().enumerate() {
                let average = &mut self.loads[load][period];
                if let Some(minutes) = minutes.filter(|minutes| *minutes > 0.0) {
                    let rate = counter(stats).saturating_sub(before) as f64 / minutes;
                    *average = rate + libm::exp(-minutes / period_minutes) * (*average - rate);
                }
                let value = format!("{average:.2}");
                self.put(&format!("{name}/{period_name}"), &value, tell);
            }
        }
    }

    fn put(&mut self, name: &str, value: &str, tell: &mut impl FnMut(&str, &str)) {
        if self.told.get(name).is_some_and(|told| told == value) {
            return;
        }
        self.told.insert(name.to_string(), value.to_string());
        tell(&format!("$SYS/broker/{name}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use mqtt::Wall;

    fn at(secs: u64) -> Now {
        Now { instant: Instant(secs * 1_000_000), wall: Wall(secs * 1000) }
    }

    fn told(system: &mut System, secs: u64, stats: Stats) -> Vec<String> {
        let mut lines = Vec::new();
        let peers = [Peer { name: "boat", is_up: secs > 5 }];
        system.update(at(secs), stats, peers.into_iter(), |topic, value| lines.push(format!("{topic} {value}")));
        lines
    }

    #[test]
    fn only_what_has_changed_is_told_again() {
        let mut system = System::new(Duration::from_secs(10), "midge version 1");
        assert_eq!(system.poll_timeout(), Some(Instant(0)), "at once");
        let first = told(&mut system, 0, Stats::default());
        for line in ["version midge version 1", "uptime 0 seconds", "clients/total 0", "load/sockets/5min 0.00"] {
            assert!(first.contains(&format!("$SYS/broker/{line}")), "{line}");
        }
        assert!(first.contains(&"$SYS/broker/peer/boat/state 0".to_string()));
        assert_eq!(system.poll_timeout(), Some(at(10).instant));
        let second = told(&mut system, 10, Stats { retained: 3, ..Stats::default() });
        let expected = [
            "uptime 10 seconds",
            "messages/stored 3",
            "store/messages/count 3",
            "retained messages/count 3",
            "peer/boat/state 1",
        ];
        assert_eq!(second, expected.map(|line| format!("$SYS/broker/{line}")));
    }

    #[test]
    fn averages_come_near_what_goes_on() {
        let mut system = System::new(Duration::from_secs(10), "");
        for round in 0..=180 {
            // 6,000 a minute.
            told(&mut system, round * 10, Stats { packets_received: round * 1000, ..Stats::default() });
        }
        let [one, five, fifteen] = system.loads[0];
        assert!((one - 6000.0).abs() < 1.0, "{one}");
        assert!((five - 6000.0).abs() < 20.0, "{five}");
        // After two periods all but e^-2 of it.
        assert!((fifteen - 6000.0 * (1.0 - 0.1353)).abs() < 10.0, "{fifteen}");
    }

    #[test]
    fn switched_off_it_is_never_due() {
        assert_eq!(System::new(Duration::ZERO, "").poll_timeout(), None);
    }
}
