//! One entry of a list, as it is written: the same in the configuration, in list files and on the
//! command line.
//!
//! An entry that could never name anybody is refused where it is read, since nobody would notice.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Whom an entry names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Clients of a network, or one client.
    Client(IpNet),
    /// Clients by the verified reverse name.
    Name(DomainPattern),
    /// Mail by its reverse-path.
    From(AddressPattern),
    /// Mail by its recipient.
    To(AddressPattern),
    /// Clients by the HELO argument, which nobody has verified.
    Helo(DomainPattern),
}

/// A domain, alone or with all that lies below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainPattern {
    /// In lower case, without a dot before or behind it.
    pub(super) name: String,
    /// Whether all that lies below is named, too.
    pub(super) below: bool,
}

/// A mail address, or all of a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressPattern {
    /// One address, in lower case; empty is the null reverse-path.
    Whole(String),
    /// All of a domain.
    Domain(DomainPattern),
}

/// Why a text is no entry, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEntry(String);

impl Entry {
    /// Whether it names more than anybody means by one line: a network wider than `/8` or, of IPv6,
    /// `/16`, or a whole top-level domain.
    pub fn is_wide(&self) -> bool {
        match self {
            Self::Client(IpNet::V4(network)) => network.prefix_len() < 8,
            Self::Client(IpNet::V6(network)) => network.prefix_len() < 16,
            Self::Name(pattern)
            | Self::Helo(pattern)
            | Self::From(AddressPattern::Domain(pattern))
            | Self::To(AddressPattern::Domain(pattern)) => pattern.is_wide(),
            Self::From(AddressPattern::Whole(_)) | Self::To(AddressPattern::Whole(_)) => false,
        }
    }
}

impl FromStr for Entry {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("an empty entry names nobody; remove it".to_owned()));
        }
        let Some((kind, value)) = text.split_once(|it: char| it.is_ascii_whitespace()) else {
            return client_or_name(text);
        };
        let value = value.trim();
        match kind.to_ascii_lowercase().as_str() {
            "from" if value == "<>" => Ok(Self::From(AddressPattern::Whole(String::new()))),
            "from" => mail(value, "from").map(Self::From),
            "to" => mail(value, "to").map(Self::To),
            "helo" => helo(value).map(Self::Helo),
            _ => Err(wrong(format!("{text:?} is no entry; {WRITE}"))),
        }
    }
}

/// An entry of `[[recipients]] match`, where a domain needs no `@`.
impl FromStr for AddressPattern {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') {
            return address(text);
        }
        domain(text).map(Self::Domain)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Client(network) => network.fmt(f),
            Self::Name(pattern) => pattern.fmt(f),
            Self::From(pattern) => write!(f, "from {pattern}"),
            Self::To(pattern) => write!(f, "to {pattern}"),
            Self::Helo(pattern) => write!(f, "helo {pattern}"),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.below {
            f.write_str(".")?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(address) if address.is_empty() => f.write_str("<>"),
            // Behind a space it would begin a comment.
            Self::Whole(address) if address.starts_with('#') => write!(f, "<{address}>"),
            Self::Whole(address) => f.write_str(address),
            Self::Domain(pattern) if pattern.below => pattern.fmt(f),
            Self::Domain(pattern) => write!(f, "@{pattern}"),
        }
    }
}

impl DomainPattern {
    /// A domain, in lower case, with all that lies below it.
    pub fn below(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            below: true,
        }
    }

    fn is_wide(&self) -> bool {
        self.below && !self.name.contains('.')
    }
}

/// A network, as it must be written: neither IPv4 in the clothes of IPv6, nor with bits beyond its
/// prefix, which would allow, or trust, far more than was meant.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            format!(
                "{text:?} is no network; write an address or a network such as \"192.0.2.0/24\" or \"2001:db8::/32\""
            )
        })?,
    };
    if let IpNet::V6(network) = network
        && let Some(address) = network.addr().to_ipv4_mapped()
    {
        // No client is ever seen with such an address: the line would do nothing, unsaid.
        return Err(format!(
            "{network} is IPv4 written as IPv6; write {address} and its prefix"
        ));
    }
    let masked = network.trunc();
    if masked == network {
        Ok(network)
    } else {
        Err(format!(
            "{network} has bits set beyond its prefix; write \"{masked}\", or the one address alone"
        ))
    }
}

fn client_or_name(text: &str) -> Result<Entry, InvalidEntry> {
    let is_of_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let looks_like_address = text.contains([':', '/'])
        || (text.bytes().all(is_of_number) && text.contains(|it: char| it.is_ascii_digit()));
    if looks_like_address {
        return network(text).map(Entry::Client).map_err(InvalidEntry);
    }
    if text.contains('@') {
        return Err(wrong(format!(
            "{text:?} is an address of mail; write \"from {text}\" or \"to {text}\""
        )));
    }
    let pattern = domain(text)?;
    // Not of a pattern: `.org` is wide, and that is said elsewhere.
    if !pattern.below && !pattern.name.contains('.') {
        return Err(wrong(format!(
            "{text:?} is no whole host name, and names nobody; {WRITE}"
        )));
    }
    Ok(Entry::Name(pattern))
}

/// A domain of mail needs its `@`, so that nobody takes `from example.org` for a host.
fn mail(text: &str, kind: &str) -> Result<AddressPattern, InvalidEntry> {
    if text == "<>" {
        return Err(wrong(
            "\"to <>\" names nobody: mail has a recipient; \"from <>\" is the null sender"
                .to_owned(),
        ));
    }
    if text.contains('@') {
        return address(text);
    }
    let pattern = domain(text)?;
    if pattern.below {
        Ok(AddressPattern::Domain(pattern))
    } else {
        Err(wrong(format!(
            "\"{kind} {text}\" is not clear; write \"{kind} @{text}\", or \"{kind} .{text}\" with all \
             below it"
        )))
    }
}

fn address(text: &str) -> Result<AddressPattern, InvalidEntry> {
    let bare = text
        .strip_prefix('<')
        .and_then(|it| it.strip_suffix('>'))
        .unwrap_or(text);
    let (local, of) = bare
        .rsplit_once('@')
        .ok_or_else(|| wrong(format!("{text:?} is no address of mail; {WRITE}")))?;
    let pattern = domain(of)?;
    if pattern.below {
        return Err(wrong(format!(
            "{text:?} names nobody; write \"{local}@{}\", or \".{}\" for all of it and below",
            pattern.name, pattern.name
        )));
    }
    if local.is_empty() {
        return Ok(AddressPattern::Domain(pattern));
    }
    let is_odd = |it: char| it.is_control() || it.is_whitespace() || matches!(it, '<' | '>');
    if local.contains('*') || local.contains(is_odd) || local.len() > LONGEST_LOCAL_PART {
        return Err(wrong(format!(
            "{text:?} names nobody; write one address, or \"@{}\" for all of the domain",
            pattern.name
        )));
    }
    let local = local.to_ascii_lowercase();
    Ok(AddressPattern::Whole(format!("{local}@{}", pattern.name)))
}

/// A HELO argument may be anything without a space: robots say names without a dot. One that begins
/// with `#` would be a comment in a list file.
fn helo(text: &str) -> Result<DomainPattern, InvalidEntry> {
    let is_odd = |byte: u8| !(b'!'..=b'~').contains(&byte) || byte == b'*';
    if text.starts_with('.') {
        return domain(text);
    }
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.is_empty()
        || bare.ends_with('.')
        || bare.starts_with('#')
        || bare.bytes().any(is_odd)
        || bare.len() > LONGEST_NAME
    {
        return Err(wrong(format!(
            "\"helo {text}\" names nobody; write \"helo NAME\", or \"helo .DOMAIN\" for it and all below"
        )));
    }
    let name = bare.to_ascii_lowercase();
    Ok(DomainPattern { name, below: false })
}

fn domain(text: &str) -> Result<DomainPattern, InvalidEntry> {
    let (name, below) = match text.strip_prefix('.') {
        Some(name) => (name, true),
        None => (text, false),
    };
    if let Some(rest) = text.strip_prefix("*.") {
        return Err(wrong(format!(
            "{text:?} names nobody; write \".{rest}\" for {rest} and all below it"
        )));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_ascii() {
        return Err(wrong(format!(
            "{text:?} is not how DNS writes it; write its name in ASCII, with \"xn--\""
        )));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > LONGEST_NAME || !name.split('.').all(is_label) {
        return Err(wrong(format!(
            "{text:?} is no name of DNS, and names nobody; {WRITE}"
        )));
    }
    let name = name.to_ascii_lowercase();
    Ok(DomainPattern { name, below })
}

fn wrong(what: String) -> InvalidEntry {
    InvalidEntry(what)
}

const WRITE: &str = "write one such as 192.0.2.7, 192.0.2.0/24, mail.example.org, .example.org, \
                     from a@example.org, from @example.org, to .example.org, helo mail.example.org";

/// RFC 1035, 2.3.4, without the root.
const LONGEST_NAME: usize = 253;
/// RFC 5321, 4.5.3.1.1.
const LONGEST_LOCAL_PART: usize = 64;
