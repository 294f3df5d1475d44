//! `greygate export`: a snapshot as JSON lines.
//!
//! A running daemon is asked for one thing only, a snapshot, which it writes without holding up mail;
//! the file is read here, by a user who may. So no answer on the control socket has to hold a store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::failure::Failure;
use super::paper::number;
use super::progress;
use crate::admin::{self, Answer, CallError, Request};
use crate::config;
use crate::store::codec::{Damage, Reader};
use crate::store::latest_snapshot;
use crate::transfer::{End, Header, Item, Kind};

/// Where a snapshot is to be had.
pub(super) enum Place<'p> {
    /// This file.
    File(&'p Path),
    /// The daemon at this socket writes one; without it, the store that the configuration names has
    /// one.
    Daemon {
        socket: &'p Path,
        configuration: &'p Path,
    },
}

/// Writes the records of `kinds`, or all, to `to`.
pub(super) fn run(place: &Place<'_>, kinds: &[Kind], to: impl Write) -> Result<(), Failure> {
    let snapshot = match place {
        Place::File(file) => (*file).to_owned(),
        Place::Daemon {
            socket,
            configuration,
        } => asked_for(socket, configuration)?,
    };
    let unreadable = |source| ExportError::Unreadable {
        path: snapshot.clone(),
        source,
    };
    let damaged = |damage| ExportError::Damaged {
        path: snapshot.clone(),
        damage,
    };
    let file = File::open(&snapshot).map_err(|it| Failure::of(unreadable(it)))?;
    let length = file.metadata().map_or(0, |it| it.len());
    let bar = progress::bytes(length);
    let reader = BufReader::with_capacity(BUFFER, bar.wrap_read(file));
    let reader = Reader::begin(reader).map_err(|it| Failure::of(damaged(it)))?;

    let kinds: BTreeSet<Kind> = kinds.iter().copied().collect();
    let of_snapshot = *reader.header();
    let begun = of_snapshot.history.begun.as_millis();
    let mut to = BufWriter::new(to);
    let header = Header {
        greygate: Header::EXPORT.to_owned(),
        format: Header::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken: of_snapshot.taken.as_millis(),
        history_begun: kinds.is_empty().then_some(begun),
        seed_check: Some(format!("{:032x}", u128::from_be_bytes(of_snapshot.seed))),
    };
    line(&mut to, &header)?;
    let (mut items, mut unknown) = (0, 0);
    let mut written = Ok(());
    let read = reader.for_each(|row| match Item::of(&row) {
        None => unknown += 1,
        Some(item) if kinds.is_empty() || kinds.contains(&item.kind()) => {
            if written.is_ok() {
                written = line(&mut to, &item);
                items += 1;
            }
        }
        Some(_) => {}
    });
    bar.finish_and_clear();
    written?;
    // Without its end, what was written is told from a whole export.
    read.map_err(|it| Failure::of(damaged(it)))?;
    line(&mut to, &End::after(items))?;
    to.flush()?;
    if unknown > 0 {
        let count = number(unknown);
        let _ = writeln!(
            io::stderr(),
            "greygate: {count} records that a newer greygate wrote are left out; export with that one"
        );
    }
    Ok(())
}

/// The snapshot of a daemon, or the last one of a stopped daemon.
fn asked_for(socket: &Path, configuration: &Path) -> Result<PathBuf, Failure> {
    match admin::call(socket, &Request::Snapshot) {
        Ok(Answer::Snapshot(written)) => Ok(written.file.into()),
        Ok(other) => Err(Failure::of(ExportError::Strange(format!("{other:?}")))),
        Err(CallError::NoDaemon(_)) => {
            let config = config::read_anywhere(configuration)?;
            let snapshot = latest_snapshot(&config.store.directory);
            let _ = writeln!(
                io::stderr(),
                "greygate: no daemon answers at {}; reading what one left in {}",
                socket.display(),
                snapshot.display()
            );
            Ok(snapshot)
        }
        Err(error) => Err(error.into()),
    }
}

fn line(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, what)?;
    to.write_all(b"\n")
}

/// Why there is no export.
#[derive(Debug, Error)]
enum ExportError {
    #[error("the snapshot {} is damaged, so that the export has no end; try snapshot.previous beside it with --snapshot", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        damage: Damage,
    },
    #[error("the daemon answered strangely: {0}")]
    Strange(String),
    #[error("cannot read the snapshot {}; be root or the daemon's user", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

const BUFFER: usize = 256 << 10;
