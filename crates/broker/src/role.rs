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
    const ALL: [Self; 7] =
        [Self::Client, Self::Peer, Self::Bridge, Self::Rules, Self::Console, Self::Application, Self::System];
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

    const BY_SPEAKER: [u8; 7] = {
        let mut table = [0; 7];
        let mut speaker = 0;
        while speaker < 7 {
            let mut listener = 0;
            while listener < 7 {
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
        (Role::Bridge, Role::Bridge) => false,
        // A rule that heard the rules would answer itself.
        (Role::Rules, Role::Rules) => false,
        (Role::System, _) => false,
        (
            Role::Client | Role::Peer | Role::Bridge | Role::Rules | Role::Console | Role::Application,
            Role::Client | Role::Peer | Role::Bridge | Role::Rules | Role::Console | Role::Application | Role::System,
        ) => true,
    }
}
