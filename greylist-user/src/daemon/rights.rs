//! Who has the rights of root, and for how long: one thread, while the daemon starts.
//!
//! Linux gives capabilities to threads, and a new thread those of the thread that starts it. So
//! before there is a second thread, one is started that keeps what the process came with, and the
//! first one gives everything up. Whatever is started later has nothing to give up. What needs a
//! right (the kernel program, a port below 1024, a socket's group) is done in the thread that has
//! it, which must start none of its own, and which ends when all of it is done.
//!
//! Afterwards there is nobody to ask: maps, listeners and the program are used by their
//! descriptors, for which the kernel wants no right.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::sys::prctl;

/// The rights that the process was started with, lent to what needs them. Dropping it ends them.
#[derive(Debug)]
pub struct Rights {
    holder: Option<Holder>,
    dropped: Result<Vec<String>, String>,
}

impl Rights {
    /// Leaves the rights of this process to a thread of their own. The calling thread has none from
    /// now on, nor has one that it starts later; so it must be the only one there is.
    ///
    /// Where a right cannot be given up the daemon keeps it, and [`tell`](Self::tell) complains:
    /// mail is worth more.
    pub fn set_apart() -> Self {
        let had = match permitted() {
            Ok(had) => had,
            Err(error) => return Self::kept_since(error.to_string()),
        };
        // A program that root runs has all rights again, but for this. Greygate runs none.
        if let Err(errno) = prctl::set_no_new_privs() {
            return Self::kept_since(format!("no_new_privs: {errno}"));
        }
        if had.is_empty() {
            return Self::as_they_are();
        }
        let holder = match Holder::start() {
            Ok(holder) => holder,
            Err(error) => return Self::kept_since(format!("no thread for them: {error}")),
        };
        match give_up() {
            Ok(()) => Self {
                holder: Some(holder),
                dropped: Ok(had),
            },
            Err(error) => Self::kept_since(error.to_string()),
        }
    }

    /// Leaves everything as it is, and lends what the calling thread has: where there is nothing to
    /// give up, or where the daemon is a part of another program.
    pub fn as_they_are() -> Self {
        Self {
            holder: None,
            dropped: Ok(Vec::new()),
        }
    }

    fn kept_since(why: String) -> Self {
        Self {
            holder: None,
            dropped: Err(why),
        }
    }

    /// Does `work` where the rights are, and waits for it. It must start no thread: that one would
    /// have them for good.
    ///
    /// # Panics
    ///
    /// When `work` does.
    pub fn lend<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.holder {
            None => work(),
            Some(holder) => holder.run(work),
        }
    }

    /// Ends what was lent, and tells the log what was given up.
    pub fn end(mut self) {
        drop(self.holder.take());
        match &self.dropped {
            Ok(had) if had.is_empty() => {}
            Ok(had) => tracing::info!(had = had.join(" "), left = "none", "rights-dropped"),
            Err(why) => tracing::warn!(why, "rights-kept"),
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// The thread that has the rights.
#[derive(Debug)]
struct Holder {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    fn start() -> io::Result<Self> {
        let (work, received): (_, Receiver<Work>) = channel();
        let thread = std::thread::Builder::new()
            .name("rights".to_owned())
            .spawn(move || received.into_iter().for_each(|work| work()))?;
        Ok(Self {
            work: Some(work),
            thread: Some(thread),
        })
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let work = move || {
            // Nobody waits only when the waiting thread has panicked.
            let _ = done.send(work());
        };
        let sent = self.work.as_ref().map(|thread| thread.send(Box::new(work)));
        assert!(
            matches!(sent, Some(Ok(()))),
            "the thread waits for work as long as nothing panicked in it"
        );
        result
            .recv()
            .expect("the work is done unless it panicked, which has been printed")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Losing the sender is the signal. A panic of the thread has been printed by itself.
        drop(self.work.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the calling thread may make effective, by name.
fn permitted() -> Result<Vec<String>, CapsError> {
    let permitted: HashSet<Capability> = caps::read(None, CapSet::Permitted)?;
    let mut names: Vec<_> = permitted.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    Ok(names)
}

/// Empties every set of the calling thread. The bounding set stays, which bounds nothing any more:
/// it counts when a program is run.
fn give_up() -> Result<(), CapsError> {
    [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ]
    .into_iter()
    .try_for_each(|set| caps::clear(None, set))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn effective() -> HashSet<Capability> {
        caps::read(None, CapSet::Effective).expect("one's own capabilities can be read")
    }

    #[test]
    fn rights_are_where_they_are_lent_and_nowhere_else() {
        // On a thread of its own: what it gives up is gone for it.
        let played = thread::spawn(|| {
            let before = effective();
            let rights = Rights::set_apart();
            assert_eq!(rights.dropped.as_ref().map(Vec::len), Ok(before.len()));
            assert_eq!(effective(), HashSet::new());
            let lent = rights.lend(effective);
            assert_eq!(lent, before, "none where there were none");
            let later = thread::spawn(effective).join().expect("no panic");
            assert_eq!(later, HashSet::new());
            rights.end();
            assert_eq!(effective(), HashSet::new());
        });
        played.join().expect("no panic");
    }

    #[test]
    fn work_that_panics_is_the_panic_of_who_asked_for_it() {
        let played = thread::spawn(|| Rights::set_apart().lend(|| panic!("on purpose")));
        assert!(played.join().is_err());
    }
}
