//! `[store] keep_addresses`: kept as long as the record, gone with it, and gone when switched off.

use std::fs;
use std::sync::Arc;

use greygate::admin::{ListQuestion, ListRows, ListTable, Listing};
use greygate::clock::Clock as _;
use greygate::policy::{Attempt, Policy};
use greygate::store::codec::Row;
use greygate::store::{Keeper, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};

fn keeping() -> Fixture {
    let mut fixture = Fixture::with_policy(Policy {
        trust_after: 1,
        ..Policy::default()
    });
    fixture.settings.keep_addresses = true;
    fixture
}

fn list(fixture: &Fixture, store: &Store, question: &ListQuestion) -> Listing {
    let (policy, now) = (fixture.policy.load(), fixture.clock.now());
    Listing::of(store, question, &policy, now)
}

/// Client, sender and recipient of each tuple that waits.
fn addresses(
    fixture: &Fixture,
    store: &Store,
    question: &ListQuestion,
) -> Vec<[Option<String>; 3]> {
    match list(fixture, store, question).rows {
        ListRows::Pending(rows) => rows
            .into_iter()
            .map(|row| [row.client, row.sender, row.recipient])
            .collect(),
        other => panic!("{other:?}: tuples were asked for"),
    }
}

fn known(client: &str, sender: &str, recipient: &str) -> [Option<String>; 3] {
    [client, sender, recipient].map(|it| Some(it.to_owned()))
}

/// Whether any file of the store holds what could name anybody.
fn names_anybody(fixture: &Fixture) -> Vec<String> {
    let files = fs::read_dir(&fixture.settings.directory).expect("it is ours");
    let mut found = Vec::new();
    for file in files {
        let path = file.expect("it is ours").path();
        let bytes = fs::read(&path).expect("it is ours");
        let client = [0xff, 0xff, 192, 0, 2, 7];
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if holds(b"sender.example") || holds(b"here.example") || holds(&client) {
            found.push(
                path.file_name()
                    .expect("a file")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_that_names_anybody_is_on_disk_unless_it_is_to_be_kept() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.judge(
        &store,
        &Attempt {
            recipient: b"q@here.example",
            ..ATTEMPT
        },
    );
    fixture.rows(&store);
    assert_eq!(names_anybody(&fixture), [""; 0]);

    let fixture = keeping();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.rows(&store);
    assert_eq!(
        names_anybody(&fixture),
        ["journal-0000000001", "snapshot"],
        "the search finds what is there"
    );
}

#[test]
fn kept_addresses_are_shown_and_filtered_by_and_survive_a_restart() {
    let fixture = keeping();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let bounce = Attempt {
        client: "2001:db8::7".parse().expect("an address"),
        reverse_path: b"",
        recipient: b"other@there.example",
        ..ATTEMPT
    };
    fixture.judge(&store, &bounce);
    fixture.rows(&store);
    drop(store);
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.addresses), (2, 2));
    let of_attempt = known("192.0.2.7", "s@sender.example", "r@here.example");
    let of_bounce = known("2001:db8::7", "", "other@there.example");
    for (question, expected) in [
        (
            ListQuestion {
                network: "192.0.2.0/24".parse().ok(),
                ..ListQuestion::default()
            },
            &of_attempt,
        ),
        (
            ListQuestion {
                network: "2001:db8::/32".parse().ok(),
                ..ListQuestion::default()
            },
            &of_bounce,
        ),
        (
            ListQuestion {
                sender: Some("@sender.example".to_owned()),
                ..ListQuestion::default()
            },
            &of_attempt,
        ),
        (
            ListQuestion {
                sender: Some(String::new()),
                ..ListQuestion::default()
            },
            &of_bounce,
        ),
        (
            ListQuestion {
                recipient: Some("R@HERE.example".to_owned()),
                ..ListQuestion::default()
            },
            &of_attempt,
        ),
    ] {
        let found = addresses(&fixture, &store, &question);
        assert_eq!(found.iter().collect::<Vec<_>>(), [expected], "{question:?}");
    }
    let nobody = ListQuestion {
        network: "198.51.100.0/24".parse().ok(),
        ..ListQuestion::default()
    };
    assert_eq!(addresses(&fixture, &store, &nobody).len(), 0);
}

#[test]
fn trust_is_kept_by_network_and_folded_sender() {
    let fixture = keeping();
    let store = fixture.open();
    let mail = Attempt {
        reverse_path: b"list-r=here.example@Sender.Example",
        ..ATTEMPT
    };
    pass_once(&fixture, &store, &mail);
    let ListRows::Trusted(rows) =
        list(&fixture, &store, &ListQuestion::of(ListTable::Trusted)).rows
    else {
        panic!("trust was asked for");
    };
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].network.as_deref(), Some("192.0.2.0/24"));
    assert_eq!(rows[0].sender.as_deref(), Some("list-#@sender.example"));
}

#[test]
fn addresses_go_with_their_records_when_these_are_swept_or_forgotten() {
    let fixture = keeping();
    let store = Arc::new(fixture.open());
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.judge(
        &store,
        &Attempt {
            reverse_path: b"t@other.example",
            ..ATTEMPT
        },
    );
    assert_eq!(store.census().addresses, 3, "two tuples and trust");
    let (policy, now) = (fixture.policy.load_full(), fixture.clock.now());
    let ListRows::Pending(rows) = Listing::of(&store, &ListQuestion::default(), &policy, now).rows
    else {
        panic!("tuples were asked for");
    };
    store.forget(greygate::admin::bits_of(&rows[0].fingerprint).expect("as it is shown"));
    assert_eq!(store.census().addresses, 2);
    fixture.wait_hours(24 * 37);
    // Once more: the journal of before is there until the previous snapshot does not need it.
    fixture.rows(&store);
    fixture.rows(&store);
    assert_eq!(
        names_anybody(&fixture),
        [""; 0],
        "what has lapsed is not written"
    );
    sweep_all(&fixture, &store);
    let census = store.census();
    assert_eq!((census.tuples, census.trusted), (0, 0));
    assert_eq!((census.addresses, census.address_bytes), (0, 0));
}

/// Sweeps every aisle, as the keeper does.
fn sweep_all(fixture: &Fixture, store: &Arc<Store>) {
    let keeper = Keeper::start(Arc::clone(store), Arc::clone(&fixture.clock) as _);
    let keeper = keeper.expect("a thread can be had");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.census().tuples + store.census().trusted + store.census().addresses > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.census());
        fixture.wait_hours(13);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    keeper.stop().expect("the directory is writable");
}

#[test]
fn switched_off_nothing_is_shown_and_nothing_stays_on_disk_after_the_next_snapshot() {
    let mut fixture = keeping();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    fixture.rows(&store);
    fixture.rows(&store);
    drop(store);
    assert_eq!(names_anybody(&fixture), ["snapshot", "snapshot.previous"]);

    fixture.settings.keep_addresses = false;
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.addresses), (1, 0));
    assert_eq!(restored.addresses_dropped, 2);
    let passed = ListQuestion {
        passed: true,
        ..ListQuestion::default()
    };
    assert_eq!(addresses(&fixture, &store, &passed), [[None, None, None]]);
    let rows = fixture.rows(&store);
    assert!(!rows.iter().any(|row| matches!(row, Row::Kept(..))));
    assert_eq!(names_anybody(&fixture), [""; 0]);
    fixture.rows(&store);
    assert!(
        fixture
            .settings
            .directory
            .join("snapshot.previous")
            .exists(),
        "as ever after"
    );
}

#[test]
fn switched_on_what_was_there_before_is_kept_from_its_next_attempt() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fixture.rows(&store);
    drop(store);
    fixture.settings.keep_addresses = true;
    let store = fixture.open();
    let all = ListQuestion::default();
    assert_eq!(addresses(&fixture, &store, &all), [[None, None, None]]);
    fixture.wait_seconds(60);
    fixture.judge(&store, &ATTEMPT);
    let expected = known("192.0.2.7", "s@sender.example", "r@here.example");
    assert_eq!(addresses(&fixture, &store, &all), [expected]);
}

#[test]
fn forgiving_a_client_whose_addresses_are_kept_reaches_its_mails() {
    let fixture = keeping();
    let store = fixture.open();
    fixture.warm_up();
    for _ in 0..3 {
        fixture.judge(&store, &ATTEMPT);
        fixture.wait_seconds(50);
    }
    let elsewhere = "198.51.100.0/24".parse().expect("a network");
    assert_eq!(store.forgive_mails_within(elsewhere).delays, 0);
    let itself = "192.0.2.7/32".parse().expect("an address");
    assert_eq!(store.forgive_mails_within(itself).delays, 1);
    assert_eq!(store.forgive_mails_within(itself).delays, 0, "once");
}
