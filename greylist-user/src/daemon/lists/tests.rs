use tempfile::TempDir;

use super::*;
use crate::policy::fixture::T0;
use crate::policy::{Attempt, denial, exempt};

struct Place {
    directory: TempDir,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: TempDir::new().expect("there is room for a directory"),
            metrics: Arc::default(),
        }
    }

    fn open(&self, text: &str, now: Timestamp) -> LiveLists {
        let config = self.config(text);
        let metrics = Arc::clone(&self.metrics);
        LiveLists::open(&config, Arc::default(), metrics, now)
    }

    fn config(&self, text: &str) -> Config {
        let mut config = crate::config::parse(Path::new("f"), text.as_bytes()).expect("legal");
        config.store.directory = self.directory.path().to_owned();
        config
    }

    fn file(&self, list: LiveList) -> PathBuf {
        file_of(self.directory.path(), list)
    }
}

fn entry(text: &str) -> Entry {
    text.parse().expect("an entry")
}

fn order(at: Timestamp, days: Option<u64>) -> Order {
    Order {
        at,
        uid: 1_000,
        until: days.map(|days| at.after(Duration::from_hours(days * 24))),
        note: String::new(),
    }
}

fn entries(lists: &LiveLists, list: LiveList, now: Timestamp) -> Vec<String> {
    let shown = lists.show(list, now).entries.into_iter();
    shown.map(|it| it.entry).collect()
}

const ATTEMPT: Attempt<'static> = crate::policy::fixture::ATTEMPT;

#[test]
fn what_is_listed_counts_at_once_outlives_a_restart_and_says_who_ordered_it() {
    let place = Place::new();
    let lists = place.open("", T0);
    let noted = Order {
        note: "ticket 4711 # urgent, until=never".to_owned(),
        ..order(T0, Some(7))
    };
    let change = lists.add(LiveList::Deny, &entry("192.0.2.7"), noted.clone());
    let change = change.expect("there is room");
    assert_eq!(change.until, Some(seconds(T0) + 7 * 86_400));
    assert!(denial(&lists.policy.load(), &ATTEMPT).is_some());
    let from = entry("from S@sender.example");
    lists
        .add(LiveList::Allow, &from, order(T0, None))
        .expect("there is room");
    assert!(exempt(&lists.policy.load(), &ATTEMPT).is_some());
    drop(lists);

    let text = fs::read_to_string(place.file(LiveList::Deny)).expect("it was written");
    assert!(
        text.ends_with(
            "\n192.0.2.7  # 2023-11-14T22:13:20Z uid=1000 until=2023-11-21T22:13:20Z note=ticket 4711 # urgent, until=never\n"
        ),
        "{text}"
    );
    let again = place.open("", T0);
    let policy = again.policy.load();
    let listed = denial(&policy, &ATTEMPT).expect("it is listed still").0;
    assert_eq!(listed.source, Source::Live(Arc::new(noted)));
    assert_eq!(
        entries(&again, LiveList::Allow, T0),
        ["from s@sender.example"]
    );
}

#[test]
fn entry_that_has_ended_is_taken_out_and_does_not_come_back() {
    let place = Place::new();
    let lists = place.open("", T0);
    lists
        .add(LiveList::Allow, &entry("192.0.2.7"), order(T0, Some(1)))
        .expect("there is room");
    let (before, after) = (Duration::from_hours(23), Duration::from_hours(24));
    assert!(!lists.end(T0.after(before)));
    assert!(exempt(&lists.policy.load(), &ATTEMPT).is_some());
    assert!(lists.end(T0.after(after)));
    assert_eq!(exempt(&lists.policy.load(), &ATTEMPT), None);
    assert!(!lists.end(T0.after(after)), "once");
    let text = fs::read_to_string(place.file(LiveList::Allow)).expect("it was written");
    assert!(!text.contains("192.0.2.7"), "{text}");
}

#[test]
fn entry_that_ended_while_nobody_looked_is_not_read_again() {
    let place = Place::new();
    let lists = place.open("", T0);
    lists
        .add(LiveList::Allow, &entry("192.0.2.7"), order(T0, Some(1)))
        .expect("there is room");
    drop(lists);
    let lists = place.open("", T0.after(Duration::from_hours(24)));
    assert_eq!(exempt(&lists.policy.load(), &ATTEMPT), None);
}

#[test]
fn removing_undoes_what_was_added_and_names_where_else_it_stands() {
    let place = Place::new();
    let lists = place.open("[lists]\nallow = [\n\"192.0.2.7\"]\n", T0);
    let host = entry("192.0.2.7");
    let missing = lists.remove(LiveList::Allow, &host, T0);
    let told = missing.expect_err("nobody listed it").to_string();
    assert_eq!(
        told,
        "192.0.2.7 was not listed by a command; it stands at f:3: take it out there, and reload"
    );
    let unknown = lists.remove(LiveList::Deny, &host, T0);
    let told = unknown.expect_err("nobody listed it").to_string();
    assert!(told.contains("`greygate deny list`"), "{told}");
    let added = lists.add(LiveList::Allow, &host, order(T0, None));
    assert_eq!(added.expect("there is room").also.as_deref(), Some("f:3"));
    let removed = lists.remove(LiveList::Allow, &host, T0);
    assert_eq!(removed.expect("it is there").also.as_deref(), Some("f:3"));
    assert!(
        exempt(&lists.policy.load(), &ATTEMPT).is_some(),
        "by the file"
    );
}

#[test]
fn as_many_as_are_allowed_are_kept_and_the_next_is_refused_and_counted() {
    let place = Place::new();
    let lists = place.open("[lists]\nlive = 2\n", T0);
    let add = |text: &str| lists.add(LiveList::Allow, &entry(text), order(T0, None));
    add("192.0.2.1").expect("there is room");
    add("192.0.2.2").expect("there is room");
    add("192.0.2.1").expect("it is listed anew");
    let full = add("192.0.2.3").expect_err("there is no room").to_string();
    assert!(
        full.starts_with("2 entries are as many as [lists] live"),
        "{full}"
    );
    assert_eq!(place.metrics.refused.get(), 1);
    assert_eq!(
        entries(&lists, LiveList::Allow, T0),
        ["192.0.2.1", "192.0.2.2"]
    );
    let labels = ListLabels { list: "allow" };
    assert_eq!(place.metrics.live.get_or_create_owned(&labels).get(), 2);
}

#[test]
fn reload_takes_the_new_rules_and_keeps_what_was_ordered() {
    let place = Place::new();
    let lists = place.open("[lists]\ndeny = [\"192.0.2.7\"]\n", T0);
    lists
        .add(LiveList::Deny, &entry("198.51.100.7"), order(T0, None))
        .expect("there is room");
    lists.reload(&place.config("[greylist]\ndelay = \"9m\"\n"));
    let policy = lists.policy.load();
    assert_eq!(policy.delay, Duration::from_mins(9));
    assert!(denial(&policy, &ATTEMPT).is_none());
    let other = Attempt {
        client: [198, 51, 100, 7].into(),
        ..ATTEMPT
    };
    assert!(denial(&policy, &other).is_some());
}

#[test]
fn open_session_keeps_no_lists_that_an_order_or_a_reload_has_replaced() {
    let place = Place::new();
    let config = place.config("[greylist]\ndelay = \"7m\"\n[lists]\nallow = [\"192.0.2.7\"]\n");
    let lists = place.open("[lists]\nallow = [\"192.0.2.7\"]\n", T0);
    let of_a_session = lists.for_sessions().load_full();
    for change in [true, false] {
        let in_force = Arc::downgrade(&lists.policy.load_full());
        assert!(
            in_force
                .upgrade()
                .is_some_and(|it| !it.lists.allow.entries().is_empty())
        );
        if change {
            let added = lists.add(LiveList::Deny, &entry("198.51.100.7"), order(T0, None));
            assert!(added.is_ok(), "{added:?}");
        } else {
            lists.reload(&config);
        }
        assert!(in_force.upgrade().is_none(), "nobody holds it");
    }
    assert_eq!(
        of_a_session.delay,
        Policy::default().delay,
        "it keeps its rules"
    );
    assert_eq!(lists.for_sessions().load().delay, config.policy.delay);
}

#[test]
fn damaged_file_is_set_aside_and_what_can_be_read_of_it_counts() {
    let place = Place::new();
    let file = place.file(LiveList::Allow);
    let good = "192.0.2.7  # 2023-11-14T22:13:20Z uid=0";
    let text = format!("{good}\nnonsense\n198.51.100.7 # by hand\n");
    fs::write(&file, &text).expect("the directory is ours");
    let lists = place.open("", T0);
    assert_eq!(entries(&lists, LiveList::Allow, T0), ["192.0.2.7"]);
    let kept = fs::read_to_string(file.with_extension("broken")).expect("it is kept");
    assert_eq!(kept, text);
    fs::write(&file, b"\xff\xfe").expect("the directory is ours");
    let lists = place.open("", T0);
    assert_eq!(entries(&lists, LiveList::Allow, T0), Vec::<String>::new());
}

#[test]
fn byte_that_is_no_text_spoils_its_own_line_alone() {
    let place = Place::new();
    let file = place.file(LiveList::Allow);
    let comment = b"  # 2023-11-14T22:13:20Z uid=0";
    let lines = [
        &b"192.0.2.7"[..],
        comment,
        b"\nmail\xff.example",
        comment,
        b"\n",
    ]
    .concat();
    fs::write(&file, &lines).expect("the directory is ours");
    let lists = place.open("", T0);
    assert_eq!(entries(&lists, LiveList::Allow, T0), ["192.0.2.7"]);
    let kept = fs::read(file.with_extension("broken")).expect("it is kept");
    assert_eq!(kept, lines);
}

#[test]
fn file_that_cannot_be_read_is_not_written_over() {
    let place = Place::new();
    let file = place.file(LiveList::Allow);
    // Whoever runs this may read every file, but no directory.
    fs::create_dir(&file).expect("the directory is ours");
    let lists = place.open("", T0);
    let added = lists.add(LiveList::Allow, &entry("192.0.2.7"), order(T0, None));
    assert!(added.is_ok(), "{added:?}");
    assert!(file.with_extension("broken").is_dir(), "it is kept");
    let lists = place.open("", T0);
    assert_eq!(entries(&lists, LiveList::Allow, T0), ["192.0.2.7"]);
}

#[test]
fn every_entry_that_is_taken_outlives_a_restart() {
    let place = Place::new();
    let lists = place.open("", T0);
    let all = [
        "from <#a@example.org>",
        "to a#b@example.org",
        "from <>",
        "helo [192.0.2.7]",
    ];
    for text in all {
        let order = Order {
            note: "# note=a uid=7".to_owned(),
            ..order(T0, Some(1))
        };
        lists
            .add(LiveList::Allow, &entry(text), order)
            .expect("there is room");
    }
    let before = lists.show(LiveList::Allow, T0);
    let after = place.open("", T0).show(LiveList::Allow, T0);
    assert_eq!(after, before);
    assert_eq!(after.entries.len(), all.len());
    assert!(
        !place
            .file(LiveList::Allow)
            .with_extension("broken")
            .exists()
    );
}

#[test]
fn change_that_cannot_be_written_is_not_made() {
    let place = Place::new();
    let lists = place.open("", T0);
    let path = place.directory.path().to_owned();
    fs::remove_dir_all(&path).expect("it is ours");
    let refused = lists.add(LiveList::Allow, &entry("192.0.2.7"), order(T0, None));
    let told = refused.expect_err("there is no directory").to_string();
    assert!(told.ends_with("nothing was changed"), "{told}");
    assert_eq!(exempt(&lists.policy.load(), &ATTEMPT), None);
}
