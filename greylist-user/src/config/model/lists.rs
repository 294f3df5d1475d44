//! The keys of `[lists]`.

use std::path::PathBuf;

use ipnet::IpNet;

use super::Visitor;
use crate::policy::{Entry, Refusing};

/// What `[lists]` says, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSettings {
    /// Never greylisted, refused or punished.
    pub(in crate::config) allow: Each<Entry>,
    /// Files of such entries.
    pub(in crate::config) allow_files: Each<PathBuf>,
    /// Turned away.
    pub(in crate::config) deny: Each<Entry>,
    /// Files of such entries.
    pub(in crate::config) deny_files: Each<PathBuf>,
    /// This site's own.
    pub(in crate::config) local: Each<IpNet>,
    /// Earns no trust.
    pub(in crate::config) never_trust: Each<Entry>,
    /// Files of such entries.
    pub(in crate::config) never_trust_files: Each<PathBuf>,
    /// Whether the shipped list of senders that do not retry counts.
    pub(in crate::config) no_retry: NoRetry,
    /// Files of such entries.
    pub(in crate::config) no_retry_files: Each<PathBuf>,
    /// Most entries that `greygate allow` and `greygate deny` may add to one list. Default 1,000: more
    /// belong in a file, which is read by a reload.
    pub live: usize,
}

/// Values of a list, each with its place in the file, and what is wrong with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Each<T> {
    pub(in crate::config) items: Vec<(usize, T)>,
    pub(in crate::config) faults: Vec<(usize, String)>,
}

/// Whether the shipped list of senders that do not retry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::config) enum NoRetry {
    /// It does.
    #[default]
    Shipped,
    /// It does not.
    Off,
}

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl Default for ListSettings {
    fn default() -> Self {
        Self {
            allow: Each::default(),
            allow_files: Each::default(),
            deny: Each::default(),
            deny_files: Each::default(),
            local: Each::default(),
            never_trust: Each::default(),
            never_trust_files: Each::default(),
            no_retry: NoRetry::default(),
            no_retry_files: Each::default(),
            live: 1_000,
        }
    }
}

pub(super) fn visit(lists: &mut ListSettings, deny: &mut Refusing, v: &mut impl Visitor) {
    v.section(
        "lists",
        "Whom the operator names. An entry is an address or a network (192.0.2.7, 192.0.2.0/24, \
         2001:db8::/32), a verified reverse name (mail.example.org, or .example.org for it and all below), \
         or \"from a@example.org\", \"from @example.org\", \"from .example.org\", \"to\" likewise, \
         \"helo mail.example.org\", \"helo .example.org\". Files have one entry a line and comments after \
         a \"#\"; they are read again by a reload. The longest match of a list counts.",
    );
    v.key(
        "allow",
        &mut lists.allow,
        "Never greylisted and never refused, whatever else holds. Who is named by network or reverse name \
         is never punished either, and in the kernel the networks of this and of local win over every \
         sentence, whoever gave it. A sender, recipient or HELO argument protects nobody from a sentence: \
         strangers may say what they like.",
    );
    v.key(
        "allow_files",
        &mut lists.allow_files,
        "Files of such entries.",
    );
    v.key(
        "deny",
        &mut lists.deny,
        "Refused, unless it is allowed, local or authenticated.",
    );
    v.key(
        "deny_files",
        &mut lists.deny_files,
        "Files of such entries.",
    );
    v.key(
        "deny_action",
        deny,
        "What becomes of it: \"reject\" answers 550 5.7.1, \"defer\" 451 4.7.1, \"observe\" only counts.",
    );
    v.key(
        "local",
        &mut lists.local,
        "This site's own, networks only: backup MXs, proxies. Loopback, this host's addresses and its \
         gateways always are.",
    );
    v.key(
        "never_trust",
        &mut lists.never_trust,
        "Never trusted for what has passed, neither by its envelope nor by its content: each new tuple \
         waits. Networks whose customers change, and forwarders.",
    );
    v.key(
        "never_trust_files",
        &mut lists.never_trust_files,
        "Files of such entries.",
    );
    v.key(
        "no_retry",
        &mut lists.no_retry,
        "\"shipped\" spares the few senders the wait that are known not to try again, or to come from \
         another address each time; greygate comes with the list. \"off\" spares none. They are punished \
         like anybody.",
    );
    v.key(
        "no_retry_files",
        &mut lists.no_retry_files,
        "Files of further senders that are spared the wait, and nothing else.",
    );
    v.bounded(
        "live",
        &mut lists.live,
        0..=100_000,
        "Entries that `greygate allow` and `greygate deny` may add to each list at most. More belong in a \
         file.",
    );
}
