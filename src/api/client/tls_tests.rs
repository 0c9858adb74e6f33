//! Whom the client believes, against a TLS server in this process.

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::api::client::{ApiClient, ClientError};

/// A server that answers every call with what it was sent, as JSON text.
struct Echo {
    url: String,
    certificate: CertificateDer<'static>,
    pem: String,
}

async fn echo(names: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> Echo {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    let der = certificate.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut bytes = vec![0; 4096];
            let read = stream.read(&mut bytes).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let body = serde_json::to_string(&asked).unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    Echo {
        url,
        certificate: der,
        pem: certificate.pem(),
    }
}

async fn ask(url: &str, anchor: &Anchor) -> Result<String, ClientError> {
    let remote = Remote::new(url.parse().unwrap(), anchor).unwrap();
    let client = ApiClient::remote(remote).with_token("pct_secret".to_owned().into());
    client.get("/v1/whoami").await
}

#[tokio::test]
async fn a_pinned_key_is_believed_and_the_token_goes_with_the_call() {
    let server = echo(&["another.name"], &[&rustls::version::TLS13]).await;
    let pin = Pin::of(&server.certificate).unwrap();
    let said = ask(&server.url, &Anchor::Pin(pin)).await.unwrap();
    assert!(said.starts_with("GET /v1/whoami HTTP/1.1\r\n"), "{said}");
    assert!(said.contains("authorization: Bearer pct_secret\r\n"), "{said}");
    assert!(
        said.contains(&format!("host: {}\r\n", server.url.trim_start_matches("https://"))),
        "{said}"
    );
}

#[tokio::test]
async fn everybody_else_is_not() {
    let server = echo(&["127.0.0.1"], &[&rustls::version::TLS13]).await;
    let other = echo(&["127.0.0.1"], &[&rustls::version::TLS13]).await;
    let misnamed = echo(&["gate.example"], &[&rustls::version::TLS13]).await;
    let pin = Pin::of(&server.certificate).unwrap();
    let ca = Anchor::Ca(server.pem.clone().into_bytes());
    ask(&server.url, &ca).await.unwrap();
    for (url, anchor) in [
        (&other.url, &Anchor::Pin(pin)),
        (&other.url, &ca),
        (&misnamed.url, &Anchor::Ca(misnamed.pem.clone().into_bytes())),
        (&server.url, &Anchor::System),
    ] {
        let refused = ask(url, anchor).await.unwrap_err();
        let ClientError::Unreachable { error, .. } = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let server = echo(&["127.0.0.1"], &[&rustls::version::TLS12]).await;
    let pin = Anchor::Pin(Pin::of(&server.certificate).unwrap());
    assert!(ask(&server.url, &pin).await.is_err());
}

#[test]
fn addresses_read_back_as_they_are_written() {
    for (text, want) in [
        ("https://gate.example:8443", "https://gate.example:8443"),
        ("https://gate.example/", "https://gate.example:443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://192.0.2.7", "https://192.0.2.7:443"),
    ] {
        assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), want);
    }
    for bad in [
        "",
        "gate.example",
        "http://gate.example",
        "https://",
        "https://gate.example/v1",
        "https://a@gate.example",
        "https://gate.example:",
        "https://gate.example:0",
        "https://gate.example:65536",
        "https://gate.example:+1",
        "https://::1",
        "https://[gate]:1",
        "https://gate example",
        "https://gate.example\r\nx: y",
    ] {
        assert!(bad.parse::<ServerUrl>().is_err(), "{bad:?}");
    }
}

#[test]
fn pins_read_back_as_they_are_written() {
    let text = format!("sha256:{}", "0f".repeat(32));
    assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
    assert_eq!(text.to_uppercase().parse::<Pin>().unwrap().to_string(), text);
    for bad in ["", "sha256:", "0f", "md5:00", "sha256:0f0f"] {
        assert!(bad.parse::<Pin>().is_err(), "{bad}");
    }
}
