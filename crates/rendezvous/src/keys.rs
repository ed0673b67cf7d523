//! Everything derived from the token and from the sites' keys.
use crate::{Fingerprint, Token, base32};
use alloc::string::String;
use core::fmt;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize as _;

const SALT: &[u8] = b"midge rendezvous 1";

/// A site's Ed25519 public key: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

impl PeerKey {
    /// The public key that belongs to a site's secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed).verifying_key().to_bytes())
    }

    fn parse(self) -> Option<VerifyingKey> {
        // Points of small order would make every shared secret the same.
        VerifyingKey::from_bytes(&self.0).ok().filter(|key| !key.is_weak())
    }

    /// Whether `signature` is this site's for `message`.
    pub(crate) fn signed(self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.parse().is_some_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PeerKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A key of the AEAD, wiped when it goes.
#[derive(Clone)]
pub(crate) struct SealKey(pub(crate) [u8; 32]);

impl Drop for SealKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn expand<const N: usize>(kdf: &Hkdf<Sha256>, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    // HKDF-SHA256 yields up to 8160 bytes; no caller asks for more than 32.
    let expanded = kdf.expand_multi_info(info, &mut out);
    debug_assert!(expanded.is_ok());
    out
}

fn kdf_of(secret: &[u8; 32]) -> Hkdf<Sha256> {
    Hkdf::new(Some(SALT), secret)
}

pub(crate) fn fingerprint(secret: &[u8; 32]) -> Fingerprint {
    Fingerprint(expand(&kdf_of(secret), &[b"fingerprint"]))
}

/// What every holder of the token can derive.
pub(crate) struct MeshKeys {
    kdf: Hkdf<Sha256>,
    /// Seals whatever is left in mailboxes.
    pub(crate) mailbox: SealKey,
    /// Seals datagrams: a message copied from a mailbox to a door, or back, does not open.
    pub(crate) door: SealKey,
    /// Joins the token to each pair's shared secret: without both there is no card.
    pair_salt: SealKey,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) announce_topic: String,
}

impl MeshKeys {
    pub(crate) fn new(token: &Token) -> Self {
        let kdf = kdf_of(token.secret());
        Self {
            mailbox: SealKey(expand(&kdf, &[b"mailbox seal"])),
            door: SealKey(expand(&kdf, &[b"door seal"])),
            pair_salt: SealKey(expand(&kdf, &[b"pair salt"])),
            fingerprint: token.fingerprint(),
            announce_topic: base32::text(&expand::<16>(&kdf, &[b"announce topic"])),
            kdf,
        }
    }

    /// Where messages for one site are left.
    pub(crate) fn card_topic(&self, recipient: PeerKey) -> String {
        base32::text(&expand::<16>(&self.kdf, &[b"card topic", &recipient.0]))
    }
}

/// Our own secret key, for signatures and for shared secrets.
pub(crate) struct SiteKey {
    signing: SigningKey,
    exchange: StaticSecret,
    pub(crate) public: PeerKey,
}

impl SiteKey {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let exchange = StaticSecret::from(signing.to_scalar_bytes());
        let public = PeerKey(signing.verifying_key().to_bytes());
        Self { signing, exchange, public }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

/// The two keys that only we and one other member can derive, one for each direction: nothing can be reflected.
#[derive(Clone)]
pub(crate) struct PairKeys {
    pub(crate) to_peer: SealKey,
    pub(crate) from_peer: SealKey,
}

impl PairKeys {
    /// `None` if `peer` is not a usable public key.
    pub(crate) fn new(mesh: &MeshKeys, site: &SiteKey, peer: PeerKey) -> Option<Self> {
        let point = PublicKey::from(peer.parse()?.to_montgomery().to_bytes());
        let shared = site.exchange.diffie_hellman(&point);
        if !shared.was_contributory() {
            return None;
        }
        let pair = Hkdf::<Sha256>::new(Some(&mesh.pair_salt.0), shared.as_bytes());
        let direction = |from: PeerKey, to: PeerKey| SealKey(expand(&pair, &[b"pair seal", &from.0, &to.0]));
        Some(Self { to_peer: direction(site.public, peer), from_peer: direction(peer, site.public) })
    }
}
