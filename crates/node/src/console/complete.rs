//! `help`, and what Tab makes of a word.
use super::command::{Ask, COMMANDS, Command};
use super::session::Session;
use crate::settings::{SETTINGS, Setting, When};
use alloc::vec::Vec;

/// `help` of the firmware, then what works there too without being said, then what is new.
const HELP: &[&str] = &[
    "show [config|stats|mqtt]",
    "save",
    "reset [factory]",
    "lock [<password>]",
    "unlock <password>",
    "quit",
    "scan",
    "set [ssid|password|auto_connect|ap_ssid|ap_password|ap_on|ap_open] <val>",
    "set [network|dns|ip|netmask|gw] <val>",
    "set [config_port|config_access|bitrate|system_output] <val>",
    "set [broker_port|broker_user|broker_password|broker_access|broker_clients] <val>",
    "set [broker_subscriptions|broker_retained_messages|broker_autoretain] <val>",
    "delete_retained|save_retained",
    "publish [local|remote] <topic> <data> [retained]",
    "script <port>|<url>|delete",
    "show [script|vars]",
    "set pwm_period <val>",
    "time",
    "set [ntp_server|ntp_interval|ntp_timezone|ntp_time|ntp_weekday] <val>",
    "set dns_name <name>",
    "set [mqtt_host|mqtt_port|mqtt_ssl|mqtt_user|mqtt_password|mqtt_id] <val>",
    "set [speed|ap_channel|mdns_mode|backlog|script_logging|@<n>] <val>",
    "show backlog",
    "script <port>|<url> run",
    "script run|revert",
    "help <command>",
];

/// Characters of a line of candidates: nobody asks a terminal how wide it is.
const LIST_WIDTH: usize = 78;
/// Settings that are not kept.
const PASSING: [&str; 4] = ["backlog", "ntp_time", "ntp_weekday", "script_logging"];

pub(super) fn help(ask: &mut Ask<'_>) {
    if ask.len() == 1 {
        return HELP.iter().for_each(|line| ask.say(line));
    }
    if ask.word(1) == b"set" && ask.len() == 3 {
        return help_set(ask);
    }
    match COMMANDS.iter().find(|command| command.name.as_bytes() == ask.word(1)) {
        Some(command) => ask.say(command.help),
        None => ask.unknown(),
    }
}

/// What one setting takes, and when it counts.
fn help_set(ask: &mut Ask<'_>) {
    let Some(Setting { name, kind, default, when, .. }) = ask.text(2).and_then(Setting::named) else {
        return ask.bad_word(2);
    };
    let when = match when {
        When::AtOnce => "at once",
        When::AtStart => "counts at the next start, if it is saved",
        When::ByHook => "kept, shown, and told to the hook command",
    };
    ask.say(format_args!("set {name} <{kind}>: {when}"));
    if !default.is_empty() {
        ask.say(format_args!("{default} until it is set"));
    }
}

/// Completes the last word of `before`, or shows what it could become.
pub(super) fn complete(session: &mut Session, before: &[u8], out: &mut Vec<u8>) {
    let Some(editor) = session.editor() else { return };
    let candidates = candidates(before);
    let begun = before.rsplit(|byte| *byte == b' ').next().unwrap_or_default().len();
    match &candidates[..] {
        [] => out.push(7),
        [only] => {
            let rest = only.as_bytes().get(begun..).unwrap_or_default();
            editor.insert(&[rest, b" "].concat(), out);
        }
        [first, others @ ..] => {
            let same = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let common = others.iter().map(same).min().unwrap_or(0);
            if common > begun {
                return editor.insert(first.as_bytes().get(begun..common).unwrap_or_default(), out);
            }
            let mut width = LIST_WIDTH;
            for candidate in &candidates {
                width += candidate.len() + 2;
                if width > LIST_WIDTH {
                    out.extend(b"\r\n");
                    width = candidate.len() + 2;
                }
                out.extend_from_slice(candidate.as_bytes());
                out.extend(b"  ");
            }
            out.extend(b"\r\n");
            editor.draw(out);
        }
    }
}

/// In alphabetical order.
fn candidates(before: &[u8]) -> Vec<&'static str> {
    let mut is_escaped = false;
    let ends_word = |byte: &u8| {
        let ends = *byte == b' ' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    };
    let mut words: Vec<&[u8]> = before.split(ends_word).collect();
    let begun = words.pop().unwrap_or_default();
    words.retain(|word| !word.is_empty());
    let names = || COMMANDS.iter().map(|command| command.name);
    let mut candidates: Vec<&str> = match words[..] {
        [] | [b"help"] => names().collect(),
        [b"help", b"set"] => SETTINGS.iter().map(|setting| setting.name).collect(),
        [b"script", _] => Vec::from(["run"]),
        [b"set"] => SETTINGS.iter().map(|setting| setting.name).chain(PASSING).collect(),
        [b"publish", _, _, _] => Vec::from(["retained"]),
        [first] => {
            let command: Option<&Command> = COMMANDS.iter().find(|command| command.name.as_bytes() == first);
            command.map_or_else(Vec::new, |command| command.completions.to_vec())
        }
        _ => Vec::new(),
    };
    candidates.retain(|candidate| candidate.as_bytes().starts_with(begun));
    candidates.sort_unstable();
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_from_what_stands_before_them() {
        for (before, expected) in [
            ("sh", "show"),
            ("s", "save save_retained scan script set show"),
            ("show s", "script stats"),
            ("show  v", "vars"),
            ("set broker_a", "broker_access broker_autoretain"),
            ("help set broker_a", "broker_access broker_autoretain"),
            ("publish local a b\\ c r", "retained"),
            ("script 2000 ", "run"),
            ("set ntp_t", "ntp_time ntp_timezone"),
            ("publish local t v ", "retained"),
            ("help un", "unlock"),
            ("reset f", "factory"),
            ("show mqtt x", ""),
            ("zzz", ""),
        ] {
            assert_eq!(candidates(before.as_bytes()).join(" "), expected, "{before}");
        }
    }

    #[test]
    fn help_names_every_command_and_setting() {
        let help = HELP.join(" ");
        let words: Vec<&str> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let names = COMMANDS.iter().map(|command| command.name).chain(SETTINGS.iter().map(|setting| setting.name));
        for name in names.chain(PASSING) {
            assert!(words.contains(&name), "{name}");
        }
    }
}
