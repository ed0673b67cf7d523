//! The other sites that this one has met: their names, and where they were last reached. Kept in the store beside the
//! node's records, in a key space of its own.
use link::PeerKey;
use node::Change;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// First byte of our keys in the store.
const KEY_SPACE: u8 = b'h';
const VERSION: u8 = 1;

/// What is remembered of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// As it calls itself.
    pub name: String,
    /// Where it was last reached without a relay.
    pub address: Option<SocketAddr>,
    /// The operator does not want to meet it for now.
    pub paused: bool,
}

/// All of them, by key, and the records that the store does not have yet.
#[derive(Debug, Default)]
pub struct Members {
    known: BTreeMap<[u8; 32], Member>,
    changes: Vec<Change>,
}

impl Members {
    /// A record of ours from the store; damaged ones are left out: the site will be met again.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(peer) = key.strip_prefix(&[KEY_SPACE]).and_then(|rest| <[u8; 32]>::try_from(rest).ok()) else {
            return false;
        };
        let Some(member) = decode(value) else { return false };
        self.known.insert(peer, member);
        true
    }

    /// Each member with its key, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PeerKey, &Member)> {
        self.known.iter().map(|(key, member)| (PeerKey(*key), member))
    }

    /// What is known of `peer`.
    pub fn get(&self, peer: PeerKey) -> Option<&Member> {
        self.known.get(&peer.0)
    }

    /// Its name, or the start of its key.
    pub fn name(&self, peer: PeerKey) -> String {
        match self.get(peer) {
            Some(member) if !member.name.is_empty() => member.name.clone(),
            _ => crate::identity::to_hex(&peer.0[..4]),
        }
    }

    /// The member that an operator means: by name, or by the start of the key.
    pub fn find(&self, word: &str) -> Option<PeerKey> {
        let by_name = self.known.iter().find(|(_, member)| member.name == word);
        let by_key = || {
            let mut found = self.known.iter().filter(|(key, _)| crate::identity::to_hex(&key[..]).starts_with(word));
            found.next().filter(|_| word.len() >= 4 && found.next().is_none())
        };
        by_name.or_else(by_key).map(|(key, _)| PeerKey(*key))
    }

    /// Changes what is known of `peer`, and remembers it for the next commit if that differs.
    pub fn update(&mut self, peer: PeerKey, change: impl FnOnce(&mut Member)) {
        let member = self.known.entry(peer.0).or_default();
        let before = member.clone();
        change(member);
        if *member != before || before == Member::default() {
            let mut key = vec![KEY_SPACE];
            key.extend_from_slice(&peer.0);
            self.changes.push(Change { key: key.into(), value: Some(encode(member).into()) });
        }
    }

    /// What the store has to learn.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

fn encode(member: &Member) -> Vec<u8> {
    let address = member.address.map(|address| address.to_string()).unwrap_or_default();
    let mut bytes = vec![VERSION, u8::from(member.paused), address.len() as u8];
    bytes.extend_from_slice(address.as_bytes());
    bytes.extend_from_slice(member.name.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Member> {
    let [VERSION, paused @ (0 | 1), address_len, rest @ ..] = bytes else { return None };
    let (address, name) = rest.split_at_checked(usize::from(*address_len))?;
    let address = match std::str::from_utf8(address).ok()? {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(Member { name: std::str::from_utf8(name).ok()?.to_owned(), address, paused: *paused == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_survive_the_store() {
        let mut members = Members::default();
        let peer = PeerKey([7; 32]);
        members.update(peer, |member| {
            member.name = "cabin".into();
            member.address = Some("203.0.113.9:4242".parse().unwrap());
        });
        let changes = members.take_changes();
        let mut again = Members::default();
        for change in &changes {
            assert!(again.restore(&change.key, change.value.as_deref().unwrap()));
        }
        assert_eq!(again.get(peer), members.get(peer));
        assert_eq!(again.find("cabin"), Some(peer));
        assert_eq!(again.find("0707"), Some(peer));
        assert_eq!(again.find("07"), None);
    }

    #[test]
    fn an_unchanged_member_writes_nothing() {
        let mut members = Members::default();
        members.update(PeerKey([7; 32]), |member| member.name = "cabin".into());
        members.take_changes();
        members.update(PeerKey([7; 32]), |member| member.name = "cabin".into());
        assert!(members.take_changes().is_empty());
    }

    #[test]
    fn old_bytes_are_read() {
        let bytes = b"\x01\x00\x10203.0.113.9:4242cabin";
        let member = decode(bytes).unwrap();
        assert_eq!((member.name.as_str(), member.paused), ("cabin", false));
        assert_eq!(encode(&member), bytes);
        for cut in 0..bytes.len() - 5 {
            assert!(decode(&bytes[..cut]).is_none(), "{cut}");
        }
    }
}
