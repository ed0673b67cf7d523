//! Whose certificates are believed: the system's, and a file of the operator's own.
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// Roots of the system and of `ca_file`. What can't be read is left out: then nobody who needs it is believed.
pub(crate) fn certificates(ca_file: Option<&Path>) -> Vec<CertificateDer<'static>> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(own) = ca_file.and_then(|path| CertificateDer::pem_file_iter(path).ok()) {
        all.extend(own.flatten());
    }
    all
}
