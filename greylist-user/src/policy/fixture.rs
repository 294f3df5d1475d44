//! What the tests of many files begin with.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Attempt, Evidence, History, List, Lists, Origin, ServerMark, Spf, Timestamp};

/// When stories begin.
pub(crate) const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// An ordinary first try.
pub(crate) const ATTEMPT: Attempt<'static> = Attempt {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    client_name: b"mail.sender.example",
    helo: b"mail.sender.example",
    reverse_path: b"s@sender.example",
    recipient: b"r@here.example",
    announced_size: 5_000,
    connected: Timestamp::NEVER,
    server: ServerMark::UNKNOWN,
    authenticated: false,
    origin: Origin::ThisHost,
    evidence: Evidence {
        blocklist: None,
        score: None,
        spf: Spf::Unknown,
    },
};

/// One that announces no size.
pub(crate) const UNSIZED: Attempt<'static> = Attempt {
    announced_size: 0,
    ..ATTEMPT
};

/// Long enough for everything.
pub(crate) const OLD: History = History {
    begun: Timestamp::NEVER,
};

/// Lists that allow these networks, and name nobody else.
pub(crate) fn allowing<const N: usize>(networks: [&str; N]) -> Arc<Lists> {
    Arc::new(Lists {
        allow: networks_of(networks),
        ..Lists::default()
    })
}

/// Lists that call these networks local, and name nobody else.
pub(crate) fn local<const N: usize>(networks: [&str; N]) -> Arc<Lists> {
    Arc::new(Lists {
        local: networks_of(networks),
        ..Lists::default()
    })
}

/// A list of these networks.
pub(crate) fn networks_of<const N: usize>(networks: [&str; N]) -> List {
    let networks = networks
        .into_iter()
        .map(|it| it.parse().expect("a network"));
    networks.collect()
}
