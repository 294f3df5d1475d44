//! The promise that keys and values are plain bytes, for user space.
#![expect(
    unsafe_code,
    reason = "`Pod` is aya's unsafe marker; the orphan rule puts its implementations here"
)]

use super::{ClientEntry, Config, Event, Ipv4Key, Ipv6Key, Presence};

// SAFETY: `repr(C)`, `Copy`, every byte is of a field and initialised, no pointer inside,
// and any bit pattern is a value: `level` is a byte that `Level::from_byte` parses.
unsafe impl aya::Pod for Ipv4Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Ipv6Key {}
// SAFETY: as above; `KernelTime`, `Admitted` and `Dropped` are transparent integers.
unsafe impl aya::Pod for ClientEntry {}
// SAFETY: as above.
unsafe impl aya::Pod for Presence {}
// SAFETY: as above.
unsafe impl aya::Pod for Config {}
// SAFETY: as above; `counter` is a byte whose index the reader checks.
unsafe impl aya::Pod for Event {}
