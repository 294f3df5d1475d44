//! Taking back what a snapshot holds, with as many threads as there are cores.
//!
//! One reads whole blocks, in order; the others check them, decode their rows and hand these to a sink.
//! Blocks come in batches, since rows of one part of a table stand together in the file: who takes a
//! batch has that part of the table to itself for a while. All blocks of one kind are in before the
//! first of the next is handed out, since some rows want others to be there.
//!
//! Knows blocks and threads; leaves what a row means to `persist`, and which file to `snapshot`.

use std::io::Read;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::Stopwatch;

use super::codec::{Block, Damage, Reader, Row};

/// Hands every row of `reader` to `take`, from several threads, each with a count of its own, and gives
/// back the counts. An error means that the snapshot is damaged, though the rows that were handed over
/// were right. A long way through is told in the log: how much of its `bytes` is behind.
pub(super) fn load<C: Default + Send>(
    reader: Reader<impl Read>,
    bytes: u64,
    take: impl Fn(Row, &mut C) + Sync,
) -> Result<Vec<C>, Damage> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    load_with(threads.min(MOST_THREADS), reader, bytes, take)
}

fn load_with<C: Default + Send>(
    threads: usize,
    reader: Reader<impl Read>,
    bytes: u64,
    take: impl Fn(Row, &mut C) + Sync,
) -> Result<Vec<C>, Damage> {
    // Bounded by what the foreman lets out, so that he never waits for one who is gone.
    let (to_do, queue) = channel();
    let (done, returned) = channel();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let workers: Vec<_> = std::iter::repeat_with(|| {
            let (queue, take, done) = (&queue, &take, done.clone());
            scope.spawn(move || work(queue, &done, take))
        })
        .take(threads)
        .collect();
        drop(done);
        let foreman = Foreman {
            to_do,
            returned,
            out: 0,
            most_out: 2 * threads,
            spare: Vec::new(),
            damage: None,
            is_alone: false,
        };
        // It ends with the queue, and so do they.
        let read = foreman.read(reader, &mut Progress::of(bytes));
        let counts = workers.into_iter().map(|worker| match worker.join() {
            Ok(counts) => counts,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let counts = counts.collect();
        read.map(|()| counts)
    })
}

/// Takes batches off the queue until there are no more.
fn work<C: Default>(
    queue: &Mutex<Receiver<Vec<Block>>>,
    done: &Sender<Returned>,
    take: &impl Fn(Row, &mut C),
) -> C {
    let mut counts = C::default();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(blocks) = next else {
            return counts;
        };
        let mut batch = Batch {
            blocks,
            damage: None,
            done,
        };
        let taken = batch.blocks.iter().try_for_each(|block| {
            take_block(block, |row| take(row, &mut counts)).map_err(|damage| (block.at(), damage))
        });
        batch.damage = taken.err();
    }
}

fn take_block(block: &Block, mut take: impl FnMut(Row)) -> Result<(), Damage> {
    for row in block.rows()? {
        take(row?);
    }
    Ok(())
}

/// What a worker has in hand. It goes back however the work ends: the foreman waits for it.
struct Batch<'a> {
    blocks: Vec<Block>,
    damage: Option<(u64, Damage)>,
    done: &'a Sender<Returned>,
}

/// A batch that was worked off, and what was wrong with it.
type Returned = (Vec<Block>, Option<(u64, Damage)>);

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let returned = (std::mem::take(&mut self.blocks), self.damage.take());
        // Nobody waits for it any more when the foreman has gone.
        let _ = self.done.send(returned);
    }
}

/// Who reads and hands out.
struct Foreman {
    to_do: Sender<Vec<Block>>,
    returned: Receiver<Returned>,
    /// Batches that have not come back.
    out: usize,
    /// Most of them: what bounds the memory.
    most_out: usize,
    /// Blocks that came back, to be filled again.
    spare: Vec<Block>,
    /// The first in the file that was found so far.
    damage: Option<(u64, Damage)>,
    /// All workers have panicked, which is told when they are joined.
    is_alone: bool,
}

impl Foreman {
    fn read(
        mut self,
        mut reader: Reader<impl Read>,
        progress: &mut Progress,
    ) -> Result<(), Damage> {
        let read = self.hand_out(&mut reader, progress);
        self.await_all();
        // What was found in a block lies before what could not be read.
        match self.damage {
            Some((_, damage)) => Err(damage),
            None => read,
        }
    }

    fn hand_out(
        &mut self,
        reader: &mut Reader<impl Read>,
        progress: &mut Progress,
    ) -> Result<(), Damage> {
        let mut batch = Vec::new();
        let mut kind = None;
        let mut length = 0;
        let mut block = Block::default();
        while self.damage.is_none() && !self.is_alone && reader.next_block(&mut block)? {
            if kind != Some(block.kind()) {
                self.send(&mut batch);
                self.await_all();
                kind = Some(block.kind());
                length = 0;
            }
            length += block.len();
            progress.is_at(block.at());
            batch.push(std::mem::replace(
                &mut block,
                self.spare.pop().unwrap_or_default(),
            ));
            if length >= BATCH {
                self.send(&mut batch);
                length = 0;
            }
        }
        self.send(&mut batch);
        Ok(())
    }

    fn send(&mut self, batch: &mut Vec<Block>) {
        if batch.is_empty() {
            return;
        }
        while self.out >= self.most_out {
            self.await_one();
        }
        if self.to_do.send(std::mem::take(batch)).is_ok() {
            self.out += 1;
        }
    }

    fn await_all(&mut self) {
        while self.out > 0 {
            self.await_one();
        }
    }

    fn await_one(&mut self) {
        let Ok((mut blocks, damage)) = self.returned.recv() else {
            self.is_alone = true;
            self.out = 0;
            return;
        };
        self.out -= 1;
        self.spare.append(&mut blocks);
        if let Some(found) = damage
            && self.damage.as_ref().is_none_or(|first| found.0 < first.0)
        {
            self.damage = Some(found);
        }
    }
}

/// Tells how far a load is that takes long.
struct Progress {
    bytes: u64,
    told: Stopwatch,
}

impl Progress {
    fn of(bytes: u64) -> Self {
        Self {
            bytes,
            told: Stopwatch::start(),
        }
    }

    fn is_at(&mut self, at: u64) {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Stopwatch::start();
            let percent = at.saturating_mul(100) / self.bytes.max(1);
            tracing::info!(percent, bytes = self.bytes, "restoring");
        }
    }
}

/// More share one memory bus, and wait for it.
const MOST_THREADS: usize = 8;
/// Bytes of blocks in a batch, and no more than one block beyond: of a large table half of an aisle.
const BATCH: u64 = 2 << 20;
const TELL_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{History, Record, Timestamp, TrustKey, TrustRecord, TupleKey};
    use crate::store::codec::{Header, Writer};

    const ROWS: u32 = 200_000;

    /// A snapshot of so many tuples behind as many records of trust.
    fn written() -> Vec<u8> {
        let at = Timestamp::from_millis(1);
        let header = Header {
            seed: [7; 16],
            taken: at,
            history: History { begun: at },
            journal: 0,
        };
        let mut writer = Writer::begin(Vec::new(), &header).expect("memory is writable");
        let trust = TrustRecord {
            counted: at,
            last_used: at,
            passes: 1,
            life: 1,
            by_content: false,
        };
        let key = |number: u32| u128::from(number).to_le_bytes();
        let trust = (0..ROWS).map(|it| Row::Trust(TrustKey::from_bytes(key(it)), trust));
        let tuples =
            (0..ROWS).map(|it| Row::Tuple(TupleKey::from_bytes(key(it)), Record::begun(1, at)));
        for row in trust.chain(tuples) {
            writer.push(&row).expect("memory is writable");
        }
        writer.end().expect("memory is writable").0
    }

    fn load_bytes<C: Default + Send>(
        threads: usize,
        bytes: &[u8],
        take: impl Fn(Row, &mut C) + Sync,
    ) -> Result<Vec<C>, Damage> {
        let reader = Reader::begin(bytes).expect("it has a header");
        load_with(threads, reader, bytes.len() as u64, take)
    }

    #[test]
    fn every_row_is_taken_once_by_however_many_threads() {
        let bytes = written();
        for threads in [1, 2, 5] {
            let seen = Mutex::new(vec![0_u8; ROWS as usize]);
            let counts = load_bytes(threads, &bytes, |row, count: &mut u32| {
                *count += 1;
                if let Row::Tuple(key, _) = row {
                    let number = u128::from_le_bytes(key.to_bytes());
                    let number = usize::try_from(number).expect("a small number");
                    seen.lock().expect("nobody panicked")[number] += 1;
                }
            })
            .expect("it is whole");
            assert_eq!(counts.len(), threads);
            assert_eq!(counts.iter().sum::<u32>(), 2 * ROWS);
            let seen = seen.into_inner().expect("nobody panicked");
            assert!(seen.iter().all(|times| *times == 1));
        }
    }

    #[test]
    fn rows_of_one_kind_are_all_in_before_those_of_the_next() {
        let trusted = std::sync::atomic::AtomicU32::new(0);
        load_bytes(4, &written(), |row, (): &mut ()| {
            use std::sync::atomic::Ordering::SeqCst;
            match row {
                Row::Trust(..) => {
                    trusted.fetch_add(1, SeqCst);
                }
                _ => assert_eq!(trusted.load(SeqCst), ROWS),
            }
        })
        .expect("it is whole");
    }

    #[test]
    fn first_damage_in_the_file_is_told() {
        let mut bytes = written();
        let all = bytes.len();
        // A third and two thirds in, and the end is missing.
        let first = all / 3;
        bytes[first] ^= 1;
        bytes[2 * first] ^= 1;
        bytes.truncate(all - 1);
        let damage = load_bytes(3, &bytes, |_, (): &mut ()| {}).expect_err("it is damaged");
        let Damage::Checksum { at } = damage else {
            panic!("the checksum is wrong: {damage}");
        };
        let at = usize::try_from(at).expect("a small number");
        assert!((first - 100_000..=first).contains(&at), "{at}, not {first}");
    }

    #[test]
    #[should_panic(expected = "told to the one who asked")]
    fn panic_of_a_worker_hangs_nobody() {
        let asked = load_bytes(2, &written(), |_, (): &mut ()| {
            panic!("told to the one who asked");
        });
        drop(asked);
    }
}
