use super::*;
use crate::credentials::{Kind, Setting as Credential};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/srv/gate/config.toml"), text)
}

#[test]
fn an_empty_file_means_the_documented_defaults() {
    let empty = parse("").unwrap();
    // The template with every comment mark taken off says the defaults aloud.
    let said: String = Config::template(&[])
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut aloud = parse(&said).unwrap();
    assert_ne!(aloud.sha256, empty.sha256);
    aloud.sha256 = empty.sha256;
    assert_eq!(aloud, empty, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains(" = ")).count(), KEYS.len());
    assert_eq!(empty.layout, Layout::new("/srv/gate"));
    assert_eq!(empty.store, Place::File(empty.layout.store()));
    let elsewhere = parse("[store]\nurl_file = \"db.url\"").unwrap();
    assert_eq!(elsewhere.store, Place::UrlFile("/srv/gate/db.url".into()));
    assert_eq!(empty.ssh.listen, "[::]:2222".parse().unwrap());
    assert_eq!(
        empty.session.warn_before,
        [Duration::from_secs(300), Duration::from_secs(60)]
    );
    assert_eq!(empty.session.idle_timeout, None);
    assert_eq!(empty.recording.overflow_bytes_max, 1 << 30);
}

#[test]
fn every_key_of_the_file_is_documented() {
    // serde lists the keys it knows when it meets one it does not.
    for section in [
        "",
        "store",
        "ssh",
        "keys",
        "keys.pkcs11",
        "session",
        "recording",
        "ledger",
        "policy",
        "api",
        "log",
    ] {
        let text = if section.is_empty() {
            "zzzzzzzzzzzz = 1".to_owned()
        } else {
            format!("[{section}]\nzzzzzzzzzzzz = 1")
        };
        let hint = parse(&text).unwrap_err().hint().unwrap();
        for key in hint.strip_prefix("keys here: ").unwrap().split(", ") {
            let documented = KEYS.iter().any(|known| known.section == section && known.key == key);
            let named = if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            };
            let a_section = KEYS.iter().any(|known| known.section == named);
            assert!(documented || a_section, "{section}.{key}");
        }
    }
}

#[test]
fn the_template_says_what_it_is_told() {
    let text = Config::template(&[
        ("node", "\"gate1\"".to_owned()),
        ("ssh.listen", "\"127.0.0.1:22\"".to_owned()),
    ]);
    let config = parse(&text).unwrap();
    assert_eq!(config.node.as_str(), "gate1");
    assert_eq!(config.ssh.listen, "127.0.0.1:22".parse().unwrap());
}

#[test]
fn mistakes_are_told_with_place_and_next_step() {
    let cases = [
        (
            "[ssh]\nlistn = \"x\"",
            ":2:1: there is no key `listn`",
            "did you mean `listen`?",
        ),
        ("nod = \"x\"", ":1:1: there is no key `nod`", "did you mean `node`?"),
        ("[ssh]\n\n  kex = \"fast\"", ":3:9: unknown variant `fast`", ""),
        (
            "[ssh]\nlisten = \"2222\"",
            "ssh.listen: `2222` is not an address",
            "Address and port",
        ),
        (
            "[ssh]\nlogin_grace_secs = 0",
            "ssh.login_grace_secs: 0 is not between 1 and 600",
            "the default is 20",
        ),
        ("[ssh]\nlogin_grace_secs = -1", ":2:20: invalid value", ""),
        ("[ssh]\nexempt_networks = [\"10/8\"]", "ssh.exempt_networks: `10/8`", ""),
        ("[ssh]\nenv_allow = [\"*\"]", "ssh.env_allow: `*`", ""),
        ("[ssh]\nenv_allow = [\"A=B\"]", "ssh.env_allow: `A=B`", ""),
        ("[session]\nwarn_before_secs = [0]", "session.warn_before_secs", ""),
        ("node = \"a b\"", "node: node name `a b` holds ` `", ""),
        ("node = ", ":1:8: ", ""),
        ("[ssh]\nhost_names = [\"a b\"]", "ssh.host_names: `a b`", ""),
        (
            "[ledger]\nquorum = 1",
            "ledger.quorum: 1 is not between 0 and 0",
            "the default is 0",
        ),
        (
            "[ledger]\nwitnesses = [{ url = \"w:1\", key = \"x\" }]",
            "ledger.witnesses: `w:1` is not http",
            "Machines that cosign",
        ),
        (
            "[ledger]\nwitnesses = [{ url = \"http://w:1\", key = \"x\" }]",
            "ledger.witnesses: the key of http://w:1: not a verifier key",
            "",
        ),
        (
            "[ledger]\nwitnesses = [{ url = \"http://w:1\" }]",
            ":2:14: missing field `key`",
            "",
        ),
        (
            "[recording]\nrecipients = [\"age1x\"]",
            "recording.recipients: `age1x`",
            "",
        ),
        ("[retention]\nkeep_days = 99999999", "retention.keep_days", ""),
        (
            "[ssh]\ntarget_source_address = [\"10.0.0.1/8\"]",
            "ssh.target_source_address: `10.0.0.1/8` has host bits set",
            "behind NAT",
        ),
        (
            "[policy]\ntime_zone = \"Mars/Olympus\"",
            "policy.time_zone",
            "weekdays and hours",
        ),
        ("zone = [{name = \"\", networks = []}]", "zone: `` is no name", ""),
        (
            "[[zone]]\nname = \"office\"\nnetworks = [\"10.0.0.0/40\"]",
            "zone: office: ",
            "Networks under a name",
        ),
        (
            "credential = [{name = \"a/b\", kind = \"file\", folder = \"s\"}]",
            "credential: credential source name `a/b`",
            "LOGIN@TARGET",
        ),
        (
            "credential = [{name = \"a\", kind = \"vault\"}]",
            ":1:35: unknown variant `vault`",
            "",
        ),
        (
            "credential = [{name = \"a\", kind = \"file\", command = [\"/x\"]}]",
            "credential: `a` is of kind \"file\": it has a `folder`",
            "",
        ),
        (
            "credential = [{name = \"a\", kind = \"command\", folder = \"s\"}]",
            "credential: `a` is of kind \"command\": it has a `command`",
            "",
        ),
        (
            "credential = [{name = \"a\", kind = \"command\", command = [\"pass\", \"show\"]}]",
            "credential: the command of `a` begins with the program's whole path",
            "",
        ),
        (
            "credential = [{name = \"a\", kind = \"command\", command = [\"/x\"], timeout_secs = 61}]",
            "credential: 61 is not between 1 and 60",
            "",
        ),
        (
            "[[credential]]\nname = \"a\"\nkind = \"file\"\nfolder = \"s\"\npassphrase = \"b\"",
            "credential: there is no source `b` for passphrases",
            "",
        ),
        (
            "[keys]\ntarget_ca = \"agent\"",
            "keys.target_ca: it is \"agent\", and `keys.agent` names no socket",
            "",
        ),
        (
            "[keys]\nhost_ca = \"pkcs11\"",
            "keys.host_ca: it is \"pkcs11\", and",
            "",
        ),
        (
            "[keys.pkcs11]\ntoken = \"gate\"",
            "keys.pkcs11.module: `module`, `token` and `pin_file` are given together",
            "",
        ),
        (
            "[recording]\nspool_reserve_mib = 99999999999",
            "recording.spool_reserve_mib",
            "",
        ),
    ];
    for (text, message, hint) in cases {
        let error = parse(text).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("/srv/gate/config.toml:"), "{said}");
        assert!(said.contains(message), "{text:?}: {said}");
        assert!(
            error.hint().unwrap_or_default().contains(hint),
            "{text:?}: {:?}",
            error.hint()
        );
        assert!(!said.contains('\n'), "{said:?}");
    }
}

#[test]
fn places_count_characters_and_state_folders_from_the_file() {
    let error = parse("node = \"é\" # é\nbad = 1").unwrap_err().to_string();
    assert!(error.contains(":2:1:"), "{error}");
    assert_eq!(parse("state = \"data\"").unwrap().layout, Layout::new("/srv/gate/data"));
    assert_eq!(parse("state = \"/var/x\"").unwrap().layout, Layout::new("/var/x"));
}

#[test]
fn sources_of_credentials_are_beside_the_file() {
    let said = parse(
        "[[credential]]\nname = \"files\"\nkind = \"file\"\nfolder = \"secrets\"\npassphrase = \"vault\"\n\
         [[credential]]\nname = \"vault\"\nkind = \"command\"\ncommand = [\"/bin/secret-of\", \"--now\"]\n",
    );
    let [files, vault]: [Credential; 2] = said.unwrap().credentials.try_into().unwrap();
    assert_eq!((files.name.as_str(), vault.name.as_str()), ("files", "vault"));
    assert_eq!(files.passphrase, Some(vault.name));
    let folder = "/srv/gate/secrets".into();
    assert_eq!(files.kind, Kind::File { folder });
    let command = ["/bin/secret-of", "--now"].map(str::to_owned).to_vec();
    let timeout = Duration::from_secs(10);
    assert_eq!(vault.kind, Kind::Command { command, timeout });
}

#[test]
fn policies_are_where_the_file_says_and_go_by_its_zones() {
    let usual = parse("").unwrap().policy;
    assert_eq!((usual.dir, usual.dir_named), ("/srv/gate/policies".into(), false));
    let said = parse(
        "state = \"data\"\n[policy]\ndir = \"rules\"\n[[zone]]\nname = \"office\"\nnetworks = [\"10.0.0.0/8\"]\n",
    );
    let said = said.unwrap().policy;
    assert_eq!((said.dir, said.dir_named), ("/srv/gate/data/rules".into(), true));
    assert_eq!(said.zones.len(), 1);
    assert!(said.zones[0].networks[0].contains("10.1.2.3".parse().unwrap()));
}

#[test]
fn keys_are_where_the_file_says_and_names_count_from_it() {
    let config = parse("[keys]\nadmission_ca = \"agent\"\nagent = \"agent.sock\"\npassphrase_file = \"/p\"").unwrap();
    assert_eq!(config.keys.agent, Some("/srv/gate/agent.sock".into()));
    assert_eq!(config.keys.passphrase_file, Some("/p".into()));
    assert_eq!(config.keys.target_ca, crate::issue::places::Place::File);
}

#[test]
fn reading_tells_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(&dir.path().join("config.toml")).unwrap_err();
    assert!(error.hint().unwrap().contains("portcullis init"), "{error}");
}

#[test]
fn witnesses_are_told_apart_by_their_keys() {
    use portcullis_recording::note::{KeyKind, VerifierKey};
    let key = |name: &str, kind, byte| VerifierKey::new(name, kind, [byte; 32]).unwrap().to_string();
    let text = |first: &str, second: &str, quorum: u64| {
        format!(
            "[ledger]\nquorum = {quorum}\nwitnesses = [\n  {{ url = \"http://a:1\", key = \"{first}\" }},\n  \
             {{ url = \"unix:/run/b\", key = \"{second}\" }},\n]"
        )
    };
    let (one, two) = (key("a", KeyKind::Cosignature, 1), key("b", KeyKind::Cosignature, 2));
    let config = parse(&text(&one, &two, 2)).unwrap();
    assert_eq!((config.ledger.witnesses.len(), config.ledger.quorum), (2, 2));
    let same = key("b", KeyKind::Cosignature, 1);
    let error = parse(&text(&one, &same, 1)).unwrap_err().to_string();
    assert!(error.contains("unix:/run/b is another witness's too"), "{error}");
    let ledgers = key("b", KeyKind::Note, 2);
    let error = parse(&text(&one, &ledgers, 1)).unwrap_err().to_string();
    assert!(error.contains("is a ledger's, not a witness's"), "{error}");
    assert!(
        parse(&text(&one, &two, 3))
            .unwrap_err()
            .to_string()
            .contains("ledger.quorum")
    );
}
