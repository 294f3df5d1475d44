//! How much memory the tables can come to, before any of it is taken.

use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, Fingerprint, Neighbours, NetworkKey, NetworkMark,
    PairRecord, PairTag, Record, Reputation, Sentence, SentencedClient, TrustKey, TrustRecord,
    TupleKey,
};

use super::Settings;
use super::kept::{self, Kept};
use super::places;
use super::traces::Traces;

impl Settings {
    /// Bytes of the program, its threads and buffers, and of what is remembered whatever the settings are:
    /// pairs watched, failures, HELO arguments, relay hopping. Rounded up.
    pub const OTHER_MEMORY: u64 = 100_000_000;

    /// Bytes that the tuples take at most, and the traces of those for which there is no room. There is room
    /// for all from the start: a few percent of them touch nearly all of it.
    pub fn tuples_memory(&self) -> u64 {
        let tuples = places::reserved_bytes::<(TupleKey, Record)>(self.capacity);
        tuples.saturating_add(Traces::bytes_beside(self.capacity))
    }

    /// Bytes that the records of trust take at most. They take it as they come.
    pub fn trust_memory(&self) -> u64 {
        grown::<(TrustKey, TrustRecord)>().saturating_mul(self.capacity as u64)
    }

    /// Bytes that the sentences take at most. They take it as they come.
    pub fn sentences_memory(&self) -> u64 {
        grown::<(SentencedClient, Sentence)>().saturating_mul(self.sentences as u64)
    }

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

    /// Bytes that the addresses in clear take at most, where they are kept. They take it as they come.
    pub fn addresses_memory(&self) -> u64 {
        if !self.keep_addresses {
            return 0;
        }
        let records = (self.capacity as u64).saturating_mul(2);
        let entries = records.saturating_add(self.clients as u64);
        entries
            .saturating_mul(grown::<(TupleKey, Kept)>())
            .saturating_add(kept::most_bytes(self))
    }

    /// Bytes that the pairs take at most, of which one is held for each tuple that is pending. They
    /// take it as they come.
    pub fn pairs_memory(&self) -> u64 {
        places::reserved_bytes::<(PairTag, PairRecord)>(self.capacity)
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
    use crate::policy::Timestamp;
    use crate::store::table::Table;

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
    fn addresses_cost_nothing_unless_they_are_kept() {
        let keeping = |keep_addresses, capacity| {
            let settings = Settings {
                capacity,
                keep_addresses,
                ..Settings::default()
            };
            settings.addresses_memory()
        };
        assert_eq!(keeping(false, 4_000_000), 0);
        let each = keeping(true, 4_000_000) / 9_000_000;
        assert!((150..200).contains(&each), "{each} bytes a record");
        assert!(keeping(true, 8_000_000) > keeping(true, 4_000_000));
    }

    #[test]
    fn tuple_and_its_pair_take_96_bytes_of_a_large_table_at_most() {
        for capacity in [4_000_000, 10_000_000, 50_000_000] {
            let settings = Settings {
                capacity,
                ..Settings::default()
            };
            let tuples = places::reserved_bytes::<(TupleKey, Record)>(capacity);
            let each = (tuples + settings.pairs_memory()) / capacity as u64;
            assert!((56 + 16..=96).contains(&each), "{each} of {capacity}");
        }
    }

    #[test]
    fn full_tables_take_the_memory_that_was_reckoned() {
        let tests = std::env::current_exe().expect("this is a process");
        let measured = std::process::Command::new(tests)
            .args(["--exact", "--ignored", "--nocapture", MEASURING])
            .output()
            .expect("the tests can be run again");
        let told = String::from_utf8_lossy(&measured.stdout);
        assert!(measured.status.success(), "{told}");
        assert!(told.contains("1 passed"), "it is still called so: {told}");
    }

    /// With `TUPLES=10000000` it fills a gigabyte, and a tuple with its pair takes 96 bytes at most.
    #[test]
    #[ignore = "run by `full_tables_take_the_memory_that_was_reckoned`, alone in its process"]
    fn measures_full_tables() {
        let capacity =
            std::env::var("TUPLES").map_or(1_000_000, |it| it.parse().expect("a number"));
        let most = if capacity < 4_000_000 { 115 } else { 96 };
        assert!(filled(capacity) <= most);
    }

    const MEASURING: &str = "store::memory::tests::measures_full_tables";

    /// Bytes that a tuple and its pair have resident in full tables of this capacity.
    fn filled(capacity: usize) -> u64 {
        let reckoned = places::reserved_bytes::<(TupleKey, Record)>(capacity)
            + places::reserved_bytes::<(PairTag, PairRecord)>(capacity);
        let before = resident();
        let tuples = Table::<TupleKey, Record>::reserved(capacity);
        let pairs = Table::<PairTag, PairRecord>::reserved(capacity);
        let empty = resident() - before;
        for number in 0..capacity as u64 {
            let now = Timestamp::from_millis(number);
            let [a, b] = [2 * number, 2 * number + 1].map(mixed);
            let key = TupleKey::from_bytes((u128::from(a) << 64 | u128::from(b)).to_le_bytes());
            let record = Record::begun(1, now);
            tuples.update(key, |_| (record, ())).expect("there is room");
            let tag = PairTag::from_bytes(a.to_le_bytes());
            let record = PairRecord::begun(1, NetworkMark::default(), now);
            pairs.update(tag, |_| (record, ())).expect("there is room");
        }
        let full = resident() - before;
        let each = |bytes: u64| bytes / capacity as u64;
        println!("{} bytes each, {} while empty", each(full), each(empty));
        assert!(full < reckoned + reckoned / 10, "{full}, not {reckoned}");
        each(full)
    }

    /// Bytes that this process has resident.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|it| it.split_whitespace().next());
        let kilobytes: u64 = kilobytes.and_then(|it| it.parse().ok()).expect("a number");
        1_024 * kilobytes
    }

    /// `splitmix64`: every bit of the result depends on every bit of the number.
    fn mixed(number: u64) -> u64 {
        let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    #[test]
    fn memory_of_what_is_read_grows_with_what_may_be_remembered() {
        let megabytes = |contents, capacity| {
            let settings = Settings {
                capacity,
                contents,
                ..Settings::default()
            };
            (
                settings.contents_memory() / 1_000_000,
                settings.pairs_memory() / 1_000_000,
            )
        };
        assert_eq!(megabytes(1_000_000, 4_000_000), (94, 86));
        assert_eq!(megabytes(10_000_000, 40_000_000), (940, 806));
    }
}
