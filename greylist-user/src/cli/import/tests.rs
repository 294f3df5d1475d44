//! Exports and imports, with real daemons.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::admin::{Envelope, OrderedLevel, PunishOrder, WhyQuestion, call};
use crate::cli::export::{self, Place};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::daemon::{Daemon, Rights};
use crate::log;
use crate::policy::SentenceLevel;

/// A daemon with a store of its own.
struct Site {
    place: TempDir,
    config: Config,
    daemon: Daemon,
}

impl Site {
    fn new(added: &str) -> Self {
        Self::with_seed(None, added)
    }

    /// A site whose seed is that of `other`, if one is given.
    fn with_seed(other: Option<&Self>, added: &str) -> Self {
        Self::with_store(other, "", added)
    }

    /// The same, with these lines more in its `[store]`.
    fn with_store(other: Option<&Self>, of_store: &str, added: &str) -> Self {
        let place = TempDir::new().expect("there is room for a directory");
        let at = |name: &str| place.path().join(name);
        let seed = other.map_or(at("seed"), |it| it.config.store.seed_file.clone());
        let text = format!(
            "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\n\
             [store]\ndirectory = {:?}\nseed_file = {seed:?}\ncapacity = 1_000\n{of_store}\
             [admin]\nsocket = {:?}\n\
             [metrics]\nlisten = \"off\"\n{added}",
            at("state"),
            at("control.sock")
        );
        let config = config::parse(Path::new("f"), text.as_bytes()).expect("legal");
        let log = log::init(&config.log);
        let (clock, rights) = (Arc::new(SystemClock), Rights::as_they_are());
        let daemon = Daemon::start(config.clone(), clock, &log, rights).expect("all is free");
        Self {
            place,
            config,
            daemon,
        }
    }

    fn socket(&self) -> &Path {
        &self.config.admin.socket
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.place.path().join(name);
        fs::write(&path, text).expect("the directory is ours");
        path
    }

    fn export(&self, kinds: &[Kind]) -> String {
        let mut text = Vec::new();
        let place = Place::Daemon {
            socket: self.socket(),
            configuration: Path::new("/nonexistent"),
        };
        export::run(&place, kinds, &mut text).expect("the daemon obeys its own user");
        String::from_utf8(text).expect("JSON")
    }

    /// Imports, and returns the report, or the error; and what was found.
    fn import(
        &self,
        file: PathBuf,
        how: impl FnOnce(&mut Import<'_>),
    ) -> (Result<Report, String>, String) {
        let files = [file];
        let options = Options {
            now: SystemClock.now(),
            ..Options::default()
        };
        let mut import = Import {
            files: &files,
            format: None,
            options: &options,
            dry_run: false,
            skip_bad: false,
        };
        how(&mut import);
        let mut findings = Vec::new();
        let report = import.run(self.socket(), &mut findings);
        let findings = String::from_utf8(findings).expect("text");
        (report.map_err(|it| it.for_people()), findings)
    }

    fn take_in(&self, file: PathBuf) -> Report {
        let (report, findings) = self.import(file, |_| ());
        assert_eq!(findings, "");
        report.expect("it is taken in")
    }

    /// What the next attempt of a client whose reverse name is `name` would get.
    fn next(&self, name: &str, sender: &str) -> (String, String) {
        let why = WhyQuestion {
            address: [192, 0, 2, 7].into(),
            name: Some(name.to_owned()),
            helo: String::new(),
            mail: Some(Envelope::bare(sender, "bert@recipient.example")),
        };
        let Ok(Answer::Why(why)) = call(self.socket(), &Request::Why(why)) else {
            panic!("the daemon should explain");
        };
        let next = &why.networks[0].mail.as_ref().expect("it was asked").next;
        (next.verdict.clone(), next.reason.clone())
    }

    fn tuples(&self) -> u64 {
        match call(self.socket(), &Request::Status) {
            Ok(Answer::Status(status)) => status.store.tuples,
            other => panic!("{other:?}"),
        }
    }
}

/// Items of other greylisters: a passed tuple, a pending one, a trusted sender, and one that lapsed.
fn foreign() -> String {
    let now = SystemClock.now().as_millis();
    let ago = |minutes: u64| now - minutes * 60_000;
    let tuple = |sender: &str, first: u64, last: u64, passed: bool| {
        format!(
            r#"{{"kind":"foreign_tuple","client":"192.0.2.7/32","sender":"{sender}","recipient":"bert@recipient.example","first_seen":{first},"last_seen":{last},"passed":{passed}}}"#
        )
    };
    [
        r#"{"greygate":"export","format":1}"#.to_owned(),
        tuple("passed@s.example", ago(60), ago(30), true),
        tuple("ripe@s.example", ago(10), ago(10), false),
        tuple("young@s.example", ago(1), ago(1), false),
        tuple("old@s.example", ago(3_000), ago(3_000), false),
        format!(
            r#"{{"kind":"foreign_sender","client":"192.0.2.0/24","sender":"trusted@s.example","last_used":{}}}"#,
            ago(100)
        ),
        r#"{"greygate":"end","items":5}"#.to_owned(),
        String::new(),
    ]
    .join("\n")
}

#[test]
fn what_another_greylister_kept_counts_for_the_next_attempt() {
    let site = Site::new("");
    let file = site.file("foreign.jsonl", &foreign());
    let report = site.take_in(file.clone());
    let counts = &report.counts;
    assert_eq!(
        (report.records, counts.tuples, counts.trusted, counts.lapsed),
        (5, 3, 1, 1)
    );
    for name in ["", "mail.s.example"] {
        assert_eq!(site.next(name, "passed@s.example").0, "passed", "{name}");
        assert_eq!(site.next(name, "ripe@s.example").0, "passed", "{name}");
        let early = ("deferred".to_owned(), "early".to_owned());
        assert_eq!(site.next(name, "young@s.example"), early, "{name}");
        let new = ("deferred".to_owned(), "new".to_owned());
        assert_eq!(site.next(name, "old@s.example"), new, "{name}");
    }
    let trusted = site.next("mail.s.example", "trusted@s.example");
    assert_eq!(trusted, ("passed".to_owned(), "trusted".to_owned()));

    let once = site.export(&[]);
    site.take_in(file);
    let twice = site.export(&[]);
    assert_eq!(items(&twice), items(&once), "twice is once");
    site.daemon.stop();
}

#[test]
fn export_goes_into_a_host_with_the_same_seed_and_into_no_other() {
    let site = Site::new("");
    site.take_in(site.file("foreign.jsonl", &foreign()));
    let order = PunishOrder {
        target: "198.51.100.7".parse().expect("an address"),
        seconds: Some(3_600),
        level: OrderedLevel(SentenceLevel::Rate),
        force: false,
    };
    call(site.socket(), &Request::Punish(order)).expect("it obeys its own user");
    let export = site.export(&[]);
    for kind in ["tuple", "trust", "pair", "sentence"] {
        assert!(
            export.contains(&format!("{{\"kind\":\"{kind}\"")),
            "{export}"
        );
    }
    let tuples = site.export(&[Kind::Tuple]);
    assert!(
        !tuples.contains("\"sentence\"") && !tuples.contains("history_begun"),
        "{tuples}"
    );
    let seed = fs::read(&site.config.store.seed_file).expect("it is ours");
    let begin: Vec<_> = seed[..16].iter().map(|it| format!("{it:02x}")).collect();
    assert!(!export.contains(&begin.concat()), "the seed stays secret");

    let twin = Site::with_seed(Some(&site), "");
    let file = twin.file("export.jsonl", &export);
    let dry = twin
        .import(file.clone(), |it| it.dry_run = true)
        .0
        .expect("it is welcome");
    assert_eq!(twin.tuples(), 0, "nothing is changed");
    let report = twin.take_in(file);
    assert_eq!(dry.counts, report.counts, "it was foretold");
    assert_eq!(items(&twin.export(&[])), items(&export));

    let stranger = Site::new("");
    let file = stranger.file("export.jsonl", &export);
    let refused = stranger
        .import(file, |_| ())
        .0
        .expect_err("its keys mean nothing there");
    assert!(refused.contains("made with another seed"), "{refused}");
    assert_eq!(items(&stranger.export(&[])), Vec::<String>::new());
    for site in [site, twin, stranger] {
        site.daemon.stop();
    }
}

#[test]
fn file_with_a_bad_line_changes_nothing_unless_it_may_be_left_out() {
    let site = Site::new("");
    let now = SystemClock.now().as_millis() / 1_000;
    let text = format!(
        "# milter-greylist databases, dumped by milter-greylist-4.6.2\n\
         192.0.2.7\t<passed@s.example>\t<bert@recipient.example>\t{} AUTO # x\n\
         192.0.2.7\t<passed@s.example>\n\
         192.0.2.7\t<ripe@s.example>\t<bert@recipient.example>\tsoon\n\
         192.0.2.8\t<a@s.example>\t<bert@recipient.example>\t{now}\t60 TARPIT\n",
        now + 3_600
    );
    let file = site.file("greylist.db", &text);
    let (refused, findings) = site.import(file.clone(), |_| ());
    let refused = refused.expect_err("two lines are wrong");
    assert!(
        refused.contains("2 lines are no records; nothing was taken in"),
        "{refused}"
    );
    let places: Vec<_> = findings.lines().collect();
    assert_eq!(places.len(), 2, "{findings}");
    assert!(places[0].starts_with(&format!("{}:3: a line is CLIENT", file.display())));
    assert!(places[1].starts_with(&format!("{}:4: \"soon\" is no time", file.display())));
    assert_eq!(site.tuples(), 0);

    let (report, _) = site.import(file, |it| it.skip_bad = true);
    let report = report.expect("the rest is good");
    assert_eq!(
        (report.records, report.bad_lines, report.counts.tuples),
        (1, 2, 1)
    );
    assert_eq!(
        report.counts.no_counterpart,
        [("tarpitted tuples".to_owned(), 1)]
    );
    assert_eq!(site.next("", "passed@s.example").0, "passed");
    let export = site.export(&[]);
    let cut: Vec<_> = export.lines().collect();
    let file = site.file("cut.jsonl", &cut[..cut.len() - 1].join("\n"));
    let (refused, findings) = site.import(file, |_| ());
    assert!(
        refused.is_err() && findings.contains("it is not whole"),
        "{findings}"
    );
    site.daemon.stop();
}

#[test]
fn what_finds_no_room_is_counted_and_batches_are_many() {
    let site = Site::new("");
    let now = SystemClock.now().as_millis() / 1_000;
    let padding = "x".repeat(600);
    let line =
        |number| format!("192.0.2.7 <s{number}{padding}@s.example> <bert@recipient.example> {now}");
    let lines: Vec<_> = (0..2_500).map(line).collect();
    let lines = lines.join("\n");
    assert!(
        lines.len() > ImportBatch::LONGEST,
        "it takes more than one batch"
    );
    let report = site.take_in(site.file("greylist.db", &lines));
    let counts = &report.counts;
    assert_eq!(counts.tuples + counts.over_capacity, 2_500);
    assert!(
        counts.over_capacity >= 2_000,
        "two keys each, and room for 1,000: {counts:?}"
    );
    let shown = {
        let mut paper = Paper::new(false);
        report.on(&mut paper);
        paper.into_text()
    };
    assert!(shown.contains("found no room"), "{shown}");
    site.daemon.stop();
}

#[test]
fn without_a_daemon_files_are_only_read_and_a_stopped_ones_snapshot_is_exported() {
    let site = Site::new("");
    site.take_in(site.file("foreign.jsonl", &foreign()));
    let export = site.export(&[]);
    let Site {
        place,
        config,
        daemon,
    } = site;
    daemon.stop();
    let path = place.path().join("greygate.toml");
    let text = format!("[store]\ndirectory = {:?}\n", config.store.directory);
    fs::write(&path, text).expect("the directory is ours");
    let mut left = Vec::new();
    let of_stopped = Place::Daemon {
        socket: &config.admin.socket,
        configuration: &path,
    };
    export::run(&of_stopped, &[], &mut left).expect("it left a snapshot");
    let left = String::from_utf8(left).expect("JSON");
    assert_eq!(items(&left), items(&export));

    let files = [place.path().join("foreign.jsonl")];
    let options = Options {
        delay: Some(Duration::from_mins(5)),
        ..Options::default()
    };
    let mut import = Import {
        files: &files,
        format: None,
        options: &options,
        dry_run: true,
        skip_bad: false,
    };
    let report = import
        .run(&config.admin.socket, io::sink())
        .expect("it can be read");
    assert!(!report.asked);
    assert_eq!(
        (report.records, report.counts.tuples, report.counts.trusted),
        (5, 4, 1)
    );
    import.dry_run = false;
    let refused = import
        .run(&config.admin.socket, io::sink())
        .expect_err("nobody is there");
    let refused = refused.for_people();
    assert!(
        refused.contains("an import goes into a running daemon"),
        "{refused}"
    );
}

/// The items of an export, in order of their text.
fn items(export: &str) -> Vec<String> {
    let items = export.lines().filter(|it| it.starts_with("{\"kind\""));
    let mut items: Vec<_> = items.map(str::to_owned).collect();
    items.sort();
    items
}

#[test]
fn what_no_clock_can_have_shown_holds_nobody_up_and_punishes_nobody_for_years() {
    let there = Site::new("");
    let order = PunishOrder {
        target: "203.0.113.9".parse().expect("an address"),
        seconds: None,
        level: OrderedLevel(SentenceLevel::Rate),
        force: false,
    };
    call(there.socket(), &Request::Punish(order)).expect("it is obeyed");
    let export = there.export(&[]);
    let far = 4_000_000_000_000_u64;
    let header = export.lines().next().expect("a header");
    let key = "07".repeat(16);
    let text = format!(
        "{header}\n\
         {{\"kind\":\"sentence\",\"client\":\"203.0.113.9/32\",\"level\":\"block\",\
         \"reason\":\"operator\",\"since\":{far},\"until\":{far}}}\n\
         {{\"kind\":\"trust\",\"key\":\"{key}\",\"counted\":{far},\"last_used\":{far},\"passes\":65535,\
         \"life\":1}}\n\
         {{\"kind\":\"tuple\",\"key\":\"{key}\",\"first_seen\":{far},\"last_seen\":{far},\
         \"passed_s\":4000000000,\"attempts\":65535,\"passes\":1,\"life\":1}}\n\
         {{\"greygate\":\"end\",\"items\":3}}\n"
    );
    let here = Site::with_seed(Some(&there), "");
    here.take_in(here.file("future.jsonl", &text));
    let written = here.export(&[]);
    assert!(!written.contains("4000000000"), "{written}");
    assert!(written.contains("\"kind\":\"tuple\""), "{written}");
}

#[test]
fn file_that_is_unwelcome_leaves_the_history_as_long_as_it_was() {
    let (here, elsewhere) = (Site::new(""), Site::new(""));
    let own = here.export(&[]);
    let (begun, _) = own.split_once("history_begun\":").expect("it says so");
    let begun = begun.len() + "history_begun\":".len();
    let digits = own[begun..].find(|it: char| !it.is_ascii_digit());
    let rest = &own[begun + digits.expect("something follows")..];
    let older = format!("{}1000000000000{rest}", &own[..begun]);
    let files = [
        here.file("older.jsonl", &older),
        here.file("strange.jsonl", &elsewhere.export(&[])),
    ];
    let import = |files: &[PathBuf]| {
        let import = Import {
            files,
            format: None,
            options: &Options::default(),
            dry_run: false,
            skip_bad: false,
        };
        import.run(here.socket(), Vec::new())
    };
    let refused = import(&files).expect_err("another seed made its keys");
    assert!(
        refused.for_people().contains("nothing was"),
        "{}",
        refused.for_people()
    );
    assert!(!here.export(&[]).contains("1000000000000"), "nothing was");
    import(&files[..1]).expect("its own seed made its keys");
    assert!(here.export(&[]).contains("1000000000000"));
}

#[test]
fn addresses_in_clear_come_along_only_where_they_are_kept_and_the_answer_says_so() {
    let there = Site::with_store(None, "keep_addresses = true\n", "");
    let key = "07".repeat(16);
    let export = there.export(&[]);
    let header = export.lines().next().expect("a header");
    let now = SystemClock.now().as_millis();
    let text = format!(
        "{header}\n\
         {{\"kind\":\"tuple\",\"key\":\"{key}\",\"first_seen\":{now},\"last_seen\":{now},\"passed_s\":0,\
         \"attempts\":1,\"passes\":0,\"life\":1}}\n\
         {{\"kind\":\"addresses\",\"of\":\"tuple\",\"key\":\"{key}\",\"client\":\"192.0.2.7/32\",\
         \"sender\":\"s@a.example\",\"recipient\":[255,64,98]}}\n\
         {{\"greygate\":\"end\",\"items\":2}}\n"
    );
    let report = there.take_in(there.file("kept.jsonl", &text));
    assert_eq!(
        (report.counts.addresses, report.counts.addresses_dropped),
        (1, 0)
    );
    let moved = there.export(&[]);
    assert!(moved.contains("\"recipient\":[255,64,98]"), "{moved}");

    let here = Site::with_seed(Some(&there), "");
    for dry_run in [true, false] {
        let file = here.file("moved.jsonl", &moved);
        let (report, _) = here.import(file, |import| import.dry_run = dry_run);
        let counts = report.expect("it is welcome").counts;
        assert_eq!(
            (counts.tuples, counts.addresses, counts.addresses_dropped),
            (1, 0, 1)
        );
    }
    assert!(!here.export(&[]).contains("192.0.2.7"));
}

#[test]
fn what_a_file_says_of_itself_does_not_steer_a_terminal() {
    let site = Site::new("");
    let text =
        "{\"greygate\":\"export\",\"format\":1}\n{\"kind\":\"\\u001b]0;owned\\u0007\\u009b31m\"}\n";
    let (report, findings) = site.import(site.file("evil.jsonl", text), |_| ());
    assert!(report.is_err());
    assert!(findings.contains("owned"), "{findings}");
    let lines = findings.lines().flat_map(str::chars);
    assert!(lines.clone().all(|it| !it.is_control()), "{findings:?}");
}
