//! The operator's lists, compiled: which entry names an attempt, whatever the number of entries.
//!
//! Networks lie in one table for each prefix length, names and addresses in tables that are walked label
//! by label, so that a look-up costs as many probes as there are lengths and labels, not entries. It
//! allocates nothing: names are lower-cased on the stack.
//!
//! Within a list the longest match decides, and is the one that `why` names. Between kinds the one that
//! is hardest to forge does: the client's network, its verified name, the reverse-path, the recipient,
//! the HELO argument. Knows no files: an entry comes with its [`Source`].

mod entry;
mod names;
mod networks;
mod order;
mod recipients;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

pub(crate) use entry::network;
pub use entry::{AddressPattern, DomainPattern, Entry, InvalidEntry};
use names::{Addresses, Domains};
use networks::Networks;
pub use order::{ListOrder, LiveList, Order, Word};
pub use recipients::{RecipientPolicy, Recipients};

use super::attempt::Attempt;
use super::sentence::SentencedClient;

/// All lists of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Never greylisted, refused or punished: the operator's word, which always wins.
    pub allow: List,
    /// Turned away.
    pub deny: List,
    /// This site's own: backup MXs, proxies, this host. Networks only.
    pub local: List,
    /// Earns no trust by itself, however often it passes.
    pub never_trust: List,
    /// Known not to try again: not greylisted, but punished like anybody.
    pub no_retry: List,
}

/// One list.
#[derive(Clone, Debug, Default)]
pub struct List {
    entries: Vec<Listed>,
    clients: Networks,
    names: Domains,
    from: Addresses,
    to: Addresses,
    helo: Domains,
}

/// An entry, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Whom it names.
    pub entry: Entry,
    /// Where it stands.
    pub source: Source,
}

/// Where an entry comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of the configuration or of a list file.
    File {
        /// The file.
        file: Arc<Path>,
        /// Its line, from 1.
        line: usize,
    },
    /// An address of this host or of its gateway.
    Host,
    /// An order given to the running daemon.
    Live(Arc<Order>),
    /// The list that comes with greygate; why the entry is in it.
    Shipped(Arc<str>),
}

impl List {
    /// The list of these entries. Of two that name the same the first counts.
    pub fn of(entries: impl IntoIterator<Item = Listed>) -> Self {
        let mut list = Self::default();
        for listed in entries {
            list.push(listed);
        }
        list.clients.order();
        list
    }

    fn push(&mut self, listed: Listed) {
        let index = self.entries.len();
        match &listed.entry {
            Entry::Client(network) => self.clients.insert(*network, index),
            Entry::Name(pattern) => self.names.insert(pattern, index),
            Entry::From(pattern) => self.from.insert(pattern, index),
            Entry::To(pattern) => self.to.insert(pattern, index),
            Entry::Helo(pattern) => self.helo.insert(pattern, index),
        }
        self.entries.push(listed);
    }

    /// The list with these entries added.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = Listed>) -> Self {
        let mut more = more.into_iter().peekable();
        if more.peek().is_none() {
            return self.clone();
        }
        Self::of(self.entries.iter().cloned().chain(more))
    }

    /// The entry that names `attempt`.
    pub fn find(&self, attempt: &Attempt<'_>) -> Option<&Listed> {
        if self.entries.is_empty() {
            return None;
        }
        self.find_host(attempt.client, attempt.client_name)
            .or_else(|| self.at(self.from.find(attempt.reverse_path)))
            .or_else(|| self.at(self.to.find(attempt.recipient)))
            .or_else(|| self.at(self.helo.find(attempt.helo)))
    }

    /// The entry that names the client at `address`, or the name that was verified of it; empty if it
    /// has none. Nobody can forge these.
    pub fn find_host(&self, address: IpAddr, name: &[u8]) -> Option<&Listed> {
        if self.entries.is_empty() {
            return None;
        }
        self.at(self.clients.find(address))
            .or_else(|| self.at(self.names.find(name)))
    }

    /// An entry of which a network has addresses in common with `client`.
    pub fn overlapping(&self, client: SentencedClient) -> Option<&Listed> {
        self.overlapping_network(client.network())
    }

    /// An entry of which a network has addresses in common with `network`.
    pub fn overlapping_network(&self, network: IpNet) -> Option<&Listed> {
        self.at(self.clients.overlapping(network))
    }

    /// The networks in it.
    pub fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.entries.iter().filter_map(|it| match &it.entry {
            Entry::Client(network) => Some(network),
            _ => None,
        })
    }

    /// Everything in it, in the order in which it was named.
    pub fn entries(&self) -> &[Listed] {
        &self.entries
    }

    fn at(&self, index: Option<usize>) -> Option<&Listed> {
        self.entries.get(index?)
    }
}

/// What is compiled follows from the entries.
impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for List {}

/// Of networks that stand nowhere: this host's own.
impl FromIterator<IpNet> for List {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self::of(networks.into_iter().map(Listed::of_host))
    }
}

impl Listed {
    /// A network of this host.
    pub fn of_host(network: IpNet) -> Self {
        Self {
            entry: Entry::Client(network),
            source: Source::Host,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Host => f.write_str("this host"),
            Self::Live(order) => write!(f, "ordered by uid {}", order.uid),
            Self::Shipped(reason) => write!(f, "the shipped list: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;
