//! How much memory the tables that grow can come to, before any of it is taken.

use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, Neighbours, NetworkKey, NetworkMark,
    PairRecord, PairTag, Reputation,
};

use super::Settings;

impl Settings {
    /// Bytes that the tables of clients and client networks take at most. They take it as they
    /// fill.
    pub fn clients_memory(&self) -> u64 {
        let entry = grown::<(ClientKey, ClientRecord)>()
            + grown::<(ClientKey, Neighbours)>()
            + grown::<(NetworkKey, Reputation)>();
        entry.saturating_mul(self.clients as u64)
    }

    /// Bytes that the fingerprints take at most, and the counts of who began them. They take it as
    /// they come.
    pub fn contents_memory(&self) -> u64 {
        let shares = (NetworkMark::COUNT * size_of::<u32>()) as u64;
        let entry = grown::<(Fingerprint, ContentRecord)>();
        entry.saturating_mul(self.contents as u64) + shares
    }

    /// Bytes that the pairs take at most, of which one is held for each tuple. They take it as they
    /// come.
    pub fn pairs_memory(&self) -> u64 {
        grown::<(PairTag, PairRecord)>().saturating_mul(self.capacity as u64)
    }
}

/// Bytes that one `Entry` of a table takes right after the table has doubled: then seven of
/// sixteen places are taken, and each has a byte beside it.
const fn grown<Entry>() -> u64 {
    ((size_of::<Entry>() + 1) * 16).div_ceil(7) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_clients_grows_with_what_may_be_remembered() {
        let of = |clients| {
            let settings = Settings {
                clients,
                ..Settings::default()
            };
            settings.clients_memory()
        };
        assert_eq!(of(2_000), 2 * of(1_000));
        assert!(
            (200..900).contains(&(of(1_000_000) / 1_000_000)),
            "{}",
            of(1_000_000)
        );
    }

    #[test]
    fn memory_of_what_is_read_grows_with_what_may_be_remembered() {
        let megabytes = |contents, capacity| {
            let settings = Settings {
                contents,
                capacity,
                ..Settings::default()
            };
            (
                settings.contents_memory() / 1_000_000,
                settings.pairs_memory() / 1_000_000,
            )
        };
        assert_eq!(megabytes(1_000_000, 4_000_000), (94, 156));
        assert_eq!(megabytes(10_000_000, 40_000_000), (940, 1_560));
    }
}
