//! What must hold between keys, and what single values the rooms could not make use of.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::document::Document;
use super::duration::format;
use super::model::Config;
use crate::cluster::Mode;
use crate::kernel;
use crate::milter::Endpoint;
use crate::policy::Sentence;

/// Refuses, at the line of the key to mend, what cannot work together.
pub(super) fn across_keys(config: &Config, document: &mut Document<'_>) {
    listeners(config, document);
    times(config, document);
    punishment(config, document);
    senders(config, document);
    lists(config, document);
    kernel_filter(config, document);
    store(config, document);
    cluster(config, document);
}

/// A snapshot has to end some day, or the journals before it grow without end.
fn store(config: &Config, document: &mut Document<'_>) {
    let rate = config.store.snapshot_rate;
    if (1..SLOWEST_SNAPSHOT).contains(&rate) {
        let what = format!(
            "at {rate} bytes a second no snapshot ever ends; write at least {SLOWEST_SNAPSHOT}, or 0 for no \
             limit"
        );
        document.refuse("store", "snapshot_rate", &what);
    }
}

fn cluster(config: &Config, document: &mut Document<'_>) {
    let cluster = &config.cluster;
    named_once("cluster", "servers", &cluster.servers, document);
    if cluster.password_file.is_some() && !cluster.password.is_empty() {
        let what = "there are two passwords; write one, or rather its file";
        document.refuse("cluster", "password", what);
    }
    let is_plain = |it: char| it.is_ascii_graphic() && !"{}".contains(it);
    let is_name = |text: &str| text.len() <= LONGEST_NAME && text.chars().all(is_plain);
    // Without a name of its own a host has that of the system; keys without a prefix are anybody's.
    for (key, text, may_be_empty) in [
        ("prefix", &cluster.prefix, false),
        ("node", &cluster.node, true),
    ] {
        if !is_name(text) || (text.is_empty() && !may_be_empty) {
            let what = format!(
                "{text:?} will not do; write up to {LONGEST_NAME} letters, digits and signs, without braces or spaces"
            );
            document.refuse("cluster", key, &what);
        }
    }
    if cluster.mode == Mode::Sentinel && cluster.sentinel_name.is_empty() {
        let what = "Sentinels know a master by name; write it";
        document.refuse("cluster", "sentinel_name", what);
    }
}

fn listeners(config: &Config, document: &mut Document<'_>) {
    if let Err(error) = config.milter.check() {
        document.refuse("milter", "listen", &error.to_string());
    }
    named_once("milter", "listen", &config.milter.listen, document);
    for endpoint in &config.milter.listen {
        if !is_reached(endpoint, &config.milter.peers) {
            let what = format!(
                "{endpoint} is reached from loopback only, which is not named here, so that all \
                 mail would pass unseen; add \"127.0.0.0/8\" or \"::1/128\""
            );
            document.refuse("milter", "peers", &what);
        }
        if *endpoint == Endpoint::Unix(config.admin.socket.clone()) {
            let what = "the control socket has the name of a milter socket; give each its own";
            // One of the two is in the file, since the defaults differ.
            let (section, key) = if document.is_set("admin", "socket") {
                ("admin", "socket")
            } else {
                ("milter", "listen")
            };
            document.refuse(section, key, what);
        }
    }
    // Whoever lowers the one need not name the other.
    let is_named = document.is_set("milter", "connections_per_peer");
    if is_named && config.milter.connections_per_peer > config.milter.connections {
        let what = format!(
            "{} is more than all connections together; write at most {}, or raise connections",
            config.milter.connections_per_peer, config.milter.connections
        );
        document.refuse("milter", "connections_per_peer", &what);
    }
}

/// Whether an MTA that `peers` names can connect to `endpoint`, as far as loopback tells.
fn is_reached(endpoint: &Endpoint, peers: &[IpNet]) -> bool {
    let loopback = match endpoint {
        Endpoint::Inet(address) => match address.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8)
            }
            IpAddr::V6(address) if address.is_loopback() => IpNet::from(IpAddr::V6(address)),
            _ => return true,
        },
        Endpoint::Unix(_) => return true,
    };
    peers
        .iter()
        .any(|peer| peer.contains(&loopback) || loopback.contains(peer))
}

fn times(config: &Config, document: &mut Document<'_>) {
    let (delay, window) = (config.policy.delay, config.policy.retry_window);
    let content_delay = config.policy.content.delay;
    if content_delay >= window {
        let what = format!(
            "{} is not less than the retry_window of {}, so that no message would ever pass because it \
             comes again; write less, or raise retry_window",
            format(content_delay),
            format(window)
        );
        document.refuse("content", "delay", &what);
    }
    if window > delay {
        return;
    }
    let (delay, window) = (format(delay), format(window));
    if document.is_set("greylist", "retry_window") {
        let what = format!(
            "{window} is not more than the delay of {delay}, so that no mail would ever pass; \
             write more, or lower delay"
        );
        document.refuse("greylist", "retry_window", &what);
    } else {
        let what = format!(
            "{delay} is not less than the retry_window of {window}, so that no mail would ever \
             pass; write less, or raise retry_window"
        );
        document.refuse("greylist", "delay", &what);
    }
}

fn punishment(config: &Config, document: &mut Document<'_>) {
    let (policy, punish) = (&config.policy, &config.policy.punish);
    for (key, extra) in [
        ("extra_delay_limit", punish.extra_delay_limit),
        ("hopping_delay", punish.hopping_delay),
    ] {
        // A window that is no longer than the delay has been refused already.
        if policy.delay < policy.retry_window && policy.delay + extra >= policy.retry_window {
            let room = policy.retry_window.saturating_sub(policy.delay);
            let what = format!(
                "{} and the delay of {} are not less than the retry_window of {}, so that some mail \
                 would never pass; write less than {}, or raise retry_window",
                format(extra),
                format(policy.delay),
                format(policy.retry_window),
                format(room)
            );
            document.refuse("punish", key, &what);
        }
    }
    let fits = policy.delay + punish.hopping_delay < policy.retry_window;
    if fits && punish.hopping_delay > punish.extra_delay_limit {
        let what = format!(
            "{} is more than the extra_delay_limit of {}, which ends it; write at most that, or raise \
             extra_delay_limit",
            format(punish.hopping_delay),
            format(punish.extra_delay_limit)
        );
        document.refuse("punish", "hopping_delay", &what);
    }
    if punish.blocks.is_empty() {
        let what = "no length is named; write one, such as [\"24h\"], or action = \"observe\" to block \
                    nobody";
        document.refuse("punish", "blocks", what);
    }
    for block in &punish.blocks {
        if !(SHORTEST_BLOCK..=Sentence::LONGEST).contains(block) {
            let what = format!(
                "{} is out of range; write lengths from {} to {}",
                format(*block),
                format(SHORTEST_BLOCK),
                format(Sentence::LONGEST)
            );
            document.refuse("punish", "blocks", &what);
        }
    }
    let contact = &punish.contact;
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    if contact.trim().is_empty() || !contact.bytes().all(printable) {
        let what = "an SMTP reply takes printable ASCII only; write an address or a link";
        document.refuse("punish", "contact", what);
    } else if contact.len() > LONGEST_CONTACT {
        let what = format!(
            "{} characters do not fit into one line of a reply; write at most {LONGEST_CONTACT}",
            contact.len()
        );
        document.refuse("punish", "contact", &what);
    }
}

fn senders(config: &Config, document: &mut Document<'_>) {
    for pattern in &config.policy.probe_senders {
        let (local_part, domain) = pattern.rsplit_once('@').unwrap_or((pattern, ""));
        if local_part == "*" || (domain.contains('*') && domain != "*") {
            let what = format!("{pattern:?} names nobody; a * stands for a whole domain only");
            document.refuse("greylist", "probe_senders", &what);
        }
    }
}

/// What is asked over the DNS.
fn lists(config: &Config, document: &mut Document<'_>) {
    let dns = &config.dns;
    named_once("dns", "servers", &dns.servers, document);
    for (key, zones) in [
        ("blocklists", &dns.blocklists),
        ("allowlists", &dns.allowlists),
    ] {
        named_once("dns", key, zones, document);
        if zones.len() > MOST_LISTS {
            let what = format!(
                "{} are more than a message can wait for; write at most {MOST_LISTS}",
                zones.len()
            );
            document.refuse("dns", key, &what);
        }
    }
    let is_name = |name: &str| {
        let label =
            |it: &str| !it.is_empty() && !it.contains(|c: char| c.is_whitespace() || c == '@');
        name.is_ascii() && name.split('.').all(label)
    };
    for domain in &config.policy.evidence.spf_trusted {
        let name = domain.strip_prefix('.').unwrap_or(domain);
        if !is_name(name) || !name.contains('.') {
            let what = format!(
                "{domain:?} is no domain of a sender; write \"example.org\", or \".example.org\" with all below it"
            );
            document.refuse("dns", "spf_trusted", &what);
        }
    }
    for name in &config.policy.evidence.own_names {
        if !is_name(name) {
            let what =
                format!("{name:?} is no name of a host; write one such as \"mx.example.org\"");
            document.refuse("greylist", "own_names", &what);
        }
    }
}

fn kernel_filter(config: &Config, document: &mut Document<'_>) {
    let xdp = &config.xdp;
    for interface in &xdp.interfaces {
        if !is_interface_name(interface) {
            let what = format!(
                "{interface:?} cannot be the name of an interface; `ip link` lists those there are"
            );
            document.refuse("xdp", "interfaces", &what);
        }
    }
    if xdp.ports.is_empty() {
        document.refuse("xdp", "ports", "no port to protect; write [25]");
    }
    named_once("xdp", "interfaces", &xdp.interfaces, document);
    named_once("xdp", "ports", &xdp.ports, document);
    for port in &xdp.ports {
        if !MAIL_PORTS.contains(port) {
            let what = format!(
                "{port} is no port of a mail server; only 25, 465, 587 and 2525 can be protected, \
                 so that nothing but mail is ever blocked"
            );
            document.refuse("xdp", "ports", &what);
        }
        if SUBMISSION_PORTS.contains(port) && !config.submission {
            let what = format!(
                "{port} serves your own users, who share addresses with offenders and would be \
                 locked out; remove it, or write submission = true if that is what you want"
            );
            document.refuse("xdp", "ports", &what);
        }
    }
    named_once("xdp", "addresses", &xdp.addresses, document);
    for address in &xdp.addresses {
        if address.is_unspecified() || address.is_multicast() || address.to_canonical() != *address
        {
            let what = format!(
                "{address} is no address that clients connect to; write that of an interface, or \
                 [] for all"
            );
            document.refuse("xdp", "addresses", &what);
        }
    }
    if xdp.addresses.len() > kernel::DESTINATIONS {
        let what = format!(
            "{} are more than the kernel program looks for; write at most {}, or [] for all",
            xdp.addresses.len(),
            kernel::DESTINATIONS
        );
        document.refuse("xdp", "addresses", &what);
    }
}

fn named_once<T: ToString>(
    section: &'static str,
    key: &'static str,
    values: &[T],
    document: &mut Document<'_>,
) {
    let mut seen = BTreeSet::new();
    for value in values.iter().map(T::to_string) {
        if seen.contains(&value) {
            let what = format!("{value} is named twice; remove one");
            document.refuse(section, key, &what);
        }
        seen.insert(value);
    }
}

/// What Linux takes as a name (`dev_valid_name` in `net/core/dev.c`): 1 to 15 bytes, no slash,
/// colon or space, and not a directory's own name.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace())
}

/// Of a host, or of all keys.
const LONGEST_NAME: usize = 64;
/// A megabyte a second: a full store of the default size takes some five minutes.
const SLOWEST_SNAPSHOT: u64 = 1 << 20;

/// SMTP, submissions (RFC 8314), submission (RFC 6409), and the alternative many providers offer.
const MAIL_PORTS: [u16; 4] = [25, 465, 587, 2525];
/// Those of them that serve the site's own users.
const SUBMISSION_PORTS: [u16; 2] = [465, 587];

/// Nobody needs more; each is a question a message.
const MOST_LISTS: usize = 16;

/// As the shortest `sentence`.
const SHORTEST_BLOCK: Duration = Duration::from_secs(1);

/// A reply line holds 512 bytes (RFC 5321, 4.5.3.1.5), and says more than this.
const LONGEST_CONTACT: usize = 200;
