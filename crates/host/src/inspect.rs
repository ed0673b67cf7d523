//! A look into the files that a configuration names, before a site opens them: `midge check`.
use crate::access;
use crate::config::{self, FileKind, Mention, Problem, Report, Severity};
use crate::tls::{self, TlsError};
use std::collections::BTreeMap;
use std::path::Path;

/// Of one file; who mends these finds the next ones.
const FAULTS_MAX: usize = 10;

/// Reads and checks a configuration, and the files of passwords, rules and certificates that it names.
pub fn inspect(path: &Path) -> Report {
    let mut report = config::read(path);
    let mut known = BTreeMap::new();
    for mention in report.mentions().to_vec() {
        let found =
            known.entry((mention.kind, mention.path.clone())).or_insert_with(|| look(mention.kind, &mention.path));
        for message in found.iter() {
            tell(&mut report, &mention, message.clone());
        }
    }
    if known.values().all(Vec::is_empty) {
        look_at_pairs(&mut report);
    }
    report.sort();
    report
}

/// Certificates, keys and lists of which each is good, and which do not fit together.
fn look_at_pairs(report: &mut Report) {
    for listener in report.config().listeners.clone() {
        let Some(Err(error)) = listener.tls.as_ref().map(tls::server) else { continue };
        let mention = report.mentions().iter().find(|mention| mention.path == error.path()).cloned();
        if let Some(mention) = mention {
            tell(report, &mention, error.to_string());
        }
    }
}

fn tell(report: &mut Report, mention: &Mention, message: String) {
    let Mention { source, line, key, .. } = mention.clone();
    report.tell(Problem { source, line, column: 1, key, message, severity: Severity::Error });
}

/// What is wrong with a file.
fn look(kind: FileKind, path: &Path) -> Vec<String> {
    let one = |outcome: Result<(), TlsError>| outcome.err().map(|error| error.to_string()).into_iter().collect();
    let lines = |outcome: Result<(), access::LoadError>| {
        let told = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        told.lines().take(FAULTS_MAX).map(str::to_owned).collect()
    };
    match kind {
        FileKind::Passwords => lines(access::check_passwords(path)),
        FileKind::Rules => lines(access::check_rules(path)),
        FileKind::Certificate => one(tls::certificates(path).map(|_| ())),
        FileKind::Key => one(tls::private_key(path).map(|_| ())),
        FileKind::Authorities => one(tls::authorities(&[path.to_owned()]).map(|_| ())),
        FileKind::Revoked => one(tls::revoked(path).map(|_| ())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_wrong_with_a_file_is_told_at_the_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let key = file(&format!("{name}.key"), &made.signing_key.serialize_pem());
            (file(&format!("{name}.pem"), &made.cert.pem()), key)
        };
        let ((cert, key), (other, _)) = (pair("a"), pair("b"));
        let (users, rules) = (file("users", "anna:x\nbob\n"), file("acl", "topic read a\ntopc b\n"));
        let rows = [
            (format!("certfile {cert}\nkeyfile {key}"), vec![]),
            (format!("certfile {cert}\nkeyfile {cert}"), vec!["4:1: keyfile: … has no key in PEM form"]),
            (format!("certfile {other}\nkeyfile {key}"), vec!["4:1: keyfile: … does not fit"]),
            (format!("certfile /none\nkeyfile {key}"), vec!["3:1: certfile: … /none: No such file"]),
            (
                format!("password_file {users}\nacl_file {rules}"),
                vec![
                    "3:1: password_file: … users:1: \"anna\": not a hash",
                    "3:1: password_file: … users:2: ",
                    "4:1: acl_file: … acl:2: ",
                ],
            ),
            ("acl_file /none".to_owned(), vec!["3:1: acl_file: … /none: can't be read"]),
        ];
        for (lines, expected) in rows {
            let conf = file("mosquitto.conf", &format!("listener 1883\nallow_anonymous true\n{lines}\n"));
            let report = inspect(Path::new(&conf)).to_string();
            assert_eq!(report.lines().count(), expected.len(), "{lines}\n{report}");
            for (line, expected) in report.lines().zip(expected) {
                let (place, words) = expected.split_once(" … ").unwrap();
                assert!(
                    line.contains(&format!("mosquitto.conf:{place}")) && line.contains(words),
                    "{line}\n{expected}"
                );
            }
        }
    }
}
