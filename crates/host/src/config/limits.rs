//! Every limit: its name, default, range and meaning, in one table from which the type, the reader of the
//! configuration and the documentation are made.
use super::units;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY: u64 = 86_400;
/// In the table, seconds: no deadline at all.
const NEVER: u64 = u64::MAX;

/// What a limit counts, and so how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Time,
}

impl Unit {
    /// The form in which the operator would write it.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Count => amount.to_string(),
            Self::Bytes => units::show_bytes(amount),
            Self::Time => units::show_duration(Duration::from_amount(amount)),
        }
    }

    /// The amount in a text with a unit.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        match self {
            Self::Count => None,
            Self::Bytes => units::parse_bytes(text),
            Self::Time => units::parse_duration(text).map(Amount::to_amount),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The word in `[limits]`, and the field of [`Limits`].
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What holds if nothing is said.
    pub default: u64,
    /// The smallest that makes sense.
    pub least: u64,
    /// The largest that can be kept.
    pub most: u64,
    /// What it is for.
    pub doc: &'static str,
    set: fn(&mut Limits, u64),
    get: fn(&Limits) -> u64,
}

impl Limit {
    /// The row with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LIMITS.iter().find(|limit| limit.name == name)
    }

    /// What holds.
    pub(crate) fn of(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }

    /// Makes what holds in one hold in the other.
    pub(crate) fn copy(&self, from: &Limits, to: &mut Limits) {
        (self.set)(to, (self.get)(from));
    }

    /// Sets it, or says what would be allowed.
    pub(super) fn set(&self, limits: &mut Limits, amount: u64) -> Result<(), String> {
        if !(self.least..=self.most).contains(&amount) {
            let (least, most) = (self.unit.show(self.least), self.unit.show(self.most));
            return Err(format!("write a value from {least} to {most}"));
        }
        (self.set)(limits, amount);
        Ok(())
    }
}

/// What a field of [`Limits`] must be able to do to be a row of the table.
trait Amount {
    fn from_amount(amount: u64) -> Self;
    fn to_amount(self) -> u64;
}

macro_rules! amount {
    ($($type:ty)*) => { $(impl Amount for $type {
        fn from_amount(amount: u64) -> Self { Self::try_from(amount).unwrap_or(Self::MAX) }
        fn to_amount(self) -> u64 { self as u64 }
    })* };
}
amount!(u16 u32 usize);

impl Amount for Duration {
    fn from_amount(amount: u64) -> Self {
        if amount == NEVER { units::FOREVER } else { Self::from_secs(amount) }
    }
    fn to_amount(self) -> u64 {
        if self == units::FOREVER { NEVER } else { self.as_secs() }
    }
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty, $unit:ident, $default:expr, $least:expr, $most:expr;)*) => {
        /// What anybody may use up at most.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        /// All limits, in the order of the documentation.
        pub const LIMITS: &[Limit] = &[$(Limit {
            name: stringify!($name),
            unit: Unit::$unit,
            default: $default,
            least: $least,
            most: $most,
            doc: concat!($($doc),*),
            set: |limits, amount| limits.$name = <$type>::from_amount(amount),
            get: |limits| limits.$name.to_amount(),
        }),*];

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: <$type>::from_amount($default),)* }
            }
        }
    };
}

limits! {
    /// Largest MQTT packet taken or sent, checked before its payload is buffered.
    packet_max: u32, Bytes, 16 * MIB, KIB, 268_435_460;
    /// Largest payload that a client may publish. A larger one is dropped, MQTT 5 is told (0x97), others get the usual
    /// answer, and the connection stays.
    payload_max: u32, Bytes, 268_435_460, 1, 268_435_460;
    /// Largest CONNECT, will included: who is not let in yet may not fill the memory.
    connect_packet_max: u32, Bytes, 100_000, KIB, 268_435_460;
    /// Clients connected at once.
    connections_max: usize, Count, 100_000, 1, 10_000_000;
    /// Clients connected at once from one IPv4 address, or from one /64 network of IPv6.
    connections_per_address_max: usize, Count, 10_000, 1, 10_000_000;
    /// New connections per second from one IP address, of which ten seconds' worth may come at once.
    connection_rate_per_address_max: u32, Count, 10_000, 1, 1_000_000;
    /// Time in which a connection must be through with its PROXY header, TLS and WebSocket request.
    handshake_max: Duration, Time, 10, 1, 300;
    /// Longest keep-alive that an MQTT 5 client gets; one that asks for more, or for none, is told this one.
    keep_alive_max: Duration, Time, 65_535, 10, 65_535;
    /// Messages of QoS 1 and 2 on their way to one client, or from it, and not yet acknowledged; MQTT 5 is told so.
    inflight_max: u16, Count, 20, 1, 65_535;
    /// Bytes of the payloads of such messages on their way to one client: another one is sent while there are fewer.
    inflight_bytes_max: usize, Bytes, 1024 * GIB, 1, 1024 * GIB;
    /// Topic aliases that an MQTT 5 client may set for what it publishes.
    topic_alias_max: u16, Count, 10, 0, 65_535;
    /// Topic aliases that midge sets for one MQTT 5 client, if it takes as many.
    topic_alias_sent_max: u16, Count, 10, 0, 65_535;
    /// Messages of QoS 1 and 2, and of QoS 0 with `queue_qos0`, that wait for one session.
    queue_messages_max: usize, Count, 200_000, 1, 100_000_000;
    /// Bytes of these messages.
    queue_bytes_max: usize, Bytes, 64 * MIB, 64 * KIB, 1024 * GIB;
    /// Bytes written for one connection and not yet taken by it; beyond that its QoS 0 messages are dropped.
    outgoing_bytes_max: usize, Bytes, 4 * MIB, 64 * KIB, GIB;
    /// Filters that one client may subscribe to.
    subscriptions_per_client_max: usize, Count, 10_000, 1, 10_000_000;
    /// Levels of a topic or filter.
    topic_levels_max: usize, Count, 200, 8, 1_000;
    /// Longest time for which the session of an absent client is kept.
    session_expiry_max: Duration, Time, NEVER, 0, NEVER;
    /// Sessions kept, connected or not.
    sessions_max: usize, Count, 200_000, 1, 10_000_000;
    /// Retained messages kept.
    retained_max: usize, Count, 1_000_000, 0, 100_000_000;
    /// Bytes of these messages.
    retained_bytes_max: usize, Bytes, 512 * MIB, 64 * KIB, 1024 * GIB;
    /// Messages that wait for one peer site.
    outbox_messages_max: usize, Count, 1_000_000, 1, 100_000_000;
    /// Bytes of these messages.
    outbox_bytes_max: usize, Bytes, 512 * MIB, 64 * KIB, 1024 * GIB;
    /// Sites of the mesh that are met.
    peers_max: usize, Count, 64, 1, 1_000;
    /// How far ahead another site's clock may be before its retained values are refused.
    clock_skew_max: Duration, Time, 300, 1, DAY;
    /// Bytes of a script.
    script_bytes_max: usize, Bytes, 64 * KIB, KIB, 16 * MIB;
    /// Steps of one clause of a script for one event.
    script_clause_steps_max: u32, Count, 50_000, 100, 100_000_000;
    /// Steps of a script after which the broker goes first.
    script_turn_steps_max: u32, Count, 100_000, 1_000, 100_000_000;
    /// Memory of a script: variables, waiting events, texts being made.
    script_memory_max: usize, Bytes, MIB, 16 * KIB, GIB;
    /// Longest text of a script; a longer message is no event.
    script_string_max: usize, Bytes, 64 * KIB, 128, 16 * MIB;
    /// Events that wait for a script.
    script_events_max: usize, Count, 1_024, 1, 1_000_000;
    /// HTTP requests of a script without an answer.
    script_http_max: usize, Count, 8, 0, 32;
    /// Longest answer to one.
    script_http_body_max: usize, Bytes, 64 * KIB, KIB, 16 * MIB;
    /// How long an answer may take.
    script_http_timeout: Duration, Time, 30, 1, 3_600;
    /// Consoles open at once.
    console_sessions_max: usize, Count, 16, 1, 64;
    /// Longest line of a console.
    console_line_max: usize, Bytes, 64 * KIB, 256, MIB;
    /// A console on the network of which nothing is heard for so long is closed.
    console_idle_timeout: Duration, Time, 300, 1, DAY;
    /// How long a deleted retained value is remembered, so that a site coming back does not revive it.
    tombstone_life: Duration, Time, 7 * DAY, 3_600, 3_650 * DAY;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_keeps_its_default_and_both_ends_of_its_range() {
        for row in LIMITS {
            assert!(row.least <= row.default && row.default <= row.most, "{}", row.name);
            let mut limits = Limits::default();
            assert_eq!((row.get)(&limits), row.default, "{}", row.name);
            for amount in [row.least, row.most] {
                row.set(&mut limits, amount).unwrap();
                assert_eq!((row.get)(&limits), amount, "{}", row.name);
            }
        }
    }

    #[test]
    fn beyond_the_range_is_refused_with_the_range() {
        for row in LIMITS {
            let mut limits = Limits::default();
            for amount in [row.least.checked_sub(1), row.most.checked_add(1)].into_iter().flatten() {
                let message = row.set(&mut limits, amount).unwrap_err();
                assert!(message.contains(&row.unit.show(row.most)), "{}: {message}", row.name);
                assert_eq!(limits, Limits::default());
            }
        }
    }
}
