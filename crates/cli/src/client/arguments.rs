//! The flags that `midge pub` and `midge sub` share with each other and with mosquitto's clients.
use super::way::WayArgs;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use host::mqtt::{QoS, Version};
use std::ffi::{OsStr, OsString};

#[derive(clap::Args, Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub(crate) struct ClientArgs {
    /// Host of the broker.
    #[arg(short = 'h', long, default_value = "localhost", allow_hyphen_values = true)]
    pub(crate) host: String,
    /// Port of the broker [default: 1883, or 8883 over TLS].
    #[arg(short, long)]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) way: WayArgs,
    /// All in one: mqtt://USER:PASSWORD@HOST:PORT/TOPIC, of which only HOST and TOPIC are needed; mqtts:// for TLS.
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub(crate) url: Option<String>,
    /// Local address to connect from.
    #[arg(short = 'A', value_name = "ADDRESS")]
    pub(crate) bind_address: Option<String>,
    /// Client id [default: a random one].
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) id: Option<String>,
    /// Client id made of this prefix and the process id.
    #[arg(short = 'I', long, conflicts_with = "id", allow_hyphen_values = true)]
    pub(crate) id_prefix: Option<String>,
    /// User name.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) username: Option<String>,
    /// Password.
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", allow_hyphen_values = true)]
    pub(crate) password: Option<OsString>,
    /// Prove the password of -P to the broker without saying it, and have it proved (MQTT 5).
    #[arg(long, value_name = "METHOD", value_parser = ["SCRAM-SHA-256"], requires_all = ["username", "password"])]
    pub(crate) auth_method: Option<String>,
    /// Version of MQTT: 5, 311, 31 or mqttv5, mqttv311, mqttv31 [default: 311].
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = version)]
    pub(crate) protocol_version: Option<Version>,
    /// Seconds between signs of life: 5 to 65535, or 0 for none.
    #[arg(short, long, value_name = "SECONDS", default_value = "60", value_parser = keep_alive)]
    pub(crate) keepalive: u16,
    /// Keep the session on the broker when this client has gone; needs an id.
    #[arg(short = 'c', long)]
    pub(crate) disable_clean_session: bool,
    /// Seconds that the session outlives the connection; -1 or ∞: for ever (MQTT 5).
    #[arg(short = 'x', value_name = "SECONDS", allow_hyphen_values = true, value_parser = session_expiry)]
    pub(crate) session_expiry: Option<u32>,
    /// Quality of service: 0, 1 or 2.
    #[arg(short, long, default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Messages of QoS 1 and 2 in flight at once.
    #[arg(short = 'M', long, value_name = "COUNT", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_inflight: u16,
    /// Property of a packet: COMMAND NAME VALUE, or COMMAND user-property KEY VALUE (MQTT 5). Repeatable.
    #[arg(short = 'D', long = "property", value_name = "PROPERTY", allow_hyphen_values = true)]
    pub(crate) properties: Vec<OsString>,
    /// Topic of the will, which the broker publishes if this client vanishes.
    #[arg(long, value_name = "TOPIC", allow_hyphen_values = true)]
    pub(crate) will_topic: Option<String>,
    /// Payload of the will.
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", allow_hyphen_values = true)]
    pub(crate) will_payload: Option<OsString>,
    /// Quality of service of the will.
    #[arg(long, value_name = "QOS", requires = "will_topic", value_parser = qos)]
    pub(crate) will_qos: Option<QoS>,
    /// Publish the will as a retained message.
    #[arg(long, requires = "will_topic")]
    pub(crate) will_retain: bool,
    /// Print every packet sent and received.
    #[arg(short, long)]
    pub(crate) debug: bool,
    /// Print no errors but those of the command line.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Accepted for mosquitto's sake: small packets are never delayed here.
    #[arg(long)]
    pub(crate) nodelay: bool,
    /// Print this help.
    #[arg(long, action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

pub(crate) fn version(text: &str) -> Result<Version, String> {
    match text {
        "31" | "mqttv31" => Ok(Version::V3_1),
        "311" | "mqttv311" => Ok(Version::V3_1_1),
        "5" | "mqttv5" => Ok(Version::V5),
        _ => Err("write 5, 311, 31, mqttv5, mqttv311 or mqttv31".into()),
    }
}

pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    let bits = text.parse().ok();
    bits.and_then(QoS::from_bits).ok_or_else(|| "write 0, 1 or 2".into())
}

fn keep_alive(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(secs) if secs == 0 || secs >= 5 => Ok(secs),
        _ => Err("write a number of seconds from 5 to 65535, or 0 for none".into()),
    }
}

fn session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "write a number of seconds from 0 to 4294967294, or -1 for ever".into()),
    }
}

/// Separates the words of one `-D` after [`join_properties`]; never part of an argument of a process.
pub(crate) const PROPERTY_SEPARATOR: &str = "\0";

/// Makes one argument of each `-D COMMAND NAME VALUE` or `-D COMMAND user-property KEY VALUE` of `pub` and `sub`:
/// how many words belong to it depends on the second, which clap can't express.
pub(crate) fn join_properties(command: &clap::Command, args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.peekable();
    let mut joined: Vec<OsString> = args.by_ref().take(2).collect();
    let client = match joined.get(1).and_then(|verb| verb.to_str()) {
        Some(verb @ ("pub" | "sub")) => command.find_subcommand(verb),
        _ => None,
    };
    let Some(client) = client else {
        joined.extend(args);
        return joined;
    };
    while let Some(arg) = args.next() {
        if arg == "-D" || arg == "--property" {
            let mut words: Vec<OsString> = args.by_ref().take(3).collect();
            if words.get(1).is_some_and(|name| name == "user-property") {
                words.extend(args.next());
            }
            let mut property = OsString::from("--property=");
            property.push(words.join(OsStr::new(PROPERTY_SEPARATOR)));
            joined.push(property);
        } else {
            let value_follows = takes_value(client, &arg);
            joined.push(arg);
            if value_follows {
                joined.extend(args.next());
            }
        }
    }
    joined
}

/// Whether `arg` is a flag whose value is the next argument.
fn takes_value(command: &clap::Command, arg: &OsStr) -> bool {
    let Some(text) = arg.to_str() else { return false };
    command.get_arguments().filter(|flag| flag.get_action().takes_values()).any(|flag| {
        match (text.strip_prefix("--"), text.strip_prefix('-')) {
            (Some(long), _) => flag.get_long() == Some(long),
            (None, Some(short)) => flag.get_short().is_some_and(|c| short.chars().eq([c])),
            (None, None) => false,
        }
    })
}

/// Flags of mosquitto's clients whose part is not built yet, with that part.
const NOT_BUILT: [(&str, &str); 8] = [
    ("--keyform", "keys in hardware"),
    ("--ciphers", "a choice of cipher suites"),
    ("--tls-engine", "engines of OpenSSL"),
    ("--tls-engine-kpass-sha1", "engines of OpenSSL"),
    ("--psk", "TLS with pre-shared keys"),
    ("--psk-identity", "TLS with pre-shared keys"),
    ("--proxy", "connecting through a SOCKS proxy"),
    ("-S", "looking brokers up by SRV records"),
];

/// Says of a flag that mosquitto's clients know and we don't that its part is missing, and nothing of other errors.
pub(crate) fn not_built(refusal: &clap::Error) -> Option<String> {
    if refusal.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = refusal.get(ContextKind::InvalidArg) else { return None };
    let (_, part) = NOT_BUILT.iter().find(|(name, _)| name == flag)?;
    Some(format!("{flag}: not built yet: {part}. Leave the flag out, or use mosquitto's own client"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::CommandFactory;

    fn joined(words: &str) -> Vec<String> {
        let words = std::iter::once("midge").chain(words.split(' ')).map(OsString::from);
        let joined = join_properties(&Cli::command(), words);
        joined.into_iter().skip(1).map(|word| word.into_string().unwrap().replace(PROPERTY_SEPARATOR, "·")).collect()
    }

    #[test]
    fn the_words_of_a_property_become_one_argument() {
        let rows = [
            ("pub -D publish content-type x -t a", "pub --property=publish·content-type·x -t a"),
            ("sub -D connect user-property -t -m -v", "sub --property=connect·user-property·-t·-m -v"),
            ("pub --property will will-delay-interval 5", "pub --property=will·will-delay-interval·5"),
            // What a flag takes is its value, whatever it looks like.
            ("pub -m -D -t publish -n", "pub -m -D -t publish -n"),
            ("pub --message --property -r", "pub --message --property -r"),
            // Too few words: told by whoever reads them.
            ("pub -D publish", "pub --property=publish"),
            ("run -D publish content-type x", "run -D publish content-type x"),
        ];
        for (words, expected) in rows {
            assert_eq!(joined(words).join(" "), expected, "{words}");
        }
    }

    #[test]
    fn a_flag_whose_part_is_missing_is_refused_with_that_part() {
        let parse = |words: &[&str]| <Cli as clap::Parser>::try_parse_from(words);
        for (flag, part) in NOT_BUILT {
            let refusal = parse(&["midge", "pub", "-t", "a", "-n", flag]).unwrap_err();
            let words = not_built(&refusal).unwrap_or_default();
            assert!(words.starts_with(flag) && words.contains(part), "{flag}: {words}");
        }
        let refusal = parse(&["midge", "pub", "-t", "a", "-n", "--nonsense"]).unwrap_err();
        assert_eq!(not_built(&refusal), None);
    }

    #[test]
    fn without_a_verb_the_flags_are_those_of_mosquitto() {
        let cli = <Cli as clap::Parser>::try_parse_from(["midge", "-c", "x.conf", "-p", "1884", "-v"]).unwrap();
        assert!(cli.verb.is_none() && cli.run.verbose);
        assert_eq!((cli.run.config, cli.run.port), (Some("x.conf".into()), Some(1884)));
    }
}
