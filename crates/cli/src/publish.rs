//! `midge pub`: publish one message, one for each line of standard input, or one many times.
use crate::client::arguments::ClientArgs;
use crate::client::connect::{Needs, Plan, bytes};
use crate::client::lines::Lines;
use crate::client::session::{Session, Woken, ended, refused};
use crate::failure::Failure;
use host::mqtt::client::{Cause, Dropped, Event};
use host::mqtt::packet::{Disconnect, Publish};
use host::mqtt::{QoS, ReasonCode, Topic, TopicBuf};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Topic to publish on.
    #[arg(short, long, allow_hyphen_values = true, required_unless_present = "url")]
    pub(crate) topic: Option<String>,
    /// Have the broker keep the message for later subscribers.
    #[arg(short, long)]
    pub(crate) retain: bool,
    #[command(flatten)]
    pub(crate) payload: Payload,
    /// Publish the message this many times.
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "stdin_line")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Seconds from one delivery to the next publish of --repeat, fractions allowed.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) repeat_delay: Duration,
}

/// Where the payload comes from: exactly one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Payload {
    /// The payload.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) message: Option<OsString>,
    /// A payload of no bytes.
    #[arg(short, long)]
    pub(crate) null_message: bool,
    /// Each line of standard input is a message.
    #[arg(short = 'l', long)]
    pub(crate) stdin_line: bool,
    /// All of standard input is one message.
    #[arg(short = 's', long)]
    pub(crate) stdin_file: bool,
    /// The content of a file.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) file: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let secs = text.parse().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    secs.ok_or_else(|| "write a number of seconds, such as 0.5".into())
}

/// Checks everything, then publishes; `--quiet` silences only what goes wrong with the broker.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let plan = Plan::new(&args.client, Needs::AnyVersion)?;
    let topic = args.topic.as_deref().or(plan.topic.as_deref()).unwrap_or_default();
    let topic = Topic::parse(topic).map_err(|why| Failure::new(format!("-t '{topic}': {why}")))?.to_buf();
    if plan.properties.publish.publish().topic_alias.is_some() && args.client.qos != QoS::AtMostOnce {
        let why = "an alias does not outlive its connection, as messages of QoS 1 and 2 do: leave it out or use -q 0";
        return Err(Failure::new(format!("-D publish topic-alias: {why}")));
    }
    let source = Source::open(args)?;
    let quiet = args.client.quiet;
    let (qos, retain) = (args.client.qos, args.retain);
    let published = Session::open(&plan, args.client.debug).and_then(|session| {
        let ahead = args.client.max_inflight;
        let publisher = Publisher { session, plan, topic, qos, retain, source, quiet, lost: None };
        publisher.run(ahead)
    });
    published.map_err(|failure| if quiet { failure.silent() } else { failure })
}

/// What is left to be published.
enum Source {
    /// One payload, so many times more.
    Payload { payload: Vec<u8>, left: u32, delay: Duration, not_before: Option<Instant> },
    /// Lines read and not yet published; `None` once the input has ended.
    Input { waiting: VecDeque<Vec<u8>>, lines: Option<Lines> },
}

impl Source {
    fn open(args: &Args) -> Result<Self, Failure> {
        let payload = match &args.payload {
            Payload { stdin_line: true, .. } => return Ok(Self::Input { waiting: VecDeque::new(), lines: None }),
            Payload { message: Some(message), .. } => bytes(message),
            Payload { file: Some(path), .. } => std::fs::read(path)
                .map_err(|error| Failure::new(format!("cannot read the file \"{}\": {error}", path.display())))?,
            Payload { stdin_file: true, .. } => {
                let mut payload = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut payload);
                read.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
                if payload.is_empty() {
                    return Err(Failure::new("standard input is empty; an empty message is sent with -n"));
                }
                payload
            }
            Payload { .. } => Vec::new(),
        };
        Ok(Self::Payload { payload, left: args.repeat, delay: args.repeat_delay, not_before: None })
    }

    fn is_exhausted(&self) -> bool {
        match self {
            Self::Payload { left, .. } => *left == 0,
            Self::Input { waiting, lines } => waiting.is_empty() && lines.is_none(),
        }
    }

    /// When the next message may go out, if it is time that it waits for.
    fn wanted_at(&self) -> Option<Instant> {
        match self {
            Self::Payload { left: 1.., not_before, .. } => *not_before,
            Self::Payload { .. } | Self::Input { .. } => None,
        }
    }
}

struct Publisher {
    session: Session,
    plan: Plan,
    topic: TopicBuf,
    qos: QoS,
    retain: bool,
    source: Source,
    quiet: bool,
    /// What refused a message that was read already.
    lost: Option<Failure>,
}

impl Publisher {
    fn run(mut self, ahead: u16) -> Result<ExitCode, Failure> {
        if let Source::Input { lines, .. } = &mut self.source {
            *lines = Some(Lines::read(ahead, self.session.waker())?);
        }
        loop {
            while let Some(event) = self.session.client.poll_event() {
                self.act(event)?;
            }
            self.publish()?;
            if self.source.is_exhausted() && self.session.client.unacknowledged() == 0 {
                break;
            }
            match self.session.wait(self.source.wanted_at()) {
                Woken::Traffic | Woken::Deadline => {}
                Woken::Line(line) => {
                    if let Source::Input { waiting, .. } = &mut self.source {
                        waiting.push_back(line);
                    }
                }
                Woken::EndOfInput(how) => {
                    how.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
                    if let Source::Input { lines, .. } = &mut self.source {
                        *lines = None;
                    }
                }
                Woken::Interrupted => {
                    self.lost = Some(Failure::new("interrupted before everything was published"));
                    break;
                }
            }
        }
        let properties = self.plan.properties.disconnect.disconnect();
        self.session.finish(&Disconnect { reason: ReasonCode::Success, properties })?;
        self.lost.map_or(Ok(ExitCode::SUCCESS), Err)
    }

    fn act(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Refused { reason, text } => {
                return Err(refused(self.plan.options.version, reason, text.as_deref()));
            }
            Event::Acknowledged { reason, .. } => {
                // mosquitto_pub warns and goes on, and so do scripts that count on its exit code.
                if reason.is_error() && !self.quiet {
                    warn!("Warning: the broker refuses a message: {}", reason.text());
                }
                self.delivered();
            }
            Event::Dropped { why, .. } => return Err(Failure::new(dropped(why))),
            // As mosquitto_pub: only a stream of lines outlives its connection.
            Event::Closed(cause) => match (&self.source, &cause) {
                (Source::Input { .. }, Cause::Transport | Cause::Timeout) => self.session.retry(),
                (Source::Input { .. } | Source::Payload { .. }, _) => return Err(ended(&cause)),
            },
            Event::Connected(_)
            | Event::Message(_)
            | Event::PassedOver { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Unanswered { .. } => {}
        }
        Ok(())
    }

    /// Publishes as much as the source and the window allow.
    fn publish(&mut self) -> Result<(), Failure> {
        while self.session.client.is_online() {
            let payload = match &mut self.source {
                Source::Payload { left: 0, .. } => return Ok(()),
                // The next repetition waits for the delivery of the last one.
                Source::Payload { .. } if self.session.client.unacknowledged() > 0 => return Ok(()),
                Source::Payload { not_before: Some(at), .. } if *at > Instant::now() => return Ok(()),
                Source::Payload { payload, left, .. } => {
                    *left -= 1;
                    payload.clone()
                }
                Source::Input { waiting, .. } => match waiting.pop_front() {
                    Some(line) => line,
                    None => return Ok(()),
                },
            };
            let publish = Publish {
                qos: self.qos,
                retain: self.retain,
                properties: self.plan.properties.publish.publish(),
                ..Publish::new(self.topic.borrow(), &payload)
            };
            let now = self.session.now();
            self.session.client.publish(now, &publish).map_err(|why| Failure::new(format!("PUBLISH: {why}")))?;
            if self.qos == QoS::AtMostOnce {
                self.delivered();
            }
        }
        Ok(())
    }

    /// One message is the broker's: the next line may be read, the next repetition is due after its delay.
    fn delivered(&mut self) {
        match &mut self.source {
            Source::Payload { delay, not_before, .. } => *not_before = Some(Instant::now() + *delay),
            Source::Input { lines: Some(lines), .. } => lines.more(),
            Source::Input { lines: None, .. } => {}
        }
    }
}

fn dropped(why: Dropped) -> &'static str {
    match why {
        Dropped::Expired => "the message expired before it could be sent",
        Dropped::TooLarge => "the message is larger than the broker accepts",
        Dropped::QoS => "the broker does not support this QoS: try a lower one with -q",
        Dropped::Retain => "the broker keeps no retained messages: leave -r out",
    }
}
