//! Tells somebody's chat or ticket system that a request waits: one signed
//! webhook (Standard Webhooks), sent beside everything else.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::kernel::grant::WallMs;

/// Messages that may wait to be sent; more are dropped, and that is told.
const QUEUED: usize = 256;
/// Tries for each message.
const TRIES: u32 = 4;
/// Time for one try, in ms.
pub const SEND_MS_MAX: u64 = 10_000;
/// Wait before the second try, doubled before each later one.
const RETRY: Duration = Duration::from_secs(2);
/// How far the time of a webhook may lie from ours, in seconds.
pub const SKEW_SECS_MAX: u64 = 300;
/// Shortest secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 24;

/// A secret that both sides know, as `whsec_` and base64, or as it is.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0 == other.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads a secret's text.
    ///
    /// # Errors
    /// It is shorter than [`SECRET_BYTES_MIN`].
    pub fn parse(text: &str) -> Result<Secret, String> {
        let text = text.trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(coded) => STANDARD.decode(coded).map_err(|error| format!("not base64: {error}"))?,
            None => text.as_bytes().to_vec(),
        };
        match bytes.len() >= SECRET_BYTES_MIN {
            true => Ok(Secret(bytes.into())),
            false => Err(format!(
                "a secret has at least {SECRET_BYTES_MIN} bytes: `openssl rand -base64 32` makes one"
            )),
        }
    }

    fn mac(&self, id: &str, secs: u64, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).ok()?;
        Some(mac.chain_update(format!("{id}.{secs}.").as_bytes()).chain_update(body))
    }

    /// `webhook-signature` of a message.
    pub fn sign(&self, id: &str, secs: u64, body: &[u8]) -> Option<String> {
        let mac = self.mac(id, secs, body)?.finalize().into_bytes();
        Some(format!("v1,{}", STANDARD.encode(mac)))
    }

    /// Whether one of the space-separated signatures is ours over this message.
    pub fn verifies(&self, id: &str, secs: u64, body: &[u8], signatures: &str) -> bool {
        signatures.split(' ').take(8).any(|one| {
            let given = one.strip_prefix("v1,").and_then(|coded| STANDARD.decode(coded).ok());
            match (given, self.mac(id, secs, body)) {
                (Some(given), Some(mac)) => mac.verify_slice(&given).is_ok(),
                _ => false,
            }
        })
    }
}

/// Whom to tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Notify {
    /// `http://` or `https://`.
    pub url: String,
    pub secret: Secret,
}

struct Message {
    id: String,
    at_ms: WallMs,
    body: Vec<u8>,
}

/// Sends what it is given, in its own time.
#[derive(Clone)]
pub struct Teller {
    queue: Option<mpsc::Sender<Message>>,
    clock: Clock,
}

/// What posts a message; answers with the status.
pub trait Post: Send + Sync + 'static {
    /// Sends `body` with `headers` to `url`.
    fn post<'a>(
        &'a self,
        url: &'a str,
        headers: &'a [(&'static str, String)],
        body: &'a [u8],
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<u16, String>> + Send + 'a>>;
}

impl Teller {
    /// One that tells nobody.
    pub fn mute(clock: Clock) -> Teller {
        Teller { queue: None, clock }
    }

    /// One that sends by `post`.
    pub fn start(to: Notify, post: Arc<dyn Post>, clock: Clock) -> Teller {
        let (queue, mut messages) = mpsc::channel::<Message>(QUEUED);
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                send(&to, &*post, &message).await;
            }
        });
        Teller {
            queue: Some(queue),
            clock,
        }
    }

    /// Queues one event. `kind` is such as `request.pending`.
    pub fn tell(&self, kind: &str, data: &serde_json::Value) {
        let Some(queue) = &self.queue else { return };
        let at_ms = self.clock.now().wall_ms;
        let id: [u8; 16] = rand::random();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = serde_json::json!({ "type": kind, "timestamp": at_ms / 1000, "data": data });
        let message = Message {
            id: format!("msg_{id}"),
            at_ms,
            body: body.to_string().into_bytes(),
        };
        if queue.try_send(message).is_err() {
            tracing::warn!(kind, "too many messages wait to be sent: one is not");
        }
    }
}

async fn send(to: &Notify, post: &dyn Post, message: &Message) {
    let secs = message.at_ms / 1000;
    let Some(signature) = to.secret.sign(&message.id, secs, &message.body) else {
        return;
    };
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", message.id.clone()),
        ("webhook-timestamp", secs.to_string()),
        ("webhook-signature", signature),
    ];
    let mut wait = RETRY;
    for tried in 1..=TRIES {
        let sending = post.post(&to.url, &headers, &message.body);
        let why = match tokio::time::timeout(Duration::from_millis(SEND_MS_MAX), sending).await {
            Ok(Ok(200..=299)) => return,
            Ok(Ok(status)) => format!("status {status}"),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {SEND_MS_MAX} ms"),
        };
        tracing::warn!(url = to.url, tried, why, "a message was not taken");
        if tried < TRIES {
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Now;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the specification's reference libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret
            .sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
            .unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let verifies = |id: &str, secs, body: &[u8], text: &str| secret.verifies(id, secs, body, text);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert!(verifies(id, 1_614_265_330, body, &format!("v1,AAAA {signature}")));
        assert!(!verifies(id, 1_614_265_331, body, &signature));
        assert!(!verifies("msg_x", 1_614_265_330, body, &signature));
        assert!(!verifies(id, 1_614_265_330, b"{}", &signature));
        assert!(!verifies(id, 1_614_265_330, body, "v1,"));
        assert!(Secret::parse("short").is_err());
    }

    #[derive(Default)]
    struct Flaky(Mutex<Vec<Vec<(&'static str, String)>>>);

    impl Post for Flaky {
        fn post<'a>(
            &'a self,
            _: &'a str,
            headers: &'a [(&'static str, String)],
            _: &'a [u8],
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<u16, String>> + Send + 'a>> {
            Box::pin(async move {
                let mut seen = self.0.lock().unwrap();
                seen.push(headers.to_vec());
                match seen.len() {
                    1 => Err("connection refused".to_owned()),
                    2 => Ok(503),
                    _ => Ok(204),
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_tried_again_under_the_same_id() {
        let post = Arc::new(Flaky::default());
        let to = Notify {
            url: "http://127.0.0.1/".to_owned(),
            secret: Secret::parse(&"s".repeat(32)).unwrap(),
        };
        let clock = Clock::manual(Now {
            wall_ms: 5_000,
            boot_ms: 0,
        });
        let teller = Teller::start(to, post.clone(), clock);
        teller.tell("request.pending", &serde_json::json!({}));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let seen = post.0.lock().unwrap().clone();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|headers| headers[1] == seen[0][1]), "one id");
    }
}
