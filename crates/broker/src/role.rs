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
