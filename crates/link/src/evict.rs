//! Giving back what an earlier life of ours left at a TURN server. A site that was killed comes back from the same
//! port, and until the old allocation expires, ten minutes later, the server answers 437 (RFC 8656 §5).

use crate::door::TurnServer;
use turn_client_proto::stun::types::attribute::{ErrorCode, Nonce, Realm, Username};
use turn_client_proto::stun::types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageWriteVec,
};
use turn_client_proto::stun::types::prelude::*;
use turn_client_proto::types::attribute::Lifetime;
use turn_client_proto::types::message::{ALLOCATE, REFRESH};

/// What a server wants to see beside a password.
#[derive(Clone)]
pub(crate) struct Challenge {
    realm: String,
    nonce: String,
}

/// What a message of the server means for an eviction.
pub(crate) enum Verdict {
    /// Nothing.
    Other,
    /// There is an allocation of ours already.
    Occupied,
    /// The request to give it back needs the newest challenge.
    Stale,
    /// There is none, or none any more.
    Vacated,
}

/// The challenge in a message, if there is one.
pub(crate) fn challenge(datagram: &[u8]) -> Option<Challenge> {
    let message = Message::from_bytes(datagram).ok().filter(|message| message.has_class(MessageClass::Error))?;
    let realm = message.attribute::<Realm>().ok()?.realm().to_owned();
    let nonce = message.attribute::<Nonce>().ok()?.nonce().to_owned();
    Some(Challenge { realm, nonce })
}

pub(crate) fn verdict(datagram: &[u8]) -> Verdict {
    let Ok(message) = Message::from_bytes(datagram) else { return Verdict::Other };
    let code = message.attribute::<ErrorCode>().ok().map(|error| error.code());
    let of = |method| message.is_response() && message.method() == method;
    match code {
        Some(ErrorCode::ALLOCATION_MISMATCH) if of(ALLOCATE) => Verdict::Occupied,
        Some(ErrorCode::STALE_NONCE | ErrorCode::UNAUTHORIZED) if of(REFRESH) => Verdict::Stale,
        Some(_) | None if of(REFRESH) => Verdict::Vacated,
        Some(_) | None => Verdict::Other,
    }
}

/// The request to give back whatever there is.
pub(crate) fn request(server: &TurnServer, challenge: &Challenge) -> Option<Vec<u8>> {
    let mut message = Message::builder_request(REFRESH, MessageWriteVec::new());
    message.add_attribute(&Lifetime::new(0)).ok()?;
    message.add_attribute(&Username::new(&server.username).ok()?).ok()?;
    message.add_attribute(&Realm::new(&challenge.realm).ok()?).ok()?;
    message.add_attribute(&Nonce::new(&challenge.nonce).ok()?).ok()?;
    let credentials = LongTermCredentials::new(server.username.clone(), server.password.clone());
    let credentials = credentials.to_key(challenge.realm.clone());
    message.add_message_integrity(&credentials.into(), IntegrityAlgorithm::Sha1).ok()?;
    message.add_fingerprint().ok()?;
    Some(message.finish())
}
