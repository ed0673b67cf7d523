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
        // Nanoseconds per thread: the process's own counters tick in hundredths of a second only.
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let nanoseconds = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split_ascii_whitespace().next()?.parse::<f64>().ok());
        let cpu = nanoseconds.sum::<f64>() / 1e9;
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        Self { cpu, written: number(&io, "wchar:"), block: number(&io, "write_bytes:") }
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
