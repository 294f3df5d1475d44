//! Two hosts of which one is ahead by half a minute: nobody is treated worse or better than by so much.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, DeferReason, Verdict};
use greygate::store::Shared;
use greygate::store::codec::Row;

use support::interrupt;

use crate::hosts::{ATTEMPT, Host, Site, block, client, is_new, is_sentenced, play, until};

const DIFFERENCE: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_mins(3);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn delay_is_shorter_or_longer_by_the_difference_at_most() {
    // Nothing tells a retry of it from the next mail: none makes it wait longer.
    let attempt = Attempt {
        announced_size: 0,
        ..ATTEMPT
    };
    for first in [Which::Behind, Which::Ahead] {
        apart(|two| {
            let (first, then) = match first {
                Which::Behind => (&two.behind, &two.ahead),
                Which::Ahead => (&two.ahead, &two.behind),
            };
            assert!(is_new(first.judge(&attempt)));
            until("the other knows the tuple", || then.knows(&attempt));
            two.pass(DELAY.saturating_sub(DIFFERENCE + SECOND));
            let early = then.judge(&attempt);
            assert!(
                matches!(early, Verdict::Defer(DeferReason::Early { .. })),
                "{early:?}"
            );
            two.pass(SECOND + 2 * DIFFERENCE);
            let late = then.judge(&attempt);
            assert!(matches!(late, Verdict::Pass(_)), "{late:?}");
        });
    }
}

/// It comes back every 35 seconds: by the clock of the one behind, five after it was at the one ahead.
#[test]
fn sender_that_goes_from_host_to_host_is_never_struck() {
    apart(|two| {
        let mut deferrals = 0;
        for host in [&two.ahead, &two.behind].into_iter().cycle().take(40) {
            match host.judge(&ATTEMPT) {
                Verdict::Defer(_) => {
                    deferrals += 1;
                    // What others are to hear is told twenty times a second; not each attempt is worth it.
                    interrupt::pause(Duration::from_millis(100)).expect("nobody interrupts");
                }
                Verdict::Pass(_) => {}
                verdict @ (Verdict::Read(_) | Verdict::Refuse(_)) => panic!("{verdict:?}"),
            }
            two.pass(DIFFERENCE + 5 * SECOND);
        }
        assert!(deferrals < 20, "{deferrals} deferrals");
        assert!(!is_struck(&two.behind) && !is_struck(&two.ahead));
    });
}

#[test]
fn sentence_and_pardon_of_the_one_ahead_hold_at_the_other() {
    apart(|two| {
        two.ahead
            .store
            .punish(block(&two.ahead_site, client()))
            .expect("there is room");
        until("the other sentences", || {
            is_sentenced(&two.behind, &two.site)
        });
        two.pass(SECOND);
        two.ahead
            .store
            .forgive(client(), two.ahead_site.clock.now());
        until("the other forgives", || {
            !is_sentenced(&two.behind, &two.site)
        });
    });
}

#[test]
fn pardon_of_the_one_behind_lifts_what_the_one_ahead_has_just_given() {
    apart(|two| {
        two.ahead
            .store
            .punish(block(&two.ahead_site, client()))
            .expect("there is room");
        until("the other sentences", || {
            is_sentenced(&two.behind, &two.site)
        });
        two.pass(SECOND);
        two.behind.store.forgive(client(), two.site.clock.now());
        until("the one ahead forgives", || {
            !is_sentenced(&two.ahead, &two.ahead_site)
        });
        two.behind.cluster.resync();
        two.ahead.cluster.resync();
        until("all is compared", || {
            [&two.behind, &two.ahead]
                .iter()
                .all(|it| it.metrics.resyncs.get() > 1 && !it.cluster.standing().resyncing)
        });
        let is_back =
            is_sentenced(&two.behind, &two.site) || is_sentenced(&two.ahead, &two.ahead_site);
        assert!(!is_back, "nothing brings it back");
    });
}

/// One of them.
#[derive(Clone, Copy)]
enum Which {
    Behind,
    Ahead,
}

/// Two hosts.
struct Two {
    behind: Host,
    ahead: Host,
    site: Site,
    ahead_site: Site,
}

impl Two {
    /// Time goes by, for both.
    fn pass(&self, time: Duration) {
        self.site.clock.advance(time);
        self.ahead_site.clock.advance(time);
    }
}

fn apart(test: impl FnOnce(&Two) + Send) {
    play(|_, site| {
        let ahead_site = site.ahead_by(DIFFERENCE);
        let two = Two {
            behind: site.host("mx1"),
            ahead: ahead_site.host("mx2"),
            site: site.clone(),
            ahead_site,
        };
        two.behind.wait_until_it_shares();
        two.ahead.wait_until_it_shares();
        test(&two);
    });
}

/// Whether any client was struck at a host: none authenticates, which would be remembered in the same place.
fn is_struck(host: &Host) -> bool {
    let mut is_struck = false;
    host.store.for_each_told(|told| {
        is_struck |= matches!(told, Shared::Row(Row::Client(..)));
    });
    is_struck
}
