//! Who tries: as many senders as there are to be tuples, in networks of some hundred each.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use greygate::policy::{Attempt, Evidence, Origin, ServerMark, Spf, Timestamp};

/// When everybody tried first.
pub(crate) const BEGINNING: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The attempts, made one at a time in a text that is used again.
#[derive(Debug, Default)]
pub(crate) struct People {
    sender: String,
}

impl People {
    /// The attempt of sender `number`.
    pub(crate) fn attempt(&mut self, number: u32) -> Attempt<'_> {
        self.sender.clear();
        // A text always takes more.
        let _ = write!(self.sender, "s{number}@sender.example");
        let network = number % NETWORKS;
        let host = number / NETWORKS % 250;
        Attempt {
            client: IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + network * 256 + host)),
            client_name: b"mail.sender.example",
            helo: b"mail.sender.example",
            reverse_path: self.sender.as_bytes(),
            recipient: b"r@here.example",
            announced_size: 5_000,
            connected: BEGINNING,
            server: ServerMark::numbered(1),
            authenticated: false,
            origin: Origin::ThisHost,
            evidence: Evidence {
                blocklist: None,
                score: None,
                spf: Spf::Unknown,
            },
        }
    }
}

/// Client networks, a `/24` each.
const NETWORKS: u32 = 50_000;
