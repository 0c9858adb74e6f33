//! One authority's key, wherever it is: what it is known by, and how it signs.

use std::path::Path;

use russh::keys::signature::Signer as SshSigner;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, PrivateKey, PublicKey, Signature};

use super::agent::Agent;
use super::ca::{CaError, Draft};
use super::generations::{self, AUTHORITIES, Generation, Stage, private_path};
use super::keys::{self, KeyName, KeysError};
use super::places::{Place, Places};
use super::secret::Secret;
#[cfg(feature = "pkcs11")]
use super::token::Token;
use crate::keeper::KeeperError;
use crate::kernel::grant::WallMs;

/// Who holds a private key and signs with it.
enum Signer {
    File(Box<PrivateKey>),
    Agent(Agent),
    #[cfg(feature = "pkcs11")]
    Token(Token),
}

/// What private keys are reached through. Cheap to clone; made once, so that
/// a token is opened once.
#[derive(Clone, Default)]
pub struct Holders {
    agent: Option<Agent>,
    #[cfg(feature = "pkcs11")]
    token: Option<Token>,
}

impl Holders {
    /// Those that `places` names; nothing is connected or opened yet.
    ///
    /// # Errors
    /// When the thread that speaks to the token cannot be started.
    pub fn of(places: &Places) -> Result<Holders, KeysError> {
        Ok(Holders {
            agent: places.agent.as_deref().map(Agent::at),
            #[cfg(feature = "pkcs11")]
            token: places.pkcs11.as_ref().map(Token::start).transpose()?,
        })
    }

    fn agent(&self, name: KeyName) -> Result<Signer, KeysError> {
        let agent = self.agent.clone().ok_or(KeysError::NoPlace {
            name,
            place: Place::Agent.as_str(),
            missing: "no `agent` is named",
        })?;
        Ok(Signer::Agent(agent))
    }

    #[cfg(feature = "pkcs11")]
    fn token(&self, name: KeyName) -> Result<Signer, KeysError> {
        let token = self.token.clone().ok_or(KeysError::NoPlace {
            name,
            place: Place::Pkcs11.as_str(),
            missing: "no `[keys.pkcs11]` is given",
        })?;
        Ok(Signer::Token(token))
    }

    #[cfg(not(feature = "pkcs11"))]
    fn token(&self, name: KeyName) -> Result<Signer, KeysError> {
        Err(KeysError::NoPlace {
            name,
            place: Place::Pkcs11.as_str(),
            missing: "this program was built without the feature `pkcs11`",
        })
    }
}

/// How keys are reached: where they are, by what, and with which passphrase.
pub type Through<'a> = (&'a Places, &'a Holders, Option<&'a Secret>);

/// One authority with its key.
pub struct Authority {
    /// Its name in messages.
    pub name: &'static str,
    pub public: PublicKey,
    signer: Signer,
}

impl Authority {
    /// The key of `name` that is in use, at the place where it is said to be.
    /// Whether somebody else really holds it is [`Authority::check`]'s to say.
    ///
    /// # Errors
    /// When its file is not to be used, or the place is not given.
    pub fn active(dir: &Path, name: KeyName, through: Through<'_>) -> Result<Authority, KeysError> {
        Authority::load(dir, name, Stage::Active, || keys::read_public(dir, name), through)
    }

    /// The announced key of `name`, at the place where it is said to be.
    ///
    /// # Errors
    /// As [`Authority::active`]; when none is announced, or it is not there.
    pub fn announced(dir: &Path, name: KeyName, through: Through<'_>) -> Result<Authority, KeysError> {
        let announced = generations::announced(dir, name)?;
        // An activation that was cut short has its private half in place already.
        let next = private_path(dir, name, Stage::Announced).symlink_metadata();
        let stage = next.map_or(Stage::Active, |_| Stage::Announced);
        let loaded = Authority::load(dir, name, stage, || Ok(announced.clone()), through)?;
        match loaded.public.key_data() == announced.key_data() {
            true => Ok(loaded),
            false => Err(KeysError::NotHere(name)),
        }
    }

    fn load(
        dir: &Path,
        name: KeyName,
        stage: Stage,
        public: impl Fn() -> Result<PublicKey, KeysError>,
        (places, holders, passphrase): Through<'_>,
    ) -> Result<Authority, KeysError> {
        let (public, signer) = match places.of(name) {
            Place::File => {
                let key = keys::read_key_file(&private_path(dir, name, stage), passphrase)?;
                (key.public_key().clone(), Signer::File(Box::new(key)))
            }
            Place::Agent => (public()?, holders.agent(name)?),
            Place::Pkcs11 => (public()?, holders.token(name)?),
        };
        Ok(Authority {
            name: name.file(),
            public,
            signer,
        })
    }

    /// Asks whoever holds the key whether he does. Nobody is asked about a file.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] when he does not, or does not answer.
    pub async fn check(&self) -> Result<(), KeeperError> {
        match &self.signer {
            Signer::File(_) => Ok(()),
            Signer::Agent(agent) => agent.holds(self.name, &self.public).await,
            #[cfg(feature = "pkcs11")]
            Signer::Token(token) => token.holds(self.name, &self.public).await,
        }
    }

    /// Signs a draft of a certificate.
    ///
    /// # Errors
    /// When its form is wrong, or whoever holds the key does not sign.
    pub async fn sign(&self, draft: Draft) -> Result<Certificate, KeeperError> {
        let bytes = draft.to_be_signed().map_err(|why| self.refuse(why))?;
        let signature = match &self.signer {
            Signer::File(key) => self.sign_here(key, &bytes)?,
            Signer::Agent(agent) => agent.sign(self.name, &self.public, &bytes).await?,
            #[cfg(feature = "pkcs11")]
            Signer::Token(token) => token.sign(self.name, &self.public, &bytes).await?,
        };
        // A wrong signature is the holder's fault; the form was checked before.
        draft.seal(signature).map_err(|why| match why {
            CaError::NotSigned(_) => self.unavailable(why),
            CaError::NoPrincipal
            | CaError::BadPrincipal { .. }
            | CaError::TooManyNames { .. }
            | CaError::NoTime { .. }
            | CaError::TooFar { .. }
            | CaError::BadKeyId { .. }
            | CaError::BadExtension { .. }
            | CaError::BadSource { .. }
            | CaError::BadKey { .. }
            | CaError::Form(_) => self.refuse(why),
        })
    }

    fn sign_here(&self, key: &PrivateKey, bytes: &[u8]) -> Result<Signature, KeeperError> {
        SshSigner::<Signature>::try_sign(key, bytes).map_err(|why| self.unavailable(why))
    }

    fn unavailable(&self, why: impl ToString) -> KeeperError {
        KeeperError::Unavailable {
            key: self.name,
            why: why.to_string(),
        }
    }

    /// That this key does not sign something, and why.
    pub fn refuse(&self, why: impl ToString) -> KeeperError {
        KeeperError::Refused {
            key: self.name,
            why: why.to_string(),
        }
    }

    /// Refuses what would have ended before `now`.
    ///
    /// # Errors
    /// [`KeeperError::Refused`].
    pub fn refuse_past(&self, now: WallMs, valid_before_ms: WallMs) -> Result<(), KeeperError> {
        match valid_before_ms > now {
            true => Ok(()),
            false => Err(self.refuse("it would have ended before now")),
        }
    }
}

/// The three authorities as they stand in the keys folder, all read at one time.
pub struct Authorities {
    pub admission_ca: Authority,
    pub target_ca: Authority,
    pub host_ca: Authority,
    generations: Vec<Generation>,
}

impl Authorities {
    /// Reads them all. `own` are the node's other keys.
    ///
    /// # Errors
    /// As for one authority; and when one key has two names.
    pub fn load(
        dir: &Path,
        places: &Places,
        holders: &Holders,
        own: &[(KeyName, KeyData)],
    ) -> Result<Authorities, KeysError> {
        keys::check_folder(dir)?;
        let passphrase = places.passphrase()?;
        let load = |name| Authority::active(dir, name, (places, holders, passphrase.as_ref()));
        let loaded = Authorities {
            admission_ca: load(KeyName::AdmissionCa)?,
            target_ca: load(KeyName::TargetCa)?,
            host_ca: load(KeyName::HostCa)?,
            generations: generations::all(dir)?,
        };
        refuse_same_keys(&loaded, own)?;
        Ok(loaded)
    }

    /// Asks those who hold keys for us whether they do.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] names the first key that is not there.
    pub async fn check(&self) -> Result<(), KeeperError> {
        for (_, authority) in self.named() {
            authority.check().await?;
        }
        Ok(())
    }

    fn named(&self) -> [(KeyName, &Authority); 3] {
        let [admission, target, host] = AUTHORITIES;
        [
            (admission, &self.admission_ca),
            (target, &self.target_ca),
            (host, &self.host_ca),
        ]
    }

    /// Every generation of the three.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Keys whose admission certificates admit: the one in use, and the one
    /// that is retiring.
    pub fn admission_cas(&self) -> Vec<PublicKey> {
        let admits = |it: &&Generation| match it.stage {
            Stage::Active | Stage::Retiring => it.name == KeyName::AdmissionCa,
            Stage::Announced | Stage::Retired => false,
        };
        let mut found = vec![self.admission_ca.public.clone()];
        for known in self.generations.iter().filter(admits) {
            if known.public.key_data() != self.admission_ca.public.key_data() {
                found.push(known.public.clone());
            }
        }
        found
    }

    /// Whether `key` is an authority's, of any generation.
    pub fn has(&self, key: &KeyData) -> bool {
        let active = self.named().iter().any(|(_, it)| it.public.key_data() == key);
        active || self.generations.iter().any(|it| it.public.key_data() == key)
    }
}

/// One key in two roles would let a statement of one be shown as the other's.
fn refuse_same_keys(loaded: &Authorities, own: &[(KeyName, KeyData)]) -> Result<(), KeysError> {
    let mut all: Vec<(KeyName, &KeyData)> = own.iter().map(|(name, key)| (*name, key)).collect();
    all.extend(loaded.named().map(|(name, it)| (name, it.public.key_data())));
    all.extend(loaded.generations.iter().map(|it| (it.name, it.public.key_data())));
    for (at, (a, key)) in all.iter().enumerate() {
        for (b, other) in all.iter().skip(at.saturating_add(1)) {
            if a != b && key == other {
                return Err(KeysError::SameKey { a: *a, b: *b });
            }
        }
    }
    Ok(())
}
