//! Sealing and opening: what leaves this crate looks random but for its length, which is one of three.
use crate::keys::{PairKeys, SealKey, SiteKey};
use crate::wire::{ANNOUNCE_CONTEXT, Announce, Letter, VERSION};
use crate::{Fingerprint, PeerKey};
use alloc::vec::Vec;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// The lengths that sealed messages have.
pub(crate) const CLASSES: [usize; 3] = [256, 512, LEN_MAX];
/// The largest class: with the ten bytes of a door in front it makes 1200, which every path carries.
pub(crate) const LEN_MAX: usize = 1190;

pub(crate) const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const HEAD_LEN: usize = 2;
const KIND_ANNOUNCE: u8 = 1;
const KIND_LETTER: u8 = 2;

/// Why bytes are not a message for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// No message has this length.
    Size,
    /// Not sealed with this key.
    Seal,
    /// Sealed with this key, but not a message.
    Malformed,
    /// Sealed with this key, in a version that we do not speak.
    Version(u8),
}

/// What a holder of the token sees in a message.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Of a site, as its signature can prove.
    Announce(SignedAnnounce),
    /// For one site, whose inner seal is still closed.
    Letter(SealedLetter),
}

/// An announcement whose signature is not checked yet: most are of no consequence, and checking is what costs.
#[derive(Debug)]
pub(crate) struct SignedAnnounce {
    pub(crate) announce: Announce,
    text: Vec<u8>,
    signature: [u8; 64],
}

impl SignedAnnounce {
    /// Whether its sender wrote it; any holder of the token could have sealed it.
    pub(crate) fn is_genuine(&self) -> bool {
        self.announce.sender.signed(&self.text, &self.signature)
    }
}

/// A letter of which only the sender is known.
#[derive(Debug)]
pub(crate) struct SealedLetter {
    pub(crate) sender: PeerKey,
    nonce: [u8; NONCE_LEN],
    inner: Vec<u8>,
}

/// The lengths to choose from: mailboxes take the smallest that fits; at doors all messages are equally long, so that
/// no answer is larger than its question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Padding {
    Smallest,
    Largest,
}

/// How a message is covered: each message takes a nonce of its own.
pub(crate) struct Cover<'a> {
    pub(crate) key: &'a SealKey,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) padding: Padding,
}

fn padded(mut plain: Vec<u8>, overhead: usize, padding: Padding) -> Vec<u8> {
    let len = plain.len() + overhead;
    let class = match padding {
        Padding::Smallest => CLASSES.into_iter().find(|&class| class >= len).unwrap_or(LEN_MAX),
        Padding::Largest => LEN_MAX,
    };
    // The limits on names and cards keep every message below the largest class (asserted by a test).
    debug_assert!(len <= class);
    plain.resize(class - overhead, 0);
    plain
}

/// Encrypts in place and appends the tag.
fn close(key: &SealKey, nonce: &[u8; NONCE_LEN], plain: &mut Vec<u8>) {
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    match cipher.encrypt_inout_detached(&XNonce::from(*nonce), b"", plain.as_mut_slice().into()) {
        Ok(tag) => plain.extend_from_slice(&tag),
        // Only for 256 GiB and more. Nothing may leave unsealed.
        Err(_) => plain.clear(),
    }
}

fn uncover(key: &SealKey, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
    let mut plain = body.to_vec();
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let tag = Tag::from(*tag);
    cipher.decrypt_inout_detached(&XNonce::from(*nonce), b"", plain.as_mut_slice().into(), &tag).ok()?;
    Some(plain)
}

fn envelope(cover: &Cover<'_>, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(HEAD_LEN + body.len() + TAG_LEN);
    plain.extend_from_slice(&[VERSION, kind]);
    plain.extend_from_slice(body);
    close(cover.key, &cover.nonce, &mut plain);
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len());
    sealed.extend_from_slice(&cover.nonce);
    sealed.extend_from_slice(&plain);
    sealed
}

fn signed_text(mesh: Fingerprint, fields: &[u8]) -> Vec<u8> {
    [ANNOUNCE_CONTEXT, &mesh.0, fields].concat()
}

/// An announcement, signed and sealed for the mesh.
pub(crate) fn seal_announce(cover: &Cover<'_>, site: &SiteKey, mesh: Fingerprint, announce: &Announce) -> Vec<u8> {
    let mut body = announce.encode();
    let signature = site.sign(&signed_text(mesh, &body));
    body.extend_from_slice(&signature);
    let body = padded(body, NONCE_LEN + HEAD_LEN + TAG_LEN, cover.padding);
    envelope(cover, KIND_ANNOUNCE, &body)
}

/// A letter, sealed for its recipient, and again with its sender's name for the mesh.
pub(crate) fn seal_letter(cover: &Cover<'_>, pair: &PairKeys, sender: PeerKey, letter: &Letter) -> Vec<u8> {
    let overhead = NONCE_LEN + HEAD_LEN + sender.0.len() + TAG_LEN + TAG_LEN;
    let mut inner = padded(letter.encode(), overhead, cover.padding);
    // The same nonce under two independent keys: neither key meets it twice.
    close(&pair.to_peer, &cover.nonce, &mut inner);
    envelope(cover, KIND_LETTER, &[&sender.0, inner.as_slice()].concat())
}

/// Opens the outer seal of anybody's bytes.
pub(crate) fn open(key: &SealKey, mesh: Fingerprint, bytes: &[u8]) -> Result<Opened, Refused> {
    if !CLASSES.contains(&bytes.len()) {
        return Err(Refused::Size);
    }
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(Refused::Size)?;
    let plain = uncover(key, nonce, sealed).ok_or(Refused::Seal)?;
    open_plain(mesh, *nonce, &plain)
}

fn open_plain(mesh: Fingerprint, nonce: [u8; NONCE_LEN], plain: &[u8]) -> Result<Opened, Refused> {
    let [version, kind, body @ ..] = plain else { return Err(Refused::Malformed) };
    match (*version, *kind) {
        (VERSION, KIND_ANNOUNCE) => {
            let (announce, signed, signature) = Announce::decode(body).ok_or(Refused::Malformed)?;
            let text = signed_text(mesh, &body[..signed]);
            Ok(Opened::Announce(SignedAnnounce { announce, text, signature }))
        }
        (VERSION, KIND_LETTER) => {
            let (sender, inner) = body.split_first_chunk().ok_or(Refused::Malformed)?;
            Ok(Opened::Letter(SealedLetter { sender: PeerKey(*sender), nonce, inner: inner.to_vec() }))
        }
        (VERSION, _) => Err(Refused::Malformed),
        (version, _) => Err(Refused::Version(version)),
    }
}

impl SealedLetter {
    /// Opens the inner seal, which only the two sites of the pair can close.
    pub(crate) fn open(&self, pair: &PairKeys) -> Result<Letter, Refused> {
        let plain = uncover(&pair.from_peer, &self.nonce, &self.inner).ok_or(Refused::Seal)?;
        Letter::decode(&plain).ok_or(Refused::Malformed)
    }
}

/// What the fuzzer reaches behind the seals, where only a member's bytes come.
#[doc(hidden)]
pub fn fuzz_plaintext(bytes: &[u8]) {
    let _ = open_plain(Fingerprint([0; 8]), [0; NONCE_LEN], bytes);
    if let Some(letter) = Letter::decode(bytes) {
        assert_eq!(Letter::decode(&letter.encode()), Some(letter));
    }
    if let Some((announce, signed, _)) = Announce::decode(bytes) {
        assert_eq!(announce.encode(), bytes[..signed]);
    }
}
