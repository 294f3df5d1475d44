//! What the help of each command ends with: examples, and what is easily missed.

pub(super) const FIRST_STEPS: &str = "\
First steps:
  apt install ./greygate_*.deb
  postconf -e 'smtpd_milters = { unix:greygate/milter.sock, default_action=accept }'
  postfix reload
  greygate status
  greygate why 192.0.2.7 sender@example.org you@example.net
After a change of /etc/greygate/greygate.toml (`greygate default-config` prints every key):
  greygate check-config && greygate reload

What the command line says wins over GREYGATE_CONFIG and GREYGATE_SOCKET of the environment, they \
over the file, and the file over the defaults.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Manuals: greygate(8), greygate.toml(5)";

pub(super) const ALLOW_EXAMPLES: &str = "\
An entry is an address, a network, a verified reverse name, a domain of such names with a dot before it, \
or from, to or helo with what they say. It counts at once, outlives a restart, and needs no reload. What \
is named by network passes the kernel filter, too; only a network or a reverse name protects from a \
sentence.

Examples:
  greygate allow add 192.0.2.7 --for 7d --note 'ticket 4711'
  greygate allow add .example.org
  greygate allow add to postmaster@example.net
  greygate allow remove 192.0.2.7
  greygate allow list";

pub(super) const DENY_EXAMPLES: &str = "\
Denied mail is refused as [lists] deny_action says. Who is allowed, local or authenticated is not denied.

Examples:
  greygate deny add 192.0.2.0/24 --for 1d
  greygate deny add from @example.org --note 'bounces of a worm'
  greygate deny add helo ylmf-pc
  greygate deny remove from @example.org
  greygate deny list";

pub(super) const SERVE_EXAMPLES: &str = "\
Stops on SIGTERM or SIGINT, after the sessions under way and a last snapshot.

Examples:
  greygate serve
  greygate serve --config /etc/greygate/test.toml
  greygate serve --observe
  greygate serve --set greylist.delay=5m --set xdp.rate=10";

pub(super) const CHECK_EXAMPLES: &str = "\
Exits with 2 and FILE:LINE: what is wrong, when it is not legal. Run it as the daemon's user, so \
that paths are judged with its rights.

Example:
  greygate check-config /etc/greygate/greygate.toml && systemctl restart greygate
  greygate check-config --set greylist.mode=content --json";

pub(super) const DEFAULT_EXAMPLES: &str = "\
Examples:
  greygate default-config | less
  greygate default-config > test.toml && greygate check-config test.toml";

pub(super) const STATUS_EXAMPLES: &str = "\
Exits with 0 when the daemon answers, whatever it says, and with 1 when none does. With --check also \
with 1 when anything wants an operator.

Examples:
  greygate status
  greygate status --check || mail-the-operator
  greygate status --json | jq .store.tuples";

pub(super) const TOP_EXAMPLES: &str = "\
q quits, p pauses, s sorts the sentences, ? helps. A daemon that is gone is asked again until it is back.

Examples:
  greygate top
  greygate top --every 5s
  greygate top --once
  greygate top --json | jq --unbuffered .status.recent";

pub(super) const PUNISH_EXAMPLES: &str = "\
Examples:
  greygate punish 192.0.2.7
  greygate punish 192.0.2.0/24 --level rate
  greygate punish 2001:db8::/64 --for 1d";

pub(super) const EXPORT_EXAMPLES: &str = "\
Writes a header, one record a line and an end. Asks the daemon for a snapshot and reads that; without a \
daemon, the last one it left. Keys are hashes that mean something only to a host with the same seed.

Examples:
  greygate export > greygate.jsonl
  greygate export --kind tuple --kind trust | gzip > records.jsonl.gz";

pub(super) const IMPORT_EXAMPLES: &str = "\
Reads every file whole before it takes in anything, and names what is wrong with FILE:LINE. Taken in is \
merged with what is there: twice is once, and no record gets worse. See docs/migrating.md.

Examples:
  greygate import greygate.jsonl
  greygate import --dry-run --delay 5m --autowhite 3d /var/lib/milter-greylist/greylist.db
  db_dump /var/lib/postgrey/postgrey.db > postgrey.txt && greygate import postgrey.txt
  greygate import --zone +01:00 connect.csv from_awl.csv domain_awl.csv";

pub(super) const FORGET_EXAMPLES: &str = "\
A tuple that is forgotten is new at its next attempt; trust has to be earned again; a message that was \
read is read again. A client loses its strikes, and the shield of its AUTH; `forgive` is kinder.

Examples:
  greygate list trusted --older 30d
  greygate forget 9f1c2ab0d7e84563b1f0a2c49d5e7716
  greygate forget --trust 192.0.2.7 sender@example.org
  greygate forget --trust 192.0.2.7 list-you=example.net@lists.example.org you@example.net";

pub(super) const FORGIVE_EXAMPLES: &str = "\
An address: its own sentence and that of the network around it, for all in that network. A network \
of any size: its own sentence and those of everybody in it, but none of a wider one.

Examples:
  greygate forgive 192.0.2.7
  greygate forgive 198.51.0.0/16
  greygate forgive 192.0.2.7 sender@example.org you@example.net --helo mail.example.org";

pub(super) const LIST_EXAMPLES: &str = "\
Records are remembered by hashes: client, sender and recipient are shown only where [store] \
keep_addresses keeps them. Of a single mail, `greygate why ADDRESS SENDER RECIPIENT` tells all the same.

Examples:
  greygate list pending --older 1h --least-attempts 3
  greygate list pending --recipient you@example.net
  greygate list trusted --sort passes --limit 100
  greygate list clients --network 192.0.2.0/24
  greygate list sentences --least-drops 1000 --json | jq -r '.rows[].client'
  greygate list fingerprints --passed --newer 1h";

pub(super) const SNAPSHOT_EXAMPLES: &str = "\
Returns when it is on the disk, as fast as that takes it: a periodic one (every [store] snapshot_interval, \
at snapshot_rate) that is being written is given up for it.

Examples:
  greygate snapshot && cp /var/lib/greygate/snapshot /var/lib/greygate/seed /backup/
  greygate snapshot --json | jq .bytes";

pub(super) const SPAM_EXAMPLES: &str = "\
Examples:
  greygate report spam 192.0.2.7 --name mail.example.org
  greygate report spam 2001:db8::7";

pub(super) const HAM_EXAMPLES: &str = "\
Examples:
  greygate report ham 192.0.2.7 --name mail.example.org
  greygate report ham 2001:db8::7";

pub(super) const REJECT_EXAMPLES: &str = "\
Examples:
  greygate report reject 192.0.2.7 sender@example.org you@example.net --size 48213
  greygate report reject 192.0.2.7 '<>' you@example.net";

pub(super) const CLUSTER_EXAMPLES: &str = "\
Examples:
  greygate cluster status
  greygate cluster status --json | jq .nodes
  greygate cluster resync";

pub(super) const CLUSTER_STATUS_EXAMPLES: &str = "\
Examples:
  greygate cluster status
  greygate cluster status --json | jq '.nodes[].name'";

pub(super) const CLUSTER_RESYNC_EXAMPLES: &str = "\
Hosts compare by themselves whenever something may have been missed. This is for when you doubt it.

Example:
  greygate cluster resync && greygate cluster status";

pub(super) const CLUSTER_LEAVE_EXAMPLES: &str = "\
Before work on the engine, or to see whether a fault is its own.

Example:
  greygate cluster leave; ...; systemctl restart greygate";

pub(super) const XDP_EXAMPLES: &str = "\
Examples:
  greygate xdp status
  greygate xdp load --confirm-within 60s
  greygate xdp panic";

pub(super) const XDP_STATUS_EXAMPLES: &str = "\
Examples:
  greygate xdp status
  greygate xdp status --json | jq .filter";

pub(super) const UNLOAD_EXAMPLES: &str = "\
Example:
  systemctl stop greygate && greygate xdp unload";

pub(super) const RELOAD_EXAMPLES: &str = "\
As SIGHUP, but it answers: what changed, which keys wait for a restart, or all that is wrong with \
FILE:LINE, and then the old configuration stays in force (exit code 2). What the daemon's command line \
sets with --set stays above the file.

Examples:
  greygate reload
  greygate reload --json | jq -r '.restart[]'";

pub(super) const WHY_EXAMPLES: &str = "\
Sender and recipient as the log shows them; a mail nobody has tried yet may be asked about, too. What \
its content will say is not known before: of an attempt that would be read, it says what passes then.

Examples:
  greygate why 192.0.2.7
  greygate why 192.0.2.7 sender@example.org you@example.net
  greygate why 192.0.2.7 '<>' you@example.net --name mail.example.org --helo mail.example.org";

pub(super) const REPORT_EXAMPLES: &str = "\
Meant for the content filter behind greygate. A process for each mail costs more than it teaches on \
a busy host: keep one `greygate report lines` open and write to it.

Examples:
  greygate report spam 192.0.2.7 --name mail.example.org
  greygate report reject 192.0.2.7 sender@example.org you@example.net --size 48213
  learn-from-the-log | greygate report lines";

pub(super) const LINES_HELP: &str = "\
Each line is one of
  spam ADDRESS [REVERSE-NAME]
  ham ADDRESS [REVERSE-NAME]
  reject ADDRESS SENDER RECIPIENT [BYTES]
with \"-\" for a client that has no reverse name and \"<>\" for the null reverse-path. An empty line and \
one that begins with \"#\" say nothing. A line that is no report is named on standard error, and the \
exit code is 1 at the end; nothing is printed of those that were heard, but with --json their count.

Example:
  learn-from-the-log | greygate report lines";

pub(super) const LOAD_HELP: &str = "\
What is pinned already is taken over with its sentences: loading again swaps the program. Not while \
a daemon runs, which has done it.

Examples:
  greygate xdp load
  greygate xdp load --confirm-within 60s";

pub(super) const PANIC_HELP: &str = "\
Works as root without the daemon, and whatever the configuration says. Mail keeps flowing. The \
filter stays off until the file that this leaves behind is removed.

Example:
  greygate xdp panic";

pub(super) const ADD_EXAMPLES: &str = "\
Examples:
  greygate allow add 192.0.2.0/24 --note 'ticket 4711'
  greygate allow add .partner.example --for 7d
  greygate deny add from @spam.example
  greygate deny add helo .spam.example --for 30d";

pub(super) const ADDED_EXAMPLES: &str = "\
Examples:
  greygate allow list
  greygate deny list --json | jq -r '.entries[].entry'";

pub(super) const REMOVE_EXAMPLES: &str = "\
Examples:
  greygate allow remove 192.0.2.0/24
  greygate deny remove from @spam.example";
