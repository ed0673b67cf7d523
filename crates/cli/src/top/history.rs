//! What a row of looks at a site says: the last one, and how much happened between each and the one before.
use host::status::Status;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Rates kept: what a wide terminal can show.
const KEPT: usize = 300;

/// Per second, between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// PUBLISH packets from clients.
    pub(crate) messages_in: f64,
    /// PUBLISH packets to clients.
    pub(crate) messages_out: f64,
    /// Bytes from clients.
    pub(crate) bytes_in: f64,
    /// Bytes to clients.
    pub(crate) bytes_out: f64,
    /// Connections opened.
    pub(crate) opened: f64,
    /// Messages dropped, all reasons.
    pub(crate) dropped: f64,
    /// Messages from other sites.
    pub(crate) mesh_in: f64,
    /// Messages to other sites.
    pub(crate) mesh_out: f64,
}

/// The looks so far.
#[derive(Debug)]
pub(crate) struct History {
    last: Status,
    rates: VecDeque<Rates>,
}

impl History {
    pub(crate) fn new(first: Status) -> Self {
        Self { last: first, rates: VecDeque::new() }
    }

    /// A look, `elapsed` after the one before.
    pub(crate) fn add(&mut self, now: Status, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let per_second = |count: fn(&Status) -> u64| {
            // A site that was started anew counts from zero.
            count(&now).saturating_sub(count(&self.last)) as f64 / seconds
        };
        let rates = Rates {
            messages_in: per_second(|status| status.broker.publishes_received),
            messages_out: per_second(|status| status.broker.publishes_sent),
            bytes_in: per_second(|status| status.broker.bytes_received),
            bytes_out: per_second(|status| status.broker.bytes_sent),
            opened: per_second(|status| status.broker.opened),
            dropped: per_second(|status| status.broker.dropped),
            mesh_in: per_second(|status| of_mesh(status, "mesh_messages_in")),
            mesh_out: per_second(|status| of_mesh(status, "mesh_messages_out")),
        };
        self.rates.push_back(rates);
        if self.rates.len() > KEPT {
            self.rates.pop_front();
        }
        self.last = now;
    }

    pub(crate) fn last(&self) -> &Status {
        &self.last
    }

    /// The newest; zero before the second look.
    pub(crate) fn rates(&self) -> Rates {
        self.rates.back().copied().unwrap_or_default()
    }

    /// One rate over time, the newest last, of at most `width` looks.
    pub(crate) fn row(&self, width: usize, of: fn(&Rates) -> f64) -> Vec<u64> {
        let from = self.rates.len().saturating_sub(width);
        self.rates.iter().skip(from).map(|rates| of(rates) as u64).collect()
    }

    /// The newest look as a line.
    pub(crate) fn line(&self) -> String {
        let (rates, broker) = (self.rates(), &self.last.broker);
        format!(
            "{} clients, {}/s in, {}/s out, {} in, {} out, {} queued, {} dropped/s",
            broker.clients,
            count(rates.messages_in),
            count(rates.messages_out),
            bytes(rates.bytes_in) + "/s",
            bytes(rates.bytes_out) + "/s",
            broker.queued,
            count(rates.dropped)
        )
    }
}

fn of_mesh(status: &Status, name: &str) -> u64 {
    status.mesh.as_ref().and_then(|mesh| mesh.counters.get(name)).copied().unwrap_or(0)
}

/// `950`, `12.3k`, `4.56M`.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1000.0, ["", "k", "M", "G"])
}

/// `950 B`, `12.3 kB`.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, 1000.0, [" B", " kB", " MB", " GB"])
}

fn scaled(mut value: f64, step: f64, units: [&str; 4]) -> String {
    let mut units = units.into_iter();
    let mut unit = units.next().unwrap_or_default();
    let mut is_whole = true;
    // What would be rounded up to the next unit is told in that.
    while value >= step * 0.9995
        && let Some(next) = units.next()
    {
        (value, unit, is_whole) = (value / step, next, false);
    }
    match value {
        _ if is_whole => format!("{value:.0}{unit}"),
        value if value < 9.995 => format!("{value:.2}{unit}"),
        value if value < 99.95 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(publishes: u64, mesh: u64) -> Status {
        let mut status = Status::default();
        status.broker.publishes_received = publishes;
        status.mesh = Some(host::status::MeshStatus {
            counters: [("mesh_messages_in".to_owned(), mesh)].into(),
            ..host::status::MeshStatus::default()
        });
        status
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut history = History::new(status(100, 0));
        assert_eq!(history.rates(), Rates::default());
        history.add(status(300, 5), Duration::from_millis(500));
        assert_eq!((history.rates().messages_in, history.rates().mesh_in), (400.0, 10.0));
        history.add(status(7, 0), Duration::from_secs(1));
        assert_eq!(history.rates().messages_in, 0.0, "it was started anew");
        for _ in 0..2 * KEPT {
            history.add(status(8, 0), Duration::from_secs(1));
        }
        assert_eq!(history.row(usize::MAX, |rates| rates.messages_in).len(), KEPT);
        assert_eq!(history.row(3, |rates| rates.messages_in), [0, 0, 0]);
    }

    #[test]
    fn numbers_are_short() {
        let rows = [
            (0.0, "0"),
            (950.0, "950"),
            (999.9, "1.00k"),
            (1_234.0, "1.23k"),
            (12_345.0, "12.3k"),
            (999_999.0, "1.00M"),
            (5e12, "5000G"),
        ];
        for (value, expected) in rows {
            assert_eq!(count(value), expected, "{value}");
        }
        assert_eq!(bytes(12_300.0), "12.3 kB");
    }
}
