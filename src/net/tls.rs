//! The one TLS client configuration: aws-lc-rs, the system's roots (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` are honoured), Mozilla's roots where the image has none.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What one peer asks for beyond the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// A PEM file of authorities that are trusted too.
    pub ca_file: Option<&'a Path>,
    /// PEM files of our own certificate and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// Any certificate of the peer will do.
    pub any_certificate: bool,
}

/// A client configuration that trusts the system's roots and what the extras name. No ALPN is set:
/// whoever speaks HTTP over it adds its own.
///
/// # Errors
/// When a file cannot be read or does not hold what it should.
pub fn client_config(extras: Extras<'_>) -> Result<ClientConfig, String> {
    super::install_crypto();
    let builder = if extras.any_certificate {
        let provider = rustls::crypto::CryptoProvider::get_default()
            .ok_or("there is no TLS provider")?
            .clone();
        ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let mut roots = system_roots();
        for certificate in extras.ca_file.map_or(Ok(Vec::new()), certificates)? {
            roots.add(certificate).map_err(|error| {
                let path = extras.ca_file.unwrap_or(Path::new("")).display();
                format!("the CA file {path} holds a certificate that cannot be used: {error}")
            })?;
        }
        ClientConfig::builder().with_root_certificates(roots)
    };
    let Some((certificate, key)) = extras.identity else {
        return Ok(builder.with_no_client_auth());
    };
    builder
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(|error| {
            format!(
                "the certificate {} cannot be used with the key {}: {error}",
                certificate.display(),
                key.display()
            )
        })
}

/// The certificates of a PEM file, one at least.
///
/// # Errors
/// A sentence that names the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("cannot read the certificate file {shown}: {error}"))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificate file {shown} is not PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!("the file {shown} holds no certificate (PEM)"));
    }
    Ok(found)
}

/// The private key of a PEM file.
///
/// # Errors
/// A sentence that names the file and holds nothing of the key.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("cannot use the key file {}: {error}", path.display()))
}

/// For `AMQP_TLS_REJECT_UNAUTHORIZED=false`. Signatures are still checked: the peer has the key of
/// the certificate it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
