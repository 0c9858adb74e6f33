//! Faults of the machine: small disks, injected errors.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::{Running, run};
use super::wait::secs;

/// A tmpfs of a given size; unmounted when dropped.
pub struct Tmpfs {
    at: PathBuf,
}

impl Tmpfs {
    #[track_caller]
    pub fn mount(at: &Path, bytes: u64) -> Tmpfs {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes},mode=0700"),
                "portcullis-test",
            ])
            .arg(at);
        run(&mut mount, secs(10)).ok();
        Tmpfs { at: at.to_owned() }
    }

    pub fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(&self.at);
        run(&mut mount, secs(10)).ok();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.at).status().ok();
    }
}

/// Has strace inject a fault into the running process `pid`, all its threads,
/// such as `fdatasync:error=EIO:when=2`. Lasts until the answer is dropped.
#[track_caller]
pub fn inject(pid: u32, fault: &str, log: &Path) -> Running {
    inject_at(pid, fault, &[], log)
}

/// The same for calls on these files only.
#[track_caller]
pub fn inject_at(pid: u32, fault: &str, files: &[PathBuf], log: &Path) -> Running {
    let call = fault.split(':').next().unwrap_or(fault);
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-q",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={fault}"),
            "-o",
        ])
        .arg(log)
        .args(["-p", &pid.to_string()])
        .args(files.iter().flat_map(|file| [Path::new("-P"), file]))
        .stdin(Stdio::null());
    let strace = Running::start(&mut strace);
    // Attached once every thread has a tracer.
    super::wait::wait_until("strace attached", secs(10), || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.filter_map(Result::ok).all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status
                .lines()
                .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
        })
    });
    strace
}
