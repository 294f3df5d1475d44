//! Many entries of a map in one system call: reading all, writing and removing a list.
//!
//! A system call costs more than the entry it carries: batches write three times as many entries a
//! second. Knows keys and values as bytes or as plain types; what they mean is the caller's. Needs
//! no right but the map's descriptor.

use std::{io, os::fd::BorrowedFd};

use aya::Pod;

use crate::kernel::sys::{BatchMap, Stopped, value_of};

/// Shows `visit` every entry of a hash map or an array. What is written meanwhile may be shown or
/// not; what stays is shown once.
///
/// # Errors
///
/// What the kernel says; `EINVAL` when the map holds other types.
pub(in crate::kernel) fn read<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut visit: impl FnMut(K, V),
) -> io::Result<()> {
    let map = typed::<K, V>(map)?;
    each(map, ROOM, |key, value| {
        if let (Some(key), Some(value)) = (value_of(key), value_of(value)) {
            visit(key, value);
        }
    })
}

/// The first value of a hash map or an array, of whatever size; nothing where there is none.
///
/// # Errors
///
/// What the kernel says.
pub(in crate::kernel) fn first(map: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    each(BatchMap::new(map)?, 1, |_, value| {
        if first.is_empty() {
            first = value.to_vec();
        }
    })?;
    Ok(first)
}

/// Writes entries in their order, over what is there; says how many were written before one could
/// not be.
///
/// # Errors
///
/// See [`Stopped`]; `E2BIG` when a hash map is full.
pub(in crate::kernel) fn update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), Stopped> {
    typed::<K, V>(map)?.update(keys, values)
}

/// Removes entries, and says how many of them were there.
///
/// # Errors
///
/// The first that could not be removed, and how many were; the others have been tried all the same.
pub(super) fn delete<K: Pod>(map: BorrowedFd<'_>, mut keys: &[K]) -> Result<usize, Stopped> {
    let map = BatchMap::new(map)?;
    let mut removed = 0;
    let mut outcome = Ok(());
    while !keys.is_empty() {
        match map.delete(keys) {
            Ok(()) => {
                removed += keys.len();
                break;
            }
            Err(Stopped { done, error }) => {
                removed += done;
                // The one that stopped it is left out, and the rest tried again.
                keys = keys.get(done + 1..).unwrap_or_default();
                if error.raw_os_error() != Some(libc::ENOENT) {
                    outcome = outcome.and(Err(error));
                }
            }
        }
    }
    match outcome {
        Ok(()) => Ok(removed),
        Err(error) => Err(Stopped {
            done: removed,
            error,
        }),
    }
}

/// The map behind `map`, if it holds these types.
fn typed<K, V>(map: BorrowedFd<'_>) -> io::Result<BatchMap<'_>> {
    let map = BatchMap::new(map)?;
    if (map.key_size(), map.value_size()) == (size_of::<K>(), size_of::<V>()) {
        Ok(map)
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

/// Shows `visit` every entry, with buffers for `room` of them that grow when a bucket needs more.
fn each(map: BatchMap<'_>, mut room: usize, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut place = None;
    loop {
        keys.resize(room * map.key_size(), 0);
        values.resize(room * map.value_size(), 0);
        match map.look_up(place, &mut keys, &mut values) {
            Ok(looked) => {
                let keys = keys.chunks_exact(map.key_size());
                let values = values.chunks_exact(map.value_size());
                for (key, value) in keys.zip(values).take(looked.count) {
                    visit(key, value);
                }
                place = looked.next;
                if place.is_none() {
                    return Ok(());
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => room *= 2,
            Err(error) => return Err(error),
        }
    }
}

/// Entries of one look-up: at most 224 KiB of buffers, which stay in the cache.
const ROOM: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::fd::AsFd as _};

    use aya::maps::{Array, HashMap, IterableMap, MapData, MapError};
    use proptest::prelude::*;

    use super::*;

    type Table = HashMap<MapData, u64, [u64; 2]>;

    /// A map of the kernel's; `None` where the test may not make one, which is not what it is about.
    fn table(capacity: u32) -> Option<Table> {
        match Table::create(capacity, 0) {
            Err(MapError::CreateError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EPERM) =>
            {
                eprintln!("skipped: making a map needs CAP_BPF");
                None
            }
            table => Some(table.expect("a small map")),
        }
    }

    fn fd(table: &Table) -> BorrowedFd<'_> {
        IterableMap::map(table).fd().as_fd()
    }

    fn contents(table: &Table) -> BTreeMap<u64, [u64; 2]> {
        let mut entries = BTreeMap::new();
        read(fd(table), |key, value| {
            assert_eq!(entries.insert(key, value), None, "{key} was shown twice");
        })
        .expect("a readable map");
        entries
    }

    #[test]
    fn reads_back_what_was_written() {
        let Some(table) = table(20_000) else { return };
        let keys: Vec<u64> = (0..20_000).collect();
        let values: Vec<[u64; 2]> = keys.iter().map(|key| [*key, key * 7]).collect();
        update(fd(&table), &keys, &values).expect("there is room");
        let expected: BTreeMap<u64, [u64; 2]> = keys.into_iter().zip(values).collect();
        assert_eq!(contents(&table), expected);
    }

    /// Without room for one bucket the kernel shows nothing of it, so the buffers have to grow.
    #[test]
    fn buffer_smaller_than_a_bucket_grows() {
        let Some(table) = table(10_000) else { return };
        let keys: Vec<u64> = (0..10_000).collect();
        update(fd(&table), &keys, &vec![[1_u64, 2]; keys.len()]).expect("there is room");
        let mut seen: Vec<u64> = Vec::new();
        let map = BatchMap::new(fd(&table)).expect("a hash map");
        each(map, 1, |key, _| seen.extend(value_of::<u64>(key))).expect("a readable map");
        seen.sort_unstable();
        assert_eq!(seen, keys);
    }

    #[test]
    fn full_map_says_how_far_it_came() {
        let Some(table) = table(100) else { return };
        let keys: Vec<u64> = (0..130).collect();
        let stopped = update(fd(&table), &keys, &[[0_u64, 0]; 130]).expect_err("30 too many");
        assert_eq!(stopped.error.raw_os_error(), Some(libc::E2BIG));
        assert_eq!(contents(&table).len(), stopped.done);
        assert!(stopped.done >= 100);
    }

    #[test]
    fn removes_what_is_there_and_counts_it() {
        let Some(table) = table(100) else { return };
        let there: Vec<u64> = (0..100).step_by(3).collect();
        update(fd(&table), &there, &vec![[0_u64, 0]; there.len()]).expect("there is room");
        let all: Vec<u64> = (0..100).collect();
        assert_eq!(
            delete(fd(&table), &all).expect("missing ones are no error"),
            34
        );
        assert!(contents(&table).is_empty());
        assert_eq!(delete(fd(&table), &all).expect("all are missing"), 0);
    }

    #[test]
    fn array_is_written_in_batches_as_well() {
        if table(1).is_none() {
            return;
        }
        let array = Array::<MapData, u64>::create(1_000, 0).expect("a small map");
        let fd = IterableMap::map(&array).fd().as_fd();
        update(fd, &[3_u32, 999, 7], &[30_u64, 9_990, 70]).expect("all lie in it");
        let mut found = Vec::new();
        read(fd, |index: u32, value: u64| {
            if value > 0 {
                found.push((index, value));
            }
        })
        .expect("a readable map");
        assert_eq!(found, [(3, 30), (7, 70), (999, 9_990)]);
    }

    #[test]
    fn other_types_than_the_maps_are_refused() {
        let Some(table) = table(10) else { return };
        let wrong = update(fd(&table), &[1_u32], &[[1_u64, 2]]).expect_err("keys of four bytes");
        assert_eq!(wrong.error.raw_os_error(), Some(libc::EINVAL));
        let wrong = read(fd(&table), |_: u64, _: u64| ()).expect_err("values of eight bytes");
        assert_eq!(wrong.raw_os_error(), Some(libc::EINVAL));
        assert!(delete(fd(&table), &[1_u8]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever is written and removed, the map holds what a table in memory holds.
        #[test]
        fn does_what_single_writes_would(
            steps in proptest::collection::vec(
                (proptest::bool::ANY, proptest::collection::btree_map(0_u64..60, 0_u64..9, 0..40)),
                1..12,
            ),
        ) {
            let Some(table) = table(64) else { return Ok(()) };
            let mut model = BTreeMap::new();
            for (remove, entries) in steps {
                let (keys, values): (Vec<u64>, Vec<[u64; 2]>) =
                    entries.into_iter().map(|(key, value)| (key, [value, key])).unzip();
                if remove {
                    let there = keys.iter().filter(|key| model.remove(*key).is_some()).count();
                    prop_assert_eq!(delete(fd(&table), &keys).expect("no error"), there);
                } else {
                    update(fd(&table), &keys, &values).expect("60 keys fit into 64");
                    model.extend(keys.into_iter().zip(values));
                }
                prop_assert_eq!(&contents(&table), &model);
            }
        }
    }
}
