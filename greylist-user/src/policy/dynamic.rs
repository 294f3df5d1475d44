//! Whether a reverse name tells an access line rather than a server.
//!
//! Beside a server stand its owner's servers; beside an access line stand strangers. Three questions
//! decide: does the name say that it is a mail host; if not, does it carry the client's address, as
//! names made by a program do; or does it use a word of access networks. Knows names as text and
//! asks nobody; what follows for the client network is left to `network`.
//!
//! A wrong answer costs little: called dynamic, a pool's hosts do not share a tuple; called
//! a server, a host shares one with its neighbours.

use std::net::Ipv4Addr;

/// Whether `name`, the verified reverse name of `address`, looks like that of an access line.
pub(super) fn looks_dynamic(name: &[u8], address: Ipv4Addr) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    !says_mail(name) && (carries(name, address) || says_access(name))
}

/// Whether a part of any label but the last, which is a country's `mx` too, is a word for mail hosts.
fn says_mail(name: &[u8]) -> bool {
    parts(without_last_labels(name, 1)).any(|part| {
        let stem = stem(part);
        MAIL_WORDS.iter().any(|word| {
            let after = strip_word(stem, word);
            after.is_some_and(|rest| rest.is_empty() || is_any(rest, &MAIL_SUFFIXES))
        }) || MAIL_SYLLABLES.iter().any(|word| {
            let ending = stem.len().checked_sub(word.len()).map(|at| &stem[at..]);
            strip_word(stem, word).is_some()
                || ending.is_some_and(|ending| ending.eq_ignore_ascii_case(word))
        })
    })
}

/// Whether a part before the registered domain, taken to be the last two labels, is a word of access
/// networks.
fn says_access(name: &[u8]) -> bool {
    parts(without_last_labels(name, 2)).any(|part| is_any(stem(part), &ACCESS_WORDS))
}

/// Whether `name` carries `address`: its last two octets side by side in either order, which all
/// ways to write four with punctuation have in common; or all four without any, decimal or
/// hexadecimal, in either order.
fn carries(name: &[u8], address: Ipv4Addr) -> bool {
    let octets = address.octets();
    let [a, b, c, d] = octets;
    let reversed = [d, c, b, a];
    has_neighbours(name, c, d)
        || has_neighbours(name, d, c)
        || [octets, reversed].into_iter().any(|octets| {
            let hex = Digits::hex(octets);
            let padded = Digits::decimal(octets, Padding::Zeros);
            let bare = Digits::decimal(octets, Padding::None);
            name.windows(8)
                .any(|text| text.eq_ignore_ascii_case(hex.as_bytes()))
                || numbers(name).any(|(text, _)| {
                    text == padded.as_bytes() || (text.len() >= 7 && text == bare.as_bytes())
                })
        })
}

/// Whether the numbers `one` and `other`, zeros in front or not, stand side by side with one
/// character of punctuation between them.
fn has_neighbours(name: &[u8], one: u8, other: u8) -> bool {
    let mut before: Option<usize> = None;
    for (text, at) in numbers(name) {
        let value = octet(text);
        let follows = before.is_some_and(|end| {
            end + 1 == at && !name[end].is_ascii_alphabetic() && value == Some(other)
        });
        if follows {
            return true;
        }
        before = (value == Some(one)).then_some(at + text.len());
    }
    false
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
    let spelled = (1..=3).contains(&digits.len());
    let value = digits.iter().try_fold(0_u8, |value, digit| {
        value.checked_mul(10)?.checked_add(digit - b'0')
    });
    value.filter(|_| spelled)
}

/// Four octets written without punctuation.
struct Digits {
    text: [u8; 12],
    length: usize,
}

/// How decimal octets are filled up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    None,
    Zeros,
}

impl Digits {
    fn hex(octets: [u8; 4]) -> Self {
        let mut digits = Self::NONE;
        for octet in octets {
            digits.push(octet >> 4);
            digits.push(octet & 15);
        }
        digits
    }

    fn decimal(octets: [u8; 4], padding: Padding) -> Self {
        let mut digits = Self::NONE;
        for octet in octets {
            let all = padding == Padding::Zeros;
            if all || octet >= 100 {
                digits.push(octet / 100);
            }
            if all || octet >= 10 {
                digits.push(octet / 10 % 10);
            }
            digits.push(octet % 10);
        }
        digits
    }

    const NONE: Self = Self {
        text: [0; 12],
        length: 0,
    };

    fn push(&mut self, digit: u8) {
        self.text[self.length] = b"0123456789abcdef"[usize::from(digit)];
        self.length += 1;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
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

/// The runs of letters and digits.
fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
}

/// `part` without the digits around it.
fn stem(part: &[u8]) -> &[u8] {
    let begin = part.iter().position(|byte| !byte.is_ascii_digit());
    let end = part.iter().rposition(|byte| !byte.is_ascii_digit());
    match (begin, end) {
        (Some(begin), Some(end)) => &part[begin..=end],
        _ => b"",
    }
}

fn is_any(text: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// `text` after `word`, in any case.
fn strip_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = text.split_at_checked(word.len())?;
    begin.eq_ignore_ascii_case(word).then_some(rest)
}

/// What mail hosts are called, alone or with one of [`MAIL_SUFFIXES`].
const MAIL_WORDS: [&[u8]; 9] = [
    b"mx",
    b"vmx",
    b"relay",
    b"out",
    b"outbound",
    b"mout",
    b"mta",
    b"omta",
    b"bounce",
];

const MAIL_SUFFIXES: [&[u8]; 8] = [
    b"mail", b"mx", b"out", b"pool", b"gate", b"gw", b"host", b"server",
];

/// What begins or ends a part of a mail host's name: `mailer`, `mailgun`, `webmail`.
const MAIL_SYLLABLES: [&[u8]; 2] = [b"mail", b"smtp"];

/// What access networks call their lines.
const ACCESS_WORDS: [&[u8]; 56] = [
    b"abo",
    b"access",
    b"adsl",
    b"asdl",
    b"bredband",
    b"broadband",
    b"cable",
    b"cablep",
    b"catv",
    b"cbl",
    b"cgn",
    b"cgnat",
    b"client",
    b"clients",
    b"cpe",
    b"cust",
    b"customer",
    b"customers",
    b"dhcp",
    b"dial",
    b"dialin",
    b"dialup",
    b"dip",
    b"dsl",
    b"dup",
    b"dyn",
    b"dynadsl",
    b"dynamic",
    b"dynip",
    b"dynamicip",
    b"ftth",
    b"fttx",
    b"gpon",
    b"gprs",
    b"home",
    b"hsd",
    b"isdn",
    b"lte",
    b"mobile",
    b"modem",
    b"modemcable",
    b"nat",
    b"pool",
    b"ppp",
    b"pppoe",
    b"residential",
    b"sdsl",
    b"umts",
    b"user",
    b"users",
    b"vdsl",
    b"wifi",
    b"wimax",
    b"wireless",
    b"wlan",
    b"xdsl",
];

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
