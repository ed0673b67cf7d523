//! A flow of messages through the broker. Closed: each publisher keeps at most a window of messages on the way, so that
//! nothing is lost because the bench outran the broker. Open: so many a second, whatever happens, which shows latency.
use super::door::{Door, Greeting};
use super::net::Net;
use super::plan::Plan;
use super::report::Report;
use super::stamp::Stamp;
use super::tally::Tally;
use super::usage::{self, Usage};
use crate::failure::Failure;
use host::mqtt::codec;
use host::mqtt::packet::Publish;
use host::mqtt::{PacketId, QoS, Topic, Version};
use std::time::Duration;

/// How a flow is driven.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    pub(super) version: Version,
    pub(super) qos: QoS,
    /// Of a payload.
    pub(super) bytes: usize,
    /// Messages of one publisher on the way at once.
    pub(super) window: u16,
    /// Before figures count, and while they do.
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    /// Messages a second, of all publishers together; none is as many as the window lets through.
    pub(super) rate: Option<f64>,
    /// The broker's process.
    pub(super) pid: Option<u32>,
    /// Tells how it goes once a second.
    pub(super) is_watched: bool,
}

/// Longer than any flow: bench clients say nothing to stay alive.
const KEEP_ALIVE_SECS: u16 = u16::MAX;
/// Bytes that a connection may have waiting before its publisher waits too.
const BACKLOG_MAX: usize = 64 << 10;
/// Of an open flow, which waits for nobody: what is beyond is left out, and told.
const OPEN_BACKLOG_MAX: usize = 4 << 20;
/// Nothing arrives for so long: what is on the way is lost.
const STALLED: Duration = Duration::from_millis(1_500);
const LOST_AFTER: Duration = Duration::from_secs(3);
/// Messages of one turn of an open flow that has fallen behind its schedule.
const CATCH_UP_MAX: u64 = 10_000;

/// Where things stood at one moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    nanos: u64,
    delivered: u64,
    published: u64,
    broker: Option<Usage>,
    own: Option<Usage>,
}

/// What came of a flow.
pub(super) struct Outcome {
    pub(super) report: Report,
    /// Why the first connection ended that the broker did end.
    pub(super) trouble: Option<String>,
}

/// A flow under way.
pub(super) struct Flow {
    drive: Drive,
    plan: Plan,
    net: Net,
    tally: Tally,
    payload: Vec<u8>,
    /// Copies of one publisher's messages on the way at once.
    copies_max: i64,
    published: u64,
    /// Messages that the schedule of an open flow has come to, and those that were left out because the broker took no
    /// more bytes.
    scheduled: u64,
    left_out: u64,
    /// Copies given up in a stall.
    given_up: i64,
    started: Option<Mark>,
    ended: Option<Mark>,
    /// When the last thing arrived, and how many had.
    progress: (u64, u64),
    /// Seconds told so far.
    told: u64,
}

impl Flow {
    /// Connects everybody and subscribes.
    pub(super) fn prepare(door: &Door, plan: Plan, drive: Drive) -> Result<Self, Failure> {
        let mut net = Net::new(drive.version)?;
        let greeting = Greeting { is_clean: true, keep_alive_secs: KEEP_ALIVE_SECS };
        let process = std::process::id();
        net.connect(door, greeting, &format!("bench{process}-s"), plan.subscribers.len())?;
        for (who, filters) in plan.subscribers.iter().enumerate() {
            net.subscribe(who, filters, drive.qos)?;
        }
        net.connect(door, greeting, &format!("bench{process}-p"), plan.publishers.len())?;
        let tally = Tally::new(&plan, drive.version, drive.warm_up.as_nanos() as u64);
        let copies_max = i64::from(drive.window) * i64::from(plan.copies_max());
        Ok(Self {
            payload: vec![b'x'; drive.bytes],
            copies_max,
            drive,
            plan,
            net,
            tally,
            published: 0,
            scheduled: 0,
            left_out: 0,
            given_up: 0,
            started: None,
            ended: None,
            progress: (0, 0),
            told: 0,
        })
    }

    /// Until the time is over and what was published has arrived, or is known to be lost.
    pub(super) fn run(mut self, name: &'static str) -> Result<Outcome, Failure> {
        while !self.is_over() {
            self.mark()?;
            if self.ended.is_none() {
                match self.drive.rate {
                    Some(rate) => self.publish_due(rate),
                    None => self.publish_within_windows(),
                }
            }
            let patience = self.patience();
            let Self { net, tally, .. } = &mut self;
            net.round(patience, |who, out, frame| tally.heard(who, out, frame))?;
            if self.net.all_ended() {
                let why = self.net.trouble.as_deref().unwrap_or_default();
                return Err(Failure::new(format!("{name}: all connections ended: {why}")));
            }
            self.look_for_stalls();
            self.tell(name);
        }
        Ok(Outcome { report: self.report(name), trouble: self.net.trouble })
    }

    fn mark(&mut self) -> Result<(), Failure> {
        let nanos = self.tally.nanos();
        let start = self.drive.warm_up.as_nanos() as u64;
        let end = start + self.drive.measured.as_nanos() as u64;
        let place = match (&self.started, &self.ended) {
            (None, _) if nanos >= start => &mut self.started,
            (Some(_), None) if nanos >= end => &mut self.ended,
            _ => return Ok(()),
        };
        *place = Some(Mark {
            nanos,
            delivered: self.tally.delivered,
            published: self.published,
            broker: usage::of_broker(self.drive.pid)?,
            own: usage::of(std::process::id()).ok(),
        });
        Ok(())
    }

    /// What the clock says should have been published by now.
    fn publish_due(&mut self, rate: f64) {
        let due = (self.tally.nanos() as f64 * rate / 1e9) as u64;
        let turns = self.scheduled..due.min(self.scheduled + CATCH_UP_MAX);
        let count = self.plan.publishers.len() as u64;
        for turn in turns.clone() {
            let number = (turn % count) as usize;
            if self.net.backlog(self.connection(number)) > OPEN_BACKLOG_MAX {
                self.left_out += 1;
            } else {
                let nanos = self.tally.nanos();
                self.publish(number, nanos);
            }
        }
        for turn in turns.clone().take(self.plan.publishers.len()) {
            let who = self.connection((turn % count) as usize);
            self.net.flush(who);
        }
        self.scheduled = turns.end.max(self.scheduled);
    }

    fn publish_within_windows(&mut self) {
        let nanos = self.tally.nanos();
        let mut ready = std::mem::take(&mut self.tally.ready);
        for number in ready.drain(..) {
            self.tally.publishers[number].is_ready = false;
            let who = self.connection(number);
            while self.net.backlog(who) <= BACKLOG_MAX && self.has_room(number, who) {
                self.publish(number, nanos);
            }
            self.net.flush(who);
        }
        if self.tally.ready.is_empty() {
            self.tally.ready = ready;
        }
    }

    fn has_room(&self, number: usize, who: usize) -> bool {
        let publisher = &self.tally.publishers[number];
        let copies = self.next_topic(number).map_or(0, |topic| self.plan.topics[topic].copies);
        let unacknowledged_max = i64::from(self.drive.window.min(self.net.receive_max(who)));
        let may_wait = self.drive.qos == QoS::AtMostOnce || publisher.unacknowledged < unacknowledged_max;
        may_wait && publisher.expected - publisher.delivered + i64::from(copies) <= self.copies_max
    }

    fn next_topic(&self, number: usize) -> Option<usize> {
        let topics = &self.plan.publishers[number];
        let turn = self.tally.publishers[number].number as usize % topics.len().max(1);
        topics.get(turn).map(|topic| *topic as usize)
    }

    /// Publishers come behind the subscribers.
    fn connection(&self, publisher: usize) -> usize {
        self.plan.subscribers.len() + publisher
    }

    fn publish(&mut self, number: usize, nanos: u64) {
        let Some(place) = self.next_topic(number) else { return };
        let who = self.connection(number);
        let (planned, qos) = (&self.plan.topics[place], self.drive.qos);
        let publisher = &mut self.tally.publishers[number];
        publisher.number += 1;
        Stamp { speaker: number as u32, number: publisher.number, nanos }.write(&mut self.payload);
        let Ok(topic) = Topic::parse(&planned.topic) else { return };
        let mut packet = Publish { qos, ..Publish::new(topic, &self.payload) };
        if qos != QoS::AtMostOnce {
            publisher.packet_id = publisher.packet_id.checked_add(1).unwrap_or(1);
            publisher.unacknowledged += 1;
            packet.packet_id = PacketId::new(publisher.packet_id);
        }
        publisher.expected += i64::from(planned.copies);
        self.published += 1;
        let encoded = codec::encode_publish(&packet, self.drive.version, self.net.out(who));
        debug_assert!(encoded.is_ok(), "the size was checked with the arguments");
    }

    fn patience(&self) -> Duration {
        match self.drive.rate {
            Some(rate) if self.ended.is_none() => {
                let next = (self.scheduled + 1) as f64 * 1e9 / rate;
                Duration::from_nanos((next as u64).saturating_sub(self.tally.nanos()).min(50_000_000))
            }
            _ if !self.tally.ready.is_empty() && self.ended.is_none() => Duration::ZERO,
            _ => Duration::from_millis(20),
        }
    }

    /// A closed flow goes on after a loss: what is on the way for too long is given up.
    fn look_for_stalls(&mut self) {
        let (nanos, seen) = (self.tally.nanos(), self.tally.delivered + self.tally.acknowledged);
        if seen != self.progress.1 {
            self.progress = (nanos, seen);
        }
        if self.ended.is_some() || self.drive.rate.is_some() {
            return;
        }
        let quiet = Duration::from_nanos(nanos - self.progress.0);
        if quiet > STALLED {
            self.given_up += self.tally.outstanding();
            for publisher in &mut self.tally.publishers {
                publisher.expected = publisher.delivered;
                publisher.unacknowledged = 0;
            }
            self.progress.0 = nanos;
        }
        // Publishers that stopped for the kernel's sake have no delivery to wait for.
        if quiet > Duration::from_millis(10) {
            (0..self.tally.publishers.len()).for_each(|number| self.tally.make_ready(number));
        }
    }

    fn is_over(&self) -> bool {
        if self.ended.is_none() {
            return false;
        }
        let quiet = Duration::from_nanos(self.tally.nanos() - self.progress.0);
        let unacknowledged: i64 = self.tally.publishers.iter().map(|publisher| publisher.unacknowledged).sum();
        self.tally.outstanding() <= 0 && unacknowledged <= 0 || quiet > LOST_AFTER
    }

    fn tell(&mut self, name: &str) {
        let secs = self.tally.nanos() / 1_000_000_000;
        if self.drive.is_watched && secs > self.told && self.ended.is_none() {
            self.told = secs;
            let whole = (self.drive.warm_up + self.drive.measured).as_secs_f64();
            warn!("{name}: {secs} of {whole} s, {} delivered", self.tally.delivered);
        }
    }

    fn report(&self, name: &'static str) -> Report {
        let mut report = Report::new(name);
        let (Some(start), Some(end)) = (self.started, self.ended) else { return report };
        let (tally, drive) = (&self.tally, &self.drive);
        let seconds = (end.nanos - start.nanos) as f64 / 1e9;
        let delivered = (end.delivered - start.delivered) as f64;
        report
            .add("publishers", self.plan.publishers.len() as f64)
            .add("subscribers", self.plan.subscribers.len() as f64)
            .add("qos", f64::from(drive.qos as u8))
            .add("payload_bytes", drive.bytes as f64)
            .add("window", f64::from(drive.window))
            .add("seconds", seconds)
            .add("published", (end.published - start.published) as f64)
            .add("left_out", self.left_out as f64)
            .add("delivered", delivered)
            .add("delivered_per_second", (delivered / seconds).round())
            .add("lost", (tally.outstanding() + self.given_up) as f64)
            .add("doubled", tally.doubled as f64)
            .add("reordered", tally.reordered as f64)
            .add("refused", tally.refused as f64)
            .add("disconnected", self.net.ended as f64);
        if !tally.latencies.is_empty() {
            let micros = |share| tally.latencies.quantile(share) as f64 / 1e3;
            report
                .add("latency_p50_us", micros(0.5))
                .add("latency_p90_us", micros(0.9))
                .add("latency_p99_us", micros(0.99))
                .add("latency_p999_us", micros(0.999))
                .add("latency_max_us", tally.latencies.max() as f64 / 1e3);
        }
        if let (Some(before), Some(after)) = (start.own, end.own) {
            report.add("bench_cpu_share", (after.cpu_secs - before.cpu_secs) / seconds);
        }
        if let (Some(before), Some(after)) = (start.broker, end.broker) {
            let cpu_secs = after.cpu_secs - before.cpu_secs;
            report
                .add("broker_cpu_share", cpu_secs / seconds)
                .add("broker_cpu_us_per_delivery", cpu_secs * 1e6 / delivered)
                .add("broker_rss_bytes", after.rss_bytes as f64);
        }
        report
    }
}
