//! Lines that were typed and never reached the target: policy kept them back.

use super::estimate::fold;
use super::reader::Reader;

impl Reader {
    /// The Enter of the line with this text was kept back: it is no command.
    pub fn refused(&mut self, text: &str) {
        let own = |typed: Option<String>| typed.is_some_and(|typed| fold(&typed) == fold(text));
        let at = self.sent.iter().position(|sent| own(sent.typed.text()));
        // What was edited is known by its place alone: nothing is read behind a line that waits for its answer.
        match at.or(self.sent.len().checked_sub(1)) {
            Some(at) => drop(self.sent.remove(at)),
            None => self.typing = None,
        }
    }

    /// Keys behind such a line were kept back: an answer to us.
    pub fn kept_back(&mut self) {
        self.typing = None;
        if self
            .sent
            .back()
            .is_some_and(|sent| sent.prompt.is_none() && sent.typed.hidden() > 0)
        {
            self.sent.pop_back();
        }
    }
}
