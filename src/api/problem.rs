//! What the API answers when it does not do what was asked: RFC 9457 problem
//! details with a stable code, and the next thing to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::keeper::KeeperError;
use crate::kernel::access::AnswerRefused;
use crate::store::StoreError;

/// Why not, by what the caller can do about it. The code is part of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request itself is wrong.
    Invalid,
    /// The body is larger than is read.
    TooLarge,
    /// A rule says no.
    Denied,
    /// This peer may not use the API at all.
    PeerRefused,
    /// Nobody proved who asks: no token, or one that has ended.
    Unauthenticated,
    /// The rule that says yes wants a fresh proof first.
    StepUp,
    /// Somebody else has to look back at what was done before.
    ReviewOpen,
    /// What it is about has changed, or ended, in the meantime.
    Conflict,
    /// Too many calls: try again later.
    RateLimited,
    /// Nothing has that name or id.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// A name is taken already.
    Exists,
    /// The prefix of an id fits several.
    Ambiguous,
    /// The store, the keys or the ledger do not answer: try again.
    Unavailable,
    /// The state cannot be trusted, or we are wrong.
    Broken,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Code; 15] = [
        Code::Invalid,
        Code::TooLarge,
        Code::Denied,
        Code::PeerRefused,
        Code::Unauthenticated,
        Code::StepUp,
        Code::ReviewOpen,
        Code::Conflict,
        Code::RateLimited,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::Exists,
        Code::Ambiguous,
        Code::Unavailable,
        Code::Broken,
    ];

    /// As it stands in `code` and at the end of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Invalid => "invalid",
            Code::TooLarge => "too-large",
            Code::Denied => "denied",
            Code::PeerRefused => "peer-refused",
            Code::Unauthenticated => "unauthenticated",
            Code::StepUp => "step-up",
            Code::ReviewOpen => "review-open",
            Code::Conflict => "conflict",
            Code::RateLimited => "rate-limited",
            Code::NotFound => "not-found",
            Code::MethodNotAllowed => "method-not-allowed",
            Code::Exists => "exists",
            Code::Ambiguous => "ambiguous",
            Code::Unavailable => "unavailable",
            Code::Broken => "broken",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Denied | Code::PeerRefused | Code::StepUp | Code::ReviewOpen => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::Exists | Code::Ambiguous | Code::Conflict => StatusCode::CONFLICT,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Code::Invalid => "The request is not valid",
            Code::TooLarge => "The request is too large",
            Code::Denied => "A rule refuses it",
            Code::PeerRefused => "This peer may not use the API",
            Code::Unauthenticated => "Who asks is not known",
            Code::StepUp => "A fresh proof is needed",
            Code::ReviewOpen => "A review is open",
            Code::Conflict => "It has changed in the meantime",
            Code::RateLimited => "Too many calls",
            Code::NotFound => "Not found",
            Code::MethodNotAllowed => "No such method here",
            Code::Exists => "It exists already",
            Code::Ambiguous => "Several match",
            Code::Unavailable => "Not available right now",
            Code::Broken => "The server cannot do that",
        }
    }
}

/// One refusal, as it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:portcullis:problem:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub code: Code,
    /// Cause and object, one sentence.
    pub detail: String,
    /// Ids of the rules that decided, if policy did.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub rules: Box<[String]>,
    /// The next thing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:portcullis:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
            rules: Box::default(),
            hint: None,
        }
    }

    /// The same with the next thing to do.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The request is wrong in itself.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(Code::Invalid, detail)
    }

    /// A rule says no.
    pub fn denied(detail: impl Into<String>) -> Problem {
        Problem::new(Code::Denied, detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let text = error.to_string();
        match error {
            StoreError::Unavailable(_) => Problem::new(Code::Unavailable, text)
                .hint("try again; if it lasts, look for another program that holds store.db"),
            StoreError::Corrupt(_) => Problem::new(Code::Broken, text),
            StoreError::Exists(_) => Problem::new(Code::Exists, text),
            StoreError::NotFound(_) => Problem::new(Code::NotFound, text),
            StoreError::GrantNotLive(_) => Problem::denied(text),
            StoreError::NotOpen(_) => Problem::new(Code::Conflict, text),
            StoreError::Answer(why) => match why {
                AnswerRefused::OwnRequest | AnswerRefused::NotTheHolder => Problem::denied(text),
                AnswerRefused::NotPending
                | AnswerRefused::TooLate
                | AnswerRefused::Again
                | AnswerRefused::NoProofWanted
                | AnswerRefused::OtherRequest
                | AnswerRefused::WindowOver
                | AnswerRefused::TooMany => Problem::new(Code::Conflict, text),
            },
            StoreError::Held(_) => {
                Problem::denied(text).hint("`portcullis recordings release SESSION --reason TEXT` releases it")
            }
        }
    }
}

impl From<KeeperError> for Problem {
    fn from(error: KeeperError) -> Problem {
        let text = error.to_string();
        match error {
            KeeperError::Unavailable { .. } => Problem::new(Code::Unavailable, text),
            KeeperError::Refused { .. } => Problem::invalid(text),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_it_is_written() {
        for code in Code::ALL {
            let problem = Problem::new(code, "x").hint("y");
            let text = serde_json::to_string(&problem).unwrap();
            assert!(text.contains(&format!("\"code\":\"{}\"", code.as_str())), "{text}");
            assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
            assert!((400..600).contains(&problem.status), "{code:?}");
        }
    }
}
