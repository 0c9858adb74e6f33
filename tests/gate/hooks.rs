//! Signed webhooks, both ways: a chat is told of a request and carries the
//! answer back; a job's end ends what was granted for it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::bastion::wall_ms;
use crate::support::{Bastion, Person, Setup, Sshd, Variant, secs};

const SECRET: &str = "a secret of thirty-two bytes, yes";

/// A message as a chat got it: headers and body.
type Message = (String, Vec<u8>);

/// A chat that takes every message with 204.
fn chat() -> (u16, mpsc::Receiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let message = read_message(&mut stream);
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                .ok();
            if send.send(message).is_err() {
                return;
            }
        }
    });
    (port, receive)
}

fn read_message(stream: &mut impl Read) -> Message {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text[..end].to_owned();
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return (head, bytes[end + 4..end + 4 + length].to_vec());
            }
        }
        let got = stream.read(&mut buffer).unwrap();
        assert_ne!(got, 0, "a message that breaks off");
        bytes.extend_from_slice(&buffer[..got]);
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

fn signature(id: &str, secs: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut signed = format!("{id}.{secs}.").into_bytes();
    signed.extend_from_slice(body);
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}

/// One call to a hook; its status.
fn call(bastion: &Bastion, hook: &str, id: &str, secs: u64, body: &Value, forge: bool) -> u16 {
    let body = body.to_string().into_bytes();
    let mut signature = signature(id, secs, &body);
    if forge {
        signature.insert(5, 'A');
    }
    let mut stream = UnixStream::connect(bastion.state().join("api.sock")).unwrap();
    write!(
        stream,
        "POST /v1/hooks/{hook} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         webhook-id: {id}\r\nwebhook-timestamp: {secs}\r\nwebhook-signature: {signature}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_chat_is_told_and_answers_and_a_jobs_end_ends_it() {
    let (port, messages) = chat();
    let mut bastion = Setup::new()
        .set("api.listen", "\"127.0.0.1:0\"")
        .set("api.url", "\"https://gate.example:8443\"")
        .set("api.notify_url", &format!("\"http://127.0.0.1:{port}/portcullis\""))
        .set("api.notify_secret_file", "\"hook.secret\"")
        .set(
            "api.hooks",
            "[{name = \"chat\", secret_file = \"hook.secret\", may = [\"answer\"]}, \
             {name = \"jobs\", secret_file = \"hook.secret\", may = [\"revoke\"]}]",
        )
        .make();
    let secret = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(bastion.state().join("hook.secret"));
    secret.unwrap().write_all(SECRET.as_bytes()).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    let alice = Person::new("alice").enrol(&bastion, &[]).log_in(&bastion);
    let _bob = Person::new("bob").enrol(&bastion, &["--role", "approver"]);
    let id = alice.ask(&[
        "root@db1",
        "--for",
        "20m",
        "--reason",
        "nightly job",
        "--ticket",
        "JOB-7",
    ]);

    let (head, body) = messages.recv_timeout(secs(20)).unwrap();
    let message_id = header(&head, "webhook-id").unwrap();
    let sent: u64 = header(&head, "webhook-timestamp").unwrap().parse().unwrap();
    assert_eq!(
        header(&head, "webhook-signature").unwrap(),
        signature(&message_id, sent, &body)
    );
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["type"], "request.pending");
    assert_eq!(told["data"]["request"]["id"], id.as_str());
    assert_eq!(
        told["data"]["link"],
        format!("https://gate.example:8443/v1/requests/{id}")
    );

    let now = wall_ms() / 1000;
    let answer = json!({
        "action": "answer", "request": id, "request_sha256": told["data"]["request"]["sha256"],
        "by": "bob", "approve": true,
    });
    let of = |hook: &str, id: &str, at: u64, body: &Value, forge| call(&bastion, hook, id, at, body, forge);
    assert_eq!(of("chat", "m1", now, &answer, true), 401, "another signature");
    assert_eq!(of("nobody", "m1", now, &answer, false), 401, "no such hook");
    assert_eq!(of("chat", "m2", now - 301, &answer, false), 401, "too old");
    assert_eq!(of("jobs", "m3", now, &answer, false), 403, "it may not answer");
    let own = json!({
        "action": "answer", "request": id, "request_sha256": told["data"]["request"]["sha256"],
        "by": "alice", "approve": true,
    });
    assert_eq!(of("chat", "m4", now, &own, false), 403, "she is no approver");
    assert_eq!(of("chat", "m5", now, &answer, false), 200);
    assert_eq!(
        of("chat", "m5", now, &answer, false),
        200,
        "sent again: had its effect once"
    );
    let shown = alice.json(&["requests", &id]);
    assert_eq!(shown["request"]["state"], "approved");
    assert_eq!(shown["request"]["answers"].as_array().unwrap().len(), 1);
    assert_eq!(shown["request"]["answers"][0]["method"], "hook:chat");

    alice.run(&["collect", &id]).ok();
    alice.run(&["ssh-config", "--install"]).ok();
    assert_eq!(alice.ssh(&["db1", "true"]).code(), 0);
    let end = json!({ "action": "revoke", "what": "purpose", "id": "JOB-7", "reason": "the job ended" });
    assert_eq!(of("chat", "m6", now, &end, false), 403, "it may not end access");
    assert_eq!(of("jobs", "m7", now, &end, false), 200);
    assert_eq!(alice.ssh(&["db1", "true"]).code(), 255);
    bastion.assert_ledger_clean();
}
