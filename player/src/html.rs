//! A recording as one page that plays in a browser, by itself and without a network.
//!
//! The page holds pictures, not escape sequences, and puts them up as text. Its policy lets nothing run, load or style it
//! but the script and style it came with, by their hashes.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure, write_failed};
use crate::frames::Frames;
use crate::plain;

const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// What the page says about the recording.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// Who was where.
    pub title: String,
    /// The verdict in words: a page proves nothing by itself.
    pub verdict: String,
    /// What `verify` says, line by line.
    pub lines: Vec<String>,
    /// When the first picture was, ms since 1970.
    pub opened: u64,
    /// Ms from the start of the session to the first picture.
    pub from: u64,
}

#[derive(Serialize)]
struct Data<'d> {
    about: &'d About,
    #[serde(flatten)]
    frames: &'d Frames,
}

/// Writes the page.
pub fn write(about: &About, frames: &Frames, out: &mut dyn Write) -> Result<(), Failure> {
    let data = serde_json::to_string(&Data { about, frames })
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot write JSON: {e}")))?;
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <noscript>{title}: {verdict}. This page needs its script to play.</noscript>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        title = escape(&about.title),
        verdict = escape(&about.verdict),
        data = inert(&data),
    )
    .map_err(write_failed)
}

pub(crate) fn hash(text: &str) -> String {
    BASE64.encode(Sha256::digest(text.as_bytes()))
}

/// Text between tags or in an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain::line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON in which nothing ends the element it stands in, or begins another.
fn inert(json: &str) -> String {
    plain::json(json)
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_element() {
        let json = serde_json::to_string("</script><!--<script>&\u{1b}\u{2028}").unwrap();
        let text = inert(&json);
        assert!(!text.contains(['<', '>', '&', '\u{1b}', '\u{2028}']), "{text}");
        assert_eq!(
            serde_json::from_str::<String>(&text).unwrap(),
            "</script><!--<script>&\u{1b}\u{2028}"
        );
        assert_eq!(escape("<b a='\"'>&\u{7}"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{FFFD}");
    }

    /// They stand in elements of their own names.
    #[test]
    fn script_and_style_do_not_end_themselves() {
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(!STYLE.contains('<'));
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval",
            "http",
            "fetch",
            "import",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        assert!(!STYLE.contains("url("));
    }
}
