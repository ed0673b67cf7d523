//! What `midge client`, `midge retained` and `midge sub ls` show: pages of lines, so that no question is long.
use mqtt::{Filter, Message, Now};
use node::Node;
use serde::{Deserialize, Serialize};

/// Lines of one answer at most.
pub const PAGE_MAX: usize = 1_000;
/// Bytes of a payload that are shown.
const PAYLOAD_SHOWN: usize = 256;

/// Some lines, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In order.
    pub lines: Vec<T>,
    /// What to ask for next, if there are more.
    pub next: Option<String>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLine {
    /// Client identifier.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// Its address, while it is connected.
    pub address: Option<String>,
    /// Whether the session outlives its connection.
    pub durable: bool,
    /// Its subscriptions.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages that it is owed.
    pub queued: usize,
}

/// One retained message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedLine {
    /// Its topic.
    pub topic: String,
    /// QoS of its publisher.
    pub qos: u8,
    /// Bytes of the payload.
    pub bytes: usize,
    /// The payload's beginning, as far as it is text.
    pub payload: String,
    /// Seconds until it expires.
    pub expires_secs: Option<u64>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionLine {
    /// Whose.
    pub client_id: String,
    /// What, `$share/…` included.
    pub filter: String,
    /// Highest QoS.
    pub qos: u8,
    /// Its own messages are not sent back to it.
    pub no_local: bool,
    /// The RETAIN flag arrives as it was published.
    pub retain_as_published: bool,
}

/// The sessions behind `after`, by client identifier.
pub(crate) fn clients(node: &Node, after: Option<&str>) -> Page<ClientLine> {
    let all = node.broker().sessions();
    let mut sessions: Vec<_> = all.filter(|session| after.is_none_or(|after| session.client_id > after)).collect();
    sessions.sort_unstable_by_key(|session| session.client_id);
    let next = sessions.get(PAGE_MAX).and(sessions.get(PAGE_MAX - 1)).map(|last| last.client_id.to_owned());
    let lines = sessions.iter().take(PAGE_MAX).map(|session| ClientLine {
        client_id: session.client_id.to_owned(),
        user: session.user.map(str::to_owned),
        address: session.origin.map(str::to_owned),
        durable: session.durable,
        subscriptions: session.subscriptions,
        queued: session.queued,
    });
    Page { lines: lines.collect(), next }
}

/// The retained messages behind `after` whose topics match.
pub(crate) fn retained(now: Now, node: &Node, filter: Filter<'_>, after: Option<&str>) -> Page<RetainedLine> {
    let behind = |message: &&Message| after.is_none_or(|after| message.topic().as_str() > after);
    let wanted = node.broker().retained_iter().filter(behind).filter(|message| filter.matches(message.topic()));
    let mut lines: Vec<RetainedLine> = wanted.take(PAGE_MAX + 1).map(|message| retained_line(now, message)).collect();
    let more = lines.len() > PAGE_MAX;
    lines.truncate(PAGE_MAX);
    let next = lines.last().filter(|_| more).map(|line| line.topic.clone());
    Page { lines, next }
}

fn retained_line(now: Now, message: &Message) -> RetainedLine {
    let payload = message.payload();
    RetainedLine {
        topic: message.topic().as_str().to_owned(),
        qos: message.qos() as u8,
        bytes: payload.len(),
        payload: String::from_utf8_lossy(&payload[..payload.len().min(PAYLOAD_SHOWN)]).into_owned(),
        expires_secs: message.expires().map(|at| at.since(now.wall).as_secs()),
    }
}

/// The subscriptions of clients behind `after`; a client's stand on one page.
pub(crate) fn subscriptions(node: &Node, after: Option<&str>) -> Page<SubscriptionLine> {
    let page = clients(node, after);
    let broker = node.broker();
    let (mut lines, mut last) = (Vec::new(), None);
    for client in &page.lines {
        if lines.len() >= PAGE_MAX {
            return Page { lines, next: last };
        }
        lines.extend(broker.subscriptions(&client.client_id).map(|subscription| SubscriptionLine {
            client_id: client.client_id.clone(),
            filter: subscription.filter,
            qos: subscription.options.qos as u8,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
        }));
        last = Some(client.client_id.clone());
    }
    Page { lines, next: page.next }
}
