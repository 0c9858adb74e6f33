//! A recording as the judge sees it: verified, whole, with its events.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use portcullis_recording::event::{ChannelAccount, Direction, NoticeHow};
use portcullis_recording::{Event, Head, Ledger, Timed, Trust, Verdict, verify, verify_spool};

use super::bastion::proof_of;

/// A verified recording.
pub struct Record {
    pub file: PathBuf,
    pub head: Head,
    pub verdict: Verdict,
    pub ledger: Ledger,
    /// All of them; of a skimmed one without payload.
    pub events: Vec<Timed<'static>>,
    /// Size of the file.
    pub bytes: u64,
    payload: BTreeMap<u32, Payload>,
}

/// Bytes of a channel's payload events, and of those that digests stand for.
#[derive(Clone, Copy, Default, Debug)]
struct Payload {
    input: u64,
    output: u64,
    stderr: u64,
}

/// The trust file of a state folder.
pub fn trust(state: &Path) -> Trust {
    Trust::parse(&std::fs::read_to_string(state.join("trust.toml")).unwrap()).unwrap()
}

impl Record {
    /// Verifies `file` with the trust file of `state` and the proof beside it; the test fails on any fault.
    #[track_caller]
    pub fn load(file: &Path, state: &Path) -> Record {
        Record::read(file, state, true)
    }

    /// The same without keeping the payload, only its lengths: for large ones.
    #[track_caller]
    pub fn skim(file: &Path, state: &Path) -> Record {
        Record::read(file, state, false)
    }

    #[track_caller]
    fn read(file: &Path, state: &Path, keep: bool) -> Record {
        let proof = std::fs::read_to_string(proof_of(file)).ok();
        let reader = BufReader::new(File::open(file).unwrap());
        let mut verified = verify(reader, &trust(state), proof.as_deref())
            .unwrap_or_else(|fault| panic!("{}: INVALID: {fault}", file.display()));
        verified
            .check_content()
            .unwrap_or_else(|fault| panic!("{}: content: {fault}", file.display()));
        let mut events = Vec::new();
        let mut payload: BTreeMap<u32, Payload> = BTreeMap::new();
        for timed in verified.events().map(|timed| timed.unwrap()) {
            let sums = payload.entry(timed.channel).or_default();
            let (sum, bytes) = match &timed.event {
                Event::Input(bytes) => (&mut sums.input, bytes.len()),
                Event::Output(bytes) => (&mut sums.output, bytes.len()),
                Event::Stderr(bytes) => (&mut sums.stderr, bytes.len()),
                Event::Digest { direction, bytes, .. } => {
                    *match direction {
                        Direction::ToTarget => &mut sums.input,
                        Direction::ToClient => &mut sums.output,
                        Direction::ToClientErr => &mut sums.stderr,
                    } += bytes;
                    events.push(timed);
                    continue;
                }
                _ => {
                    events.push(timed);
                    continue;
                }
            };
            *sum += bytes as u64;
            if keep {
                events.push(timed);
            }
        }
        Record {
            payload,
            file: file.to_owned(),
            head: verified.head().clone(),
            verdict: verified.verdict().clone(),
            ledger: verified.ledger().clone(),
            events,
            bytes: std::fs::metadata(file).unwrap().len(),
        }
    }

    /// What a spool folder verifies as, while its session runs or after a crash.
    #[track_caller]
    pub fn spool(folder: &Path, state: &Path) -> Record {
        use portcullis_recording::spool::{MAIN_FILE, parse_tail_file};
        let main = folder.join(MAIN_FILE);
        let mut tails = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if let Some(index) = entry.file_name().to_str().and_then(parse_tail_file) {
                // A segment may be finished, its tail gone, meanwhile.
                tails.extend(std::fs::read(entry.path()).ok().map(|bytes| (index, bytes)));
            }
        }
        let mut verified = verify_spool(BufReader::new(File::open(&main).unwrap()), tails, &trust(state))
            .unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
        Record {
            head: verified.head().clone(),
            verdict: verified.verdict().clone(),
            ledger: verified.ledger().clone(),
            events: verified.events().map_while(Result::ok).collect(),
            payload: BTreeMap::new(),
            bytes: std::fs::metadata(&main).unwrap().len(),
            file: main,
        }
    }

    #[track_caller]
    pub fn assert_sealed(&self) {
        assert!(matches!(self.verdict, Verdict::Sealed { .. }), "{:?}", self.verdict);
        assert!(matches!(self.ledger, Ledger::Proven(_)), "{:?}", self.ledger);
    }

    /// `(code, text)` of its end.
    #[track_caller]
    pub fn end(&self) -> (String, String) {
        match &self.verdict {
            Verdict::Sealed { code, text, .. } | Verdict::Recovered { code, text, .. } => (code.clone(), text.clone()),
            Verdict::Redacted { .. } => panic!("a copy"),
            Verdict::Prefix { .. } => panic!("not sealed yet"),
        }
    }

    /// The stable code of its end.
    #[track_caller]
    pub fn code(&self) -> String {
        self.end().0
    }

    /// The accounts that the seal names.
    #[track_caller]
    pub fn accounts(&self) -> Vec<ChannelAccount> {
        let last = self.events.iter().rev().find_map(|timed| match &timed.event {
            Event::Accounts(accounts) => Some(accounts.clone()),
            _ => None,
        });
        last.expect("a recording ends with accounts")
    }

    /// Law 5: the accounts reconcile, and they are those of the events.
    #[track_caller]
    pub fn assert_balanced(&self) {
        for account in self.accounts() {
            let channel = account.channel;
            assert_eq!(
                account.from_client + account.from_target_out + account.from_target_err,
                account.to_target
                    + account.to_client_out
                    + account.to_client_err
                    + account.withheld
                    + account.undelivered_up
                    + account.undelivered_down,
                "{account:?}"
            );
            assert!(account.to_target <= account.from_client, "{account:?}");
            assert!(account.to_client_out <= account.from_target_out, "{account:?}");
            assert!(account.to_client_err <= account.from_target_err, "{account:?}");
            let Payload {
                input,
                output: out,
                stderr: err,
            } = self.payload.get(&channel).copied().unwrap_or_default();
            let [mut noticed, mut undelivered] = [0; 2];
            for timed in self.events.iter().filter(|timed| timed.channel == channel) {
                match &timed.event {
                    Event::Notice {
                        bytes,
                        how: NoticeHow::Stderr | NoticeHow::Title,
                    } => {
                        noticed += bytes.len() as u64;
                    }
                    Event::Undelivered { bytes, .. } => undelivered += bytes,
                    _ => {}
                }
            }
            // What never reached the recorder never moved on either: it is undelivered.
            assert!(
                account.to_client_out <= out && out <= account.from_target_out,
                "{out} {account:?}"
            );
            assert!(
                account.to_client_err <= err && err <= account.from_target_err,
                "{err} {account:?}"
            );
            assert_eq!(noticed, account.injected, "{account:?}");
            assert_eq!(
                undelivered,
                account.undelivered_up + account.undelivered_down,
                "{account:?}"
            );
            assert!(
                account.to_target <= input && input <= account.from_client,
                "input {input} {account:?}"
            );
        }
    }

    /// Everything on a channel's standard output.
    pub fn output(&self, channel: u32) -> Vec<u8> {
        self.bytes_of(channel, |event| match event {
            Event::Output(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// Everything on a channel's standard error.
    pub fn stderr(&self, channel: u32) -> Vec<u8> {
        self.bytes_of(channel, |event| match event {
            Event::Stderr(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// All readable input of a channel.
    pub fn input(&self, channel: u32) -> Vec<u8> {
        self.bytes_of(channel, |event| match event {
            Event::Input(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// What the client saw beside the target's bytes, as text.
    pub fn notices(&self) -> Vec<String> {
        let texts = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Notice { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        texts.collect()
    }

    pub fn markers(&self) -> Vec<String> {
        let texts = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Marker { text } => Some(text.to_string()),
            _ => None,
        });
        texts.collect()
    }

    fn bytes_of<'a>(
        &'a self,
        channel: u32,
        pick: impl Fn(&'a Event<'static>) -> Option<&'a std::borrow::Cow<'static, [u8]>>,
    ) -> Vec<u8> {
        let of = |timed: &&Timed<'_>| timed.channel == channel;
        let mut all = Vec::new();
        for bytes in self.events.iter().filter(of).filter_map(|timed| pick(&timed.event)) {
            all.extend_from_slice(bytes);
        }
        all
    }

    /// `(kind, detail)` of every request of a channel.
    pub fn requests(&self, channel: u32) -> Vec<(String, Vec<u8>)> {
        let requests = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Request { kind, detail, .. } if timed.channel == channel => {
                Some((kind.to_string(), detail.to_vec()))
            }
            _ => None,
        });
        requests.collect()
    }

    /// `(action, allowed, code)` of every decision of a channel.
    pub fn decisions(&self, channel: u32) -> Vec<(String, bool, String)> {
        let decisions = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Decision {
                action, allowed, code, ..
            } if timed.channel == channel => Some((action.to_string(), *allowed, code.to_string())),
            _ => None,
        });
        decisions.collect()
    }

    /// Exit statuses of a channel.
    pub fn exit_status(&self, channel: u32) -> Vec<u32> {
        let statuses = self.events.iter().filter_map(|timed| match &timed.event {
            Event::ExitStatus(status) if timed.channel == channel => Some(*status),
            _ => None,
        });
        statuses.collect()
    }

    /// Session channels that were opened.
    pub fn channels(&self) -> Vec<u32> {
        let opened = self.events.iter().filter_map(|timed| match &timed.event {
            Event::ChannelOpen { .. } => Some(timed.channel),
            _ => None,
        });
        opened.collect()
    }

    /// Wall time of the last payload event.
    pub fn last_payload_wall_ms(&self) -> u64 {
        let payload = self.events.iter().rev().find(|timed| {
            matches!(
                timed.event,
                Event::Output(_) | Event::Stderr(_) | Event::Input(_) | Event::SealedInput { .. }
            )
        });
        self.head.opened_wall_ms + payload.map_or(0, |timed| timed.at_ms)
    }

    /// Which way bytes were lost at the end.
    pub fn undelivered(&self) -> Vec<(Direction, u64)> {
        let lost = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Undelivered { direction, bytes } => Some((*direction, *bytes)),
            _ => None,
        });
        lost.collect()
    }
}
