//! Summaries as one page to read and to print: no script, nothing loaded, and every word of a recording as text.

use std::io::Write;

use crate::failure::{Failure, write_failed};
use crate::html::{escape, hash};
use crate::summary::{Summary, facts, lists};

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem;border-top:1px solid #8886;padding-top:1rem}h3{font-size:1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0}\
th{font-weight:600;white-space:nowrap;width:8rem}td.at{white-space:nowrap;width:1%;opacity:.75}\
td.words{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere;white-space:pre-wrap}\
tr.first td.words{font-weight:700}";

/// Writes a page about one or more sessions. `head` is what is said above them, name and value.
pub fn write(
    title: &str,
    head: &[(String, String)],
    summaries: &[Summary],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let put = |out: &mut dyn Write, text: &str| out.write_all(text.as_bytes()).map_err(write_failed);
    let title = escape(title);
    put(
        out,
        &format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; \
             base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<h1>{title}</h1>\n",
            hash(STYLE)
        ),
    )?;
    put(out, &table(head))?;
    for summary in summaries {
        let name = match &summary.session {
            Some(session) => format!(
                "{} at {}@{}, {}",
                session.identity, session.login, session.target, session.opened
            ),
            None => "A session".to_owned(),
        };
        put(out, &format!("<h2>{}</h2>\n{}", escape(&name), table(&facts(summary))))?;
        for (heading, lines) in lists(summary) {
            put(out, &format!("<h3>{}</h3>\n<table>\n", escape(&heading)))?;
            for [at, channel, words] in lines {
                let class = if words.ends_with("FIRST TIME") {
                    " class=\"first\""
                } else {
                    ""
                };
                let (at, channel, words) = (escape(&at), escape(&channel), escape(&words));
                put(
                    out,
                    &format!(
                        "<tr{class}><td class=\"at\">{at}</td><td class=\"at\">{channel}</td>\
                         <td class=\"words\">{words}</td></tr>\n"
                    ),
                )?;
            }
            put(out, "</table>\n")?;
        }
    }
    put(
        out,
        "<p>Commands are an index, not evidence: the recordings are, and a page proves nothing by itself.</p>\n\
         </body>\n</html>\n",
    )
}

fn table(rows: &[(String, String)]) -> String {
    let rows = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value)));
    let rows: String = rows.collect();
    match rows.is_empty() {
        true => rows,
        false => format!("<table>\n{rows}</table>\n"),
    }
}
