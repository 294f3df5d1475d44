//! Clients that are turned away, on the wire.

use std::sync::Arc;

use greygate::policy::{Policy, RefuseReason, Verdict};

use crate::world::World;

#[test]
fn sentenced_client_is_told_421_with_a_contact_and_the_next_session_is_judged_anew() {
    let world = World::new();
    let sentenced = Verdict::Refuse(RefuseReason::Sentenced);
    world.table.tell("b@y.example", sentenced);
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    let answer = mta.rcpt("b@y.example").expect("an answer");
    assert!(answer.status.starts_with("y421 4.7.0 "), "{answer:?}");
    assert!(
        answer.status.contains(" postmaster@mx.example "),
        "{answer:?}"
    );
    mta.abort();
    mta.quit().expect("a clean end");
    assert_eq!(world.metric("milter_turned_away_total"), 1);
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("c@y.example").expect("an answer").is_deferral());
}

#[test]
fn client_sentenced_between_recipient_and_data_is_told_421_at_data() {
    let world = World::new();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    assert!(
        mta.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    world.table.sentence();
    let answer = mta.data().expect("an answer");
    assert!(answer.status.starts_with("y421 4.7.0 "), "{answer:?}");
    mta.abort();
    mta.quit().expect("a clean end");
    assert_eq!(world.metric("milter_turned_away_total"), 1);
}

#[test]
fn bad_reputation_is_refused_with_the_codes_of_its_action() {
    let world = World::new();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    for (permanently, codes) in [(true, "y550 5.7.1 "), (false, "y451 4.7.1 ")] {
        let bad = Verdict::Refuse(RefuseReason::BadReputation { permanently });
        world.table.tell("b@y.example", bad);
        let answer = mta.rcpt("b@y.example").expect("an answer");
        assert!(answer.status.starts_with(codes), "{answer:?}");
    }
    assert_eq!(world.metric("milter_refusals_total"), 2);
}

#[test]
fn contact_of_a_reload_is_named_to_the_sessions_after_it() {
    let world = World::new();
    let sentenced = Verdict::Refuse(RefuseReason::Sentenced);
    world.table.tell("b@y.example", sentenced);
    let answer = || {
        let mut mta = world.session();
        mta.mail("a@x.example").expect("held");
        mta.rcpt("b@y.example").expect("an answer").status
    };
    let before = answer();
    assert!(before.contains(" postmaster@mx.example "), "{before}");
    let mut policy = Policy::default();
    "help@example.org".clone_into(&mut policy.punish.contact);
    world.policy.store(Arc::new(policy));
    let after = answer();
    assert!(after.contains(" help@example.org "), "{after}");
}
