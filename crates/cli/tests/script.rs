//! `midge script` as a person or another program meets it.
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/rules")
}

fn midge(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_midge"))
        .arg("script")
        .args(args)
        .current_dir(examples())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("an end")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_examples_do_what_their_transcripts_say() {
    let mut seen = 0;
    for name in ["bridge", "button", "clock", "pump", "sensor", "thermostat", "watchdog", "webhook"] {
        let (script, scenario) = (format!("{name}.midge"), format!("{name}.sim"));
        let expected = std::fs::read_to_string(examples().join(format!("{name}.transcript"))).unwrap();
        let output = midge(&["sim", &script, &scenario], "");
        assert_eq!(text(&output.stdout), expected, "{name}: {}", text(&output.stderr));
        assert!(output.status.success());
        let checked = midge(&["check", &script], "");
        assert_eq!(text(&checked.stdout), format!("{script}: nothing to complain about\n"));
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn an_error_has_a_place_a_caret_a_hint_and_an_exit_code() {
    let output = midge(&["check", "-"], "% midge\non init do\n  if 1 > 0 do println 1\n");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for part in ["error: ", "--> standard input:3:12", "  if 1 > 0 do println 1", "^^", "hint: "] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
}

#[test]
fn json_says_the_same() {
    let output = midge(&["check", "--json", "-"], "% midge\non init do\n  fly\n");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&document["ok"], &document["dialect"]), (&false.into(), &"midge".into()));
    assert_eq!(document["diagnostics"][0]["line"], 3);
    let output = midge(&["sim", "--json", "-"], "on init do println 2+3*4");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["transcript"].as_str().unwrap().contains("print \"14\\r\\n\""), "{document}");
    let output = midge(&["convert", "--json", "-"], "on init do println 2+3*4");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["script"].as_str().unwrap().starts_with("% midge"), "{document}");
}

#[test]
fn what_is_wrong_is_said_where_errors_go() {
    for (args, input, code, words) in [
        (&["sim", "-", "fan.sim"][..], "on init do println 1", 1, "fan.sim: No such file"),
        (&["sim", "-", "-"], "", 1, "can't both be standard input"),
        (&["sim", "button.midge", "-"], "\nfrobnicate\n", 3, "standard input:2:1"),
        (&["convert", "-"], "on nothing", 3, "event spec"),
        (&["check", "."], "", 1, "directory"),
    ] {
        let output = midge(args, input);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(text(&output.stderr).contains(words), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_converted_script_is_good() {
    let converted = midge(&["convert", "-"], "on init do println 10-3-2");
    let output = midge(&["sim", "-"], &text(&converted.stdout));
    assert!(text(&output.stdout).contains("print \"9\\r\\n\""), "{}", text(&output.stdout));
}
