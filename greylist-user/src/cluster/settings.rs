//! What the operator decides about sharing: where the engine is, how it is reached, and for how long a
//! session may wait for it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

/// How several hosts share what they remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Servers of the engine; nothing is shared where there are none.
    pub servers: Vec<Server>,
    /// What kind of engine they are.
    pub mode: Mode,
    /// What Sentinels call the server that may be written to.
    pub sentinel_name: String,
    /// Whether they are spoken to over TLS.
    pub tls: bool,
    /// A file with the certificates of authorities that theirs are signed by; the system's where there is
    /// none.
    pub tls_ca_file: Option<PathBuf>,
    /// Who to log in as; empty for the engine's default user.
    pub user: String,
    /// The password, if it stands in the configuration; empty for none.
    pub password: Secret,
    /// A file whose first line is the password; read anew at each connection.
    pub password_file: Option<PathBuf>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long a session may wait for what others know of a mail that is new here.
    pub budget: Duration,
    /// What this host is called among the others; its host name where it is empty.
    pub node: String,
    /// Whether to begin anew with the seed of the others where this host has another; no key of the file.
    pub discard_local: bool,
    /// Most records that wait to be told; no key of the file. Default 250,000: an hour without an engine at 70
    /// changes a second. When there are more, all is compared once the engine is back.
    pub queue: usize,
}

/// A server of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What kind of engine the servers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One server. Where several are named, the first that answers and may be written to.
    #[default]
    Single,
    /// Sentinels, which know the server that may be written to.
    Sentinel,
    /// Some servers of a cluster.
    Cluster,
}

impl Mode {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// For whoever has to say it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Tells it from another while this process runs, and from nothing at all.
    pub fn mark(&self) -> String {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        if self.is_empty() {
            return String::new();
        }
        let hash = KEY.get_or_init(RandomState::new).hash_one(&self.0);
        format!("hidden {hash:016x}")
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "hidden" })
    }
}

impl Settings {
    /// The same with a name for this host.
    pub(super) fn named(self) -> Self {
        let node = if self.node.is_empty() {
            host_name()
        } else {
            self.node
        };
        Self { node, ..self }
    }

    /// Whether anything is shared.
    pub fn shares(&self) -> bool {
        !self.servers.is_empty()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            mode: Mode::Single,
            sentinel_name: "mymaster".to_owned(),
            tls: false,
            tls_ca_file: None,
            user: String::new(),
            password: Secret::default(),
            password_file: None,
            prefix: "greygate".to_owned(),
            budget: Duration::from_millis(20),
            node: String::new(),
            discard_local: false,
            queue: 250_000,
        }
    }
}

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        if text.contains("://") || text.contains('@') {
            return Err(InvalidServer::Url);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or(InvalidServer::Form)?;
                (host, rest.strip_prefix(':'))
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(PORT), |port| {
            port.parse().map_err(|_| InvalidServer::Form)
        })?;
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "-._:".contains(it);
        if host.is_empty() || !host.chars().all(is_plain) {
            return Err(InvalidServer::Form);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// No server of an engine. It does not say what was written: that may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Something else.
    #[error(
        "no name or address with a port; write one such as \"10.0.0.7:6379\" or \"[2001:db8::7]:6379\""
    )]
    Form,
    /// A URL, perhaps with a password.
    #[error(
        "write the server without a scheme, user or password, such as \"10.0.0.7:6379\"; tls, user and \
         password_file are keys of their own"
    )]
    Url,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What this host is called where nothing else is said.
fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "greygate".to_owned())
}

/// Where Redis listens by default.
const PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_not_shown() {
        let settings = Settings {
            password: Secret::new("swordfish".to_owned()),
            ..Settings::default()
        };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("swordfish"), "{shown}");
        assert!(shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn servers_are_read_and_a_url_is_refused_without_its_password() {
        for (text, shown) in [
            ("10.0.0.7", "10.0.0.7:6379"),
            ("redis.example.org:7000", "redis.example.org:7000"),
            ("2001:db8::7", "[2001:db8::7]:6379"),
            ("[2001:db8::7]:7000", "[2001:db8::7]:7000"),
        ] {
            let server: Server = text.parse().expect("it is a server");
            assert_eq!(server.to_string(), shown);
        }
        for text in ["", ":6379", "a:b", "a:70000", "[::1", "a b"] {
            assert_eq!(text.parse::<Server>(), Err(InvalidServer::Form), "{text}");
        }
        let error = "redis://u:swordfish@h:1"
            .parse::<Server>()
            .expect_err("a URL");
        assert_eq!(error, InvalidServer::Url);
        assert!(!error.to_string().contains("swordfish"));
    }
}
