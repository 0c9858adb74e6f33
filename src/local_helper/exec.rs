//! `local-exec`: becomes the target's account for good, denies itself the
//! state folder, and execs.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use nix::unistd::User;

use super::Spec;
use super::parcel::unpack;

/// Deepest state folder that is fenced off.
const DEPTH_MAX: usize = 64;

/// `portcullis local-exec`: drops everything, then execs. Comes back only on failure.
pub fn exec() -> ExitCode {
    let streams = unpack().and_then(|(_, [input, output, error], spec)| {
        // A session of its own, led by the command, as under sshd: its
        // groups, its terminal and its end are its own.
        rustix::process::setsid().ok();
        rustix::stdio::dup2_stdin(&input)?;
        rustix::stdio::dup2_stdout(&output)?;
        rustix::stdio::dup2_stderr(&error)?;
        Ok(spec)
    });
    let failed = match streams {
        Ok(spec) => match try_exec(&spec) {
            Ok(never) => match never {},
            Err(failed) => failed,
        },
        Err(error) => error.to_string(),
    };
    eprintln!("portcullis: {failed}");
    ExitCode::from(126)
}

/// The server asks for many descriptors; programs that use `select` must not
/// be given any past its set.
fn lower_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    const SELECT_MAX: u64 = 1024;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current > SELECT_MAX) {
        limit.current = Some(SELECT_MAX);
        setrlimit(Resource::Nofile, limit).ok();
    }
}

fn try_exec(spec: &Spec) -> Result<std::convert::Infallible, String> {
    let run_as = spec.run_as.as_str();
    let account = User::from_name(run_as)
        .map_err(|error| format!("the account {run_as} cannot be looked up: {error}"))?
        .ok_or_else(|| format!("there is no account {run_as} on this machine"))?;
    close_descriptors();
    lower_descriptors();
    if spec.terminal {
        rustix::process::ioctl_tiocsctty(io::stdin()).map_err(|error| format!("no controlling terminal: {error}"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    let own = nix::unistd::geteuid() == account.uid;
    if !own {
        become_account(&account)?;
    }
    if !fence(&spec.denied)? {
        eprintln!("portcullis: this kernel has no Landlock; only file modes protect the state folder");
        if own && !spec.demo {
            return Err("and this command would run as the server's own user, so it does not run".into());
        }
        if own {
            eprintln!("portcullis: THIS COMMAND CAN READ AND CHANGE THE SERVER'S STATE. For a demo only.");
        }
    }
    std::env::set_current_dir(&account.dir)
        .or_else(|_| std::env::set_current_dir("/"))
        .ok();
    let (program, arguments) = spec.command.split_first().ok_or("nothing to run")?;
    let mut command = Command::new(program);
    command.args(arguments);
    command
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    if spec.login {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        command.arg0(format!("-{name}"));
    }
    Err(format!("{program} cannot be run: {}", command.exec()))
}

/// Groups, user and capabilities, for good.
fn become_account(account: &User) -> Result<(), String> {
    let name = account.name.as_str();
    let text = |error: &dyn std::fmt::Display| format!("cannot become {name}: {error}");
    let groups = std::ffi::CString::new(name).map_err(|error| text(&error))?;
    let groups = nix::unistd::getgrouplist(&groups, account.gid).map_err(|error| text(&error))?;
    nix::unistd::setgroups(&groups).map_err(|error| text(&error))?;
    nix::unistd::setresgid(account.gid, account.gid, account.gid).map_err(|error| text(&error))?;
    nix::unistd::setresuid(account.uid, account.uid, account.uid).map_err(|error| text(&error))?;
    // A server that is not root holds ambient capabilities, which a change of user keeps.
    let none = rustix::thread::CapabilitySet::empty();
    let none = rustix::thread::CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::clear_ambient_capability_set().map_err(|error| text(&error))?;
    rustix::thread::set_capabilities(None, none).map_err(|error| text(&error))?;
    if nix::unistd::setuid(nix::unistd::ROOT).is_ok() && !account.uid.is_root() {
        return Err(format!("{name} could become root again"));
    }
    Ok(())
}

fn close_descriptors() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        nix::unistd::close(descriptor).ok();
    }
}

/// Landlock knows only what is allowed, so everything beside the way down to
/// a denied folder is allowed, level by level. Folders on that way can only be
/// listed, or not even `ls /` would work; names in the denied folder are left
/// to its mode, since a rule holds for all that lies below. Signals and abstract sockets
/// outside the fence are denied as well where the kernel can.
///
/// False if this kernel cannot.
fn fence(denied: &[PathBuf]) -> Result<bool, String> {
    if denied.is_empty() {
        return Ok(true);
    }
    let text = |error: &dyn std::fmt::Display| format!("the state folder cannot be fenced off: {error}");
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|error| text(&error))?
        .scope(Scope::from_all(abi))
        .map_err(|error| text(&error))?
        .create()
        .map_err(|error| text(&error))?;
    let root = PathFd::new("/").map_err(|error| text(&error))?;
    ruleset = ruleset
        .add_rule(PathBeneath::new(root, AccessFs::ReadDir))
        .map_err(|error| text(&error))?;
    for path in allowed_beside(Path::new("/"), denied, 0) {
        // What cannot be opened cannot be reached anyway.
        let Ok(descriptor) = PathFd::new(&path) else {
            continue;
        };
        let access = match path.is_dir() {
            true => AccessFs::from_all(abi),
            false => AccessFs::from_file(abi),
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(descriptor, access))
            .map_err(|error| text(&error))?;
    }
    let status = ruleset.restrict_self().map_err(|error| text(&error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Everything in `at` that is neither denied nor on the way to something denied.
fn allowed_beside(at: &Path, denied: &[PathBuf], depth: usize) -> Vec<PathBuf> {
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(at) else {
        return Vec::new();
    };
    let mut allowed = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        // A link would allow what it leads to, and that may be a denied
        // folder; whatever else it leads to is allowed where it really is.
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if link || denied.contains(&path) {
            continue;
        }
        if denied.iter().any(|denied| denied.starts_with(&path)) {
            allowed.extend(allowed_beside(&path, denied, depth + 1));
        } else {
            allowed.push(path);
        }
    }
    allowed
}
