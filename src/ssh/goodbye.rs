//! What the client is told beside the target's own words: warnings on a
//! terminal, and the last line before the connection goes.

use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::Event;
use portcullis_recording::event::NoticeHow;

use super::channel::{Carries, Channel, Down, count};
use super::pump::ClientEnd;
use super::session::Live;
use crate::kernel::session::EndReason;

/// How long the notice may take before the streams are cut, after an end order.
const NOTICE: Duration = Duration::from_millis(50);
/// OpenSSH drops channel output that it has not shown when it sees the disconnect.
const NOTICE_PAUSE: Duration = Duration::from_millis(30);
/// How long the disconnect message may take.
const GOODBYE: Duration = Duration::from_millis(15);

/// `1 minute`, `5 minutes`, `90 seconds`.
pub fn in_words(ms: u64) -> String {
    match ms.div_ceil(1000) {
        60 => "1 minute".to_owned(),
        secs if secs % 60 == 0 => format!("{} minutes", secs / 60),
        secs => format!("{secs} seconds"),
    }
}

impl Live {
    /// One line on every terminal.
    pub fn tell(&self, text: &str) {
        for (channel, _) in self.channels().values() {
            if channel.is_terminal() && !channel.stop.fired() {
                channel.down.control(Down::Notice(text.to_owned())).ok();
            }
        }
    }

    /// The last line, a pause for the client to show it, the disconnect. A
    /// forward is somebody's connection: no line of ours goes into it.
    pub async fn say_goodbye(&self, reason: &EndReason, client: &russh::server::Handle) {
        let sentence = reason.sentence();
        let ends: Vec<(Arc<Channel>, ClientEnd)> = self
            .channels()
            .values()
            .filter(|(channel, _)| channel.carries == Carries::Program)
            .filter_map(|(channel, end)| end.clone().map(|end| (channel.clone(), end)))
            .filter(|(_, end)| !end.closed())
            .collect();
        let lines = async {
            for (channel, end) in &ends {
                let terminal = channel.is_terminal();
                let line = match terminal {
                    true => {
                        let screen = channel.screen();
                        // An open sequence is cancelled, the alternate screen left.
                        let cancel = if screen.is_ground() { "" } else { "\x18" };
                        let leave = if screen.is_alternate() {
                            "\x1b[?1049l\x1b[0m\x1b[?25h"
                        } else {
                            "\x1b[0m"
                        };
                        format!("{cancel}{leave}\r\nportcullis: {sentence}\r\n")
                    }
                    false => format!("portcullis: {sentence}\n"),
                };
                if !self.record_notice(channel.number, line.as_bytes(), NoticeHow::Stderr) {
                    // Nothing may reach the client unrecorded; the disconnect
                    // message below carries no payload.
                    continue;
                }
                count(&channel.account.injected, line.len());
                end.stderr(line.into_bytes().into()).await;
            }
        };
        let told = tokio::time::timeout(NOTICE, lines).await.is_ok();
        if told && !ends.is_empty() {
            tokio::time::sleep(NOTICE_PAUSE).await;
        }
        let message = client.disconnect(russh::Disconnect::ByApplication, sentence, String::new());
        tokio::time::timeout(GOODBYE, message).await.ok();
        tokio::time::sleep(GOODBYE).await;
    }

    fn record_notice(&self, channel: u32, bytes: &[u8], how: NoticeHow) -> bool {
        self.recorder
            .event(
                channel,
                Event::Notice {
                    bytes: bytes.into(),
                    how,
                },
            )
            .is_ok()
    }
}
