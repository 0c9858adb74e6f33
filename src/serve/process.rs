//! The process of a server: its limits, its orphans, and what it leaves behind.

use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};

/// Descriptors that a server asks for; a session takes about eight.
const DESCRIPTORS: u64 = 64 * 1024;

/// What only a server does to its process; none of it is worth failing for.
pub(super) fn prepare() {
    // Orphans of a local target whose supervisor died stay below this process,
    // where the API knows them for what they are.
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!(%error, "not a subreaper");
    }
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |max| max.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays low");
        }
    }
    // What is typed lies here until it was echoed or wiped: in no core file, and for no debugger of the same account.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may leave a core file");
    }
    // Not in the helper processes of local targets: those stay single-threaded.
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::debug!(%error, "memory goes back to the system late");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leaves_no_core_file() {
        prepare();
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
    }
}
