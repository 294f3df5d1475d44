//! What strace says of the daemon's system calls, line by line.
//!
//! Knows the form of `strace -f -y -xx -ttt -T`: a call that another thread interrupts is said in two
//! lines, which become one here. Leaves what the calls mean for the disk to [`super::disk`].

use std::collections::HashMap;

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A call has returned.
    Done(Call),
    /// A sync has begun, and others go on while it lasts.
    SyncBegun {
        /// The thread that waits for it.
        thread: u32,
        /// What is synced.
        file: Descriptor,
    },
    /// A process or thread has ended.
    Ended(u32),
}

/// A call that has returned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The thread that called.
    pub(crate) thread: u32,
    /// When it was called, in seconds since the epoch.
    pub(crate) begun: f64,
    /// When it had returned.
    pub(crate) ended: f64,
    /// What it did.
    pub(crate) deed: Deed,
}

/// What a call did. Calls that failed do nothing, and are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The descriptor is free again.
    Close(Descriptor),
    /// A file got one more name.
    Link(String, String),
    /// A file was opened.
    Open {
        /// Its path, as it was given.
        path: String,
        /// Whether it was made where it was missing.
        creates: bool,
        /// Whether what it held was dropped.
        truncates: bool,
        /// Whether each write goes to its end.
        appends: bool,
        /// Under which number.
        fd: i32,
    },
    /// A name was taken away.
    Remove(String),
    /// A name became another.
    Rename(String, String),
    /// The offset of a descriptor is now this.
    Seek(Descriptor, u64),
    /// A file was made so long.
    Resize(Descriptor, u64),
    /// What had been written is on the disk.
    Sync(Descriptor),
    /// Bytes were written, at the descriptor's offset or at this one.
    Write(Descriptor, Option<u64>, Vec<u8>),
}

/// An open file, as strace shows it: its number, and the path it had at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) fd: i32,
    pub(crate) path: String,
}

/// Joins the halves of interrupted calls.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    unfinished: HashMap<u32, (f64, String)>,
}

impl Parser {
    /// What one line says, if it is of concern.
    pub(crate) fn line(&mut self, line: &str) -> Option<Seen> {
        let (thread, rest) = line.split_once(' ')?;
        let thread = thread.parse().ok()?;
        let (time, rest) = rest.trim_start().split_once(' ')?;
        let time: f64 = time.parse().ok()?;
        if rest.starts_with("+++ ") {
            self.unfinished.remove(&thread);
            return Some(Seen::Ended(thread));
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            self.unfinished.insert(thread, (time, begun.to_owned()));
            let file = sync_of(begun)?;
            return Some(Seen::SyncBegun { thread, file });
        }
        let (begun, text, lasted) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, tail) = resumed.split_once(" resumed>")?;
                let (begun, head) = self.unfinished.remove(&thread)?;
                let lasted = time - begun;
                (begun, head + tail, lasted)
            }
            None => (time, rest.to_owned(), 0.0),
        };
        let (text, result, took) = result_of(&text)?;
        let deed = deed_of(text, result)?;
        let ended = begun + took.max(lasted);
        Some(Seen::Done(Call {
            thread,
            begun,
            ended,
            deed,
        }))
    }
}

/// `name(arguments) = result <seconds>`: the call, what it returned, and how long it took. A call that
/// failed has no result.
fn result_of(text: &str) -> Option<(&str, i64, f64)> {
    let (text, took) = text.trim_end().strip_suffix('>')?.rsplit_once(" <")?;
    let took = took.parse().ok()?;
    let (call, result) = text.rsplit_once(" = ")?;
    let digits = result.split(['<', ' ']).next()?;
    let result = digits.parse().ok().filter(|it| *it >= 0)?;
    Some((call.trim_end(), result, took))
}

fn deed_of(call: &str, result: i64) -> Option<Deed> {
    let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
    let arguments: Vec<&str> = arguments.split(", ").collect();
    let at = |index: usize| arguments.get(index).copied();
    Some(match name {
        "openat" => {
            let flags = at(2)?;
            Deed::Open {
                path: quoted(at(1)?)?,
                creates: flags.contains("O_CREAT"),
                truncates: flags.contains("O_TRUNC"),
                appends: flags.contains("O_APPEND"),
                fd: i32::try_from(result).ok()?,
            }
        }
        "close" => Deed::Close(descriptor(at(0)?)?),
        "fsync" | "fdatasync" => Deed::Sync(descriptor(at(0)?)?),
        "ftruncate" => Deed::Resize(descriptor(at(0)?)?, at(1)?.parse().ok()?),
        "lseek" => Deed::Seek(descriptor(at(0)?)?, u64::try_from(result).ok()?),
        "write" | "pwrite64" => {
            let mut bytes = unescaped(at(1)?)?;
            // On a full disk fewer are written than were given.
            bytes.truncate(usize::try_from(result).ok()?);
            let offset = match name {
                "write" => None,
                _ => Some(at(3)?.parse().ok()?),
            };
            Deed::Write(descriptor(at(0)?)?, offset, bytes)
        }
        "link" => Deed::Link(quoted(at(0)?)?, quoted(at(1)?)?),
        "linkat" => Deed::Link(quoted(at(1)?)?, quoted(at(3)?)?),
        "rename" => Deed::Rename(quoted(at(0)?)?, quoted(at(1)?)?),
        "renameat" | "renameat2" => Deed::Rename(quoted(at(1)?)?, quoted(at(3)?)?),
        "unlink" => Deed::Remove(quoted(at(0)?)?),
        "unlinkat" => Deed::Remove(quoted(at(1)?)?),
        _ => return None,
    })
}

fn sync_of(call: &str) -> Option<Descriptor> {
    let rest = call
        .strip_prefix("fsync(")
        .or_else(|| call.strip_prefix("fdatasync("))?;
    descriptor(rest.trim_end_matches(')'))
}

/// `7</path>`, the path in escapes.
fn descriptor(text: &str) -> Option<Descriptor> {
    let (fd, path) = text.trim().strip_suffix('>')?.split_once('<')?;
    let path = String::from_utf8(unescaped_text(path)?).ok()?;
    let fd = fd.parse().ok()?;
    Some(Descriptor { fd, path })
}

fn quoted(text: &str) -> Option<String> {
    String::from_utf8(unescaped(text)?).ok()
}

/// `"\x00\xff"`. What strace has cut short ends in dots, and is refused: the bytes would be wrong.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    unescaped_text(text.trim().strip_prefix('"')?.strip_suffix('"')?)
}

fn unescaped_text(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if let (b'\\', [b'x', high, low, after @ ..]) = (first, tail) {
            let digits = [*high, *low];
            let digits = str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(line: &str) -> Option<Deed> {
        match Parser::default().line(line)? {
            Seen::Done(call) => Some(call.deed),
            other => panic!("{other:?}"),
        }
    }

    fn seven() -> Descriptor {
        Descriptor {
            fd: 7,
            path: "/s/j".to_owned(),
        }
    }

    #[test]
    fn reads_a_write_with_every_byte() {
        let line = r#"18 1795344078.5 write(7<\x2f\x73\x2f\x6a>, "\x00\x2c\x20\x22\xff", 5) = 5 <0.000017>"#;
        let bytes = vec![0, b',', b' ', b'"', 0xff];
        assert_eq!(deed(line), Some(Deed::Write(seven(), None, bytes)));
    }

    #[test]
    fn write_that_the_disk_had_no_room_for_is_as_long_as_was_written() {
        let line = r#"18 1.5 write(7<\x2f\x73\x2f\x6a>, "\x61\x62\x63", 3) = 2 <0.1>"#;
        assert_eq!(deed(line), Some(Deed::Write(seven(), None, b"ab".to_vec())));
        let line = r#"18 1.5 write(7<\x2f\x73\x2f\x6a>, "\x61", 1) = -1 ENOSPC (No space left on device) <0.1>"#;
        assert_eq!(deed(line), None);
    }

    #[test]
    fn reads_what_is_opened_and_how() {
        let line = r#"18 1.5 openat(AT_FDCWD<\x2f>, "\x2f\x73\x2f\x6a", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 7<\x2f\x73\x2f\x6a> <0.1>"#;
        let opened = Deed::Open {
            path: "/s/j".to_owned(),
            creates: true,
            truncates: false,
            appends: false,
            fd: 7,
        };
        assert_eq!(deed(line), Some(opened));
    }

    #[test]
    fn reads_names_that_change() {
        let renamed = Deed::Rename("/s/a".to_owned(), "/s/b".to_owned());
        let line = r#"18 1.5 rename("\x2f\x73\x2f\x61", "\x2f\x73\x2f\x62") = 0 <0.1>"#;
        assert_eq!(deed(line), Some(renamed.clone()));
        let line = r#"18 1.5 renameat2(AT_FDCWD<\x2f>, "\x2f\x73\x2f\x61", AT_FDCWD<\x2f>, "\x2f\x73\x2f\x62", 0) = 0 <0.1>"#;
        assert_eq!(deed(line), Some(renamed));
        let line = r#"18 1.5 linkat(AT_FDCWD<\x2f>, "\x2f\x73\x2f\x61", AT_FDCWD<\x2f>, "\x2f\x73\x2f\x62", 0) = 0 <0.1>"#;
        let linked = Deed::Link("/s/a".to_owned(), "/s/b".to_owned());
        assert_eq!(deed(line), Some(linked));
        let line = r#"18 1.5 unlink("\x2f\x73\x2f\x61") = 0 <0.1>"#;
        assert_eq!(deed(line), Some(Deed::Remove("/s/a".to_owned())));
    }

    #[test]
    fn joins_a_sync_that_others_interrupted() {
        let mut parser = Parser::default();
        let begun = parser.line(r"18 1.5 fdatasync(7<\x2f\x73\x2f\x6a> <unfinished ...>");
        let file = seven();
        assert_eq!(begun, Some(Seen::SyncBegun { thread: 18, file }));
        let done = parser.line("18 1.75 <... fdatasync resumed>) = 0 <0.26>");
        let call = Call {
            thread: 18,
            begun: 1.5,
            ended: 1.76,
            deed: Deed::Sync(seven()),
        };
        assert_eq!(done, Some(Seen::Done(call)));
    }

    #[test]
    fn killed_thread_takes_its_unfinished_call_along() {
        let mut parser = Parser::default();
        parser.line(r"18 1.5 fsync(7<\x2f\x73\x2f\x6a> <unfinished ...>");
        let ended = parser.line("18 1.6 +++ killed by SIGKILL +++");
        assert_eq!(ended, Some(Seen::Ended(18)));
        assert_eq!(parser.line("18 1.7 <... fsync resumed>) = 0 <0.1>"), None);
    }

    #[test]
    fn other_calls_and_other_lines_say_nothing() {
        for line in [
            "",
            "strace: detached",
            "18 1.5 --- SIGHUP {si_code=SI_USER} ---",
        ] {
            assert_eq!(Parser::default().line(line), None, "{line}");
        }
    }
}
