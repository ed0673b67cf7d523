//! Who speaks and who listens.

/// What kind of participant somebody is. All of them publish and subscribe the same way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A network client.
    Client,
    /// Another site of the mesh.
    Peer,
    /// A bridge to a classic broker.
    Bridge,
    /// A bridge that hands on what other bridges bring, as mosquitto's do. That it does not go round in circles is left
    /// to whoever configures it.
    Relay,
    /// The rules of this site.
    Rules,
    /// A person at the console.
    Console,
    /// The program that embeds the broker.
    Application,
    /// The site itself: `$SYS`.
    System,
}

impl Role {
    /// The user name of a session with this role, by which it is known after a restart; nobody else may have it.
    pub const fn user(self) -> Option<&'static str> {
        match self {
            Self::Bridge => Some("$bridge"),
            Self::Relay => Some("$relay"),
            Self::Client | Self::Peer | Self::Rules | Self::Console | Self::Application | Self::System => None,
        }
    }

    /// The role whose sessions have this user name.
    pub fn of_user(user: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.user() == Some(user))
    }

    const ALL: [Self; 8] = [
        Self::Client,
        Self::Peer,
        Self::Bridge,
        Self::Relay,
        Self::Rules,
        Self::Console,
        Self::Application,
        Self::System,
    ];

    /// Whether it is a bridge to a classic broker.
    pub(crate) fn is_bridge(self) -> bool {
        matches!(self, Self::Bridge | Self::Relay)
    }
}

/// Everybody who may have one message, found out once for all its receivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Audience(u8);

impl Audience {
    /// Of a message of `speaker`, on a topic that may be of no concern to other sites.
    #[inline]
    pub(crate) fn of(speaker: Role, stays_here: bool) -> Self {
        let heard = Self::BY_SPEAKER[speaker as usize];
        Self(if stays_here { heard & !(1 << Role::Peer as u8) } else { heard })
    }

    #[inline]
    pub(crate) fn has(self, listener: Role) -> bool {
        self.0 & 1 << listener as u8 != 0
    }

    const BY_SPEAKER: [u8; 8] = {
        let mut table = [0; 8];
        let mut speaker = 0;
        while speaker < 8 {
            let mut listener = 0;
            while listener < 8 {
                if may_hear(Role::ALL[listener], Role::ALL[speaker]) {
                    table[speaker] |= 1 << listener;
                }
                listener += 1;
            }
            speaker += 1;
        }
        table
    };
}

/// Whether a message of `speaker` may be handed to `listener`: the whole of loop prevention inside one site.
pub const fn may_hear(listener: Role, speaker: Role) -> bool {
    match (listener, speaker) {
        // Sessions between sites are pairwise: nobody forwards a peer's message to a peer.
        (Role::Peer, Role::Peer) => false,
        // The state of one site is nobody else's.
        (Role::Peer, Role::System) => false,
        // Two bridges to one broker would turn in circles.
        (Role::Bridge, Role::Bridge | Role::Relay) => false,
        // A rule that heard the rules would answer itself.
        (Role::Rules, Role::Rules) => false,
        (Role::System, _) => false,
        (
            Role::Client | Role::Peer | Role::Bridge | Role::Relay | Role::Rules | Role::Console | Role::Application,
            Role::Client
            | Role::Peer
            | Role::Bridge
            | Role::Relay
            | Role::Rules
            | Role::Console
            | Role::Application
            | Role::System,
        ) => true,
    }
}
