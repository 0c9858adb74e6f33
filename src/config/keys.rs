//! Every configuration key: where it stands, its default, its one doc line.

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `""` for keys above the first section.
    pub section: &'static str,
    pub key: &'static str,
    /// As TOML; for an optional key an example.
    pub default: &'static str,
    pub doc: &'static str,
}

impl Key {
    /// `section.key`, as in error messages.
    pub fn name(&self) -> String {
        match self.section {
            "" => self.key.to_owned(),
            section => format!("{section}.{}", self.key),
        }
    }
}

const fn key(section: &'static str, key: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key {
        section,
        key,
        default,
        doc,
    }
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    key(
        "",
        "node",
        "\"portcullis\"",
        "This server's name among several: letters, digits and ._- only",
    ),
    key(
        "",
        "state",
        "\".\"",
        "State folder; a relative one counts from the folder of this file",
    ),
    key(
        "",
        "zone",
        "[]",
        "Networks under a name, for policies, such as {name=\"office\", networks=[\"10.0.0.0/8\"]}; [[zone]] at the end of the file does as well",
    ),
    key(
        "",
        "credential",
        "[]",
        "Where secrets for targets come from that take no certificate, such as {name=\"devices\", kind=\"file\", folder=\"secrets\"} with files LOGIN@TARGET, or {name=\"vault\", kind=\"command\", command=[\"/usr/local/bin/secret-of\"], timeout_secs=10}, run with TARGET LOGIN; passphrase=\"NAME\" names the source that opens encrypted keys; [[credential]] at the end of the file does as well",
    ),
    key(
        "store",
        "url_file",
        "\"\"",
        "A file that nobody else may read with a postgres:// URL, for several servers with one state; PORTCULLIS_STORE_URL wins over it; none: store.db in the state folder",
    ),
    key("ssh", "listen", "\"[::]:2222\"", "Address and port of the SSH listener"),
    key(
        "ssh",
        "host_names",
        "[]",
        "Names and addresses that clients type for this server, for its host certificate; none: the node's name",
    ),
    key(
        "ssh",
        "banner",
        "\"\"",
        "Text that clients show before they log in, such as who may use this server and that it records; none: nothing is shown",
    ),
    key(
        "ssh",
        "login_grace_secs",
        "20",
        "Seconds from connecting to having authenticated; waiting for an approval is extra",
    ),
    key(
        "ssh",
        "source_burst",
        "60",
        "Connections that one source address may open at once before the rate applies",
    ),
    key(
        "ssh",
        "source_per_sec",
        "20",
        "Connections per second and source address after the burst",
    ),
    key(
        "ssh",
        "exempt_networks",
        "[]",
        "Networks without that limit and without penalties for failed logins, such as \"10.0.0.0/8\"",
    ),
    key(
        "ssh",
        "connections_max",
        "4096",
        "Connections that have not logged in yet, all sources together; past it the oldest of the source with most makes way",
    ),
    key(
        "ssh",
        "auth_attempts_max",
        "24",
        "Failed authentications before the connection ends; an agent tries every key and certificate that it holds",
    ),
    key(
        "ssh",
        "auth_probes_max",
        "24",
        "Keys and certificates that a client may offer before the connection ends",
    ),
    key(
        "ssh",
        "channels_max",
        "64",
        "Channels open at the same time on one connection",
    ),
    key(
        "ssh",
        "sessions_per_identity",
        "200",
        "Sessions of one person or machine at the same time on this node; break-glass sessions do not count",
    ),
    key(
        "ssh",
        "env_allow",
        "[\"LANG\", \"LC_*\", \"TERM\", \"COLORTERM\"]",
        "Environment variables that pass to the target; one * may end a name",
    ),
    key(
        "ssh",
        "spare",
        "true",
        "Whether a session with several channels keeps one more target connection ready, for a minute",
    ),
    key(
        "ssh",
        "subsystems",
        "[]",
        "Subsystems beside sftp that a grant with exec may start, such as netconf",
    ),
    key(
        "ssh",
        "keepalive_secs",
        "15",
        "Seconds of silence before the server asks whether the other side is there",
    ),
    key(
        "ssh",
        "keepalive_misses_max",
        "3",
        "Such questions without an answer before the connection counts as dead",
    ),
    key(
        "ssh",
        "kex",
        "\"default\"",
        "\"default\", or \"pq-only\" to refuse clients and targets without post-quantum key exchange",
    ),
    key(
        "ssh",
        "target_connect_timeout_secs",
        "10",
        "Seconds that connecting to a target may take",
    ),
    key(
        "ssh",
        "target_source_address",
        "[]",
        "Networks that targets see this server come from, behind NAT; none: the address that it dials from",
    ),
    key(
        "keys",
        "admission_ca",
        "\"file\"",
        "Where the key that signs users' certificates is: \"file\", \"agent\" or \"pkcs11\"",
    ),
    key(
        "keys",
        "target_ca",
        "\"file\"",
        "The same for certificates towards targets",
    ),
    key(
        "keys",
        "host_ca",
        "\"file\"",
        "The same for this server's host certificate",
    ),
    key(
        "keys",
        "passphrase_file",
        "\"\"",
        "File (mode 0600) with the passphrase of encrypted key files; none: the systemd credential \"passphrase\", if there is one",
    ),
    key(
        "keys",
        "agent",
        "\"\"",
        "Socket of the ssh-agent that holds the keys that are \"agent\"",
    ),
    key(
        "keys.pkcs11",
        "module",
        "\"\"",
        "Library of the PKCS#11 token that holds the keys that are \"pkcs11\"",
    ),
    key("keys.pkcs11", "token", "\"\"", "The token's label"),
    key(
        "keys.pkcs11",
        "pin_file",
        "\"\"",
        "File (mode 0600) with the token's user PIN",
    ),
    key(
        "session",
        "idle_timeout_mins",
        "0",
        "Minutes without a byte after which a session ends; 0: as long as its grant",
    ),
    key(
        "session",
        "session_max_mins",
        "720",
        "Longest session in minutes, whatever its grant says",
    ),
    key(
        "session",
        "grant_max_mins",
        "720",
        "Longest grant that is issued, in minutes",
    ),
    key(
        "session",
        "warn_before_secs",
        "[300, 60]",
        "Seconds before its end at which an interactive session is warned",
    ),
    key(
        "session",
        "drain_secs",
        "30",
        "Seconds that running sessions get after SIGTERM",
    ),
    key(
        "recording",
        "durable",
        "false",
        "true: an Enter reaches the target only after the recording is on the disk",
    ),
    key(
        "recording",
        "spool_reserve_mib",
        "512",
        "Space kept free, so that seals fit on a full disk; half of it, at most 256 MiB, for break-glass sessions if there are any",
    ),
    key(
        "recording",
        "overflow_max_mib",
        "1024",
        "What a slow reader may leave unread per channel and direction, kept on disk",
    ),
    key(
        "recording",
        "recipients",
        "[]",
        "Investigators' public keys (\"age1...\", two or more): recordings are encrypted to them, and this server cannot read them; none: in clear",
    ),
    key(
        "recording",
        "hidden_recipients",
        "[]",
        "Public keys (\"age1...\", two or more) of those who may read, after something went wrong, what was typed and not echoed: passwords are among it; none: it is wiped",
    ),
    key(
        "retention",
        "keep_days",
        "0",
        "Days after which a recording is deleted, with a tombstone in the ledger, unless it is held; 0: never",
    ),
    key(
        "ledger",
        "witnesses",
        "[]",
        "Machines that cosign the ledger, such as {url=\"http://w.example:7878\", key=\"NAME+ID+KEY\"}; `portcullis witness` prints its key",
    ),
    key(
        "ledger",
        "quorum",
        "0",
        "How many of them a proof must carry, for everybody who verifies with this server's trust file",
    ),
    key(
        "api",
        "listen",
        "\"\"",
        "Address and port of the API over TLS, such as \"[::]:8443\", for everybody who is not on this machine; none: its own socket only",
    ),
    key(
        "api",
        "url",
        "\"\"",
        "How others reach it, such as \"https://bastion.example.org:8443\", for links in messages",
    ),
    key(
        "api",
        "certificate_file",
        "\"\"",
        "Its certificate chain in PEM; none: the first start makes keys/api.crt, which clients pin",
    ),
    key("api", "key_file", "\"\"", "The key of that certificate in PEM"),
    key("api", "token_max_mins", "480", "Longest life of a login, in minutes"),
    key(
        "api",
        "notify_url",
        "\"\"",
        "Who is told about requests, such as \"https://chat.example.org/hook\", by a signed webhook (Standard Webhooks)",
    ),
    key(
        "api",
        "notify_secret_file",
        "\"\"",
        "The file with the secret that signs these messages",
    ),
    key(
        "api",
        "hooks",
        "[]",
        "Systems that may call by signed webhooks, such as {name=\"pager\", secret_file=\"pager.secret\", may=[\"revoke\", \"answer\"]}",
    ),
    key(
        "policy",
        "dir",
        "\"policies\"",
        "Folder of the policies (*.cedar); a relative one counts from the state folder",
    ),
    key(
        "policy",
        "time_zone",
        "\"UTC\"",
        "Where policies' weekdays and hours are told, such as \"Europe/Berlin\"",
    ),
    key(
        "break_glass",
        "signers",
        "[]",
        "Who signs grants made ready for emergencies: public keys, each with a person's name behind it (\"ssh-ed25519 AAAA... carol\"); none: there are no such grants",
    ),
    key(
        "break_glass",
        "threshold",
        "2",
        "How many of them have to sign one; its holder does not count",
    ),
    key(
        "log",
        "format",
        "\"text\"",
        "\"text\" for people, \"json\" for machines; the log goes to standard error",
    ),
    key(
        "log",
        "filter",
        "\"info\"",
        "Levels, such as \"info\" or \"info,portcullis::ssh=debug\"; PORTCULLIS_LOG wins over it",
    ),
];

pub(super) fn template(set: &[(&str, String)]) -> String {
    let mut text = String::from(
        "# Portcullis. Every key has a safe default, shown behind its #; unknown keys are refused.\n\
         # `portcullis check` reads this file and says what is wrong with it; SIGHUP reloads it.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        } else if section.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("# {}.\n", key.doc));
        let name = key.name();
        match set.iter().find(|(given, _)| *given == name) {
            Some((_, value)) => text.push_str(&format!("{} = {value}\n", key.key)),
            None => text.push_str(&format!("#{} = {}\n", key.key, key.default)),
        }
    }
    text
}
