//! The one TLS client configuration: aws-lc-rs, the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), Mozilla's
//! roots where the image has none.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A client configuration that trusts the system's roots and, if given, those of one more PEM file (`AMQP_CA_FILE`). No ALPN is
/// set: whoever speaks HTTP over it adds its own.
///
/// # Errors
/// When the extra file cannot be read or holds no certificate.
pub fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, String> {
    super::install_crypto();
    let mut roots = system_roots();
    if let Some(path) = extra_ca {
        let mut added = 0;
        let certificates = CertificateDer::pem_file_iter(path)
            .map_err(|error| format!("cannot read the CA file {}: {error}", path.display()))?;
        for certificate in certificates {
            let certificate = certificate
                .map_err(|error| format!("the CA file {} is not PEM: {error}", path.display()))?;
            roots.add(certificate).map_err(|error| {
                format!(
                    "the CA file {} holds a certificate that cannot be used: {error}",
                    path.display()
                )
            })?;
            added += 1;
        }
        if added == 0 {
            return Err(format!(
                "the CA file {} holds no certificate",
                path.display()
            ));
        }
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The system's roots in the order found; Mozilla's where there are none.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a system certificate could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
