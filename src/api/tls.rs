//! TLS 1.3 for callers that are not at the server's own socket.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::client::tls::Pin;
use crate::durable;

/// Largest certificate or key file, in bytes.
const PEM_BYTES_MAX: u64 = 256 * 1024;
/// How long a certificate that the server makes itself is good for, in days.
pub const OWN_DAYS: i64 = 825;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {why}")]
    File { path: String, why: String },
    #[error("the API's certificate and key do not go together: {0}")]
    Pair(String),
}

fn at(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let size = std::fs::metadata(path).map_err(|error| at(path, error))?.len();
    if size > PEM_BYTES_MAX {
        return Err(at(path, format!("larger than {PEM_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| at(path, error))
}

/// What the API's TLS listener shows: a certificate chain and its key, in PEM.
///
/// # Errors
/// A file that cannot be read, or a key that is not the certificate's.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| at(certificate, format!("{error:?}")))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| at(key, format!("{error:?}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| TlsError::Pair(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes a key and a certificate of its own for `names`, unless both are
/// there; clients pin it (`portcullis login --pin`) or are given the file.
///
/// # Errors
/// When they cannot be made or written.
pub fn make_own(certificate: &Path, key: &Path, names: &[String], now_ms: u64) -> Result<(), TlsError> {
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let failed = |error: rcgen::Error| at(certificate, error);
    let mut wanted = rcgen::CertificateParams::new(names.to_vec()).map_err(failed)?;
    let day = |days: i64| {
        let now = i64::try_from(now_ms / 1000).unwrap_or(0);
        let civil = jiff::Timestamp::from_second(now.saturating_add(days.saturating_mul(86_400)))
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(
            i32::from(civil.year()),
            u8::try_from(civil.month()).unwrap_or(1),
            u8::try_from(civil.day()).unwrap_or(1),
        )
    };
    wanted.not_before = day(-1);
    wanted.not_after = day(OWN_DAYS);
    wanted
        .distinguished_name
        .push(rcgen::DnType::CommonName, "portcullis API");
    let pair = rcgen::KeyPair::generate().map_err(failed)?;
    let signed = wanted.self_signed(&pair).map_err(failed)?;
    let write = |path: &Path, text: String, mode| {
        let staging = path.with_extension("new");
        durable::replace(path, text.as_bytes(), mode, &staging)
    };
    write(key, pair.serialize_pem(), 0o600).map_err(|error| at(key, error))?;
    write(certificate, signed.pem(), 0o644).map_err(|error| at(certificate, error))
}

/// What clients pin.
///
/// # Errors
/// A file without a certificate.
pub fn pin_of(certificate: &Path) -> Result<Pin, TlsError> {
    let der =
        CertificateDer::from_pem_slice(&read(certificate)?).map_err(|error| at(certificate, format!("{error:?}")))?;
    Pin::of(&der).ok_or_else(|| at(certificate, "its public key cannot be read"))
}
