//! Changes, groups, snapshots and crashes in any order, against a model: what was synced is never lost.

use super::*;

/// What may happen to a store.
#[derive(Clone, Copy, Debug)]
enum Event {
    Change(u8),
    Take(u8),
    Sync,
    /// The next group finds no room in the open journal, if there is one.
    Full,
    /// A snapshot, which may fail at its end, or be followed by a crash before anything else.
    Snapshot(Ending),
    /// A crash that leaves so many bytes of a group that was being written.
    Crash(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Failed,
    Crashed,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..6_u8).prop_map(Event::Change),
        2 => (0..6_u8).prop_map(Event::Take),
        3 => Just(Event::Sync),
        1 => Just(Event::Full),
        1 => Just(Event::Snapshot(Ending::Done)),
        1 => Just(Event::Snapshot(Ending::Failed)),
        1 => Just(Event::Snapshot(Ending::Crashed)),
        1 => (0..60_u8).prop_map(Event::Crash),
    ]
}

/// All that the six records have been, and from where on the disk must know better.
struct Model {
    states: Vec<[Option<Record>; KEYS]>,
    synced: usize,
}

const KEYS: usize = 6;

impl Model {
    fn change(&mut self, key: u8, to: Option<Record>) {
        let mut next = *self.states.last().expect("it begins with one");
        next[usize::from(key)] = to;
        self.states.push(next);
    }

    fn sync(&mut self) {
        self.synced = self.states.len() - 1;
    }
}

fn held(store: &Store) -> [Option<Record>; KEYS] {
    std::array::from_fn(|number| store.tuples.get(&key(u8::try_from(number).expect("a few"))))
}

fn do_one(store: &Store, model: &mut Model, number: usize, event: Event) {
    match event {
        Event::Change(of) => {
            let now = T0.after(Duration::from_millis(number as u64 + 1));
            let record = Record::begun(1, now);
            store
                .tuples
                .update(key(of), |_| (record, ()))
                .expect("there is room");
            model.change(of, Some(record));
        }
        Event::Take(of) => {
            store.tuples.take(&key(of));
            model.change(of, None);
        }
        Event::Sync => {
            if store.sync_journal(T0).is_ok() {
                model.sync();
            }
        }
        Event::Full => {
            let journal = store.journal.as_ref().expect("it has a directory");
            let mut pen = journal.pen();
            pen.open = pen.open.take().map(OpenJournal::on_a_full_disk);
        }
        Event::Snapshot(_) | Event::Crash(_) => {}
    }
}

/// A snapshot, in the middle of which `meanwhile` happens.
fn snapshot_while(
    store: &Store,
    model: &mut Model,
    ending: Ending,
    mut meanwhile: impl Iterator<Item = (usize, Event)>,
) {
    let directory = &store.settings.directory;
    let journals: Vec<_> = file::list(directory)
        .expect("it can be listed")
        .into_iter()
        .map(|number| file::path(directory, number))
        .map(|path| (fs::read(&path).expect("it is ours"), path))
        .collect();
    let mut step = |model: &mut Model, store: &Store| {
        if let Some((number, event)) = meanwhile.next() {
            do_one(store, model, number, event);
        }
    };
    let failures = || store.metrics.journal_failures.get();
    let failed_before = failures();
    let before_the_end = std::cell::Cell::new(0);
    let written = store.write_snapshot(T0, Pace::Free, |writer| {
        // What had changed by now was written first, whatever becomes of it.
        if failures() == failed_before {
            model.sync();
        }
        step(model, store);
        store.give_rows(T0, |row| {
            step(model, store);
            writer.push(&row)
        })?;
        step(model, store);
        before_the_end.set(model.states.len() - 1);
        if ending == Ending::Failed {
            return Err(io::Error::other("the disk is full"));
        }
        Ok(())
    });
    assert!(written.is_err() || ending != Ending::Failed);
    if written.is_ok() {
        model.synced = before_the_end.get();
    }
    if ending == Ending::Crashed {
        // Before those were removed that it takes the place of.
        for (bytes, path) in journals.into_iter().filter(|(_, path)| !path.exists()) {
            fs::write(path, bytes).expect("it is writable");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Nothing that was in a synced group is lost, nor anything else put in its place: each record is
    /// as it was when it was synced, or as it was later.
    #[test]
    fn no_interleaving_loses_what_was_synced(
        events in proptest::collection::vec(any_event(), 1..60),
    ) {
        let site = Site::new();
        let (mut store, _) = site.open();
        let mut model = Model {
            states: vec![[None; KEYS]],
            synced: 0,
        };
        let mut events = events.into_iter().enumerate().collect::<Vec<_>>().into_iter();
        while let Some((number, event)) = events.next() {
            let left = match event {
                Event::Snapshot(ending) => {
                    let meanwhile = events.by_ref().take(8);
                    snapshot_while(&store, &mut model, ending, meanwhile);
                    (ending == Ending::Crashed).then_some(0)
                }
                Event::Crash(left) => Some(left),
                other => {
                    do_one(&store, &mut model, number, other);
                    None
                }
            };
            let Some(left) = left else { continue };
            drop(store);
            if left > 0 {
                tear(&site, left);
            }
            let (again, restored) = site.open();
            store = again;
            prop_assert_eq!(&restored.set_aside, &[]);
            prop_assert_eq!(&restored.journal.missing, &[] as &[u64]);
            let found = held(&store);
            for of in 0..KEYS {
                let mut may_be = model.states[model.synced..].iter().map(|it| it[of]);
                prop_assert!(may_be.any(|it| it == found[of]), "record {} is {:?}", of, found[of]);
            }
            model = Model { states: vec![found], synced: 0 };
        }
    }
}

/// Leaves the beginning of a group at the end of the last journal, if there is one.
fn tear(site: &Site, left: u8) {
    use std::io::Write as _;
    let directory = site.directory.path();
    let numbers = file::list(directory).expect("it can be listed");
    let Some(last) = numbers.last() else { return };
    let file = fs::OpenOptions::new()
        .append(true)
        .open(file::path(directory, *last));
    let group = [b'T', 0, 76, 0, 1, 0, 0, 0];
    let torn: Vec<u8> = group
        .into_iter()
        .chain([7; 100])
        .take(left.into())
        .collect();
    file.and_then(|mut file| file.write_all(&torn))
        .expect("it is writable");
}
