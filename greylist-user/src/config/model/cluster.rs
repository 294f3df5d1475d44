//! The keys of `[cluster]`.

use std::time::Duration;

use super::Visitor;
use crate::cluster;

pub(super) fn visit(cluster: &mut cluster::Settings, v: &mut impl Visitor) {
    v.section(
        "cluster",
        "One memory for several MX hosts, in Redis or Valkey (docs/scaling.md). Off while no servers are named.",
    );
    v.key(
        "servers",
        &mut cluster.servers,
        "Where it is, such as [\"10.0.0.7:6379\"]: one server; or some Sentinels; or some servers of a \
         cluster. None: this host keeps to itself.",
    );
    v.key(
        "mode",
        &mut cluster.mode,
        "What they are: \"single\", \"sentinel\" or \"cluster\". Of several single servers the first that \
         answers as a master is used.",
    );
    v.key(
        "sentinel_name",
        &mut cluster.sentinel_name,
        "What the Sentinels call the master.",
    );
    v.key(
        "tls",
        &mut cluster.tls,
        "Whether to speak TLS. What is shared is worth it wherever others can listen: it holds the seed.",
    );
    v.key(
        "tls_ca_file",
        &mut cluster.tls_ca_file,
        "A file with the authorities that the servers' certificates are signed by (PEM). None: the \
         system's.",
    );
    v.key(
        "user",
        &mut cluster.user,
        "Who to log in as. None: the engine's default user.",
    );
    v.key(
        "password",
        &mut cluster.password,
        "Its password. Rather name a file: this one may be read by more people.",
    );
    v.key(
        "password_file",
        &mut cluster.password_file,
        "A file with the password in its first line, for the user that greygate runs as alone; read anew at \
         each connection.",
    );
    v.key(
        "prefix",
        &mut cluster.prefix,
        "What all keys begin with. Sites that share an engine, and nothing else, have one each.",
    );
    v.bounded(
        "budget",
        &mut cluster.budget,
        Duration::from_millis(1)..=Duration::from_secs(1),
        "How long a recipient that is new here waits for what others know of it, at most; then this host \
         decides alone.",
    );
    v.key(
        "node",
        &mut cluster.node,
        "What this host is called among the others. None: the system's host name.",
    );
}
