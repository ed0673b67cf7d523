//! Two endpoints in memory, no sockets: frames per second and processor time of the whole link machinery.
//!
//! `cargo bench -p midge-link`. The first number of each line is wall time on one core doing both ends.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use midge_link::{Config, Endpoint, Input, Lane, Output, PeerKey};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

struct End {
    link: Endpoint,
    address: SocketAddr,
    peer: PeerKey,
    is_up: bool,
    frames: u64,
    bytes: u64,
    transmits: u64,
    datagrams: u64,
}

type Wire = VecDeque<(usize, SocketAddr, usize, Vec<u8>)>;

struct Pair {
    ends: [End; 2],
    wire: Wire,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut ends = [1u8, 2].map(|n| {
            let link = Endpoint::new(Config::new([n; 32]), [n; 32], now).expect("a key");
            let address = SocketAddr::new([10, 0, 0, n].into(), 7000);
            End { peer: link.key(), link, address, is_up: false, frames: 0, bytes: 0, transmits: 0, datagrams: 0 }
        });
        let [a, b] = &mut ends;
        core::mem::swap(&mut a.peer, &mut b.peer);
        let mut pair = Self { ends, wire: Wire::new() };
        for end in &mut pair.ends {
            end.link.handle(now, Input::LocalAddresses(&[end.address]));
            end.link.handle(now, Input::Want { peer: end.peer });
        }
        while !pair.ends.iter().all(|end| end.is_up) {
            pair.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        pair
    }

    /// Delivers everything that is under way and performs everything that is to be done.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut cards = Vec::new();
        for (index, end) in self.ends.iter_mut().enumerate() {
            if end.link.poll_timeout().is_some_and(|due| due <= now) {
                end.link.handle(now, Input::Timeout);
            }
            while let Some(output) = end.link.poll_output() {
                match output {
                    Output::Transmit { local, segment_size, bytes, .. } => {
                        let stride = segment_size.unwrap_or(bytes.len());
                        end.transmits += 1;
                        end.datagrams += bytes.len().div_ceil(stride) as u64;
                        self.wire.push_back((1 - index, local, stride, bytes));
                    }
                    Output::LocalCard { card, .. } => cards.push((1 - index, card)),
                    Output::Up { .. } => end.is_up = true,
                    Output::Down { reason, .. } => println!("down: {reason}"),
                    Output::Frame { bytes, .. } => {
                        end.frames += 1;
                        end.bytes += bytes.len() as u64;
                    }
                    Output::PathChanged { .. } | Output::Door { .. } | Output::Event(_) => {}
                }
            }
        }
        for (to, card) in cards {
            let peer = self.ends[to].peer;
            self.ends[to].link.handle(now, Input::RemoteCard { peer, card });
        }
        while let Some((to, remote, stride, bytes)) = self.wire.pop_front() {
            let end = &mut self.ends[to];
            let input = Input::Datagram { local: end.address, remote, ecn: None, stride, bytes: &bytes };
            end.link.handle(now, input);
        }
    }

    fn run(&mut self, name: &str, lane: Lane, size: usize, batch: usize, count: u64) {
        let [a, b] = &self.ends;
        let before = (b.frames, b.bytes, a.transmits, a.datagrams);
        let (began, cpu) = (Instant::now(), cpu_time());
        let mut sent = 0;
        while self.ends[1].frames - before.0 < count {
            let backlog = self.ends[0].link.status().first().map_or(0, |status| status.backlog);
            if sent < count && backlog < 4 << 20 {
                let now = Instant::now();
                let peer = self.ends[0].peer;
                for _ in 0..batch.min((count - sent) as usize) {
                    self.ends[0].link.handle(now, Input::Send { peer, lane, frame: vec![7; size] });
                    sent += 1;
                }
            }
            self.turn();
        }
        let [a, b] = &self.ends;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
        let (frames, bytes) = ((b.frames - before.0) as f64, (b.bytes - before.1) as f64);
        println!(
            "{name:34} {:>10.0} frames/s {:>8.1} MB/s {:>8.2} CPU-s per million frames \
             {:>6.2} datagrams per frame, {:>5.1} per transmit",
            frames / wall,
            bytes / wall / 1e6,
            cpu / frames * 1e6,
            (a.datagrams - before.3) as f64 / frames,
            (a.datagrams - before.3) as f64 / (a.transmits - before.2) as f64,
        );
    }
}

/// Processor time of this process, from `/proc`; zero where there is none.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

fn main() {
    let mut pair = Pair::new();
    pair.run("warm-up", Lane::Main, 64, 64, 100_000);
    pair.run("main, 64 B, 1 a turn", Lane::Main, 64, 1, 100_000);
    pair.run("main, 64 B, 16 a turn", Lane::Main, 64, 16, 400_000);
    pair.run("main, 64 B, 256 a turn", Lane::Main, 64, 256, 2_000_000);
    pair.run("main, 1 KiB, 64 a turn", Lane::Main, 1024, 64, 400_000);
    pair.run("main, 16 KiB, 16 a turn", Lane::Main, 16 << 10, 16, 40_000);
    pair.run("own, 1 MiB, 4 a turn", Lane::Own, 1 << 20, 4, 600);
}
