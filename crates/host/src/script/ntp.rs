//! The time of another clock: asked now and then, on a thread of its own. The machine's clock is never touched; the
//! difference goes to the script.
use crate::config::Ntp;
use rsntp::{Config, SntpClient};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After no answer; the interval, if that is shorter.
const RETRY: Duration = Duration::from_secs(30);
/// What no two clocks differ by: an answer that says so is damaged.
const DIFFERENCE_MAX_SECS: f64 = 200.0 * 366.0 * 86_400.0;

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Milliseconds to add to the machine's clock, or why there are none.
    pub outcome: Result<i64, String>,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub(crate) struct NtpClient {
    _stop: Sender<()>,
}

impl NtpClient {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(ntp: &Ntp, tell: impl Fn(Attempt) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let (server, interval) = (ntp.server.to_string(), ntp.interval);
        std::thread::Builder::new().name("midge-ntp".into()).spawn(move || {
            loop {
                let outcome = ask(&server);
                let pause = if outcome.is_ok() { interval } else { interval.min(RETRY) };
                tell(Attempt { outcome });
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

fn ask(server: &str) -> Result<i64, String> {
    let client = SntpClient::with_config(Config::default().timeout(PATIENCE));
    let answer = client.synchronize(server).map_err(|error| error.to_string())?;
    let seconds = answer.clock_offset().as_secs_f64();
    if seconds.abs() < DIFFERENCE_MAX_SECS {
        Ok((seconds * 1000.0).round() as i64)
    } else {
        Err("its answer makes no sense".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use std::net::UdpSocket;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// A server whose clock is ahead by `ahead_secs`; without: one that answers nonsense.
    fn server(ahead_secs: Option<u64>) -> Ntp {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut request = [0; 128];
            while let Ok((length, from)) = socket.recv_from(&mut request) {
                assert_eq!(length, 48);
                let mut answer = [0_u8; 48];
                if let Some(ahead) = ahead_secs {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                    let seconds = (now.as_secs() + ahead + 2_208_988_800) as u32;
                    let fraction = (u64::from(now.subsec_micros()) << 32) / 1_000_000;
                    let stamp = [seconds.to_be_bytes(), (fraction as u32).to_be_bytes()].concat();
                    // Version 4, server, stratum 2; the request's transmit time comes back as the originate time.
                    answer[..2].copy_from_slice(&[0x24, 2]);
                    answer[16..24].copy_from_slice(&stamp);
                    answer[24..32].copy_from_slice(&request[40..48]);
                    answer[32..40].copy_from_slice(&stamp);
                    answer[40..48].copy_from_slice(&stamp);
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        Ntp { server: Address { host: "127.0.0.1".into(), port }, interval: Duration::from_millis(50) }
    }

    #[test]
    fn the_difference_is_told_again_and_again() {
        let (sender, attempts) = channel();
        let client = NtpClient::start(&server(Some(3600)), move |attempt| drop(sender.send(attempt))).unwrap();
        for _ in 0..2 {
            let millis = attempts.recv_timeout(Duration::from_secs(10)).unwrap().outcome.unwrap();
            assert!((3_599_000..=3_601_000).contains(&millis), "{millis}");
        }
        drop(client);
        while attempts.recv_timeout(Duration::from_secs(10)).is_ok() {}
    }

    #[test]
    fn nonsense_is_no_time() {
        assert!(ask(&server(None).server.to_string()).is_err());
    }
}
