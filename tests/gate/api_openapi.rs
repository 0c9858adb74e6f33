//! The API's description against the API: schemathesis reads the one and
//! calls the other, over TLS, as an admin.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::support::api::{Enrolled, Wire};
use crate::support::{Setup, run, secs};

/// A program of the tests' Python, where `tests/run` installs it.
fn tool(name: &str) -> PathBuf {
    let python: PathBuf = std::env::var_os("PORTCULLIS_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let beside = python.with_file_name(name);
    match beside.exists() {
        true => beside,
        false => name.into(),
    }
}

#[test]
fn the_description_is_openapi_and_the_server_keeps_to_it() {
    let bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").start();
    bastion.add_local("db1", &["/bin/true"]);
    let wire = Wire::of(&bastion);
    let key = Enrolled::new();
    let public = key.public();
    bastion
        .admin(&[
            "identity",
            "add",
            "adm",
            "--role",
            "admin",
            "--key",
            public.to_str().unwrap(),
        ])
        .ok();
    let away = Ipv4Addr::new(127, 12, 0, 1);
    let token = wire.login(away, "adm", &key, &[], 600);

    let document = bastion.dir().join("openapi.json");
    let told = wire.call(away, "", "GET", "/openapi.json", None);
    assert_eq!(told.status, 200);
    std::fs::write(&document, &told.body).unwrap();
    run(
        Command::new(tool("openapi-spec-validator"))
            .arg("--schema")
            .arg("3.1.0")
            .arg(&document),
        secs(60),
    )
    .ok();

    let mut schemathesis = Command::new(tool("schemathesis"));
    schemathesis
        .current_dir(bastion.dir())
        .arg("run")
        .arg(&document)
        .args(["--url", &bastion.https(), "--tls-verify", "false"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance",
        ])
        .args([
            "--checks",
            "response_schema_conformance,response_headers_conformance,unsupported_method",
        ])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "8",
            "--seed",
            "4",
        ])
        // Below what one caller may do: an answer of 429 checks nothing.
        .args(["--rate-limit", "45/s", "--generation-database", "none", "--no-color"])
        // It would end the run's own token.
        .args(["--exclude-path", "/v1/logout"]);
    let done = run(&mut schemathesis, secs(240));
    println!("{}", done.out());
    assert_eq!(done.code(), 0, "{}\n{}", done.out(), done.err());
    assert!(!bastion.log().contains("panicked"), "{}", bastion.log());
    bastion.assert_ledger_clean();
}
