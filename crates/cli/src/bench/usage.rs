//! What a process has used so far, by the system's own accounting.
use crate::failure::Failure;
use std::io;

/// Of a whole process, since it began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// In user mode and in the kernel.
    pub(super) cpu_secs: f64,
    /// Resident memory.
    pub(super) rss_bytes: u64,
    /// Of it, what no file backs.
    pub(super) anonymous_bytes: u64,
}

/// Linux shows all programs hundredths of a second, whatever its own clock does.
const TICKS_PER_SEC: f64 = 100.0;

/// Of the broker, if its process is known and still there.
pub(super) fn of_broker(pid: Option<u32>) -> Result<Option<Usage>, Failure> {
    let of = |pid| of(pid).map_err(|error| Failure::new(format!("--pid {pid}: {error}: is it the broker's process?")));
    pid.map(of).transpose()
}

/// Of a process of this machine.
pub(super) fn of(pid: u32) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |name| kilobytes(&status, name).unwrap_or(0);
    let cpu_secs = cpu_secs(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Usage { cpu_secs, rss_bytes: kilobytes("VmRSS:") << 10, anonymous_bytes: kilobytes("RssAnon:") << 10 })
}

/// The fields `utime` and `stime`; the program's name before them may hold anything.
fn cpu_secs(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SEC)
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) b) 3 (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1 0 9 1 2";
        assert_eq!(cpu_secs(stat), Some(1.75));
        assert_eq!(cpu_secs("42 (x) S 1"), None);
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t     200 kB\n";
        assert_eq!((kilobytes(status, "VmRSS:"), kilobytes(status, "RssAnon:")), (Some(1234), Some(200)));
        assert_eq!(kilobytes("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_memory_and_none_has_the_number_zero() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_bytes >= usage.anonymous_bytes && usage.anonymous_bytes > 0, "{usage:?}");
        assert!(of_broker(Some(0)).is_err() && of_broker(None).unwrap().is_none());
    }
}
