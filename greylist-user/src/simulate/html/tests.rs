use super::super::report::{Hour, LeftOut, LogFacts, Ranked, Seen, Sentences};
use super::super::{Asked, Bound};
use super::*;

fn report() -> Report {
    let strangers = Ranked {
        name: "\"<script>alert(1)</script>\"@a.example".to_owned(),
        count: 2,
        seconds: 700,
        longest: 400,
    };
    let outcome = Outcome {
        delay: Some(Delays {
            count: 2,
            mean: 350,
            p50: 300,
            p90: 400,
            p99: 400,
            max: 400,
        }),
        delay_classes: vec![1, 1, 0, 0, 0, 0, 0],
        delayed_addresses: Ranking {
            first: vec![strangers],
            others: None,
        },
        ..Outcome::default()
    };
    Report {
        version: 1,
        asked: Asked {
            config: Some("</title><script>".to_owned()),
            mode: "hybrid".to_owned(),
            delay: 180,
            retry_model: "mixed".to_owned(),
            no_retry_percent: (5, 50),
            warmed_up: false,
        },
        log: LogFacts {
            files: vec!["<img src=x onerror=alert(1)>.log".to_owned()],
            ..LogFacts::default()
        },
        seen: Seen::default(),
        left_out: LeftOut::default(),
        shown: outcome.clone(),
        assumed: Some(Assumed {
            model: "mixed".to_owned(),
            recipients: 3,
            quick: outcome.clone(),
            slow: outcome,
        }),
        sentences: Sentences::default(),
        hours: vec![Hour {
            at: 1_793_599_200,
            passed: 3,
            deferred: 2,
            refused: 1,
        }],
        limits: vec!["Not <everything>.".to_owned()],
        bounds: vec![Bound::Waiting],
    }
}

#[test]
fn strangers_text_is_text_on_the_page() {
    let page = page(&report());
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains("<script"), "a script got through");
    assert!(!page.contains("<img"), "a tag got through");
    assert!(page.contains("Not &lt;everything&gt;."));
}

#[test]
fn page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let page = page(&report());
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url(", "javascript:"] {
        let told = without_names.replace("src=x onerror", "");
        assert!(!told.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn plots_have_words_and_tables_and_the_colour_of_the_page() {
    let page = page(&report());
    let plots = page.matches("<svg role=\"img\"").count();
    assert_eq!(plots, 3, "delays shown, delays assumed, and hours");
    assert_eq!(page.matches("<title>Recipients by hour").count(), 1);
    assert_eq!(page.matches("<desc>").count(), plots);
    assert!(!page.contains("#000000") && page.contains("currentColor"));
    assert!(page.contains("color-scheme: light dark"));
    assert!(page.matches("<caption>").count() > plots);
}

#[test]
fn what_is_assumed_is_called_so_beside_each_figure_of_it() {
    let page = page(&report());
    let assumed = page
        .split("<h2>What is assumed</h2>")
        .nth(1)
        .expect("it is told");
    let assumed = assumed.split("<h2>").next().expect("up to the next");
    for caption in assumed.split("<caption>").skip(1) {
        let caption = caption.split("</caption>").next().expect("it ends");
        assert!(caption.contains("assumed"), "{caption}");
    }
}

#[test]
fn plot_of_nothing_is_none() {
    let empty = Plot {
        title: "",
        description: "",
        labels: vec![String::new()],
        series: vec![Series {
            name: "",
            values: vec![0],
        }],
        is_stacked: true,
    };
    assert_eq!(empty.drawn(), None);
}
