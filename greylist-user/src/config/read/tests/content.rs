//! What a file says of content.

use std::time::Duration;

use super::legal;
use crate::milter::HeaderOn;
use crate::policy::{ContentRules, ContentTrust, Mode};

#[test]
fn mode_is_what_the_file_says_and_hybrid_where_it_says_nothing() {
    let mode = |text: &str| legal(text).policy.mode;
    assert_eq!(mode("[greylist]\nmode = \"envelope\"\n"), Mode::Envelope);
    assert_eq!(mode("[greylist]\nmode = \"content\"\n"), Mode::Content);
    assert_eq!(mode("[greylist]\ndelay = \"2m\"\n"), Mode::Hybrid);
}

#[test]
fn values_of_content_reach_their_rooms() {
    let config = legal(
        r#"
        [milter]
        header_on = "passed"
        [content]
        delay = "90s"
        repeat = "0s"
        trust = "address"
        contacts = 12
        contacts_after = "2h"
        hash_limit = 1_048_576
        [store]
        contents = 5_000_000
        contents_per_network = 50_000
        contents_sweep = "2h"
        "#,
    );
    let content = ContentRules {
        delay: Duration::from_secs(90),
        repeat: Duration::ZERO,
        trust: ContentTrust::Address,
        contacts: 12,
        contacts_after: Duration::from_hours(2),
        hash_limit: 1 << 20,
    };
    assert_eq!(config.policy.content, content);
    assert_eq!(config.milter.header_on, HeaderOn::Passed);
    assert_eq!(config.store.contents, 5_000_000);
    assert_eq!(config.store.contents_per_network, 50_000);
    assert_eq!(config.store.contents_sweep, Duration::from_hours(2));
}

#[test]
fn times_of_content_leave_room_for_a_retry_unless_they_are_set() {
    let times = |text: &str| {
        let content = legal(text).policy.content;
        (content.delay, content.contacts_after)
    };
    let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
    assert_eq!(times(""), (seconds(60), minutes(60)));
    let short = "[greylist]\ndelay = \"2s\"\nretry_window = \"1m\"\n";
    assert_eq!(times(short), (seconds(30), minutes(3)));
    let set = format!("{short}[content]\ndelay = \"50s\"\ncontacts_after = \"1h\"\n");
    assert_eq!(times(&set), (seconds(50), minutes(60)));
}
