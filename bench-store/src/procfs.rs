//! What the system says that this process used.
use std::fs;

#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Seconds, user and system, all threads.
    pub cpu: f64,
    /// Bytes given to `write` and its kin.
    pub written: u64,
    /// Bytes that went or will go to the block device.
    pub block: u64,
}

impl Usage {
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |index: usize| after.split_ascii_whitespace().nth(index).and_then(|n| n.parse::<f64>().ok());
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        Self {
            cpu: (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0,
            written: number(&io, "wchar:"),
            block: number(&io, "write_bytes:"),
        }
    }
}

/// Anonymous memory of this process in KiB.
pub fn anonymous_kib() -> u64 {
    number(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "RssAnon:")
}

/// Resident memory of this process in KiB, mapped files included.
pub fn resident_kib() -> u64 {
    number(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:")
}

fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
