//! Hosts as others have written them down: an ssh_config(5), an Ansible
//! inventory; and their keys, a known_hosts (sshd(8)). Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::id::TargetName;

/// Most hosts of one file.
pub const HOSTS_MAX: usize = 10_000;

/// One host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub name: String,
    pub addr: String,
    pub port: u16,
    pub logins: Vec<String>,
    /// `key=value`.
    pub labels: Vec<String>,
}

/// A name that a target can have; what it may not hold becomes `-`.
fn target_name(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = plain.trim_start_matches(['-', '.']).to_owned();
    name.parse::<TargetName>().ok().map(|_| name)
}

/// Hosts of an ssh_config: each plain name of a `Host` line (patterns are no
/// hosts), with HostName, Port and User as the first line that fits says.
///
/// # Errors
/// What cannot be read.
pub fn openssh(text: &str) -> Result<Vec<Host>, String> {
    struct Block {
        names: Vec<String>,
        set: BTreeMap<String, String>,
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once(|c: char| c.is_ascii_whitespace() || c == '=')
            .ok_or_else(|| format!("`{}` has no value", line.escape_debug()))?;
        let value = value
            .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '=')
            .trim();
        let value = value.trim_matches('"');
        match key.to_ascii_lowercase().as_str() {
            "host" => {
                skipping = false;
                blocks.push(Block {
                    names: value.split_ascii_whitespace().map(str::to_owned).collect(),
                    set: BTreeMap::new(),
                });
            }
            // What a Match asks only its client can tell.
            "match" => skipping = true,
            key if !skipping => {
                if let Some(block) = blocks.last_mut() {
                    block.set.entry(key.to_owned()).or_insert_with(|| value.to_owned());
                }
            }
            _ => {}
        }
    }
    let is_pattern = |name: &str| name.contains(['*', '?', '!']);
    let fits = |patterns: &[String], name: &str| {
        let refused = patterns
            .iter()
            .filter_map(|pattern| pattern.strip_prefix('!'))
            .any(|pattern| matches(pattern, name));
        !refused
            && patterns
                .iter()
                .any(|pattern| !pattern.starts_with('!') && matches(pattern, name))
    };
    let mut seen = BTreeSet::new();
    let mut hosts = Vec::new();
    for name in blocks
        .iter()
        .flat_map(|block| &block.names)
        .filter(|name| !is_pattern(name))
    {
        if !seen.insert(name.clone()) {
            continue;
        }
        if hosts.len() >= HOSTS_MAX {
            return Err(format!("more than {HOSTS_MAX} hosts"));
        }
        let said = |key: &str| {
            blocks
                .iter()
                .filter(|block| fits(&block.names, name))
                .find_map(|block| block.set.get(key).cloned())
        };
        let Some(target) = target_name(name) else { continue };
        hosts.push(Host {
            name: target,
            addr: said("hostname").map_or_else(|| name.clone(), |addr| addr.replace("%h", name)),
            port: match said("port") {
                None => 22,
                Some(port) => port.parse().map_err(|_| format!("port `{port}` of {name}"))?,
            },
            logins: vec![said("user").unwrap_or_else(|| "root".to_owned())],
            labels: Vec::new(),
        });
    }
    Ok(hosts)
}

/// `*` and `?` as in ssh_config(5), PATTERNS.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Which prefixes of the name fit the pattern so far.
    let mut fits: Vec<bool> = (0..=name.len()).map(|at| at == 0).collect();
    for symbol in pattern {
        let mut next = vec![false; fits.len()];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let stay = fits.get(at).copied().unwrap_or(false);
            *slot = match symbol {
                '*' => stay || before,
                symbol => {
                    let prior = at.checked_sub(1);
                    let came = prior.and_then(|prior| fits.get(prior)).copied().unwrap_or(false);
                    came && prior
                        .and_then(|prior| name.get(prior))
                        .is_some_and(|c| symbol == '?' || symbol == *c)
                }
            };
            before = *slot;
        }
        fits = next;
    }
    fits.last().copied().unwrap_or(false)
}

/// Hosts of an Ansible inventory: INI, or JSON as `ansible-inventory --list`
/// prints it. Each group is a label `group=NAME`.
///
/// # Errors
/// What cannot be read.
pub fn ansible(text: &str) -> Result<Vec<Host>, String> {
    let found = match text.trim_start().starts_with('{') {
        true => ansible_json(text)?,
        false => ansible_ini(text)?,
    };
    if found.len() > HOSTS_MAX {
        return Err(format!("more than {HOSTS_MAX} hosts"));
    }
    let mut hosts = Vec::new();
    for (name, (vars, groups)) in found {
        let var = |names: [&str; 2]| names.iter().find_map(|name| vars.get(*name).cloned());
        let local = var(["ansible_connection", "connection"]).is_some_and(|kind| kind == "local");
        let Some(target) = target_name(&name) else { continue };
        if local {
            continue;
        }
        hosts.push(Host {
            name: target,
            addr: var(["ansible_host", "ansible_ssh_host"]).unwrap_or_else(|| name.clone()),
            port: match var(["ansible_port", "ansible_ssh_port"]) {
                None => 22,
                Some(port) => port.parse().map_err(|_| format!("port `{port}` of {name}"))?,
            },
            logins: vec![var(["ansible_user", "ansible_ssh_user"]).unwrap_or_else(|| "root".to_owned())],
            labels: groups.into_iter().map(|group| format!("group={group}")).collect(),
        });
    }
    Ok(hosts)
}

/// Variables and groups by host.
type Found = BTreeMap<String, (BTreeMap<String, String>, BTreeSet<String>)>;

fn ansible_ini(text: &str) -> Result<Found, String> {
    let mut found = Found::new();
    let mut group_vars: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut children: Vec<(String, String)> = Vec::new();
    let mut section = "ungrouped".to_owned();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or("").trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        if let Some(group) = section.strip_suffix(":vars") {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("`{line}` is no variable"))?;
            let value = value.trim().trim_matches(['"', '\'']);
            group_vars
                .entry(group.to_owned())
                .or_default()
                .insert(key.trim().to_owned(), value.to_owned());
        } else if let Some(group) = section.strip_suffix(":children") {
            children.push((group.to_owned(), line.to_owned()));
        } else {
            let mut words = line.split_ascii_whitespace();
            let Some(host) = words.next() else { continue };
            if host.contains('[') {
                return Err(format!(
                    "`{host}` is a range: give the JSON of `ansible-inventory --list` instead"
                ));
            }
            let entry = found.entry(host.to_owned()).or_default();
            entry.1.insert(section.clone());
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                entry
                    .0
                    .insert(key.to_owned(), value.trim_matches(['"', '\'']).to_owned());
            }
        }
    }
    // A host of a child group is one of the parent; as deep as there are lines.
    for _ in 0..children.len() {
        for (parent, child) in &children {
            for (_, groups) in found.values_mut() {
                if groups.contains(child) {
                    groups.insert(parent.clone());
                }
            }
        }
    }
    for (vars, groups) in found.values_mut() {
        for group in groups.iter().map(String::as_str).chain(["all"]) {
            for (key, value) in group_vars.get(group).into_iter().flatten() {
                vars.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        groups.remove("ungrouped");
    }
    Ok(found)
}

fn ansible_json(text: &str) -> Result<Found, String> {
    let whole: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let groups = whole.as_object().ok_or("it is no object")?;
    let mut found = Found::new();
    let text_of = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    };
    let hostvars = groups.get("_meta").and_then(|meta| meta.get("hostvars"));
    for (host, vars) in hostvars.and_then(|vars| vars.as_object()).into_iter().flatten() {
        let vars = vars.as_object().into_iter().flatten();
        found.entry(host.clone()).or_default().0 = vars
            .filter_map(|(key, value)| Some((key.clone(), text_of(value)?)))
            .collect();
    }
    for (group, body) in groups.iter().filter(|(name, _)| *name != "_meta") {
        let hosts = body.get("hosts").and_then(|hosts| hosts.as_array());
        for host in hosts.into_iter().flatten().filter_map(|host| host.as_str()) {
            let entry = found.entry(host.to_owned()).or_default();
            if group != "ungrouped" && group != "all" {
                entry.1.insert(group.clone());
            }
        }
    }
    Ok(found)
}

/// One line of a known_hosts: names, and the key as an OpenSSH line.
pub type KnownHost = (Vec<String>, String);

/// Lines of a known_hosts that name their hosts in clear; hashed ones can only
/// be compared, and revoked and authority lines are no host's key.
pub fn known_hosts(text: &str) -> Vec<KnownHost> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '@', '|']))
        .filter_map(|line| {
            let (names, key) = line.split_once(|c: char| c.is_ascii_whitespace())?;
            let mut words = key.split_ascii_whitespace();
            let key = format!("{} {}", words.next()?, words.next()?);
            Some((names.split(',').map(str::to_owned).collect(), key))
        })
        .collect()
}

/// The key of a host: of its address as it is dialled, else of its name;
/// ed25519 before anything else.
pub fn key_of(keys: &[KnownHost], host: &Host) -> Option<String> {
    let whole = |name: &str| match host.port {
        22 => name.to_owned(),
        port => format!("[{name}]:{port}"),
    };
    let wanted = [whole(&host.addr), whole(&host.name)];
    let mut found: Vec<&str> = keys
        .iter()
        .filter(|(names, _)| names.iter().any(|name| wanted.contains(name)))
        .map(|(_, key)| key.as_str())
        .collect();
    found.sort_by_key(|key| !key.starts_with("ssh-ed25519 "));
    found.first().map(|key| (*key).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_config_gives_its_plain_hosts() {
        let text = "# mine\nHost db1 db2\n  HostName %h.example.org\n  Port=2200\n\nHost web\n User deploy\nHost *\n User admin\n Port 22\nMatch host x\n User no\n";
        let hosts = openssh(text).unwrap();
        let told: Vec<String> = hosts
            .iter()
            .map(|host| format!("{} {}@{}:{}", host.name, host.logins.join(","), host.addr, host.port))
            .collect();
        assert_eq!(
            told,
            [
                "db1 admin@db1.example.org:2200",
                "db2 admin@db2.example.org:2200",
                "web deploy@web:22"
            ]
        );
        assert!(openssh("Host a\nPort many\n").is_err());
    }

    #[test]
    fn patterns_are_those_of_ssh_config() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*.example", "a.example", true),
            ("db?", "db1", true),
            ("db?", "db", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn an_ansible_inventory_in_both_forms() {
        let ini = "bare\n[db]\ndb1 ansible_host=10.0.0.1 ansible_port=2222\ndb2\n[db:vars]\nansible_user=postgres\n[prod:children]\ndb\n[local]\nhere ansible_connection=local\n";
        let hosts = ansible(ini).unwrap();
        let db1 = hosts.iter().find(|host| host.name == "db1").unwrap();
        assert_eq!(
            (db1.addr.as_str(), db1.port, db1.logins[0].as_str()),
            ("10.0.0.1", 2222, "postgres")
        );
        assert_eq!(db1.labels, ["group=db", "group=prod"]);
        assert!(hosts.iter().all(|host| host.name != "here"));
        let json = r#"{"_meta":{"hostvars":{"db1":{"ansible_host":"10.0.0.1","ansible_port":2222}}},"all":{"children":["db"]},"db":{"hosts":["db1"]}}"#;
        let hosts = ansible(json).unwrap();
        assert_eq!(
            (hosts.len(), hosts[0].port, hosts[0].labels[0].as_str()),
            (1, 2222, "group=db")
        );
        assert!(ansible("[x]\nweb[1:9]\n").unwrap_err().contains("range"));
    }

    #[test]
    fn keys_are_found_by_address_and_port() {
        let known = known_hosts(
            "db1,10.0.0.1 ssh-rsa AAAA c\n[db1]:2222 ssh-ed25519 BBBB\n|1|x|y ssh-rsa Z\n@revoked * ssh-rsa Q\ndb1 ssh-ed25519 CCCC\n",
        );
        let host = |port| Host {
            name: "db1".to_owned(),
            addr: "10.0.0.1".to_owned(),
            port,
            logins: Vec::new(),
            labels: Vec::new(),
        };
        assert_eq!(key_of(&known, &host(22)).unwrap(), "ssh-ed25519 CCCC");
        assert_eq!(key_of(&known, &host(2222)).unwrap(), "ssh-ed25519 BBBB");
        assert_eq!(key_of(&known, &host(23)), None);
    }
}
