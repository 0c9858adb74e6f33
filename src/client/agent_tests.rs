//! Against the real `ssh-agent` and `ssh-add`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use russh::keys::signature::Verifier;
use russh::keys::ssh_key::Algorithm;
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

fn key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), algorithm).unwrap()
}

fn certified(key: &PrivateKey) -> Certificate {
    let until = crate::clock::Clock::system().now().wall_ms / 1000 + 600;
    let public = key.public_key().key_data().clone();
    let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), public, 0, until).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal("root@db1").unwrap();
    builder.sign(&self::key(Algorithm::Ed25519)).unwrap()
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
    let nistp256 = Algorithm::Ecdsa {
        curve: russh::keys::ssh_key::EcdsaCurve::NistP256,
    };
    for (algorithm, name) in [(Algorithm::Ed25519, "ED25519"), (nistp256, "ECDSA")] {
        assert!(matches!(agent.keys().await, Err(AgentError::Empty(_))));
        let key = key(algorithm);
        let certificate = certified(&key);
        agent.add(&key, &certificate, &life(600)).await.unwrap();

        let listed = real.add(&["-l"]);
        assert!(
            listed.contains(&format!("portcullis root@db1 ({name})\n"))
                && listed.contains(&format!("portcullis root@db1 ({name}-CERT)\n")),
            "{listed}"
        );
        let held = agent.keys().await.unwrap();
        assert_eq!(held.len(), 1, "certificates are not keys");
        assert_eq!(held[0].comment().to_string(), "portcullis root@db1");
        assert!(agent.holds(key.public_key()).await.unwrap());

        let signature = agent.sign(key.public_key(), b"text").await.unwrap();
        key.public_key().key_data().verify(b"text", &signature).unwrap();

        agent.remove(key.public_key(), Some(&certificate)).await.unwrap();
        agent.remove(key.public_key(), Some(&certificate)).await.unwrap();
        assert!(!agent.holds(key.public_key()).await.unwrap());
        assert!(real.add(&["-l"]).contains("no identities"));
    }
}

#[tokio::test]
async fn a_key_is_gone_when_its_life_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealAgent::start(dir.path());
    let agent = Agent::at(&real.socket);
    let (long, short) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
    agent.add(&long, &certified(&long), &life(600)).await.unwrap();
    agent.add(&short, &certified(&short), &life(1)).await.unwrap();
    let gone = async {
        // The agent's clock has whole seconds.
        while agent.holds(short.public_key()).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
    assert!(agent.holds(long.public_key()).await.unwrap());
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
    let key = key(Algorithm::Ed25519);
    let said = agent.sign(key.public_key(), b"text").await.unwrap_err().to_string();
    assert!(said.contains("SHA256:"), "{said}");

    let mut locker = AgentClient::connect_uds(&real.socket).await.unwrap();
    locker.lock(b"secret").await.unwrap();
    let refused = agent.add(&key, &certified(&key), &life(600)).await.unwrap_err();
    assert!(refused.to_string().contains("ssh-add -X"), "{refused}");
    assert!(matches!(agent.keys().await, Err(AgentError::Empty(_))));
    locker.unlock(b"secret").await.unwrap();
    agent.add(&key, &certified(&key), &life(600)).await.unwrap();
}
