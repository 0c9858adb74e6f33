//! The word that was probably meant.

/// Most edits between a word and its suggestion.
const EDITS_MAX: usize = 3;

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .map(|candidate| (edits(&word, &candidate.replace('-', "_")), candidate))
        .filter(|(edits, candidate)| *edits <= EDITS_MAX && edits.saturating_mul(2) <= candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, c) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut left = at.saturating_add(1);
        let mut next = vec![left];
        for (above, d) in row.iter().skip(1).zip(&other) {
            let kept = diagonal.saturating_add(usize::from(c != *d));
            let step = left.min(*above).saturating_add(1);
            left = kept.min(step);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let cases = [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("drain", "drian", 2),
            ("same", "same", 0),
        ];
        for (one, other, want) in cases {
            assert_eq!(edits(one, other), want, "{one} {other}");
            assert_eq!(edits(other, one), want, "{other} {one}");
        }
    }

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["listen", "login_grace_secs", "kex"];
        let cases = [
            ("listn", Some("listen")),
            ("Listen", Some("listen")),
            ("login-grace-secs", Some("login_grace_secs")),
            ("login_grace", None),
            ("ke", Some("kex")),
            ("port", None),
            ("", None),
        ];
        for (word, want) in cases {
            assert_eq!(nearest(word, known.into_iter()), want, "{word}");
        }
    }
}
