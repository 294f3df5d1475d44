//! What the disk under the store does by itself, with as many bytes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use support::Error;

/// Seconds to write so many bytes into `directory` and have them on the disk.
pub(crate) fn write(bytes: u64, directory: &Path) -> Result<f64, Error> {
    let path = directory.join("as-many-bytes");
    let failed = || Error::io("as many bytes beside the snapshot");
    let begun = Instant::now();
    let mut file = File::create(&path).map_err(failed())?;
    // No disk has this compressed or left out.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let block: Vec<u8> = noise.take(BLOCK / 8).flatten().collect();
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.write_all(&block[..part]).map_err(failed())?;
        left -= part as u64;
    }
    file.sync_data().map_err(failed())?;
    let took = begun.elapsed();
    fs::remove_file(&path).map_err(failed())?;
    Ok(took.as_secs_f64())
}

/// Seconds to read `file` from the disk.
pub(crate) fn read(path: &Path) -> Result<f64, Error> {
    forget(path)?;
    let failed = || Error::io("the snapshot");
    let mut file = File::open(path).map_err(failed())?;
    let mut block = vec![0; BLOCK];
    let begun = Instant::now();
    while file.read(&mut block).map_err(failed())? > 0 {}
    Ok(begun.elapsed().as_secs_f64())
}

/// Has the page cache let go of `file`.
pub(crate) fn forget(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("the snapshot"))?;
    // What is not on the disk yet stays.
    file.sync_all().map_err(Error::io("the snapshot"))?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|errno| Error::unexpected("the page cache lets go", errno))
}

const BLOCK: usize = 1 << 20;
