//! Who is at the door (RFC 4252): the user name, the certificates shown, and
//! what may be said about them. The kernel decides; nothing here admits.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "key kinds of a non-exhaustive enum: SHA-1 and DSA are named, the kernel decides over the rest"
)]

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::{Algorithm, Certificate};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use super::Gate;
use super::admission;
use super::jump::Through;
use super::listen::Served;
use super::penalties::Conduct;
use crate::kernel::admit::{Admitted, Passage, Refusal};
use crate::kernel::id::{Destination, Login};

/// Characters of a user name that are logged.
const USER_CHARS_MAX: usize = 128;

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
    Session(Box<Admitted>),
    Outer(Passage),
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
    /// A reason that the holder of a certificate of ours may be shown.
    shown: Option<Refusal>,
    entered: Option<Entered>,
}

impl Authentication {
    pub fn new(gate: Arc<Gate>, peer: IpAddr, door: Arc<Door>, conduct: Arc<Conduct>) -> Authentication {
        Authentication {
            gate,
            peer,
            door,
            conduct,
            offers: 0,
            wanted: Wanted::Nothing,
            shown: None,
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
        }
    }

    /// A method that nobody gets in by.
    pub fn reject(&self) -> Auth {
        self.conduct.refused(false);
        Auth::reject()
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
                    Door::Gate(_) => Ok(Entered::Session(Box::new(admitted))),
                    Door::Jump(through) => admitted
                        .inside(&through.identity)
                        .map(|admitted| Entered::Session(Box::new(admitted))),
                }
            }
        }
    }

    /// A certificate whose key was proved.
    pub async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Auth {
        self.entered = None;
        self.named(user);
        let refusal = match self.admit(certificate).await {
            Ok(entered) => {
                match &entered {
                    Entered::Session(admitted) => {
                        tracing::info!(peer = %self.peer, identity = %admitted.identity(),
                            destination = %admitted.destination(), grant = %admitted.grant(),
                            serial = admitted.certificate_serial(), "admitted");
                    }
                    Entered::Outer(passage) => {
                        tracing::info!(peer = %self.peer, identity = %passage.identity(), "admitted to jump");
                    }
                }
                self.gate.metrics.decision("admit", true);
                self.entered = Some(entered);
                return Auth::Accept;
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
        self.shown = Some(refusal);
        only(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive])
    }

    /// The words for a refusal that may be shown: keyboard-interactive without
    /// a prompt (RFC 4256 section 3.2). `answered` is the client's response.
    pub fn words(&mut self, user: &str, answered: bool) -> Auth {
        self.named(user);
        match &self.shown {
            Some(refusal) if !answered => {
                let text = format!("portcullis: refused ({}): {}", refusal.code(), refusal.sentence());
                Auth::Partial {
                    name: "".into(),
                    instructions: text.into(),
                    prompts: Vec::new().into(),
                }
            }
            _ => {
                self.shown = None;
                only(&[MethodKind::PublicKey])
            }
        }
    }

    /// Who came in, once.
    pub fn take(&mut self) -> Option<Entered> {
        self.entered.take()
    }
}

/// A rejection after which these methods may be tried.
fn only(methods: &[MethodKind]) -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(methods)),
        partial_success: false,
    }
}
