//! What a broker keeps: idle clients, retained messages, messages for a client that is away. One measurement each.
use super::door::{Door, Greeting};
use super::net::Net;
use super::report::Report;
use super::stamp::Stamp;
use super::usage::{self, Usage};
use crate::failure::Failure;
use host::mqtt::codec::{self, AckKind, Frame};
use host::mqtt::packet::{Disconnect, Packet, Publish};
use host::mqtt::property::DisconnectProperties;
use host::mqtt::{PacketId, QoS, ReasonCode, Topic, Version};
use std::thread;
use std::time::{Duration, Instant};

/// What is kept and how much of it.
#[derive(Debug, Clone)]
pub(super) struct Stock {
    pub(super) version: Version,
    pub(super) count: usize,
    /// Of a payload.
    pub(super) bytes: usize,
    /// Unacknowledged messages while the stock is filled.
    pub(super) window: u16,
    pub(super) prefix: String,
    /// The broker's process.
    pub(super) pid: Option<u32>,
    /// Tells how it goes.
    pub(super) is_watched: bool,
}

/// Which half of `queued`: between the two the broker may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Both,
    Fill,
    Drain,
}

const KEEP_ALIVE_SECS: u16 = 600;
/// Nothing comes for so long: nothing more will.
const QUIET: Duration = Duration::from_secs(5);
/// Until what has happened shows in the broker's memory.
const SETTLE: Duration = Duration::from_millis(500);
const CLEAN: Greeting = Greeting { is_clean: true, keep_alive_secs: KEEP_ALIVE_SECS };
const DURABLE: Greeting = Greeting { is_clean: false, keep_alive_secs: KEEP_ALIVE_SECS };

/// What has come of a stock.
#[derive(Debug, Default)]
struct Drained {
    got: usize,
    doubled: usize,
    reordered: usize,
    /// Until the last one came.
    took: Duration,
}

impl Stock {
    /// Clients that only keep their connection.
    pub(super) fn idle(&self, door: &Door) -> Result<Report, Failure> {
        let mut net = Net::new(self.version)?;
        // What the first connection makes the broker set up is not the price of one more.
        net.connect(door, CLEAN, &self.name("first"), 1)?;
        thread::sleep(SETTLE);
        let before = usage::of_broker(self.pid)?;
        let began = Instant::now();
        net.connect(door, CLEAN, &self.name("idle"), self.count)?;
        let took = began.elapsed().as_secs_f64();
        thread::sleep(2 * SETTLE);
        let there = usage::of_broker(self.pid)?;
        let rest = Duration::from_secs(4);
        thread::sleep(rest);
        net.round(Duration::ZERO, |_, _, _| {})?;
        let later = usage::of_broker(self.pid)?;
        let mut report = Report::new("idle");
        report.add("clients", self.count as f64).add("connects_per_second", (self.count as f64 / took).round());
        report.add("disconnected", net.ended as f64);
        if let (Some(before), Some(there), Some(later)) = (before, there, later) {
            report.add("broker_rss_bytes_each", self.each(grown(before, there)));
            report.add("broker_cpu_us_per_connect", self.each((there.cpu_secs - before.cpu_secs) * 1e6));
            let idle = (later.cpu_secs - there.cpu_secs) * 1e3 / rest.as_secs_f64();
            report.add("broker_idle_cpu_ms_per_second", idle);
        }
        Ok(report)
    }

    /// Retained messages, then a subscription to all of them; they are deleted at the end.
    pub(super) fn retained(&self, door: &Door) -> Result<Report, Failure> {
        let mut net = Net::new(self.version)?;
        let publisher = net.connect(door, CLEAN, &self.name("retain"), 1)?;
        thread::sleep(SETTLE);
        let before = usage::of_broker(self.pid)?;
        let topic = |n: usize| format!("{}/ret/{}/{}", self.prefix, n / 1_000, n % 1_000);
        let (acknowledged, took) = self.publish(&mut net, publisher, true, self.bytes, topic)?;
        thread::sleep(SETTLE);
        let there = usage::of_broker(self.pid)?;
        let subscriber = net.connect(door, CLEAN, &self.name("read"), 1)?;
        // The answer comes with the messages, and is not waited for.
        net.ask_for(subscriber, &[format!("{}/ret/#", self.prefix)], QoS::AtMostOnce)?;
        let drained = self.drain(&mut net, subscriber)?;
        let after = usage::of_broker(self.pid)?;
        let mut report = Report::new("retained");
        self.tell_filled(&mut report, acknowledged, took);
        self.tell_drained(&mut report, &drained, acknowledged);
        self.tell_usage(&mut report, [before, there, after], drained.got);
        if acknowledged == self.count {
            self.publish(&mut net, publisher, true, 0, topic)?;
        }
        Ok(report)
    }

    /// QoS 1 messages for a client that is away, then its return.
    pub(super) fn queued(&self, door: &Door, half: Half) -> Result<Report, Failure> {
        let mut report = Report::new("queued");
        let mut acknowledged = self.count;
        if half != Half::Drain {
            acknowledged = self.fill_queue(door, &mut report)?;
        }
        if half != Half::Fill {
            let before = usage::of_broker(self.pid)?;
            let mut net = Net::new(self.version)?;
            let subscriber = net.connect(door, DURABLE, &self.name("away"), 1)?;
            let drained = self.drain(&mut net, subscriber)?;
            let after = usage::of_broker(self.pid)?;
            self.tell_drained(&mut report, &drained, acknowledged);
            if let (Some(before), Some(after)) = (before, after) {
                report.add("broker_cpu_us_per_read", (after.cpu_secs - before.cpu_secs) * 1e6 / drained.got as f64);
            }
            drop(net);
            // A clean start ends the session.
            Net::new(self.version)?.connect(door, CLEAN, &self.name("away"), 1)?;
        }
        Ok(report)
    }

    fn fill_queue(&self, door: &Door, report: &mut Report) -> Result<usize, Failure> {
        let mut away = Net::new(self.version)?;
        // What an earlier run may have left is not of this one.
        away.connect(door, CLEAN, &self.name("away"), 1)?;
        let mut away = Net::new(self.version)?;
        let subscriber = away.connect(door, DURABLE, &self.name("away"), 1)?;
        away.subscribe(subscriber, &[format!("{}/q/+", self.prefix)], QoS::AtLeastOnce)?;
        let goodbye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        away.say(subscriber, &Packet::Disconnect(goodbye));
        thread::sleep(SETTLE);
        drop(away);
        let mut net = Net::new(self.version)?;
        let publisher = net.connect(door, CLEAN, &self.name("queue"), 1)?;
        let before = usage::of_broker(self.pid)?;
        let topic = |n: usize| format!("{}/q/{}", self.prefix, n % 100);
        let (acknowledged, took) = self.publish(&mut net, publisher, false, self.bytes, topic)?;
        thread::sleep(SETTLE);
        let there = usage::of_broker(self.pid)?;
        self.tell_filled(report, acknowledged, took);
        self.tell_usage(report, [before, there, None], 0);
        Ok(acknowledged)
    }

    /// The same in every run, so that a second half finds the session of the first.
    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix)
    }

    /// Publishes the stock with QoS 1; returns how many messages were acknowledged, and after which time.
    fn publish(
        &self,
        net: &mut Net,
        who: usize,
        retain: bool,
        bytes: usize,
        topic: impl Fn(usize) -> String,
    ) -> Result<(usize, Duration), Failure> {
        let window = usize::from(self.window.min(net.receive_max(who)));
        let (began, mut heard_at) = (Instant::now(), Instant::now());
        let (mut sent, mut settled, mut refused) = (0, 0, 0);
        let mut payload = vec![b'x'; bytes];
        while settled < self.count {
            while sent < self.count && sent - settled < window {
                Stamp { speaker: 0, number: sent as u32 + 1, nanos: 0 }.write(&mut payload);
                let text = topic(sent);
                let topic = Topic::parse(&text).map_err(|error| Failure::new(format!("{text}: {error}")))?;
                let packet_id = PacketId::new((sent % usize::from(u16::MAX)) as u16 + 1);
                let packet = Publish { qos: QoS::AtLeastOnce, retain, packet_id, ..Publish::new(topic, &payload) };
                let encoded = codec::encode_publish(&packet, self.version, net.out(who));
                debug_assert!(encoded.is_ok(), "the size was checked with the arguments");
                sent += 1;
            }
            net.flush(who);
            let before = settled;
            net.round(Duration::from_millis(50), |_, _, frame| {
                if let Ok(Packet::PubAck(ack)) = frame.packet(self.version) {
                    settled += 1;
                    refused += usize::from(ack.reason.is_error());
                }
            })?;
            if settled != before {
                heard_at = Instant::now();
                self.watch(before, settled, "acknowledged");
            }
            if heard_at.elapsed() > QUIET || net.ended > 0 {
                break;
            }
        }
        Ok((settled - refused, began.elapsed()))
    }

    /// Takes what comes until everything is there, or nothing comes any more.
    fn drain(&self, net: &mut Net, who: usize) -> Result<Drained, Failure> {
        let (began, mut heard_at) = (Instant::now(), Instant::now());
        let mut seen = vec![false; self.count + 1];
        let (mut drained, mut highest) = (Drained::default(), 0);
        while drained.got < self.count && heard_at.elapsed() < QUIET && net.ended == 0 {
            let before = drained.got;
            net.round(Duration::from_millis(50), |from, out, frame| {
                let Some(stamp) = self.take(out, frame).filter(|_| from == who) else { return };
                let number = stamp.number as usize;
                match seen.get_mut(number) {
                    Some(seen @ false) => {
                        *seen = true;
                        drained.got += 1;
                        drained.reordered += usize::from(number < highest);
                        highest = highest.max(number);
                    }
                    Some(true) => drained.doubled += 1,
                    None => {}
                }
            })?;
            if drained.got != before {
                heard_at = Instant::now();
                drained.took = began.elapsed();
                self.watch(before, drained.got, "read");
            }
        }
        Ok(drained)
    }

    /// The stamp of a message, which is acknowledged.
    fn take(&self, out: &mut Vec<u8>, frame: Frame<'_>) -> Option<Stamp> {
        let publish = frame.publish(self.version).ok()?;
        if let Some(id) = publish.packet_id {
            codec::encode_ack(AckKind::PubAck, id, ReasonCode::Success, self.version, out);
        }
        Stamp::read(publish.payload)
    }

    /// Says each tenth.
    fn watch(&self, before: usize, now: usize, what: &str) {
        let tenth = self.count.div_ceil(10).max(1);
        if self.is_watched && before / tenth != now / tenth {
            warn!("{now} of {} {what}", self.count);
        }
    }

    fn tell_filled(&self, report: &mut Report, acknowledged: usize, took: Duration) {
        report
            .add("messages", self.count as f64)
            .add("payload_bytes", self.bytes as f64)
            .add("acknowledged", acknowledged as f64)
            .add("acknowledged_per_second", (acknowledged as f64 / took.as_secs_f64()).round());
    }

    fn tell_drained(&self, report: &mut Report, drained: &Drained, acknowledged: usize) {
        report
            .add("read", drained.got as f64)
            .add("read_per_second", (drained.got as f64 / drained.took.as_secs_f64()).round())
            .add("lost", acknowledged.saturating_sub(drained.got) as f64)
            .add("doubled", drained.doubled as f64)
            .add("reordered", drained.reordered as f64);
    }

    /// Before, with the stock, and after it was read.
    fn tell_usage(&self, report: &mut Report, marks: [Option<Usage>; 3], read: usize) {
        let [before, there, after] = marks;
        if let (Some(before), Some(there)) = (before, there) {
            report.add("broker_rss_bytes_each", self.each(grown(before, there)));
            report.add("broker_cpu_us_per_write", self.each((there.cpu_secs - before.cpu_secs) * 1e6));
        }
        if let (Some(there), Some(after)) = (there, after) {
            report.add("broker_cpu_us_per_read", (after.cpu_secs - there.cpu_secs) * 1e6 / read as f64);
        }
    }

    fn each(&self, sum: f64) -> f64 {
        sum / self.count as f64
    }
}

fn grown(before: Usage, after: Usage) -> f64 {
    after.rss_bytes as f64 - before.rss_bytes as f64
}
