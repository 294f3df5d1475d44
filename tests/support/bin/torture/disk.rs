//! A model of one directory on a disk: what is there, and what of it would survive a power cut.
//!
//! Fed with the daemon's system calls. A byte is durable once a sync of its file that began after it
//! was written has returned; a name, once the same is true of the directory. What is in between may be
//! there after a cut or not: [`super::cut`] decides that.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use super::trace::{Call, Deed, Descriptor, Seen};

/// The files of a directory by their names.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

/// A directory, as the calls have left it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    names: BTreeMap<String, Id>,
    durable_names: BTreeMap<String, Id>,
    name_changes: Vec<NameChange>,
    files: HashMap<Id, File>,
    open: HashMap<i32, Open>,
    syncs: HashMap<u32, usize>,
    next: Id,
    pace: Pace,
    /// Whether its pace is that of a disk with room.
    has_room: bool,
    /// The end of the latest sync of a journal.
    synced: Option<f64>,
}

type Id = usize;

/// One file, whatever its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// What is read from it.
    pub(crate) content: Vec<u8>,
    /// What it held at its last sync.
    pub(crate) durable: Vec<u8>,
    /// What has been done to it since.
    pub(crate) changes: Vec<Change>,
}

/// What was done to a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// It was made so long.
    Resize(usize),
    /// Bytes were written at this offset, by a call of this time.
    Write(usize, Vec<u8>, f64),
}

/// What was done to the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameChange {
    /// A file got a name, its first or one more.
    Make(String, Id),
    /// A name went.
    Remove(String),
    /// A name became another, whose file went.
    Rename(String, String),
}

/// How soon what was written was synced, and how often. Seconds are those of journals, while the disk
/// has room.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    /// Syncs of files with something to sync.
    pub(crate) syncs: u64,
    /// The longest from a write to the end of the sync that covered it.
    pub(crate) longest: f64,
    /// The longest from the end of a sync to the end of the next.
    pub(crate) gap: f64,
    /// Syncs of the directory that had names to keep.
    pub(crate) name_syncs: u64,
}

impl Pace {
    /// Both together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            syncs: self.syncs + other.syncs,
            longest: self.longest.max(other.longest),
            gap: self.gap.max(other.gap),
            name_syncs: self.name_syncs + other.name_syncs,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    of: Target,
    offset: usize,
    appends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Directory,
    File(Id),
}

impl Disk {
    /// A directory with these files, all of it durable.
    pub(crate) fn of(directory: &Path, contents: Contents) -> Self {
        let mut disk = Self {
            directory: directory.to_owned(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: HashMap::new(),
            open: HashMap::new(),
            syncs: HashMap::new(),
            next: 0,
            pace: Pace::default(),
            has_room: true,
            synced: None,
        };
        for (name, content) in contents {
            let file = File {
                durable: content.clone(),
                content,
                changes: Vec::new(),
            };
            let id = disk.add(file);
            disk.names.insert(name, id);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    /// What the directory holds now.
    pub(crate) fn read(directory: &Path) -> io::Result<Contents> {
        let mut contents = Contents::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                contents.insert(name, fs::read(entry.path())?);
            }
        }
        Ok(contents)
    }

    /// Takes note of what was seen.
    pub(crate) fn hear(&mut self, seen: &Seen) {
        match seen {
            Seen::Done(call) => self.hear_call(call),
            Seen::SyncBegun { thread, file } => {
                let covered = match self.target(file) {
                    Some(Target::Directory) => self.name_changes.len(),
                    Some(Target::File(id)) => self.files[&id].changes.len(),
                    None => return,
                };
                self.syncs.insert(*thread, covered);
            }
            Seen::Ended(thread) => drop(self.syncs.remove(thread)),
        }
    }

    /// The process is gone, and with it its descriptors.
    pub(crate) fn process_ended(&mut self) {
        self.open.clear();
        self.syncs.clear();
        self.synced = None;
    }

    /// From now on it is full, or has room and what waited is on it.
    pub(crate) fn has_room(&mut self, has_room: bool) {
        self.has_room = has_room;
        self.synced = None;
    }

    /// Compares with what is really there, after the process has ended: a call that a kill interrupted
    /// may have written more than was told. What cannot be explained so is an error.
    pub(crate) fn reconcile(&mut self, real: &Contents, killed: bool) -> Result<(), String> {
        let modelled: Vec<_> = self.names.keys().collect();
        let present: Vec<_> = real.keys().collect();
        if modelled != present {
            return Err(format!("the model has {modelled:?}, the disk {present:?}"));
        }
        for (name, id) in &self.names {
            let (file, bytes) = (self.files.entry(*id).or_default(), &real[name]);
            match bytes.strip_prefix(file.content.as_slice()) {
                Some([]) => {}
                Some(more) if killed => file.write(file.content.len(), more.to_vec(), 0.0),
                _ => {
                    let (model, disk) = (file.content.len(), bytes.len());
                    return Err(format!(
                        "{name} is not what was written: {model} bytes in the model, {disk} on the disk"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The names that are durable.
    pub(crate) const fn durable_names(&self) -> &BTreeMap<String, Id> {
        &self.durable_names
    }

    /// What was done to names and is not durable.
    pub(crate) fn name_changes(&self) -> &[NameChange] {
        &self.name_changes
    }

    /// A file that has a name, or has had one.
    pub(crate) fn file(&self, id: Id) -> Option<&File> {
        self.files.get(&id)
    }

    /// How soon what was written was synced so far.
    pub(crate) const fn pace(&self) -> Pace {
        self.pace
    }

    fn hear_call(&mut self, call: &Call) {
        match &call.deed {
            Deed::Close(file) => drop(self.open.remove(&file.fd)),
            Deed::Link(from, to) => {
                if let (Some(from), Some(to)) = (self.name_of(from), self.name_of(to))
                    && let Some(id) = self.names.get(&from).copied()
                {
                    self.names.insert(to.clone(), id);
                    self.name_changes.push(NameChange::Make(to, id));
                }
            }
            Deed::Open {
                path,
                creates,
                truncates,
                appends,
                fd,
            } => self.hear_open(path, *creates, *truncates, *appends, *fd),
            Deed::Remove(path) => {
                if let Some(name) = self.name_of(path)
                    && self.names.remove(&name).is_some()
                {
                    self.name_changes.push(NameChange::Remove(name));
                }
            }
            Deed::Rename(from, to) => {
                if let (Some(from), Some(to)) = (self.name_of(from), self.name_of(to))
                    && let Some(id) = self.names.remove(&from)
                {
                    self.names.insert(to.clone(), id);
                    self.name_changes.push(NameChange::Rename(from, to));
                }
            }
            Deed::Resize(file, length) => {
                if let Some(Target::File(id)) = self.target(file) {
                    let length = usize::try_from(*length).unwrap_or(0);
                    let file = self.files.entry(id).or_default();
                    file.content.resize(length, 0);
                    file.changes.push(Change::Resize(length));
                }
            }
            Deed::Seek(file, offset) => {
                if let Some(open) = self.open.get_mut(&file.fd) {
                    open.offset = usize::try_from(*offset).unwrap_or(0);
                }
            }
            Deed::Sync(file) => self.hear_sync(call.thread, file, call.ended),
            Deed::Write(file, offset, bytes) => {
                self.hear_write(file, *offset, bytes.clone(), call.begun);
            }
        }
    }

    fn hear_open(&mut self, path: &str, creates: bool, truncates: bool, appends: bool, fd: i32) {
        self.open.remove(&fd);
        if Path::new(path) == self.directory {
            let of = Target::Directory;
            let offset = 0;
            self.open.insert(
                fd,
                Open {
                    of,
                    offset,
                    appends,
                },
            );
            return;
        }
        let Some(name) = self.name_of(path) else {
            return;
        };
        let id = match self.names.get(&name) {
            Some(id) => *id,
            None if creates => {
                let id = self.add(File::default());
                self.names.insert(name.clone(), id);
                self.name_changes.push(NameChange::Make(name, id));
                id
            }
            None => return,
        };
        if truncates {
            let file = self.files.entry(id).or_default();
            file.content.clear();
            file.changes.push(Change::Resize(0));
        }
        let of = Target::File(id);
        let offset = 0;
        self.open.insert(
            fd,
            Open {
                of,
                offset,
                appends,
            },
        );
    }

    fn hear_write(&mut self, file: &Descriptor, at: Option<u64>, bytes: Vec<u8>, begun: f64) {
        let Some(Target::File(id)) = self.target(file) else {
            return;
        };
        let length = self.files[&id].content.len();
        let open = self.open.get_mut(&file.fd);
        let offset = match (&open, at) {
            (_, Some(at)) => usize::try_from(at).unwrap_or(0),
            (Some(open), None) if !open.appends => open.offset,
            _ => length,
        };
        if let (Some(open), None) = (open, at) {
            open.offset = offset + bytes.len();
        }
        let file = self.files.entry(id).or_default();
        file.write(offset, bytes, begun);
    }

    fn hear_sync(&mut self, thread: u32, file: &Descriptor, ended: f64) {
        let begun_at = self.syncs.remove(&thread);
        let name = self.name_of(&file.path);
        let is_journal = name.is_some_and(|name| name.starts_with("journal-"));
        match self.target(file) {
            Some(Target::Directory) => {
                let covered = begun_at.unwrap_or(self.name_changes.len());
                let covered = covered.min(self.name_changes.len());
                self.pace.name_syncs += u64::from(covered > 0);
                for change in self.name_changes.drain(..covered) {
                    change.apply(&mut self.durable_names);
                }
            }
            Some(Target::File(id)) => {
                let file = self.files.entry(id).or_default();
                let covered = begun_at.unwrap_or(file.changes.len());
                let covered = covered.min(file.changes.len());
                self.pace.syncs += u64::from(covered > 0);
                let is_paced = is_journal && self.has_room;
                for change in file.changes.drain(..covered) {
                    if let Change::Write(_, _, begun) = change
                        && begun > 0.0
                        && is_paced
                    {
                        self.pace.longest = self.pace.longest.max(ended - begun);
                    }
                    change.apply(&mut file.durable);
                }
                if is_paced && covered > 0 {
                    let gap = self.synced.map_or(0.0, |synced| ended - synced);
                    self.pace.gap = self.pace.gap.max(gap);
                    self.synced = Some(ended);
                }
            }
            None => {}
        }
    }

    /// What a descriptor is of: as it was opened, or by its path where that was not seen.
    fn target(&self, file: &Descriptor) -> Option<Target> {
        if let Some(open) = self.open.get(&file.fd) {
            return Some(open.of);
        }
        if Path::new(&file.path) == self.directory {
            return Some(Target::Directory);
        }
        let name = self.name_of(&file.path)?;
        self.names.get(&name).map(|id| Target::File(*id))
    }

    fn name_of(&self, path: &str) -> Option<String> {
        let name = Path::new(path)
            .strip_prefix(&self.directory)
            .ok()?
            .to_str()?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    }

    fn add(&mut self, file: File) -> Id {
        let id = self.next;
        self.next += 1;
        self.files.insert(id, file);
        id
    }
}

impl File {
    fn write(&mut self, offset: usize, bytes: Vec<u8>, begun: f64) {
        let change = Change::Write(offset, bytes, begun);
        change.apply(&mut self.content);
        self.changes.push(change);
    }
}

impl Change {
    /// Does it to a content.
    pub(crate) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(length) => content.resize(*length, 0),
            Self::Write(offset, bytes, _) => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl NameChange {
    /// Does it to a directory.
    pub(crate) fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Make(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Parser;
    use super::*;

    fn disk(lines: &[&str]) -> Disk {
        let mut disk = Disk::of(Path::new("/s"), Contents::new());
        let mut parser = Parser::default();
        for line in lines {
            // As strace writes them; plain letters stand for themselves.
            if let Some(seen) = parser.line(&format!("1 {line}")) {
                disk.hear(&seen);
            }
        }
        disk
    }

    fn present(disk: &Disk) -> Contents {
        let files = disk.names.iter();
        let found = files.map(|(name, id)| (name.clone(), disk.files[id].content.clone()));
        found.collect()
    }

    fn durable(disk: &Disk) -> Contents {
        let found =
            |(name, id): (&String, &Id)| Some((name.clone(), disk.file(*id)?.durable.clone()));
        disk.durable_names().iter().filter_map(found).collect()
    }

    fn contents(files: &[(&str, &str)]) -> Contents {
        let files = files.iter();
        files
            .map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec()))
            .collect()
    }

    const MADE: &str =
        r#"1.0 openat(AT_FDCWD</>, "/s/new", O_WRONLY|O_CREAT|O_EXCL, 0600) = 7</s/new> <0.1>"#;
    const WRITTEN: &str = r#"1.1 write(7</s/new>, "abc", 3) = 3 <0.1>"#;
    const SYNCED: &str = "1.2 fsync(7</s/new>) = 0 <0.5>";
    const RENAMED: &str = r#"1.8 rename("/s/new", "/s/latest") = 0 <0.1>"#;
    const DIRECTORY: &str = r#"1.9 openat(AT_FDCWD</>, "/s", O_RDONLY) = 8</s> <0.1>"#;
    const NAMES_SYNCED: &str = "2.0 fsync(8</s>) = 0 <0.1>";

    #[test]
    fn what_was_synced_with_its_name_is_durable() {
        let disk = disk(&[MADE, WRITTEN, SYNCED, RENAMED, DIRECTORY, NAMES_SYNCED]);
        assert_eq!(durable(&disk), contents(&[("latest", "abc")]));
        assert_eq!(present(&disk), contents(&[("latest", "abc")]));
        assert_eq!((disk.pace().syncs, disk.pace().name_syncs), (1, 1));
    }

    #[test]
    fn pace_is_that_of_journals_on_a_disk_with_room() {
        let lines = [
            r#"1.0 openat(AT_FDCWD</>, "/s/journal-1", O_WRONLY|O_CREAT, 0600) = 7</s/journal-1> <0.1>"#,
            r#"1.1 write(7</s/journal-1>, "abc", 3) = 3 <0.1>"#,
            "1.2 fdatasync(7</s/journal-1>) = 0 <0.5>",
            r#"2.2 write(7</s/journal-1>, "abc", 3) = 3 <0.1>"#,
            "2.3 fdatasync(7</s/journal-1>) = 0 <0.2>",
        ];
        let is = |seconds: f64, wanted: f64| (seconds - wanted).abs() < 1e-9;
        let mut disk = disk(&lines);
        let pace = disk.pace();
        assert!(is(pace.longest, 0.6) && is(pace.gap, 0.8), "{pace:?}");
        let mut parser = Parser::default();
        let mut hear = |disk: &mut Disk, line: &str| {
            disk.hear(&parser.line(line).expect("a call"));
        };
        disk.has_room(false);
        hear(
            &mut disk,
            r#"1 3.0 write(7</s/journal-1>, "abc", 3) = 3 <0.1>"#,
        );
        hear(&mut disk, "1 9.0 fdatasync(7</s/journal-1>) = 0 <0.2>");
        disk.has_room(true);
        hear(
            &mut disk,
            r#"1 9.5 write(7</s/journal-1>, "abc", 3) = 3 <0.1>"#,
        );
        hear(&mut disk, "1 9.6 fdatasync(7</s/journal-1>) = 0 <0.2>");
        let pace = disk.pace();
        assert!(is(pace.longest, 0.6) && is(pace.gap, 0.8), "{pace:?}");
    }

    #[test]
    fn name_is_not_durable_before_its_directory() {
        let disk = disk(&[MADE, WRITTEN, SYNCED, RENAMED]);
        assert_eq!(durable(&disk), Contents::new());
        let changes = disk.name_changes();
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(present(&disk), contents(&[("latest", "abc")]));
    }

    #[test]
    fn what_was_written_after_a_sync_began_is_not_covered() {
        let during = r#"1.3 write(7</s/new>, "def", 3) = 3 <0.1>"#;
        let disk = disk(&[
            MADE,
            DIRECTORY,
            NAMES_SYNCED,
            WRITTEN,
            "1.2 fsync(7</s/new> <unfinished ...>",
            during,
            "1.4 <... fsync resumed>) = 0 <0.2>",
        ]);
        assert_eq!(durable(&disk), contents(&[("new", "abc")]));
        assert_eq!(present(&disk), contents(&[("new", "abcdef")]));
    }

    #[test]
    fn file_that_is_truncated_may_still_hold_what_it_held() {
        let mut disk = Disk::of(Path::new("/s"), contents(&[("new", "old bytes")]));
        let line =
            r#"1 1.0 openat(AT_FDCWD</>, "/s/new", O_WRONLY|O_TRUNC, 0600) = 7</s/new> <0.1>"#;
        disk.hear(&Parser::default().line(line).expect("an open"));
        assert_eq!(present(&disk), contents(&[("new", "")]));
        assert_eq!(durable(&disk), contents(&[("new", "old bytes")]));
    }

    #[test]
    fn other_directories_are_of_no_concern() {
        let disk = disk(&[
            r#"1.0 openat(AT_FDCWD</>, "/t/new", O_WRONLY|O_CREAT, 0600) = 7</t/new> <0.1>"#,
            r#"1.1 write(7</t/new>, "abc", 3) = 3 <0.1>"#,
            r#"1.1 write(2</log>, "abc", 3) = 3 <0.1>"#,
        ]);
        assert_eq!(present(&disk), Contents::new());
    }

    #[test]
    fn kill_in_the_middle_of_a_write_is_explained_and_nothing_else() {
        let mut disk = disk(&[MADE, WRITTEN]);
        let more = contents(&[("new", "abcd")]);
        assert!(disk.reconcile(&more, false).is_err());
        assert_eq!(disk.reconcile(&more, true), Ok(()));
        assert_eq!(present(&disk), contents(&[("new", "abcd")]));
        assert!(disk.reconcile(&contents(&[("new", "xbcd")]), true).is_err());
        assert!(
            disk.reconcile(&contents(&[("other", "abcd")]), true)
                .is_err()
        );
    }
}
