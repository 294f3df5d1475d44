//! What opening the store found on disk, for the log and the operator.

use std::time::Duration;

use super::journal::Replayed;
use super::snapshot::SetAside;

/// What was found on disk when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Tuples restored.
    pub tuples: u64,
    /// Records of trust restored.
    pub trusted: u64,
    /// Sentences restored.
    pub sentences: u64,
    /// Clients of which strikes or AUTH are remembered, and networks of which struck hosts are.
    pub clients: u64,
    /// Reputations restored.
    pub reputations: u64,
    /// HELO arguments remembered for relay hopping.
    pub helos: u64,
    /// Fingerprints of messages restored.
    pub contents: u64,
    /// Reverse-paths and recipients with pending mail restored.
    pub pairs: u64,
    /// Records whose addresses were restored.
    pub addresses: u64,
    /// Records whose addresses were not, since they are not to be kept any more.
    pub addresses_dropped: u64,
    /// Records left out since they had lapsed.
    pub lapsed: u64,
    /// Records left out since they are over the capacity.
    pub over_capacity: u64,
    /// Records left out since a newer greygate wrote them in a way that this one does not know.
    pub unknown: u64,
    /// How old the snapshot was; [`None`] if there was none.
    pub age: Option<Duration>,
    /// Snapshots and journals that were not used, or not to their end, and why.
    pub set_aside: Vec<SetAside>,
    /// What was found of journals.
    pub journal: Replayed,
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.age {
            None if self.journal.rows == 0 => {
                write!(f, "no snapshot: the store begins empty")?;
            }
            None => write!(
                f,
                "no snapshot: {} tuples, {} records of trust, {} sentences from journals alone",
                self.tuples, self.trusted, self.sentences
            )?,
            Some(age) => write!(
                f,
                "{} tuples, {} records of trust, {} sentences, {} clients, {} reputations, {} HELO \
                 arguments, {} fingerprints, {} pairs from a snapshot {} s old",
                self.tuples,
                self.trusted,
                self.sentences,
                self.clients,
                self.reputations,
                self.helos,
                self.contents,
                self.pairs,
                age.as_secs()
            )?,
        }
        for (count, why) in [
            (self.lapsed, "lapsed"),
            (self.over_capacity, "over the capacity"),
            (self.unknown, "unknown to this version"),
            (self.addresses_dropped, "addresses not to be kept"),
        ] {
            if count > 0 {
                write!(f, ", {count} {why} left out")?;
            }
        }
        let Replayed {
            files,
            rows,
            cut,
            missing,
            ..
        } = &self.journal;
        if *files > 0 {
            write!(f, ", {rows} rows of {files} journals replayed")?;
        }
        if let Some(cut) = cut {
            write!(
                f,
                "; the last {} bytes of {} were torn and are cut off",
                cut.bytes,
                cut.file.display()
            )?;
        }
        for number in missing {
            write!(f, "; journal {number} is missing")?;
        }
        for aside in &self.set_aside {
            write!(
                f,
                "; {} was not used: {} (now {})",
                aside.found.display(),
                aside.why,
                aside.kept.display()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_restored_and_what_was_not() {
        assert_eq!(
            Restored::default().to_string(),
            "no snapshot: the store begins empty"
        );
        let restored = Restored {
            tuples: 3,
            trusted: 2,
            sentences: 1,
            clients: 5,
            contents: 7,
            pairs: 6,
            lapsed: 4,
            age: Some(Duration::from_secs(90)),
            set_aside: vec![SetAside {
                found: "/d/snapshot".into(),
                kept: "/d/snapshot.damaged-1".into(),
                why: "it is no snapshot".to_owned(),
            }],
            ..Restored::default()
        };
        assert_eq!(
            restored.to_string(),
            "3 tuples, 2 records of trust, 1 sentences, 5 clients, 0 reputations, 0 HELO arguments, \
             7 fingerprints, 6 pairs from a snapshot 90 s old, 4 lapsed left out; \
             /d/snapshot was not used: it is no snapshot (now /d/snapshot.damaged-1)"
        );
    }
}
