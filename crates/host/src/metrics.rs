//! The site's figures for Prometheus, in the OpenMetrics text format.
use crate::status::{BrokerStatus, MeshStatus, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// All figures of a status document.
pub(crate) fn of(status: &Status) -> String {
    let mut registry = Registry::with_prefix("midge");
    registry.register("build", "The program", Info::new(vec![("version", status.version.clone())]));
    gauge(&mut registry, "uptime_seconds", "Since the start", status.uptime_secs);
    broker(&mut registry, &status.broker);
    if let Some(mesh) = &status.mesh {
        peers(&mut registry, mesh);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to a text does not fail.
        Err(error) => format!("# {error}\n"),
    }
}

fn broker(registry: &mut Registry, broker: &BrokerStatus) {
    gauge(registry, "clients_connected", "Clients connected", broker.clients);
    gauge(registry, "sessions", "Sessions, connected or not", broker.sessions);
    gauge(registry, "subscriptions", "Subscriptions", broker.subscriptions);
    gauge(registry, "retained_messages", "Retained messages", broker.retained);
    gauge(registry, "retained_bytes", "Their bytes", broker.retained_bytes);
    gauge(registry, "queued_messages", "QoS 1 and 2 messages queued or in flight", broker.queued);
    gauge(registry, "queued_bytes", "Bytes of those of them that are kept", broker.queued_bytes);
    counter(registry, "connections_opened", "Connections opened", broker.opened);
    counter(registry, "connections_turned_away", "Connections turned away by a limit", broker.turned_away);
    counter(registry, "publishes_received", "PUBLISH packets received", broker.publishes_received);
    counter(registry, "publishes_sent", "PUBLISH packets sent", broker.publishes_sent);
    counter(registry, "packets_received", "Packets received", broker.packets_received);
    counter(registry, "packets_sent", "Packets sent", broker.packets_sent);
    counter(registry, "publishes_refused", "Publishes refused because a queue was full", broker.refused);
    registry.register_with_unit("received", "From clients", Unit::Bytes, fixed(broker.bytes_received));
    registry.register_with_unit("sent", "To clients", Unit::Bytes, fixed(broker.bytes_sent));
    let dropped = Family::<Labels, Counter>::default();
    for (reason, count) in &broker.dropped_by {
        dropped.get_or_create(&vec![("reason", reason.clone())]).inc_by(*count);
    }
    registry.register("messages_dropped", "Messages dropped, by reason", dropped);
}

fn peers(registry: &mut Registry, mesh: &MeshStatus) {
    let [up, owed, owed_bytes, rtt] = [(); 4].map(|()| Family::<Labels, Gauge>::default());
    let [acknowledged, accepted, sent, received] = [(); 4].map(|()| Family::<Labels, Counter>::default());
    for peer in &mesh.peers {
        let labels = vec![("peer", peer.name.clone()), ("site", peer.site.get(..16).unwrap_or(&peer.site).to_owned())];
        up.get_or_create(&labels).set(i64::from(peer.up));
        owed.get_or_create(&labels).set(clamped(peer.outbox_messages as u64));
        owed_bytes.get_or_create(&labels).set(clamped(peer.outbox_bytes as u64));
        if let Some(micros) = peer.rtt_micros {
            rtt.get_or_create(&labels).set(clamped(micros));
        }
        acknowledged.get_or_create(&labels).inc_by(peer.acknowledged);
        accepted.get_or_create(&labels).inc_by(peer.accepted);
        sent.get_or_create(&labels).inc_by(peer.link_bytes.0);
        received.get_or_create(&labels).inc_by(peer.link_bytes.1);
    }
    registry.register("peer_up", "Whether the link to a site is up", up);
    registry.register("peer_outbox_messages", "QoS 1 and 2 messages that a site is owed", owed);
    registry.register("peer_outbox_bytes", "Their bytes", owed_bytes);
    registry.register("peer_round_trip_microseconds", "Round trip of the path to a site", rtt);
    registry.register("peer_messages_acknowledged", "Messages that a site has acknowledged", acknowledged);
    registry.register("peer_messages_accepted", "Messages accepted from a site", accepted);
    registry.register("peer_link_sent_bytes", "Datagram bytes sent to a site", sent);
    registry.register("peer_link_received_bytes", "Datagram bytes received from a site", received);
    let counted = Family::<Labels, Counter>::default();
    for (name, count) in &mesh.counters {
        counted.get_or_create(&vec![("what", name.clone())]).inc_by(*count);
    }
    registry.register("mesh_counted", "What mesh, search and links have counted", counted);
    let reachable = Family::<Labels, Gauge>::default();
    for mailbox in &mesh.mailboxes {
        reachable.get_or_create(&vec![("mailbox", mailbox.url.clone())]).set(i64::from(mailbox.reachable));
    }
    registry.register("mailbox_reachable", "Whether a mailbox is reachable", reachable);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(clamped(value));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, fixed(value));
}

fn fixed(value: u64) -> Counter {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_names_types_and_labels() {
        let mut status = Status { uptime_secs: 7, ..Status::default() };
        status.broker.publishes_received = 5;
        status.broker.dropped_by.insert("queue full".into(), 2);
        let mailbox = crate::status::MailboxStatus { url: "mqtt://\"x\"".into(), reachable: true, trouble: None };
        let mesh = MeshStatus { mailboxes: vec![mailbox], ..MeshStatus::default() };
        let text = of(&Status { mesh: Some(mesh), ..status });
        for line in [
            "midge_uptime_seconds 7\n",
            "# TYPE midge_publishes_received counter\n",
            "midge_publishes_received_total 5\n",
            "midge_messages_dropped_total{reason=\"queue full\"} 2\n",
            "midge_mailbox_reachable{mailbox=\"mqtt://\\\"x\\\"\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
