//! What the demo shows: every kind of message, both ways.
use super::device::Device;
use host::mqtt::QoS;
use host::mqtt::client::WillOptions;
use host::mqtt::{Topic, TopicError};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One site as the story sees it.
pub(super) struct Place {
    /// Its name.
    pub(super) name: &'static str,
    /// Where its devices connect.
    pub(super) address: SocketAddr,
}

/// Time in which something that must not come would have come.
const QUIET: Duration = Duration::from_millis(300);

/// Runs the whole story and tells it line by line.
pub(super) fn tell(places: &[Place; 2], say: &mut dyn FnMut(&str)) -> io::Result<()> {
    for (here, there) in [(&places[0], &places[1]), (&places[1], &places[0])] {
        messages(here, there, say)?;
    }
    retained(&places[0], &places[1], say)?;
    will(&places[1], &places[0], say)
}

fn messages(here: &Place, there: &Place, say: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut sensor = Device::connect(here.address, &format!("sensor-{}", here.name), None)?;
    let mut display = Device::connect(there.address, &format!("display-{}", there.name), None)?;
    display.subscribe(&format!("{}/#", here.name))?;
    settle(&mut sensor, &mut display, here.name)?;
    for (qos, word) in [(QoS::AtMostOnce, "0"), (QoS::AtLeastOnce, "1"), (QoS::ExactlyOnce, "2")] {
        let topic = format!("{}/temperature/qos{word}", here.name);
        let sent = Instant::now();
        sensor.publish(&topic, "21.5", qos, false)?;
        let message = display.expect(&topic)?;
        let took = sent.elapsed();
        check(message.payload() == b"21.5", "the payload changed on its way")?;
        say(&format!("QoS {word}   {} -> {}   {topic} 21.5   {:.1} ms", here.name, there.name, millis(took)));
    }
    let more = display.leftovers(QUIET)?;
    check(more.is_empty(), "a message came twice")
}

/// Waits until what `display` wants is known at the other site: sends probes until one arrives.
fn settle(sensor: &mut Device, display: &mut Device, name: &str) -> io::Result<()> {
    let topic = format!("{name}/hello");
    for _ in 0..50 {
        sensor.publish(&topic, "anybody there?", QoS::AtMostOnce, false)?;
        if !display.leftovers(Duration::from_millis(50))?.is_empty() {
            display.leftovers(Duration::from_millis(100))?;
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the other site never learnt what is wanted here"))
}

fn retained(here: &Place, there: &Place, say: &mut dyn FnMut(&str)) -> io::Result<()> {
    let topic = format!("{}/door", here.name);
    Device::connect(here.address, "door", None)?.publish(&topic, "closed", QoS::AtLeastOnce, true)?;
    // Nobody at the other site asked for it before it was published: that is what retained values are for.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut late = Device::connect(there.address, "late-comer", None)?;
        late.subscribe(&topic)?;
        if let Some(message) = late.leftovers(Duration::from_millis(100))?.first() {
            check(message.payload() == b"closed", "the retained value changed on its way")?;
            break;
        }
        check(Instant::now() < deadline, "the retained value did not reach the other site")?;
    }
    say(&format!("retain  {} -> {}   {topic} closed   for a device that came later", here.name, there.name));
    Ok(())
}

fn will(here: &Place, there: &Place, say: &mut dyn FnMut(&str)) -> io::Result<()> {
    let topic = format!("{}/pump/state", here.name);
    let mut watch = Device::connect(there.address, "watch", None)?;
    watch.subscribe(&topic)?;
    let mut pump = Device::connect(here.address, "pump", Some(last_words(&topic)?))?;
    for _ in 0..50 {
        pump.publish(&topic, "running", QoS::AtMostOnce, false)?;
        if !watch.leftovers(Duration::from_millis(50))?.is_empty() {
            break;
        }
    }
    // The socket closes without a DISCONNECT: the pump has lost power.
    drop(pump);
    while watch.expect(&topic)?.payload() != b"lost" {}
    say(&format!("will    {} -> {}   {topic} lost   after its device vanished", here.name, there.name));
    Ok(())
}

fn last_words(topic: &str) -> io::Result<WillOptions> {
    let topic = Topic::parse(topic).map_err(|error: TopicError| io::Error::other(error.to_string()))?.to_buf();
    Ok(WillOptions {
        topic,
        payload: b"lost".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_secs: 0,
        expiry_secs: None,
        properties: Vec::new(),
    })
}

fn check(holds: bool, otherwise: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
