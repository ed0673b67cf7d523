//! What a gateway reads before it is MQTT: PROXY headers, WebSocket requests and frames. Whatever pieces it comes in,
//! the outcome is the same, and nothing is kept beyond what the limits say.
#![no_main]
use libfuzzer_sys::fuzz_target;
use midge::gateway::proxy::{self, HEADER_BYTES_MAX, Header};
use midge::gateway::websocket::{self, Decoder, Event, REQUEST_BYTES_MAX, Upgrade};

fuzz_target!(|data: &[u8]| {
    match proxy::header(data) {
        Header::More => assert!(data.len() < HEADER_BYTES_MAX),
        Header::Complete { taken, .. } => assert!(taken <= data.len() && taken <= HEADER_BYTES_MAX),
        Header::Wrong(why) => assert!(!why.is_empty()),
    }
    match websocket::upgrade(data) {
        Upgrade::More => assert!(data.len() <= REQUEST_BYTES_MAX),
        Upgrade::Accept { taken, response } => {
            assert!(taken <= data.len() && response.starts_with("HTTP/1.1 101 "));
            assert_eq!(response.matches("\r\n\r\n").count(), 1, "no header of the client's making");
        }
        Upgrade::Refuse { response, .. } => assert!(response.starts_with("HTTP/1.1 4")),
    }
    let Some((&piece, frames)) = data.split_first() else { return };
    assert_eq!(decoded(frames, frames.len()), decoded(frames, usize::from(piece) % 16 + 1));
});

/// All that the frames bring, and how they end.
fn decoded(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<Vec<u8>>, bool, bool) {
    let (mut stream, mut pings, mut closed) = (Vec::new(), Vec::new(), false);
    let mut decoder = Decoder::default();
    for chunk in bytes.chunks(piece.max(1)) {
        let outcome = decoder.decode(&mut chunk.to_vec(), |event| match event {
            Event::Bytes(bytes) => stream.extend_from_slice(bytes),
            Event::Ping(payload) => {
                assert!(payload.len() <= 125);
                pings.push(payload.to_vec());
            }
            Event::Close => closed = true,
        });
        if outcome.is_err() {
            return (stream, pings, closed, true);
        }
    }
    assert!(stream.len() <= bytes.len());
    (stream, pings, closed, false)
}
