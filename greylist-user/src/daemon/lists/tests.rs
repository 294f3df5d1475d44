use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::cluster::Lists as _;
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
        file::path(self.directory.path(), list)
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
    assert_eq!(place.metrics.live(LiveList::Allow), 2);
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

const SHARED: &str = "[cluster]\nservers = [\"127.0.0.1\"]\n";

/// What `from` has to tell is told to `to`.
fn tell(from: &LiveLists, to: &LiveLists, now: Timestamp) {
    for order in from.take_changes() {
        assert!(to.hear(order));
    }
    to.take_in(now);
}

fn later(seconds: u64) -> Timestamp {
    T0.after(Duration::from_secs(seconds))
}

#[test]
fn order_of_another_host_counts_here_until_any_host_removes_it() {
    let places = [Place::new(), Place::new()];
    let [mx1, mx2] = [&places[0], &places[1]].map(|it| it.open(SHARED, T0));
    let host = entry("192.0.2.7");
    let noted = Order {
        note: "ticket 4711".to_owned(),
        ..order(T0, Some(7))
    };
    mx1.add(LiveList::Deny, &host, noted.clone())
        .expect("there is room");
    tell(&mx1, &mx2, T0);
    assert!(denial(&mx2.policy.load(), &ATTEMPT).is_some());
    assert_eq!(mx2.take_changes(), [], "it tells nobody what it was told");
    drop(mx2);
    let mx2 = places[1].open(SHARED, T0);
    let policy = mx2.policy.load();
    let listed = denial(&policy, &ATTEMPT).expect("it outlives a restart").0;
    assert_eq!(listed.source, Source::Live(Arc::new(noted)));
    mx2.remove(LiveList::Deny, &host, later(1))
        .expect("it is listed");
    tell(&mx2, &mx1, later(1));
    assert!(denial(&mx1.policy.load(), &ATTEMPT).is_none());
}

#[test]
fn what_was_removed_does_not_come_back_from_a_host_that_was_away() {
    let places = [Place::new(), Place::new()];
    let [mx1, away] = [&places[0], &places[1]].map(|it| it.open(SHARED, T0));
    let host = entry("192.0.2.7");
    mx1.add(LiveList::Deny, &host, order(T0, None))
        .expect("there is room");
    tell(&mx1, &away, T0);
    mx1.remove(LiveList::Deny, &host, later(60))
        .expect("it is listed");
    drop(mx1);
    let mx1 = places[0].open(SHARED, later(90));
    let all = away.all();
    assert_eq!(all.len(), 1);
    for order in all {
        mx1.hear(order);
    }
    assert!(!mx1.take_in(later(90)), "it is no news");
    assert!(denial(&mx1.policy.load(), &ATTEMPT).is_none());
    for order in mx1.all() {
        away.hear(order);
    }
    assert!(away.take_in(later(90)));
    assert!(denial(&away.policy.load(), &ATTEMPT).is_none());
    // By then nobody remembers.
    let mx1 = places[0].open(SHARED, T0.after(2 * Word::REMOVED_KEPT));
    assert_eq!(mx1.all(), []);
}

#[test]
fn order_given_last_counts_though_another_host_is_ahead() {
    let places = [Place::new(), Place::new()];
    let [ahead, mx2] = [&places[0], &places[1]].map(|it| it.open(SHARED, T0));
    let host = entry("192.0.2.7");
    ahead
        .add(LiveList::Allow, &host, order(later(45), None))
        .expect("there is room");
    tell(&ahead, &mx2, T0);
    mx2.remove(LiveList::Allow, &host, later(2))
        .expect("it is listed");
    tell(&mx2, &ahead, later(47));
    for lists in [&ahead, &mx2] {
        assert!(exempt(&lists.policy.load(), &ATTEMPT).is_none());
    }
    mx2.add(LiveList::Allow, &host, order(later(2), None))
        .expect("there is room");
    tell(&mx2, &ahead, later(47));
    for lists in [&ahead, &mx2] {
        assert!(exempt(&lists.policy.load(), &ATTEMPT).is_some());
    }
}

#[test]
fn orders_of_others_find_room_as_those_given_here_do() {
    let places = [Place::new(), Place::new()];
    let mx1 = places[0].open(SHARED, T0);
    let mx2 = places[1].open(&format!("[lists]\nlive = 1\n{SHARED}"), T0);
    for (number, text) in (0..).zip(["192.0.2.1", "192.0.2.2"]) {
        mx1.add(LiveList::Deny, &entry(text), order(later(number), None))
            .expect("there is room");
    }
    tell(&mx1, &mx2, later(2));
    assert_eq!(entries(&mx2, LiveList::Deny, later(2)), ["192.0.2.1"]);
    assert_eq!(places[1].metrics.refused.get(), 1);
}

#[test]
fn order_that_is_over_ends_an_earlier_one_without_end() {
    let places = [Place::new(), Place::new()];
    let [mx1, away] = [&places[0], &places[1]].map(|it| it.open(SHARED, T0));
    let host = entry("192.0.2.7");
    away.add(LiveList::Deny, &host, order(T0, None))
        .expect("there is room");
    mx1.add(LiveList::Deny, &host, order(later(1), Some(1)))
        .expect("there is room");
    tell(&mx1, &away, T0.after(Duration::from_hours(25)));
    assert!(denial(&away.policy.load(), &ATTEMPT).is_none());
}

#[test]
fn host_that_shares_with_nobody_keeps_nothing_for_others() {
    let place = Place::new();
    let lists = place.open("", T0);
    let host = entry("192.0.2.7");
    lists
        .add(LiveList::Deny, &host, order(T0, None))
        .expect("there is room");
    lists
        .remove(LiveList::Deny, &host, later(1))
        .expect("it is listed");
    assert_eq!(lists.take_changes(), []);
    let text = fs::read_to_string(place.file(LiveList::Deny)).expect("it was written");
    assert!(!text.contains("192.0.2.7"), "{text}");
}

#[test]
fn end_of_a_later_order_brings_no_earlier_one_back() {
    let places = [Place::new(), Place::new()];
    let [mx1, away] = [&places[0], &places[1]].map(|it| it.open(SHARED, T0));
    let host = entry("192.0.2.7");
    away.add(LiveList::Deny, &host, order(T0, None))
        .expect("there is room");
    mx1.add(LiveList::Deny, &host, order(later(1), Some(1)))
        .expect("there is room");
    let past = T0.after(Duration::from_hours(30));
    assert!(mx1.end(past));
    drop(mx1);
    let mx1 = places[0].open(SHARED, past);
    for order in away.all() {
        mx1.hear(order);
    }
    assert!(!mx1.take_in(past), "it is no news");
    assert!(denial(&mx1.policy.load(), &ATTEMPT).is_none());
}

#[test]
fn order_that_found_no_room_is_asked_for_when_there_is_some() {
    let places = [Place::new(), Place::new()];
    let mx1 = places[0].open(SHARED, T0);
    let mx2 = places[1].open(&format!("[lists]\nlive = 1\n{SHARED}"), T0);
    let [first, second] = ["192.0.2.1", "192.0.2.2"].map(entry);
    mx2.add(LiveList::Deny, &first, order(T0, None))
        .expect("there is room");
    mx1.add(LiveList::Deny, &second, order(later(1), None))
        .expect("there is room");
    tell(&mx1, &mx2, later(1));
    assert!(!mx2.takes_lack(), "there is no room yet");
    mx2.remove(LiveList::Deny, &first, later(2))
        .expect("it is listed");
    assert!(mx2.takes_lack());
    assert!(!mx2.takes_lack(), "once");
    for order in mx1.all() {
        mx2.hear(order);
    }
    assert!(mx2.take_in(later(3)));
    assert_eq!(entries(&mx2, LiveList::Deny, later(3)), ["192.0.2.2"]);
}

proptest! {
    #[test]
    fn hosts_come_to_the_same_whatever_they_hear_first(
        words in proptest::collection::vec((0_u8..3, 0_u64..6, 0_u8..3), 1..9),
        shuffled in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        // Removed, listed for an hour, listed without end; of three entries, at six moments.
        let orders: Vec<_> = words
            .iter()
            .map(|&(host, at, kind)| ListOrder {
                list: LiveList::Deny,
                entry: entry(&format!("192.0.2.{host}")),
                word: match kind {
                    0 => Word::Removed(later(60 * at)),
                    kind => Word::Listed(Arc::new(Order {
                        at: later(60 * at),
                        uid: 0,
                        until: (kind == 1).then(|| later(60 * at + 3_600)),
                        note: String::new(),
                    })),
                },
            })
            .collect();
        let mut others = orders.clone();
        let number = others.len();
        others.rotate_left(shuffled.index(number));
        others.swap(0, cut.index(number));
        others.extend(orders.iter().rev().cloned());
        // Half of them have ended by the second look.
        let times = [later(60 * 6), later(60 * 63)];
        let contents = [orders, others].map(|orders| {
            let place = Place::new();
            let lists = place.open(SHARED, T0);
            let middle = orders.len() / 2;
            for (half, now) in [&orders[..middle], &orders[middle..]].into_iter().zip(times) {
                for order in half {
                    lists.hear(order.clone());
                }
                lists.take_in(now);
            }
            lists.end(times[1]);
            let held = lists.all();
            let read = place.open(SHARED, times[1]).all();
            (held, read)
        });
        let [(one, one_read), (other, other_read)] = contents;
        prop_assert_eq!(&one, &one_read, "as the file has it");
        prop_assert_eq!(&other, &other_read, "as the file has it");
        prop_assert_eq!(one, other);
    }
}
