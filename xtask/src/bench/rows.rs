//! The rows of the comparison: what each does, and what is asked of it.

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// This share of mosquitto's in the same run.
    Share(f64),
    /// As it stands.
    AtMost(f64),
}

/// What is asked of one figure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    /// Its name in the report of `midge bench`.
    pub(super) figure: &'static str,
    /// What it is called in the paper.
    pub(super) words: &'static str,
    pub(super) limit: Limit,
}

/// How a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `midge bench` with these arguments.
    Bench(&'static str),
    /// From the start of the program to its first CONNACK.
    Startup,
    /// `midge bench` fills a queue, the broker is killed and started again, `midge bench` drains it.
    KilledQueue,
}

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// For the command line.
    pub(super) key: &'static str,
    pub(super) words: &'static str,
    pub(super) way: Way,
    pub(super) goals: &'static [Goal],
}

/// CPU time for each delivery.
pub(super) const CPU: &str = "broker_cpu_us_per_delivery";

macro_rules! cpu {
    ($share:expr) => {
        &[Goal { figure: CPU, words: "CPU, µs", limit: Limit::Share($share) }]
    };
}

/// An open flow of few messages.
const LATENCY: &[Goal] = &[
    Goal { figure: "latency_p50_us", words: "p50, µs", limit: Limit::Share(1.0) },
    Goal { figure: "latency_p99_us", words: "p99, µs", limit: Limit::Share(1.0) },
];

const fn row(key: &'static str, words: &'static str, args: &'static str, goals: &'static [Goal]) -> Row {
    Row { key, words, way: Way::Bench(args), goals }
}

// A flat table.
pub(super) const ROWS: &[Row] = &[
    row("fan-in-q0", "100 publishers → 1 subscriber, QoS 0", "-s fan-in", cpu!(1.0 / 20.0)),
    row("fan-in-q1", "the same, QoS 1", "-s fan-in -q 1 -w 10", cpu!(1.0 / 16.0)),
    row("fan-out-100", "1 → 100 subscribers, QoS 0", "-s fan-out", cpu!(1.0 / 26.0)),
    row("fan-out-1000", "1 → 1000", "-s fan-out --subscribers 1000 -w 8", cpu!(1.0 / 9.5)),
    row("fan-out-1k", "1 → 100, 1 KiB", "-s fan-out --size 1024", cpu!(1.0 / 22.0)),
    row("pairs-q0", "100 pairs pipelined, QoS 0", "-s pairs -w 16", cpu!(1.0 / 9.0)),
    row("pairs-q1", "the same, QoS 1", "-s pairs -w 16 -q 1", cpu!(1.0 / 11.0)),
    row("pairs-q2", "the same, QoS 2", "-s pairs -w 16 -q 2", cpu!(1.0 / 14.0)),
    row("single-q0", "100 pairs, one message in flight, QoS 0", "-s pairs -w 1", cpu!(0.75)),
    row("single-q1", "the same, QoS 1", "-s pairs -w 1 -q 1", cpu!(0.65)),
    row("wildcards", "10,000 filters with wildcards, 100,000 topics", "-s wildcards", cpu!(1.0 / 11.0)),
    row("latency-1k-q0", "1,000 msg/s, QoS 0", "-s pairs --publishers 10 --rate 1000", LATENCY),
    row("latency-10k-q0", "10,000 msg/s, QoS 0", "-s pairs --publishers 10 --rate 10000", LATENCY),
    row("latency-1k-q1", "1,000 msg/s, QoS 1", "-s pairs --publishers 10 --rate 1000 -q 1", LATENCY),
    row("latency-10k-q1", "10,000 msg/s, QoS 1", "-s pairs --publishers 10 --rate 10000 -q 1", LATENCY),
    row(
        "idle",
        "10,000 idle clients",
        "-s idle",
        &[Goal { figure: "broker_rss_bytes_each", words: "RSS each, bytes", limit: Limit::AtMost(1024.0) }],
    ),
    row(
        "retained",
        "100,000 retained messages, then `#`",
        "-s retained",
        &[
            Goal { figure: "broker_rss_bytes_each", words: "RSS each, bytes", limit: Limit::AtMost(420.0) },
            Goal { figure: "broker_cpu_us_per_read", words: "CPU to read one, µs", limit: Limit::AtMost(1.0) },
            Goal { figure: "lost", words: "lost", limit: Limit::AtMost(0.0) },
        ],
    ),
    Row {
        key: "queued",
        words: "100,000 QoS 1 messages for an absent client, kill -9, restart, drain",
        way: Way::KilledQueue,
        goals: &[
            Goal { figure: "lost", words: "lost", limit: Limit::AtMost(0.0) },
            Goal { figure: "doubled", words: "doubled", limit: Limit::AtMost(0.0) },
            Goal { figure: "broker_rss_bytes_each", words: "RSS each, bytes", limit: Limit::AtMost(320.0) },
            Goal { figure: "broker_cpu_us_per_read", words: "CPU to drain one, µs", limit: Limit::AtMost(1.5) },
        ],
    },
    Row {
        key: "startup",
        words: "empty broker, no mesh",
        way: Way::Startup,
        goals: &[
            Goal { figure: "first_connack_ms", words: "first CONNACK, ms", limit: Limit::Share(1.0) },
            Goal { figure: "anonymous_kib", words: "anonymous RSS, KiB", limit: Limit::AtMost(3072.0) },
        ],
    },
];
