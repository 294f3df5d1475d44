//! The registered domain of a name: what its owner has of a registry, and with it whose the name
//! is.
//!
//! By the Public Suffix List, but by its ICANN section alone. The private section draws a line
//! between the customers of one cloud; here they are one, since whoever rents seven machines of a
//! cloud has seven of its names. A top-level domain that the list does not know is a suffix of one
//! label.

use psl::{List, Psl as _, Type};

/// The registered domain of `name`, in the case it has there and without a final dot.
///
/// [`None`] for a name that is itself a suffix, has one label only, or is no name at all.
pub(super) fn registered_domain(name: &[u8]) -> Option<&[u8]> {
    let name = without_final_dot(name);
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    if labels(lower).any(<[u8]>::is_empty) {
        return None;
    }
    let before_suffix = name.len().checked_sub(suffix_length(lower)? + 1)?;
    let dot = name[..before_suffix].iter().rposition(|byte| *byte == b'.');
    Some(&name[dot.map_or(0, |dot| dot + 1)..])
}

/// `name` without the dot of the root.
pub(super) fn without_final_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

/// Bytes of the longest suffix of `name`, in lower case, that ICANN or nobody vouches for.
///
/// The list answers with its longest rule. If that is a private one, the next shorter name is
/// looked up: it still has the ICANN suffix at its end.
fn suffix_length(name: &[u8]) -> Option<usize> {
    let mut most = usize::MAX;
    loop {
        let found = List.find(labels(name).take(most));
        if found.typ != Some(Type::Private) {
            return (found.len > 0).then_some(found.len);
        }
        let suffix = name.get(name.len().checked_sub(found.len)?..)?;
        most = labels(suffix).count() - 1;
    }
}

/// The labels of `name`, the last one first.
fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.rsplit(|byte| *byte == b'.')
}

/// Bytes of the longest name (RFC 1035, 2.3.4).
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registered(name: &str) -> Option<&str> {
        let domain = registered_domain(name.as_bytes());
        domain.map(|domain| std::str::from_utf8(domain).expect("a part of a text at its dots"))
    }

    #[test]
    fn is_the_suffix_and_one_label() {
        assert_eq!(registered("mx1.out.sender.com"), Some("sender.com"));
        assert_eq!(registered("sender.com"), Some("sender.com"));
        assert_eq!(registered("mail.bank.co.uk"), Some("bank.co.uk"));
        assert_eq!(registered("a.b.city.kawasaki.jp"), Some("city.kawasaki.jp"));
        assert_eq!(
            registered("mx.a.foo.kawasaki.jp"),
            Some("a.foo.kawasaki.jp")
        );
        assert_eq!(registered("mx.firma.xn--p1ai"), Some("firma.xn--p1ai"));
    }

    #[test]
    fn top_level_domain_that_nobody_knows_is_one_label() {
        assert_eq!(registered("mx.bank.example"), Some("bank.example"));
        assert_eq!(registered("a.b.c.nowhere"), Some("c.nowhere"));
    }

    #[test]
    fn customers_of_one_cloud_are_one() {
        for (name, cloud) in [
            ("ec2-192-0-2-7.compute-1.amazonaws.com", "amazonaws.com"),
            (
                "ec2-192-0-2-7.eu-west-1.compute.amazonaws.com",
                "amazonaws.com",
            ),
            (
                "7.2.0.192.bc.googleusercontent.com",
                "googleusercontent.com",
            ),
            ("vm1.westeurope.cloudapp.azure.com", "azure.com"),
            ("shop.somebody.github.io", "github.io"),
            ("host.dyndns.org", "dyndns.org"),
            ("mail.firm.uk.com", "uk.com"),
        ] {
            assert_eq!(registered(name), Some(cloud), "of {name}");
        }
    }

    #[test]
    fn suffix_has_none() {
        for name in ["com", "co.uk", "CO.UK", "example", "localhost", "a.ck"] {
            assert_eq!(registered(name), None, "of {name}");
        }
    }

    #[test]
    fn what_is_no_name_has_none() {
        let long = format!("{}.com", "a.".repeat(130));
        for name in ["", ".", "..", ".com", "a..com", ".a.com", "a.com..", &long] {
            assert_eq!(registered(name), None, "of {name}");
        }
    }

    #[test]
    fn case_and_a_final_dot_do_not_matter() {
        assert_eq!(registered("MX.Bank.Co.UK"), Some("Bank.Co.UK"));
        assert_eq!(registered("mx.bank.co.uk."), Some("bank.co.uk"));
        let cloud = registered("EC2-192-0-2-7.Compute-1.AmazonAWS.com");
        assert_eq!(cloud, Some("AmazonAWS.com"));
    }

    proptest! {
        #[test]
        fn is_the_end_of_the_name_at_a_dot(name in "[a-z.]{0,12}(\\.compute\\.amazonaws|\\.co)?\\.(com|uk|ck|zz)\\.?") {
            if let Some(domain) = registered(&name) {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let before = name.strip_suffix(domain).expect("the end of the name");
                prop_assert!(before.is_empty() || before.ends_with('.'));
                prop_assert!(domain.contains('.'));
                prop_assert_eq!(registered(domain), Some(domain), "it is its own");
            }
        }
    }
}
