//! What `midge status` shows: one document for programs, and the same in lines for people.
use crate::access::Gate;
use crate::bridge::BridgeStatus;
use crate::console::Consoles;
use crate::driver::{Clients, Paths};
use crate::identity::to_hex;
use link::PeerKey;
use mqtt::Now;
use node::rules::FaultKind;
use node::{Drop, Node, PeerStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What does not change while the site runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The site's name.
    pub name: String,
    /// Its public key.
    pub site: [u8; 32],
    /// Fingerprint of its mesh, if it is in one.
    pub mesh: Option<String>,
    /// Where its state lives.
    pub data: String,
    /// `os` or `disk`.
    pub sync: &'static str,
    /// When it was started.
    pub started: mqtt::Wall,
    /// What was wrong with the store at the start.
    pub damaged: Vec<String>,
}

/// The whole document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Program version.
    pub version: String,
    /// The site's name.
    pub name: String,
    /// Its public key in hexadecimal.
    pub site: String,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// The data directory.
    pub data: String,
    /// How far a commit must have got before it is acknowledged: `os` or `disk`.
    pub sync: String,
    /// Damage found in the store at the start.
    pub damaged: Vec<String>,
    /// Addresses that MQTT is spoken at.
    pub listeners: Vec<String>,
    /// The broker.
    pub broker: BrokerStatus,
    /// The rules, if there is a script.
    pub script: Option<ScriptStatus>,
    /// Its consoles.
    pub console: ConsoleStatus,
    /// The mesh, if the site is in one.
    pub mesh: Option<MeshStatus>,
    /// Bridges to classic brokers.
    #[serde(default)]
    pub bridges: Vec<BridgeStatus>,
}

/// The part of the consoles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConsoleStatus {
    /// Open now.
    pub open: usize,
    /// Opened since the start.
    pub opened: u64,
    /// Commands.
    pub commands: u64,
    /// Whether what changes or shows too much is refused.
    pub locked: bool,
    /// Turned away by `config_access`.
    pub refused: u64,
    /// Turned away because too many were open.
    pub full: u64,
    /// Wrong passwords.
    pub wrong_passwords: u64,
    /// Lines longer than the limit.
    pub lines_too_long: u64,
    /// Closed because nothing was heard of them.
    pub silent: u64,
    /// Closed because they said too much while they had to wait, or did not read.
    pub impatient: u64,
    /// Closed because a browser was at them.
    pub browsers: u64,
}

/// The part of the rules.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScriptStatus {
    /// Whether it runs; if not, it waits for the next start or has errors.
    pub running: bool,
    /// Size of its text.
    pub bytes: usize,
    /// Events that some clause waited for.
    pub events: u64,
    /// Clauses run.
    pub clauses: u64,
    /// Steps of all clauses.
    pub steps: u64,
    /// Faults by their kinds, those that happened.
    pub faults: BTreeMap<String, u64>,
    /// Messages lost because the script was too slow.
    pub lost: u64,
    /// Whether the remote broker is connected.
    pub remote: bool,
}

/// The broker's part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Clients connected now.
    pub clients: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Bytes of them.
    pub retained_bytes: u64,
    /// Messages queued or in flight.
    pub queued: u64,
    /// Bytes of those of them that are kept.
    pub queued_bytes: u64,
    /// Connections opened.
    pub opened: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// PUBLISH packets sent.
    pub publishes_sent: u64,
    /// Publishes refused because a queue was full.
    pub refused: u64,
    /// Messages dropped, all reasons.
    pub dropped: u64,
    /// Messages dropped, by the name of the reason.
    pub dropped_by: BTreeMap<String, u64>,
    /// Publishes, wills and subscriptions that were not allowed.
    pub denied: u64,
    /// Connections turned away by a limit.
    pub turned_away: u64,
    /// Clients that were not let in: no or a wrong name, password or identifier.
    pub not_admitted: u64,
    /// Clients that were sent away because passwords had changed.
    pub revoked: u64,
}

/// The mesh's part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MeshStatus {
    /// Fingerprint of the mesh.
    pub fingerprint: String,
    /// The UDP port.
    pub port: u16,
    /// Own addresses that peers are told.
    pub addresses: Vec<String>,
    /// The mailboxes and how they are.
    pub mailboxes: Vec<MailboxStatus>,
    /// Doors behind which another mesh answers: address and its fingerprint.
    pub strangers: Vec<(String, String)>,
    /// What the mesh, the search and the links have counted, what they ignored or dropped included.
    pub counters: BTreeMap<String, u64>,
    /// The other sites.
    pub peers: Vec<PeerLine>,
}

/// One mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// Its address, without credentials.
    pub url: String,
    /// Subscribed and ready.
    pub reachable: bool,
    /// Why not.
    pub trouble: Option<String>,
}

/// One other site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerLine {
    /// What it calls itself.
    pub name: String,
    /// Its public key in hexadecimal.
    pub site: String,
    /// Whether its link is up.
    pub up: bool,
    /// The operator does not want to meet it for now.
    pub paused: bool,
    /// `lan`, `direct` or `relayed`, while there is a path.
    pub path: Option<String>,
    /// Our candidate type: `host`, `srflx`, `prflx`, `relay`.
    pub local_candidate: Option<String>,
    /// Its candidate type.
    pub remote_candidate: Option<String>,
    /// Its address on that path.
    pub remote: Option<String>,
    /// Round trip in microseconds.
    pub rtt_micros: Option<u64>,
    /// Whether it has confirmed all that this site wants.
    pub interest_confirmed: bool,
    /// QoS 1 and 2 messages that it is owed.
    pub outbox_messages: usize,
    /// Their bytes.
    pub outbox_bytes: usize,
    /// The outbox is full: publishers of what this site wants are refused meanwhile.
    pub obstructed: bool,
    /// Messages that it has acknowledged since the start.
    pub acknowledged: u64,
    /// Messages accepted from it since the start.
    pub accepted: u64,
    /// Whether retained values were equal at the last comparison.
    pub retained_equal: bool,
    /// Datagram bytes sent to it and received from it.
    pub link_bytes: (u64, u64),
}

impl Status {
    /// The state of a running site; beside its clients who lets them in, beside its paths the number of letters that it
    /// had no time for.
    pub fn of(
        about: &About,
        now: Now,
        node: &Node,
        (clients, gate): (&Clients, &Gate),
        consoles: &Consoles,
        paths: Option<(&Paths, u64)>,
    ) -> Self {
        let stats = node.broker().stats();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            name: about.name.clone(),
            site: to_hex(&about.site),
            uptime_secs: now.wall.since(about.started).as_secs(),
            data: about.data.clone(),
            sync: about.sync.into(),
            damaged: about.damaged.clone(),
            listeners: clients.listeners().iter().map(ToString::to_string).collect(),
            broker: BrokerStatus {
                clients: stats.connected,
                sessions: stats.sessions,
                subscriptions: stats.subscriptions,
                retained: stats.retained,
                retained_bytes: stats.retained_bytes,
                queued: stats.queued,
                queued_bytes: stats.queued_bytes,
                opened: stats.opened,
                packets_received: stats.packets_received,
                packets_sent: stats.packets_sent,
                bytes_received: stats.bytes_received,
                bytes_sent: stats.bytes_sent,
                publishes_received: stats.publishes_received,
                publishes_sent: stats.publishes_sent,
                refused: stats.refused,
                dropped: stats.dropped_in_all(),
                dropped_by: Drop::ALL.iter().map(|drop| (drop.word().to_owned(), stats.dropped(*drop))).collect(),
                denied: stats.denied,
                turned_away: clients.refused.total() + gate.counts.busy,
                not_admitted: gate.counts.refused,
                revoked: gate.counts.revoked,
            },
            bridges: Vec::new(),
            mesh: about
                .mesh
                .clone()
                .zip(paths)
                .map(|(fingerprint, (paths, mail_dropped))| mesh_status(fingerprint, node, paths, mail_dropped)),
            script: ScriptStatus::of(node.script()),
            console: ConsoleStatus::of(node.console(), consoles),
        }
    }
}

fn mesh_status(fingerprint: String, node: &Node, paths: &Paths, mail_dropped: u64) -> MeshStatus {
    let known: Vec<PeerStatus<'_>> = node.mesh().into_iter().flat_map(node::Mesh::peers).collect();
    let peers = paths.members().iter().map(|(peer, member)| {
        let status = known.iter().find(|status| status.peer.0 == peer.0);
        peer_line(peer, member.paused, paths.members().name(peer), status, paths)
    });
    MeshStatus {
        fingerprint,
        port: paths.port(),
        addresses: paths.local_addresses().iter().map(ToString::to_string).collect(),
        mailboxes: paths
            .mailboxes()
            .iter()
            .map(|state| MailboxStatus {
                url: state.mailbox.url().to_owned(),
                reachable: state.reachable,
                trouble: state.trouble.clone(),
            })
            .collect(),
        strangers: paths.strangers().map(|(address, mesh)| (address.to_string(), mesh.to_owned())).collect(),
        counters: counters(node, paths, mail_dropped),
        peers: peers.collect(),
    }
}

fn counters(node: &Node, paths: &Paths, mail_dropped: u64) -> BTreeMap<String, u64> {
    let mesh = node.mesh().map(node::Mesh::stats).unwrap_or_default();
    let (search, link) = (paths.rendezvous().counters(), paths.endpoint().counters());
    let rows = [
        ("mesh_frames_in", mesh.frames_in),
        ("mesh_frames_out", mesh.frames_out),
        ("mesh_bytes_in", mesh.bytes_in),
        ("mesh_bytes_out", mesh.bytes_out),
        ("mesh_messages_in", mesh.messages_in),
        ("mesh_messages_out", mesh.messages_out),
        ("mesh_duplicates", mesh.duplicates),
        ("mesh_stale", mesh.stale),
        ("mesh_dropped_absent", mesh.dropped_absent),
        ("mesh_dropped_full", mesh.dropped_full),
        ("mesh_expired", mesh.expired),
        ("mesh_too_large", mesh.too_large),
        ("mesh_not_exported", mesh.not_exported),
        ("mesh_not_imported", mesh.not_imported),
        ("mesh_versions_ahead", mesh.versions_ahead),
        ("mesh_retained_refused", mesh.retained_refused),
        ("mesh_states_in", mesh.states_in),
        ("mesh_states_out", mesh.states_out),
        ("mesh_faults", mesh.faults),
        ("search_posted", search.posted),
        ("search_posted_bytes", search.posted_bytes),
        ("search_announcements", search.announcements),
        ("search_fresh", search.fresh),
        ("search_wrong_size", search.wrong_size),
        ("search_bad_seal", search.bad_seal),
        ("search_malformed", search.malformed),
        ("search_unknown_version", search.unknown_version),
        ("search_replayed", search.replayed),
        ("search_ended_session", search.ended_session),
        ("search_unproven", search.unproven),
        ("search_own", search.own),
        ("search_wrong_topic", search.wrong_topic),
        ("search_wrong_mesh", search.wrong_mesh),
        ("search_paused", search.paused),
        ("search_members_full", search.members_full),
        ("search_card_too_large", search.card_too_large),
        ("search_put_off", search.put_off),
        ("link_datagrams", link.datagrams),
        ("link_unknown_protocol", link.unknown_protocol),
        ("link_unknown_source", link.unknown_source),
        ("link_stun_refused", link.stun_refused),
        ("link_stun_answered", link.stun_answered),
        ("link_turn_refused", link.turn_refused),
        ("link_cards_stale", link.cards_stale),
        ("link_frames_undeliverable", link.frames_undeliverable),
        ("link_pathless", link.pathless),
        ("search_mail_dropped", mail_dropped),
    ];
    rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn peer_line(peer: PeerKey, paused: bool, name: String, status: Option<&PeerStatus<'_>>, paths: &Paths) -> PeerLine {
    let link = paths.endpoint().status().into_iter().find(|status| status.peer == peer);
    let path = link.as_ref().filter(|link| link.is_up).and_then(|link| link.path);
    PeerLine {
        name,
        site: to_hex(&peer.0),
        up: path.is_some(),
        paused,
        path: path.map(|path| path.kind.to_string()),
        local_candidate: path.map(|path| path.local_type.to_string()),
        remote_candidate: path.map(|path| path.remote_type.to_string()),
        remote: path.map(|path| path.remote.to_string()),
        rtt_micros: path.map(|path| path.rtt.as_micros() as u64),
        interest_confirmed: status.is_some_and(|status| status.interest_confirmed),
        outbox_messages: status.map_or(0, |status| status.outbox_messages),
        outbox_bytes: status.map_or(0, |status| status.outbox_bytes),
        obstructed: status.is_some_and(|status| status.obstructed),
        acknowledged: status.map_or(0, |status| status.acknowledged),
        accepted: status.map_or(0, |status| status.accepted),
        retained_equal: status.is_some_and(|status| status.retained_equal),
        link_bytes: link.map_or((0, 0), |link| (link.bytes.sent, link.bytes.received)),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "midge {}  site {} ({})", self.version, self.name, &self.site[..8.min(self.site.len())])?;
        writeln!(f, "  up {} s, state in {} (sync = {})", self.uptime_secs, self.data, self.sync)?;
        for damage in &self.damaged {
            writeln!(f, "  store damage: {damage}")?;
        }
        writeln!(f, "  listening on {}", self.listeners.join(", "))?;
        let b = &self.broker;
        writeln!(
            f,
            "  {} clients, {} sessions, {} subscriptions, {} retained, {} queued",
            b.clients, b.sessions, b.subscriptions, b.retained, b.queued
        )?;
        writeln!(
            f,
            "  {} publishes in, {} out, {} refused, {} dropped, {} connections turned away\n  \
             {} clients not let in, {} sent away, {} operations denied",
            b.publishes_received,
            b.publishes_sent,
            b.refused,
            b.dropped,
            b.turned_away,
            b.not_admitted,
            b.revoked,
            b.denied
        )?;
        if let Some(script) = &self.script {
            script.fmt(f)?;
        }
        self.console.fmt(f)?;
        for bridge in &self.bridges {
            bridge.fmt(f)?;
        }
        match &self.mesh {
            Some(mesh) => mesh.fmt(f),
            None => writeln!(f, "not in a mesh (midge create makes one, midge join TOKEN enters one)"),
        }
    }
}

impl ConsoleStatus {
    fn of(console: &node::Console, consoles: &Consoles) -> Self {
        let counters = console.counters();
        Self {
            open: console.open_sessions(),
            opened: counters.opened,
            commands: counters.commands,
            locked: console.settings().is_locked(),
            refused: counters.refused,
            full: counters.full + consoles.turned_away(),
            wrong_passwords: counters.wrong_passwords,
            lines_too_long: counters.lines_too_long,
            silent: counters.silent,
            impatient: counters.impatient,
            browsers: counters.browsers,
        }
    }
}

impl fmt::Display for ConsoleStatus {
    /// Nothing where nobody has ever come.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turned_away = self.refused + self.full;
        if self.opened + turned_away == 0 {
            return Ok(());
        }
        let state = if self.locked { "locked" } else { "unlocked" };
        writeln!(
            f,
            "  console {state}: {} open, {} commands, {turned_away} turned away, {} wrong passwords, {} lines too long, \
             {} closed for silence, {} for haste, {} browsers",
            self.open,
            self.commands,
            self.wrong_passwords,
            self.lines_too_long,
            self.silent,
            self.impatient,
            self.browsers
        )
    }
}

impl ScriptStatus {
    fn of(script: &node::script::Script) -> Option<Self> {
        let bytes = script.text()?.len();
        let own = Self { bytes, lost: script.lost(), remote: script.is_remote_connected(), ..Self::default() };
        let Some(counters) = script.counters() else { return Some(own) };
        let faults = FaultKind::ALL.into_iter().map(|kind| (kind.word().to_owned(), counters.faults(kind)));
        Some(Self {
            running: true,
            events: counters.events,
            clauses: counters.clauses,
            steps: counters.steps,
            faults: faults.filter(|(_, count)| *count > 0).collect(),
            ..own
        })
    }
}

impl fmt::Display for ScriptStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.running {
            return writeln!(f, "  script of {} bytes does not run", self.bytes);
        }
        write!(f, "  script: {} events, {} clauses, {} messages lost", self.events, self.clauses, self.lost)?;
        for (kind, count) in &self.faults {
            write!(f, ", {count} faults ({kind})")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for BridgeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, trouble) = match (&self.trouble, self.connected) {
            (Some(trouble), true) => ("connected, but ", trouble.as_str()),
            (None, true) => ("connected", ""),
            (Some(trouble), false) => (trouble.as_str(), ""),
            (None, false) => ("not connected", ""),
        };
        write!(f, "  bridge {} to {}: {state}{trouble}; {} messages wait", self.name, self.address, self.queued)?;
        match (self.dropped, self.refused) {
            (0, 0) => writeln!(f),
            (dropped, refused) => writeln!(f, ", {dropped} dropped, {refused} refused there"),
        }
    }
}

impl fmt::Display for MeshStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mesh {}  UDP port {}, known here as {}", self.fingerprint, self.port, self.addresses.join(", "))?;
        for mailbox in &self.mailboxes {
            match (&mailbox.trouble, mailbox.reachable) {
                (_, true) => writeln!(f, "  mailbox {}: reachable", mailbox.url)?,
                (Some(trouble), false) => writeln!(f, "  mailbox {}: {trouble}", mailbox.url)?,
                (None, false) => writeln!(f, "  mailbox {}: connecting", mailbox.url)?,
            }
        }
        for (address, fingerprint) in &self.strangers {
            writeln!(f, "  {address} is in another mesh: {fingerprint}")?;
        }
        if self.peers.is_empty() {
            writeln!(f, "  no other site has been met yet")?;
        }
        self.peers.iter().try_for_each(|peer| write!(f, "  {peer}"))
    }
}

impl PeerLine {
    /// The path of its link in words: `direct, srflx to srflx 203.0.113.7:4242, 24.1 ms`.
    pub fn way(&self) -> Option<String> {
        let (path, local) = (self.path.as_ref()?, self.local_candidate.as_ref()?);
        let (remote, address) = (self.remote_candidate.as_ref()?, self.remote.as_ref()?);
        let millis = self.rtt_micros.unwrap_or(0) as f64 / 1000.0;
        Some(format!("{path}, {local} to {remote} {address}, {millis:.1} ms"))
    }
}

impl fmt::Display for PeerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.name, &self.site[..8.min(self.site.len())])?;
        match self.way() {
            Some(way) => f.write_str(&way)?,
            None if self.paused => f.write_str("paused")?,
            None => f.write_str("no link")?,
        }
        if self.outbox_messages > 0 {
            write!(f, ", owed {} messages ({} bytes)", self.outbox_messages, self.outbox_bytes)?;
        }
        if self.obstructed {
            f.write_str(", outbox full: publishers are refused")?;
        }
        if self.up && !self.interest_confirmed {
            f.write_str(", has not confirmed our interest yet")?;
        }
        writeln!(f)
    }
}
