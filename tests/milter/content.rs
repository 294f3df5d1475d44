//! Messages that are read to their end, on the wire.

use support::mta::Mta;

use crate::world::{CLIENT, World};

#[test]
fn message_that_is_to_be_read_is_deferred_at_its_end() {
    let world = World::new();
    for endpoint in [world.inet(), world.unix()] {
        let mut mta = Mta::open(endpoint, CLIENT).expect("a session");
        mta.mail("a@x.example").expect("held");
        assert!(mta.rcpt("read@y.example").expect("an answer").is_continue());
        assert!(mta.data().expect("an answer").is_continue());
        mta.hold(b'L', b"Message-ID\0 <1@x.example>\0");
        let piece = vec![b'x'; 65_535];
        for _ in 0..40 {
            mta.hold(b'B', &piece);
        }
        assert!(mta.end_of_message().expect("an answer").is_deferral());
        mta.quit().expect("a clean end");
    }
    let heard = "content <a@x.example> read@y.example";
    assert_eq!(world.table.heard(), [heard; 2]);
    assert_eq!(world.metric("milter_contents_read_total"), 2);
    let stage = r#"milter_deferrals_total{stage="end_of_message"}"#;
    assert_eq!(world.metric(stage), 2);
}

#[test]
fn message_that_is_given_up_half_way_proves_nothing() {
    let world = World::new();
    let mut mta = world.session();
    for ends_politely in [true, false] {
        mta.mail("a@x.example").expect("held");
        assert!(mta.rcpt("read@y.example").expect("an answer").is_continue());
        assert!(mta.data().expect("an answer").is_continue());
        mta.hold(b'B', b"half a body");
        if ends_politely {
            mta.abort();
        }
    }
    mta.quit().expect("a clean end");
    world.wait_for_metric("milter_connections_open", 0);
    assert!(world.table.heard().is_empty());
}
