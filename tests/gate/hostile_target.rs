//! Targets that are not what they were: they flood, open channels unasked, and
//! answer what nobody asked. The user gets what a target may show him, or an
//! end in words; the server's memory is bounded, and others are served.

use std::time::{Duration, Instant};

use crate::hostile::{assert_all_filed, assert_no_panic, assert_unharmed, login};
use crate::raw::channels::{Channel, Outcome, PACKET};
use crate::raw::peer::PATIENCE;
use crate::raw::wire::{Get, Put, msg};
use crate::raw::{Fault, Peer, Target};
use crate::support::process::status_kb;
use crate::support::{Case, Setup, Variant, World, secs, wait_until};

/// How far one connection's memory may grow, in kB.
const GROWTH_KB: u64 = 8 * 1024;

pub struct Scene {
    pub world: World,
    pub pid: u32,
    target: Target,
    before: u64,
}

/// What the user's channel came to.
#[derive(Debug)]
pub enum Seen {
    /// It did not open.
    Refused(String),
    /// The connection ended first.
    Gone,
    Ended(Outcome),
}

impl Scene {
    pub fn new(script: impl Fn(&mut Peer) -> Result<(), Fault> + Send + Sync + 'static) -> Scene {
        let setup = Setup::new().set("ssh.target_connect_timeout_secs", "3");
        let world = World::with(setup, Variant::default());
        let target = Target::start(script);
        let key = world.bastion.fresh("host", ".pub");
        Target::write_host_key(&key);
        world
            .bastion
            .add_target("odd", target.addr(), "root", "--host-key", &key);
        let mut scene = Scene {
            pid: world.bastion.pid(),
            world,
            target,
            before: 0,
        };
        scene.warm(1);
        scene
    }

    /// So many logins of others first, so that what is loaded once is not counted.
    pub fn warm(&mut self, logins: usize) {
        for _ in 0..logins {
            assert_unharmed(&self.world, self.pid);
        }
        wait_until("their end", secs(10), || self.world.bastion.live_sessions().is_empty());
        self.before = status_kb(self.pid, "VmRSS");
    }

    /// What a user sees who runs a program there, and how much the server grew meanwhile, in kB.
    pub fn visit(&self) -> Seen {
        self.visit_for(secs(20))
    }

    pub fn visit_for(&self, within: Duration) -> Seen {
        let pass = self.world.bastion.pass("root@odd").issue();
        let mut peer = login(&self.world.bastion, &pass);
        let channel = match peer.session() {
            Ok(Ok(channel)) => channel,
            Ok(Err(words)) => return Seen::Refused(words),
            Err(Fault::Closed) => return Seen::Gone,
            Err(fault) => panic!("no answer to a channel open: {fault:?}"),
        };
        if peer.exec(&channel, "run").is_err() {
            return Seen::Gone;
        }
        Seen::Ended(peer.outcome(&channel, within).expect("an end of the channel"))
    }

    pub fn grown(&self) -> u64 {
        status_kb(self.pid, "VmHWM").saturating_sub(self.before)
    }

    /// The memory stayed bounded, all is sealed, and others are served.
    #[track_caller]
    pub fn assert_unharmed(&self) {
        assert!(self.target.dialled() > 0, "the target was never reached");
        let grown = self.grown();
        assert!(grown < GROWTH_KB, "{grown} kB more");
        wait_until("the end of every session", secs(30), || {
            self.world.bastion.live_sessions().is_empty()
        });
        assert_unharmed(&self.world, self.pid);
        assert_all_filed(&self.world);
    }
}

/// Nothing, or words of ours.
#[track_caller]
pub fn assert_nothing_shown(seen: &Seen) {
    match seen {
        Seen::Refused(words) => assert!(!words.is_empty(), "refused without a word"),
        Seen::Gone => {}
        Seen::Ended(outcome) => assert!(outcome.out.is_empty() && outcome.status.is_none(), "{outcome:?}"),
    }
}

#[track_caller]
pub fn assert_ok(seen: &Seen) {
    match seen {
        Seen::Ended(outcome) => assert_eq!(
            (&outcome.out[..], outcome.status),
            (&b"ok\n"[..], Some(0)),
            "{outcome:?}"
        ),
        other => panic!("{other:?}"),
    }
}

fn data_of(channel: u32, bytes: usize) -> Vec<u8> {
    Put::message(msg::CHANNEL_DATA)
        .u32(channel)
        .string(vec![b'x'; bytes])
        .done()
}

/// GHSA-qw79-rh95-853p: data behind a channel open that is never answered.
#[test]
fn d30_data_before_the_channel_is_confirmed() {
    let _case = Case::new("D30", "target: 256 MiB before the channel is confirmed");
    let scene = Scene::new(|peer| {
        peer.greet()?;
        peer.let_in()?;
        let channel = peer.channel_asked()?;
        let data = data_of(channel.theirs, 32 * 1024);
        for _ in 0..8192 {
            peer.send(&data)?;
        }
        peer.confirm(&channel)?;
        peer.started(&channel)?;
        peer.ends_well(&channel, b"ok\n")
    });
    match scene.visit() {
        Seen::Ended(outcome) => assert!(outcome.out.is_empty() || outcome.out == b"ok\n", "early data was shown"),
        Seen::Refused(_) | Seen::Gone => {}
    }
    scene.assert_unharmed();
}

/// GHSA-47hw-gvq5-r2gm: messages for channels that were never opened.
#[test]
fn d20_messages_for_channels_that_are_not_there() {
    let _case = Case::new("D20", "target: every channel message for unknown channels");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        for unknown in [channel.theirs + 1, channel.ours + 40, 77, u32::MAX - 1, u32::MAX] {
            let stray = Channel {
                theirs: unknown,
                ..channel
            };
            peer.send(&data_of(unknown, 1024))?;
            let extended = Put::message(msg::CHANNEL_EXTENDED_DATA).u32(unknown).u32(1).string("x");
            peer.send(&extended.done())?;
            peer.exit_status(&stray, 9)?;
            for number in [
                msg::CHANNEL_EOF,
                msg::CHANNEL_SUCCESS,
                msg::CHANNEL_FAILURE,
                msg::CHANNEL_CLOSE,
            ] {
                peer.send(&Put::message(number).u32(unknown).done())?;
            }
            peer.send(
                &Put::message(msg::CHANNEL_WINDOW_ADJUST)
                    .u32(unknown)
                    .u32(u32::MAX)
                    .done(),
            )?;
            peer.confirm(&stray)?;
        }
        for _ in 0..10_000 {
            peer.send(&data_of(77, 1024))?;
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    match scene.visit() {
        Seen::Ended(outcome) => assert!(
            outcome.out.is_empty() || (outcome.out == b"ok\n" && outcome.status == Some(0)),
            "{outcome:?}"
        ),
        Seen::Refused(_) | Seen::Gone => {}
    }
    scene.assert_unharmed();
}

/// Channels that a target opens unasked: an agent's, X11's, forwards.
#[test]
fn d17_a_target_opens_channels_unasked() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let scene = Scene::new(move |peer| {
        let channel = peer.program()?;
        let from = || {
            Put::default()
                .string("127.0.0.1")
                .u32(22)
                .string("127.0.0.1")
                .u32(1)
                .done()
        };
        let kinds: [(&str, Vec<u8>); 9] = [
            ("session", Vec::new()),
            ("auth-agent@openssh.com", Vec::new()),
            ("auth-agent", Vec::new()),
            ("x11", Put::default().string("127.0.0.1").u32(1).done()),
            ("forwarded-tcpip", from()),
            (
                "forwarded-streamlocal@openssh.com",
                Put::default().string("/x").string("").done(),
            ),
            ("direct-tcpip", from()),
            (
                "direct-streamlocal@openssh.com",
                Put::default().string("/x").string("").u32(0).done(),
            ),
            ("tun@openssh.com", Put::default().u32(1).u32(0).done()),
        ];
        for (kind, extra) in kinds {
            peer.ask_channel(kind, 1 << 20, PACKET, &extra)?;
            let answer = peer.expect(&[msg::CHANNEL_OPEN_CONFIRMATION, msg::CHANNEL_OPEN_FAILURE])?;
            tell.lock().unwrap().send((kind, answer[0])).ok();
        }
        // A few are borne.
        for _ in 0..16 {
            peer.ask_channel("auth-agent@openssh.com", 1 << 20, PACKET, &[])?;
        }
        let mut refused = 0;
        while refused < 16 {
            let answer = peer.receive(PATIENCE)?;
            assert_ne!(answer[0], msg::CHANNEL_OPEN_CONFIRMATION);
            refused += usize::from(answer[0] == msg::CHANNEL_OPEN_FAILURE);
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    assert_ok(&scene.visit());
    let answers: Vec<(&str, u8)> = told.try_iter().collect();
    assert_eq!(answers.len(), 9, "{answers:?}");
    for (kind, answer) in answers {
        let _case = Case::new("D17", format_args!("target opens {kind}"));
        assert_eq!(answer, msg::CHANNEL_OPEN_FAILURE, "{kind}");
    }
    scene.assert_unharmed();
}

#[test]
fn d17_a_target_that_opens_on_and_on_is_cut() {
    let _case = Case::new("D17", "target opens 1,000 channels unasked");
    let scene = Scene::new(|peer| {
        peer.program()?;
        for _ in 0..1000 {
            peer.ask_channel("auth-agent@openssh.com", 1 << 20, PACKET, &[])?;
        }
        loop {
            assert_ne!(peer.receive(PATIENCE)?[0], msg::CHANNEL_OPEN_CONFIRMATION);
        }
    });
    match scene.visit() {
        Seen::Ended(outcome) => {
            let said = String::from_utf8_lossy(&outcome.err).into_owned();
            assert!(said.contains("opens channels that nobody asked for"), "{said}");
            assert_eq!((outcome.out.len(), outcome.status), (0, None));
        }
        // The cut was quicker than the program's start.
        Seen::Refused(_) | Seen::Gone => {}
    }
    scene.assert_unharmed();
}

#[test]
fn d20_ends_that_do_not_end() {
    let _case = Case::new("D20", "target: 10,000 exit statuses, signals, EOFs");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        peer.data(channel.theirs, b"ok\n")?;
        for status in 0..10_000u32 {
            peer.exit_status(&channel, status)?;
        }
        let signal = Put::default()
            .string("\x1b]0;x\x07")
            .bool(true)
            .string("\x1b[2J".repeat(2000))
            .string("");
        for _ in 0..1000 {
            peer.ask(&channel, "exit-signal", false, &signal.clone().done())?;
            peer.eof(channel.theirs)?;
        }
        peer.close(channel.theirs)?;
        for _ in 0..1000 {
            peer.close(channel.theirs)?;
            peer.data(channel.theirs, b"after the end")?;
        }
        peer.drained(PATIENCE).map(drop)
    });
    match scene.visit() {
        Seen::Ended(outcome) => assert!(outcome.out == b"ok\n" || outcome.out.is_empty(), "{outcome:?}"),
        Seen::Refused(_) | Seen::Gone => {}
    }
    assert!(!scene.world.bastion.log().contains('\x1b'), "a control byte in the log");
    scene.assert_unharmed();
}

/// Every answer that nobody asked for (CVE-2026-39830): replies, successes, failures.
#[test]
fn d20_answers_that_nobody_asked_for() {
    let _case = Case::new("D20", "target: unasked replies to requests");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        for _ in 0..10_000 {
            for number in [msg::CHANNEL_SUCCESS, msg::CHANNEL_FAILURE] {
                peer.send(&Put::message(number).u32(channel.theirs).done())?;
            }
            peer.send(&[msg::REQUEST_FAILURE])?;
            peer.send(&Put::message(81).u32(1).done())?;
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    match scene.visit() {
        Seen::Ended(outcome) => assert!(outcome.out == b"ok\n" || outcome.out.is_empty(), "{outcome:?}"),
        Seen::Refused(_) | Seen::Gone => {}
    }
    scene.assert_unharmed();
}

/// Requests that want an answer, from a target that reads none.
#[test]
fn d20_global_requests_whose_answers_are_not_read() {
    let _case = Case::new("D20", "target: global requests, answers unread");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        let request = Put::message(msg::GLOBAL_REQUEST)
            .string("x@example.com")
            .bool(true)
            .done();
        peer.stream.set_write_timeout(Some(secs(3)))?;
        for _ in 0..500_000 {
            if peer.send(&request).is_err() {
                return Ok(());
            }
        }
        peer.ends_well(&channel, b"ok\n")
    });
    // It ends when the target gives up; until then nothing comes.
    match scene.visit_for(secs(40)) {
        Seen::Ended(outcome) => assert!(outcome.out == b"ok\n" || outcome.out.is_empty(), "{outcome:?}"),
        Seen::Refused(_) | Seen::Gone => {}
    }
    scene.assert_unharmed();
}

/// More than the window allows, to a user who does not read.
#[test]
fn d30_a_flood_at_a_user_who_does_not_read() {
    for honest in [true, false] {
        let case = Case::new(
            "D30",
            format_args!("target floods a user who does not read, window kept: {honest}"),
        );
        let mut scene = Scene::new(move |peer| {
            let channel = peer.program()?;
            let data = data_of(channel.theirs, 32 * 1024);
            let mut left = u64::from(channel.window);
            peer.stream.set_write_timeout(Some(secs(2)))?;
            for _ in 0..8192 {
                while honest && left < 32 * 1024 {
                    let more = peer.receive(secs(3))?;
                    if more[0] == msg::CHANNEL_WINDOW_ADJUST {
                        left += u64::from(Get(&more[5..]).u32().unwrap_or(0));
                    }
                }
                left = left.saturating_sub(32 * 1024);
                if peer.send(&data).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        });
        // As many as come during the flood: what they cost is not the flood's.
        scene.warm(24);
        let pass = scene.world.bastion.pass("root@odd").issue();
        let mut peer = login(&scene.world.bastion, &pass);
        let channel = peer.session().unwrap().unwrap();
        peer.exec(&channel, "run").unwrap();
        // Others are served while it lies there.
        let until = Instant::now() + secs(6);
        while Instant::now() < until {
            assert_unharmed(&scene.world, scene.pid);
            assert!(
                scene.grown() < GROWTH_KB,
                "window kept: {honest}: {} kB more",
                scene.grown()
            );
        }
        drop(peer);
        scene.assert_unharmed();
        drop(case);
    }
}

/// Windows and packets of every odd size, which the target gives us.
#[test]
fn d20_windows_that_a_target_gives() {
    let cases = [
        (0, 0),
        (0, PACKET),
        (1 << 20, 0),
        (1, 1),
        (u32::MAX, u32::MAX),
        (u32::MAX, 1),
    ];
    for (window, packet) in cases {
        let case = Case::new(
            "D20",
            format_args!("target gives a window of {window} and packets of {packet}"),
        );
        let scene = Scene::new(move |peer| {
            peer.greet()?;
            peer.let_in()?;
            let channel = peer.channel_asked()?;
            peer.confirm_with(&channel, window, packet)?;
            peer.started(&channel)?;
            for _ in 0..64 {
                let more = Put::message(msg::CHANNEL_WINDOW_ADJUST)
                    .u32(channel.theirs)
                    .u32(u32::MAX);
                peer.send(&more.done())?;
            }
            peer.ends_well(&channel, b"ok\n")?;
            peer.drained(PATIENCE).map(drop)
        });
        let pass = scene.world.bastion.pass("root@odd").issue();
        let mut peer = login(&scene.world.bastion, &pass);
        if let Ok(Ok(channel)) = peer.session() {
            peer.exec(&channel, "run").unwrap();
            for _ in 0..64 {
                peer.data(channel.theirs, &[b'x'; 8192]).ok();
            }
            let outcome = peer.outcome(&channel, secs(20)).expect("an end of the channel");
            assert!(outcome.out == b"ok\n" || outcome.out.is_empty(), "{outcome:?}");
        }
        drop(peer);
        scene.assert_unharmed();
        drop(case);
    }
}

/// Extended data of every kind: what is not standard error is no output either.
#[test]
fn d20_extended_data_of_any_kind() {
    let _case = Case::new("D20", "target: extended data of 260 kinds");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        for code in (0..256u32).chain([u32::MAX, 1 << 31, 65_536, 257]) {
            let extended = Put::message(msg::CHANNEL_EXTENDED_DATA)
                .u32(channel.theirs)
                .u32(code)
                .string("e");
            peer.send(&extended.done())?;
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    assert_ok(&scene.visit());
    scene.assert_unharmed();
}

/// Keys by the dozen: every exchange whole, output in between.
#[test]
fn d30_a_target_that_rekeys_all_the_time() {
    let _case = Case::new("D30", "target: 100 whole key exchanges");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        for _ in 0..100 {
            peer.exchange()?;
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    assert_ok(&scene.visit());
    assert_no_panic(&scene.world.bastion);
    scene.assert_unharmed();
}
