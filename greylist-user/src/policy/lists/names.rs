//! Many domains and addresses, asked for the longest that a name falls under: a hash table walked label
//! by label, from the right, no deeper than the deepest entry.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::entry::{AddressPattern, DomainPattern};

/// The operator chose the keys, so that nobody has anything to gain from a hash that is known.
pub(super) type Fixed = BuildHasherDefault<DefaultHasher>;

/// Domains, each with the number of its entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    by_name: HashMap<Box<[u8]>, Slot, Fixed>,
    /// Most labels of a domain of which what lies below is named, too.
    deepest: usize,
}

/// What is said of one domain.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of it alone.
    itself: Option<usize>,
    /// Of it and all that lies below it.
    below: Option<usize>,
}

/// Addresses and domains of addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    whole: HashMap<Box<[u8]>, usize, Fixed>,
    domains: Domains,
}

impl Domains {
    pub(super) fn insert(&mut self, pattern: &DomainPattern, index: usize) {
        let name = pattern.name.as_bytes();
        let slot = self.by_name.entry(name.into()).or_default();
        if pattern.below {
            slot.below.get_or_insert(index);
            self.deepest = self.deepest.max(labels(name));
        } else {
            slot.itself.get_or_insert(index);
        }
    }

    /// The longest that `name` falls under, however it is written.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        if self.by_name.is_empty() || name.is_empty() {
            return None;
        }
        let mut buffer = [0; LONGEST];
        self.find_lowered(lowered(name, &mut buffer)?)
    }

    fn find_lowered(&self, name: &[u8]) -> Option<usize> {
        let slot = self.by_name.get(name).copied().unwrap_or_default();
        slot.itself.or(slot.below).or_else(|| {
            let mut longest = None;
            let dots = name.iter().enumerate().rev().filter(|it| *it.1 == b'.');
            for (dot, _) in dots.take(self.deepest) {
                let below = self.by_name.get(&name[dot + 1..]).and_then(|it| it.below);
                longest = below.or(longest);
            }
            longest
        })
    }

    /// How many times the table is asked for one name at most.
    #[cfg(test)]
    pub(super) fn probes(&self) -> usize {
        1 + self.deepest
    }
}

impl Addresses {
    pub(super) fn insert(&mut self, pattern: &AddressPattern, index: usize) {
        match pattern {
            AddressPattern::Whole(address) => {
                let address = address.as_bytes().into();
                self.whole.entry(address).or_insert(index);
            }
            AddressPattern::Domain(pattern) => self.domains.insert(pattern, index),
        }
    }

    /// What `address` falls under: itself, else its domain. Neither regards case, not of the local
    /// part either: no site gives one mailbox to `Info` and another to `info`.
    pub(super) fn find(&self, address: &[u8]) -> Option<usize> {
        if self.whole.is_empty() && self.domains.by_name.is_empty() {
            return None;
        }
        let mut buffer = [0; LONGEST];
        let address = lowered(address, &mut buffer)?;
        if let Some(index) = self.whole.get(address) {
            return Some(*index);
        }
        // The last `@` divides them: a quoted local part may hold others.
        let at = address.iter().rposition(|byte| *byte == b'@')?;
        self.domains.find_lowered(&address[at + 1..])
    }
}

/// `name` in lower case and without the dot of the root; [`None`] if it is longer than any.
fn lowered<'b>(name: &[u8], buffer: &'b mut [u8; LONGEST]) -> Option<&'b [u8]> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let lowered = buffer.get_mut(..name.len())?;
    lowered.copy_from_slice(name);
    lowered.make_ascii_lowercase();
    Some(lowered)
}

fn labels(name: &[u8]) -> usize {
    name.split(|byte| *byte == b'.').count()
}

/// The longest mail address (RFC 5321, 4.5.3.1): local part, at sign, domain.
const LONGEST: usize = 64 + 1 + 255;
