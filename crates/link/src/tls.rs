//! TLS 1.3 with raw Ed25519 public keys (RFC 7250) on both sides: no certificates, no authorities, no dates.

use crate::PeerKey;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, ServerConfig, TransportConfig, ValidationTokenConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::sync::Arc;

/// The version of the link protocol. A peer with another one is told apart by the handshake.
const ALPN: &[u8] = b"midge/1";

/// SubjectPublicKeyInfo of an Ed25519 key, up to the key (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS #8 of an Ed25519 seed, up to the seed (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The TLS alert that says "another key than expected".
pub(crate) const WRONG_KEY_ALERT: u8 = 49;
/// The TLS alert that says "no common protocol".
pub(crate) const NO_PROTOCOL_ALERT: u8 = 120;

/// The site's key, ready for handshakes.
pub(crate) struct Identity {
    pub(crate) key: PeerKey,
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    token_key: [u8; 32],
}

impl Identity {
    pub(crate) fn new(seed: &[u8; 32], token_key: [u8; 32]) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], seed].concat());
        let signer = rustls::crypto::ring::sign::any_eddsa_type(&pkcs8)?;
        let spki = signer.public_key().ok_or_else(|| rustls::Error::General("the key has no public half".into()))?;
        let public = spki.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
        let key = PeerKey(public.ok_or_else(|| rustls::Error::General("not an Ed25519 key".into()))?);
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], signer));
        Ok(Self { key, certified, provider, token_key })
    }

    /// The client's half of a handshake in which the server must prove to own `expected`.
    pub(crate) fn client(
        &self,
        expected: PeerKey,
        transport: Arc<TransportConfig>,
    ) -> Result<ClientConfig, rustls::Error> {
        let mut tls = rustls::ClientConfig::builder_with_details(self.provider.clone(), Arc::new(Timeless))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(expected))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.certified.clone())));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_sni = false;
        let quic = QuicClientConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(quic));
        config.transport_config(transport);
        Ok(config)
    }

    /// The server's half of a handshake in which the client must prove to own `expected`.
    pub(crate) fn server(
        &self,
        expected: PeerKey,
        transport: Arc<TransportConfig>,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut tls = rustls::ServerConfig::builder_with_details(self.provider.clone(), Arc::new(Timeless))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.verifier(expected))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.certified.clone())));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        let quic = QuicServerConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
        let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&self.token_key);
        let mut config = ServerConfig::new(Arc::new(quic), Arc::new(token_key));
        // ICE moves the path; QUIC sees one virtual address for ever.
        config.migration(false).transport_config(transport);
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        config.validation_token_config(tokens);
        Ok(config)
    }

    fn verifier(&self, expected: PeerKey) -> Arc<Expect> {
        let spki = [&SPKI_PREFIX[..], &expected.0].concat();
        Arc::new(Expect { spki, algorithms: self.provider.signature_verification_algorithms })
    }
}

/// Raw keys have no dates, tickets are off: nobody needs to know the time.
#[derive(Debug)]
struct Timeless;

impl TimeProvider for Timeless {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(core::time::Duration::ZERO))
    }
}

/// Accepts one key and no other.
#[derive(Debug)]
struct Expect {
    spki: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Expect {
    fn check(&self, presented: &[u8]) -> Result<(), rustls::Error> {
        if presented == self.spki {
            return Ok(());
        }
        // Becomes the alert `access_denied`, by which both ends name the case.
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }
}

/// TLS 1.2 is never offered, so nobody asks for its signatures.
fn no_tls12() -> rustls::Error {
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered)
}

impl ServerCertVerifier for Expect {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Expect {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
