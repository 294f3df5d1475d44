//! Files, and what is said of them.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::default_config;
use super::*;
use crate::admin::MetricsListen;
use crate::log::{Destination, Format, Verdicts};
use crate::milter::{Endpoint, RefusalText};
use crate::policy::{Action, Mode, Refusing};

mod content;
mod illegal;

#[test]
fn file_that_names_a_listener_and_a_directory_is_complete() {
    let config = legal(
        "[milter]\nlisten = [\"unix:/run/greygate/milter.sock\"]\n\
         [store]\ndirectory = \"/srv/greygate\"\n",
    );
    let expected = Endpoint::Unix("/run/greygate/milter.sock".into());
    assert_eq!(config.milter.listen, [expected]);
    assert_eq!(config.store.directory, Path::new("/srv/greygate"));
    assert_eq!(config.store.seed_file, Path::new("/srv/greygate/seed"));
    assert_eq!(config.policy, Config::default().policy);
}

/// All keys there were before `[reputation]` and most of `[punish]`, with the defaults they had.
const FIRST_DEFAULTS: &str = r#"
[milter]
listen = ["inet:127.0.0.1:8892"]
peers = ["127.0.0.0/8", "::1/128"]
users = ["postfix"]
workers = 0
connections = 10_000
connections_per_peer = 5_000
frame_timeout = "5s"
idle_timeout = "2h10m"
drain = "10s"
reply = "451 4.7.1 Greylisted, please try again later"
header = "X-Greylist"
[greylist]
mode = "envelope"
action = "enforce"
delay = "3m"
retry_window = "24h"
trust = "36d"
trust_after = 5
trust_interval = "1h"
rcpt_deferrals = 8
probe_senders = ["double-bounce@*"]
ipv4_prefix = 24
ipv6_prefix = 64
[punish]
action = "enforce"
rapid_interval = "8s"
rapid_retries = 5
rapid_span = "30s"
sentence = "30m"
persistent_drops = 100
private = false
[lists]
allow = []
local = []
[xdp]
interfaces = []
ports = [25]
submission = false
addresses = []
action = "enforce"
rate = 4
rate_burst = 8
block_interval = "1h"
mode = "native-preferred"
object = "/usr/lib/greygate/greygate-xdp.o"
pin_directory = "/run/greygate-bpf/pins"
pin = true
panic_file = "/var/lib/greygate/xdp-panic"
capacity = 131_072
[store]
directory = "/var/lib/greygate"
seed_file = "/var/lib/greygate/seed"
capacity = 4_000_000
sentences = 1_000_000
snapshot_interval = "5m"
sweep_messages = 1_500
sweep_interval = "12h"
[admin]
socket = "/run/greygate/control.sock"
group = ""
[metrics]
listen = "127.0.0.1:9892"
[log]
level = "info"
addresses = "full"
"#;

#[test]
fn file_with_every_key_of_the_first_greygate_loads_and_changes_no_default_but_the_mode() {
    let mut expected = Config::default();
    expected.policy.mode = Mode::Envelope;
    assert_eq!(legal(FIRST_DEFAULTS), expected);
}

#[test]
fn lowering_all_connections_is_enough() {
    let config = legal("[milter]\nconnections = 100\n");
    assert_eq!(config.milter.connections, 100);
}

#[test]
fn loopback_peers_may_be_named_one_by_one_or_with_all_others() {
    for peers in ["127.0.0.1", "0.0.0.0/0", "127.0.0.0/8"] {
        legal(&format!("[milter]\npeers = [\"{peers}\"]\n"));
    }
}

#[test]
fn values_reach_their_rooms() {
    let config = legal(
        r#"
        [greylist]
        action = "observe"
        delay = "1h30m"
        trust_after = 0x10
        [punish]
        strike_action = "observe"
        sentence = "28d"
        blocks = ["1h", "2d"]
        hopping_attempts = 7
        contact = "https://mx.example/blocked"
        persistent_drops = 0
        private = true
        [reputation]
        action = "reject"
        bad_share = 90
        trust_after = 0
        [xdp]
        interfaces = ["eth0", "bond0.25"]
        ports = [25, 587]
        submission = true
        addresses = ["192.0.2.25", "2001:db8::25"]
        action = "observe"
        rate = 10
        rate_burst = 20
        block_interval = "2h"
        pin = false
        mode = "generic"
        [store]
        capacity = 10_000_000
        sentences = 2_000_000
        clients = 3_000_000
        seed_file = "/etc/greygate/seed"
        [lists]
        allow = ["192.0.2.7", "2001:db8::/32"]
        [metrics]
        listen = "off"
        [log]
        level = "debug"
        addresses = "hash"
        to = "journal"
        format = "json"
        verdicts = "passed"
        rate = 7
        [milter]
        reply_sentenced = "Blocked; ask {contact}"
        reply_refused = "Bad name"
        "#,
    );
    let replies = [config.milter.reply_sentenced, config.milter.reply_refused];
    assert_eq!(
        replies.each_ref().map(RefusalText::as_str),
        ["Blocked; ask {contact}", "Bad name"]
    );
    assert_eq!(config.policy.action, Action::Observe);
    assert_eq!(config.policy.delay, Duration::from_mins(90));
    assert_eq!(config.policy.trust_after, 16);
    assert_eq!(config.policy.punish.sentence, Duration::from_hours(28 * 24));
    let punish = &config.policy.punish;
    assert_eq!(punish.strike_action, Action::Observe);
    let blocks = [Duration::from_hours(1), Duration::from_hours(48)];
    assert_eq!(punish.blocks, blocks);
    assert_eq!(punish.hopping_attempts, 7);
    assert_eq!(punish.contact, "https://mx.example/blocked");
    assert_eq!(config.policy.reputation.action, Refusing::Reject);
    assert_eq!(config.policy.reputation.bad_share, 90);
    assert_eq!(config.policy.reputation.trust_after, 0);
    assert_eq!(config.store.clients, 3_000_000);
    assert_eq!(config.xdp.interfaces, ["eth0", "bond0.25"]);
    assert_eq!(config.policy.punish.persistent_drops, 0);
    assert!(config.policy.punish.private);
    assert_eq!(config.xdp.ports, [25, 587]);
    assert_eq!(config.xdp.addresses[1].to_string(), "2001:db8::25");
    assert_eq!(config.xdp.action, Action::Observe);
    assert_eq!((config.xdp.rate, config.xdp.rate_burst), (10, 20));
    assert_eq!(config.xdp.block_interval, Duration::from_hours(2));
    assert!(!config.xdp.pin);
    assert_eq!(config.store.sentences, 2_000_000);
    assert_eq!(config.store.capacity, 10_000_000);
    assert_eq!(config.store.seed_file, Path::new("/etc/greygate/seed"));
    assert_eq!(
        config.policy.lists.allow.entries()[0].entry.to_string(),
        "192.0.2.7"
    );
    assert_eq!(config.metrics.listen, MetricsListen::Off);
    assert_eq!(config.milter.addresses, config.log.addresses);
    assert_eq!(config.milter.verdicts, Verdicts::Passed);
    assert_eq!(config.log.verdicts, Verdicts::Passed);
    assert_eq!(config.log.to, Destination::Journal);
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.log.rate, 7);
}

#[test]
fn what_is_added_to_a_delay_leaves_room_for_a_retry_unless_it_is_set() {
    let added = |text: &str| {
        let punish = legal(text).policy.punish;
        (punish.extra_delay_limit, punish.hopping_delay)
    };
    let minutes = Duration::from_mins;
    assert_eq!(added(""), (minutes(60), minutes(15)));
    let short = "[greylist]\nretry_window = \"13m\"\n";
    assert_eq!(added(short), (minutes(5), minutes(5)));
    let set = format!("{short}[punish]\nextra_delay_limit = \"9m\"\nhopping_delay = \"8m\"\n");
    assert_eq!(added(&set), (minutes(9), minutes(8)));
}

#[test]
fn bytes_that_are_no_text_have_a_line() {
    assert_eq!(
        problems(b"[log]\nlevel = \"\xff\"\n"),
        ["f:2: not UTF-8; save the file as UTF-8 text"]
    );
}

#[test]
fn seed_in_the_directory_is_looked_at_too() {
    let place = TempDir::new().expect("there is room for a directory");
    let directory = place.path().display().to_string();
    let text =
        format!("[store]\ndirectory = \"{directory}\"\n[admin]\nsocket = \"{directory}/s\"\n");
    let file = place.path().join("greygate.toml");
    std::fs::write(&file, text).expect("the directory is ours");
    read(&file).expect("the seed is yet to be made");
    std::fs::create_dir(place.path().join("seed")).expect("the directory is ours");
    let refused = read(&file).expect_err("that is no seed").to_string();
    assert!(refused.contains("seed is no plain file"), "{refused}");
}

#[test]
fn unusable_paths_are_named_with_their_line() {
    let place = TempDir::new().expect("there is room for a directory");
    let at = |name: &str| place.path().join(name);
    std::fs::write(at("file"), "").expect("the directory is ours");
    std::fs::create_dir(at("dir")).expect("the directory is ours");
    let _listener = UnixListener::bind(at("socket")).expect("the directory is ours");
    for (section, key, path, complaint) in [
        (
            "store",
            "directory",
            at("file"),
            "file is no directory; name another",
        ),
        (
            "store",
            "directory",
            at("file/below"),
            "file is no directory; name another",
        ),
        (
            "store",
            "seed_file",
            at("dir"),
            "dir is no plain file; name another",
        ),
        (
            "admin",
            "socket",
            at("file"),
            "file exists and is no socket; remove it or name another",
        ),
        (
            "admin",
            "socket",
            at(&"x".repeat(120)),
            "is too long for a socket",
        ),
    ] {
        let mut text = format!("# one\n[{section}]\n{key} = {path:?}\n");
        if key == "seed_file" {
            text = format!("{text}directory = {:?}\n", at("state"));
        }
        text += &others(&place, section);
        let found = looked_at(&place, &text).expect_err("the path is not usable");
        let found = found.to_string();
        let expected = format!("greygate.toml:3: [{section}] {key}: ");
        assert!(
            found.contains(&expected) && found.contains(complaint),
            "{found}"
        );
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    for (section, key, path) in [
        ("store", "directory", at("dir")),
        ("store", "directory", at("new/and/deep")),
        ("admin", "socket", at("socket")),
    ] {
        let text = format!("[{section}]\n{key} = {path:?}\n") + &others(&place, section);
        looked_at(&place, &text).expect("the path is usable");
    }
    assert!(!at("new").exists(), "reading makes nothing");
}

#[test]
fn unknown_group_is_named_with_its_line() {
    let place = TempDir::new().expect("there is room for a directory");
    let socket = place.path().join("control.sock");
    let text = format!("[admin]\nsocket = {socket:?}\ngroup = \"no-such-group\"\n");
    let text = text + &others(&place, "admin");
    let found = looked_at(&place, &text)
        .expect_err("there is no such group")
        .to_string();
    assert!(
        found.contains("greygate.toml:3: [admin] group: there is no group"),
        "{found}"
    );
}

#[test]
fn missing_file_is_said_with_its_name() {
    let error = read(Path::new("/nonexistent/greygate.toml")).expect_err("it is missing");
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/greygate.toml: cannot be read")
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = parse(Path::new("f"), &bytes);
    }

    #[test]
    fn arbitrary_values_never_panic(
        line in 0_usize..200,
        value in r#"[-0-9a-z"\[\]{}:/., _+]{0,30}"#,
    ) {
        let text = default_config();
        let keys: Vec<_> = text.lines().filter_map(|line| {
            let setting = line.strip_prefix('#')?;
            (!setting.starts_with(' ')).then(|| setting.split_once(" = "))?
        }).collect();
        let (key, _) = keys[line % keys.len()];
        let text = text.replace(&format!("\n#{key} = "), &format!("\n{key} = {value} #"));
        if let Err(ConfigError::Illegal(problems)) = parse(Path::new("f"), text.as_bytes()) {
            prop_assert!(problems.iter().all(|problem| !problem.text.is_empty()));
        }
    }
}

fn legal(text: &str) -> Config {
    parse(Path::new("f"), text.as_bytes()).expect("the file is legal")
}

fn problems(bytes: &[u8]) -> Vec<String> {
    match parse(Path::new("f"), bytes) {
        Err(ConfigError::Illegal(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?} is not a list of problems"),
    }
}

fn looked_at(place: &TempDir, text: &str) -> Result<Config, ConfigError> {
    let file: PathBuf = place.path().join("greygate.toml");
    std::fs::write(&file, text).expect("the directory is ours");
    read(&file)
}

/// Usable paths for the sections that a test does not name: the defaults may not be.
fn others(place: &TempDir, section: &str) -> String {
    let state = place.path().join("state");
    match section {
        "store" => format!(
            "[admin]\nsocket = {:?}\n",
            place.path().join("control.sock")
        ),
        _ => format!("[store]\ndirectory = {state:?}\n"),
    }
}

#[test]
fn of_a_broken_file_every_error_is_named_and_what_can_be_made_out_is_judged() {
    let text = "[greylist]\ndelay = 5m\nipv4_prefix = 40\ntrust = = 3\nretry_window = \"1s\"\n\
                [milter\nlisten = [\"inet:127.0.0.1:0\"]\nnosuch = 1\n[xdp]\nrate = 0\n";
    assert_eq!(
        problems(text.as_bytes()),
        [
            "f:2: string values must be quoted, expected literal string",
            "f:3: [greylist] ipv4_prefix: 40 is out of range; write one from 8 to 32",
            "f:4: extra `=`, expected nothing",
            "f:6: unclosed table, expected `]`",
            "f:10: [xdp] rate: 0 is out of range; write one from 1 to 6_000",
        ]
    );
}

#[test]
fn override_wins_over_the_file_and_its_error_names_the_option() {
    let place = TempDir::new().expect("there is room for a directory");
    let file = place.path().join("greygate.toml");
    let text = format!(
        "[greylist]\ndelay = \"5m\"\n[store]\ndirectory = {0:?}\n[admin]\nsocket = \"{1}\"\n",
        place.path(),
        place.path().join("control.sock").display()
    );
    std::fs::write(&file, text).expect("the directory is ours");
    let read = |settings: &[&str]| {
        let overrides: Vec<Override> = settings
            .iter()
            .map(|it| it.parse().expect("it names a key"))
            .collect();
        read_under(&file, &overrides)
    };
    let config = read(&["greylist.delay=10m", "greylist.delay=7m", "xdp.rate=9"]).expect("legal");
    assert_eq!(config.policy.delay, Duration::from_mins(7), "the last wins");
    assert_eq!(config.xdp.rate, 9);
    let observing = read_under(&file, &Override::observing()).expect("legal");
    assert_eq!(observing.policy.action, Action::Observe);
    assert_eq!(observing.policy.reputation.action, Refusing::Observe);

    let refused = read(&[
        "greylist.delay=7",
        "graylist.delay=7m",
        "greylist.delai=7m",
        "greylist.retry_window=1m",
    ]);
    let ConfigError::Illegal(problems) = refused.expect_err("four are wrong") else {
        panic!("the file can be read");
    };
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let begin = |start: &str| assert!(said.iter().any(|it| it.starts_with(start)), "{said:#?}");
    begin("--set greylist.delay=7: [greylist] delay: 7 has no unit");
    begin("--set graylist.delay=7m: unknown section [graylist]; did you mean [greylist]?");
    begin("--set greylist.delai=7m: [greylist] has no key \"delai\"; did you mean delay?");
    begin("--set greylist.retry_window=1m: [greylist] retry_window: 1m is not more than");
    assert_eq!(said.len(), 4, "{said:#?}");
}

#[test]
fn socket_is_made_out_in_a_file_that_is_wrong_elsewhere() {
    let place = TempDir::new().expect("there is room for a directory");
    let file = place.path().join("greygate.toml");
    for (text, expected) in [
        (
            "[greylist]\ndelay = 5m\n[admin]\nsocket = \"/run/a.sock\"\n",
            Some("/run/a.sock"),
        ),
        (
            "[admin]\nsocket = \"/run/a.sock\"\n[nosuch]\n",
            Some("/run/a.sock"),
        ),
        ("[admin]\nsocket = 5\n", Some("/run/greygate/control.sock")),
        ("[greylist]\n", None),
    ] {
        std::fs::write(&file, text).expect("the directory is ours");
        assert_eq!(
            socket_of(&file).as_deref(),
            expected.map(Path::new),
            "{text}"
        );
    }
    assert_eq!(socket_of(Path::new("/nonexistent/greygate.toml")), None);
}
