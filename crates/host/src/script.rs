//! What a script has around it: the web, another broker, the time of day, its file. Each slow or foreign thing has a
//! thread of its own and tells the driver by [`News`].
pub mod remote;
mod trust;
pub mod web;

use crate::clock::Clock;
use crate::config::{Config, Level, Zone};
use crate::driver::{Bus, Command};
use crate::log::Log;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mqtt::{Instant, Now};
use node::rules::{self, Output, Reply, Side};
use node::script::{Begin, Input};
use node::{Input as NodeInput, Node};
use remote::{Order, Remote};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use web::Web;

/// What threads tell the driver for the script.
#[derive(Debug)]
pub enum News {
    /// An HTTP request has ended.
    Web(web::Answer),
    /// Something about the remote broker.
    Remote(remote::News),
}

/// How often the offset of the time zone is looked at: it changes twice a year, at a whole quarter of an hour.
const ZONE_INTERVAL: Duration = Duration::from_secs(15);

/// The world of one script.
pub struct Surroundings {
    file: Option<PathBuf>,
    bytes_max: u64,
    logging: bool,
    zone: TimeZone,
    clock_set: Option<rules::Clock>,
    look_at_zone: Instant,
    web: Web,
    remote: Option<Remote>,
    place: String,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Starts what the configuration asks for. `seed` spreads the pauses between attempts.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn start(config: &Config, site: &str, seed: u64, clock: Clock, bus: Bus) -> io::Result<Self> {
        let own = &config.script;
        let limits = crate::limits::script(config).limits;
        let teller = bus.clone();
        let web = Web::new(&limits, own.ca_file.clone(), move |answer| {
            teller.send(Command::Script(News::Web(answer)));
        });
        let remote = own.remote.as_ref().map(|place| {
            let id = own.remote_id.clone().unwrap_or_else(|| format!("midge-{site}"));
            Remote::start(place, (id, own.ca_file.clone()), seed, clock, move |news| {
                bus.send(Command::Script(News::Remote(news)));
            })
        });
        Ok(Self {
            file: own.file.clone(),
            bytes_max: limits.script_bytes as u64,
            logging: own.logging,
            zone: time_zone(&own.timezone),
            clock_set: None,
            look_at_zone: Instant::default(),
            web,
            remote: remote.transpose()?,
            place: own.remote.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// The script begins: the one of the file, else the one that is stored.
    pub fn begin(&mut self, now: Now, node: &mut Node, log: &mut Log) {
        self.tell_time(now, node);
        let logging = if self.logging { rules::Logging::On } else { rules::Logging::Off };
        node.handle(now, NodeInput::Script(Input::Logging(logging)));
        self.reload(now, node, log, Begin::NextStart);
        node.handle(now, NodeInput::Script(Input::Start));
    }

    /// Reads the file again, if there is one. What can't be read or has errors replaces nothing.
    pub fn reload(&mut self, now: Now, node: &mut Node, log: &mut Log, begin: Begin) {
        let Some(path) = &self.file else { return };
        match read_script(path, self.bytes_max) {
            Ok(text) if node.script().text() == Some(&text) => {}
            Ok(text) => node.handle(now, NodeInput::Script(Input::Install { text: &text, begin })),
            Err(error) => log.line(now.wall, Level::Error, format_args!("Script {}: {error}", path.display())),
        }
    }

    /// When [`Surroundings::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Instant {
        self.look_at_zone
    }

    /// The time has come.
    pub fn handle_timeout(&mut self, now: Now, node: &mut Node) {
        if self.look_at_zone <= now.instant {
            self.tell_time(now, node);
        }
    }

    fn tell_time(&mut self, now: Now, node: &mut Node) {
        self.look_at_zone = now.instant + ZONE_INTERVAL;
        let at = i64::try_from(now.wall.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let seconds = at.map_or(0, |at| self.zone.to_offset(at).seconds());
        let clock = rules::Clock::Set { offset_millis: i64::from(seconds) * 1000 };
        if self.clock_set.replace(clock) != Some(clock) {
            node.handle(now, NodeInput::Script(Input::Clock(clock)));
        }
    }

    /// Something came from outside.
    pub fn news(&mut self, now: Now, news: News, node: &mut Node, log: &mut Log) {
        match news {
            News::Web(web::Answer { id, url, outcome }) => {
                let reply = match &outcome {
                    Ok((code, body)) => Reply::Answered { code: *code, body },
                    Err(why) => {
                        log.line(now.wall, Level::Info, format_args!("Script: no answer from {url}: {why}"));
                        Reply::Failed
                    }
                };
                node.handle(now, NodeInput::Script(Input::Http { id, reply }));
            }
            News::Remote(remote::News::Connected) => {
                log.line(now.wall, Level::Notice, format_args!("Script: connected to {}.", self.place));
                node.handle(now, NodeInput::Script(Input::Remote { connected: true }));
            }
            News::Remote(remote::News::Disconnected { why }) => {
                log.line(now.wall, Level::Notice, format_args!("Script: no connection to {}: {why}.", self.place));
                node.handle(now, NodeInput::Script(Input::Remote { connected: false }));
            }
            News::Remote(remote::News::Arrived(arrival)) => {
                let (message, qos, retain) = (&arrival.message, arrival.qos, arrival.retain);
                node.handle(now, NodeInput::Script(Input::Message { message, qos, retain }));
            }
        }
    }

    /// Does what the script wants.
    pub fn perform(&mut self, now: Now, output: Output, log: &mut Log) {
        match output {
            Output::Http(request) => self.web.send(request),
            // The thread ends by itself; nobody waits for what it says.
            Output::HttpCancel(_) => {}
            Output::Publish { side: Side::Remote, topic, payload, qos, retain } => {
                self.order(Order::Publish { topic, payload, qos, retain });
            }
            Output::Subscribe { side: Side::Remote, filter, qos, retained: _ } => {
                self.order(Order::Subscribe { filter, qos });
            }
            Output::Unsubscribe { side: Side::Remote, filter } => self.order(Order::Unsubscribe { filter }),
            Output::Print(text) | Output::Log(text) => {
                for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()) {
                    log.line(now.wall, Level::Notice, format_args!("Script: {}", visible(line)));
                }
            }
            Output::System(command) => lacks(now, log, "the console", &String::from_utf8_lossy(&command)),
            Output::Config { name, .. } => lacks(now, log, "settings", &String::from_utf8_lossy(&name)),
            Output::PinMode { pin, .. } | Output::GpioOut { pin, .. } | Output::Pwm { pin, .. } => {
                lacks(now, log, "pins", &pin.to_string());
            }
            Output::Serial(_) => lacks(now, log, "a serial line", ""),
            // The node has taken care of these.
            Output::Publish { side: Side::Local, .. }
            | Output::Subscribe { side: Side::Local, .. }
            | Output::Unsubscribe { side: Side::Local, .. }
            | Output::Flash { .. }
            | Output::Fault(_) => {}
        }
    }

    fn order(&self, order: Order) {
        if let Some(remote) = &self.remote {
            remote.order(order);
        }
    }
}

/// A script uses what this site does not have.
fn lacks(now: Now, log: &mut Log, what: &str, which: &str) {
    log.line(now.wall, Level::Warning, format_args!("Script: this site has no {what}: {}", visible(which)));
}

/// Control characters could write lines of their own into a log.
fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\t' { '·' } else { character }).collect()
}

/// Reads a script, unless it is longer than scripts may be.
pub(crate) fn read_script(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("longer than {bytes_max} bytes, the limit script_bytes_max")));
    }
    Ok(text)
}

fn time_zone(zone: &Zone) -> TimeZone {
    match zone {
        Zone::System => TimeZone::system(),
        Zone::Named(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        Zone::Fixed { minutes } => {
            jiff::tz::Offset::from_seconds(i32::from(*minutes) * 60).map_or(TimeZone::UTC, TimeZone::fixed)
        }
    }
}
