//! What the arguments say, and what they refuse.

use clap::CommandFactory;

use super::*;

#[test]
fn arguments_are_consistent() {
    Cli::command().debug_assert();
}

/// What an operator is to type is shown where it is asked for.
#[test]
fn every_command_has_examples_and_answers_in_json() {
    fn check(command: &clap::Command, words: &str) {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let (_, examples) = help
            .split_once("Example")
            .unwrap_or_else(|| panic!("{words} has no examples: {help:?}"));
        let is_shown = examples.lines().any(|line| line.contains(words));
        assert!(is_shown, "{words} is not in its examples: {examples}");
        let mut options = command.get_arguments();
        assert!(options.any(|it| it.get_long() == Some("json")), "{words}");
        for below in command.get_subcommands() {
            check(below, &format!("{words} {}", below.get_name()));
        }
    }
    let mut whole = Cli::command();
    whole.build();
    for command in whole.get_subcommands() {
        check(command, &format!("greygate {}", command.get_name()));
    }
}

#[test]
fn record_is_forgotten_by_its_fingerprint_or_trust_by_whose_it_is() {
    let forget = |words: &[&str]| Cli::try_parse_from([&["greygate", "forget"], words].concat());
    for legal in [
        &["00ff00ff00ff00ff00ff00ff00ff00ff"][..],
        &["--trust", "192.0.2.7", "s@a.example"],
        &["--trust", "192.0.2.7", "<>", "r@b.example"],
    ] {
        assert!(forget(legal).is_ok(), "{legal:?}");
    }
    for wrong in [
        &[][..],
        &["--trust", "192.0.2.7"],
        &["00ff", "--trust", "192.0.2.7", "s@a.example"],
    ] {
        assert!(forget(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn lists_are_named_and_filtered() {
    let list = |words: &[&str]| Cli::try_parse_from([&["greygate", "list"], words].concat());
    let asked = list(&[
        "pending",
        "--network",
        "192.0.2.7",
        "--older",
        "1h",
        "--sender",
        "<>",
    ]);
    let Command::List(args) = asked.expect("legal").command else {
        panic!("that was list");
    };
    let question = args.question();
    assert_eq!(question.older, Some(3_600));
    assert_eq!(question.sender.as_deref(), Some(""));
    let network = question.network.map(|network| network.to_string());
    assert_eq!(network.as_deref(), Some("192.0.2.7/32"));
    for wrong in [
        &[][..],
        &["everything"],
        &["pending", "--network", "example.org"],
        &["pending", "--older", "1"],
        &["pending", "--sort", "size"],
    ] {
        assert!(list(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn options_stand_before_or_after_the_command() {
    for line in [
        &["greygate", "--json", "--socket", "/s", "status"][..],
        &["greygate", "status", "--json", "--socket", "/s"],
    ] {
        let cli = Cli::try_parse_from(line).expect("legal");
        assert!(cli.json && cli.socket.is_some());
    }
}

#[test]
fn durations_of_the_command_line_are_those_of_the_file() {
    let punish = |duration: &str| {
        Cli::try_parse_from(["greygate", "punish", "192.0.2.7", "--for", duration])
    };
    let Command::Punish { duration, .. } = punish("1h30m").expect("legal").command else {
        panic!("that was punish");
    };
    assert_eq!(duration, Some(Duration::from_mins(90)));
    let refused = punish("30").expect_err("a bare number").to_string();
    assert!(refused.contains("30 has no unit"), "{refused}");
}

#[test]
fn overrides_name_a_key_and_the_last_of_them_wins() {
    let serve = |words: &[&str]| Cli::try_parse_from([&["greygate", "serve"], words].concat());
    let words = [
        "--set",
        "xdp.rate=9",
        "--observe",
        "--set",
        "xdp.action=enforce",
    ];
    let Command::Serve { overrides, .. } = serve(&words).expect("legal").command else {
        panic!("that was serve");
    };
    let all: Vec<_> = overrides.all().iter().map(ToString::to_string).collect();
    assert_eq!(all[0], "greylist.action=observe");
    assert_eq!(all[all.len() - 2..], ["xdp.rate=9", "xdp.action=enforce"]);
    assert!(serve(&["--set", "delay=5m"]).is_err());
}

#[test]
fn trial_has_a_time() {
    let load = |words: &[&str]| Cli::try_parse_from([&["greygate", "xdp", "load"], words].concat());
    let Command::Xdp(XdpCommand::Load { confirm_within }) =
        load(&["--confirm-within", "60s"]).expect("legal").command
    else {
        panic!("that was load");
    };
    assert_eq!(confirm_within, Some(Duration::from_mins(1)));
    assert!(load(&[]).is_ok());
    assert!(load(&["--confirm-within"]).is_err());
}

#[test]
fn mail_is_asked_about_with_both_its_ends_or_not_at_all() {
    let why = |words: &[&str]| Cli::try_parse_from([&["greygate", "why"], words].concat());
    let asked = why(&["2001:db8::7", "<>", "r@b.example", "--name", ""]).expect("legal");
    let Command::Why { sender, name, .. } = asked.command else {
        panic!("that was why");
    };
    assert_eq!(sender.as_deref(), Some("<>"));
    assert_eq!(name.as_deref(), Some(""), "it has none");
    assert!(why(&["192.0.2.7"]).is_ok());
    assert!(why(&["192.0.2.7", "s@a.example"]).is_err());
    assert!(why(&["192.0.2.0/24"]).is_err());
    assert!(why(&[]).is_err());
}

#[test]
fn reports_name_a_client_and_what_became_of_its_mail() {
    let report = |words: &[&str]| Cli::try_parse_from([&["greygate", "report"], words].concat());
    for legal in [
        &["spam", "192.0.2.7"][..],
        &["ham", "192.0.2.7", "--name", "mx.example"],
        &["reject", "192.0.2.7", "<>", "r@b.example", "--size", "5000"],
        &["lines"],
    ] {
        assert!(report(legal).is_ok(), "{legal:?}");
    }
    for wrong in [
        &[][..],
        &["spam"],
        &["virus", "192.0.2.7"],
        &["spam", "192.0.2.7", "mx.example"],
        &["reject", "192.0.2.7", "s@a.example"],
        &[
            "reject",
            "192.0.2.7",
            "s@a.example",
            "r@b.example",
            "--size",
            "big",
        ],
    ] {
        assert!(report(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_no_address_is_wrong_usage() {
    for line in [
        &["greygate", "punish", "example.org"][..],
        &["greygate", "forgive", "example.org"],
        &["greygate", "punish"],
        &["greygate"],
        &["greygate", "halt"],
    ] {
        let refused = Cli::try_parse_from(line).expect_err("not legal");
        assert_eq!(refused.exit_code(), 2, "{line:?}");
    }
}

#[test]
fn asking_for_help_is_no_failure() {
    let help = Cli::try_parse_from(["greygate", "--help"]).expect_err("help ends the run");
    assert_eq!(help.exit_code(), 0);
    assert!(help.to_string().contains("First steps:"), "{help}");
}
