//! Everything that a console may say, on all kinds of channels, in all kinds of pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mqtt::{Instant, Now, Wall};
use node::console::{Channel, Config, Input, Output, SessionId, Terminal};
use node::{Input as NodeInput, Node, Output as NodeOutput};

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, piece], text)) = data.split_first_chunk::<2>() else { return };
    let mut node = Node::new(node::Config { console: Config::default(), ..node::Config::default() }, [7; 32]);
    let mut now = Now { instant: Instant(1), wall: Wall(1_795_250_400_000) };
    node.restored(now);
    let channel = match kind % 4 {
        0 => Channel::Network([127, 0, 0, 1].into()),
        1 => Channel::Serial,
        2 => Channel::Local,
        _ => Channel::Application,
    };
    let terminal = if kind & 4 == 0 { Terminal::Plain } else { Terminal::Interactive };
    let (mut open, session) = (true, SessionId(1));
    let mut inputs = vec![Input::Opened { session, channel, terminal }];
    inputs.extend(text.chunks(usize::from(piece).max(1)).map(|bytes| Input::Received { session, bytes }));
    for input in inputs {
        if !open {
            return;
        }
        node.handle(now, NodeInput::Console(input));
        now.instant.0 += 500_000;
        now.wall.0 += 500;
        node.handle(now, NodeInput::Timeout);
        if let Some((batch, _)) = node.seal(now, Vec::new()) {
            node.committed(now, batch);
        }
        while let Some(output) = node.poll_output() {
            match output {
                NodeOutput::Console(Output::Write { bytes, .. }) => {
                    assert!(!bytes.is_empty());
                    node.handle(now, NodeInput::Console(Input::Written { session }));
                }
                NodeOutput::Console(Output::MayRestart { session, factory }) => {
                    let outcome = if kind & 8 == 0 { Ok(()) } else { Err("something is in the way") };
                    node.handle(now, NodeInput::Console(Input::MayRestart { session, factory, outcome }));
                }
                NodeOutput::Console(Output::Close { .. }) => open = false,
                _ => {}
            }
        }
    }
});
