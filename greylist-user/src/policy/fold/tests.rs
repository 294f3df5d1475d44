use proptest::prelude::*;

use super::*;

fn folded(reverse_path: &str, recipient: &str) -> String {
    let mut text = Vec::new();
    fold(reverse_path.as_bytes(), recipient.as_bytes(), |piece| {
        text.extend_from_slice(piece);
    });
    String::from_utf8(text).expect("pieces of a text are a text")
}

/// In mails to `user@d.example`.
const TABLE: &[(&str, &str)] = &[
    // People and plain senders stay.
    ("", ""),
    ("no-domain", "no-domain"),
    ("News@A.Example", "news@a.example"),
    ("john1984@a.example", "john1984@a.example"),
    ("s12345678@uni.example", "s12345678@uni.example"),
    ("1234567890@numbers.example", "1234567890@numbers.example"),
    ("49-170-1234567@sms.example", "49-170-1234567@sms.example"),
    ("deadbeef@a.example", "deadbeef@a.example"),
    ("list2-123@a.example", "list2-123@a.example"),
    ("mary.ann-lee@a.example", "mary.ann-lee@a.example"),
    ("\"john doe\"@a.example", "\"john doe\"@a.example"),
    ("j\u{fc}rgen@a.example", "j\u{fc}rgen@a.example"),
    (
        "alice=origin.example@fwd.example",
        "alice=origin.example@fwd.example",
    ),
    // Extensions.
    ("news+17-abc@a.example", "news@a.example"),
    ("+odd@a.example", "+odd@a.example"),
    (
        "noreply+zj4o9c2c9ata@social.example",
        "noreply@social.example",
    ),
    (
        "team+bncBCAAB7O2QGBQMGQEU5XQ@groups.example",
        "team@groups.example",
    ),
    ("me+caf_=user=d.example@mail.example", "me@mail.example"),
    (
        "list-bounces+user=d.example@l.example",
        "list-bounces@l.example",
    ),
    (
        "bounces+SRS=kDv2s=6P@tenant.example",
        "bounces@tenant.example",
    ),
    // VERP: this recipient, another, and counters.
    ("bounce-user=d.example@l.example", "bounce-#@l.example"),
    ("bounce-USER=D.example@l.example", "bounce-#@l.example"),
    (
        "bounce-20931-user=d.example@l.example",
        "bounce-#-#@l.example",
    ),
    (
        "bounce-20931-other=b.example@l.example",
        "bounce-#-#@l.example",
    ),
    (
        "bounce-1=user=d.example@lists.example",
        "bounce-#=#@lists.example",
    ),
    (
        "bounce-1=x=d.example@lists.example",
        "bounce-#=#@lists.example",
    ),
    (
        "rust-return-712-user=d.example@l.example",
        "rust-return-#-#@l.example",
    ),
    (
        "perl-return-9-user=d.example@l.example",
        "perl-return-#-#@l.example",
    ),
    (
        "sentto-17-8912-1029-user=d.example@g.example",
        "sentto-#-#-#-#@g.example",
    ),
    (
        "bounce-mc.us1_12.345-user=d.example@m.example",
        "bounce-mc.us1_#.#-#@m.example",
    ),
    ("bounce-news-3@l.example", "bounce-news-#@l.example"),
    ("bounce-offers-3@l.example", "bounce-offers-#@l.example"),
    ("bounce20931@l.example", "bounce#@l.example"),
    (
        "bounces-17_HTML-8871-310@e.example",
        "bounces-#_html-#-#@e.example",
    ),
    (
        "b04e8d3f5f3user=d.example@bounce.example",
        "##@bounce.example",
    ),
    ("news-d.example=user@l.example", "news-#@l.example"),
    ("owner-l*user**d.example@l.example", "owner-l*#@l.example"),
    (
        "user=d.example__0-1ab9c2d3e4f5a@crm.example",
        "#__#-#@crm.example",
    ),
    // Tokens.
    ("v-0123456789abcdef0123@m.example", "v-#@m.example"),
    ("msg.5f2b1c9a@m.example", "msg.#@m.example"),
    ("s-2sb3adq7kk1x9fzc@social.example", "s-#@social.example"),
    ("news-2024@a.example", "news-#@a.example"),
    (
        "n-123e4567-e89b-12d3-abcd-426614174000@m.example",
        "n-#-#-#-#-#@m.example",
    ),
    (
        "0102018e5d4f3c2b-1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d-000000@ses.example",
        "#-#-#-#-#-#-#@ses.example",
    ),
    // BATV.
    ("prvs=0123abcdef=user@a.example", "user@a.example"),
    ("prvs=user=0123abcdef@a.example", "user@a.example"),
    ("PRVS=4567ABCDEF=Sales@a.example", "sales@a.example"),
    (
        "prvs=14506e22b5=johnathan2@a.example",
        "johnathan2@a.example",
    ),
    (
        "prvs=johnathan2=1450fe22b5@a.example",
        "johnathan2@a.example",
    ),
    ("prvs=1506e22b5=user@a.example", "user@a.example"),
    ("prvs=0123abcdef=news-2024@a.example", "news-#@a.example"),
    ("prvs=0123abcdef=u=d@a.example", "u=d@a.example"),
    ("prvs=one=two@a.example", "prvs=one=two@a.example"),
    ("prvs=0123abcdef@a.example", "prvs=#@a.example"),
    ("btv1==0457e3a1f2c==user@a.example", "user@a.example"),
    (
        "msprvs1=17812q0RFPG9s=bounces-173604-7@s.example",
        "bounces-#-#@s.example",
    ),
    // SRS.
    (
        "SRS0=HHH=TT=o.example=alice@f.example",
        "srs0=#=#=o.example=alice@f.example",
    ),
    (
        "srs0+xY9z=4Q=O.example=Alice@f.example",
        "srs0=#=#=o.example=alice@f.example",
    ),
    (
        "SRS0-a+/b=4R=o.example=alice@f.example",
        "srs0=#=#=o.example=alice@f.example",
    ),
    (
        "SRS0=HHH=TT=o.example=bob@f.example",
        "srs0=#=#=o.example=bob@f.example",
    ),
    (
        "SRS0=HHH=TT=p.example=alice@f.example",
        "srs0=#=#=p.example=alice@f.example",
    ),
    (
        "SRS0=HHH=TT=l.example=bounce-77-user=d.example@f.example",
        "srs0=#=#=l.example=bounce-#-#@f.example",
    ),
    (
        "SRS1=GGG=f.example==HHH=TT=o.example=alice@s.example",
        "srs1=#=f.example==#=#=o.example=alice@s.example",
    ),
    (
        "SRS1+GGG=F.example=+HHH=TT=o.example=alice@s.example",
        "srs1=#=f.example==#=#=o.example=alice@s.example",
    ),
    ("SRS0+broken@f.example", "srs0+broken@f.example"),
    ("srs0news@f.example", "srs0news@f.example"),
];

#[test]
fn folds_what_changes_from_mail_to_mail() {
    for (reverse_path, expected) in TABLE {
        let told = folded(reverse_path, "user@d.example");
        assert_eq!(&told, expected, "of {reverse_path}");
    }
}

#[test]
fn folding_twice_changes_nothing() {
    for (reverse_path, expected) in TABLE {
        let told = folded(expected, "user@d.example");
        assert_eq!(&told, expected, "of {reverse_path}");
    }
}

#[test]
fn each_recipient_of_a_list_has_one_sender() {
    for recipient in [
        "user@d.example",
        "mary-ann@b.example",
        "x@y.example",
        "a=b@c.example",
    ] {
        let embedded = recipient.replace('@', "=");
        for (begin, expected) in [
            ("bounce-1-", "bounce-#-#@l.example"),
            ("news-", "news-#@l.example"),
        ] {
            let reverse_path = format!("{begin}{embedded}@l.example");
            assert_eq!(
                folded(&reverse_path, recipient),
                expected,
                "of {reverse_path}"
            );
        }
    }
}

#[test]
fn looks_around_so_many_separators_and_no_more() {
    let of = |separators| {
        let reverse_path = format!("{}user=d.example@l.example", "x=".repeat(separators));
        folded(&reverse_path, "user@d.example").contains('#')
    };
    assert!(of(SEPARATORS_TRIED - 1));
    assert!(!of(SEPARATORS_TRIED), "strangers choose their number");
}

proptest! {
    #[test]
    fn plain_local_part_is_left_by_every_rule(
        local_part in "(bounce|srs|prvs|btv|a|Deadbeef|[a-zA-Z]{1,16})([-._]{0,2}[a-zA-Z]{0,12}){0,4}",
        recipient in "[a-c]{1,2}@[a-c]{1,2}",
    ) {
        let (mut plain, mut any_kind) = (Vec::new(), Vec::new());
        prop_assert!(is_plain(local_part.as_bytes()));
        lower_case(local_part.as_bytes(), |piece| plain.extend_from_slice(piece));
        fold_local_part_of_any_kind(local_part.as_bytes(), recipient.as_bytes(), &mut |piece| {
            any_kind.extend_from_slice(piece);
        });
        prop_assert_eq!(plain, any_kind);
    }

    #[test]
    fn folds_any_bytes(
        reverse_path in proptest::collection::vec(any::<u8>(), 0..300),
        recipient in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut length = 0;
        fold(&reverse_path, &recipient, |piece| length += piece.len());
        prop_assert!(length <= reverse_path.len());
    }

    #[test]
    fn folds_what_looks_like_an_address(
        reverse_path in "(prvs=|SRS0=|SRS1[+]|btv1==)?([a-f0-9]{1,12}[-=+._*]{1,2}){0,6}[a-z]{0,4}@l[.]example",
        recipient in "[a-f0-9]{1,3}@[a-f0-9]{1,3}",
    ) {
        prop_assert!(folded(&reverse_path, &recipient).len() <= reverse_path.len());
    }

    /// Names of letters, with or without a few digits behind them, are what people have.
    #[test]
    fn never_makes_one_sender_of_two_people(
        one in "[g-z]{2,12}([.-][g-z]{2,12})?[0-9]{0,8}",
        other in "[g-z]{2,12}([.-][g-z]{2,12})?[0-9]{0,8}",
        number_one in "[0-9]{5,12}",
        number_other in "[0-9]{5,12}",
    ) {
        let of = |name: &str| folded(&format!("{name}@a.example"), "user@d.example");
        prop_assert_eq!(of(&one) == of(&other), one == other);
        prop_assert_eq!(of(&number_one) == of(&number_other), number_one == number_other);
    }

    #[test]
    fn lists_of_one_host_stay_different(
        one in "[a-z]{3,10}", other in "[a-z]{3,10}", first in 0u32..99_999, next in 0u32..99_999,
    ) {
        let of = |list: &str, number: u32| {
            let reverse_path = format!("{list}-return-{number}-user=d.example@l.example");
            folded(&reverse_path, "user@d.example")
        };
        prop_assert_eq!(of(&one, first), of(&one, next));
        prop_assert_eq!(of(&one, first) == of(&other, next), one == other);
    }
}
