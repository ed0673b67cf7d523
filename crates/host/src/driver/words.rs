//! The node's events in the operator's words, and how important they are.
use crate::config::Level;
use node::script::Event as ScriptEvent;
use node::{BrokerEvent, Event, MeshEvent, SiteId};

/// Level and words of an event.
pub(super) fn of(event: &Event) -> (Level, String) {
    match event {
        Event::Broker(event) => (broker_level(event), event.to_string()),
        Event::Mesh(event) => mesh(event),
        Event::Script(event) => (script_level(event), event.to_string()),
        Event::Fault { peer: _, name, fault } => {
            (Level::Warning, format!("Link session with {name} is given up and begun anew: {fault}."))
        }
        Event::Obstructed { name, full: true, .. } => {
            let words = "publishers of QoS 1 and 2 that it wants are refused until it takes some";
            (Level::Warning, format!("The outbox for {name} is full: {words}."))
        }
        Event::Obstructed { name, full: false, .. } => {
            (Level::Notice, format!("The outbox for {name} has room again."))
        }
        Event::Refused { peer: _, name, reason } => (Level::Error, format!("{name} is refused: {reason}.")),
    }
}

/// How important it is what happens at consoles.
pub(super) fn console_level(event: &node::console::Event) -> Level {
    use node::console::Event as ConsoleEvent;
    match event {
        ConsoleEvent::Refused { .. } | ConsoleEvent::WrongPassword { .. } | ConsoleEvent::NoRestart { .. } => {
            Level::Warning
        }
        ConsoleEvent::Locked(_) | ConsoleEvent::Script { .. } | ConsoleEvent::Restart { .. } => Level::Notice,
    }
}

/// Level of what the broker tells.
pub(super) fn broker_level(event: &BrokerEvent) -> Level {
    match event {
        // Once for each message: as with mosquitto, for whoever looks for it.
        BrokerEvent::Denied { .. } | BrokerEvent::Subscribed { .. } => Level::Debug,
        BrokerEvent::Crowded { .. } | BrokerEvent::Dropping { .. } => Level::Warning,
        BrokerEvent::Connected { .. }
        | BrokerEvent::Disconnected { .. }
        | BrokerEvent::Refused { .. }
        | BrokerEvent::Expired { .. } => Level::Info,
    }
}

fn script_level(event: &ScriptEvent) -> Level {
    match event {
        ScriptEvent::Started { .. } | ScriptEvent::Stopped => Level::Notice,
        ScriptEvent::Refused { .. } => Level::Error,
        ScriptEvent::Fault(_) | ScriptEvent::Overrun | ScriptEvent::RetainedTooMany => Level::Warning,
    }
}

fn mesh(event: &MeshEvent) -> (Level, String) {
    let short = |site: &SiteId| crate::identity::to_hex(&site.0[..4]);
    match event {
        MeshEvent::Joined { peer: _, name, owed: 0 } => (Level::Notice, format!("{name} has joined.")),
        MeshEvent::Joined { peer: _, name, owed } => {
            (Level::Notice, format!("{name} has joined; {owed} messages are owed to it."))
        }
        MeshEvent::Left { peer, dropped } => {
            (Level::Notice, format!("{} has left; {dropped} QoS 0 messages under way are lost.", short(peer)))
        }
        MeshEvent::InterestConfirmed { peer, filters } => {
            (Level::Info, format!("{} has confirmed our {filters} filters.", short(peer)))
        }
        MeshEvent::ClockDiffers { peer, ahead_millis } => {
            let seconds = *ahead_millis as f64 / 1000.0;
            (Level::Warning, format!("The clock of {} differs by {seconds:+.1} s: set one of the clocks.", short(peer)))
        }
        MeshEvent::VersionAhead { peer, topic, ahead } => {
            let seconds = ahead.as_secs();
            let words =
                format!("Retained {} of {} is {seconds} s ahead of time: refused.", topic.as_str(), short(peer));
            (Level::Warning, words)
        }
        MeshEvent::VersionsClamped { topics } => {
            (Level::Warning, format!("{topics} retained values were stamped by a clock that ran ahead: stamped anew."))
        }
        MeshEvent::LedgerDamaged { origin, epoch } => {
            let words = format!("What was accepted from {} (start {epoch:x}) is not known any more", short(origin));
            (Level::Warning, format!("{words}: duplicates are possible."))
        }
        MeshEvent::LedgerRepaired { origin, epoch, from, until } => {
            let until = until.map_or_else(|| "the end".to_owned(), |until| until.to_string());
            let words = format!("Only messages {from} to {until} of {} (start {epoch:x})", short(origin));
            (Level::Notice, format!("{words} can be doubled."))
        }
        MeshEvent::Adopting { since } => {
            let words = "Away longer than deletions are remembered";
            (Level::Notice, format!("{words} (since {} s): adopting the mesh's retained values.", since.0 / 1000))
        }
        MeshEvent::TooLarge { topic, bytes } => {
            (Level::Warning, format!("{} with {bytes} bytes is too large for the mesh: kept here.", topic.as_str()))
        }
        MeshEvent::UnknownRecord { peer, kind } => {
            (Level::Info, format!("{} sends records of kind {kind}, unknown here: skipped.", short(peer)))
        }
    }
}
