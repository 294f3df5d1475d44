//! How much kernel memory a filter takes, told before it is taken.

use greylist_ebpf::abi::{self, ClientEntry, Ipv4Key, Ipv6Key, Presence};

use super::Settings;

impl Settings {
    /// Bytes of kernel memory that the maps will take: all of it at load time, so that no sentence
    /// is ever refused for want of memory.
    pub fn memory(&self) -> u64 {
        let sentences = hash_map(self.capacity, size_of::<Ipv4Key>())
            + hash_map(self.capacity, size_of::<Ipv6Key>());
        let presence =
            2 * u64::from(abi::presence_words(self.capacity)) * bytes(size_of::<Presence>());
        sentences + presence + u64::from(abi::EVENT_BYTES) + OTHERS
    }
}

/// A preallocated hash map of sentences: `struct htab_elem` of kernel/bpf/hashtab.c with key and value
/// behind it, and as many buckets as there are entries, rounded up to a power of two.
fn hash_map(capacity: u32, key: usize) -> u64 {
    let element = ELEMENT + bytes(key) + bytes(size_of::<ClientEntry>());
    let buckets = u64::from(capacity).next_power_of_two();
    u64::from(capacity) * element + buckets * BUCKET
}

fn bytes(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// `struct htab_elem` without key and value.
const ELEMENT: u64 = 48;
/// `struct bucket`.
const BUCKET: u64 = 16;
/// Ports, protected addresses, counters, and what each map takes for itself.
const OTHERS: u64 = 160 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_takes_less_than_128_bytes() {
        let million = |key| hash_map(1_000_000, key) / 1_000_000;
        assert_eq!(million(size_of::<Ipv4Key>()), 104);
        assert_eq!(million(size_of::<Ipv6Key>()), 120);
    }

    #[test]
    fn default_takes_what_the_settings_say() {
        let megabytes = Settings::default().memory() / 1_000_000;
        assert_eq!(megabytes, 30);
    }
}
