//! Where a witness is reached: `http://HOST[:PORT][/PREFIX]` or `unix:/PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use super::wire;

/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 1024;

/// A witness's submission prefix (c2sp.org/tlog-witness).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    Http {
        /// Name or address.
        host: String,
        port: u16,
        /// Of the request's path; without a slash at its end.
        prefix: String,
    },
    Unix(PathBuf),
}

impl Address {
    /// What the request's `Host` header says.
    pub fn host(&self) -> String {
        match self {
            Address::Http { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(_) => "witness".to_owned(),
        }
    }

    /// The path of the request.
    pub fn path(&self) -> String {
        match self {
            Address::Http { prefix, .. } => format!("{prefix}{}", wire::PATH),
            Address::Unix(_) => wire::PATH.to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Http { host, port, prefix } => write!(f, "http://{host}:{port}{prefix}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(format!("an address is at most {ADDRESS_BYTES_MAX} bytes long"));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Address::Unix(path)),
                false => Err(format!("`{text}` does not name a socket from the root: unix:/PATH")),
            };
        }
        let bad = || format!("`{text}` is not http://HOST:PORT or unix:/PATH");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let authority = uri
            .authority()
            .filter(|it| !it.as_str().contains('@'))
            .ok_or_else(bad)?;
        if uri.scheme_str() == Some("https") {
            return Err(format!(
                "`{text}`: only http is spoken here. Checkpoints and cosignatures are signed and public; put a tunnel in between if the way is not to be seen"
            ));
        }
        if uri.scheme_str() != Some("http") || uri.query().is_some() || authority.host().is_empty() {
            return Err(bad());
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => 80,
            Some(port) => port.trim_start_matches(':').parse().map_err(|_| bad())?,
            None => return Err(bad()),
        };
        Ok(Address::Http {
            host: host.to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written, path) in [
            ("http://w.example", "http://w.example:80", "/add-checkpoint"),
            ("http://w.example:8080/", "http://w.example:8080", "/add-checkpoint"),
            ("http://[::1]:81/a/b/", "http://[::1]:81/a/b", "/a/b/add-checkpoint"),
            ("unix:/run/w.sock", "unix:/run/w.sock", "/add-checkpoint"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.path().as_str()), (written, path));
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
        for bad in [
            "",
            "w.example:80",
            "http://",
            "http://a@w.example",
            "http://w.example/?x",
            "ftp://w.example",
            "unix:w.sock",
            "http://w.example:99999",
            "http://w.example:",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert!(
            "https://w.example"
                .parse::<Address>()
                .unwrap_err()
                .contains("only http")
        );
    }
}
