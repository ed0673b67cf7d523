//! The answers to the broker's question who may come in.
use super::proof::PutOff;
use super::realm::{Realm, Realms};
pub use super::workers::Checked;
use super::workers::{Job, Workers};
use crate::config::ASSIGNED_ID_PREFIX;
use crate::driver::Origin;
use mqtt::ReasonCode;
use node::{ConnId, Credentials, Welcome};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Passwords of one address that are checked or wait for it; its further clients are told to come again.
const CHECKS_PER_ADDRESS_MAX: usize = 32;
/// Of all addresses.
const CHECKS_MAX: usize = 4_096;

/// Where a client came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Door {
    /// Place of the listener in the configuration.
    pub listener: usize,
    /// The client's address; none where there is no such thing.
    pub origin: Option<Origin>,
}

/// Somebody who was let in; kept with the connection, to be asked again when the files have changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Guest {
    /// Where.
    pub door: Door,
    /// As whom.
    pub user: Option<Box<str>>,
    password: Option<Zeroizing<Box<[u8]>>>,
    /// Its certificate says who it is, whatever the files say.
    is_proved: bool,
}

impl Guest {
    /// Somebody who proves a name without saying its password.
    pub(super) fn proving(door: Door, user: &str, is_proved: bool) -> Self {
        Self { door, user: Some(user.into()), password: None, is_proved }
    }

    /// Whether it came with a user name, which a change of the files may concern.
    pub(crate) fn has_password(&self) -> bool {
        self.user.is_some() && !self.is_proved
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("door", &self.door).field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the broker and the connection are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who asked.
    pub conn: ConnId,
    /// Come in as this one, or why not.
    pub outcome: Result<Admitted, ReasonCode>,
}

/// What a checked password means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// For a client that waits.
    Answer(Answer),
    /// This client is here and must go.
    Revoke(ConnId),
}

/// What somebody comes in as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Kept with the connection.
    pub guest: Guest,
    client_id: Option<String>,
    realm: Option<u16>,
    /// Its name is what it proved, whatever CONNECT says.
    is_named_by_proof: bool,
}

impl Admitted {
    pub(super) fn by_proof(guest: Guest, client_id: Option<String>, realm: Option<u16>) -> Self {
        Self { guest, client_id, realm, is_named_by_proof: true }
    }

    /// In the broker's words.
    pub fn welcome(&self) -> Welcome<'_> {
        let user = self.guest.user.as_deref().filter(|_| self.is_named_by_proof);
        Welcome { client_id: self.client_id.as_deref(), user, realm: self.realm, auth_data: None }
    }
}

/// Who may come in where no file says it: the settings `broker_user` and `broker_password`.
struct Login {
    user: Box<str>,
    password: Zeroizing<Box<[u8]>>,
}

impl Login {
    /// Whether somebody has said just this, in a time that does not tell how much of it was right.
    fn is_of(&self, guest: &Guest) -> bool {
        let said = guest.password.as_ref().map_or(&[][..], |password| password);
        let different = self.password.iter().zip(said).fold(0, |sum, (a, b)| sum | (a ^ b));
        guest.user.as_deref() == Some(&*self.user) && self.password.len() == said.len() && different == 0
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What became of clients that asked to come in, counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Not allowed: no name, wrong name, wrong password, wrong identifier.
    pub refused: u64,
    /// So many of their passwords were being checked already.
    pub busy: u64,
    /// Sent away because the files have changed.
    pub revoked: u64,
}

/// All rules about coming in, and the questions that are not answered yet.
#[derive(Debug)]
pub struct Gate {
    realms: Realms,
    /// Another one for each reading of the files.
    pub(super) revision: u64,
    workers: Option<Workers>,
    login: Option<Login>,
    waiting: HashMap<ConnId, Admitted>,
    /// Who is here and has yet to be right about a password that was changed.
    doubted: HashSet<ConnId>,
    per_address: HashMap<Origin, usize>,
    /// Refusals that come later, in the order in which they do.
    pub(super) put_off: VecDeque<PutOff>,
    /// What is asked of those who are not in the files is made of this.
    pub(super) secret: [u8; 32],
    /// For `status`.
    pub counts: Counts,
}

impl Gate {
    /// Rules as they were read, and what is to be called, from any thread, when a password has been checked.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn new(realms: Realms, done: impl Fn(Checked) + Send + Sync + 'static) -> io::Result<Self> {
        let workers = if realms.have_passwords() { Some(Workers::start(done)?) } else { None };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        Ok(Self {
            realms,
            revision: 0,
            workers,
            login: None,
            waiting: HashMap::new(),
            doubted: HashSet::new(),
            per_address: HashMap::new(),
            put_off: VecDeque::new(),
            secret,
            counts: Counts::default(),
        })
    }

    /// The one user name and password of listeners that have no password file, from now on; `None`: nobody is asked.
    pub fn set_login(&mut self, login: Option<(&str, &str)>) {
        self.login = login
            .map(|(user, password)| Login { user: user.into(), password: Zeroizing::new(password.as_bytes().into()) });
    }

    /// Whether these rules need somebody to check passwords, and nobody does.
    pub fn lacks_workers(&self, realms: &Realms) -> bool {
        self.workers.is_none() && realms.have_passwords()
    }

    /// Begins to check passwords.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn employ(&mut self, done: impl Fn(Checked) + Send + Sync + 'static) -> io::Result<()> {
        self.workers = Some(Workers::start(done)?);
        Ok(())
    }

    /// Whether somebody who was never asked, because nobody was, may stay under the rules of this listener.
    pub fn takes_unasked(&self, listener: usize) -> bool {
        self.realms.0.get(listener).is_some_and(|realm| realm.allow_anonymous)
    }

    /// May this client come in? The answer, or nothing until [`Gate::checked`].
    pub fn ask(&mut self, credentials: Credentials, door: Door) -> Option<Answer> {
        let conn = credentials.conn;
        let outcome = self.decide(credentials, door).transpose()?;
        self.counts.refused += u64::from(outcome.is_err() && outcome != Err(ReasonCode::ServerBusy));
        Some(Answer { conn, outcome })
    }

    /// `None`: somebody else looks at the password.
    fn decide(&mut self, credentials: Credentials, door: Door) -> Result<Option<Admitted>, ReasonCode> {
        let Credentials { conn, client_id, user, password, is_proved, method: _ } = credentials;
        let realm = self.realms.0.get(door.listener).cloned().ok_or(ReasonCode::NotAuthorized)?;
        let client_id = client_id_of(&realm, &client_id, user.as_deref())?;
        let guest = Guest { door, user, password: password.map(Zeroizing::new).filter(|_| !is_proved), is_proved };
        let admitted =
            Admitted { guest, client_id, realm: self.realms.number(door.listener), is_named_by_proof: false };
        if let (None, Some(login), false) = (&realm.passwords, &self.login, is_proved) {
            return if login.is_of(&admitted.guest) { Ok(Some(admitted)) } else { Err(ReasonCode::NotAuthorized) };
        }
        match (&admitted.guest.user, &realm.passwords) {
            (None, _) if realm.allow_anonymous => Ok(Some(admitted)),
            (Some(_), _) if is_proved => Ok(Some(admitted)),
            // As mosquitto: without passwords a name means nothing, and who may come without one may come with one.
            (Some(_), None) if realm.allow_anonymous => Ok(Some(admitted)),
            (None, _) | (Some(_), None) => Err(ReasonCode::NotAuthorized),
            (Some(_), Some(_)) => {
                self.enter_queue(door)?;
                self.check(conn, &realm, &admitted.guest);
                self.waiting.insert(conn, admitted);
                Ok(None)
            }
        }
    }

    /// Whether so many of an address are being checked already, or of all.
    pub(super) fn is_crowded(&self, door: Door) -> bool {
        let count = door.origin.and_then(|address| self.per_address.get(&address));
        count.is_some_and(|count| *count >= CHECKS_PER_ADDRESS_MAX)
            || self.waiting.len() + self.put_off.len() >= CHECKS_MAX
    }

    pub(super) fn enter_queue(&mut self, door: Door) -> Result<(), ReasonCode> {
        if self.is_crowded(door) {
            self.counts.busy += 1;
            return Err(ReasonCode::ServerBusy);
        }
        if let Some(address) = door.origin {
            *self.per_address.entry(address).or_insert(0) += 1;
        }
        Ok(())
    }

    pub(super) fn leave_queue(&mut self, door: Door) {
        let Some(address) = door.origin else { return };
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    fn check(&self, conn: ConnId, realm: &Realm, guest: &Guest) {
        if let (Some(workers), Some(passwords), Some(user)) = (&self.workers, &realm.passwords, &guest.user) {
            workers.check(Job {
                conn,
                revision: self.revision,
                passwords: Arc::clone(passwords),
                user: user.clone(),
                password: guest.password.clone().unwrap_or_default(),
            });
        }
    }

    /// A password has been checked: of a client that waits, or of one that is here already.
    pub fn checked(&mut self, checked: Checked) -> Option<Word> {
        let Checked { conn, revision, is_right } = checked;
        let Some(admitted) = self.waiting.remove(&conn) else {
            // What an older reading says was asked again when the files changed.
            let is_over = revision == self.revision && self.doubted.remove(&conn);
            return (is_over && !is_right).then_some(Word::Revoke(conn));
        };
        if revision != self.revision {
            // The files have changed meanwhile: what they say now counts.
            if let Some(realm) = self.realms.0.get(admitted.guest.door.listener) {
                self.check(conn, realm, &admitted.guest);
            }
            self.waiting.insert(conn, admitted);
            return None;
        }
        self.leave_queue(admitted.guest.door);
        self.counts.refused += u64::from(!is_right);
        let outcome = if is_right { Ok(admitted) } else { Err(ReasonCode::NotAuthorized) };
        Some(Word::Answer(Answer { conn, outcome }))
    }

    /// The rules in force.
    pub fn realms(&self) -> &Realms {
        &self.realms
    }

    /// What the files say now is in force from now on. Those who are here are to be passed to [`Gate::stays`].
    pub fn replace(&mut self, realms: Realms) -> Realms {
        self.revision += 1;
        std::mem::replace(&mut self.realms, realms)
    }

    /// Whether somebody who is here may stay. Where that depends on a password that was changed it is checked once
    /// more: [`Gate::checked`] speaks up if it is wrong.
    pub fn stays(&mut self, conn: ConnId, guest: &Guest, before: &Realms) -> bool {
        let listener = guest.door.listener;
        let (Some(now), Some(before)) = (self.realms.0.get(listener).cloned(), before.0.get(listener)) else {
            return false;
        };
        if let (None, Some(login)) = (&now.passwords, &self.login) {
            return login.is_of(guest);
        }
        let Some(user) = &guest.user else { return now.allow_anonymous };
        let Some(passwords) = &now.passwords else { return now.allow_anonymous };
        let old = before.passwords.as_ref().and_then(|passwords| passwords.entry(user));
        match passwords.entry(user) {
            None => false,
            Some(entry) if Some(entry) == old && !self.doubted.contains(&conn) => true,
            Some(_) => {
                self.doubted.insert(conn);
                self.check(conn, &now, guest);
                true
            }
        }
    }
}

/// The client identifier, if it is not the one that the client says.
pub(super) fn client_id_of(realm: &Realm, said: &str, user: Option<&str>) -> Result<Option<String>, ReasonCode> {
    let settings = &realm.settings;
    if said.is_empty() && !settings.allow_empty_client_id {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    let chosen = match user {
        Some(user) if settings.client_id_from_user => Some(user.to_owned()),
        None if settings.client_id_from_user => return Err(ReasonCode::NotAuthorized),
        _ if said.is_empty() && settings.assigned_id_prefix != ASSIGNED_ID_PREFIX => {
            Some(fresh_id(&settings.assigned_id_prefix).ok_or(ReasonCode::UnspecifiedError)?)
        }
        Some(_) | None => None,
    };
    match &settings.client_id_prefix {
        // mosquitto looks at what the client says, and at what it is given if it says nothing.
        Some(prefix) if !said.is_empty() && !said.starts_with(prefix.as_str()) => Err(ReasonCode::NotAuthorized),
        Some(prefix) if said.is_empty() && !settings.assigned_id_prefix.starts_with(prefix.as_str()) => {
            Err(ReasonCode::NotAuthorized)
        }
        Some(_) | None => Ok(chosen),
    }
}

/// `PREFIX` and a UUID.
fn fresh_id(prefix: &str) -> Option<String> {
    let number = u128::from(getrandom::u64().ok()?) << 64 | u128::from(getrandom::u64().ok()?);
    let hex = format!("{number:032X}");
    let parts = [hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..)?];
    Some(format!("{prefix}{}", parts.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;

    fn come(gate: &mut Gate, listener: usize, user: Option<&str>, password: &str, is_proved: bool) -> Option<bool> {
        let credentials = Credentials {
            conn: ConnId { slot: 1, generation: 1 },
            client_id: "c".into(),
            user: user.map(Box::from),
            is_proved,
            password: Some(password.as_bytes().into()),
            method: None,
        };
        gate.ask(credentials, Door { listener, origin: None }).map(|answer| answer.outcome.is_ok())
    }

    #[test]
    fn one_login_counts_where_no_file_names_others() {
        let mut with_file = Listener::on_loopback(2);
        let file = tempfile::NamedTempFile::new().unwrap();
        with_file.access.password_file = Some(file.path().to_owned());
        let realms = Realms::load(&[Listener::on_loopback(1), with_file]).unwrap();
        let mut gate = Gate::new(realms.clone(), |_| ()).unwrap();
        assert_eq!(come(&mut gate, 0, None, "", false), Some(true));
        gate.set_login(Some(("bob", "geheim")));
        for (user, password, is_proved, expected) in [
            (Some("bob"), "geheim", false, true),
            (Some("bob"), "geheim!", false, false),
            (Some("bob"), "", false, false),
            (Some("alice"), "geheim", false, false),
            (None, "geheim", false, false),
            (Some("by certificate"), "", true, true),
        ] {
            assert_eq!(come(&mut gate, 0, user, password, is_proved), Some(expected), "{user:?} {password}");
        }
        assert_eq!(come(&mut gate, 1, Some("bob"), "geheim", false), None, "its file decides, on another thread");
        // Those who are here stay as long as they would be let in.
        let door = Door { listener: 0, origin: None };
        let guest = Guest {
            door,
            user: Some("bob".into()),
            password: Some(Zeroizing::new((*b"geheim").into())),
            is_proved: false,
        };
        let conn = ConnId { slot: 1, generation: 1 };
        assert!(gate.stays(conn, &guest, &realms));
        gate.set_login(Some(("bob", "other")));
        assert!(!gate.stays(conn, &guest, &realms));
        gate.set_login(None);
        assert_eq!(come(&mut gate, 0, None, "", false), Some(true));
    }
}
