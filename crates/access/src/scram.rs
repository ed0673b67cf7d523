//! SCRAM-SHA-256 (RFC 5802, RFC 7677): both halves, as values. Nobody says the password, and who reads the file of the
//! server can't play the client.
//!
//! Names and passwords are compared as they are written: no SASLprep, which leaves ASCII alone. Channel binding is not
//! spoken.
use crate::Passwords;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use core::fmt;
use pbkdf2::hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The name of the method in MQTT.
pub const METHOD: &str = "SCRAM-SHA-256";
/// What RFC 7677 asks for at least, and what a client refuses to go below.
pub const ITERATIONS_MIN: u32 = 4_096;
/// What [`crate::Scheme::ScramSha256`] is given if nothing is said.
pub const ITERATIONS: u32 = 10_000;
/// A server must not make a client count for minutes.
pub const ITERATIONS_MAX: u32 = 10_000_000;
/// Longer messages are refused unread.
const MESSAGE_BYTES_MAX: usize = 4_096;
const NONCE_BYTES_MAX: usize = 256;
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) iterations: u32,
    pub(crate) salt: Box<[u8]>,
    pub(crate) stored: Key,
    pub(crate) server: Key,
}

impl Keys {
    pub(crate) fn make(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted(password, salt, iterations);
        let stored = Sha256::digest(hmac(&salted, b"Client Key")).into();
        Self { iterations, salt: salt.into(), stored, server: hmac(&salted, b"Server Key") }
    }

    /// Whether it is this password that it was made of.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        let made = Self::make(password, &self.salt, self.iterations);
        made.stored.ct_eq(&self.stored).into()
    }
}

/// Why a message is not gone on with. Never says more to the other side than its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Not in the form of the standard.
    Malformed,
    /// The client wants its channel bound, or something that must be understood and is not.
    Unsupported,
    /// It wants to be somebody else than it proves to be.
    OtherName,
    /// The nonce, or what repeats the first message, is not what it was.
    Mismatch,
    /// There is no such user, or the proof is wrong.
    WrongProof,
    /// The server asks for too few rounds, or for too many.
    Iterations,
    /// The server does not know the password either.
    WrongServer,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a message of SCRAM",
            Self::Unsupported => "channel binding and extensions are not supported",
            Self::OtherName => "nobody may be somebody else",
            Self::Mismatch => "does not fit the messages before",
            Self::WrongProof => "not this user, or not this password",
            Self::Iterations => "asks for a number of rounds that is not safe",
            Self::WrongServer => "the server does not prove that it knows the password",
        })
    }
}

impl core::error::Error for Refusal {}

/// The server's half, between its challenge and the client's proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    user: Box<str>,
    /// The header of the client's first message, which its second repeats.
    header: Box<str>,
    nonce: Box<str>,
    /// Both first messages, as the proof covers them.
    transcript: String,
    keys: Keys,
    is_known: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Server {
    /// Takes the client's first message. Returns the exchange and the challenge for the client.
    ///
    /// `nonce` is fresh randomness in printable characters but the comma. Who is not in the file gets a challenge too,
    /// always the same one for the same name, made with `secret`: nobody learns who is in it.
    ///
    /// # Errors
    /// When the message can't be gone on with.
    pub fn begin(
        passwords: &Passwords,
        message: &[u8],
        nonce: &str,
        secret: &[u8; KEY_BYTES],
    ) -> Result<(Self, Vec<u8>), Refusal> {
        let text = readable(message)?;
        // n,[a=NAME],n=NAME,r=NONCE
        let mut parts = text.splitn(3, ',');
        let (flag, other) = (parts.next(), parts.next());
        let bare = parts.next().ok_or(Refusal::Malformed)?;
        match flag {
            Some("n" | "y") => {}
            Some(flag) if flag.starts_with("p=") => return Err(Refusal::Unsupported),
            Some(_) | None => return Err(Refusal::Malformed),
        }
        let mut attributes = bare.split(',');
        let name = attributes.next().unwrap_or_default();
        if name.starts_with("m=") {
            return Err(Refusal::Unsupported);
        }
        let user = unescape(name.strip_prefix("n=").ok_or(Refusal::Malformed)?)?;
        let theirs = attributes.next().and_then(|part| part.strip_prefix("r=")).ok_or(Refusal::Malformed)?;
        if user.is_empty() || !is_nonce(theirs) {
            return Err(Refusal::Malformed);
        }
        match other.unwrap_or_default() {
            "" => {}
            other if other.strip_prefix("a=").map(unescape) == Some(Ok(user.clone())) => {}
            _ => return Err(Refusal::OtherName),
        }
        let found = passwords.entry(&user).and_then(|entry| entry.scram());
        let keys = found.cloned().unwrap_or_else(|| nobodys(passwords, &user, secret));
        let header = text.get(..text.len() - bare.len()).ok_or(Refusal::Malformed)?;
        let nonce = format!("{theirs}{nonce}");
        let challenge = format!("r={nonce},s={},i={}", Base64::encode_string(&keys.salt), keys.iterations);
        let server = Self {
            user: user.into(),
            header: header.into(),
            nonce: nonce.into(),
            transcript: format!("{bare},{challenge}"),
            keys,
            is_known: found.is_some(),
        };
        Ok((server, challenge.into_bytes()))
    }

    /// Who it says to be.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Takes the client's proof. Returns what proves to the client that this is the server.
    ///
    /// # Errors
    /// When the proof is wrong, or is none.
    pub fn finish(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = readable(message)?;
        // c=HEADER,r=NONCE[,…],p=PROOF
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Refusal::Malformed)?;
        let proof: Key = decode(proof)?.try_into().map_err(|_| Refusal::Malformed)?;
        let mut attributes = without_proof.split(',');
        let header = attributes.next().and_then(|part| part.strip_prefix("c=")).ok_or(Refusal::Malformed)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r=")).ok_or(Refusal::Malformed)?;
        if decode(header)? != self.header.as_bytes() || nonce != &*self.nonce {
            return Err(Refusal::Mismatch);
        }
        let transcript = format!("{},{without_proof}", self.transcript);
        let signature = hmac(&self.keys.stored, transcript.as_bytes());
        let client_key = xor(&proof, &signature);
        let is_right: bool = Sha256::digest(client_key).ct_eq(&self.keys.stored[..]).into();
        if !is_right || !self.is_known {
            return Err(Refusal::WrongProof);
        }
        let signature = hmac(&self.keys.server, transcript.as_bytes());
        Ok(format!("v={}", Base64::encode_string(&signature)).into_bytes())
    }
}

/// What somebody who is not in the file is asked: nothing that could be answered.
fn nobodys(passwords: &Passwords, user: &str, secret: &Key) -> Keys {
    let salt = hmac(secret, user.as_bytes());
    let iterations = passwords.scram_iterations().unwrap_or(ITERATIONS);
    Keys {
        iterations,
        salt: salt.get(..16).unwrap_or(&salt).into(),
        stored: hmac(secret, &salt),
        server: [0; KEY_BYTES],
    }
}

/// The client's half.
#[derive(Clone)]
pub struct Client {
    password: Vec<u8>,
    first: String,
    nonce: String,
    signature: Option<Key>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What the client has not asked to be bound to anything says of its channel.
const HEADER: &str = "n,,";

impl Client {
    /// `nonce` is fresh randomness in printable characters without a comma.
    pub fn new(user: &str, password: &[u8], nonce: &str) -> Self {
        let first = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        Self { password: password.to_vec(), first, nonce: nonce.to_owned(), signature: None }
    }

    /// The first message.
    pub fn first(&self) -> Vec<u8> {
        format!("{HEADER}{}", self.first).into_bytes()
    }

    /// Takes the challenge. Returns the proof.
    ///
    /// # Errors
    /// When the server asks for something that is not safe, or is no server of SCRAM.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = readable(challenge)?;
        let mut attributes = text.split(',');
        let mut attribute = |name| attributes.next().and_then(|part: &str| part.strip_prefix(name));
        let nonce = attribute("r=").ok_or(Refusal::Malformed)?;
        let salt = decode(attribute("s=").ok_or(Refusal::Malformed)?)?;
        let iterations: u32 = attribute("i=").and_then(|number| number.parse().ok()).ok_or(Refusal::Malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || salt.is_empty() {
            return Err(Refusal::Mismatch);
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(Refusal::Iterations);
        }
        let salted = salted(&self.password, &salt, iterations);
        let client_key = hmac(&salted, b"Client Key");
        let stored: Key = Sha256::digest(client_key).into();
        let without_proof = format!("c={},r={nonce}", Base64::encode_string(HEADER.as_bytes()));
        let transcript = format!("{},{text},{without_proof}", self.first);
        let proof = xor(&client_key, &hmac(&stored, transcript.as_bytes()));
        self.signature = Some(hmac(&hmac(&salted, b"Server Key"), transcript.as_bytes()));
        Ok(format!("{without_proof},p={}", Base64::encode_string(&proof)).into_bytes())
    }

    /// Takes the server's last word.
    ///
    /// # Errors
    /// When it does not prove that the server knows the password.
    pub fn finish(&self, message: &[u8]) -> Result<(), Refusal> {
        let signature = readable(message)?.strip_prefix("v=").ok_or(Refusal::WrongServer)?;
        let signature = decode(signature.split(',').next().unwrap_or_default())?;
        let expected = self.signature.as_ref().ok_or(Refusal::WrongServer)?;
        let is_right: bool = signature.as_slice().ct_eq(&expected[..]).into();
        if is_right { Ok(()) } else { Err(Refusal::WrongServer) }
    }
}

fn readable(message: &[u8]) -> Result<&str, Refusal> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    core::str::from_utf8(message).map_err(|_| Refusal::Malformed)
}

fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    Base64::decode_vec(text).map_err(|_| Refusal::Malformed)
}

fn is_nonce(text: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// `=2C` is a comma in a name, `=3D` an equals sign.
fn unescape(name: &str) -> Result<String, Refusal> {
    let mut parts = name.split('=');
    let mut user = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (sign, rest) = match part.get(..2) {
            Some("2C") => (',', part.get(2..)),
            Some("3D") => ('=', part.get(2..)),
            Some(_) | None => return Err(Refusal::Malformed),
        };
        user.push(sign);
        user.push_str(rest.unwrap_or_default());
    }
    Ok(user)
}

fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_BYTES>(password, salt, iterations)
}

fn hmac(key: &[u8], data: &[u8]) -> Key {
    // A key of any length will do for HMAC, so that this is never the other case.
    Hmac::<Sha256>::new_from_slice(key)
        .map_or([0; KEY_BYTES], |mac| mac.chain_update(data).finalize().into_bytes().into())
}

fn xor(one: &Key, other: &Key) -> Key {
    let mut result = *one;
    result.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    result
}
