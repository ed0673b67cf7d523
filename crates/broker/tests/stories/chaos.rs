//! Anybody says anything at any time: whatever is sent can be read, and no assertion of the broker fails.
use crate::play::{Config, Stage, WhenFull};

/// What may be said; `{n}` is some small number.
const STEPS: &[&str] = &[
    "a: CONNECT",
    "a: CONNECT clean=0",
    "a: CONNECT v5 expiry=20 rmax={n} will=t/{n} q{n} delay={n}",
    "a: CONNECT v5 clean=0 expiry=5 pmax=40 will=t/1 r",
    "b: CONNECT v5 amax={n} problems=0 expiry={n}",
    "c: CONNECT v5 pmax={n}0 amax=2",
    "b: CONNECT v31",
    "b: CONNECT clean=0 keep={n} will=t/{n} q2",
    "c: CONNECT v5 clean=0 expiry=9 as=a",
    "a: SUB t/+ q{n} , t/# q1",
    "a: SUB t/{n} id={n} q2 rap",
    "b: SUB $share/g/t/+ q{n} , # q2",
    "c: SUB $share/g/t/+ q1 , t/{n} nl rh1",
    "a: UNSUB t/# , t/{n}",
    "b: UNSUB #",
    "a: PUB t/{n} 'x' q{n} #{n}",
    "b: SUB t/+ q2 , $queue/t/{n} q{n}",
    "a: PUB t/{n}/long 'x' q{n} #{n}",
    "b: PUB t/{n} 'x'*300 q{n} #{n} r",
    "b: PUB t/{n} q1 r",
    "c: PUB t/{n} 'y' q2 #{n} alias=1{n} expiry={n}",
    "c: PUB - 'z' q{n} #{n} alias=1{n}",
    "a: PUB $SYS/x 'x' q{n} #{n}",
    "a: PUBACK #{n}",
    "a: PUBREC #{n}",
    "a: PUBREC #{n} 0x80",
    "a: PUBCOMP #{n}",
    "b: PUBACK #{n}",
    "b: PUBREC #{n}",
    "b: PUBREL #{n}",
    "b: PUBCOMP #{n}",
    "c: PUBREL #{n}",
    "a: PING",
    "b: STALL",
    "b: READ",
    "a: STALL",
    "a: READ",
    "a: DISCONNECT",
    "a: DISCONNECT 0x04",
    "b: DISCONNECT",
    "c: DISCONNECT expiry={n}",
    "a: CLOSE",
    "b: CLOSE",
    "a: KICK",
    "b: BYTES 30 {n}0",
    "c: BYTES 00 00",
    "P: ATTACH peer",
    "P: SUB t/# q2 rap",
    "P: PUB t/{n} 'p' q{n} r",
    "P: STATE t/{n} 's' r",
    "P: STATE t/{n}",
    "P: FULL",
    "P: FREE",
    "P: DETACH",
    "+{n}s",
    "+1ms",
    "m: PLACED v5 mount=t/ qmax=1",
    "m: ALL CONNECT v5 clean=0 expiry=5 amax=2 will=w",
    "m: SUB # q{n}",
    "m: SUB $share/g/1 q1",
    "m: UNSUB #",
    "m: PUB {n} 'm' q1 r #{n}",
    "m: PUBACK #{n}",
    "m: CLOSE",
    "HOLD",
    "COMMIT",
    "RESTART",
];

#[test]
fn anything_goes() {
    for seed in 0..400_u64 {
        println!("seed {seed}");
        let mut state = seed;
        let mut roll = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let when_full = if seed % 2 == 0 { WhenFull::Refuse } else { WhenFull::Drop };
        let config = Config {
            when_full,
            queue_messages_max: 3,
            deferred_bytes_max: 500,
            outgoing_bytes_max: 2000,
            share_payload_bytes: 200,
            queue_qos0: seed % 3 == 0,
            upgrade_qos: seed % 5 == 0,
            in_flight_bytes_max: if seed % 7 == 0 { 100 } else { usize::MAX },
            ..Config::default()
        };
        let mut stage = Stage::new(config);
        for _ in 0..300 {
            let step = STEPS[roll(STEPS.len())].replace("{n}", &(roll(4)).to_string());
            if stage.can(&step) {
                stage.step(&step);
            }
            stage.heard.clear();
        }
    }
}
