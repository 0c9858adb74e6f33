//! What `[[credential]]` means: where secrets for targets come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ConfigError;
use super::meant::Meaning;
use super::said::{SaidCredential, SaidCredentialKind};
use crate::credentials::{COMMAND_ARGS_MAX, Kind, SOURCES_MAX, Setting};
use crate::kernel::id::SourceName;

const KEY: &str = "credential";
/// How long a command may take unless said otherwise, and at most, in seconds.
const TIMEOUT_SECS: u64 = 10;
const TIMEOUT_SECS_MAX: u64 = 60;

impl Meaning<'_> {
    /// Relative folders count from the folder of the file.
    pub(super) fn credentials(
        &self,
        said: Option<Vec<SaidCredential>>,
        folder: &Path,
    ) -> Result<Vec<Setting>, ConfigError> {
        let said = said.unwrap_or_default();
        if said.len() > SOURCES_MAX {
            return Err(self.bad(KEY, format!("more than {SOURCES_MAX}")));
        }
        let mut settings: Vec<Setting> = Vec::with_capacity(said.len());
        for one in said {
            let setting = self.credential(one, folder)?;
            if settings.iter().any(|known| known.name == setting.name) {
                return Err(self.bad(KEY, format!("`{}` is there twice", setting.name)));
            }
            settings.push(setting);
        }
        let known = |name: &SourceName| settings.iter().any(|setting| setting.name == *name);
        let passphrases = settings.iter().filter_map(|setting| setting.passphrase.as_ref());
        match passphrases.clone().find(|name| !known(name)) {
            Some(missing) => Err(self.bad(KEY, format!("there is no source `{missing}` for passphrases"))),
            None => Ok(settings),
        }
    }

    fn credential(&self, said: SaidCredential, folder: &Path) -> Result<Setting, ConfigError> {
        let named = |name: &str| {
            name.parse::<SourceName>()
                .map_err(|error| self.bad(KEY, error.to_string()))
        };
        let name = named(&said.name)?;
        let kind = match (said.kind, said.folder, said.command, said.timeout_secs) {
            (SaidCredentialKind::File, Some(of), None, None) => Kind::File {
                folder: folder.join(of),
            },
            (SaidCredentialKind::File, _, _, _) => {
                return Err(self.bad(
                    KEY,
                    format!("`{name}` is of kind \"file\": it has a `folder`, and nothing else"),
                ));
            }
            (SaidCredentialKind::Command, None, Some(command), secs) => Kind::Command {
                timeout: Duration::from_secs(self.number(KEY, secs, TIMEOUT_SECS, (1, TIMEOUT_SECS_MAX))?),
                command: self.program(&name, command)?,
            },
            (SaidCredentialKind::Command, _, _, _) => {
                return Err(self.bad(
                    KEY,
                    format!("`{name}` is of kind \"command\": it has a `command`, and no `folder`"),
                ));
            }
        };
        Ok(Setting {
            kind,
            passphrase: said.passphrase.as_deref().map(named).transpose()?,
            name,
        })
    }

    fn program(&self, name: &SourceName, command: Vec<String>) -> Result<Vec<String>, ConfigError> {
        let whole = command
            .first()
            .is_some_and(|program| PathBuf::from(program).is_absolute());
        if !whole {
            let why = format!("the command of `{name}` begins with the program's whole path, for it has no shell");
            return Err(self.bad(KEY, why));
        }
        if command.len() > COMMAND_ARGS_MAX || command.iter().any(|arg| arg.contains('\0')) {
            let why = format!("the command of `{name}` has at most {COMMAND_ARGS_MAX} arguments, without NUL");
            return Err(self.bad(KEY, why));
        }
        Ok(command)
    }
}
