//! Selective greylisting: whether an attempt looks suspicious, and what others say of its client.
//!
//! Two kinds of grounds. Local signs stand in the attempt itself: no reverse name, one that looks like
//! an access line's, a HELO argument that is no name. [`Evidence`] is what was found elsewhere, in the
//! DNS. Knows what to ask ([`wanted`]) and what follows ([`excused`]); leaves asking to a [`Witness`],
//! which may be dead, slow or lying: what was not found counts for nothing, on either side.
//!
//! The rung stands after trust and before the tuple: it shields from no sentence and from no bad
//! reputation, and whoever it lets through earns nothing by it and leaves no record. Tomorrow's mail
//! is asked about anew, out of a cache, and so a list that changes its mind is heard.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::attempt::Attempt;
use super::dynamic::is_access_line;
use super::fold;
use super::hopping::is_qualified;
use super::registered::without_final_dot;
use super::rules::Policy;
use super::verdict::PassReason;

/// What was found elsewhere about the client of an attempt. The default is that nothing was asked,
/// or nothing was answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The first blocklist that has the client, by its place in the configuration.
    pub blocklist: Option<u8>,
    /// The best score of the client in the allowlists, 0 (none) to 3 (high).
    pub score: Option<u8>,
    /// What SPF says of the client and the sender's domain.
    pub spf: Spf,
}

/// What SPF (RFC 7208) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spf {
    /// It was not asked, or there was no answer.
    #[default]
    Unknown,
    /// The domain calls the client its own, and does not call everybody so.
    Pass,
    /// Anything else.
    NoPass,
}

/// Who is greylisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Everyone who is not known.
    #[default]
    Everyone,
    /// Those of them who look suspicious.
    Suspicious,
}

impl Who {
    /// The word for it in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Suspicious => "suspicious",
        }
    }
}

/// What a tuple and trust are remembered by, beside the mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// The client network.
    #[default]
    Network,
    /// The sender's domain where SPF passes, else the client network.
    Spf,
}

impl Identity {
    /// The word for it in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Spf => "spf",
        }
    }
}

/// The rules of selective greylisting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRules {
    /// Who is greylisted. Default everyone.
    pub who: Who,
    /// What tuples and trust are remembered by. Default the client network.
    pub identity: Identity,
    /// Names of this host that no client may greet with. Default this host's name.
    pub own_names: Vec<String>,
    /// Domains whose SPF pass exempts their mail; a name with a leading dot stands for all below it,
    /// too. Default none: spammers publish SPF as well.
    pub spf_trusted: Vec<String>,
    /// The least score in an allowlist that exempts. Default 1: dnswl.org's 0 only says that mail
    /// comes from there.
    pub allowlist_score: u8,
    /// How many blocklists can be asked.
    pub blocklists: u8,
    /// How many allowlists can be asked.
    pub allowlists: u8,
}

impl Default for EvidenceRules {
    fn default() -> Self {
        Self {
            who: Who::default(),
            identity: Identity::default(),
            own_names: Vec::new(),
            spf_trusted: Vec::new(),
            allowlist_score: 1,
            blocklists: 0,
            allowlists: 0,
        }
    }
}

impl EvidenceRules {
    /// Whether there is anything that could be asked of anybody.
    pub fn asks(&self) -> bool {
        (self.who == Who::Suspicious && self.blocklists > 0)
            || self.allowlists > 0
            || self.asks_spf()
    }

    /// Whether SPF could be asked of anybody.
    pub fn asks_spf(&self) -> bool {
        self.identity == Identity::Spf || !self.spf_trusted.is_empty()
    }

    /// Whether an SPF pass of `domain` exempts.
    fn trusts(&self, domain: &[u8]) -> bool {
        let domain = without_final_dot(domain);
        !domain.is_empty()
            && self.spf_trusted.iter().any(|listed| {
                let listed = listed.as_bytes();
                match listed.strip_prefix(b".") {
                    None => domain.eq_ignore_ascii_case(listed),
                    Some(listed) => {
                        let Some(begin) = domain.len().checked_sub(listed.len()) else {
                            return false;
                        };
                        domain[begin..].eq_ignore_ascii_case(listed)
                            && (begin == 0 || domain[begin - 1] == b'.')
                    }
                }
            })
    }
}

/// What about an attempt looks suspicious without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The client has no verified reverse name.
    NoName,
    /// Its name looks like that of an access line.
    AccessLine,
    /// It sent no HELO argument, or one that is no host's name in the DNS.
    HeloNoName,
    /// It greeted with a name of this host.
    HeloOurs,
}

impl Sign {
    /// The word for it in `why`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoName => "no-name",
            Self::AccessLine => "access-line",
            Self::HeloNoName => "helo-no-name",
            Self::HeloOurs => "helo-ours",
        }
    }
}

/// What looks suspicious about `attempt`, the first that does.
pub(super) fn sign(policy: &Policy, attempt: &Attempt<'_>) -> Option<Sign> {
    sign_of_client(attempt.client, attempt.client_name)
        .or_else(|| sign_of_helo(policy, attempt.helo))
}

/// What looks suspicious about a client with the verified reverse name `name`.
pub fn sign_of_client(client: IpAddr, name: &[u8]) -> Option<Sign> {
    if name.is_empty() {
        Some(Sign::NoName)
    } else if is_access_line(name, client.to_canonical()) {
        Some(Sign::AccessLine)
    } else {
        None
    }
}

/// What looks suspicious about a HELO argument.
pub fn sign_of_helo(policy: &Policy, helo: &[u8]) -> Option<Sign> {
    let helo = without_final_dot(helo);
    let is_ours = |name: &String| helo.eq_ignore_ascii_case(name.as_bytes());
    if policy.evidence.own_names.iter().any(is_ours) {
        Some(Sign::HeloOurs)
    } else if is_qualified(helo) {
        None
    } else {
        Some(Sign::HeloNoName)
    }
}

/// What would change the verdict on an attempt, if it were known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether a blocklist has the client. Where none has, the rest does not matter.
    pub blocklists: bool,
    /// Its score in the allowlists.
    pub allowlists: bool,
    /// What SPF says.
    pub spf: bool,
}

impl Wanted {
    /// Whether anything is.
    pub const fn is_any(self) -> bool {
        self.blocklists || self.allowlists || self.spf
    }
}

/// What to ask about `attempt`, which would be deferred for all that is known of it here.
pub fn wanted(policy: &Policy, attempt: &Attempt<'_>) -> Wanted {
    let rules = &policy.evidence;
    if !rules.asks() {
        return Wanted::default();
    }
    let looks_well = rules.who == Who::Suspicious && sign(policy, attempt).is_none();
    let blocklists = looks_well && rules.blocklists > 0;
    if looks_well && !blocklists {
        return Wanted::default();
    }
    let domain = spf_domain(attempt);
    Wanted {
        blocklists,
        allowlists: rules.allowlists > 0,
        spf: !domain.is_empty() && (rules.identity == Identity::Spf || rules.trusts(domain)),
    }
}

/// Why `attempt` is not greylisted though nothing is remembered of it: others vouch for it, or it
/// does not look suspicious and only what does is greylisted.
///
/// Who is vouched for passes even from a blocklist: the operator chose whose word counts.
pub fn excused(policy: &Policy, attempt: &Attempt<'_>) -> Option<PassReason> {
    let rules = &policy.evidence;
    let evidence = attempt.evidence;
    let by_score = evidence.score >= Some(rules.allowlist_score);
    if by_score || (evidence.spf == Spf::Pass && rules.trusts(spf_domain(attempt))) {
        return Some(PassReason::Vouched);
    }
    let looks_well = rules.who == Who::Suspicious
        && evidence.blocklist.is_none()
        && sign(policy, attempt).is_none();
    looks_well.then_some(PassReason::Unsuspicious)
}

/// The domain that stands for the client network of `attempt`, if one does.
pub fn identity<'a>(policy: &Policy, attempt: &Attempt<'a>) -> Option<&'a [u8]> {
    let stands = policy.evidence.identity == Identity::Spf && attempt.evidence.spf == Spf::Pass;
    let domain = spf_domain(attempt);
    (stands && !domain.is_empty()).then_some(domain)
}

/// The domain that SPF is asked of.
fn spf_domain<'a>(attempt: &Attempt<'a>) -> &'a [u8] {
    domain_of(attempt.helo, attempt.reverse_path)
}

/// The domain of the reverse-path, or of the null reverse-path the HELO argument (RFC 7208, 2.4).
fn domain_of<'a>(helo: &'a [u8], reverse_path: &'a [u8]) -> &'a [u8] {
    without_final_dot(if reverse_path.is_empty() {
        helo
    } else {
        fold::split(reverse_path).1
    })
}

/// One question to a witness.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The client address.
    pub client: IpAddr,
    /// The HELO argument.
    pub helo: &'a [u8],
    /// The reverse-path.
    pub reverse_path: &'a [u8],
    /// What is wanted.
    pub wanted: Wanted,
}

impl<'a> Question<'a> {
    /// The domain that SPF is asked of.
    pub fn spf_domain(&self) -> &'a [u8] {
        domain_of(self.helo, self.reverse_path)
    }
}

/// Is called once with what was found, in whatever thread.
pub type Tell = Box<dyn FnOnce(Evidence) + Send>;

/// Who can be asked about a client.
pub trait Witness: fmt::Debug + Send + Sync {
    /// Asks without waiting. `tell` hears at the latest after [`budget`](Self::budget), of what was
    /// found until then; whoever asks goes on without when even that does not come.
    fn ask(&self, question: &Question<'_>, tell: Tell);

    /// How long an answer may take.
    fn budget(&self) -> Duration;
}

#[cfg(test)]
mod tests;
