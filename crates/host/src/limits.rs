//! From the operator's words to what each core wants to be told.
use crate::access::Realms;
use crate::config::{Config, ConsoleBind, Limits, QueueFull};
use mqtt::FilterBuf;
use std::num::NonZeroU16;
use std::time::Duration;

/// Longer than this counts as for ever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The broker's limits.
pub(crate) fn broker(config: &Config) -> node::BrokerConfig {
    let limits = &config.limits;
    let inflight_max = NonZeroU16::new(limits.inflight_max).unwrap_or(NonZeroU16::MIN);
    node::BrokerConfig {
        packet_max: limits.packet_max,
        connect_bytes_max: limits.connect_packet_max,
        // Without a word from the operator CONNACK says no more than mosquitto's.
        announce_packet_max: limits.packet_max != Limits::default().packet_max,
        keep_alive_max: u16::try_from(limits.keep_alive_max.as_secs()).ok().and_then(NonZeroU16::new),
        session_expiry_max: Some(limits.session_expiry_max).filter(|max| *max < FOREVER),
        in_flight_max: inflight_max,
        in_flight_bytes_max: limits.inflight_bytes_max,
        receive_max: inflight_max,
        max_qos: config.max_qos,
        retain_available: config.retain_available,
        payload_max: limits.payload_max,
        check_retain_source: config.check_retain_source,
        overlap: config.overlapping,
        upgrade_qos: config.upgrade_qos,
        queue_qos0: config.queue_qos0,
        topic_alias_max: limits.topic_alias_max,
        topic_alias_sent_max: limits.topic_alias_sent_max,
        queue_messages_max: limits.queue_messages_max,
        queue_bytes_max: Some(limits.queue_bytes_max),
        outgoing_bytes_max: limits.outgoing_bytes_max,
        when_full: match config.queue_full {
            QueueFull::Refuse => node::WhenFull::Refuse,
            QueueFull::Drop => node::WhenFull::Drop,
        },
        sessions_max: limits.sessions_max,
        retained_count_max: limits.retained_max,
        retained_bytes_max: limits.retained_bytes_max,
        subscriptions_max: limits.subscriptions_per_client_max,
        topic_levels_max: limits.topic_levels_max,
        ..node::BrokerConfig::default()
    }
}

/// The broker's limits, under which all come in or are asked who they are.
pub(crate) fn admitting(config: &Config, realms: &Realms) -> node::BrokerConfig {
    let admission = if realms.are_open() { node::Admission::All } else { node::Admission::Verified };
    node::BrokerConfig { admission, ..broker(config) }
}

/// The mesh's limits and rights.
pub(crate) fn mesh(config: &Config) -> node::MeshConfig {
    let limits = &config.limits;
    node::MeshConfig {
        outbox_messages_max: limits.outbox_messages_max,
        outbox_bytes_max: limits.outbox_bytes_max,
        message_bytes_max: limits.packet_max as usize,
        retained_topics_max: limits.retained_max,
        tombstone_life: limits.tombstone_life,
        clock_skew_max: limits.clock_skew_max,
        rights: node::Rights { export: narrowed(&config.mesh.export), import: narrowed(&config.mesh.import) },
        ..node::MeshConfig::default()
    }
}

/// `#` is no restriction, and costs nothing if it is none.
fn narrowed(filters: &[FilterBuf]) -> Option<Vec<FilterBuf>> {
    (!filters.iter().any(|filter| filter.as_str() == "#")).then(|| filters.to_vec())
}

/// The rules' limits and choices.
pub(crate) fn script(config: &Config) -> node::script::Config {
    let limits = &config.limits;
    let own = node::rules::Limits {
        script_bytes: limits.script_bytes_max,
        steps_per_clause: limits.script_clause_steps_max,
        steps_per_turn: limits.script_turn_steps_max,
        memory_bytes: limits.script_memory_max,
        string_bytes: limits.script_string_max,
        events: limits.script_events_max,
        http_in_flight: limits.script_http_max,
        http_body_bytes: limits.script_http_body_max,
        http_timeout: limits.script_http_timeout,
        ..node::rules::Limits::default()
    };
    node::script::Config { limits: own, oddities: config.script.oddities }
}

/// What the console takes from the configuration.
pub(crate) fn console(config: &Config, site: &[u8; 32]) -> node::console::Config {
    let port = match config.console.bind {
        // Any port: the setting can't say which.
        ConsoleBind::At(address) => Some(address.port()).filter(|port| *port != 0),
        ConsoleBind::Off => Some(0),
        ConsoleBind::Loopback => None,
    };
    let port = port.map(|port| ("config_port".to_owned(), port.to_string()));
    let access = config.console.access.map(|access| ("config_access".to_owned(), access.to_string()));
    let presets = crate::script::presets(config);
    let own = &config.limits;
    let script = script(config);
    node::console::Config {
        client_id: format!("midge_{}", crate::identity::to_hex(&site[..3])),
        presets: presets.into_iter().chain(port).chain(access).collect(),
        limits: node::console::Limits {
            sessions: own.console_sessions_max,
            line_bytes: own.console_line_max,
            idle: own.console_idle_timeout,
            // What is typed while a wrong password is thought over: a line, and what came with it.
            waiting_bytes: own.console_line_max * 2,
            ..node::console::Limits::default()
        },
        script: script.limits,
        oddities: script.oddities,
    }
}

/// The link layer's limits.
pub(crate) fn link(config: &Config, key_seed: [u8; 32]) -> link::Config {
    let mut own = link::Config::new(key_seed);
    own.limits.peers_max = config.limits.peers_max;
    // Room for one message of the largest size and the frame around it.
    own.limits.frame_max = config.limits.packet_max as usize + (64 << 10);
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::QoS;

    #[test]
    fn what_the_operator_says_reaches_the_broker() {
        let plain = broker(&Config::default());
        assert_eq!(plain.keep_alive_max.map(NonZeroU16::get), Some(65_535));
        assert_eq!(plain.when_full, node::WhenFull::Refuse);
        assert_eq!((plain.receive_max.get(), plain.topic_alias_max, plain.announce_packet_max), (20, 10, false));
        let mut config = Config { queue_full: QueueFull::Drop, max_qos: QoS::AtLeastOnce, ..Config::default() };
        config.retain_available = false;
        (config.limits.inflight_max, config.limits.packet_max) = (7, 1 << 20);
        (config.limits.topic_alias_max, config.limits.topic_alias_sent_max) = (1, 2);
        let told = broker(&config);
        assert_eq!((told.when_full, told.max_qos), (node::WhenFull::Drop, QoS::AtLeastOnce));
        assert_eq!((told.in_flight_max.get(), told.receive_max.get()), (7, 7));
        assert_eq!((told.packet_max, told.announce_packet_max), (1 << 20, true));
        assert_eq!((told.topic_alias_max, told.topic_alias_sent_max, told.retain_available), (1, 2, false));
    }
}
