//! Which reason codes belong to which packet [MQTT5 2.4].
use super::{DecodeError, EncodeError, Kind};
use crate::reason::ReasonCode;

pub(super) fn read(kind: Kind, code: u8) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(code).filter(|&reason| belongs(kind, reason)).ok_or(DecodeError::Reason(code))
}

pub(super) fn check(kind: Kind, reason: ReasonCode) -> Result<u8, EncodeError> {
    if belongs(kind, reason) { Ok(reason as u8) } else { Err(EncodeError::Reason(reason)) }
}

fn belongs(kind: Kind, reason: ReasonCode) -> bool {
    let code = reason as u8;
    match kind {
        // [MQTT-3.2.2-8]
        Kind::ConnAck => {
            matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
        }
        // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
        Kind::PubAck | Kind::PubRec => matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
        // [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        Kind::PubRel | Kind::PubComp => matches!(code, 0 | 0x92),
        // [MQTT-3.9.3-2]
        Kind::SubAck => {
            matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
        }
        // [MQTT-3.11.3-2]
        Kind::UnsubAck => matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
        // [MQTT-3.14.2-1]; 0x8C as table 2.4 has it.
        Kind::Disconnect => matches!(
            code,
            0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2
        ),
        // [MQTT-3.15.2-1]
        Kind::Auth => matches!(code, 0 | 0x18 | 0x19),
        Kind::Connect | Kind::Publish | Kind::Subscribe | Kind::Unsubscribe | Kind::PingReq | Kind::PingResp => false,
    }
}
