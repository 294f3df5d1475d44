//! How a table that is made for so many entries is cut into shards, and what its places take.
//!
//! Knows how a hash table fills; leaves locks and entries to `table`.

/// How many aisles, and entries to make room for in each of their shards.
///
/// A shard holds 7/8 of a power of two of entries before it doubles, which copies it while its lock
/// is held and leaves it half empty. So the power of two is fixed first, and the number of shards
/// follows: as many as let each stay below that limit by six standard deviations of chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) aisles: usize,
    pub(super) entries_per_shard: usize,
}

impl Places {
    /// The fewest aisles, and no room.
    pub(super) const NONE: Self = Self {
        aisles: MIN_SHARDS / SHARDS_PER_AISLE,
        entries_per_shard: 0,
    };

    pub(super) fn for_entries(entries: usize) -> Self {
        let mut limit = SMALLEST_SHARD;
        let mut places = Self {
            aisles: Self::NONE.aisles,
            entries_per_shard: limit,
        };
        loop {
            let shards = entries.div_ceil(expected_below(limit));
            if shards < MIN_SHARDS {
                return places;
            }
            places = Self {
                aisles: shards.div_ceil(SHARDS_PER_AISLE),
                entries_per_shard: limit,
            };
            limit *= 2;
        }
    }
}

/// Bytes that the places of a [`reserved`](super::table::Table::reserved) table take that is made for `capacity` entries
/// of this type: an eighth of the places stays empty at least, and each has a byte beside it.
pub(super) fn reserved_bytes<Entry>(capacity: usize) -> u64 {
    let places = Places::for_entries(capacity);
    let number = places.aisles * SHARDS_PER_AISLE * places.entries_per_shard * 8 / 7;
    (number as u64).saturating_mul((size_of::<Entry>() + 1) as u64)
}

/// The mean that leaves `limit` six standard deviations (of a Poisson distribution) away.
fn expected_below(limit: usize) -> usize {
    limit - 6 * limit.isqrt()
}

pub(super) const MIN_SHARDS: usize = 1_024;
pub(super) const SHARDS_PER_AISLE: usize = 8;
/// Entries that 64 buckets hold: with fewer, chance would leave most of them empty.
const SMALLEST_SHARD: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_at_least_a_thousand_shards_and_seldom_wasted() {
        for entries in [1, 10_000, 1_000_000, 4_000_000, 10_000_000, 50_000_000] {
            let places = Places::for_entries(entries);
            let shards = places.aisles * SHARDS_PER_AISLE;
            assert!(shards >= MIN_SHARDS);
            assert!(shards * places.entries_per_shard >= entries);
            let each = reserved_bytes::<[u8; 56]>(entries) / entries as u64;
            assert!(
                entries < 1_000_000 || each <= 96,
                "{entries} entries have {each} bytes each"
            );
        }
    }
}
