use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::config::{ConfigError, parse, read};
use crate::policy::{Attempt, Mode, Refusing};

fn legal(text: &str) -> Config {
    parse(Path::new("f"), text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wrong(text: &str) -> Vec<String> {
    match parse(Path::new("f"), text.as_bytes()) {
        Err(ConfigError::Illegal(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

/// A file that names a list file, both in a directory of their own.
struct Place(TempDir);

impl Place {
    fn new(list: &str) -> Self {
        let place = Self(TempDir::new().expect("there is room for a directory"));
        fs::write(place.path("senders.list"), list).expect("the directory is ours");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, keys: &str) -> Result<Config, String> {
        let file = self.path("greygate.toml");
        let text = format!(
            "[store]\ndirectory = {:?}\n[admin]\nsocket = {:?}\ngroup = \"\"\n[lists]\n{}\n",
            self.path("state"),
            self.path("control.sock"),
            keys.replace("DIR", &self.0.path().display().to_string())
        );
        fs::write(&file, text).expect("the directory is ours");
        let here = format!("{}/", self.0.path().display());
        read(&file).map_err(|error| error.to_string().replace(&here, ""))
    }
}

#[test]
fn shipped_entries_are_few_dated_and_have_their_reason() {
    let (lines, wrong) = list_file::parse(NO_RETRY);
    assert_eq!(wrong, []);
    assert!((1..=20).contains(&lines.len()), "few: {}", lines.len());
    for ListLine { entry, comment, .. } in lines {
        let (date, reason) = comment
            .split_once(": ")
            .unwrap_or_else(|| panic!("{entry} says neither date nor reason"));
        let numbers: Vec<u32> = date.split('-').filter_map(|it| it.parse().ok()).collect();
        let [year, month, day] = numbers[..] else {
            panic!("{entry}: {date} is no date");
        };
        assert!(year >= 2015 && (1..=12).contains(&month) && (1..=31).contains(&day));
        let (what, source) = reason
            .split_once(" (")
            .expect("the source stands in parentheses");
        assert!(
            what.contains("no retry") && source.len() > 5,
            "{entry}: {reason}"
        );
        assert!(!entry.is_wide(), "{entry}");
    }
}

#[test]
fn shipped_list_counts_unless_it_is_off() {
    assert!(!legal("").policy.lists.no_retry.entries().is_empty());
    let off = legal("[lists]\nno_retry = \"off\"\n");
    assert!(off.policy.lists.no_retry.entries().is_empty());
}

#[test]
fn entries_know_their_line() {
    let config = legal(
        "[lists]\nallow = [\n  \"192.0.2.0/24\",\n  \".example.org\", \"from @example.net\",\n]\n\
         deny = [\"helo ylmf-pc\"]\ndeny_action = \"defer\"\n",
    );
    let lists = &config.policy.lists;
    let told: Vec<_> = [&lists.allow, &lists.deny]
        .into_iter()
        .flat_map(List::entries)
        .map(|it| format!("{} at {}", it.entry, it.source))
        .collect();
    assert_eq!(
        told,
        [
            "192.0.2.0/24 at f:3",
            ".example.org at f:4",
            "from @example.net at f:4",
            "helo ylmf-pc at f:6",
        ]
    );
    assert_eq!(config.policy.deny, Refusing::Defer);
}

#[test]
fn every_wrong_entry_is_named_at_once_with_its_line() {
    assert_eq!(
        wrong(
            "[lists]\nallow = [\n\"192.0.2.7/24\",\n\"fine.example.org\",\n\"*.example.org\",\n]\ndeny = [7]\n"
        ),
        [
            "f:3: [lists] allow: 192.0.2.7/24 has bits set beyond its prefix; write \"192.0.2.0/24\", or the one address alone",
            "f:5: [lists] allow: \"*.example.org\" names nobody; write \".example.org\" for example.org and all below it",
            "f:7: [lists] deny: expected an entry such as \"192.0.2.0/24\", found the number 7",
        ]
    );
}

#[test]
fn list_file_is_read_with_comments_and_its_entries_know_their_line() {
    let place = Place::new("# ours\n\n192.0.2.7 # the backup\n  FROM a#b@Example.org\t# odd\n");
    let config = place
        .read("allow_files = [\"DIR/senders.list\"]\nallow = [\"198.51.100.1\"]")
        .expect("both are legal");
    let entries = config.policy.lists.allow.entries();
    let told: Vec<_> = entries.iter().map(|it| it.entry.to_string()).collect();
    assert_eq!(told, ["198.51.100.1", "192.0.2.7", "from a#b@example.org"]);
    let source = entries[2].source.to_string();
    assert!(source.ends_with("/senders.list:4"), "{source}");
}

#[test]
fn wrong_lines_of_a_list_file_are_named_all_and_a_missing_file_with_its_key() {
    let place = Place::new("192.0.2.7\nnonsense\n192.0.2.0/33 # wide\n");
    let error = place
        .read("allow_files = [\"DIR/senders.list\"]\ndeny_files = [\"DIR/gone.list\"]\ndelay = 3")
        .expect_err("none is legal");
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        lines[0]
            .starts_with("greygate.toml:8: [lists] deny_files: gone.list does not exist; make it"),
        "{error}"
    );
    assert!(lines[1].contains("has no key \"delay\""), "{error}");
    assert!(
        lines[2].starts_with("senders.list:2: \"nonsense\" is no whole host name"),
        "{error}"
    );
    assert!(
        lines[3].starts_with("senders.list:3: \"192.0.2.0/33\" is no network"),
        "{error}"
    );
}

#[test]
fn list_file_is_bounded_and_a_plain_one() {
    let place = Place::new("");
    let refused = |what: &str| {
        place
            .read("never_trust_files = [\"DIR/senders.list\"]")
            .expect_err(what)
    };
    fs::write(place.path("senders.list"), "\n".repeat(400_001)).expect("the directory is ours");
    let error = refused("too many lines");
    assert!(
        error.contains("400001 lines are more than a list may have"),
        "{error}"
    );
    fs::write(place.path("senders.list"), vec![b'#'; (16 << 20) + 1]).expect("there is room");
    assert!(refused("too large").contains("larger than 16 MiB"));
    fs::write(place.path("senders.list"), b"192.0.2.7\n\xff\n").expect("the directory is ours");
    let error = refused("no text");
    assert!(error.contains("senders.list:2: not UTF-8"), "{error}");
    fs::remove_file(place.path("senders.list")).expect("it is there");
    fs::create_dir(place.path("senders.list")).expect("the directory is ours");
    assert!(refused("a directory").contains("no plain file"));
    let pipe = place.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("the directory is ours");
    let error = place
        .read("allow_files = [\"DIR/pipe\"]")
        .expect_err("nobody writes to it");
    assert!(error.contains("no plain file"), "{error}");
    let hundred: String = (0..100).map(|_| "wrong\n").collect();
    fs::remove_dir(place.path("senders.list")).expect("it is empty");
    fs::write(place.path("senders.list"), hundred).expect("the directory is ours");
    let error = refused("a hundred mistakes");
    assert_eq!(error.lines().count(), 20, "{error}");
    assert!(
        error.ends_with("(and 80 more lines of this file)"),
        "{error}"
    );
}

#[test]
fn list_files_are_the_daemons_and_nobody_else_needs_them() {
    let place = Place::new("nonsense\n");
    let _ = place.read("allow_files = [\"DIR/senders.list\"]");
    let elsewhere = crate::config::read_anywhere(&place.path("greygate.toml"));
    assert!(elsewhere.is_ok(), "a command asks only for the socket");
}

#[test]
fn recipients_have_what_they_set_and_the_sites_rules_for_the_rest() {
    let config = legal(
        "[greylist]\nmode = \"envelope\"\ndelay = \"10m\"\ntrust = \"9d\"\n\
         [[recipients]]\nmatch = [\"example.org\", \".example.org\"]\ndelay = \"1m\"\n\
         [[recipients]]\nmatch = [\"info@example.org\"]\ngreylist = \"off\"\nmode = \"content\"\n",
    );
    let policy = &config.policy;
    let domain = policy.for_recipient(b"a@mx.example.org");
    assert_eq!((domain.mode, domain.greylists), (Mode::Envelope, true));
    assert_eq!(domain.delay, Duration::from_mins(1));
    assert_eq!(domain.trust, policy.trust);
    let info = policy.for_recipient(b"info@example.org");
    assert_eq!((info.mode, info.greylists), (Mode::Content, false));
    assert_eq!(info.delay, Duration::from_mins(10));
    let (pattern, own) = policy
        .of_recipient(b"info@example.org")
        .expect("it has one");
    assert_eq!(
        (pattern.to_string(), own.source.to_string()),
        ("info@example.org".to_owned(), "f:9".to_owned())
    );
    assert!(policy.of_recipient(b"a@example.net").is_none());
    assert!(policy.reads_anywhere() && !policy.mode.reads());
}

#[test]
fn only_those_are_greylisted_who_are_opted_in_where_nobody_else_is() {
    let config =
        legal("[greylist]\nrecipients = \"listed\"\n[[recipients]]\nmatch = [\"example.org\"]\n");
    assert!(!config.policy.greylists);
    assert!(config.policy.for_recipient(b"a@example.org").greylists);
    assert!(!config.policy.for_recipient(b"a@example.net").greylists);
    let nobody = legal("[greylist]\nrecipients = \"listed\"\n").remarks();
    assert!(
        nobody.iter().any(|it| it.contains("nobody is greylisted")),
        "{nobody:?}"
    );
}

#[test]
fn wrong_recipients_are_named_with_their_line() {
    for (text, problems) in [
        (
            "[[recipients]]\nmatch = [\"example.org\"]\n[[recipients]]\nmatch = [\"a@x.example\", \"EXAMPLE.org\"]\n",
            vec!["f:4: [[recipients]] match: @example.org is named on line 2 already; remove one"],
        ),
        (
            "[[recipients]]\ndelay = \"1m\"\n",
            vec!["f:1: [[recipients]] match: nobody is named; write one such as [\"example.org\"]"],
        ),
        (
            "[[recipients]]\nmatch = [\"*@example.org\"]\ndelay = \"24h\"\ncolour = 1\n",
            vec![
                "f:2: [[recipients]] match: \"*@example.org\" names nobody; write one address, or \"@example.org\" for all of the domain",
                "f:3: [[recipients]] delay: \"24h\" is out of range; write one from \"1ms\" to \"12h\"",
                "f:4: [[recipients]] has no key \"colour\"; its keys are match, greylist, mode, delay",
            ],
        ),
        (
            "[greylist]\nretry_window = \"1h\"\n[[recipients]]\nmatch = [\"example.org\"]\ndelay = \"2h\"\n",
            vec![
                "f:5: [[recipients]] delay: 2h, with up to 0s more for early retries, is not less than the retry_window of 1h, so that some mail would never pass; write less, or raise retry_window",
            ],
        ),
        (
            "[recipients]\nmatch = [\"example.org\"]\n",
            vec![
                "f:1: recipients: each is a section of its own; write it below a line [[recipients]]",
            ],
        ),
    ] {
        let told = wrong(text);
        assert_eq!(told, problems, "{text}");
    }
}

#[test]
fn networks_of_allow_and_local_shield_and_names_do_not_reach_the_kernel() {
    let config = legal(
        "[lists]\nallow = [\"192.0.2.0/24\", \".example.org\"]\nlocal = [\"198.51.100.7\"]\n",
    );
    let lists = &config.policy.lists;
    assert_eq!(lists.allow.networks().count(), 1);
    let attempt = Attempt {
        client_name: b"mx.example.org",
        ..crate::policy::fixture::ATTEMPT
    };
    assert!(config.policy.shielding(&attempt).is_some());
    assert_eq!(lists.local.networks().count(), 1);
}
