//! `midge sub`: subscribe and print what arrives.
use crate::client::arguments::ClientArgs;
use crate::client::connect::{Needs, Plan};
use crate::client::format::{Format, NotJson, Printed};
use crate::client::session::{Session, Woken, ended, refused};
use crate::failure::Failure;
use host::mqtt::client::{Acknowledge, Cause, Event, Incoming};
use host::mqtt::packet::{Disconnect, FilterList, Publish, RetainHandling, SubscribeOptions, SubscriptionList};
use host::mqtt::property::{PublishProperties, SubscriptionIdList};
use host::mqtt::{Filter, FilterBuf, QoS, ReasonCode, Topic};
use jiff::Zoned;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Filter to subscribe to. Repeatable.
    #[arg(short, long = "topic", value_name = "FILTER", allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["url", "unsubscribe"])]
    pub(crate) topics: Vec<String>,
    /// Filter of what is not to be printed. Repeatable.
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) filter_out: Vec<String>,
    /// Filter to unsubscribe from. Repeatable.
    #[arg(short = 'U', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) unsubscribe: Vec<String>,
    /// Print the topic before each payload.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print each message by this format: %t topic, %p payload, %x in hexadecimal, %q QoS, %r retained, %l length,
    /// %I time, %U seconds since 1970, %j JSON, @X as strftime's %X, \n \t \0 \e; see `man mosquitto_sub`.
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    pub(crate) format: Option<String>,
    /// Print one JSON object for each message: short for -F %j.
    #[arg(long, conflicts_with_all = ["format", "verbose"])]
    pub(crate) json: bool,
    /// Spread JSON over several lines.
    #[arg(long)]
    pub(crate) pretty: bool,
    /// Add no end of line after a message.
    #[arg(short = 'N')]
    pub(crate) no_eol: bool,
    /// End after this many messages.
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// End after this many seconds; with 27 if no -C was satisfied.
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout_secs: Option<u32>,
    /// End as soon as the broker has confirmed the subscriptions.
    #[arg(short = 'E')]
    pub(crate) exit_after_subscribing: bool,
    /// Don't print retained messages.
    #[arg(short = 'R', conflicts_with = "retained_only")]
    pub(crate) no_retained: bool,
    /// Print only retained messages, and end at the first that is not.
    #[arg(long)]
    pub(crate) retained_only: bool,
    /// Clear every retained message that arrives and is not filtered out.
    #[arg(long)]
    pub(crate) remove_retained: bool,
    /// Ask for the RETAIN flag as it was published (MQTT 5).
    #[arg(long)]
    pub(crate) retain_as_published: bool,
    /// Print only about this percentage of the messages.
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percentage)]
    pub(crate) random_filter: f64,
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| "write a number from 0.1 to 100".into())
}

/// mosquitto_sub's code for `-W`.
const TIMED_OUT_CODE: u8 = 27;
/// How long the last requests of a client that is about to end may take.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(5);

/// Checks everything, then subscribes; `--quiet` silences only what goes wrong with the broker.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let needs = if args.retain_as_published { Needs::Version5("--retain-as-published") } else { Needs::AnyVersion };
    let mut plan = Plan::new(&args.client, needs)?;
    plan.options.acknowledge = Acknowledge::ByCaller;
    let wanted = Wanted::new(&args, plan.topic.as_deref())?;
    let printer = Printer::new(&args)?;
    let quiet = args.client.quiet;
    let subscribed = Session::open(&plan, args.client.debug).and_then(|session| {
        let deadline = args.timeout_secs.map(|secs| Instant::now() + Duration::from_secs(u64::from(secs)));
        let left = args.count;
        let subscriber = Subscriber { session, plan, wanted, printer, args, deadline, left, ending: None };
        subscriber.run()
    });
    subscribed.map_err(|failure| if quiet { failure.silent() } else { failure })
}

/// What is subscribed to and what is not shown of it.
struct Wanted {
    subscriptions: Option<SubscriptionList>,
    unsubscriptions: Option<FilterList>,
    hidden: Vec<FilterBuf>,
}

impl Wanted {
    fn new(args: &Args, topic_of_url: Option<&str>) -> Result<Self, Failure> {
        let options = SubscribeOptions {
            qos: args.client.qos,
            no_local: false,
            retain_as_published: args.retain_as_published,
            retain_handling: RetainHandling::Always,
        };
        let mut subscriptions = SubscriptionList::new();
        for text in args.topics.iter().map(String::as_str).chain(topic_of_url) {
            subscriptions.push(filter("-t", text)?, options);
        }
        let mut unsubscriptions = FilterList::new();
        for text in &args.unsubscribe {
            unsubscriptions.push(filter("-U", text)?);
        }
        let hidden =
            args.filter_out.iter().map(|text| filter("-T", text).map(Filter::to_buf)).collect::<Result<_, _>>()?;
        let any = !args.topics.is_empty() || topic_of_url.is_some();
        Ok(Self {
            subscriptions: any.then_some(subscriptions),
            unsubscriptions: (!args.unsubscribe.is_empty()).then_some(unsubscriptions),
            hidden,
        })
    }
}

fn filter<'a>(flag: &str, text: &'a str) -> Result<Filter<'a>, Failure> {
    Filter::parse(text).map_err(|why| Failure::new(format!("{flag} '{text}': {why}")))
}

/// Standard output and what goes there for each message.
struct Printer {
    format: Format,
    eol: bool,
    pretty: bool,
    percent: f64,
    line: Vec<u8>,
    out: BufWriter<Stdout>,
}

impl Printer {
    fn new(args: &Args) -> Result<Self, Failure> {
        let format = match &args.format {
            Some(format) => Format::parse(format).map_err(|why| Failure::new(format!("-F: {why}")))?,
            None if args.json => Format::json(),
            None if args.verbose => Format::topic_and_payload(),
            None => Format::payload(),
        };
        Ok(Self {
            format,
            eol: !args.no_eol,
            pretty: args.pretty,
            percent: args.random_filter,
            line: Vec::new(),
            out: BufWriter::new(io::stdout()),
        })
    }

    fn print(&mut self, topic: Topic<'_>, publish: &Publish<'_>) -> io::Result<()> {
        if !self.is_chosen() {
            return Ok(());
        }
        self.line.clear();
        let message = Printed { topic, publish, at: &Zoned::now(), pretty: self.pretty };
        if let Err(NotJson) = self.format.print(&message, &mut self.line) {
            warn!("Error: Message payload is not valid JSON on topic {topic}.");
        }
        if self.eol {
            self.line.push(b'\n');
        }
        self.out.write_all(&self.line)
    }

    /// `--random-filter`: the standard library's hash seeds are random enough to choose what to show.
    fn is_chosen(&self) -> bool {
        const PARTS: u64 = 1 << 32;
        let dice = (RandomState::new().hash_one(0) % PARTS) as f64 / PARTS as f64;
        self.percent >= 100.0 || dice * 100.0 < self.percent
    }
}

struct Subscriber {
    session: Session,
    plan: Plan,
    wanted: Wanted,
    printer: Printer,
    args: Args,
    deadline: Option<Instant>,
    /// Messages until `-C` is satisfied.
    left: Option<u32>,
    ending: Option<Ending>,
}

/// The client has what it wanted, or will not get it: only its last words are still awaited.
struct Ending {
    outcome: Result<ExitCode, Failure>,
    deadline: Instant,
}

impl Subscriber {
    fn run(mut self) -> Result<ExitCode, Failure> {
        loop {
            while let Some(event) = self.session.client.poll_event() {
                self.act(event)?;
            }
            if let Err(error) = self.printer.out.flush() {
                self.output_failed(&error);
            }
            let deadline = match &self.ending {
                Some(_) if self.session.client.unacknowledged() == 0 => break,
                Some(ending) => Some(ending.deadline),
                None => self.deadline,
            };
            match self.session.wait(deadline) {
                Woken::Traffic | Woken::Line(_) | Woken::EndOfInput(_) => {}
                Woken::Interrupted if self.ending.is_some() => break,
                Woken::Interrupted => self.end(Ok(ExitCode::SUCCESS)),
                Woken::Deadline if self.ending.is_some() => break,
                Woken::Deadline => self.end(Err(Failure::with_code(TIMED_OUT_CODE, "timed out"))),
            }
        }
        let properties = self.plan.properties.disconnect.disconnect();
        self.session.finish(&Disconnect { reason: ReasonCode::Success, properties })?;
        self.ending.map_or(Ok(ExitCode::SUCCESS), |ending| ending.outcome)
    }

    fn end(&mut self, outcome: Result<ExitCode, Failure>) {
        // The first reason counts: what arrives after it is not looked at.
        if self.ending.is_none() {
            self.ending = Some(Ending { outcome, deadline: Instant::now() + LAST_WORDS_PATIENCE });
        }
    }

    fn act(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Connected(_) => self.ask()?,
            Event::Refused { reason, text } => {
                return Err(refused(self.plan.options.version, reason, text.as_deref()));
            }
            Event::Subscribed { reasons, .. } => self.subscribed(&reasons),
            Event::Unsubscribed { .. } => {
                if self.args.exit_after_subscribing && self.wanted.subscriptions.is_none() {
                    self.end(Ok(ExitCode::SUCCESS));
                }
            }
            Event::Message(incoming) if self.ending.is_none() => {
                self.show(&incoming)?;
                // Goes out after the output is flushed; what comes after the end stays in the session.
                if let Some(id) = incoming.packet_id {
                    let now = self.session.now();
                    self.session.client.acknowledge(now, incoming.message.qos(), id);
                }
            }
            Event::Message(_) => {}
            Event::Closed(_) if self.ending.is_some() => {}
            Event::Closed(Cause::Transport | Cause::Timeout) => self.session.retry(),
            Event::Closed(cause) => return Err(ended(&cause)),
            Event::Acknowledged { .. }
            | Event::Dropped { .. }
            | Event::PassedOver { .. }
            | Event::Unanswered { .. } => {}
        }
        Ok(())
    }

    /// Subscribes first, as mosquitto_sub does.
    fn ask(&mut self) -> Result<(), Failure> {
        let Self { session, plan, wanted, .. } = self;
        let now = session.now();
        if let Some(subscriptions) = &wanted.subscriptions {
            let properties = plan.properties.subscribe.subscribe();
            let asked = session.client.subscribe(now, subscriptions.view(), properties);
            asked.map_err(|why| Failure::new(format!("SUBSCRIBE: {why}")))?;
        }
        if let Some(unsubscriptions) = &wanted.unsubscriptions {
            let user = plan.properties.unsubscribe.user();
            let asked = session.client.unsubscribe(now, unsubscriptions.view(), user);
            asked.map_err(|why| Failure::new(format!("UNSUBSCRIBE: {why}")))?;
        }
        Ok(())
    }

    fn subscribed(&mut self, reasons: &[ReasonCode]) {
        if self.args.client.debug {
            let codes: Vec<String> = reasons.iter().map(|reason| (*reason as u8).to_string()).collect();
            say!("Subscribed: {}", codes.join(", "));
        }
        if reasons.iter().all(|reason| reason.is_error()) {
            if !self.args.client.quiet {
                warn!("All subscription requests were denied.");
            }
            self.end(Ok(ExitCode::SUCCESS));
        } else if self.args.exit_after_subscribing {
            self.end(Ok(ExitCode::SUCCESS));
        }
    }

    /// The order of the questions is mosquitto_sub's: what is hidden is neither cleared nor counted.
    fn show(&mut self, incoming: &Incoming) -> Result<(), Failure> {
        let message = &incoming.message;
        if self.wanted.hidden.iter().any(|hidden| hidden.borrow().matches(message.topic())) {
            return Ok(());
        }
        if self.args.remove_retained && message.retain() {
            self.clear(message.topic())?;
        }
        if self.args.retained_only && !message.retain() {
            self.end(Ok(ExitCode::SUCCESS));
            return Ok(());
        }
        if self.args.no_retained && message.retain() {
            return Ok(());
        }
        let mut subscription_ids = SubscriptionIdList::new();
        incoming.subscription_ids.iter().for_each(|id| subscription_ids.push(*id));
        let said = message.to_publish(self.session.now().wall);
        let properties = PublishProperties { subscription_ids: subscription_ids.view(), ..said.properties };
        let publish = Publish { packet_id: incoming.packet_id, properties, ..said };
        if let Err(error) = self.printer.print(message.topic(), &publish) {
            self.output_failed(&error);
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.end(Ok(ExitCode::SUCCESS));
            }
        }
        Ok(())
    }

    fn clear(&mut self, topic: Topic<'_>) -> Result<(), Failure> {
        let empty = Publish { retain: true, qos: QoS::AtLeastOnce, ..Publish::new(topic, b"") };
        let asked = self.session.client.publish(self.session.now(), &empty);
        asked.map(drop).map_err(|why| Failure::new(format!("PUBLISH: {why}")))
    }

    /// A reader that has seen enough (`midge sub … | head -1`) is no failure.
    fn output_failed(&mut self, error: &io::Error) {
        self.end(match error.kind() {
            ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            _ => Err(Failure::new(format!("cannot write to standard output: {error}"))),
        });
    }
}
