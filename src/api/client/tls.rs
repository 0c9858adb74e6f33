//! The way to a server over TLS 1.3, and whom to trust there: a given
//! authority, a pinned key, or the system's authorities.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kernel::grant::hex32;

/// Port of a URL that names none.
const PORT_DEFAULT: u16 = 443;
/// Longest host name (RFC 1035 section 2.3.4), in bytes.
const HOST_BYTES_MAX: usize = 253;
/// Most authorities that one file may hold.
const ROOTS_MAX: usize = 64;

/// Why a server cannot be spoken to over TLS.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("`{0}` is not a server's address such as https://gate.example:8443")]
    Url(String),
    #[error("`{0}` is not the fingerprint of a key, which is `sha256:` and 64 hexadecimal digits")]
    Pin(String),
    #[error("the file of authorities is of no use: {0}")]
    Ca(String),
    #[error(
        "this system names no certificate authorities: give one with --ca FILE, or pin the server's key with --pin"
    )]
    NoRoots,
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// `https://HOST[:PORT]`, nothing behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerUrl {
    /// Without brackets.
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl ServerUrl {
    /// As it stands in the header `Host`.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<ServerUrl, RemoteError> {
        let bad = || RemoteError::Url(text.chars().take(HOST_BYTES_MAX).collect());
        let rest = text.strip_prefix("https://").ok_or_else(bad)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, port)
            }
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().map_err(|_| bad())?,
            None if port.is_empty() => PORT_DEFAULT,
            Some(_) | None => return Err(bad()),
        };
        if host.len() > HOST_BYTES_MAX || port == 0 {
            return Err(bad());
        }
        Ok(ServerUrl {
            name: ServerName::try_from(host.to_owned()).map_err(|_| bad())?,
            host: host.to_owned(),
            port,
        })
    }
}

/// SHA-256 over a certificate's SubjectPublicKeyInfo (RFC 7469 section 2.4):
/// it stays when the certificate is renewed for the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of a certificate; none if its key cannot be found.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Pin> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        Some(Pin(Sha256::digest(parsed.subject_public_key_info().as_ref()).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex32::encode(&self.0))
    }
}

impl FromStr for Pin {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Pin, RemoteError> {
        let bad = || RemoteError::Pin(text.chars().take(80).collect());
        let (kind, digits) = text.split_once(':').ok_or_else(bad)?;
        match kind.eq_ignore_ascii_case("sha256") {
            true => hex32::decode(&digits.to_ascii_lowercase()).map(Pin).ok_or_else(bad),
            false => Err(bad()),
        }
    }
}

/// Whom to believe that it is the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// Who holds this key, whatever the certificate says.
    Pin(Pin),
    /// Whom one of these authorities (PEM) names.
    Ca(Vec<u8>),
    /// Whom an authority of the system names.
    System,
}

/// A server over TLS. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    url: ServerUrl,
    connector: TlsConnector,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.url).finish()
    }
}

impl Remote {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// When `anchor` names nobody.
    pub fn new(url: ServerUrl, anchor: &Anchor) -> Result<Remote, RemoteError> {
        let setup = |error: rustls::Error| RemoteError::Setup(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(setup)?;
        let mut config = match anchor {
            Anchor::Pin(pin) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { pin: *pin, provider }))
                .with_no_client_auth(),
            Anchor::Ca(pem) => builder.with_root_certificates(given(pem)?).with_no_client_auth(),
            Anchor::System => builder.with_root_certificates(system()?).with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Remote {
            url,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// The key of who answers there, its identity checked; none if it cannot
    /// be told.
    ///
    /// # Errors
    /// As [`Remote::connect`].
    pub(super) async fn key(&self) -> io::Result<Option<Pin>> {
        let stream = self.connect().await?;
        let (_, session) = stream.get_ref();
        Ok(session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(Pin::of))
    }

    /// A connection to it, its identity checked.
    ///
    /// # Errors
    /// `InvalidData` when it is not who is trusted, else what the network says.
    pub(super) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.url.name.clone(), stream).await
    }
}

fn given(pem: &[u8]) -> Result<RootCertStore, RemoteError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).take(ROOTS_MAX) {
        let certificate = certificate.map_err(|error| RemoteError::Ca(format!("{error:?}")))?;
        roots
            .add(certificate)
            .map_err(|error| RemoteError::Ca(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(RemoteError::Ca("it holds no certificate (PEM)".to_owned())),
        false => Ok(roots),
    }
}

fn system() -> Result<RootCertStore, RemoteError> {
    let mut roots = RootCertStore::empty();
    // Some system stores hold one that no verifier takes; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(RemoteError::NoRoots),
        false => Ok(roots),
    }
}

/// Believes one key, and that the other end holds it.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The key is the name here; dates and names of its certificate say nothing more.
        match Pin::of(end_entity) == Some(self.pin) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
