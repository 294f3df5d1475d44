//! What is said of files that are not legal.

use super::problems;

#[test]
fn every_problem_has_its_line_and_its_remedy() {
    for (text, expected) in ILLEGAL {
        assert_eq!(problems(text.as_bytes()), *expected, "{text}");
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
        &[
            "f:2: [lists] has no key \"blue\"; its keys are allow, allow_files, deny, deny_files, deny_action, local, never_trust, never_trust_files, no_retry, no_retry_files, live",
        ],
    ),
    (
        "[graylist]\ndelay = \"3m\"\n",
        &["f:1: unknown section [graylist]; did you mean [greylist]?"],
    ),
    (
        "\n[smtp]\n",
        &[
            "f:2: unknown section [smtp]; the sections are [milter] [greylist] [content] [punish] [reputation] [lists] [[recipients]] [dns] [xdp] [store] [cluster] [admin] [metrics] [log]",
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
        &["f:2: [greylist] ipv6_prefix: 300 is out of range; write one from 16 to 128"],
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
        "[content]\ncontacts = 256\n",
        &["f:2: [content] contacts: 256 is out of range; write one from 2 to 255"],
    ),
    (
        "[punish]\nextra_delay_limit = \"5m\"\nhopping_delay = \"10m\"\n",
        &[
            "f:3: [punish] hopping_delay: 10m is more than the extra_delay_limit of 5m, which ends it; write at most that, or raise extra_delay_limit",
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
        "[cluster]\npassword = 4711\n",
        &["f:2: [cluster] password: expected a text in quotes"],
    ),
    (
        "[cluster]\nservers = \"redis://u:swordfish@h\"\n",
        &["f:2: [cluster] servers: expected a list in [brackets], found a URL"],
    ),
    (
        "[cluster]\nservers = \":swordfish@10.0.0.7:6379\"\n",
        &["f:2: [cluster] servers: expected a list in [brackets], found a text with an @"],
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
