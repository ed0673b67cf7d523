//! From flags to what the client says in CONNECT, and to where it says it.
use super::arguments::ClientArgs;
use super::property::Properties;
use super::url::BrokerUrl;
use crate::failure::Failure;
use host::mqtt::client::{Options, WillOptions};
use host::mqtt::{Topic, Version};
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;

/// Where the broker listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) bind_address: Option<String>,
}

/// Everything that the shared flags say, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) properties: Properties,
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
        options.will = will(args, &properties)?;
        set_properties(&mut options, args, &properties)?;
        let place = Place {
            host: url.as_ref().map_or_else(|| args.host.clone(), |url| url.host.clone()),
            port: url.as_ref().map_or(args.port, |url| url.port),
            bind_address: args.bind_address.clone(),
        };
        Ok(Self { place, options, properties, topic: url.map(|url| url.topic) })
    }
}

fn version(args: &ClientArgs, needs: Needs) -> Result<Version, Failure> {
    let flag = match needs {
        Needs::Version5(flag) => Some(flag),
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
