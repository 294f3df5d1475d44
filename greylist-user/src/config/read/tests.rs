//! Files, and what is said of them.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::default_config;
use super::*;
use crate::admin::MetricsListen;
use crate::milter::{Endpoint, HeaderOn, RefusalText};
use crate::policy::{Action, ContentRules, ContentTrust, Mode, Refusing};

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
fn mode_is_what_the_file_says_and_hybrid_where_it_says_nothing() {
    let mode = |text: &str| legal(text).policy.mode;
    assert_eq!(mode("[greylist]\nmode = \"envelope\"\n"), Mode::Envelope);
    assert_eq!(mode("[greylist]\nmode = \"content\"\n"), Mode::Content);
    assert_eq!(mode("[greylist]\ndelay = \"2m\"\n"), Mode::Hybrid);
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
        [content]
        delay = "90s"
        repeat = "0s"
        trust = "address"
        contacts = 12
        contacts_after = "2h"
        hash_limit = 1_048_576
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
        contents = 5_000_000
        contents_per_network = 50_000
        contents_sweep = "2h"
        seed_file = "/etc/greygate/seed"
        [lists]
        allow = ["192.0.2.7", "2001:db8::/32"]
        [metrics]
        listen = "off"
        [log]
        level = "debug"
        addresses = "hash"
        [milter]
        reply_sentenced = "Blocked; ask {contact}"
        reply_refused = "Bad name"
        header_on = "passed"
        "#,
    );
    let replies = [config.milter.reply_sentenced, config.milter.reply_refused];
    assert_eq!(
        replies.each_ref().map(RefusalText::as_str),
        ["Blocked; ask {contact}", "Bad name"]
    );
    assert_eq!(config.policy.action, Action::Observe);
    assert_eq!(config.policy.delay, Duration::from_mins(90));
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
    assert_eq!(config.store.contents, 5_000_000);
    assert_eq!(config.store.contents_per_network, 50_000);
    assert_eq!(config.store.contents_sweep, Duration::from_hours(2));
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
    assert_eq!(config.policy.allow[0].to_string(), "192.0.2.7/32");
    assert_eq!(config.metrics.listen, MetricsListen::Off);
    assert_eq!(config.milter.addresses, config.log.addresses);
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
fn times_of_content_leave_room_for_a_retry_unless_they_are_set() {
    let times = |text: &str| {
        let content = legal(text).policy.content;
        (content.delay, content.contacts_after)
    };
    let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
    assert_eq!(times(""), (seconds(60), minutes(60)));
    let short = "[greylist]\ndelay = \"2s\"\nretry_window = \"1m\"\n";
    assert_eq!(times(short), (seconds(30), seconds(30)));
    let set = format!("{short}[content]\ndelay = \"50s\"\ncontacts_after = \"1h\"\n");
    assert_eq!(times(&set), (seconds(50), minutes(60)));
}

#[test]
fn every_problem_has_its_line_and_its_remedy() {
    for (text, expected) in ILLEGAL {
        assert_eq!(problems(text.as_bytes()), *expected, "{text}");
    }
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

/// Each file with all that is said of it.
const ILLEGAL: &[(&str, &[&str])] = &[
    (
        "[greylist]\ndelay = 180\n",
        &[
            "f:2: [greylist] delay: 180 has no unit; write \"180s\" for seconds, \"180m\" for minutes or \"180h\" for hours",
        ],
    ),
    (
        "[greylist]\ndelay = \"3 minutes\"\n",
        &[
            "f:2: [greylist] delay: \"3 minutes\" is no duration; write whole numbers with w, d, h, m, s or ms, the larger unit first, such as \"1h30m\"",
        ],
    ),
    (
        "[greylist]\ndelay = true\n",
        &["f:2: [greylist] delay: expected a duration such as \"3m\", found true"],
    ),
    (
        "[greylist]\ndelay = \"0s\"\n",
        &["f:2: [greylist] delay: \"0s\" is out of range; write one from \"1ms\" to \"12h\""],
    ),
    (
        "[greylist]\ndelai = \"3m\"\n",
        &["f:2: [greylist] has no key \"delai\"; did you mean delay?"],
    ),
    (
        "[greylist]\n\nallow = []\n",
        &["f:3: [greylist] has no key \"allow\"; it belongs in [lists]"],
    ),
    (
        "[lists]\nblue = 1\n",
        &["f:2: [lists] has no key \"blue\"; its keys are allow, local"],
    ),
    (
        "[graylist]\ndelay = \"3m\"\n",
        &["f:1: unknown section [graylist]; did you mean [greylist]?"],
    ),
    (
        "\n[smtp]\n",
        &[
            "f:2: unknown section [smtp]; the sections are [milter] [greylist] [content] [punish] [reputation] [lists] [xdp] [store] [admin] [metrics] [log]",
        ],
    ),
    (
        "delay = \"3m\"\n",
        &["f:1: delay stands in no section; it belongs below a line [greylist]"],
    ),
    (
        "[greylist]\nretry_window = \"2m\"\n",
        &[
            "f:2: [greylist] retry_window: 2m is not more than the delay of 3m, so that no mail would ever pass; write more, or lower delay",
        ],
    ),
    (
        "[greylist]\ndelay = \"12h\"\nretry_window = \"12h\"\n",
        &[
            "f:3: [greylist] retry_window: 12h is not more than the delay of 12h, so that no mail would ever pass; write more, or lower delay",
        ],
    ),
    (
        "[greylist]\nipv4_prefix = 33\n",
        &["f:2: [greylist] ipv4_prefix: 33 is out of range; write one from 8 to 32"],
    ),
    (
        "[greylist]\nipv6_prefix = 300\n",
        &["f:2: [greylist] ipv6_prefix: 300 is out of range; write one from 0 to 255"],
    ),
    (
        "[greylist]\nmode = \"both\"\n",
        &[
            "f:2: [greylist] mode: \"both\" is not known; write \"envelope\" or \"content\" or \"hybrid\"",
        ],
    ),
    (
        "[content]\ndelay = \"1h\"\n[greylist]\nretry_window = \"1h\"\n",
        &[
            "f:2: [content] delay: 1h is not less than the retry_window of 1h, so that no message would ever pass because it comes again; write less, or raise retry_window",
        ],
    ),
    (
        "[content]\ntrust = \"sender\"\ncontacts = 1\nrepeat = \"25h\"\nhash_limit = -1\n",
        &[
            "f:2: [content] trust: \"sender\" is not known; write \"domain\" or \"address\" or \"off\"",
            "f:3: [content] contacts: 1 is out of range; write one from 2 to 255",
            "f:4: [content] repeat: \"25h\" is out of range; write one from \"0s\" to \"24h\"",
            "f:5: [content] hash_limit: -1 is out of range; write one from 0 to 18_446_744_073_709_551_615",
        ],
    ),
    (
        "[punish]\naction = \"yes\"\n",
        &["f:2: [punish] action: \"yes\" is not known; write \"enforce\" or \"observe\""],
    ),
    (
        "[punish]\nblocks = []\n",
        &[
            "f:2: [punish] blocks: no length is named; write one, such as [\"24h\"], or action = \"observe\" to block nobody",
        ],
    ),
    (
        "[punish]\nblocks = [\"24h\", \"29d\", \"0s\"]\n",
        &[
            "f:2: [punish] blocks: 29d is out of range; write lengths from 1s to 28d",
            "f:2: [punish] blocks: 0s is out of range; write lengths from 1s to 28d",
        ],
    ),
    (
        "[punish]\nblocks = [\n  \"24h\",\n  7,\n]\n",
        &[
            "f:4: [punish] blocks: 7 has no unit; write \"7s\" for seconds, \"7m\" for minutes or \"7h\" for hours",
        ],
    ),
    (
        "[greylist]\nretry_window = \"1h\"\n[punish]\nextra_delay_limit = \"57m\"\nhopping_delay = \"1h\"\n",
        &[
            "f:4: [punish] extra_delay_limit: 57m and the delay of 3m are not less than the retry_window of 1h, so that some mail would never pass; write less than 57m, or raise retry_window",
            "f:5: [punish] hopping_delay: 1h and the delay of 3m are not less than the retry_window of 1h, so that some mail would never pass; write less than 57m, or raise retry_window",
        ],
    ),
    (
        "[punish]\nhopping_attempts = 2\nneighbours = 5\n",
        &[
            "f:2: [punish] hopping_attempts: 2 is out of range; write one from 3 to 16",
            "f:3: [punish] neighbours: 5 is out of range; write one from 0 to 4",
        ],
    ),
    (
        "[punish]\ncontact = \"pöstmaster\"\n",
        &[
            "f:2: [punish] contact: an SMTP reply takes printable ASCII only; write an address or a link",
        ],
    ),
    (
        "[reputation]\naction = \"enforce\"\ngood_recipients = 33\n",
        &[
            "f:2: [reputation] action: \"enforce\" is not known; write \"observe\" or \"defer\" or \"reject\"",
            "f:3: [reputation] good_recipients: 33 is out of range; write one from 1 to 32",
        ],
    ),
    (
        "[milter]\nlisten = [\n  \"inet:127.0.0.1:8892\",\n  \"inet:192.0.2.1:8892\",\n]\n",
        &[
            "f:2: [milter] listen: inet:192.0.2.1:8892 can be reached from other hosts; name the networks of your MTAs in `peers`, or listen on 127.0.0.1",
        ],
    ),
    (
        "[milter]\nlisten = []\n",
        &[
            "f:2: [milter] listen: no listener is configured; name at least one, such as inet:127.0.0.1:8892",
        ],
    ),
    (
        "[milter]\nlisten = \"inet:127.0.0.1:8892\"\n",
        &[
            "f:2: [milter] listen: expected a list in [brackets], found the text \"inet:127.0.0.1:8892\"",
        ],
    ),
    (
        "[milter]\nlisten = [\n  \"inet:localhost:8892\",\n]\n",
        &[
            "f:3: [milter] listen: \"localhost:8892\" is no address and port such as 127.0.0.1:8892 or [::1]:8892; write it in Postfix's form, \"inet:127.0.0.1:8892\" or \"unix:/run/greygate/milter.sock\"",
        ],
    ),
    (
        "[milter]\nreply_sentenced = \"421 4.7.0 Bye\"\nreply_refused = \"\"\n",
        &[
            "f:2: [milter] reply_sentenced: the codes of a refusal are set already; begin with the words, not with 421; write one such as \"The network of your host has a bad reputation here; contact {contact} if this is wrong\"",
            "f:3: [milter] reply_refused: a line of the reply is empty; write one such as \"The network of your host has a bad reputation here; contact {contact} if this is wrong\"",
        ],
    ),
    (
        "[milter]\nreply = \"550 5.7.1 go away\"\n",
        &[
            "f:2: [milter] reply: a reply that defers has a code 4yz other than 421, not 550; write one such as \"451 4.7.1 Greylisted, please try again later\"",
        ],
    ),
    (
        "[milter]\nconnections = 10\nconnections_per_peer = 20\n",
        &[
            "f:3: [milter] connections_per_peer: 20 is more than all connections together; write at most 10, or raise connections",
        ],
    ),
    (
        "[xdp]\nports = [25, 22]\n",
        &[
            "f:2: [xdp] ports: 22 is no port of a mail server; only 25, 465, 587 and 2525 can be protected, so that nothing but mail is ever blocked",
        ],
    ),
    (
        "[lists]\nallow = [\"192.0.2.1\", \"::ffff:192.0.2.7\"]\n",
        &[
            "f:2: [lists] allow: ::ffff:192.0.2.7/128 is IPv4 written as IPv6; write 192.0.2.7 and its prefix",
        ],
    ),
    (
        "[xdp]\nports = [25, 587]\n",
        &[
            "f:2: [xdp] ports: 587 serves your own users, who share addresses with offenders and would be locked out; remove it, or write submission = true if that is what you want",
        ],
    ),
    (
        "[xdp]\naddresses = [\"0.0.0.0\"]\n",
        &[
            "f:2: [xdp] addresses: 0.0.0.0 is no address that clients connect to; write that of an interface, or [] for all",
        ],
    ),
    (
        "[xdp]\naddresses = [\"mx.example\"]\n",
        &[
            "f:2: [xdp] addresses: \"mx.example\" is no address; write one such as \"192.0.2.25\" or \"2001:db8::25\"",
        ],
    ),
    (
        "[xdp]\npin = \"no\"\n",
        &["f:2: [xdp] pin: expected true or false, found the text \"no\""],
    ),
    (
        "[xdp]\nrate = 0\n",
        &["f:2: [xdp] rate: 0 is out of range; write one from 1 to 6_000"],
    ),
    (
        "[xdp]\nblock_interval = \"0s\"\n",
        &["f:2: [xdp] block_interval: \"0s\" is out of range; write one from \"1s\" to \"28d\""],
    ),
    (
        "[store]\nsentences = 10\n",
        &["f:2: [store] sentences: 10 is out of range; write one from 1_000 to 64_000_000"],
    ),
    (
        "[xdp]\nports = [70000]\n",
        &["f:2: [xdp] ports: 70000 is out of range; write one from 0 to 65_535"],
    ),
    (
        "[xdp]\ninterfaces = [\"eth0/1\"]\n",
        &[
            "f:2: [xdp] interfaces: \"eth0/1\" cannot be the name of an interface; `ip link` lists those there are",
        ],
    ),
    (
        "[lists]\nallow = [\n  \"192.0.2.0/24\",\n  \"192.0.2.7/24\",\n]\n",
        &[
            "f:4: [lists] allow: 192.0.2.7/24 has bits set beyond its prefix; write \"192.0.2.0/24\", or the one address alone",
        ],
    ),
    (
        "[store]\ndirectory = \"var\"\n",
        &[
            "f:2: [store] directory: \"var\" does not begin at the root; write the whole path, from \"/\" on",
        ],
    ),
    (
        "[metrics]\nlisten = \"9892\"\n",
        &[
            "f:2: [metrics] listen: \"9892\" is no address with its port; write one such as \"127.0.0.1:9892\", or \"off\"",
        ],
    ),
    (
        "[greylist]\ndelay = \"3m\"\ndelay = \"4m\"\n",
        &["f:3: duplicate key"],
    ),
    (
        "[greylist]\ndelay = 3m\n",
        &["f:2: string values must be quoted, expected literal string"],
    ),
    (
        "[xdp]\nports = [25, 25]\ninterfaces = [\"lo\", \"lo\"]\n",
        &[
            "f:2: [xdp] ports: 25 is named twice; remove one",
            "f:3: [xdp] interfaces: lo is named twice; remove one",
        ],
    ),
    (
        "[greylist]\nprobe_senders = [\"*@example.org\", \"verify@*.example\"]\n",
        &[
            "f:2: [greylist] probe_senders: \"*@example.org\" names nobody; a * stands for a whole domain only",
            "f:2: [greylist] probe_senders: \"verify@*.example\" names nobody; a * stands for a whole domain only",
        ],
    ),
    (
        "[milter]\nlisten = [\"inet:[::1]:8892\", \"inet:192.0.2.1:8892\"]\npeers = [\"192.0.2.0/24\"]\n",
        &[
            "f:3: [milter] peers: inet:[::1]:8892 is reached from loopback only, which is not named here, so that all mail would pass unseen; add \"127.0.0.0/8\" or \"::1/128\"",
        ],
    ),
    (
        "[milter]\nlisten = [\"unix:/run/greygate/control.sock\"]\n",
        &[
            "f:2: [milter] listen: the control socket has the name of a milter socket; give each its own",
        ],
    ),
    // All at once, in the order of the file.
    (
        "[store]\ncapacity = 1\n[greylist]\ntrusst = \"1d\"\ndelay = \"\"\n",
        &[
            "f:2: [store] capacity: 1 is out of range; write one from 1_000 to 2_000_000_000",
            "f:4: [greylist] has no key \"trusst\"; did you mean trust?",
            "f:5: [greylist] delay: a duration is missing; write one such as \"90s\", \"3m\" or \"24h\"",
        ],
    ),
];
