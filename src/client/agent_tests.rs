//! Against the real `ssh-agent` and `ssh-add`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use russh::keys::signature::Verifier;
use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};

use super::*;

/// A real ssh-agent in the foreground; ended by its own process when dropped.
struct RealAgent {
    child: Child,
    socket: PathBuf,
}

impl RealAgent {
    fn start(dir: &Path) -> RealAgent {
        use std::io::BufRead;
        let socket = dir.join("agent");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints its environment once it listens.
        let out = child.stdout.take().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(out).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        RealAgent { child, socket }
    }

    /// What `ssh-add` says.
    fn add(&self, arguments: &[&str]) -> String {
        let done = Command::new("ssh-add")
            .env("SSH_AUTH_SOCK", &self.socket)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn key() -> Ed25519Keypair {
    Ed25519Keypair::random(&mut rand::rng())
}

fn public(key: &Ed25519Keypair) -> PublicKey {
    PrivateKey::from(key.clone()).public_key().clone()
}

fn certified(key: &Ed25519Keypair) -> Certificate {
    let until = crate::clock::Clock::system().now().wall_ms / 1000 + 600;
    let certified = public(key).key_data().clone();
    let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), certified, 0, until).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal("root@db1").unwrap();
    builder.sign(&PrivateKey::from(self::key())).unwrap()
}

fn life(secs: u32) -> Life {
    Life {
        secs,
        confirm: false,
        comment: "portcullis root@db1".into(),
    }
}

#[tokio::test]
async fn keys_and_certificates_come_sign_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealAgent::start(dir.path());
    let agent = Agent::at(&real.socket);
    assert!(matches!(agent.keys().await, Err(AgentError::Empty(_))));
    let key = key();
    let (public, certificate) = (public(&key), certified(&key));
    agent.add(&key, &certificate, &life(600)).await.unwrap();

    let listed = real.add(&["-l"]);
    assert!(
        listed.contains("portcullis root@db1 (ED25519)\n") && listed.contains("portcullis root@db1 (ED25519-CERT)\n"),
        "{listed}"
    );
    let held = agent.keys().await.unwrap();
    assert_eq!(held.len(), 1, "certificates are not keys");
    assert_eq!(held[0].comment().to_string(), "portcullis root@db1");
    assert!(agent.holds(&public).await.unwrap());

    let signature = agent.sign(&public, b"text").await.unwrap();
    public.key_data().verify(b"text", &signature).unwrap();

    agent.remove(&public, Some(&certificate)).await.unwrap();
    agent.remove(&public, Some(&certificate)).await.unwrap();
    assert!(!agent.holds(&public).await.unwrap());
    assert!(real.add(&["-l"]).contains("no identities"));
}

#[tokio::test]
async fn a_key_is_gone_when_its_life_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealAgent::start(dir.path());
    let agent = Agent::at(&real.socket);
    let (long, short) = (key(), key());
    agent.add(&long, &certified(&long), &life(600)).await.unwrap();
    agent.add(&short, &certified(&short), &life(1)).await.unwrap();
    let gone = async {
        // The agent's clock has whole seconds.
        while agent.holds(&public(&short)).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
    assert!(agent.holds(&public(&long)).await.unwrap());
}

#[tokio::test]
async fn what_is_wrong_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Agent::at(dir.path().join("nobody"));
    let said = nobody.keys().await.unwrap_err().to_string();
    assert!(said.contains("nobody") && said.contains("ssh-agent"), "{said}");

    let real = RealAgent::start(dir.path());
    let agent = Agent::at(&real.socket);
    let said = agent.keys().await.unwrap_err().to_string();
    assert!(said.contains("`ssh-add`") && said.contains("ssh-add -X"), "{said}");
    let key = key();
    let said = agent.sign(&public(&key), b"text").await.unwrap_err().to_string();
    assert!(said.contains("SHA256:"), "{said}");

    let mut locker = AgentClient::connect_uds(&real.socket).await.unwrap();
    locker.lock(b"secret").await.unwrap();
    let refused = agent.add(&key, &certified(&key), &life(600)).await.unwrap_err();
    assert!(refused.to_string().contains("ssh-add -X"), "{refused}");
    assert!(matches!(agent.keys().await, Err(AgentError::Empty(_))));
    locker.unlock(b"secret").await.unwrap();
    agent.add(&key, &certified(&key), &life(600)).await.unwrap();
}
