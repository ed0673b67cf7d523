use midge_link::respond_binding;
use nat::{NetId, World};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use turn_client_proto::stun::types::attribute::{ErrorCode, MessageIntegrity, Nonce, Realm, XorMappedAddress};
use turn_client_proto::stun::types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageIntegrityCredentials, MessageWriteVec,
};
use turn_client_proto::stun::types::prelude::*;
use turn_client_proto::types::attribute::{ChannelNumber, Data, Lifetime, XorPeerAddress, XorRelayedAddress};
use turn_client_proto::types::channel::ChannelData;
use turn_client_proto::types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

const REALM: &str = "midge";
const LIFETIME: Duration = Duration::from_secs(600);
const PERMISSION: Duration = Duration::from_secs(300);

/// A TURN server in the world, as strict as coturn: one allocation per client address, an allocation is lost when
/// something is sent to where there is no way.
pub struct Server {
    address: SocketAddr,
    nonce: String,
    allocations: BTreeMap<SocketAddr, Allocation>,
    next_port: u16,
    now: Duration,
    /// Nothing goes in or out.
    pub is_dead: bool,
    /// Datagrams that went through.
    pub relayed: u64,
    /// Allocations lost to unreachable addresses.
    pub lost_to_private: u64,
}

struct Allocation {
    port: u16,
    until: Duration,
    permissions: BTreeMap<IpAddr, Duration>,
    channels: BTreeMap<u16, SocketAddr>,
}

/// What the server sends: from where, to whom, what.
type Sent = Vec<(SocketAddr, SocketAddr, Vec<u8>)>;

impl Server {
    pub fn new(address: SocketAddr) -> Self {
        // Every start has its own nonce, and forgets what it lent.
        static STARTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let start = STARTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            address,
            nonce: format!("nonce-{start}"),
            allocations: BTreeMap::new(),
            next_port: 50_000,
            now: Duration::ZERO,
            is_dead: false,
            relayed: 0,
            lost_to_private: 0,
        }
    }

    pub fn receive(&mut self, now: Duration, world: &mut World, src: SocketAddr, dst: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if self.is_dead {
            return;
        }
        self.allocations.retain(|_, allocation| allocation.until > now);
        let mut sent = Sent::new();
        if dst != self.address {
            self.hear_peer(src, dst, bytes, &mut sent);
        } else if let Some(answer) = respond_binding(bytes, src) {
            sent.push((dst, src, answer));
        } else if let Ok(message) = Message::from_bytes(bytes) {
            self.hear_client(src, &message, &mut sent);
        } else if let Ok(channel) = ChannelData::parse(bytes) {
            let peer = self.allocations.get(&src).and_then(|lent| lent.channels.get(&channel.id())).copied();
            if let Some(peer) = peer {
                self.relay(src, peer, channel.data(), &mut sent);
            }
        }
        for (from, to, bytes) in sent {
            world.send(now, NetId::INTERNET, from, to, bytes);
        }
    }

    fn hear_peer(&mut self, src: SocketAddr, dst: SocketAddr, bytes: &[u8], sent: &mut Sent) {
        let now = self.now;
        let Some((client, lent)) = self.allocations.iter().find(|(_, lent)| lent.port == dst.port()) else { return };
        if lent.permissions.get(&src.ip()).is_none_or(|until| *until <= now) {
            return;
        }
        self.relayed += 1;
        let channel = lent.channels.iter().find(|(_, peer)| **peer == src).map(|(channel, _)| *channel);
        let wrapped = match channel {
            Some(channel) => {
                let mut wrapped = vec![0; 4 + bytes.len()];
                ChannelData::new(channel, bytes).write_into_unchecked(&mut wrapped);
                wrapped
            }
            None => {
                let mut message = Message::builder_indication(DATA, MessageWriteVec::new());
                let id = message.transaction_id();
                message.add_attribute(&XorPeerAddress::new(src, id)).expect("room");
                message.add_attribute(&Data::new(bytes)).expect("room");
                message.finish()
            }
        };
        sent.push((self.address, *client, wrapped));
    }

    fn hear_client(&mut self, client: SocketAddr, message: &Message<'_>, sent: &mut Sent) {
        let peer = message.attribute::<XorPeerAddress>().ok().map(|peer| peer.addr(message.transaction_id()));
        if message.has_class(MessageClass::Indication) && message.method() == SEND {
            if let (Some(peer), Ok(data)) = (peer, message.attribute::<Data<'_>>()) {
                self.relay(client, peer, data.data(), sent);
            }
            return;
        }
        if !message.has_class(MessageClass::Request) {
            return;
        }
        let answer = match self.authenticated(message) {
            Err(code) => self.refusal(message, code),
            Ok(()) => match self.granted(client, message, peer) {
                Ok(answer) => answer,
                Err(code) => self.refusal(message, code),
            },
        };
        sent.push((self.address, client, answer));
    }

    fn relay(&mut self, client: SocketAddr, peer: SocketAddr, bytes: &[u8], sent: &mut Sent) {
        let now = self.now;
        let Some(lent) = self.allocations.get(&client) else { return };
        if lent.permissions.get(&peer.ip()).is_none_or(|until| *until <= now) {
            return;
        }
        if matches!(peer.ip(), IpAddr::V4(ip) if ip.is_private()) {
            self.allocations.remove(&client);
            self.lost_to_private += 1;
            return;
        }
        self.relayed += 1;
        sent.push((SocketAddr::new(self.address.ip(), lent.port), peer, bytes.to_vec()));
    }

    fn credentials() -> MessageIntegrityCredentials {
        LongTermCredentials::new("user".into(), "secret".into()).to_key(REALM.into()).into()
    }

    fn authenticated(&self, message: &Message<'_>) -> Result<(), u16> {
        if !message.has_attribute(MessageIntegrity::TYPE) {
            return Err(401);
        }
        if message.attribute::<Nonce>().ok().is_none_or(|nonce| nonce.nonce() != self.nonce) {
            return Err(438);
        }
        message.validate_integrity(&Self::credentials()).map(|_| ()).map_err(|_| 401)
    }

    fn refusal(&self, message: &Message<'_>, code: u16) -> Vec<u8> {
        let mut answer = Message::builder_error(message, MessageWriteVec::new());
        answer.add_attribute(&ErrorCode::builder(code).build().expect("a code")).expect("room");
        if matches!(code, 401 | 438) {
            answer.add_attribute(&Realm::new(REALM).expect("short")).expect("room");
            answer.add_attribute(&Nonce::new(&self.nonce).expect("short")).expect("room");
        } else {
            answer.add_message_integrity(&Self::credentials(), IntegrityAlgorithm::Sha1).expect("room");
        }
        answer.finish()
    }

    fn granted(&mut self, client: SocketAddr, message: &Message<'_>, peer: Option<SocketAddr>) -> Result<Vec<u8>, u16> {
        let now = self.now;
        let id = message.transaction_id();
        let mut answer = Message::builder_success(message, MessageWriteVec::new());
        match message.method() {
            ALLOCATE => {
                if self.allocations.contains_key(&client) {
                    return Err(437);
                }
                self.next_port += 1;
                let (port, until) = (self.next_port, now + LIFETIME);
                let lent = Allocation { port, until, permissions: BTreeMap::new(), channels: BTreeMap::new() };
                self.allocations.insert(client, lent);
                let relayed = SocketAddr::new(self.address.ip(), port);
                answer.add_attribute(&XorRelayedAddress::new(relayed, id)).expect("room");
                answer.add_attribute(&XorMappedAddress::new(client, id)).expect("room");
                answer.add_attribute(&Lifetime::new(LIFETIME.as_secs() as u32)).expect("room");
            }
            REFRESH => {
                let wanted = message.attribute::<Lifetime>().map_or(600, |lifetime| lifetime.seconds()).min(600);
                let lent = self.allocations.get_mut(&client).ok_or(437u16)?;
                lent.until = now + Duration::from_secs(wanted.into());
                if wanted == 0 {
                    self.allocations.remove(&client);
                }
                answer.add_attribute(&Lifetime::new(wanted)).expect("room");
            }
            CREATE_PERMISSION => {
                let lent = self.allocations.get_mut(&client).ok_or(437u16)?;
                lent.permissions.insert(peer.ok_or(400u16)?.ip(), now + PERMISSION);
            }
            CHANNEL_BIND => {
                let lent = self.allocations.get_mut(&client).ok_or(437u16)?;
                let channel = message.attribute::<ChannelNumber>().map_err(|_| 400u16)?.channel();
                let peer = peer.ok_or(400u16)?;
                lent.permissions.insert(peer.ip(), now + PERMISSION);
                lent.channels.insert(channel, peer);
            }
            _ => return Err(400),
        }
        answer.add_message_integrity(&Self::credentials(), IntegrityAlgorithm::Sha1).expect("room");
        Ok(answer.finish())
    }
}
