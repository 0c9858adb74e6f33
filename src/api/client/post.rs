//! One message to somebody else's HTTP server.

use std::future::Future;
use std::pin::Pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Stream;
use super::tls::{Anchor, Remote, ServerUrl};
use crate::notify::Post;

/// Most of an answer's body that is read, in bytes: only its status counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts over HTTPS, whom the system's authorities name; in clear only to
/// this machine (`http://`), which the configuration sees to.
pub struct Poster;

/// `scheme://authority/path` in its pieces.
fn pieces(url: &str) -> Option<(bool, &str, &str)> {
    let (tls, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Some((tls, authority, if path.is_empty() { "/" } else { path }))
}

/// Whether a message would leave this machine in clear.
pub fn in_clear_to_others(url: &str) -> bool {
    let Some((tls, authority, _)) = pieces(url) else {
        return true;
    };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !tls && !local
}

async fn connect(tls: bool, authority: &str) -> Result<Box<dyn Stream>, String> {
    if tls {
        let url: ServerUrl = format!("https://{authority}")
            .parse()
            .map_err(|error| format!("{error}"))?;
        let remote = Remote::new(url, &Anchor::System).map_err(|error| error.to_string())?;
        let stream = remote.connect().await.map_err(|error| error.to_string())?;
        return Ok(Box::new(stream));
    }
    let whole = match authority.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => authority.to_owned(),
        Some(_) | None => format!("{authority}:80"),
    };
    let stream = TcpStream::connect(whole).await.map_err(|error| error.to_string())?;
    Ok(Box::new(stream))
}

impl Post for Poster {
    fn post<'a>(
        &'a self,
        url: &'a str,
        headers: &'a [(&'static str, String)],
        body: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<u16, String>> + Send + 'a>> {
        Box::pin(async move {
            let (tls, authority, path) = pieces(url).ok_or("it is no http or https address")?;
            let stream = connect(tls, authority).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(header::HOST, authority);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let request = request
                .body(Full::new(Bytes::copy_from_slice(body)))
                .map_err(|error| error.to_string())?;
            let exchange = async {
                let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = answer.status().as_u16();
                // Read, so that the other side sees its answer taken.
                Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok();
                Ok(status)
            };
            let mut exchange = std::pin::pin!(exchange);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                done = &mut exchange => done,
                _ = &mut connection => exchange.await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_gets_it_in_clear() {
        for (url, clear) in [
            ("https://chat.example/x", false),
            ("http://127.0.0.1:9/x", false),
            ("http://[::1]:9", false),
            ("http://localhost", false),
            ("http://chat.example/x", true),
            ("http://127.0.0.1.example/", true),
            ("ftp://x", true),
        ] {
            assert_eq!(in_clear_to_others(url), clear, "{url}");
        }
        assert_eq!(pieces("http://h:1"), Some((false, "h:1", "/")));
    }
}
