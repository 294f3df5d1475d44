//! What an operator may set of the milter, with every default and its reason.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use crate::log::{Addresses, Verdicts};

use super::{
    endpoint::Endpoint,
    refusal::RefusalText,
    reply::{HeaderName, ReplyText},
};

/// The milter's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen. Default `inet:127.0.0.1:8892`.
    pub listen: Vec<Endpoint>,
    /// Networks that MTAs may connect from over TCP. Default loopback.
    pub peers: Vec<IpNet>,
    /// Users that may connect over a Unix socket, beside root and our own; its file is given to
    /// the group of the first one. Default `postfix`.
    pub users: Vec<String>,
    /// Worker threads; 0, the default, means one for every two cores.
    pub workers: usize,
    /// Open connections in all; one is one SMTP session of an MTA. Default 10,000: at about 4 KiB
    /// each far below any server's memory.
    pub connections: u32,
    /// Open connections of one MTA host, or one user of a Unix socket. Default 5,000, so that one
    /// of two hosts cannot take all.
    pub connections_per_peer: u32,
    /// How long a frame that has begun, the first frame, and a write may take. Default 5 s: MTAs
    /// write frames whole.
    pub frame_timeout: Duration,
    /// How long silence between frames may last. Default 2 h 10 min, longer than libmilter's
    /// 7,210 s: while a slow client sends its message, the MTA is legally silent.
    pub idle_timeout: Duration,
    /// How long open SMTP sessions may go on after a stop was asked for. Default 10 s.
    pub drain: Duration,
    /// The SMTP reply that defers. Default `451 4.7.1 Greylisted, please try again later`.
    pub reply: ReplyText,
    /// What a sentenced client is told behind `421 4.7.0` before the MTA hangs up; `{contact}`
    /// stands for [`Punish::contact`](crate::policy::Punish::contact). Default `Your host is limited
    /// for a while for how it behaved here; contact {contact} if this is wrong`.
    pub reply_sentenced: RefusalText,
    /// What is said behind `550 5.7.1` or `451 4.7.1` to whom the deny list names. Default `Mail from
    /// your host or sender is not taken here; contact {contact} if this is wrong`.
    pub reply_denied: RefusalText,
    /// What a client of bad reputation is told behind `550 5.7.1` or `451 4.7.1`. Default `The
    /// network of your host has a bad reputation here; contact {contact} if this is wrong`.
    pub reply_refused: RefusalText,
    /// The header that tells how long a message was delayed, and by what it passed; `None` adds none.
    /// Default `X-Greylist`.
    pub header: Option<HeaderName>,
    /// Which mail gets the header. Default what was delayed.
    pub header_on: HeaderOn,
    /// The host that the header names. Default this host's name.
    pub host: String,
    /// How much of a mail address is written to the log. Default all.
    pub addresses: Addresses,
    /// Which verdicts are a line at info. Default all.
    pub verdicts: Verdicts,
}

impl Settings {
    /// Finds what cannot be: a listener that strangers could reach without a word on who may.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.listen.is_empty() {
            return Err(SettingsError::NoListener);
        }
        let open = self.listen.iter().find(|endpoint| !endpoint.is_local());
        match open {
            Some(endpoint) if !self.names_other_hosts() => Err(SettingsError::NoPeers {
                endpoint: endpoint.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn names_other_hosts(&self) -> bool {
        let is_loopback = |peer: &IpNet| loopback().iter().any(|net| net.contains(peer));
        !self.peers.iter().all(is_loopback)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Endpoint::Inet(([127, 0, 0, 1], 8892).into())],
            peers: loopback().into(),
            users: vec!["postfix".to_owned()],
            workers: 0,
            connections: 10_000,
            connections_per_peer: 5_000,
            frame_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(130),
            drain: Duration::from_secs(10),
            reply: ReplyText::default(),
            reply_sentenced: RefusalText::for_sentenced(),
            reply_denied: RefusalText::for_denied(),
            reply_refused: RefusalText::for_bad_reputation(),
            header: Some(HeaderName::default()),
            header_on: HeaderOn::default(),
            host: host_name(),
            addresses: Addresses::default(),
            verdicts: Verdicts::default(),
        }
    }
}

/// Which mail the header is added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderOn {
    /// What was delayed before it passed.
    #[default]
    Delayed,
    /// All that passed greylisting, whether it waited or not; exempt mail gets none. A header can be
    /// added at the end of a message only, so that none is accepted at DATA: known mail, most of all
    /// mail, costs the MTA one more round trip and the whole message over the milter's connection.
    Passed,
}

impl HeaderOn {
    /// The word for it in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Passed => "passed",
        }
    }
}

/// Settings that the milter will not start with.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Nowhere to listen.
    #[error("no listener is configured; name at least one, such as inet:127.0.0.1:8892")]
    NoListener,
    /// A listener that others can reach, and nobody named who may use it.
    #[error(
        "{endpoint} can be reached from other hosts; name the networks of your MTAs in `peers`, or listen on 127.0.0.1"
    )]
    NoPeers {
        /// The listener.
        endpoint: Endpoint,
    },
}

/// This host, from itself.
fn loopback() -> [IpNet; 2] {
    let v4 = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 is a legal prefix length");
    [v4.into(), Ipv6Net::from(Ipv6Addr::LOCALHOST).into()]
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_listener_needs_peers() {
        let mut settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        settings.listen = vec!["inet:192.0.2.1:8892".parse().expect("an endpoint")];
        let error = settings.check().expect_err("strangers could connect");
        assert!(
            error
                .to_string()
                .starts_with("inet:192.0.2.1:8892 can be reached")
        );
        settings.peers = vec!["192.0.2.0/24".parse().expect("a network")];
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn nowhere_to_listen_is_refused() {
        let settings = Settings {
            listen: Vec::new(),
            ..Settings::default()
        };
        assert_eq!(settings.check(), Err(SettingsError::NoListener));
    }
}
