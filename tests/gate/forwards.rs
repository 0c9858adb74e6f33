//! Forwards with the stock client: each way, allowed and refused, against a
//! tap at the target's side.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use nix::sys::signal::Signal;
use portcullis_recording::Event;

use crate::support::bytes::Pattern;
use crate::support::echo::{self, echo, exchange, exchange_unix, free_port};
use crate::support::tap::Way;
use crate::support::{Client, Record, Running, Setup, Tap, Variant, World, run, secs, wait_until};

/// A pass with everything that most forwards need.
const ALLOW: &str = "shell,exec,sftp,forward";

fn client(world: &World, allow: &str) -> Client {
    world
        .bastion
        .client(&world.bastion.pass("root@db1").allow(allow).issue())
}

/// `ssh -v -N` with `args`, once it has said `ready`.
#[track_caller]
fn forwarding(client: &Client, args: &[&str], ready: &str) -> Running {
    let mut ssh = client.ssh();
    ssh.args(["-v", "-N", "-o", "ExitOnForwardFailure=yes"])
        .args(args)
        .arg("gate")
        .stdin(std::process::Stdio::null());
    let running = Running::start(&mut ssh);
    running.await_err(ready, secs(30));
    running
}

/// Ends the client as its user would.
fn leave(running: Running) {
    running.signal(Signal::SIGTERM);
    running.finish(secs(20));
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

/// `(kind, detail)` of each channel.
fn opened(record: &Record) -> Vec<(String, String)> {
    let opened = record.events.iter().filter_map(|timed| match &timed.event {
        Event::ChannelOpen { kind, detail } => Some((kind.to_string(), detail.to_string())),
        _ => None,
    });
    opened.collect()
}

fn passed(tap: &Tap, way: Way) -> u64 {
    let seen = tap.seen();
    seen.iter()
        .filter(|seen| seen.way == way)
        .map(|seen| seen.bytes as u64)
        .sum()
}

/// What the tap saw is what the accounts say went to and came from the target.
#[track_caller]
fn assert_tapped(record: &Record, tap: &Tap) {
    record.assert_sealed();
    record.assert_balanced();
    let accounts = record.accounts();
    let up: u64 = accounts.iter().map(|account| account.to_target).sum();
    let down: u64 = accounts.iter().map(|account| account.from_target_out).sum();
    assert_eq!((passed(tap, Way::Up), passed(tap, Way::Down)), (up, down));
}

#[test]
fn local_forwards_are_recorded_byte_for_byte() {
    let world = World::new();
    let served = echo::tcp(echo);
    let tap = Tap::to(served.addr());
    let port = free_port();
    let there = format!("127.0.0.1:{}", tap.addr().port());
    let running = forwarding(
        &client(&world, ALLOW),
        &["-L", &format!("{port}:{there}")],
        "Local forwarding listening on 127.0.0.1",
    );
    let sent: Vec<Vec<u8>> = (0..3).map(|seed| Pattern::new(seed).bytes(700_000)).collect();
    let streams: Vec<TcpStream> = sent.iter().map(|_| connect(port)).collect();
    let replies: Vec<_> = streams
        .into_iter()
        .zip(sent.clone())
        .map(|(stream, sent)| std::thread::spawn(move || exchange(stream, &sent)))
        .collect();
    let replies: Vec<Vec<u8>> = replies.into_iter().map(|reply| reply.join().unwrap()).collect();
    assert!(replies == sent);
    assert_eq!(world.bastion.live_sessions().len(), 1, "it is a session all the time");
    leave(running);
    let record = world.bastion.only_record();
    assert_tapped(&record, &tap);
    assert_eq!(record.code(), "exit");
    assert_eq!(
        opened(&record),
        vec![("direct-tcpip".to_owned(), there.clone()); sent.len()]
    );
    let mut left = sent;
    for channel in record.channels() {
        assert!(
            record
                .decisions(channel)
                .contains(&("forward".into(), true, "permitted".into()))
        );
        assert_eq!(
            record.requests(channel)[0],
            ("forward".into(), there.clone().into_bytes())
        );
        let input = record.input(channel);
        assert!(record.output(channel) == input);
        left.retain(|sent| *sent != input);
    }
    assert!(left.is_empty(), "one of them is not in the recording");
    assert_shown(&world, &record, &format!("direct-tcpip {there}"));
}

/// The player verifies it and says what crossed, without showing bytes of a protocol.
#[track_caller]
fn assert_shown(world: &World, record: &Record, words: &str) {
    let player = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    for verb in ["verify", "text"] {
        let mut command = std::process::Command::new(&player);
        command
            .arg(verb)
            .arg(&record.file)
            .arg("--trust")
            .arg(world.bastion.state().join("trust.toml"));
        let done = run(&mut command, secs(30)).ok();
        assert!(
            done.stdout.len() < 64 * 1024,
            "{verb} shows {} bytes",
            done.stdout.len()
        );
        let said = format!("{}{}", done.out(), done.err());
        assert!(verb == "verify" || said.contains(words), "{said}");
    }
}

/// Each side may end its own direction and go on with the other (RFC 4254 section 5.3).
#[test]
fn either_side_may_fall_silent_first() {
    let world = World::new();
    let answers = echo::tcp(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("got {}", all.len()).as_bytes()).unwrap();
    });
    let (tell, read) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let greets = echo::tcp(move |mut stream| {
        stream.write_all(b"hello, and no more").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        tell.lock().unwrap().send(all.len()).unwrap();
    });
    let (one, other) = (free_port(), free_port());
    let running = forwarding(
        &client(&world, ALLOW),
        &[
            "-L",
            &format!("{one}:127.0.0.1:{}", answers.port()),
            "-L",
            &format!("{other}:127.0.0.1:{}", greets.port()),
        ],
        &format!("Local forwarding listening on 127.0.0.1 port {other}"),
    );
    assert_eq!(exchange(connect(one), &[7; 100_000]), b"got 100000");
    let mut stream = connect(other);
    stream.set_read_timeout(Some(secs(20))).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"hello, and no more");
    stream.write_all(&[1; 50_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read.recv_timeout(secs(20)).unwrap(), 50_000);
    drop(stream);
    leave(running);
    let record = world.bastion.only_record();
    record.assert_balanced();
    assert_eq!(
        (record.input(1).len(), record.output(1)),
        (100_000, b"got 100000".to_vec())
    );
    assert_eq!(record.output(2), b"hello, and no more");
    assert_eq!(record.input(2).len(), 50_000);
}

/// teleport#1487 and #1520, warpgate#950: what is forwarded is not a way past
/// the recorder. Here even an SSH session inside a forward is recorded, as the
/// ciphertext that it is, and refused without the capability.
#[test]
fn without_the_capability_nothing_is_dialled() {
    let world = World::new();
    let served = echo::tcp(echo);
    let port = free_port();
    let running = forwarding(
        &client(&world, "shell,exec,sftp"),
        &["-L", &format!("{port}:127.0.0.1:{}", served.port())],
        "Local forwarding listening on 127.0.0.1",
    );
    assert_eq!(exchange(connect(port), b"anybody there?"), b"");
    running.await_err("ask for one with --allow forward", secs(20));
    assert!(
        running.err().contains("administratively prohibited"),
        "{}",
        running.err()
    );
    leave(running);
    assert_eq!(served.connections(), 0);
    let record = world.bastion.only_record();
    record.assert_sealed();
    assert_eq!(
        record.decisions(1),
        [("forward".to_owned(), false, "capability_missing".to_owned())]
    );
    assert_eq!(record.accounts(), []);
    // Nor listened for.
    let mut ssh = client(&world, "shell,exec,sftp").ssh();
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-R"])
        .arg(format!("0:127.0.0.1:{}", served.port()))
        .arg("gate");
    let done = run(&mut ssh, secs(30));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("remote port forwarding failed"), "{}", done.err());
    let record = &world.bastion.records(2)[1];
    assert!(
        record
            .decisions(0)
            .contains(&("remote-forward".into(), false, "capability_missing".into()))
    );
}

/// Policy sees the literal host and port.
#[test]
fn policy_decides_over_host_and_port() {
    let served = echo::tcp(echo);
    let mut bastion = Setup::new().make();
    let rule = format!(
        "@id(\"only-the-database\") @note(\"only the database's port\")\n\
         forbid (principal, action == Action::\"forward\", resource)\n\
         unless {{ context.forward.direction == \"local\" && context.forward.host == \"localhost\" \
         && context.forward.port == {} }};",
        served.port()
    );
    std::fs::write(bastion.state().join("policies/forwards.cedar"), rule).unwrap();
    bastion.serve();
    let sshd = crate::support::Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    let world = World { bastion, sshd };
    let port = free_port();
    let running = forwarding(
        &client(&world, ALLOW),
        &["-D", &port.to_string()],
        "Local forwarding listening",
    );
    let socks = |host: &str, to: u16, text: &[u8]| {
        let mut stream = connect(port);
        stream.set_read_timeout(Some(secs(20))).unwrap();
        stream.write_all(&[5, 1, 0]).unwrap();
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).unwrap();
        let mut ask = vec![5, 1, 0, 3, host.len() as u8];
        ask.extend_from_slice(host.as_bytes());
        ask.extend_from_slice(&to.to_be_bytes());
        stream.write_all(&ask).unwrap();
        // OpenSSH says yes at once and closes when the other side says no, with
        // or without that yes.
        let mut said = [0; 10];
        match stream.read_exact(&mut said) {
            Ok(()) => exchange(stream, text),
            Err(_) => Vec::new(),
        }
    };
    let other = echo::tcp(echo);
    assert_eq!(socks("localhost", served.port(), b"through SOCKS"), b"through SOCKS");
    assert_eq!(socks("127.0.0.1", served.port(), b"by number"), b"");
    assert_eq!(socks("localhost", other.port(), b"elsewhere"), b"");
    running.await_err("only-the-database", secs(20));
    leave(running);
    assert_eq!((served.connections(), other.connections()), (1, 0));
    let record = world.bastion.only_record();
    record.assert_balanced();
    assert_eq!(record.channels(), [1, 2, 3]);
    for channel in [2, 3] {
        let code = "policy_denied".to_owned();
        assert_eq!(record.decisions(channel), [("forward".to_owned(), false, code)]);
    }
}

/// The target's own reason reaches the client, and the recording.
#[test]
fn the_targets_refusal_is_the_clients() {
    let world = World::new();
    let (port, nobody) = (free_port(), free_port());
    let running = forwarding(
        &client(&world, ALLOW),
        &["-L", &format!("{port}:127.0.0.1:{nobody}")],
        "Local forwarding listening on 127.0.0.1",
    );
    assert_eq!(exchange(connect(port), b""), b"");
    running.await_err("open failed: connect failed: Connection refused", secs(20));
    leave(running);
    let record = world.bastion.only_record();
    let marked = record.events.iter().any(|timed| {
        matches!(&timed.event, Event::Marker { text } if text.contains("Connection refused")) && timed.channel == 1
    });
    assert!(marked);
    record.assert_balanced();
}

#[test]
fn remote_forwards_come_in_where_they_were_asked_for() {
    let world = World::new();
    let served = echo::tcp(echo);
    let tap = Tap::to(served.addr());
    let socket = world.bastion.fresh("mux", "");
    let client = client(&world, ALLOW);
    let running = forwarding(
        &client,
        &[
            "-M",
            "-S",
            socket.to_str().unwrap(),
            "-R",
            &format!("0:127.0.0.1:{}", tap.addr().port()),
        ],
        "Allocated port ",
    );
    let said = running.err();
    let port = said.split("Allocated port ").nth(1).unwrap();
    let port: u16 = port.split_whitespace().next().unwrap().parse().unwrap();
    // A further one with a fixed port, through the master.
    let fixed = free_port();
    let forward = format!("{fixed}:127.0.0.1:{}", tap.addr().port());
    let control = |words: [&str; 2]| {
        let mut ssh = client.ssh();
        ssh.arg("-S")
            .arg(&socket)
            .args(["-O", words[0], "-R", words[1], "gate"]);
        run(&mut ssh, secs(20))
    };
    control(["forward", &forward]).ok();
    let sent = Pattern::new(1).bytes(1_000_000);
    assert!(exchange(connect(port), &sent) == sent);
    assert_eq!(exchange(connect(fixed), b"fixed"), b"fixed");
    control(["cancel", &forward]).ok();
    wait_until("nobody listens there any more", secs(20), || {
        TcpStream::connect(("127.0.0.1", fixed)).is_err()
    });
    assert_eq!(exchange(connect(port), b"again"), b"again");
    leave(running);
    wait_until("nobody listens behind the session", secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    let kinds: Vec<String> = opened(&record).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["forwarded-tcpip", "forwarded-tcpip", "forwarded-tcpip"]);
    assert!(
        opened(&record)[0]
            .1
            .starts_with(&format!("localhost:{port} from 127.0.0.1:")),
        "{:?}",
        opened(&record)
    );
    assert!(record.output(1) == sent && record.input(1) == sent);
    // Here the target's side is who connects, and the tap is the client's.
    let down: u64 = record.accounts().iter().map(|account| account.to_client_out).sum();
    let up: u64 = record.accounts().iter().map(|account| account.from_client).sum();
    assert_eq!((passed(&tap, Way::Up), passed(&tap, Way::Down)), (down, up));
    let asked = record.decisions(0);
    let asked = asked
        .iter()
        .filter(|(action, allowed, _)| action == "remote-forward" && *allowed);
    assert_eq!(asked.count(), 2);
}

#[test]
fn sockets_are_forwarded_both_ways() {
    let world = World::new();
    let there = world.bastion.fresh("there", ".sock");
    let here = world.bastion.fresh("here", ".sock");
    let (near, far) = (
        world.bastion.fresh("near", ".sock"),
        world.bastion.fresh("far", ".sock"),
    );
    let _there = echo::unix(&there, echo::echo_unix);
    let _here = echo::unix(&here, echo::echo_unix);
    let running = forwarding(
        &client(&world, ALLOW),
        &[
            "-L",
            &format!("{}:{}", near.display(), there.display()),
            "-R",
            &format!("{}:{}", far.display(), here.display()),
        ],
        "remote forward success for: listen",
    );
    let sent = Pattern::new(2).bytes(300_000);
    assert!(exchange_unix(&near, &sent) == sent);
    assert!(exchange_unix(&far, &sent) == sent);
    leave(running);
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(
        opened(&record),
        [
            ("direct-streamlocal@openssh.com".to_owned(), there.display().to_string()),
            (
                "forwarded-streamlocal@openssh.com".to_owned(),
                far.display().to_string()
            ),
        ]
    );
    for channel in [1, 2] {
        assert!(record.input(channel) == sent && record.output(channel) == sent);
    }
}

/// At the end of the grant forwards stop with everything else, and count as
/// channels until then.
#[test]
fn forwards_end_with_the_grant() {
    let world = World::new();
    let floods = echo::tcp(|mut stream| while stream.write_all(&[0; 65_536]).is_ok() {});
    let tap = Tap::to(floods.addr());
    let port = free_port();
    let pass = world.bastion.pass("root@db1").allow(ALLOW).secs(8).issue();
    let running = forwarding(
        &world.bastion.client(&pass),
        &["-L", &format!("{port}:127.0.0.1:{}", tap.addr().port())],
        "Local forwarding listening on 127.0.0.1",
    );
    let mut stream = connect(port);
    stream.set_read_timeout(Some(secs(30))).unwrap();
    let mut taken = 0;
    let mut buffer = vec![0; 65_536];
    while let Ok(got @ 1..) = stream.read(&mut buffer) {
        taken += got as u64;
    }
    assert!(taken > 0);
    let done = running.finish(secs(20));
    assert!(done.err().contains("your grant has ended"), "{}", done.err());
    let record = &world.bastion.skimmed(1)[0];
    record.assert_balanced();
    assert_eq!(record.code(), "grant_expired");
    assert!(record.last_payload_wall_ms() <= pass.until_ms + 100);
    let account = record.accounts()[0];
    assert!(taken <= account.to_client_out, "{taken} {account:?}");
}

/// A forward whose reader has stopped holds up neither its siblings nor the shell.
#[test]
fn a_stalled_forward_does_not_stop_its_siblings() {
    let world = World::new();
    let floods = echo::tcp(|mut stream| while stream.write_all(&[0; 65_536]).is_ok() {});
    let served = echo::tcp(echo);
    let (stalled, flows) = (free_port(), free_port());
    let socket = world.bastion.fresh("mux", "");
    let client = client(&world, ALLOW);
    let running = forwarding(
        &client,
        &[
            "-M",
            "-S",
            socket.to_str().unwrap(),
            "-L",
            &format!("{stalled}:127.0.0.1:{}", floods.port()),
            "-L",
            &format!("{flows}:127.0.0.1:{}", served.port()),
        ],
        &format!("Local forwarding listening on 127.0.0.1 port {flows}"),
    );
    let mut stopped = connect(stalled);
    let mut first = [0; 1000];
    stopped.read_exact(&mut first).unwrap();
    // Long enough for whatever waits for it to have filled up.
    let sent = Pattern::new(3).bytes(2_000_000);
    for _ in 0..4 {
        let began = std::time::Instant::now();
        assert!(exchange(connect(flows), &sent) == sent);
        assert_eq!(
            run(client.through(&socket).arg("echo here"), secs(20)).ok().out(),
            "here\n"
        );
        assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
    }
    drop(stopped);
    leave(running);
    let record = &world.bastion.skimmed(1)[0];
    record.assert_balanced();
}

/// `ssh -W`, which `ProxyCommand` and `-J` to a server of one's own use: no
/// session channel, and recorded all the same.
#[test]
fn standard_input_forwarded_is_a_session_too() {
    let world = World::new();
    let there = world.sshd.addr().to_string();
    let through = |allow: &str| {
        let mut ssh = client(&world, allow).ssh();
        ssh.args(["-W", &there, "gate"]);
        let mut running = Running::with_input(&mut ssh);
        running.say("SSH-2.0-inside\r\n");
        running
    };
    let running = through(ALLOW);
    running.await_out("SSH-2.0-OpenSSH", secs(20));
    running.finish(secs(20));
    let done = through("shell,exec,sftp").finish(secs(20));
    assert_eq!(done.out(), "");
    assert!(done.err().contains("--allow forward"), "{}", done.err());
    let records = world.bastion.records(2);
    records[0].assert_balanced();
    assert_eq!(records[0].input(1), b"SSH-2.0-inside\r\n");
    assert!(records[0].output(1).starts_with(b"SSH-2.0-OpenSSH"));
    assert_eq!(records[1].accounts(), []);
}

/// Nothing of this machine is reached through a local target.
#[test]
fn a_local_target_forwards_nothing() {
    let bastion = Setup::new().account("nobody", "/bin/sh").start();
    bastion.add_local("here", &[]);
    let served = echo::tcp(echo);
    let pass = bastion.pass("op@here").allow("shell,forward,agent,x11").issue();
    let mut ssh = bastion.client(&pass).ssh();
    ssh.args(["-W", &served.addr().to_string(), "gate"]);
    let done = run(&mut ssh, secs(30));
    assert!(done.err().contains("a local target forwards nothing"), "{}", done.err());
    assert_eq!(served.connections(), 0);
    let mut ssh = bastion.client(&pass).ssh();
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "gate"]);
    assert_eq!(run(&mut ssh, secs(30)).code(), 255);
    for record in bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
}
