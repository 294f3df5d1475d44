//! What the presence maps hold, in user space: a bit is set before its entry is written, so that no
//! sentence is overlooked, and cleared once a full reading has shown that nothing is left under it.
//!
//! Pure. A bit that is clear also tells that a key is certainly new.

use greylist_ebpf::abi::Presence;

use super::key::SentenceKey;

/// The words of one presence map: a power of two, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image(Vec<Presence>);

impl Image {
    /// No bit set, in a map of `words`.
    pub(super) fn empty(words: u32) -> Self {
        Self(vec![Presence::default(); words as usize])
    }

    /// Whether the bit of `key` is set: without it there is no such entry.
    pub(super) fn may_hold(&self, key: &impl SentenceKey) -> bool {
        let (index, bit) = self.bit_of(key);
        let word = self.word(index);
        word.hosts & bit.hosts != 0 || word.networks & bit.networks != 0
    }

    /// Sets the bit of `key`.
    pub(super) fn set(&mut self, key: &impl SentenceKey) {
        let (index, bit) = self.bit_of(key);
        self.put(index, union(self.word(index), bit));
    }

    /// Takes over one word. One beyond the map is nobody's.
    pub(super) fn put(&mut self, index: u32, word: Presence) {
        if let Some(there) = self.0.get_mut(index as usize) {
            *there = word;
        }
    }

    /// The words that have to be written before entries under `keys` may be, by index.
    pub(super) fn wanting<'k, K: SentenceKey>(
        &self,
        keys: impl Iterator<Item = &'k K>,
    ) -> Vec<(u32, Presence)> {
        let mut bits: Vec<(u32, Presence)> = keys
            .filter(|key| !self.may_hold(*key))
            .map(|key| self.bit_of(key))
            .collect();
        bits.sort_unstable_by_key(|(index, _)| *index);
        bits.chunk_by(|(one, _), (other, _)| one == other)
            .filter_map(|same| {
                let &(index, _) = same.first()?;
                let word = same
                    .iter()
                    .fold(self.word(index), |word, (_, bit)| union(word, *bit));
                Some((index, word))
            })
            .collect()
    }

    /// The words in which `self` differs from `other`, by index.
    pub(super) fn differing(&self, other: &Self) -> Vec<(u32, Presence)> {
        (0..)
            .zip(self.0.iter().zip(&other.0))
            .filter(|(_, (word, other))| word != other)
            .map(|(index, (word, _))| (index, *word))
            .collect()
    }

    /// Which word the bit of `key` lies in, and that word with nothing but it.
    fn bit_of(&self, key: &impl SentenceKey) -> (u32, Presence) {
        let (bit, mut word) = (key.presence(), Presence::default());
        if key.is_host() {
            word.hosts = bit.mask();
        } else {
            word.networks = bit.mask();
        }
        let words = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        (bit.index(words), word)
    }

    fn word(&self, index: u32) -> Presence {
        self.0.get(index as usize).copied().unwrap_or_default()
    }
}

fn union(one: Presence, other: Presence) -> Presence {
    Presence {
        hosts: one.hosts | other.hosts,
        networks: one.networks | other.networks,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use greylist_ebpf::abi::{Ipv4Key, Ipv6Key, MOST_PRESENCE_WORDS};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_and_its_network_have_their_own_bits() {
        let mut image = Image::empty(MOST_PRESENCE_WORDS);
        let host = Ipv4Key::host([192, 0, 2, 7]);
        let network = Ipv4Key::network_of([192, 0, 2, 7]);
        image.set(&host);
        assert!(image.may_hold(&host) && !image.may_hold(&network));
        image.set(&network);
        assert!(image.may_hold(&network));
        assert!(!image.may_hold(&Ipv4Key::host([192, 0, 3, 7])));
    }

    #[test]
    fn keys_of_one_word_are_one_write() {
        let mut image = Image::empty(MOST_PRESENCE_WORDS);
        let hosts: Vec<Ipv4Key> = (0..64)
            .map(|network| Ipv4Key::host([10, 0, network, 1]))
            .collect();
        let full = Presence {
            hosts: u64::MAX,
            networks: 0,
        };
        let index = hosts[0].presence().index(MOST_PRESENCE_WORDS);
        assert_eq!(image.wanting(hosts.iter()), [(index, full)]);
        image.put(index, full);
        assert_eq!(image.wanting(hosts.iter()), []);
    }

    /// So few that bits of different networks fall together.
    const WORDS: u32 = 2;

    /// One step of a life.
    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<[u8; 3]>),
        Remove(Vec<[u8; 3]>),
        Rewrite,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let names = || proptest::collection::vec(proptest::array::uniform3(0_u8..3), 0..12);
        let step = prop_oneof![
            names().prop_map(Step::Put),
            names().prop_map(Step::Remove),
            Just(Step::Rewrite),
        ];
        proptest::collection::vec(step, 0..20)
    }

    /// Lives through `steps` as a table does, word by word, with `key` making the keys.
    fn lives_through<K: SentenceKey + std::fmt::Debug>(
        steps: Vec<Step>,
        key: impl Fn([u8; 3]) -> K,
    ) -> Result<(), TestCaseError> {
        let (mut kernel, mut image) = (Image::empty(WORDS), Image::empty(WORDS));
        let mut entries: BTreeSet<K> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Put(names) => {
                    let keys: Vec<K> = names.into_iter().map(&key).collect();
                    for (index, word) in image.wanting(keys.iter()) {
                        kernel.put(index, word);
                        image.put(index, word);
                    }
                    entries.extend(keys);
                }
                Step::Remove(names) => {
                    for name in names {
                        entries.remove(&key(name));
                    }
                }
                Step::Rewrite => {
                    let mut exact = Image::empty(WORDS);
                    for entry in &entries {
                        exact.set(entry);
                    }
                    for (index, word) in exact.differing(&kernel) {
                        kernel.put(index, word);
                    }
                    prop_assert_eq!(&kernel, &exact);
                    image = exact;
                }
            }
            for entry in &entries {
                prop_assert!(kernel.may_hold(entry), "{:?} would be overlooked", entry);
                prop_assert!(image.may_hold(entry), "{:?} would be taken for new", entry);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_ipv4_entry_lacks_its_bit(steps in steps()) {
            lives_through(steps, |[kind, network, host]| match kind {
                0 => Ipv4Key::new([10, 0, network, 0], 24),
                _ => Ipv4Key::host([10, kind, network, host]),
            })?;
        }

        #[test]
        fn no_ipv6_entry_lacks_its_bit(steps in steps()) {
            lives_through(steps, |[kind, network, host]| {
                let mut address = [0x20; 16];
                (address[7], address[15]) = (network, host);
                match kind {
                    0 => Ipv6Key::host(address),
                    _ => Ipv6Key::network_of(address),
                }
            })?;
        }
    }
}
