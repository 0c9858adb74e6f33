//! The message-order matrix towards targets: a target that sends any message
//! in any state. Our client leg lives or gives up; the user sees what a target
//! may show him, or a refusal in words, and never anything before a program
//! was started.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::hostile::{assert_all_filed, assert_no_panic, assert_unharmed, login};
use crate::raw::wire::{Put, msg};
use crate::raw::{Fault, Peer, Target};
use crate::support::{Case, Pass, Setup, Variant, World, secs, wait_until, whole};

/// Where in its part the target sends the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    BeforeKex,
    InKex,
    AfterKeys,
    InLogin,
    LoggedIn,
    Opening,
    Running,
    Rekey,
}

/// What the target's next connection does.
#[derive(Clone, Debug)]
struct Plan {
    when: When,
    number: u8,
    rich: bool,
}

/// Numbers that mean something, and some that do not.
const TELLING: &[u8] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 30, 31, 34, 50, 51, 52, 53, 60, 61, 80, 81, 82, 90, 91, 92, 93, 94, 95, 96, 97, 98,
    99, 100, 192, 255,
];

impl Plan {
    fn message(&self, channel: u32) -> Vec<u8> {
        let rich = Put::default().u32(channel).string("exec").bool(true).string("id");
        let body = if self.rich {
            rich.u32(1).u32(32768).done()
        } else {
            Vec::new()
        };
        Put::message(self.number).raw(&body).done()
    }

    /// The message if this is the moment for it.
    fn send(&self, now: When, peer: &mut Peer, channel: u32) -> Result<(), Fault> {
        match now == self.when {
            true => peer.send(&self.message(channel)),
            false => Ok(()),
        }
    }

    /// An honest target's part, but for that message.
    fn play(&self, peer: &mut Peer) -> Result<(), Fault> {
        peer.versions()?;
        self.send(When::BeforeKex, peer, 0)?;
        self.exchange(When::InKex, peer)?;
        self.send(When::AfterKeys, peer, 0)?;
        peer.serve_auth()?;
        self.send(When::InLogin, peer, 0)?;
        peer.login_asked()?;
        peer.send(&[msg::USERAUTH_SUCCESS])?;
        self.send(When::LoggedIn, peer, 0)?;
        let channel = peer.channel_asked()?;
        self.send(When::Opening, peer, channel.theirs)?;
        peer.confirm(&channel)?;
        peer.started(&channel)?;
        self.send(When::Running, peer, channel.theirs)?;
        if self.when == When::Rekey {
            self.exchange(When::Rekey, peer)?;
        }
        peer.ends_well(&channel, b"ok\n")?;
        peer.drained(secs(5)).map(drop)
    }

    fn exchange(&self, now: When, peer: &mut Peer) -> Result<(), Fault> {
        let ours = peer.kexinit();
        peer.send(&ours)?;
        let theirs = peer.expect(&[msg::KEXINIT])?;
        self.send(now, peer, 0)?;
        peer.agree(&ours, &theirs)
    }
}

/// What the user sees of one connection: output and status, or how it ended.
fn seen(world: &World, pass: &Pass) -> Option<(Vec<u8>, Vec<u8>, Option<u32>)> {
    let mut peer = login(&world.bastion, pass);
    let channel = match peer.session() {
        Ok(Ok(channel)) => channel,
        Ok(Err(_)) | Err(Fault::Closed) => return None,
        Err(fault) => panic!("no answer to a channel open: {fault:?}"),
    };
    peer.exec(&channel, "run").ok()?;
    let outcome = peer.outcome(&channel, secs(8)).expect("an end of the channel");
    Some((outcome.out, outcome.err, outcome.status))
}

fn matrix(when: When) {
    let setup = Setup::new().set("ssh.target_connect_timeout_secs", "3");
    let world = World::with(setup, Variant::default());
    let pid = world.bastion.pid();
    let plan = Arc::new(Mutex::new(Plan {
        when,
        number: 2,
        rich: true,
    }));
    let next = plan.clone();
    let target = Target::start(move |peer| {
        let plan = next.lock().unwrap().clone();
        plan.play(peer)
    });
    let key = world.bastion.fresh("host", ".pub");
    Target::write_host_key(&key);
    world
        .bastion
        .add_target("odd", target.addr(), "root", "--host-key", &key);
    let pass = world.bastion.pass("root@odd").secs(3000).issue();
    let every: Vec<u8> = (1..=255).collect();
    let numbers = if whole() { &every } else { TELLING };
    let mut went_well = 0;
    for number in numbers {
        let _case = Case::cell("towards-target", &format!("{when:?}"), *number);
        for rich in [true, false] {
            *plan.lock().unwrap() = Plan {
                when,
                number: *number,
                rich,
            };
            let Some((out, err, status)) = seen(&world, &pass) else {
                continue;
            };
            let running = matches!(when, When::Running | When::Rekey);
            // Only a program that runs has output of its own.
            let stray: &[&[u8]] = if running && rich { &[b"exec", b""] } else { &[b""] };
            let whole_out = stray.iter().any(|stray| out == [stray, &b"ok\n"[..]].concat());
            match status {
                Some(0) => {
                    assert!(whole_out, "{when:?} {number}: {out:?}");
                    went_well += 1;
                }
                Some(status) => panic!("{when:?} {number}: status {status}"),
                None => assert!(
                    whole_out || stray.iter().any(|stray| out == *stray),
                    "{when:?} {number}: {out:?} {err:?}"
                ),
            }
        }
        assert_no_panic(&world.bastion);
    }
    assert!(target.dialled() > 0);
    // Behind the key exchange a connection lives through a message that means nothing.
    assert_eq!(
        went_well > 0,
        !matches!(when, When::BeforeKex | When::InKex),
        "{went_well} went well"
    );
    wait_until("the end of every session", secs(30), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
    assert_all_filed(&world);
}

#[test]
fn s2_target_before_the_key_exchange() {
    matrix(When::BeforeKex);
}

#[test]
fn s2_target_in_the_key_exchange() {
    matrix(When::InKex);
}

#[test]
fn s2_target_after_the_keys() {
    matrix(When::AfterKeys);
}

#[test]
fn s2_target_in_login() {
    matrix(When::InLogin);
}

#[test]
fn s2_target_logged_in() {
    matrix(When::LoggedIn);
}

#[test]
fn s2_target_while_a_channel_is_asked_for() {
    matrix(When::Opening);
}

#[test]
fn s2_target_while_a_program_runs() {
    matrix(When::Running);
}

#[test]
fn s2_target_in_rekey() {
    matrix(When::Rekey);
}

/// How long a target goes on behind a step before it hangs up, in microseconds
/// more each time: about as long as our side takes for its next.
const LATER_US: u64 = 20;
/// How many moments behind each step.
const MOMENTS: u64 = 60;

/// A target that hangs up at any moment leaves nobody waiting.
#[test]
fn d20_a_target_that_hangs_up_at_any_moment() {
    let setup = Setup::new().set("ssh.target_connect_timeout_secs", "3");
    let world = World::with(setup, Variant::default());
    let pid = world.bastion.pid();
    let moment = Arc::new(Mutex::new((When::LoggedIn, 0)));
    let next = moment.clone();
    let target = Target::start(move |peer| {
        let (when, micros) = *next.lock().unwrap();
        let goes_on = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(micros) {
                std::hint::spin_loop();
            }
        };
        peer.greet()?;
        peer.let_in()?;
        if when == When::LoggedIn {
            goes_on();
            return Ok(());
        }
        let channel = peer.channel_asked()?;
        if when == When::Opening {
            goes_on();
            return Ok(());
        }
        peer.confirm(&channel)?;
        goes_on();
        Ok(())
    });
    let key = world.bastion.fresh("host", ".pub");
    Target::write_host_key(&key);
    world
        .bastion
        .add_target("odd", target.addr(), "root", "--host-key", &key);
    let pass = world.bastion.pass("root@odd").secs(3000).issue();
    for when in [When::LoggedIn, When::Opening, When::Running] {
        for step in 0..MOMENTS {
            *moment.lock().unwrap() = (when, step * LATER_US);
            if let Some((out, _, status)) = seen(&world, &pass) {
                assert_eq!((out, status), (Vec::new(), None), "{when:?}");
            }
        }
    }
    wait_until("the end of every session", secs(30), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
    assert_all_filed(&world);
}
