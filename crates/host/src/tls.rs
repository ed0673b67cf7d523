//! TLS as the configuration asks for it: certificates and keys from PEM files to what rustls wants.
//!
//! Certificates only: the links between sites have keys instead, and their TLS is the link layer's.
mod client;

pub use client::{ClientTls, Trust, believed, connect};

use crate::config::{self, CertificateName, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::der::{Decode, asn1::ObjectIdentifier};

/// Longer files are no certificates.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files of a directory of authorities.
const FILES_MAX: usize = 10_000;
/// The common name, as attribute of a subject.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A file that TLS can't be built from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

impl TlsError {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    static FROM_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match min {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}

/// Reads all files of a listener and checks that they fit together.
///
/// # Errors
/// Names the file that can't be used, and why.
pub fn server(tls: &config::Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let chain = certificates(&tls.certificate)?;
    let key = private_key(&tls.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(tls.version_min))
        .map_err(|error| TlsError::new(&tls.certificate, error))?;
    let config = builder
        .with_client_cert_verifier(verifier(tls, provider)?)
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::new(&tls.key, format!("does not fit {}: {error}", tls.certificate.display())))?;
    Ok(Arc::new(config))
}

fn verifier(tls: &config::Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(first) = tls.authorities.first() else { return Ok(Arc::new(NoClientAuth)) };
    let roots = authorities(&tls.authorities)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(path) = &tls.revoked {
        // A list says something of its own authority only; those between need none, as with OpenSSL's CRL_CHECK.
        builder = builder.with_crls(revoked(path)?).only_check_end_entity_revocation();
    }
    if !tls.require_certificate {
        builder = builder.allow_unauthenticated();
    }
    let blamed = tls.revoked.as_ref().unwrap_or(first);
    let verifier = builder.build().map_err(|error| TlsError::new(blamed, error))?;
    Ok(verifier)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    crate::config::read_bounded(path, FILE_BYTES_MAX).map_err(|error| TlsError::new(path, error))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(list) if list.is_empty() => Err(TlsError::new(path, "has no certificate in PEM form")),
        Ok(list) => Ok(list),
        Err(error) => Err(TlsError::new(path, error)),
    }
}

pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::new(path, "has no key in PEM form that is not encrypted"),
        error => TlsError::new(path, error),
    })
}

pub(crate) fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let found: Result<Vec<_>, pem::Error> = CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(list) if list.is_empty() => Err(TlsError::new(path, "has no revocation list in PEM form")),
        Ok(list) => Ok(list),
        Err(error) => Err(TlsError::new(path, error)),
    }
}

/// Files, and all files of directories, in which what is no certificate is passed over.
pub(crate) fn authorities(paths: &[PathBuf]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        let added = if path.is_dir() { add_directory(&mut roots, path)? } else { add_file(&mut roots, path)? };
        if added == 0 {
            return Err(TlsError::new(path, "has no certificate of an authority that can be used"));
        }
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<usize, TlsError> {
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    Ok(added)
}

fn add_directory(roots: &mut RootCertStore, path: &Path) -> Result<usize, TlsError> {
    let failed = |error: std::io::Error| TlsError::new(path, error);
    let mut added = 0;
    for entry in std::fs::read_dir(path).map_err(failed)?.take(FILES_MAX) {
        let file = entry.map_err(failed)?.path();
        if file.is_file() {
            added += add_file(roots, &file).unwrap_or(0);
        }
    }
    Ok(added)
}

/// What of a client's certificate is its user name; `None` if it has none.
pub(crate) fn user_name(certificate: &[u8], name: CertificateName) -> Option<Box<str>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let text = match name {
        CertificateName::Unused => return None,
        CertificateName::Subject => subject.to_string(),
        CertificateName::CommonName => {
            let mut names = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME);
            let (Some(only), None) = (names.next(), names.next()) else { return None };
            // Every kind of string but BMPString, which is UTF-16, is UTF-8 as well.
            std::str::from_utf8(only.value.value()).ok()?.to_owned()
        }
    };
    let is_sound = !text.is_empty() && text.len() <= usize::from(u16::MAX) && !text.contains('\0');
    is_sound.then(|| text.into_boxed_str())
}
