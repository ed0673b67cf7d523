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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::MeshKeys;
    use crate::wire::{CARD_LEN_MAX, Challenge, NAME_LEN_MAX, SentCard, Session};
    use crate::{Token, base32};
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    struct Cast {
        mesh: MeshKeys,
        alice: SiteKey,
        bob: SiteKey,
    }

    fn cast() -> Cast {
        let mesh = MeshKeys::new(&Token::from_secret(core::array::from_fn(|n| n as u8)));
        Cast { mesh, alice: SiteKey::new(&[0xa1; 32]), bob: SiteKey::new(&[0xb0; 32]) }
    }

    fn cover(key: &SealKey, padding: Padding) -> Cover<'_> {
        Cover { key, nonce: core::array::from_fn(|n| 0xc0 + n as u8), padding }
    }

    fn announce(sender: PeerKey, name: &str) -> Announce {
        let challenge = Challenge { session: Session([0x51; 16]), epoch: 2 };
        Announce { sender, challenge, sequence: 3, name: name.into() }
    }

    fn letter(name: &str, card: Option<SentCard>) -> Letter {
        Letter {
            challenge: Challenge { session: Session([0x51; 16]), epoch: 4 },
            echo: Challenge { session: Session([0x52; 16]), epoch: 5 },
            sequence: 6,
            acknowledged: 7,
            name: name.into(),
            card,
        }
    }

    fn opened(cast: &Cast, sealed: &[u8]) -> Opened {
        open(&cast.mesh.mailbox, cast.mesh.fingerprint, sealed).unwrap()
    }

    /// What version 1 writes, and what every later program must go on reading or refuse by its number.
    #[test]
    fn an_announcement_of_version_1_is_these_bytes() {
        let cast = cast();
        let announce = announce(cast.alice.public, "cabin");
        let sealed =
            seal_announce(&cover(&cast.mesh.mailbox, Padding::Smallest), &cast.alice, cast.mesh.fingerprint, &announce);
        assert_eq!(hex(&announce.encode()), ANNOUNCE_FIELDS);
        assert_eq!(hex(&sealed), ANNOUNCE_SEALED);
        let Opened::Announce(read) = opened(&cast, &sealed) else { panic!("not an announcement") };
        assert!(read.is_genuine());
        assert_eq!(read.announce, announce);
    }

    #[test]
    fn a_letter_of_version_1_is_these_bytes() {
        let cast = cast();
        let letter = letter("cabin", Some(SentCard { generation: 8, bytes: b"card".to_vec() }));
        let pair = PairKeys::new(&cast.mesh, &cast.alice, cast.bob.public).unwrap();
        let sealed = seal_letter(&cover(&cast.mesh.mailbox, Padding::Smallest), &pair, cast.alice.public, &letter);
        assert_eq!(hex(&letter.encode()), LETTER_FIELDS);
        assert_eq!(hex(&sealed), LETTER_SEALED);
        let Opened::Letter(read) = opened(&cast, &sealed) else { panic!("not a letter") };
        assert_eq!(read.sender, cast.alice.public);
        let theirs = PairKeys::new(&cast.mesh, &cast.bob, cast.alice.public).unwrap();
        assert_eq!(read.open(&theirs), Ok(letter));
    }

    #[test]
    fn topics_of_version_1_are_these_words() {
        let cast = cast();
        assert_eq!(cast.mesh.announce_topic, ANNOUNCE_TOPIC);
        assert_eq!(cast.mesh.card_topic(cast.alice.public), CARD_TOPIC);
        assert_eq!(base32::text(&[0xff; 3]), "77776");
    }

    const ANNOUNCE_FIELDS: &str = "\
        bc7cbcb5636375fa1d82434d466724d92377f53b980695dd49d26d0ce12205a55151515151515151515151515151515100000002\
        0000000305636162696e";
    const ANNOUNCE_SEALED: &str = "\
        c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d788b64b82fb90c6d8b40c417be72dae369897f4736d940770d3b74054\
        d8e8bdc260b94af5583c2430a07d8ee591c438436b57328148807d9d28f13beb97e839c173390b4d495874c167a100db33200926\
        e8f33002d9dd391548f29c3b7d8b73c7e16a05f4048aadf9168513bdfba85e94a6d6e96149bd011dad781c6f0ef1d0797e443b1a\
        cb774aec6cc01a2077e3afe2138ef99dcc7121cb030c48fd7115748ef33da22e0f848b749db3c7f838dc1bec6e4b4b8f7906833f\
        a8f5f59af4a8352f8227ee52e50dce5f45bc43170157c5d37e2294f3ede458b7febdf056b2898ee3e3ff6634b1abe104";
    const LETTER_FIELDS: &str = "\
        51515151515151515151515151515151000000045252525252525252525252525252525200000005000000060000000705636162\
        696e00000008000463617264";
    const LETTER_SEALED: &str = "\
        c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d788b54b82fb90c6d8b40c417be72dae369897f4736d940770d3b74054\
        d8e8bdc260b9e6d63f0d630f14f48705dd888b392b396620f0287ceb446990c7e9d91bbd1dbbb0c0fe68c16c3ec79d7515645400\
        4ccf593e476aa6186d4eed32cd6876a823c03f427247fc2760473f6577f125d123cf328839ada53a21d3d2b123ec530cb2fdbce1\
        d102d06c75b11362ecfecc622bd71ec84b571cb21fdc306db00e8dea6b0c9bfc68cf7492601077a66dacaa4a698d9f46c2db736e\
        bf3c2026afa7a1453d36ff39fad97a7dd74b6d4d213d7ce564ed40c05dbbf5bcc794324d597524c7baf2212cce2ee476";
    const ANNOUNCE_TOPIC: &str = "6s2fpttcvl3tpgwqtwarc6o2hm";
    const CARD_TOPIC: &str = "pucug2xwt65xknlvq2a4eva4ye";

    /// A letter comes back to its sender, or goes to a third member: neither can open it.
    #[test]
    fn a_letter_opens_for_its_recipient_only() {
        let cast = cast();
        let pair = PairKeys::new(&cast.mesh, &cast.alice, cast.bob.public).unwrap();
        let sealed =
            seal_letter(&cover(&cast.mesh.mailbox, Padding::Largest), &pair, cast.alice.public, &letter("a", None));
        let Opened::Letter(read) = opened(&cast, &sealed) else { panic!("not a letter") };
        assert_eq!(read.open(&pair), Err(Refused::Seal));
        let carol = SiteKey::new(&[0xca; 32]);
        let hers = PairKeys::new(&cast.mesh, &carol, cast.alice.public).unwrap();
        assert_eq!(read.open(&hers), Err(Refused::Seal));
        // The same sites in another mesh.
        let other = MeshKeys::new(&Token::from_secret([1; 32]));
        assert!(matches!(open(&other.mailbox, other.fingerprint, &sealed), Err(Refused::Seal)));
        let elsewhere = PairKeys::new(&other, &cast.bob, cast.alice.public).unwrap();
        assert_eq!(read.open(&elsewhere), Err(Refused::Seal));
    }

    #[test]
    fn a_member_cannot_announce_another() {
        let cast = cast();
        let mut signed_by_bob = announce(cast.alice.public, "alice");
        let cover = cover(&cast.mesh.mailbox, Padding::Smallest);
        let sealed = seal_announce(&cover, &cast.bob, cast.mesh.fingerprint, &signed_by_bob);
        let Opened::Announce(read) = opened(&cast, &sealed) else { panic!("not an announcement") };
        assert!(!read.is_genuine());
        // Nor move an announcement of hers to another mesh.
        signed_by_bob.sender = cast.bob.public;
        let sealed = seal_announce(&cover, &cast.bob, Fingerprint([0; 8]), &signed_by_bob);
        let Opened::Announce(read) = opened(&cast, &sealed) else { panic!("not an announcement") };
        assert!(!read.is_genuine());
    }

    #[test]
    fn the_largest_message_fits_the_largest_class() {
        let cast = cast();
        let name = "n".repeat(NAME_LEN_MAX);
        let pair = PairKeys::new(&cast.mesh, &cast.alice, cast.bob.public).unwrap();
        let card = SentCard { generation: u32::MAX, bytes: alloc::vec![1; CARD_LEN_MAX] };
        let cover = cover(&cast.mesh.mailbox, Padding::Smallest);
        assert_eq!(seal_letter(&cover, &pair, cast.alice.public, &letter(&name, Some(card))).len(), LEN_MAX);
        assert_eq!(seal_letter(&cover, &pair, cast.alice.public, &letter(&name, None)).len(), CLASSES[0]);
        let announced = seal_announce(&cover, &cast.alice, cast.mesh.fingerprint, &announce(cast.alice.public, &name));
        assert_eq!(announced.len(), CLASSES[0]);
    }

    #[test]
    fn what_a_token_holder_may_write_that_is_no_message_is_refused_by_name() {
        let cast = cast();
        let (key, mesh) = (&cast.mesh.mailbox, cast.mesh.fingerprint);
        let sealed = |plain: &[u8]| {
            let mut plain = plain.to_vec();
            plain.resize(256 - 40, 0);
            let nonce = [1; NONCE_LEN];
            close(key, &nonce, &mut plain);
            [nonce.as_slice(), &plain].concat()
        };
        for (plain, refused) in [
            (&[][..], Refused::Version(0)),
            (&[2, 1], Refused::Version(2)),
            (&[255, 9], Refused::Version(255)),
            (&[1, 0], Refused::Malformed),
            (&[1, 3], Refused::Malformed),
        ] {
            assert_eq!(open(key, mesh, &sealed(plain)).err(), Some(refused), "{plain:?}");
        }
        for len in [0, 1, 23, 24, 39, 255, 257, 511, 1189, 1191] {
            assert_eq!(open(key, mesh, &alloc::vec![0; len]).err(), Some(Refused::Size));
        }
    }

    #[test]
    fn padding_that_is_not_zero_and_names_with_control_characters_are_refused() {
        let mut bytes = letter("ok", None).encode();
        bytes.extend_from_slice(&[0, 0, 1]);
        assert_eq!(Letter::decode(&bytes), None);
        bytes.truncate(bytes.len() - 1);
        assert!(Letter::decode(&bytes).is_some());
        let at = bytes.windows(2).position(|two| two == b"ok").unwrap();
        for steered in [b"\x1b[", b"a\n", b"\xff\xff"] {
            bytes[at..at + 2].copy_from_slice(steered);
            assert_eq!(Letter::decode(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            let cast = cast();
            let _ = open(&cast.mesh.mailbox, cast.mesh.fingerprint, &bytes);
            let _ = crate::door::Datagram::parse(&bytes);
            fuzz_plaintext(&bytes);
            fuzz_plaintext(&[&[VERSION, KIND_ANNOUNCE], bytes.as_slice()].concat());
            fuzz_plaintext(&[&[VERSION, KIND_LETTER], bytes.as_slice()].concat());
        }

        #[test]
        fn changed_letters_never_open(at in 0_usize..512, bit in 0_u32..8) {
            let cast = cast();
            let pair = PairKeys::new(&cast.mesh, &cast.alice, cast.bob.public).unwrap();
            let card = SentCard { generation: 1, bytes: alloc::vec![9; 200] };
            let cover = cover(&cast.mesh.mailbox, Padding::Smallest);
            let mut sealed = seal_letter(&cover, &pair, cast.alice.public, &letter("a", Some(card)));
            prop_assert_eq!(sealed.len(), 512);
            sealed[at] ^= 1 << bit;
            prop_assert!(matches!(open(&cast.mesh.mailbox, cast.mesh.fingerprint, &sealed), Err(Refused::Seal)));
        }

        #[test]
        fn messages_survive_the_wire(name in "[^\\p{Cc}]{0,16}", card in prop::option::of((1_u32.., prop::collection::vec(any::<u8>(), 0..=CARD_LEN_MAX)))) {
            let letter = letter(&name, card.map(|(generation, bytes)| SentCard { generation, bytes }));
            prop_assert_eq!(Letter::decode(&letter.encode()), Some(letter));
        }
    }
}
