//! What a power cut leaves of a directory.
//!
//! What is durable stays. Of what was done to names since, a beginning stays, as on file systems that
//! keep metadata in order. Of what was done to a file since its last sync anything may: nothing, all, a
//! beginning that ends anywhere, with the rest of its block torn, or any of its blocks without the
//! others.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    chance::Chance,
    disk::{Change, Contents, Disk, File},
};

/// What a cut has left, and what it cost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The files.
    pub(crate) contents: Contents,
    /// Bytes that were written and not durable.
    pub(crate) undecided_bytes: usize,
    /// Changes of names that were undone.
    pub(crate) undone_names: usize,
}

/// Cuts the power at this moment.
pub(crate) fn cut(disk: &Disk, chance: &mut Chance) -> Remains {
    let mut names = disk.durable_names().clone();
    let changes = disk.name_changes();
    let kept = match chance.within(0..4) {
        0 | 1 => 0,
        2 => changes.len(),
        _ => chance.index(changes.len() + 1),
    };
    for change in &changes[..kept] {
        change.apply(&mut names);
    }
    let mut undecided_bytes = 0;
    let mut contents = Contents::new();
    for (name, id) in names {
        if let Some(file) = disk.file(id) {
            undecided_bytes += bytes_of(&file.changes);
            contents.insert(name, remains(file, chance));
        }
    }
    Remains {
        contents,
        undecided_bytes,
        undone_names: changes.len() - kept,
    }
}

/// Makes the directory hold this, and nothing else. Files keep their modes.
pub(crate) fn rebuild(directory: &Path, contents: &Contents) -> io::Result<()> {
    for (name, bytes) in contents {
        let path = directory.join(name);
        let unchanged = fs::read(&path).is_ok_and(|present| present == *bytes);
        if !unchanged {
            fs::write(&path, bytes)?;
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, private)?;
        }
    }
    for name in Disk::read(directory)?.keys() {
        if !contents.contains_key(name) {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

fn remains(file: &File, chance: &mut Chance) -> Vec<u8> {
    if file.changes.is_empty() {
        return file.durable.clone();
    }
    match chance.within(0..6) {
        0 => file.durable.clone(),
        1 => file.content.clone(),
        2 | 3 => beginning(file, chance),
        _ => some_blocks(file, chance),
    }
}

/// The changes happened in order until the power went, in the middle of one.
fn beginning(file: &File, chance: &mut Chance) -> Vec<u8> {
    let mut content = file.durable.clone();
    let last = chance.index(file.changes.len());
    for change in &file.changes[..last] {
        change.apply(&mut content);
    }
    let Change::Write(offset, bytes, begun) = &file.changes[last] else {
        return content;
    };
    let length = chance.index(bytes.len() + 1);
    Change::Write(*offset, bytes[..length].to_vec(), *begun).apply(&mut content);
    let end = offset + length;
    if content.len() == end && chance.percent(50) {
        // The file is as long as its last block, of which the rest is whatever the disk held.
        let torn = end.next_multiple_of(BLOCK) - end;
        let fills = chance.percent(50);
        content.extend((0..torn).map(|_| {
            if fills {
                u8::try_from(chance.within(0..256)).unwrap_or(0)
            } else {
                0
            }
        }));
    }
    content
}

/// The file has its length; each block that was written to is as it was or as it is.
fn some_blocks(file: &File, chance: &mut Chance) -> Vec<u8> {
    let mut touched = BTreeSet::new();
    for change in &file.changes {
        if let Change::Write(offset, bytes, _) = change {
            touched.extend(offset / BLOCK..(offset + bytes.len()).div_ceil(BLOCK));
        }
    }
    let mut content = file.content.clone();
    for block in touched {
        if chance.percent(50) {
            continue;
        }
        let begin = block * BLOCK;
        let end = (begin + BLOCK).min(content.len());
        for (index, byte) in content.iter_mut().enumerate().take(end).skip(begin) {
            *byte = file.durable.get(index).copied().unwrap_or(0);
        }
    }
    content
}

fn bytes_of(changes: &[Change]) -> usize {
    let lengths = changes.iter().map(|change| match change {
        Change::Resize(_) => 0,
        Change::Write(_, bytes, _) => bytes.len(),
    });
    lengths.sum()
}

/// What a disk writes whole or not.
const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::super::trace::{Call, Deed, Descriptor, Seen};
    use super::*;

    fn file(fd: i32) -> Descriptor {
        let path = String::new();
        Descriptor { fd, path }
    }

    fn hear(disk: &mut Disk, deed: Deed) {
        disk.hear(&Seen::Done(Call {
            thread: 1,
            begun: 1.0,
            ended: 1.0,
            deed,
        }));
    }

    fn open(disk: &mut Disk, name: &str, fd: i32, appends: bool) {
        let path = format!("/s/{name}");
        hear(
            disk,
            Deed::Open {
                path,
                creates: true,
                truncates: false,
                appends,
                fd,
            },
        );
    }

    /// A journal of which 1,000 bytes `a` are durable and 2,000 bytes `b` are not.
    fn journal() -> Disk {
        let durable = Contents::from([("journal".to_owned(), vec![b'a'; 1_000])]);
        let mut disk = Disk::of(Path::new("/s"), durable);
        open(&mut disk, "journal", 7, true);
        hear(&mut disk, Deed::Write(file(7), None, vec![b'b'; 2_000]));
        disk
    }

    #[test]
    fn what_is_durable_survives_every_cut() {
        let disk = journal();
        for seed in 0..500 {
            let left = cut(&disk, &mut Chance::new(seed));
            let content = &left.contents["journal"];
            assert!(
                content[..1_000].iter().all(|byte| *byte == b'a'),
                "seed {seed}"
            );
            assert!(content.len() <= 3_072, "seed {seed}: {}", content.len());
            assert_eq!(left.undecided_bytes, 2_000);
        }
    }

    #[test]
    fn cuts_lose_all_or_nothing_or_tear_in_the_middle() {
        let disk = journal();
        let lefts: Vec<_> = (0..500)
            .map(|seed| cut(&disk, &mut Chance::new(seed)).contents["journal"].clone())
            .collect();
        assert!(lefts.iter().any(|left| left.len() == 1_000), "all lost");
        let whole = [vec![b'a'; 1_000], vec![b'b'; 2_000]].concat();
        assert!(lefts.contains(&whole), "nothing lost");
        let cut_short = |left: &&Vec<u8>| (1_001..3_000).contains(&left.len());
        assert!(lefts.iter().any(|left| cut_short(&left)), "cut short");
        let holes = |left: &&Vec<u8>| left.len() == 3_000 && left[1_000..].contains(&0);
        assert!(lefts.iter().any(|left| holes(&left)), "a block is missing");
        let garbage = |byte: &u8| !b"ab\0".contains(byte);
        assert!(lefts.iter().any(|left| left.iter().any(garbage)), "torn");
    }

    #[test]
    fn rename_without_a_sync_of_the_directory_is_undone_or_not() {
        let old = Contents::from([("latest".to_owned(), b"old".to_vec())]);
        let mut disk = Disk::of(Path::new("/s"), old);
        open(&mut disk, "new", 7, false);
        hear(&mut disk, Deed::Write(file(7), None, b"new".to_vec()));
        hear(&mut disk, Deed::Sync(file(7)));
        hear(
            &mut disk,
            Deed::Rename("/s/latest".into(), "/s/previous".into()),
        );
        hear(&mut disk, Deed::Rename("/s/new".into(), "/s/latest".into()));
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let left = cut(&disk, &mut Chance::new(seed));
            let names: Vec<_> = left.contents.keys().cloned().collect();
            let whole = left
                .contents
                .values()
                .all(|it| it == b"old" || it == b"new");
            assert!(whole, "{:?}", left.contents);
            seen.insert(names.join(" "));
        }
        let all = ["latest", "latest new", "latest previous", "new previous"];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn rebuilt_directory_holds_what_remains_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("gone"), b"x").expect("it is writable");
        let left = Contents::from([("journal".to_owned(), b"abc".to_vec())]);
        rebuild(directory.path(), &left).expect("it is writable");
        assert_eq!(Disk::read(directory.path()).expect("it is readable"), left);
    }
}
