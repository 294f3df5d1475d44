//! How sharing with other hosts stands, for people.

use super::paper::{Paper, number};
use crate::cluster::{Node, Standing, State};

/// The whole of it.
pub(super) fn standing(standing: &Standing, paper: &mut Paper) {
    let title = format!("greygate on {}", standing.node);
    paper.line(paper.bold(&title));
    paper.row("state", state(standing, paper));
    let engine = if standing.engine.is_empty() {
        "none that this host shares in yet"
    } else {
        &standing.engine
    };
    let servers = standing.servers.join(", ");
    paper.row(
        "engine",
        format_args!("{engine}, {} at {servers}", standing.mode),
    );
    let asked = if standing.circuit_closed {
        "sessions ask what other hosts know".to_owned()
    } else {
        let open = "open: sessions do not ask, this host decides alone";
        paper.bad(open).to_string()
    };
    paper.row("circuit", asked);
    if let Some(lag) = standing.lag_milliseconds {
        paper.row("heard", format_args!("{} ms ago", number(lag)));
    }
    let comparing = if standing.resyncing {
        "; everything is being compared"
    } else {
        ""
    };
    let queued = number(standing.queued);
    paper.row(
        "queue",
        format_args!("{queued} records wait to be told{comparing}"),
    );
    if let Some(why) = &standing.untold {
        paper.row("untold", paper.bad(why));
    }
    if let Some(keys) = standing.keys {
        let memory = standing.memory.unwrap_or_default() >> 20;
        let keys = number(keys);
        paper.row(
            "holds",
            format_args!("{keys} keys, whoever's they are, in {memory} MiB"),
        );
    }
    if standing.foreign > 0 {
        let foreign = number(standing.foreign);
        let why = format!("keys under the prefix held something else, {foreign} since the start");
        paper.row("foreign", paper.bad(&why));
    }
    for node in &standing.nodes {
        paper.row("node", node_line(node, standing));
    }
}

/// The same in a line, for `status`.
pub(super) fn in_a_line(standing: &Standing, paper: &Paper) -> String {
    let others = standing
        .nodes
        .iter()
        .filter(|node| node.name != standing.node);
    let others = others.count();
    match &standing.state {
        State::Sharing => format!(
            "shares as {} with {others} other {}",
            standing.node,
            if others == 1 { "host" } else { "hosts" }
        ),
        _ => state(standing, paper),
    }
}

fn state(standing: &Standing, paper: &Paper) -> String {
    match &standing.state {
        State::Starting => "connects".to_owned(),
        State::Sharing => "shares".to_owned(),
        State::Alone(why) => paper.bad(&format!("alone: {why}")).to_string(),
        State::Refused(why) => paper.bad(&format!("refused: {why}")).to_string(),
        State::Left => paper.bad("keeps apart until the next start").to_string(),
    }
}

fn node_line(node: &Node, standing: &Standing) -> String {
    let Node {
        name,
        version,
        silent,
    } = node;
    let this = if *name == standing.node {
        " (this one)"
    } else {
        ""
    };
    let seen = if *silent <= SILENT {
        String::new()
    } else {
        format!(", silent for {silent} s")
    };
    format!("{name}{this}, greygate {version}{seen}")
}

/// Seconds from one sign of life to the next, and some.
const SILENT: u64 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn on_paper(told: &Standing) -> String {
        let mut paper = Paper::new(false);
        standing(told, &mut paper);
        paper.into_text()
    }

    #[test]
    fn says_who_shares_and_who_is_silent() {
        let node = |name: &str, silent| Node {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            silent,
        };
        let text = on_paper(&Standing {
            node: "mx1".to_owned(),
            mode: "single".to_owned(),
            servers: vec!["10.0.0.7:6379".to_owned()],
            state: State::Sharing,
            engine: "Redis 7.0.15".to_owned(),
            circuit_closed: true,
            queued: 3,
            lag_milliseconds: Some(120),
            keys: Some(12_345),
            memory: Some(3 << 20),
            nodes: vec![node("mx1", 0), node("mx2", 120)],
            ..Standing::default()
        });
        for expected in [
            "Redis 7.0.15, single at 10.0.0.7:6379",
            "mx1 (this one), greygate 0.1.0",
            "mx2, greygate 0.1.0, silent for 120 s",
            "12,345 keys",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("alone"), "{text}");
    }

    #[test]
    fn says_why_a_host_is_alone() {
        let text = on_paper(&Standing {
            state: State::Alone("nobody answers".to_owned()),
            ..Standing::default()
        });
        assert!(text.contains("alone: nobody answers"), "{text}");
        assert!(text.contains("sessions do not ask"), "{text}");
    }
}
