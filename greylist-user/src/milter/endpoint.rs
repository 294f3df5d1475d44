//! Where the milter listens, as Postfix writes it.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use thiserror::Error;

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port: `inet:127.0.0.1:8892`, `inet:[::1]:8892`.
    Inet(SocketAddr),
    /// A Unix socket: `unix:/run/greygate/milter.sock`. The path is absolute.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether only this host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Inet(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("inet", address)) => address.parse().map(Self::Inet).map_err(|_| {
                let address = address.to_owned();
                EndpointError::Address { address }
            }),
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", path)) => Err(EndpointError::RelativePath {
                path: path.to_owned(),
            }),
            _ => Err(EndpointError::Kind {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "inet:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// No address and port after `inet:`.
    #[error("{address:?} is no address and port such as 127.0.0.1:8892 or [::1]:8892")]
    Address {
        /// What was found.
        address: String,
    },
    /// Neither `inet:` nor `unix:`.
    #[error("{text:?} is neither inet:ADDRESS:PORT nor unix:/PATH")]
    Kind {
        /// What was found.
        text: String,
    },
    /// A path that depends on the working directory.
    #[error("the socket path {path:?} must begin with a slash")]
    RelativePath {
        /// What was found.
        path: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_postfix_form() {
        for text in ["inet:127.0.0.1:8892", "inet:[::1]:0", "unix:/run/a/b.sock"] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!(endpoint.to_string(), text);
            assert!(endpoint.is_local());
        }
        let open: Endpoint = "inet:0.0.0.0:8892".parse().expect("an endpoint");
        assert!(!open.is_local());
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, complaint) in [
            ("inet:localhost:8892", "no address and port"),
            ("inet:127.0.0.1", "no address and port"),
            ("unix:run/x", "begin with a slash"),
            ("127.0.0.1:8892", "neither"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
