//! Scripts that come by port or by HTTP.
use crate::support::Bench;
use midge_node::console::{Act, FetchFault, Input, Output, SessionId, Start, UploadFault};

const COMPAT: &[u8] = b"on init do println 1\n";
const MIDGE: &[u8] = b"% midge\non init do println 1\n";

fn upload(bench: &mut Bench, said: &str, text: &[u8]) -> String {
    bench.ask(said);
    bench.handle(Input::Uploaded { session: SessionId(1), outcome: Ok(text) });
    bench.read(1)
}

#[test]
fn a_script_comes_by_port() {
    let mut bench = Bench::open();
    assert_eq!(bench.ask("script 2000"), "Waiting for script upload on port 2000~CMD>");
    assert_eq!(bench.asked, [Output::Listen { session: SessionId(1), port: 2000, from: Some([127, 0, 0, 1].into()) }]);
    bench.handle(Input::Uploaded { session: SessionId(1), outcome: Ok(COMPAT) });
    assert_eq!(bench.read(1), "\rScript upload completed (21 Bytes)~Syntax okay~CMD>");
    assert_eq!(bench.acts, [Act::Script { text: COMPAT.to_vec(), start: Start::NextStart }]);
    for port in ["0", "65536", "99999999999", "20x"] {
        assert_eq!(bench.ask(&format!("script {port}")), "Invalid port~CMD>");
    }
    assert_eq!(bench.ask("script 2000 now"), "Invalid arg now~CMD>");
    assert_eq!(bench.ask("script"), "Invalid number of arguments~CMD>");
}

#[test]
fn an_upload_that_fails_is_told() {
    let mut bench = Bench::open();
    for (fault, words) in [
        (UploadFault::Port, "the port can't be listened on"),
        (UploadFault::Silence, "nothing came"),
        (UploadFault::TooLong, "script too long"),
        (UploadFault::Busy, "another upload is waited for"),
        (UploadFault::Threads, "the system has no thread to give"),
    ] {
        bench.ask("script 2000");
        bench.handle(Input::Uploaded { session: SessionId(1), outcome: Err(fault) });
        assert_eq!(bench.read(1), format!("\rScript upload failed ({words})~CMD>"));
    }
    assert!(bench.acts.is_empty());
}

#[test]
fn a_script_begins_at_once_in_midge_and_where_it_was_told_to() {
    let mut bench = Bench::open();
    for (said, text, start) in [
        ("script 2000", COMPAT, Start::NextStart),
        ("script 2000 run", COMPAT, Start::Now),
        ("script 2000", MIDGE, Start::Now),
        ("script 2000", COMPAT, Start::NextStart),
    ] {
        bench.acts.clear();
        assert!(upload(&mut bench, said, text).contains("okay"));
        assert_eq!(bench.acts, [Act::Script { text: text.to_vec(), start }], "{said}");
    }
}

#[test]
fn a_script_that_cannot_run_replaces_nothing() {
    let mut bench = Bench::open();
    let said = upload(&mut bench, "script 2000", b"on init println 1\n");
    assert_eq!(said, "\rScript upload completed (18 Bytes)~Error ('do' expected) at >>println 1 ~CMD>");
    let said = upload(&mut bench, "script 2000", b"% midge\non init println 1\n");
    assert!(said.contains("error: ") && said.contains("script:2:9") && said.ends_with("~CMD>"), "{said}");
    let said = upload(&mut bench, "script 2000", b"");
    assert_eq!(said, "\rScript upload completed (0 Bytes)~CMD>");
    assert!(upload(&mut bench, "script 2000", &[b'('; 100_000]).contains("Error"));
    assert!(bench.acts.is_empty());
}

#[test]
fn a_script_comes_by_http() {
    let mut bench = Bench::open();
    let said = bench.ask("script http://example.org/s");
    assert_eq!(said, "HTTP request to http://example.org/s started~CMD>");
    assert_eq!(bench.asked, [Output::Fetch { session: SessionId(1), url: "http://example.org/s".into() }]);
    bench.handle(Input::Fetched { session: SessionId(1), outcome: Ok(COMPAT) });
    assert_eq!(bench.read(1), "\rHTTP script download completed (21 Bytes)~Syntax okay~CMD>");
    for (fault, words) in [
        (FetchFault::Code(404), "error code 404"),
        (FetchFault::Code(-1), "error code -1"),
        (FetchFault::TooLong, "script too long"),
        (FetchFault::Redirects, "too many redirects"),
    ] {
        bench.handle(Input::Fetched { session: SessionId(1), outcome: Err(fault) });
        assert_eq!(bench.read(1), format!("\rHTTP script upload failed ({words})~CMD>"));
    }
    assert_eq!(bench.ask("script ftp://x"), "Invalid arg ftp://x~CMD>");
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn scripts_are_deleted_started_and_reverted() {
    let mut bench = Bench::open();
    assert_eq!(bench.ask("script run"), "No script~CMD>");
    assert_eq!(bench.ask("script revert"), "No script before this one~CMD>");
    bench.world.script = Some(COMPAT.to_vec());
    bench.world.previous = true;
    assert_eq!(bench.ask("script run"), "Script started~CMD>");
    assert_eq!(bench.ask("script revert"), "Script reverted~CMD>");
    assert_eq!(bench.ask("script delete"), "Script deleted~CMD>");
    assert_eq!(bench.acts, [Act::RunScript, Act::RevertScript, Act::DeleteScript]);
}

/// Who asked may have gone: what was sent counts all the same.
#[test]
fn an_upload_outlives_its_console() {
    let mut bench = Bench::open();
    bench.ask("script 2000 run");
    bench.ask("quit");
    bench.handle(Input::Uploaded { session: SessionId(1), outcome: Ok(COMPAT) });
    assert_eq!(bench.read(1), "");
    assert_eq!(bench.acts, [Act::Script { text: COMPAT.to_vec(), start: Start::Now }]);
    bench.handle(Input::Uploaded { session: SessionId(1), outcome: Err(UploadFault::Silence) });
    assert_eq!(bench.acts.len(), 1);
}
