//! Password files: `NAME:HASH` lines, as `mosquitto_passwd` writes them.
//!
//! | hash | made of |
//! |---|---|
//! | `$6$SALT$DIGEST` | SHA-512 of password and salt, once: mosquitto before 2.0 |
//! | `$7$ITERATIONS$SALT$DIGEST` | PBKDF2 with HMAC-SHA-512: mosquitto 2 |
//! | `$argon2id$v=19$m=…,t=…,p=…$SALT$DIGEST` | Argon2id, a PHC string: midge |
//! | `$scram-sha-256$ITERATIONS$SALT$STORED$SERVER` | the keys of SCRAM-SHA-256 (RFC 5803's fields): midge |
use crate::scram::{self, Keys};
use crate::{FAULTS_MAX, Fault, quoted};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use base64ct::{Base64, Encoding};
use core::fmt;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// Longest user name and password: MQTT has no longer ones.
const FIELD_BYTES_MAX: usize = 65_535;
const DIGEST_BYTES: usize = 64;
/// A file must not make one check take minutes or the machine's memory.
const ITERATIONS_MAX: u32 = 10_000_000;
const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;
const ARGON2_PASSES_MAX: u32 = 1_000;
const ARGON2_LANES_MAX: u32 = 64;

/// How a password is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `$6$`, for mosquitto before 2.0. Quick to guess: for old files only.
    Sha512,
    /// `$7$` with this many iterations, for mosquitto 2.
    Sha512Pbkdf2(u32),
    /// `$argon2id$`, for midge alone: dear to guess.
    Argon2id,
    /// `$scram-sha-256$` with this many iterations, for midge alone: for clients that prove their password without
    /// saying it, and for those that say it.
    ScramSha256(u32),
}

/// One hash of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Hash);

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Sha512(Salted),
    Pbkdf2 { iterations: u32, salted: Salted },
    Argon2(Box<PasswordHash>),
    Scram(Box<Keys>),
}

#[derive(Clone, PartialEq, Eq)]
struct Salted {
    salt: Box<[u8]>,
    digest: Box<[u8; DIGEST_BYTES]>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Hash::Sha512(_) => "$6$…",
            Hash::Pbkdf2 { .. } => "$7$…",
            Hash::Argon2(_) => "$argon2id$…",
            Hash::Scram(_) => "$scram-sha-256$…",
        })
    }
}

impl Entry {
    /// Reads what stands behind the name.
    ///
    /// # Errors
    /// Says what to write instead; never shows the hash, which may be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || "not a hash: make the line with midge passwd".to_string();
        if text.starts_with("$argon2id$") {
            return argon2_entry(text);
        }
        let mut parts = text.strip_prefix('$').ok_or_else(form)?.split('$');
        let hash = match parts.next() {
            Some("scram-sha-256") => Hash::Scram(Box::new(scram_keys(&mut parts)?)),
            Some("6") => Hash::Sha512(salted(&mut parts).ok_or_else(form)?),
            Some("7") => {
                let iterations = parts.next().and_then(|text| text.parse().ok()).ok_or_else(form)?;
                if !(1..=ITERATIONS_MAX).contains(&iterations) {
                    return Err(format!("found {iterations} iterations: 1 to {ITERATIONS_MAX} can be waited for"));
                }
                Hash::Pbkdf2 { iterations, salted: salted(&mut parts).ok_or_else(form)? }
            }
            Some(_) | None => {
                return Err("not $6$, $7$, $argon2id$ or $scram-sha-256$: make the line with midge passwd".to_string());
            }
        };
        if parts.next().is_some() { Err(form()) } else { Ok(Self(hash)) }
    }

    /// Makes the hash of a password. `salt` is fresh randomness, 16 bytes and at most 64.
    ///
    /// # Errors
    /// When the salt has another size.
    pub fn make(scheme: Scheme, password: &[u8], salt: &[u8]) -> Result<String, String> {
        let encode = Base64::encode_string;
        Ok(match scheme {
            Scheme::Sha512 => format!("$6${}${}", encode(salt), encode(&sha512(password, salt))),
            Scheme::Sha512Pbkdf2(iterations) => {
                format!("$7${iterations}${}${}", encode(salt), encode(&pbkdf2(password, salt, iterations)))
            }
            Scheme::Argon2id => Argon2::default()
                .hash_password_with_salt(password, salt)
                .map_err(|error| error.to_string())?
                .to_string(),
            Scheme::ScramSha256(iterations) => {
                let keys = Keys::make(password, salt, iterations);
                let (salt, stored, server) = (encode(salt), encode(&keys.stored), encode(&keys.server));
                format!("$scram-sha-256${iterations}${salt}${stored}${server}")
            }
        })
    }

    /// Whether this is the password. Takes as long for a wrong one as for the right one.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.0 {
            Hash::Sha512(Salted { salt, digest }) => sha512(password, salt).ct_eq(&digest[..]).into(),
            Hash::Pbkdf2 { iterations, salted: Salted { salt, digest } } => {
                pbkdf2(password, salt, *iterations).ct_eq(&digest[..]).into()
            }
            Hash::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Hash::Scram(keys) => keys.verify(password),
        }
    }

    /// What SCRAM-SHA-256 needs, if it was made for that.
    pub(crate) fn scram(&self) -> Option<&Keys> {
        match &self.0 {
            Hash::Scram(keys) => Some(keys),
            Hash::Sha512(_) | Hash::Pbkdf2 { .. } | Hash::Argon2(_) => None,
        }
    }

    /// How dear a check is, roughly in hash computations.
    fn cost(&self) -> u64 {
        match &self.0 {
            Hash::Sha512(_) => 1,
            Hash::Pbkdf2 { iterations, .. } => 2 * u64::from(*iterations),
            Hash::Scram(keys) => 2 * u64::from(keys.iterations),
            // A block of Argon2 is 1 KiB, which is about what eight blocks of SHA-512 take in.
            Hash::Argon2(hash) => Params::try_from(&**hash)
                .map_or(1, |params| 8 * u64::from(params.m_cost()) * u64::from(params.t_cost())),
        }
    }
}

fn argon2_entry(text: &str) -> Result<Entry, String> {
    let form = || "a damaged $argon2id$ hash: make the line with midge passwd".to_string();
    let hash = PasswordHash::new(text).map_err(|_| form())?;
    let params = Params::try_from(&hash).map_err(|_| form())?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(form());
    }
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory > ARGON2_MEMORY_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
        return Err(format!(
            "found m={memory},t={passes},p={lanes}: write at most \
             m={ARGON2_MEMORY_KIB_MAX},t={ARGON2_PASSES_MAX},p={ARGON2_LANES_MAX}"
        ));
    }
    Ok(Entry(Hash::Argon2(Box::new(hash))))
}

fn scram_keys<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Keys, String> {
    let form = || "a damaged $scram-sha-256$ line: make it with midge passwd -H scram-sha-256".to_string();
    let iterations = parts.next().and_then(|text| text.parse().ok()).ok_or_else(form)?;
    if !(scram::ITERATIONS_MIN..=scram::ITERATIONS_MAX).contains(&iterations) {
        let (least, most) = (scram::ITERATIONS_MIN, scram::ITERATIONS_MAX);
        return Err(format!("found {iterations} iterations: {least} to {most} are taken"));
    }
    let mut decode = || Base64::decode_vec(parts.next()?).ok();
    let (salt, stored, server) = (decode(), decode(), decode());
    let salt = salt.filter(|salt| !salt.is_empty()).ok_or_else(form)?.into_boxed_slice();
    let key = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(form);
    Ok(Keys { iterations, salt, stored: key(stored)?, server: key(server)? })
}

fn salted<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<Salted> {
    let mut decode = || Base64::decode_vec(parts.next()?).ok();
    let (salt, digest) = (decode()?, decode()?);
    let digest: [u8; DIGEST_BYTES] = digest.try_into().ok()?;
    (!salt.is_empty()).then(|| Salted { salt: salt.into(), digest: Box::new(digest) })
}

fn sha512(password: &[u8], salt: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha512::new().chain_update(password).chain_update(salt).finalize().into()
}

fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; DIGEST_BYTES] {
    pbkdf2::pbkdf2_hmac_array::<Sha512, DIGEST_BYTES>(password, salt, iterations)
}

/// A whole password file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Passwords {
    users: BTreeMap<Box<str>, Entry>,
    /// The dearest entry: whoever is not in the file costs as much as it does.
    dearest: Option<Entry>,
    scram_iterations: Option<u32>,
}

impl Passwords {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All lines that are wrong, up to a bound: a file with a mistake must not come into force in parts.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut users: BTreeMap<Box<str>, (Entry, usize)> = BTreeMap::new();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            match user_line(line, &users) {
                Ok((name, entry)) => {
                    users.insert(name, (entry, number));
                }
                Err(message) if faults.len() < FAULTS_MAX => faults.push(Fault { line: number, message }),
                Err(_) => break,
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let dearest = users.values().map(|(entry, _)| entry).max_by_key(|entry| entry.cost()).cloned();
        let scram_iterations = users.values().find_map(|(entry, _)| entry.scram()).map(|keys| keys.iterations);
        let users = users.into_iter().map(|(name, (entry, _))| (name, entry)).collect();
        Ok(Self { users, dearest, scram_iterations })
    }

    /// The entry of a user.
    pub fn entry(&self, user: &str) -> Option<&Entry> {
        self.users.get(user)
    }

    /// Rounds of an entry that was made for SCRAM, for those who are not in the file.
    pub(crate) fn scram_iterations(&self) -> Option<u32> {
        self.scram_iterations
    }

    /// Whether anybody can come in by SCRAM-SHA-256.
    pub fn has_scram(&self) -> bool {
        self.scram_iterations.is_some()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether this is the password of this user. For whom there is no entry this takes as long as the dearest one.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        match self.users.get(user) {
            Some(entry) => entry.verify(password),
            None => {
                let _ = core::hint::black_box(self.dearest.as_ref().map(|entry| entry.verify(password)));
                false
            }
        }
    }
}

fn user_line(line: &str, users: &BTreeMap<Box<str>, (Entry, usize)>) -> Result<(Box<str>, Entry), String> {
    let (name, hash) = line.split_once(':').ok_or("found no ':': write NAME:HASH, with midge passwd")?;
    let name = name.trim();
    check_user_name(name)?;
    if let Some((_, first)) = users.get(name) {
        return Err(format!("{} is on line {first} already: keep one of them", quoted(name)));
    }
    let entry = Entry::parse(hash.trim()).map_err(|reason| format!("{}: {reason}", quoted(name)))?;
    Ok((name.into(), entry))
}

/// Whether a name can stand in a password file.
///
/// # Errors
/// Says why not.
pub fn check_user_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("found no user name: write one before the ':'".to_owned()),
        name if name.len() > FIELD_BYTES_MAX => {
            Err(format!("longer than {FIELD_BYTES_MAX} bytes: no client can say it"))
        }
        name if name.contains(':') => Err(format!("{}: a user name must not contain ':'", quoted(name))),
        name if name.chars().any(char::is_control) => {
            Err(format!("{}: a user name must not contain control characters", quoted(name)))
        }
        name if name.starts_with('#') => Err(format!("{}: a line that begins with '#' is a comment", quoted(name))),
        name if name.trim() != name => Err(format!("{}: spaces around a user name are not kept", quoted(name))),
        _ => Ok(()),
    }
}
