//! `midge bench`: load for any broker, and what came of it.
//!
//! Start reading at [`Scenario`], then [`mod@flow`] (messages under way) and [`mod@stock`] (what a broker keeps). One
//! thread and one event loop serve all clients, so that the bench costs a fraction of the broker; `bench_cpu_share`
//! tells when it does not.
mod door;
mod flow;
mod histogram;
mod net;
mod plan;
mod report;
mod stamp;
mod stock;
mod tally;
mod usage;

use crate::client::arguments;
use crate::failure::Failure;
use crate::terminal;
use door::Door;
use flow::{Drive, Flow};
use host::mqtt::{QoS, Topic, Version};
use plan::Plan;
use report::Report;
use std::process::ExitCode;
use std::time::Duration;
use stock::{Half, Stock};

#[derive(clap::Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub(crate) struct Args {
    /// The broker: HOST or HOST:PORT, over TCP.
    #[arg(value_name = "ADDR", default_value = "localhost:1883")]
    address: String,
    /// What to do. Repeatable [default: the first four].
    #[arg(short, long = "scenario", value_name = "NAME", value_enum)]
    scenarios: Vec<Scenario>,
    /// Publishers [default: 100 of fan-in and pairs, 10 of wildcards, 1 of fan-out].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    publishers: Option<u32>,
    /// Subscribers [default: 100 of fan-out, 1 of fan-in]; pairs and wildcards bring their own number.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    subscribers: Option<u32>,
    /// Idle clients, retained or queued messages [default: 10000 clients, 100000 messages].
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: Option<u32>,
    /// Quality of service of publishers and subscribers: 0, 1 or 2.
    #[arg(short, long, default_value = "0", value_parser = arguments::qos)]
    qos: QoS,
    /// Bytes of a payload.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=100_000_000))]
    size: u32,
    /// Messages of one publisher on the way at once; 1 is one in flight.
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    window: u16,
    /// Messages a second, of all publishers together, whatever happens: for latencies [default: as the window allows].
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Seconds before.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warm_up: Duration,
    /// Version of MQTT: 5, 311 or 31.
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "311", value_parser = arguments::version)]
    protocol_version: Version,
    /// First level of all topics, and beginning of client ids of scenarios that keep something.
    #[arg(long, value_name = "LEVEL", default_value = "bench")]
    topic: String,
    /// User name.
    #[arg(short, long)]
    username: Option<String>,
    /// Password.
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", requires = "username")]
    password: Option<String>,
    /// The broker's process, if it runs on this machine: its CPU time and memory are told, too.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Only fill the queue of `queued`, or only drain one that was filled before.
    #[arg(long, value_name = "HALF")]
    only: Option<Only>,
    /// A JSON object a line instead of text.
    #[arg(long)]
    json: bool,
    /// Say nothing meanwhile.
    #[arg(long)]
    quiet: bool,
}

/// More are beyond what one address has ports for.
const CLIENTS_MAX: i64 = 60_000;

/// What can be done to a broker.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Many publishers, one subscriber.
    FanIn,
    /// One publisher, many subscribers.
    FanOut,
    /// As many subscribers as publishers, each with a topic of its own.
    Pairs,
    /// 10,000 filters with wildcards of 100 clients, 100,000 topics.
    Wildcards,
    /// Clients that only keep their connection.
    Idle,
    /// Retained messages, and a subscription to all of them.
    Retained,
    /// QoS 1 messages for a client that is away, and its return.
    Queued,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Publish for the client that is away.
    Fill,
    /// Let it return.
    Drain,
}

const USUAL: [Scenario; 4] = [Scenario::FanIn, Scenario::FanOut, Scenario::Pairs, Scenario::Wildcards];
/// Longer runs tell how they go.
const WATCHED: Duration = Duration::from_secs(10);
const WATCHED_COUNT: u32 = 1_000_000;
/// Numbers that are kept to see loss and order: one for each subscriber and each publisher that it hears.
const SEQUENCES_MAX: usize = 100_000_000;

fn seconds(text: &str) -> Result<Duration, String> {
    let found = text.parse().ok().filter(|secs| (0.0..=86_400.0).contains(secs));
    found.map(Duration::from_secs_f64).ok_or_else(|| "write seconds from 0 to 86400, as 5 or 0.5".into())
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let door = Door::find(&args.address, args.protocol_version)?;
    let door = door.with_user(args.username.clone(), args.password.clone());
    usage::of_broker(args.pid)?;
    Topic::parse(&args.topic).map_err(|error| Failure::new(format!("--topic {}: {error}", args.topic)))?;
    let scenarios = if args.scenarios.is_empty() { &USUAL[..] } else { &args.scenarios };
    let mut lost = 0.0;
    for &scenario in scenarios {
        let report = measure(args, scenario, &door)?;
        lost += report.figure("lost").unwrap_or(0.0);
        if args.json {
            say!("{}", report.json());
        } else {
            terminal::out(format_args!("{}", report.text()));
        }
    }
    // For scripts: what was published and did not arrive is a failure of the broker, not of the bench.
    Ok(if lost > 0.0 { ExitCode::from(LOST) } else { ExitCode::SUCCESS })
}

/// Exit code of a run in which messages were lost.
const LOST: u8 = 3;

fn measure(args: &Args, scenario: Scenario, door: &Door) -> Result<Report, Failure> {
    let publishers = |usual: u32| args.publishers.unwrap_or(usual) as usize;
    let subscribers = |usual: u32| args.subscribers.unwrap_or(usual) as usize;
    let prefix = args.topic.as_str();
    match scenario {
        Scenario::FanIn => flow(args, "fan-in", door, Plan::fan_in(prefix, publishers(100), subscribers(1))),
        Scenario::FanOut => flow(args, "fan-out", door, Plan::fan_out(prefix, publishers(1), subscribers(100))),
        Scenario::Pairs => flow(args, "pairs", door, Plan::pairs(prefix, publishers(100))),
        Scenario::Wildcards => flow(args, "wildcards", door, Plan::wildcards(prefix, publishers(10))),
        Scenario::Idle => {
            let stock = stock(args, 10_000);
            door::reserve(stock.count + 1)?;
            stock.idle(door)
        }
        Scenario::Retained => stock(args, 100_000).retained(door),
        Scenario::Queued => {
            let half = match args.only {
                None => Half::Both,
                Some(Only::Fill) => Half::Fill,
                Some(Only::Drain) => Half::Drain,
            };
            stock(args, 100_000).queued(door, half)
        }
    }
}

fn flow(args: &Args, name: &'static str, door: &Door, plan: Plan) -> Result<Report, Failure> {
    let (publishers, subscribers) = (plan.publishers.len(), plan.subscribers.len());
    if plan.sequence == plan::Sequence::Everybody && publishers * subscribers > SEQUENCES_MAX {
        return Err(Failure::new(format!(
            "{publishers} publishers and {subscribers} subscribers who hear each other are too many: together no more \
             than {SEQUENCES_MAX}, one multiplied by the other"
        )));
    }
    door::reserve(publishers + subscribers)?;
    let drive = Drive {
        version: args.protocol_version,
        qos: args.qos,
        bytes: args.size as usize,
        window: args.window,
        warm_up: args.warm_up,
        measured: args.seconds,
        rate: args.rate.map(f64::from),
        pid: args.pid,
        is_watched: !args.quiet && args.seconds + args.warm_up > WATCHED,
    };
    let outcome = Flow::prepare(door, plan, drive)?.run(name)?;
    if let Some(trouble) = outcome.trouble.filter(|_| !args.quiet) {
        warn!("{name}: connections ended, the first because: {trouble}");
    }
    Ok(outcome.report)
}

fn stock(args: &Args, usual: u32) -> Stock {
    let count = args.count.unwrap_or(usual);
    Stock {
        version: args.protocol_version,
        count: count as usize,
        bytes: args.size as usize,
        window: args.window.max(200),
        prefix: args.topic.clone(),
        pid: args.pid,
        is_watched: !args.quiet && count >= WATCHED_COUNT,
    }
}
