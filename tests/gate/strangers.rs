//! What a stranger sees of a recording with public files and stock tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bastion::portcullis;
use crate::support::process::Done;
use crate::support::{World, finish, run, secs};

/// One sealed recording with its sidecars, and the trust file.
fn recording(world: &World) -> (PathBuf, PathBuf) {
    run(&mut world.client().exec("echo evidence; seq 3000"), secs(20)).ok();
    world.bastion.only_record();
    let file = world.bastion.archived().remove(0);
    (file, world.bastion.state().join("trust.toml"))
}

fn verify(file: &Path, trust: Option<&Path>) -> Done {
    let mut verify = Command::new(portcullis());
    verify.arg("verify").arg(file);
    if let Some(trust) = trust {
        verify.arg("--trust").arg(trust);
    }
    run(&mut verify, secs(20))
}

#[test]
fn stock_tools_open_their_parts() {
    let world = World::new();
    let (file, _) = recording(&world);
    let shown = run(Command::new("zstd").arg("-dc").arg(&file), secs(20)).ok();
    // What two programs write may be two events, with a header between them.
    let shown = shown.out();
    let rest = shown.split_once("evidence\n").map(|(_, rest)| rest);
    assert!(
        rest.is_some_and(|rest| rest.contains("1\n2\n3\n")),
        "the events lie in plain zstd frames"
    );
    let signers = world.bastion.state().join("allowed_signers");
    let signers = signers.to_str().unwrap();
    world
        .bastion
        .admin(&["trust", "export", "--allowed-signers", "--out", signers])
        .ok();
    let node = std::fs::read_to_string(signers).unwrap();
    let node = node.split(' ').next().unwrap();
    let check = |bytes: &Path| {
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args([
                "-Y",
                "verify",
                "-f",
                signers,
                "-I",
                node,
                "-n",
                "portcullis-recording",
                "-s",
            ])
            .arg(file.with_extension("pcr.sig"));
        finish(&mut keygen, &std::fs::read(bytes).unwrap(), secs(20))
    };
    let good = check(&file).ok();
    assert!(
        good.out().contains("Good \"portcullis-recording\" signature"),
        "{}",
        good.out()
    );
    let other = world.bastion.state().join("other");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&other, bytes).unwrap();
    assert_ne!(check(&other).code(), 0);
}

#[test]
fn d25_a_flipped_byte_is_invalid_wherever_it_is() {
    const PLACES: usize = 60;
    let world = World::new();
    let (file, trust) = recording(&world);
    let good = verify(&file, Some(&trust)).ok();
    assert!(good.out().contains("SEALED"), "{}", good.out());
    assert_ne!(verify(&file, None).code(), 0, "verified without any trusted key");
    let bytes = std::fs::read(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(file.file_name().unwrap());
    let proof = file.with_extension("pcr.proof");
    std::fs::copy(&proof, folder.path().join(proof.file_name().unwrap())).unwrap();
    for place in 0..PLACES {
        let at = place * (bytes.len() - 1) / (PLACES - 1);
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        std::fs::write(&copy, bad).unwrap();
        let done = verify(&copy, Some(&trust));
        assert_eq!(done.code(), 5, "byte {at}: {}", done.out());
        assert!(done.out().contains("INVALID at"), "byte {at}: {}", done.out());
    }
    // Whole again, but nobody knows its place in the ledger.
    std::fs::write(&copy, &bytes).unwrap();
    std::fs::remove_file(folder.path().join(proof.file_name().unwrap())).unwrap();
    assert_eq!(verify(&copy, Some(&trust)).code(), 12);
}

#[test]
fn d25_a_deleted_recording_is_named() {
    let world = World::new();
    let (file, _) = recording(&world);
    world.bastion.assert_ledger_clean();
    std::fs::remove_file(&file).unwrap();
    let done = world.bastion.admin(&["ledger", "fsck"]);
    assert_eq!(done.code(), 5, "{}", done.out());
    let name = file.file_stem().unwrap().to_str().unwrap();
    assert!(
        done.out().contains(name) || done.err().contains(name),
        "{}{}",
        done.out(),
        done.err()
    );
}
