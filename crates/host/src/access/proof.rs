//! Clients that prove their password without saying it: SCRAM-SHA-256 in AUTH packets. Takes no time here, so that who
//! guesses is made to wait.
use super::gate::{Admitted, Answer, Door, Gate, Guest, client_id_of};
use super::realm::Realm;
use access::scram::{METHOD, Server};
use mqtt::{Instant, ReasonCode};
use node::{ConnId, Credentials};
use std::sync::Arc;
use std::time::Duration;

/// How long a wrong proof waits for its answer.
const WRONG_PROOF_PAUSE: Duration = Duration::from_secs(1);

/// Somebody between challenge and proof; kept with the connection.
#[derive(Debug)]
pub struct Proving {
    exchange: Server,
    admitted: Admitted,
    /// Which reading of the files its challenge comes from.
    revision: u64,
}

/// A challenge, and what is to be kept until it is answered.
pub type Challenge = (Box<Proving>, Vec<u8>);

/// An answer that is put off.
#[derive(Debug)]
pub(super) struct PutOff {
    due: Instant,
    answer: Answer,
    /// Whose place among those of its address is given back then.
    place: Option<Door>,
}

impl Gate {
    /// A client names an authentication method in CONNECT.
    ///
    /// # Errors
    /// What to refuse it with.
    pub fn begin_proof(&mut self, credentials: Credentials, door: Door) -> Result<Challenge, ReasonCode> {
        let Credentials { client_id, user, method, is_proved, .. } = credentials;
        let begun = self.realm(door).and_then(|realm| {
            let (method, data) = method.ok_or(ReasonCode::BadAuthenticationMethod)?;
            // [MQTT-4.12.0-1]
            if &*method != METHOD || !realm.passwords.as_ref().is_some_and(|passwords| passwords.has_scram()) {
                return Err(ReasonCode::BadAuthenticationMethod);
            }
            let (exchange, challenge) = self.challenge(&realm, door, &data)?;
            // A name in CONNECT, or that of a certificate, is no other one.
            if user.is_some_and(|user| &*user != exchange.user()) {
                return Err(ReasonCode::NotAuthorized);
            }
            let chosen = client_id_of(&realm, &client_id, Some(exchange.user()))?;
            let guest = Guest::proving(door, exchange.user(), is_proved);
            let admitted = Admitted::by_proof(guest, chosen, self.realms().number(door.listener));
            Ok((Box::new(Proving { exchange, admitted, revision: self.revision }), challenge))
        });
        self.count(&begun);
        begun
    }

    /// A client that is here proves itself once more: as who it is.
    ///
    /// # Errors
    /// What to send it away with.
    pub fn begin_proof_again(&mut self, guest: Option<&Guest>, data: &[u8]) -> Result<Challenge, ReasonCode> {
        let begun = guest.ok_or(ReasonCode::NotAuthorized).and_then(|guest| {
            let realm = self.realm(guest.door)?;
            let (exchange, challenge) = self.challenge(&realm, guest.door, data)?;
            if guest.user.as_deref() != Some(exchange.user()) {
                return Err(ReasonCode::NotAuthorized);
            }
            let admitted = Admitted::by_proof(guest.clone(), None, self.realms().number(guest.door.listener));
            Ok((Box::new(Proving { exchange, admitted, revision: self.revision }), challenge))
        });
        self.count(&begun);
        begun
    }

    fn realm(&self, door: Door) -> Result<Arc<Realm>, ReasonCode> {
        self.realms().of(door.listener).ok_or(ReasonCode::NotAuthorized)
    }

    fn challenge(&self, realm: &Realm, door: Door, data: &[u8]) -> Result<(Server, Vec<u8>), ReasonCode> {
        if self.is_crowded(door) {
            return Err(ReasonCode::ServerBusy);
        }
        let passwords = realm.passwords.as_ref().ok_or(ReasonCode::BadAuthenticationMethod)?;
        let nonce = fresh_nonce().ok_or(ReasonCode::UnspecifiedError)?;
        Server::begin(passwords, data, &nonce, &self.secret).map_err(|_| ReasonCode::NotAuthorized)
    }

    /// A client answers its challenge: who it is and the last word for it.
    ///
    /// # Errors
    /// What to refuse it with, after [`Gate::put_off`].
    pub fn finish_proof(&mut self, proving: Proving, data: &[u8]) -> Result<(Admitted, Vec<u8>), ReasonCode> {
        let Proving { exchange, admitted, revision } = proving;
        // The files have changed meanwhile: what they say now counts, from the beginning.
        let finished = match exchange.finish(data) {
            Ok(_) if revision != self.revision => Err(ReasonCode::ServerBusy),
            Ok(last) => Ok((admitted, last)),
            Err(_) => Err(ReasonCode::NotAuthorized),
        };
        self.count(&finished);
        finished
    }

    fn count<T>(&mut self, outcome: &Result<T, ReasonCode>) {
        match outcome {
            Ok(_) => {}
            Err(ReasonCode::ServerBusy) => self.counts.busy += 1,
            Err(_) => self.counts.refused += 1,
        }
    }

    /// Refuses a client, but not at once. Meanwhile it counts among those of its address that are being checked.
    pub fn put_off(&mut self, now: Instant, conn: ConnId, door: Door, reason: ReasonCode) {
        let answer = Answer { conn, outcome: Err(reason) };
        if self.enter_queue(door).is_ok() {
            self.put_off.push_back(PutOff { due: now + WRONG_PROOF_PAUSE, answer, place: Some(door) });
        } else {
            // So many of its address wait already, and nobody else of it is asked anything.
            self.put_off.push_front(PutOff { due: now, answer, place: None });
        }
    }

    /// The next answer whose time has come.
    pub fn due(&mut self, now: Instant) -> Option<Answer> {
        self.put_off.front().filter(|put_off| put_off.due <= now)?;
        let put_off = self.put_off.pop_front()?;
        if let Some(door) = put_off.place {
            self.leave_queue(door);
        }
        Some(put_off.answer)
    }

    /// When [`Gate::due`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.put_off.front().map(|put_off| put_off.due)
    }
}

/// Eighteen random bytes in printable characters.
fn fresh_nonce() -> Option<String> {
    use base64ct::{Base64, Encoding};
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).ok()?;
    Some(Base64::encode_string(&bytes))
}
