//! What the host reads besides files and packets: requests on the control socket, and records of members.
#![no_main]
use libfuzzer_sys::fuzz_target;
use midge::control::Request;
use midge::driver::Members;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let text = serde_json::to_string(&request).expect("a request is JSON");
        assert_eq!(serde_json::from_str::<Request>(&text).ok(), Some(request));
    }
    let mut key = [7; 33];
    key[0] = b'h';
    let mut members = Members::default();
    assert_eq!(members.restore(&key, data), members.iter().count() == 1);
    let first = members.iter().next().map(|(peer, member)| (peer, member.clone()));
    if let Some((peer, before)) = first {
        members.update(peer, |member| member.paused = !member.paused);
        let mut again = Members::default();
        for change in members.take_changes() {
            assert!(again.restore(&change.key, change.value.as_deref().unwrap_or_default()));
        }
        assert_eq!(again.get(peer).map(|member| (&member.name, member.address)), Some((&before.name, before.address)));
    }
    let (key, value) = data.split_at(data.len() / 2);
    let _ = Members::default().restore(key, value);
    if let Ok(word) = str::from_utf8(data) {
        let _ = members.find(word);
    }
});
