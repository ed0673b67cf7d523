//! Amounts as people write them: `10 MiB`, `30s`, `7 days`.
use std::time::Duration;

/// Stands for `never`: no deadline at all.
pub(super) const FOREVER: Duration = Duration::MAX;

const KIB: u64 = 1024;

/// Bytes: a number and `B`, `kB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (powers of 1024).
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => KIB,
        "mib" => KIB * KIB,
        "gib" => KIB * KIB * KIB,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A span of time: a number and `s`, `min`, `h`, `d` or `w`, or `never`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text.trim() == "never" {
        return Some(FOREVER);
    }
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// The form that [`parse_bytes`] reads back.
pub(super) fn show_bytes(bytes: u64) -> String {
    for (unit, factor) in [("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB), ("KiB", KIB)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// The form that [`parse_duration`] reads back.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration == FOREVER {
        return "never".to_owned();
    }
    let seconds = duration.as_secs();
    for (unit, factor) in [("d", 86_400), ("h", 3_600), ("min", 60)] {
        if seconds >= factor && seconds.is_multiple_of(factor) {
            return format!("{}{}{unit}", seconds / factor, if unit == "min" { " " } else { "" });
        }
    }
    format!("{seconds}s")
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_written() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10 MiB", Some(10 * 1024 * 1024)),
            ("10MiB", Some(10 * 1024 * 1024)),
            ("64 kB", Some(64_000)),
            ("1GiB", Some(1 << 30)),
            ("7 B", Some(7)),
            ("99999999999 GiB", None),
            ("1.5 MiB", None),
            ("-1", None),
            ("10 MiBB", None),
            ("MiB", None),
            ("", None),
            ("٣ MiB", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn spans_of_time_are_read_as_written() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("5 min", Some(300)),
            ("2h", Some(7_200)),
            ("7 days", Some(604_800)),
            ("1w", Some(604_800)),
            ("30", None),
            ("1e3s", None),
            ("9999999999999999999 w", None),
        ] {
            assert_eq!(parse_duration(text).map(|d| d.as_secs()), expected, "{text}");
        }
        assert_eq!(parse_duration("never"), Some(FOREVER));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1025, 10 << 20, (10 << 20) + 1, 3 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes));
        }
        for seconds in [0, 1, 59, 60, 61, 3_600, 86_400, 604_800, 65_535] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        assert_eq!(parse_duration(&show_duration(FOREVER)), Some(FOREVER));
    }
}
