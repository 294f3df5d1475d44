//! Until when this host and the engine knew the same, on the disk: a start need not tell everything again.
//!
//! One line, `<life of the engine> <milliseconds>`. Whatever is wrong with it, all is told.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::policy::Timestamp;

/// Where it is kept; nowhere in memory alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Memo(Option<PathBuf>);

impl Memo {
    pub(super) fn at(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// Until when the engine that is in the life `born` was told everything; [`Timestamp::NEVER`] if that is
    /// not known.
    pub(super) fn read(&self, born: &[u8]) -> Timestamp {
        let text = self.0.as_ref().and_then(|path| fs::read(path).ok());
        let told = text.as_deref().and_then(|text| told_to(text, born));
        told.unwrap_or(Timestamp::NEVER)
    }

    /// Notes that everything until `told` was told.
    pub(super) fn write(&self, born: &[u8], told: Timestamp) -> io::Result<()> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        let new = path.with_extension("new");
        let mut line = born.to_vec();
        line.extend_from_slice(format!(" {}\n", told.as_millis()).as_bytes());
        fs::write(&new, line)?;
        // Torn or lost, it only has more told than need be.
        fs::rename(&new, path)
    }
}

fn told_to(text: &[u8], born: &[u8]) -> Option<Timestamp> {
    let rest = text.strip_prefix(born)?.strip_prefix(b" ")?;
    let millis = std::str::from_utf8(rest).ok()?.strip_suffix('\n')?;
    millis.parse().ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_until_when_this_life_of_the_engine_was_told_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let memo = Memo::at(Some(directory.path().join("cluster")));
        assert_eq!(memo.read(b"one"), Timestamp::NEVER, "there is none");
        let at = Timestamp::from_millis(17);
        memo.write(b"one", at).expect("the directory is ours");
        assert_eq!(memo.read(b"one"), at);
        assert_eq!(memo.read(b"another"), Timestamp::NEVER, "it was emptied");
        for damaged in ["", "one", "one 17", "one x\n", "one \n", "\u{0}\n"] {
            fs::write(directory.path().join("cluster"), damaged).expect("ours");
            assert_eq!(memo.read(b"one"), Timestamp::NEVER, "{damaged:?}");
        }
        assert_eq!(Memo::default().read(b"one"), Timestamp::NEVER);
        Memo::default()
            .write(b"one", at)
            .expect("nothing is written");
    }
}
