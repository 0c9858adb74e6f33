//! One line of terminal input, and how much of it was shown.

use unicode_width::UnicodeWidthChar;
use zeroize::{Zeroize, Zeroizing};

use super::Verdict;
use super::keys::Other;
use super::screen::{Place, Screen, Standing};
use crate::kernel::work::Work;

/// Letters that must stand before new ones.
const CONTEXT: usize = 16;
/// Of a line that begins at a known place: once so many letters were shown in
/// one piece, an editor may rewrite what stands before the next.
const TRUSTED_FROM: usize = 4;
/// Letters that may come to be shown in one go.
const AHEAD_MAX: usize = 512;
/// The same, where a search shows them.
const SEARCHED_MAX: usize = 32;
/// Insertions that are looked for at once.
const INSERTED_MAX: usize = 4;
/// Letters that a line has room for at first.
const FIRST_CAPACITY: usize = 64;

/// Where a line begins on the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// An answer was under way, or no prompt stood there: here, or behind what comes.
    Perhaps(Place),
    At(Place),
}

/// The letters behind a key that moves, completes or searches.
#[derive(Debug)]
struct Break {
    at: usize,
    key: Other,
}

/// One line that is not decided.
#[derive(Debug)]
pub struct Line {
    pub number: u64,
    pub bytes: usize,
    /// When its Enter was typed, in session ms.
    pub closed_at: Option<u64>,
    /// What was typed is not known to be shown, whatever comes: bytes were
    /// swallowed or erased that may have been a secret, or looking took too long.
    pub lost: bool,
    /// ^C ended it, and may be shown as that.
    pub interrupted: bool,
    letters: Zeroizing<Vec<char>>,
    breaks: Vec<Break>,
    start: Option<Start>,
    /// Feeds of the screen when it began, and what stood before it.
    began: Option<(u64, Standing)>,
    /// Letters that were shown, from the first on.
    shown: usize,
    /// The most that ever were.
    most: usize,
    /// Letters that were erased before they were shown.
    unseen: usize,
    /// Where the cursor stood, and behind what, when a letter was shown last; before, when the first one was typed.
    rested: Option<Standing>,
    /// A letter that was typed when all before it had been shown, and where the cursor stood then.
    next: Option<(usize, Place)>,
    /// It was shown whole after its end, from this many letters on, and output may still go on behind it.
    loose: Option<usize>,
}

impl Line {
    /// An empty one.
    pub fn new(number: u64) -> Line {
        Line {
            number,
            bytes: 0,
            closed_at: None,
            lost: false,
            interrupted: false,
            letters: Zeroizing::new(Vec::new()),
            breaks: Vec::new(),
            start: None,
            began: None,
            shown: 0,
            most: 0,
            unseen: 0,
            rested: None,
            next: None,
            loose: None,
        }
    }

    /// One more letter, which would be shown at `start` if it is the first, or
    /// those before it were; feeds of the screen, and what stands before it now.
    pub fn letter(&mut self, letter: char, start: Start, (feeds, before): (u64, Standing)) {
        if letter.width() == Some(0) {
            // It is shown with the letter before it, and nowhere without one.
            self.lost |= self.letters.is_empty();
            return;
        }
        self.rested.get_or_insert(before);
        if self.all_shown() {
            self.next = Some((self.letters.len(), before.place));
        }
        // Erased before it was shown and typed anew, it begins where it did, if nothing was shown since, and no key
        // was typed that may have led elsewhere.
        let anew = self.letters.is_empty() && (self.unseen > 0 || !self.breaks.is_empty());
        let here = self.unseen > 0
            && self.start == Some(Start::At(before.place))
            && self.began == Some((feeds, before))
            && self.breaks.iter().all(|found| found.key == Other::Kills);
        if self.start.is_none() || (anew && !here) {
            self.lost |= self.unseen > 0;
            self.start = Some(start);
            self.began = Some((feeds, before));
        }
        // Grows by hand: a plain `Vec` would leave copies behind that nobody wipes.
        if self.letters.len() == self.letters.capacity() {
            let capacity = (self.letters.capacity() * 2).max(FIRST_CAPACITY);
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&self.letters);
            self.letters = larger;
        }
        self.letters.push(letter);
    }

    /// Erases the last letter; behind another key it is not known which.
    pub fn erase(&mut self, cursor: Standing) {
        if self.breaks.last().is_some_and(|last| last.at == self.letters.len()) {
            return;
        }
        match self.letters.pop() {
            Some(mut letter) => letter.zeroize(),
            None => return self.breaks(Other::Moves, cursor),
        }
        if self.shown > self.letters.len() {
            self.shown = self.letters.len();
        } else {
            self.unseen += 1;
            self.forgets(cursor);
        }
    }

    /// Letters were erased unseen. Of those before them that still stand, the
    /// echo will tell; where none do, or where something else was shown since,
    /// they may have been a secret.
    fn forgets(&mut self, cursor: Standing) {
        let from = self.breaks.last().map_or(0, |last| last.at);
        let begins_here = from == 0 && self.start == Some(Start::At(cursor.place));
        let alone = self.letters.len() == from && !begins_here;
        self.lost |= alone || self.rested != Some(cursor);
    }

    /// What follows may stand elsewhere.
    pub fn breaks(&mut self, key: Other, cursor: Standing) {
        if key == Other::Kills {
            // What was not shown by now need not be any more.
            let kept = self.breaks.last().map_or(0, |last| last.at).max(self.shown);
            while self.letters.len() > kept
                && let Some(mut letter) = self.letters.pop()
            {
                letter.zeroize();
                self.unseen += 1;
                self.forgets(cursor);
            }
        }
        let at = self.letters.len();
        match self.breaks.last_mut().filter(|last| last.at == at) {
            Some(last) => last.key = last.key.max(key),
            None => self.breaks.push(Break { at, key }),
        }
    }

    /// Whether letters of it were moved in.
    pub fn is_edited(&self) -> bool {
        !self.letters.is_empty() && !self.breaks.is_empty()
    }

    /// Whether nothing is left of it to erase.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether output can still change what becomes of it.
    pub fn waits(&self) -> bool {
        !self.all_shown() || self.is_loose() || (self.closed_at.is_some() && !self.is_whole())
    }

    /// Whether every letter was shown.
    pub fn all_shown(&self) -> bool {
        self.shown == self.letters.len()
    }

    /// Whether nothing was typed of it yet.
    pub fn is_untouched(&self) -> bool {
        self.letters.is_empty() && self.breaks.is_empty() && self.unseen == 0
    }

    /// Whether letters of it were shown.
    pub fn was_shown(&self) -> bool {
        self.most > 0
    }

    /// Whether it has letters, and none was ever shown.
    pub fn shows_nothing(&self) -> bool {
        !self.letters.is_empty() && self.most == 0
    }

    /// Whether nothing of it is hidden. What was erased unseen counts as shown
    /// only behind letters that were, and beside as many of them.
    pub fn is_whole(&self) -> bool {
        self.all_shown() && !self.lost && self.unseen <= self.most
    }

    /// Whether output may still go on behind it and prove that it was no echo.
    pub fn is_loose(&self) -> bool {
        self.loose.is_some()
    }

    /// Whether its echo was to be seen at once, in one place.
    pub fn begins_at_known_place(&self) -> bool {
        matches!(self.start, Some(Start::At(_)))
    }

    /// What becomes of it if it is decided now.
    pub fn verdict(&self) -> Verdict {
        let line = self.number;
        match self.is_whole() && !self.is_loose() {
            true => Verdict::Echoed { line },
            false => Verdict::Hidden { line },
        }
    }

    /// Output went on where it had seemed to end: that was no echo.
    pub fn goes_on(&mut self) {
        if let Some(before) = self.loose.take() {
            self.shown = before;
        }
    }

    /// Output went elsewhere.
    pub fn confirm(&mut self) {
        self.loose = None;
    }

    /// Looks whether more of it stands left of the cursor. Where that takes
    /// more work than is left, it is lost.
    pub fn look(&mut self, screen: &Screen, rests: bool, work: &mut Work) {
        if work.is_spent() {
            self.lost = true;
            return;
        }
        let before = self.shown;
        let part = self.part();
        let (from, to, key) = (part.from, part.to, part.behind);
        // Behind a key that moves, only what was shown there counts.
        let trusted = self.begins_at_known_place() && self.shown.saturating_sub(from) >= TRUSTED_FROM;
        let near = self.shown.saturating_sub(CONTEXT).max(from);
        let goes_on = self.shown > 0 || from > 0;
        let longest = to.min(self.shown.saturating_add(AHEAD_MAX));
        let since = |begin: usize, end: usize| self.letters.get(begin..end).unwrap_or_default();
        let behind = |context: usize, work: &mut Work| {
            (self.shown + 1..=longest).rev().find(|end| {
                let found = screen.behind(since(context, *end), self.interrupted, work);
                found.is_some_and(|begin| {
                    goes_on
                        || match self.start {
                            Some(Start::At(place)) => begin.place == place,
                            Some(Start::Perhaps(place)) => {
                                key >= Some(Other::Brings) || begin.apart || begin.place == place
                            }
                            None => false,
                        }
                })
            })
        };
        let mut found = behind(near, work);
        // Something else may stand before them by now: they begin where the cursor stood then.
        if found.is_none()
            && trusted
            && let Some((_, place)) = self.next.filter(|(at, _)| *at == self.shown)
        {
            found = (self.shown + 1..=longest).rev().find(|end| {
                let found = screen.behind(since(self.shown, *end), self.interrupted, work);
                found.is_some_and(|begin| begin.place == place)
            });
        }
        // A blank or a sign may have an editor write something else before it; nothing is said by one of those.
        let sign = self
            .letters
            .get(self.shown)
            .is_some_and(|letter| !letter.is_alphanumeric());
        if found.is_none() && trusted && rests && sign && longest > self.shown && self.is_at_its_row(screen) {
            let end = self.shown + 1;
            found = screen
                .behind(since(self.shown, end), self.interrupted, work)
                .map(|_| end);
        }
        // What a key has completed stands behind them in the same piece of output.
        if found.is_none() && trusted && part.ends_with >= Some(Other::Brings) {
            found = (to > self.shown && screen.holds_here(since(near, to), work)).then_some(to);
        }
        // In one piece with what was shown before: letters by themselves stand everywhere.
        // Once they are known for shown, a key that follows may have taken the cursor away again.
        if found.is_none() && rests && (key == Some(Other::Searches) || (trusted && key.is_some())) {
            let ends = self.shown + 1..=longest.min(self.shown.saturating_add(SEARCHED_MAX));
            found = ends.rev().find(|end| screen.holds(since(near, *end), work));
        }
        let found = found.or_else(|| self.inserted(screen, work));
        self.lost |= work.is_spent();
        if let Some(end) = found {
            self.shown = end;
            self.most = self.most.max(end);
            self.rested = screen.stands();
            self.next = self.rested.map(|here| (end, here.place));
            let brings = |last: &Break| before > 0 && last.at == end && last.key >= Other::Brings;
            let goes_on = self.interrupted || self.breaks.last().is_some_and(brings);
            if self.closed_at.is_some() && self.all_shown() && !goes_on {
                self.loose = Some(before);
            }
        }
    }

    /// Where all of it stands between its beginning and the cursor, with the
    /// letters of this part, in one piece, somewhere among those before them:
    /// an editor that shows an insertion late has the cursor elsewhere by then.
    fn inserted(&self, screen: &Screen, work: &mut Work) -> Option<usize> {
        let Some(Start::At(place)) = self.start else {
            return None;
        };
        let mut to = self.letters.len();
        for found in self.breaks.iter().rev().take(INSERTED_MAX) {
            if found.at == 0 || !work.spend(1) {
                return None;
            }
            let shown = self.inserted_there(place, (found.at, to), screen, work);
            if shown.is_some() {
                return shown;
            }
            to = found.at;
        }
        None
    }

    /// The same for one part.
    fn inserted_there(
        &self,
        place: Place,
        (from, to): (usize, usize),
        screen: &Screen,
        work: &mut Work,
    ) -> Option<usize> {
        if from >= to || self.shown >= to {
            return None;
        }
        let (before, part) = (self.letters.get(..from)?, self.letters.get(from..to)?);
        let stands = screen.since(place, to, work)?;
        let at = before
            .iter()
            .zip(&stands)
            .take_while(|(typed, shown)| typed == shown)
            .count();
        // From the right as well: among equal letters there is more than one place.
        let kept = before
            .iter()
            .rev()
            .zip(stands.iter().rev())
            .take_while(|(typed, shown)| typed == shown);
        let earliest = from.saturating_sub(kept.count());
        (earliest..=at)
            .any(|at| work.spend(part.len()) && stands.get(at..at.saturating_add(part.len())) == Some(part))
            .then_some(to)
    }

    /// Whether the cursor is where it began, or in a row that goes on with that.
    fn is_at_its_row(&self, screen: &Screen) -> bool {
        matches!(self.start, Some(Start::At(place)) if screen.is_in_row_of(place))
    }

    /// The letters that stand together with the next that is waited for.
    fn part(&self) -> Part {
        let next = self.breaks.partition_point(|found| found.at <= self.shown);
        let last = next.checked_sub(1).and_then(|last| self.breaks.get(last));
        let next = self.breaks.get(next);
        Part {
            from: last.map_or(0, |last| last.at),
            to: next.map_or(usize::MAX, |next| next.at).min(self.letters.len()),
            behind: last.map(|last| last.key),
            ends_with: next.map(|next| next.key),
        }
    }
}

/// Letters of a line: from where, to where, behind which key and before which.
struct Part {
    from: usize,
    to: usize,
    behind: Option<Other>,
    ends_with: Option<Other>,
}
