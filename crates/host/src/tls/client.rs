//! The client's side: whom it believes, and what it shows.
use super::{TlsError, authorities, certificates, private_key, provider, versions};
use crate::config::TlsVersion;
use rustls::SupportedProtocolVersion;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

static ONLY_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Whom a client believes to be the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Whoever the authorities of this machine believe.
    System,
    /// Whoever they or those in this PEM file believe.
    SystemAnd(PathBuf),
    /// Whoever these authorities believe: PEM files, and directories of them.
    Authorities(Vec<PathBuf>),
}

/// A client's TLS as its user asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientTls {
    /// Whom it believes.
    pub trust: Trust,
    /// Whether the name in the server's certificate may be any.
    pub any_name: bool,
    /// What it shows of itself: certificate and key, as PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The one version that it speaks; `None`: 1.2 and 1.3.
    pub only: Option<TlsVersion>,
    /// The application protocol that it asks for.
    pub alpn: Option<String>,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self { trust: Trust::System, any_name: false, identity: None, only: None, alpn: None }
    }
}

impl ClientTls {
    /// Reads all files.
    ///
    /// # Errors
    /// Names the file that can't be used, and why.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = Arc::new(self.roots()?);
        let provider = provider();
        let blamed = Path::new("TLS");
        let spoken = match self.only {
            None => versions(TlsVersion::V1_2),
            Some(TlsVersion::V1_2) => ONLY_1_2,
            Some(TlsVersion::V1_3) => versions(TlsVersion::V1_3),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(spoken)
            .map_err(|error| TlsError::new(blamed, error))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| TlsError::new(blamed, error))?;
        let builder = match self.any_name {
            false => builder.with_webpki_verifier(verifier),
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier))),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| TlsError::new(key, format!("does not fit {}: {error}", certificate.display())))?,
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let own = match &self.trust {
            Trust::Authorities(paths) => return authorities(paths),
            Trust::System => None,
            Trust::SystemAnd(path) => Some(path.as_path()),
        };
        let mut roots = RootCertStore::empty();
        match roots.add_parsable_certificates(believed(own)?) {
            (0, _) => Err(TlsError::new(Path::new("TLS"), "this machine knows no authorities")),
            _ => Ok(roots),
        }
    }
}

/// Certificates of the authorities that this machine believes, and of those in a file of the operator's own.
///
/// # Errors
/// When that file can't be used, or there is none and the machine has no authorities.
pub fn believed(own: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let system = rustls_native_certs::load_native_certs();
    let mut all = system.certs;
    match (own, system.errors.first()) {
        (Some(path), _) => all.extend(certificates(path)?),
        (None, Some(error)) if all.is_empty() => {
            return Err(TlsError::new(Path::new("TLS"), format!("this machine knows no authorities: {error}")));
        }
        (None, _) => {}
    }
    Ok(all)
}

/// Begins a connection to `host`, a name or an IP address.
///
/// # Errors
/// When `host` can stand in no certificate.
pub fn connect(config: &Arc<ClientConfig>, host: &str) -> Result<ClientConnection, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("'{host}' is no name for a certificate"))?;
    ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())
}

/// Believes the authorities, whatever name they have certified.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: everything else is right then.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
