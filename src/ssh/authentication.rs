//! Who is at the door (RFC 4252): the user name, the certificates shown, and
//! what may be said about them. The kernel decides; nothing here admits.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "key kinds of a non-exhaustive enum: SHA-1 and DSA are named, the kernel decides over the rest"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::keys::{Algorithm, Certificate};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use tokio::sync::watch;

use super::Gate;
use super::admission;
use super::approval::{self, Approved, Waiting};
use super::consider::consider;
use super::gated::Kill;
use super::jump::Through;
use super::listen::Served;
use super::penalties::Conduct;
use crate::kernel::admit::{Admitted, Passage, Refusal};
use crate::kernel::id::{Destination, Login};

/// What whoever has no certificate is told: the same for everybody.
const CERTIFICATES_ONLY: &str = "this bastion admits holders of certificates only, and a key by itself is none: \
     ask for one with `portcullis request LOGIN@TARGET --for 30m --reason WHY`";
/// Characters of a user name that are logged.
const USER_CHARS_MAX: usize = 128;

/// How much longer than somebody's answer may take a connection lives that
/// waited for it and is not in.
const LEFT_OVER: Duration = Duration::from_secs(30);

/// Which door somebody knocks at.
pub enum Door {
    /// The listener's. Connections inside one from here show its host keys.
    Gate(Served),
    /// A channel of an outer connection, which leads to one target.
    Jump(Through),
}

/// What the user name asks for.
#[derive(Clone, PartialEq, Eq)]
enum Wanted {
    Session(Destination),
    /// The outer connection of a jump: no target is named.
    Outer,
    Nothing,
}

/// Who came in.
pub enum Entered {
    /// With the yes that was waited for, if there was one.
    Session(Box<Admitted>, Option<Approved>),
    Outer(Passage),
}

/// A certificate that admits, and a connection that takes somebody's yes.
enum Asks {
    Nobody,
    /// The client was told to go on in words, and has not yet.
    Words(Box<Admitted>),
    Waits(Box<Admitted>, Box<Waiting>),
}

/// One client's way to a login.
pub struct Authentication {
    gate: Arc<Gate>,
    peer: IpAddr,
    door: Arc<Door>,
    /// What its source is judged by if it never logs in.
    conduct: Arc<Conduct>,
    offers: u32,
    /// What the last user name asked for.
    wanted: Wanted,
    /// What the holder of a certificate of ours may be told, once.
    shown: Option<String>,
    asks: Asks,
    /// Somebody was asked and said no, or nobody did: not again on this connection.
    answered: bool,
    /// Logged in.
    inside: Arc<AtomicBool>,
    kill: Kill,
    /// Turns true where the login grace ends.
    settled: watch::Sender<bool>,
    entered: Option<Entered>,
}

impl Authentication {
    /// `settled` turns true when a login succeeds or waits for somebody's yes.
    pub fn new(
        gate: Arc<Gate>,
        peer: IpAddr,
        door: Arc<Door>,
        kill: Kill,
        conduct: Arc<Conduct>,
        settled: watch::Sender<bool>,
    ) -> Authentication {
        Authentication {
            gate,
            peer,
            door,
            conduct,
            offers: 0,
            wanted: Wanted::Nothing,
            shown: None,
            asks: Asks::Nobody,
            answered: false,
            inside: Arc::default(),
            kill,
            settled,
            entered: None,
        }
    }

    fn wants(&self, user: &str) -> Wanted {
        let destination = match &*self.door {
            Door::Gate(_) => user.parse().ok(),
            Door::Jump(through) => user.parse().ok().map(|login: Login| Destination {
                login,
                target: through.target.clone(),
            }),
        };
        match (destination, &*self.door) {
            (Some(destination), _) => Wanted::Session(destination),
            // A destination that cannot be read is not another wish.
            (None, Door::Gate(_)) if !user.contains(['@', '+']) => Wanted::Outer,
            (None, _) => Wanted::Nothing,
        }
    }

    /// Another user name starts over (GHSA-hpv4-5h6f-wqr3): what the holder of
    /// one certificate may be told is not told under another name.
    pub fn named(&mut self, user: &str) {
        let wanted = self.wants(user);
        if wanted == Wanted::Nothing || self.wanted != wanted {
            self.wanted = wanted;
            self.shown = None;
            self.forget();
        }
    }

    /// Who turns to something else while somebody is asked for him does not ask
    /// again on this connection.
    fn forget(&mut self) {
        if let Asks::Waits(..) = std::mem::replace(&mut self.asks, Asks::Nobody) {
            self.answered = true;
        }
    }

    /// A method that nobody gets in by.
    pub fn reject(&self) -> Auth {
        self.conduct.refused(false);
        Auth::reject()
    }

    /// A key that was proved, and is no certificate. Words come after the
    /// agent's other keys.
    pub fn plain_key(&mut self, user: &str) -> Auth {
        self.conduct.refused(false);
        self.named(user);
        self.shown.get_or_insert_with(|| CERTIFICATES_ONLY.to_owned());
        only(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive], false)
    }

    /// A key is offered. Nothing is proved yet, and a certificate cannot be
    /// told from its bare key here: only count, and refuse SHA-1.
    ///
    /// # Errors
    /// Too many offers.
    pub fn offered(&mut self, algorithm: &Algorithm) -> Result<Auth, russh::Error> {
        self.offers += 1;
        if self.offers > self.gate.settings().offers_max {
            return Err(russh::Error::Disconnect);
        }
        match algorithm {
            Algorithm::Rsa { hash: None } | Algorithm::Dsa => Ok(Auth::reject()),
            _ => Ok(Auth::Accept),
        }
    }

    async fn admit(&self, certificate: &Certificate) -> Result<Entered, Refusal> {
        match (&self.wanted, &*self.door) {
            (Wanted::Nothing, _) | (Wanted::Outer, Door::Jump(_)) => Err(Refusal::WrongPrincipal),
            (Wanted::Outer, Door::Gate(_)) => admission::admit_outer(&self.gate, self.peer, certificate)
                .await
                .map(Entered::Outer),
            (Wanted::Session(wanted), door) => {
                let admitted = admission::admit(&self.gate, self.peer, wanted, certificate).await?;
                match door {
                    Door::Gate(_) => Ok(Entered::Session(Box::new(admitted), None)),
                    Door::Jump(through) => admitted
                        .inside(&through.identity)
                        .map(|admitted| Entered::Session(Box::new(admitted), None)),
                }
            }
        }
    }

    /// A certificate whose key was proved.
    pub async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Auth {
        self.entered = None;
        self.forget();
        self.named(user);
        if self.answered {
            return only(&[], false);
        }
        let refusal = match self.admit(certificate).await {
            Ok(entered) => {
                match &entered {
                    Entered::Session(admitted, _) => {
                        tracing::info!(peer = %self.peer, identity = %admitted.identity(),
                            destination = %admitted.destination(), grant = %admitted.grant(),
                            serial = admitted.certificate_serial(), "admitted");
                    }
                    Entered::Outer(passage) => {
                        tracing::info!(peer = %self.peer, identity = %passage.identity(), "admitted to jump");
                    }
                }
                self.gate.metrics.decision("admit", true);
                return self.enter(entered).await;
            }
            Err(refusal) => refusal,
        };
        let user: String = user.chars().filter(|c| !c.is_control()).take(USER_CHARS_MAX).collect();
        tracing::info!(peer = %self.peer, user, code = refusal.code(), "refused");
        self.gate.metrics.decision("admit", false);
        self.gate.refused(self.peer, refusal.code());
        self.conduct.refused(refusal.may_be_shown());
        if !refusal.may_be_shown() {
            return Auth::reject();
        }
        // An agent's next certificate is tried first; then the words. Not as
        // partial success: OpenSSH would begin again with its first key, and
        // never come to the words.
        self.shown = Some(format!("refused ({}): {}", refusal.code(), refusal.sentence()));
        only(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive], false)
    }

    /// Lets somebody in, or has him wait for somebody's yes.
    async fn enter(&mut self, entered: Entered) -> Auth {
        let entered = match entered {
            Entered::Session(admitted, None) if self.waits_in_words(&admitted).await => {
                // Partial success (RFC 4252 section 5.1): the certificate counts.
                self.asks = Asks::Words(admitted);
                return only(&[MethodKind::KeyboardInteractive], true);
            }
            Entered::Session(..) | Entered::Outer(_) => entered,
        };
        self.entered = Some(entered);
        Auth::Accept
    }

    /// Whether this connection takes a yes, and its client can be told so now.
    /// Programs have nobody to read it: they wait at the opening of a channel.
    async fn waits_in_words(&self, admitted: &Admitted) -> bool {
        let now = self.gate.clock.now().wall_ms;
        if !self.gate.policies().approve_connections() || self.gate.wordless.knows(admitted.certificate_sha256(), now) {
            return false;
        }
        match consider(&self.gate, admitted, self.peer).await {
            Ok(considered) => considered.asks() && considered.facts().who.kind.reads(),
            // Told where every refusal of a connection is told.
            Err(_) => false,
        }
    }

    /// Keyboard-interactive without a prompt (RFC 4256 section 3.2): the words
    /// for a refusal that may be shown, or for a wait. A client answers at
    /// once, so an empty message is how to see that it is still there.
    pub async fn words(&mut self, user: &str) -> Auth {
        self.named(user);
        let said = match std::mem::replace(&mut self.asks, Asks::Nobody) {
            Asks::Nobody => None,
            Asks::Words(admitted) => Some(match self.ask(admitted).await {
                Ok(sentence) => sentence,
                Err(refused) => {
                    self.answered = true;
                    refused
                }
            }),
            Asks::Waits(admitted, waiting) => match self.kill.clone().guard(waiting.look()).await {
                None => return Auth::reject(),
                Some(None) => {
                    self.asks = Asks::Waits(admitted, waiting);
                    return said_only(String::new());
                }
                Some(Some(Ok(approved))) => {
                    self.entered = Some(Entered::Session(admitted, Some(approved)));
                    return Auth::Accept;
                }
                Some(Some(Err(refused))) => {
                    self.answered = true;
                    Some(refused.sentence)
                }
            },
        };
        match said.or_else(|| self.shown.take()) {
            Some(text) => said_only(format!("portcullis: {text}")),
            // OpenSSH would show its certificate once more.
            None if self.answered => only(&[], false),
            None => only(&[MethodKind::PublicKey], false),
        }
    }

    async fn ask(&mut self, admitted: Box<Admitted>) -> Result<String, String> {
        let considered = consider(&self.gate, &admitted, self.peer).await;
        let considered = considered.map_err(|refused| refused.why.sentence)?;
        let waiting = Waiting::ask(&self.gate, &admitted, (&considered).into()).await;
        let waiting = waiting.map_err(|refused| refused.sentence)?;
        let sentence = waiting.sentence();
        self.asks = Asks::Waits(admitted, Box::new(waiting));
        self.end_in_time();
        self.settled.send_replace(true);
        Ok(sentence)
    }

    /// The login grace is over for it: it ends all the same if it is not in
    /// some time after nobody can answer any more.
    fn end_in_time(&self) {
        let (inside, kill) = (self.inside.clone(), self.kill.clone());
        let limit = Duration::from_millis(approval::WAIT_MS_MAX).saturating_add(LEFT_OVER);
        tokio::spawn(async move {
            kill.guard(tokio::time::sleep(limit)).await;
            if !inside.load(Ordering::SeqCst) {
                kill.fire();
            }
        });
    }

    /// Who came in, once.
    pub fn take(&mut self) -> Option<Entered> {
        let entered = self.entered.take()?;
        self.inside.store(true, Ordering::SeqCst);
        self.settled.send_replace(true);
        Some(entered)
    }
}

impl Drop for Authentication {
    fn drop(&mut self) {
        if let Asks::Words(admitted) = &self.asks {
            let now = self.gate.clock.now().wall_ms;
            self.gate.wordless.remember(admitted.certificate_sha256(), now);
        }
    }
}

/// A message without a question.
fn said_only(text: String) -> Auth {
    Auth::Partial {
        name: "".into(),
        instructions: text.into(),
        prompts: Vec::new().into(),
    }
}

/// A rejection, or a partial success, after which these methods may be tried.
fn only(methods: &[MethodKind], partial_success: bool) -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(methods)),
        partial_success,
    }
}
