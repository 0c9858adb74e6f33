use super::super::What;
use super::*;

#[test]
fn only_the_systems_own_programs_run_what_they_say() {
    for (command, says) in [
        ("scp -t /tmp/x", true),
        ("scp -f *.log", true),
        ("/usr/bin/scp -t .", true),
        ("/usr/lib/openssh/sftp-server", true),
        ("/usr/../tmp/scp -t .", false),
        ("/tmp/scp -t .", false),
        ("./scp -t .", false),
        ("sudo scp -t .", false),
        ("PATH=/tmp scp -t .", false),
        ("scp -t \"$(sh)\"", false),
        ("rsync --server . /srv", false),
        ("", false),
    ] {
        assert_eq!(runs_what_it_says(command.as_bytes()), says, "{command}");
    }
}

#[test]
fn command_lines_say_what_moves_files() {
    let scp = |way, path: &str| {
        Some(Program::Scp {
            way,
            paths: path.split('|').map(|path| path.as_bytes().to_vec()).collect(),
        })
    };
    let stream = |way, path: &str| {
        Some(Program::Stream {
            way,
            paths: path.split('|').map(|path| path.as_bytes().to_vec()).collect(),
        })
    };
    let cases: &[(&str, Option<Program>)] = &[
        ("scp -t /tmp/x", scp(Way::Up, "/tmp/x")),
        ("scp -r -p -d -t -- /tmp/x", scp(Way::Up, "/tmp/x")),
        ("/usr/bin/scp -rpf 'a b' c", scp(Way::Down, "a b|c")),
        ("scp -v -f *.log", scp(Way::Down, "*.log")),
        ("scp -t -- -t", scp(Way::Up, "-t")),
        ("sudo -n scp -f /etc/shadow", scp(Way::Down, "/etc/shadow")),
        ("LANG=C scp -f a\\ b", scp(Way::Down, "a b")),
        ("scp -f -t /etc/shadow", scp(Way::Down, "/etc/shadow")),
        ("sudo -u root -n scp -f /x", scp(Way::Down, "/x")),
        ("exec -a n scp -t /x", scp(Way::Up, "/x")),
        ("scp \\\n-f /x", scp(Way::Down, "/x")),
        ("sudo --user=x env -i A=b scp -t /x", scp(Way::Up, "/x")),
        ("env -S 'scp -f /x'", None),
        ("scp a host:b", None),
        ("scp -t /tmp; id", None),
        ("scp -f `id`", None),
        ("scp -f \"`id`\"", None),
        ("echo scp -f x", None),
        ("/usr/lib/openssh/sftp-server -R", Some(Program::Sftp)),
        ("sudo /usr/lib/openssh/sftp-server", Some(Program::Sftp)),
        (
            "rsync --server -logDtpre.iLsfxCIvu . /srv/www/",
            stream(Way::Up, "/srv/www/"),
        ),
        (
            "rsync --server --sender -vlogDtpre.iLsfxC --timeout 5 . /etc '/var/a b'",
            stream(Way::Down, "/etc|/var/a b"),
        ),
        ("rsync -a /a /b", None),
        ("git-upload-pack '/srv/a.git'", stream(Way::Down, "/srv/a.git")),
        ("git receive-pack '/srv/a.git'", stream(Way::Up, "/srv/a.git")),
        ("git-upload-archive '/srv/a.git'", stream(Way::Down, "/srv/a.git")),
        ("git -c a=b upload-pack /srv/a.git", stream(Way::Down, "/srv/a.git")),
        ("git status", None),
        ("", None),
        ("'unclosed", None),
    ];
    for (line, expected) in cases {
        assert_eq!(read(line.as_bytes()), *expected, "{line}");
    }
}

#[test]
fn what_a_line_does_not_say_is_wished_with_no_path() {
    let (down, up) = ((What::Download, ""), (What::Upload, ""));
    let cases: &[(&str, &[(What, &str)])] = &[
        ("scp -t /x", &[(What::Upload, "/x")]),
        ("scp -f -t /etc/shadow", &[(What::Download, "/etc/shadow")]),
        ("scp -rpv -f -- -a b", &[(What::Download, "-a"), (What::Download, "b")]),
        ("scp -f", &[down]),
        ("scp -l 9 -f /x", &[down, up]),
        ("scp -t /x -f", &[down, up]),
        ("scp -t 'a\\b'", &[down, up]),
        ("scp -f /s\\x", &[down, up]),
        ("scp a host:b", &[]),
        ("rsync --server -logDtpre.iLsfxCIvu . /x", &[(What::Upload, "/x")]),
        (
            "rsync --server --sender -e.LsfxCIvu --timeout 5 --bwlimit=3 . /x .",
            &[(What::Download, "/x"), (What::Download, ".")],
        ),
        ("rsync --server -e.LsfxCIvu . .", &[(What::Upload, ".")]),
        ("rsync --server -e.LsfxCIvu .", &[up]),
        ("rsync --server --sender -se.LsfxCIvu", &[down, up]),
        ("rsync --server --sender --secluded-args . /x", &[down, up]),
        ("rsync --server --exclude --sender . /x", &[down, up]),
        ("rsync --server --log-file=/y . /x", &[down, up]),
        ("rsync --server -T/y . /x", &[down, up]),
        ("rsync --server -- /y /x", &[down, up]),
        ("rsync --daemon", &[down, up]),
        ("rsync -a --exclude x /a /b", &[]),
        ("git-upload-pack --strict --timeout=3 /x", &[(What::Download, "/x")]),
        ("git-upload-pack --else /x", &[down, up]),
        ("git --exec-path=/x upload-pack /x", &[down, up]),
        ("git pull", &[]),
        ("sftp-server -R", &[]),
        ("sh -c 'scp -f /x'", &[down, up]),
        ("cd / && s''c\\p -f /x", &[down, up]),
        ("timeout 5 /usr/bin/rsync --server . /x", &[down, up]),
        ("uptime; id", &[]),
    ];
    for (line, expected) in cases {
        let wished = wishes(line.as_bytes());
        let wished: Vec<(What, &str)> = wished
            .iter()
            .map(|wish| (wish.what, std::str::from_utf8(&wish.path).unwrap()))
            .collect();
        assert_eq!(wished, *expected, "{line}");
    }
}

#[test]
fn a_stream_is_done_if_its_program_says_so() {
    for (status, outcome) in [
        (Some(0), Outcome::Done),
        (Some(12), Outcome::Failed("exit status 12".to_owned())),
        (None, Outcome::Unfinished),
    ] {
        let mut stream = Stream::new(0, Way::Up, b"/x".to_vec());
        status.into_iter().for_each(|status| stream.exited(status));
        let mut told = Vec::new();
        stream.end(&mut told);
        let [Told::Deed(deed)] = &told[..] else { panic!() };
        assert_eq!(deed.outcome, outcome);
    }
}
