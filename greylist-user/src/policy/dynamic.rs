//! Whether a reverse name tells an access line rather than a server.
//!
//! Beside a server stand its owner's servers; beside an access line stand strangers. Three questions
//! decide: does the name say that it is a mail host; if not, does it carry the client's address, as
//! names made by a program do; or does it use a word of access networks. Knows names as text and
//! asks nobody; what follows for the client network is left to `network`.
//!
//! A wrong answer costs little: called dynamic, a pool's hosts do not share a tuple; called
//! a server, a host shares one with its neighbours.

use std::net::{IpAddr, Ipv4Addr};

/// Whether `name`, the verified reverse name of `address`, looks like that of an access line.
pub(super) fn looks_dynamic(name: &[u8], address: Ipv4Addr) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    !says_mail(name) && (carries(name, address) || says_access(name))
}

/// The same of any address. Of an IPv6 address, which nobody spells alike, words alone tell.
pub(super) fn is_access_line(name: &[u8], address: IpAddr) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    match address {
        IpAddr::V4(address) => looks_dynamic(name, address),
        IpAddr::V6(_) => !says_mail(name) && says_access(name),
    }
}

/// Whether a part of any label but the last, which is a country's `mx` too, is a word for mail hosts.
fn says_mail(name: &[u8]) -> bool {
    stems(without_last_labels(name, 1)).any(|stem| stem.says_mail())
}

/// Whether a part before the registered domain, taken to be the last two labels, is a word of access
/// networks.
fn says_access(name: &[u8]) -> bool {
    stems(without_last_labels(name, 2)).any(|stem| stem.says_access())
}

/// Whether `name` carries `address`: its last two octets side by side in either order, which all
/// ways to write four with punctuation have in common; or all four without any, decimal or
/// hexadecimal, in either order.
fn carries(name: &[u8], address: Ipv4Addr) -> bool {
    carries_decimal(name, address) || carries_hex(name, address)
}

fn carries_decimal(name: &[u8], address: Ipv4Addr) -> bool {
    let octets = address.octets();
    let [a, b, c, d] = octets;
    let mut before: Option<(u8, usize)> = None;
    for (digits, at) in numbers(name) {
        let value = octet(digits);
        if let (Some((before, end)), Some(value)) = (before, value) {
            let side_by_side = end + 1 == at && !name[end].is_ascii_alphabetic();
            if side_by_side && ((before, value) == (c, d) || (before, value) == (d, c)) {
                return true;
            }
        }
        before = value.map(|value| (value, at + digits.len()));
        if spells(digits, octets) || spells(digits, [d, c, b, a]) {
            return true;
        }
    }
    false
}

/// Whether `digits` are the decimal octets without punctuation, each filled up with zeros or none.
fn spells(digits: &[u8], octets: [u8; 4]) -> bool {
    if !(LEAST_DIGITS..=12).contains(&digits.len()) {
        return false;
    }
    let is_padded = digits.len() == 12;
    let mut rest = digits;
    for octet in octets {
        let hundreds = (is_padded || octet >= 100).then_some(octet / 100);
        let tens = (is_padded || octet >= 10).then_some(octet / 10 % 10);
        for digit in [hundreds, tens, Some(octet % 10)].into_iter().flatten() {
            match rest.split_first() {
                Some((&first, after)) if first == b'0' + digit => rest = after,
                _ => return false,
            }
        }
    }
    rest.is_empty()
}

/// Whether eight hexadecimal digits in a row are `address`, its octets in either order.
fn carries_hex(name: &[u8], address: Ipv4Addr) -> bool {
    let address = u32::from(address);
    let (mut value, mut digits) = (0_u32, 0);
    name.iter().any(|&byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => {
                digits = 0;
                return false;
            }
        };
        value = value << 4 | u32::from(digit);
        digits += 1;
        digits >= 8 && (value == address || value == address.swap_bytes())
    })
}

/// The runs of decimal digits, and where each begins.
fn numbers(name: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = name.get(at..)?;
        let begin = at + rest.iter().position(u8::is_ascii_digit)?;
        let digits = name[begin..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        at = begin + digits.count();
        Some((&name[begin..at], begin))
    })
}

/// The octet that one to three digits spell.
fn octet(digits: &[u8]) -> Option<u8> {
    if !(1..=3).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u8, |value, digit| {
        value.checked_mul(10)?.checked_add(digit - b'0')
    })
}

/// `name` without its last `count` labels; empty if it has no more.
fn without_last_labels(name: &[u8], count: usize) -> &[u8] {
    let mut rest = name;
    for _ in 0..count {
        let dot = rest.iter().rposition(|&byte| byte == b'.');
        rest = &rest[..dot.unwrap_or(0)];
    }
    rest
}

/// A run of letters and digits without the digits around it, in lower case.
struct Stem {
    text: [u8; LONGEST_WORD],
    length: usize,
}

/// The stems in `name` that could be a word.
fn stems(name: &[u8]) -> impl Iterator<Item = Stem> {
    let parts = name.split(|byte| !byte.is_ascii_alphanumeric());
    parts.filter_map(Stem::of)
}

impl Stem {
    fn of(part: &[u8]) -> Option<Self> {
        let begin = part.iter().position(|byte| !byte.is_ascii_digit())?;
        let end = part.iter().rposition(|byte| !byte.is_ascii_digit())?;
        let stem = &part[begin..=end];
        let mut text = [0; LONGEST_WORD];
        let lowered = text.get_mut(..stem.len())?;
        lowered.copy_from_slice(stem);
        lowered.make_ascii_lowercase();
        Some(Self {
            text,
            length: stem.len(),
        })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// What mail hosts are called, some with what they do added, and what begins or ends the names
    /// of others: `mailer`, `mailgun`, `webmail`.
    fn says_mail(&self) -> bool {
        let stem = self.as_bytes();
        let added: [&[u8]; 8] = [
            b"mail", b"mx", b"out", b"pool", b"gate", b"gw", b"host", b"server",
        ];
        let is_word = |text: &[u8]| {
            matches!(
                text,
                b"mx"
                    | b"vmx"
                    | b"relay"
                    | b"out"
                    | b"outbound"
                    | b"mout"
                    | b"mta"
                    | b"omta"
                    | b"bounce"
            )
        };
        stem.starts_with(b"mail")
            || stem.starts_with(b"smtp")
            || stem.ends_with(b"mail")
            || stem.ends_with(b"smtp")
            || is_word(stem)
            || added
                .iter()
                .any(|added| stem.strip_suffix(*added).is_some_and(is_word))
    }

    /// What access networks call their lines.
    fn says_access(&self) -> bool {
        matches!(
            self.as_bytes(),
            b"abo"
                | b"access"
                | b"adsl"
                | b"asdl"
                | b"bredband"
                | b"broadband"
                | b"cable"
                | b"cablep"
                | b"catv"
                | b"cbl"
                | b"cgn"
                | b"cgnat"
                | b"client"
                | b"clients"
                | b"cpe"
                | b"cust"
                | b"customer"
                | b"customers"
                | b"dhcp"
                | b"dial"
                | b"dialin"
                | b"dialup"
                | b"dip"
                | b"dsl"
                | b"dup"
                | b"dyn"
                | b"dynadsl"
                | b"dynamic"
                | b"dynamicip"
                | b"dynip"
                | b"ftth"
                | b"fttx"
                | b"gpon"
                | b"gprs"
                | b"home"
                | b"hsd"
                | b"isdn"
                | b"lte"
                | b"mobile"
                | b"modem"
                | b"modemcable"
                | b"nat"
                | b"pool"
                | b"ppp"
                | b"pppoe"
                | b"residential"
                | b"sdsl"
                | b"umts"
                | b"user"
                | b"users"
                | b"vdsl"
                | b"wifi"
                | b"wimax"
                | b"wireless"
                | b"wlan"
                | b"xdsl"
        )
    }
}

/// Longer parts are no word, nor a word with what is added to it; `sparkpostmail` is one.
const LONGEST_WORD: usize = 16;

/// Fewer digits without punctuation are a number of something else.
const LEAST_DIGITS: usize = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name, address, and whether the name looks dynamic.
    const TABLE: &[(&str, [u8; 4], bool)] = &[
        // Access lines that carry their address.
        ("p5b0abcde.dip0.t-ipconnect.de", [91, 10, 188, 222], true),
        ("P5B0ABCDE.isp.example", [91, 10, 188, 222], true),
        ("debc0a5b.isp.example", [91, 10, 188, 222], true),
        ("198-51-100-7.isp.example", [198, 51, 100, 7], true),
        ("host198-51-100-7.isp.example", [198, 51, 100, 7], true),
        ("7.100.51.198.isp.example", [198, 51, 100, 7], true),
        ("198.51.100.7.isp.example", [198, 51, 100, 7], true),
        ("ip-198_51_100_7.isp.example", [198, 51, 100, 7], true),
        ("198-051-100-007.isp.example", [198, 51, 100, 7], true),
        ("h198051100007.isp.example", [198, 51, 100, 7], true),
        ("007100051198.isp.example", [198, 51, 100, 7], true),
        ("x198511007.isp.example", [198, 51, 100, 7], true),
        ("n100-007.city.isp.example", [198, 51, 100, 7], true),
        ("7-100.city.isp.example", [198, 51, 100, 7], true),
        ("c6336407.isp.example", [198, 51, 100, 7], true),
        ("cpe-198-51-100-7.socal.res.rr.com", [198, 51, 100, 7], true),
        (
            "c-198-51-100-7.hsd1.ca.comcast.net",
            [198, 51, 100, 7],
            true,
        ),
        (
            "pool-198-51-100-7.nycmny.fios.verizon.net",
            [198, 51, 100, 7],
            true,
        ),
        (
            "static.7.100.51.198.clients.your-server.de",
            [198, 51, 100, 7],
            true,
        ),
        (
            "ec2-18-1-2-3.eu-west-1.compute.amazonaws.com",
            [18, 1, 2, 3],
            true,
        ),
        (
            "dsl-198-51-100-7-dyn.prod-infinitum.com.mx",
            [198, 51, 100, 7],
            true,
        ),
        ("198-51-100-7.telmex.mx", [198, 51, 100, 7], true),
        (
            "abts-north-dynamic-007.100.51.198.airtelbroadband.in",
            [198, 51, 100, 7],
            true,
        ),
        ("li1-198.members.linode.com", [198, 51, 1, 198], true),
        // Access lines by their words.
        ("dslb-088.pools.arcor-ip.example", [198, 51, 100, 7], false),
        ("line12.adsl.isp.example", [198, 51, 100, 7], true),
        ("xyz.dyn.isp.example", [198, 51, 100, 7], true),
        ("user17.dhcp.campus.example", [198, 51, 100, 7], true),
        ("ab12.dialup.isp.example", [198, 51, 100, 7], true),
        ("pool3.ppp.isp.example", [198, 51, 100, 7], true),
        ("kd.cable12.isp.example", [198, 51, 100, 7], true),
        ("a.broadband.isp.example", [198, 51, 100, 7], true),
        ("a1.residential.isp.example.", [198, 51, 100, 7], true),
        ("modemcable007.isp.qc.example", [198, 51, 100, 7], true),
        ("a1.cust.isp.example", [198, 51, 100, 7], true),
        // Mail hosts, whatever else their names carry.
        ("mail-ej1-f41.google.com", [209, 85, 218, 41], false),
        (
            "mail-am6eur05on2041.outbound.protection.outlook.com",
            [40, 107, 22, 41],
            false,
        ),
        (
            "a7-20.smtp-out.eu-west-1.amazonses.com",
            [54, 240, 7, 20],
            false,
        ),
        ("m198-51-100-7.mailgun.net", [198, 51, 100, 7], false),
        (
            "mta-198-51-100-7.sparkpostmail.com",
            [198, 51, 100, 7],
            false,
        ),
        ("mx1.198-51-100-7.hoster.example", [198, 51, 100, 7], false),
        ("smtp.dsl.isp.example", [198, 51, 100, 7], false),
        ("relay3.home.isp.example", [198, 51, 100, 7], false),
        ("out1-smtp.messagingengine.com", [66, 111, 4, 25], false),
        ("omta-100-7.isp.example", [198, 51, 100, 7], false),
        ("pool-mxout7.isp.example", [198, 51, 100, 7], false),
        ("webmail.cust.isp.example", [198, 51, 100, 7], false),
        ("mout.kundenserver.de", [212, 227, 126, 131], false),
        ("mailout12.t-online.de", [194, 25, 134, 12], false),
        // Servers that do not say what they serve.
        ("o1.ptr123.sendgrid.net", [167, 89, 10, 20], false),
        ("spring-chicken-bm.twitter.com", [199, 59, 150, 98], false),
        ("bay004-omc1s1.hotmail.com", [65, 54, 190, 12], false),
        ("lists.example.org", [198, 51, 100, 7], false),
        ("vps17.hoster.example", [198, 51, 100, 7], false),
        ("web-7.hoster.example", [198, 51, 100, 7], false),
        ("server.dyn.example", [198, 51, 100, 7], false),
        ("client.example", [198, 51, 100, 7], false),
        ("example", [198, 51, 100, 7], false),
        ("", [198, 51, 100, 7], false),
    ];

    #[test]
    fn tells_access_lines_from_servers() {
        assert!(TABLE.len() >= 40);
        for &(name, address, expected) in TABLE {
            let told = looks_dynamic(name.as_bytes(), address.into());
            assert_eq!(told, expected, "{name} of {address:?}");
        }
    }

    #[test]
    fn address_of_another_is_not_carried() {
        for name in ["198-51-100-8.isp.example", "h198051100008.isp.example"] {
            assert!(
                !looks_dynamic(name.as_bytes(), [198, 51, 100, 7].into()),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn reads_any_bytes(
            name in proptest::collection::vec(any::<u8>(), 0..300),
            address in any::<[u8; 4]>(),
        ) {
            looks_dynamic(&name, address.into());
        }

        #[test]
        fn any_address_is_found_however_it_is_written([a, b, c, d] in any::<[u8; 4]>()) {
            for name in [
                format!("{a}-{b}-{c}-{d}.isp.example"),
                format!("{d}.{c}.{b}.{a}.isp.example"),
                format!("h{a:03}{b:03}{c:03}{d:03}.isp.example"),
                format!("{d:03}-{c:03}-{b:03}-{a:03}.isp.example"),
                format!("q{a:02x}{b:02x}{c:02x}{d:02x}.isp.example"),
                format!("{d:02X}{c:02X}{b:02X}{a:02X}.isp.example"),
                format!("n{c}-{d}.isp.example"),
            ] {
                prop_assert!(looks_dynamic(name.as_bytes(), [a, b, c, d].into()), "{}", name);
                let case = name.to_ascii_uppercase();
                prop_assert!(looks_dynamic(case.as_bytes(), [a, b, c, d].into()), "{}", case);
            }
        }
    }
}
