//! From flags to what the client says in CONNECT, and to where it says it.
use super::arguments::ClientArgs;
use super::property::Properties;
use super::url::BrokerUrl;
use crate::failure::Failure;
use host::mqtt::client::{Options, WillOptions};
use host::mqtt::{Topic, Version};
use host::tls::ClientTls;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where the broker listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) bind_address: Option<String>,
    pub(crate) way: Way,
}

/// How the bytes get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Tls(ClientTls),
    /// Through this socket, whatever host and port say.
    Unix(PathBuf),
}

/// What is proved by SCRAM-SHA-256.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
}

/// Everything that the shared flags say, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) properties: Properties,
    /// User and password that are proved, not said.
    pub(crate) secret: Option<Secret>,
    /// The topic of `-L`.
    pub(crate) topic: Option<String>,
}

/// What a flag needs of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    AnyVersion,
    /// For the flag of this name.
    Version5(&'static str),
}

/// Where brokers listen usually, and where they do over TLS.
const PORT: u16 = 1883;
const SECURE_PORT: u16 = 8883;
/// More messages than can be meant; those of `-l` and `--repeat` come one by one anyway.
const WAITING_MAX: usize = 1_000_000;

impl Plan {
    /// Checks what clap can't: rules between flags, texts of MQTT.
    pub(crate) fn new(args: &ClientArgs, needs: Needs) -> Result<Self, Failure> {
        let url = args.url.as_deref().map(BrokerUrl::parse).transpose();
        let url = url.map_err(|why| Failure::new(format!("-L: {why}")))?;
        let properties = Properties::parse(&args.properties).map_err(Failure::new)?;
        let version = version(args, needs)?;
        let mut options = Options::new(version, client_id(args, version)?);
        options.clean_start = !args.disable_clean_session;
        options.keep_alive_secs = args.keepalive;
        options.in_flight_max = NonZeroU16::new(args.max_inflight).unwrap_or(NonZeroU16::MIN);
        options.waiting_max = WAITING_MAX;
        options.user_name = args.username.clone().or_else(|| url.as_ref()?.username.clone());
        options.password =
            args.password.as_deref().map(bytes).or_else(|| url.as_ref()?.password.clone().map(String::into_bytes));
        if options.password.is_some() && options.user_name.is_none() && version != Version::V5 {
            return Err(Failure::new("a password needs a user name (-u) before MQTT 5"));
        }
        let mut secret = None;
        if args.auth_method.is_some()
            && let (Some(user), Some(password)) = (options.user_name.take(), options.password.take())
        {
            options.auth_method = args.auth_method.clone();
            secret = Some(Secret { user, password });
        }
        options.will = will(args, &properties)?;
        set_properties(&mut options, args, &properties)?;
        let way = args.way.way(url.as_ref().is_some_and(|url| url.is_secure))?;
        let usual_port = if matches!(way, Way::Tls(_)) { SECURE_PORT } else { PORT };
        let place = Place {
            host: url.as_ref().map_or_else(|| args.host.clone(), |url| url.host.clone()),
            port: url.as_ref().and_then(|url| url.port).or(args.port).unwrap_or(usual_port),
            bind_address: args.bind_address.clone(),
            way,
        };
        Ok(Self { place, options, properties, secret, topic: url.map(|url| url.topic) })
    }
}

fn version(args: &ClientArgs, needs: Needs) -> Result<Version, Failure> {
    let flag = match needs {
        Needs::Version5(flag) => Some(flag),
        Needs::AnyVersion if args.auth_method.is_some() => Some("--auth-method"),
        Needs::AnyVersion if !args.properties.is_empty() => Some("-D"),
        Needs::AnyVersion if args.session_expiry.is_some() => Some("-x"),
        Needs::AnyVersion => None,
    };
    match (args.protocol_version, flag) {
        (Some(Version::V3_1 | Version::V3_1_1), Some(flag)) => {
            Err(Failure::new(format!("{flag} is for MQTT 5: leave -V out or write -V 5")))
        }
        (Some(version), _) => Ok(version),
        (None, Some(_)) => Ok(Version::V5),
        (None, None) => Ok(Version::V3_1_1),
    }
}

/// Brokers choose an id for a client without one, but those of 3.1.
fn client_id(args: &ClientArgs, version: Version) -> Result<String, Failure> {
    match (&args.id, &args.id_prefix) {
        (Some(id), _) => Ok(id.clone()),
        (None, Some(prefix)) => Ok(format!("{prefix}{}", std::process::id())),
        (None, None) if args.disable_clean_session => {
            Err(Failure::new("-c keeps a session, which belongs to a client id: give one with -i"))
        }
        (None, None) if version == Version::V3_1 => Ok(format!("midge-{:016x}", RandomState::new().hash_one(()))),
        (None, None) => Ok(String::new()),
    }
}

fn will(args: &ClientArgs, properties: &Properties) -> Result<Option<WillOptions>, Failure> {
    let Some(topic) = &args.will_topic else { return Ok(None) };
    let topic = Topic::parse(topic).map_err(|why| Failure::new(format!("--will-topic '{topic}': {why}")))?;
    let said = properties.will.publish();
    let mut forwardable = Vec::new();
    said.write_forwardable(&mut forwardable);
    Ok(Some(WillOptions {
        topic: topic.to_buf(),
        payload: args.will_payload.as_deref().map_or_else(Vec::new, bytes),
        qos: args.will_qos.unwrap_or_default(),
        retain: args.will_retain,
        delay_secs: properties.will.will_delay_secs.unwrap_or(0),
        expiry_secs: said.message_expiry_secs,
        properties: forwardable,
    }))
}

fn set_properties(options: &mut Options, args: &ClientArgs, properties: &Properties) -> Result<(), Failure> {
    if options.version != Version::V5 {
        return Ok(());
    }
    let for_ever = args.disable_clean_session.then_some(u32::MAX);
    options.session_expiry_secs = args.session_expiry.or(properties.connect.session_expiry_secs).or(for_ever);
    if options.session_expiry_secs == Some(u32::MAX) && options.client_id.is_empty() {
        return Err(Failure::new("a session that never expires belongs to a client id: give one with -i"));
    }
    let said = properties.connect.connect();
    options.receive_max = said.receive_max.unwrap_or(options.receive_max);
    options.packet_max = said.maximum_packet_size.map_or(options.packet_max, std::num::NonZeroU32::get);
    options.topic_alias_max = said.topic_alias_max.unwrap_or(options.topic_alias_max);
    options.request_response_info = said.request_response_info;
    options.request_problem_info = said.request_problem_info;
    options.user = properties.connect.user_list().clone();
    Ok(())
}

/// Bytes of an argument as they are: payloads need not be text.
pub(crate) fn bytes(argument: &OsStr) -> Vec<u8> {
    argument.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cli, Verb};
    use clap::Parser;

    /// The plan of `midge sub -t a` with these flags.
    fn plan(flags: &str) -> Result<Plan, String> {
        let words = ["midge", "sub", "-t", "a"].into_iter().chain(flags.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|refusal| refusal.to_string())?;
        match cli.verb {
            Some(Verb::Sub(args)) => {
                Plan::new(&args.client, Needs::AnyVersion).map_err(|failure| format!("{failure:?}"))
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn what_only_version_5_can_say_chooses_version_5() {
        let rows = [
            ("", Version::V3_1_1),
            ("-V 31", Version::V3_1),
            ("-V mqttv5", Version::V5),
            ("-x 5", Version::V5),
            ("--property=connect\0receive-maximum\x005", Version::V5),
        ];
        for (flags, version) in rows {
            assert_eq!(plan(flags).unwrap().options.version, version, "{flags}");
        }
        assert!(plan("-V 311 -x 5").unwrap_err().contains("-x is for MQTT 5"));
    }

    #[test]
    fn only_version_3_1_needs_an_id_of_our_own() {
        assert!(plan("").unwrap().options.client_id.is_empty());
        let id = plan("-V 31").unwrap().options.client_id;
        assert!(id.starts_with("midge-") && id.len() <= 23, "{id}");
        assert_eq!(plan("-I pre").unwrap().options.client_id, format!("pre{}", std::process::id()));
        assert!(plan("-c").unwrap_err().contains("give one with -i"));
    }

    #[test]
    fn a_session_lives_as_long_as_it_is_told_to() {
        let rows = [
            ("-V 5 -i a", None),
            ("-V 5 -i a -c", Some(u32::MAX)),
            ("-i a -c -x 7", Some(7)),
            ("-i a -x -1", Some(u32::MAX)),
        ];
        for (flags, expected) in rows {
            assert_eq!(plan(flags).unwrap().options.session_expiry_secs, expected, "{flags}");
        }
        assert!(plan("-x -1").unwrap_err().contains("never expires"));
    }

    #[test]
    fn a_password_needs_a_name_before_version_5() {
        assert!(plan("-P x").unwrap_err().contains("needs a user name"));
        assert_eq!(plan("-P x -V 5").unwrap().options.password, Some(b"x".to_vec()));
        let url = plan("-L mqtt://me:secret@h:9/t").unwrap();
        assert_eq!((url.place.host.as_str(), url.place.port, url.topic.as_deref()), ("h", 9, Some("t")));
        assert_eq!(url.options.user_name.as_deref(), Some("me"));
    }
}
