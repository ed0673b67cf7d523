//! rumqttc over one kind of listener: what `tests/real/foreign.py` asks of every client.
//!
//!     midge-test-rumqttc WAY PORT FOLDER      WAY: tcp, tls, known, ws, wss, wss-known
use rumqttc::{TlsConfiguration, Transport};
use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// Below what rumqttc takes unless it is told otherwise.
const SIZES: [usize; 5] = [0, 1, 125, 126, 5_000];

#[derive(Clone)]
struct Way {
    name: String,
    port: u16,
    folder: String,
}

impl Way {
    fn is_secure(&self) -> bool {
        !matches!(self.name.as_str(), "tcp" | "ws")
    }

    fn host(&self) -> String {
        match (self.name.starts_with("ws"), self.is_secure()) {
            (false, _) => "localhost".into(),
            (true, false) => format!("ws://localhost:{}/mqtt", self.port),
            (true, true) => format!("wss://localhost:{}/mqtt", self.port),
        }
    }

    fn transport(&self) -> Transport {
        let read = |name: &str| fs::read(format!("{}/{name}", self.folder)).unwrap();
        let client_auth = self.name.ends_with("known").then(|| (read("anna.pem"), read("anna.key")));
        let tls = || TlsConfiguration::Simple { ca: read("ca.pem"), alpn: None, client_auth };
        match (self.name.starts_with("ws"), self.is_secure()) {
            (false, false) => Transport::Tcp,
            (false, true) => Transport::tls_with_config(tls()),
            (true, false) => Transport::Ws,
            (true, true) => Transport::wss_with_config(tls()),
        }
    }
}

/// What a client hears of.
#[derive(Debug)]
enum News {
    Connected { present: bool },
    Subscribed,
    Acknowledged,
    Message { topic: String, payload: Vec<u8>, qos: u8, retain: bool, properties: Vec<String> },
    Failed(String),
}

/// The next news of a kind.
fn wait<T>(news: &Receiver<News>, what: &str, mut wanted: impl FnMut(News) -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match news.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(News::Failed(why)) => panic!("{what}: {why}"),
            Ok(news) => {
                if let Some(found) = wanted(news) {
                    return found;
                }
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// The same conversation for both versions of the protocol: their types have the same names in two modules.
macro_rules! conversation {
    ($name:ident, $api:ident, $prepare:ident, $clean:ident, $will:expr, $message:expr, $publish:expr) => {
        mod $name {
            use super::$api::{Client, Connection, Event, Incoming, LastWill, MqttOptions, QoS};
            use super::*;

            pub(super) struct Device {
                client: Client,
                news: Receiver<News>,
            }

            fn listen(mut connection: Connection, news: &Sender<News>) {
                for event in connection.iter() {
                    let said = match event {
                        Ok(Event::Incoming(Incoming::ConnAck(ack))) => News::Connected { present: ack.session_present },
                        Ok(Event::Incoming(Incoming::SubAck(_))) => News::Subscribed,
                        Ok(Event::Incoming(Incoming::PubAck(_) | Incoming::PubComp(_))) => News::Acknowledged,
                        Ok(Event::Incoming(Incoming::Publish(publish))) => $message(publish),
                        Ok(_) => continue,
                        Err(error) => {
                            let _ = news.send(News::Failed(error.to_string()));
                            return;
                        }
                    };
                    if news.send(said).is_err() {
                        return;
                    }
                }
            }

            pub(super) fn connect(way: &Way, id: &str, clean: bool, will: Option<&str>) -> (Device, bool) {
                let mut options = MqttOptions::new(id, way.host(), way.port);
                options.set_transport(way.transport());
                options.$clean(clean);
                if let Some(topic) = will {
                    options.set_last_will($will(topic));
                }
                super::$prepare(&mut options, clean);
                let (client, connection) = Client::new(options, 100);
                let (tell, news) = channel();
                std::thread::spawn(move || listen(connection, &tell));
                let present = wait(&news, "CONNACK", |news| match news {
                    News::Connected { present } => Some(present),
                    _ => None,
                });
                (Device { client, news }, present)
            }

            impl Device {
                fn subscribe(&self, filter: &str, qos: QoS) {
                    self.client.subscribe(filter, qos).unwrap();
                    wait(&self.news, "SUBACK", |news| matches!(news, News::Subscribed).then_some(()));
                }

                fn publish(&self, topic: &str, qos: QoS, retain: bool, payload: Vec<u8>) {
                    $publish(&self.client, topic, qos, retain, payload);
                    if qos != QoS::AtMostOnce {
                        wait(&self.news, "PUBACK", |news| matches!(news, News::Acknowledged).then_some(()));
                    }
                }

                fn message(&self) -> (String, Vec<u8>, u8, bool, Vec<String>) {
                    wait(&self.news, "a message", |news| match news {
                        News::Message { topic, payload, qos, retain, properties } => {
                            Some((topic, payload, qos, retain, properties))
                        }
                        _ => None,
                    })
                }
            }

            pub(super) fn converse(way: &Way) {
                let tag = format!("rumqttc-{}-{}", stringify!($name), way.name);
                let id = |name: &str| format!("{name}-{tag}");
                let (ear, _) = connect(way, &id("ear"), true, None);
                ear.subscribe(&format!("{tag}/#"), QoS::ExactlyOnce);
                let (mouth, _) = connect(way, &id("mouth"), true, Some(&format!("{tag}/will")));
                for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
                    for size in SIZES {
                        let payload = vec![b'a' + number as u8; size];
                        mouth.publish(&format!("{tag}/data"), qos, false, payload.clone());
                        let (topic, heard, at, retain, properties) = ear.message();
                        assert_eq!((topic, heard, at, retain), (format!("{tag}/data"), payload, qos as u8, false));
                        super::check_properties(stringify!($name), &properties);
                    }
                }
                mouth.publish(&format!("{tag}/kept"), QoS::AtLeastOnce, true, b"value".to_vec());
                assert_eq!(ear.message().1, b"value");
                let (late, _) = connect(way, &id("late"), true, None);
                late.subscribe(&format!("{tag}/kept"), QoS::AtMostOnce);
                let (_, payload, _, retain, _) = late.message();
                assert_eq!((payload.as_slice(), retain), (b"value".as_slice(), true));
                // A second client of its name ends its connection, and that is no orderly end.
                let (other, _) = connect(way, &id("mouth"), true, None);
                assert_eq!(ear.message().0, format!("{tag}/will"));
                let (sleeper, present) = connect(way, &id("sleeper"), false, None);
                assert!(!present);
                sleeper.subscribe(&format!("{tag}/sleep"), QoS::AtLeastOnce);
                sleeper.client.disconnect().unwrap();
                std::thread::sleep(Duration::from_millis(200));
                other.publish(&format!("{tag}/sleep"), QoS::AtLeastOnce, false, b"wake".to_vec());
                let (again, present) = connect(way, &id("sleeper"), false, None);
                assert!(present, "the session");
                assert_eq!(again.message().1, b"wake");
            }
        }
    };
}

conversation!(
    v4,
    api4,
    nothing_more,
    set_clean_session,
    |topic: &str| LastWill::new(topic, "gone", QoS::AtLeastOnce, false),
    |publish: rumqttc::Publish| News::Message {
        topic: publish.topic,
        payload: publish.payload.to_vec(),
        qos: publish.qos as u8,
        retain: publish.retain,
        properties: Vec::new(),
    },
    |client: &Client, topic: &str, qos, retain, payload: Vec<u8>| client.publish(topic, qos, retain, payload).unwrap()
);

conversation!(
    v5,
    api5,
    expiry,
    set_clean_start,
    |topic: &str| LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None),
    |publish: rumqttc::v5::mqttbytes::v5::Publish| {
        let found = publish.properties.unwrap_or_default();
        let mut properties: Vec<String> =
            found.user_properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
        properties.extend(found.content_type);
        properties.extend(found.correlation_data.map(|data| format!("{data:?}")));
        News::Message {
            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties,
        }
    },
    |client: &Client, topic: &str, qos, retain, payload: Vec<u8>| {
        let properties = rumqttc::v5::mqttbytes::v5::PublishProperties {
            content_type: Some("text".into()),
            correlation_data: Some(vec![0, 255].into()),
            user_properties: vec![("a".into(), "b".into()), ("a".into(), "c".into())],
            ..Default::default()
        };
        client.publish_with_properties(topic, qos, retain, payload, properties).unwrap()
    }
);

mod api4 {
    pub(super) use rumqttc::{Client, Connection, Event, Incoming, LastWill, MqttOptions, QoS};
}

mod api5 {
    pub(super) use rumqttc::v5::mqttbytes::QoS;
    pub(super) use rumqttc::v5::mqttbytes::v5::LastWill;
    pub(super) use rumqttc::v5::{Client, Connection, Event, Incoming, MqttOptions};
}

fn nothing_more(_: &mut rumqttc::MqttOptions, _: bool) {}

fn expiry(options: &mut rumqttc::v5::MqttOptions, clean: bool) {
    options.set_session_expiry_interval((!clean).then_some(600));
}

fn check_properties(version: &str, properties: &[String]) {
    match version {
        "v5" => assert_eq!(properties, ["a=b", "a=c", "text", r#"b"\0\xff""#]),
        _ => assert!(properties.is_empty()),
    }
}

fn main() {
    let [name, port, folder] = std::env::args().skip(1).collect::<Vec<_>>().try_into().unwrap();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let way = Way { name, port: port.parse().unwrap(), folder };
    v4::converse(&way);
    v5::converse(&way);
}
