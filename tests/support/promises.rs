//! The promises of `docs/requirements.md`, each with the tests that keep it.
//!
//! The page is a table: an id, what is promised, and the names of tests in backquotes. This reads it
//! and looks for the tests, so that the page cannot name one that is gone.

use std::fs;
use std::path::Path;

use crate::error::Error;

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its id, such as `A7`.
    pub id: String,
    /// The names of its tests.
    pub tests: Vec<String>,
}

/// The promises on a page.
pub fn promises(page: &str) -> Vec<Promise> {
    page.lines().filter_map(promise).collect()
}

/// The names of all test functions below `folder`.
pub fn tests_below(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let reading = format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).map_err(Error::io(&reading))? {
        let path = entry.map_err(Error::io(&reading))?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                names.extend(tests_below(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path);
            let text = text.map_err(Error::io(format!("reading {}", path.display())))?;
            names.extend(tests_in(&text));
        }
    }
    Ok(names)
}

/// `| id | promise | tests |`, the id being letters and digits.
fn promise(line: &str) -> Option<Promise> {
    let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let [id, .., tests, ""] = cells[..] else {
        return None;
    };
    let is_id = id.starts_with(|first: char| first.is_ascii_uppercase())
        && id.ends_with(|last: char| last.is_ascii_digit());
    let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned);
    is_id.then(|| Promise {
        id: id.to_owned(),
        tests: tests.collect(),
    })
}

/// The functions that stand below a `#[test]`, or in a `proptest!`, which wants one too.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(name) = line.strip_prefix("fn ") {
            if is_test {
                names.extend(name.split(['(', '<']).next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_has_a_test_and_every_test_named_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = fs::read_to_string(root.join("docs/requirements.md")).expect("it is there");
        let promises = promises(&page);
        let ids: Vec<_> = promises.iter().map(|promise| promise.id.as_str()).collect();
        let expected: Vec<_> = (1..=20)
            .map(|number| format!("A{number}"))
            .chain((1..=14).map(|number| format!("B{number}")))
            .chain((1..=14).map(|number| format!("D{number}")))
            .chain((1..=7).map(|number| format!("E{number}")))
            .collect();
        assert!(
            expected.iter().all(|id| ids.contains(&id.as_str())),
            "{ids:?}"
        );
        let tests = tests_below(&root).expect("the sources are readable");
        for promise in promises {
            assert!(!promise.tests.is_empty(), "{} has no test", promise.id);
            for name in &promise.tests {
                assert!(
                    tests.contains(name),
                    "{} names {name}, which is no test",
                    promise.id
                );
            }
        }
    }

    #[test]
    fn reads_rows_and_passes_over_the_rest() {
        let page = "\
| id | promise | tests |
| --- | --- | --- |
| A1 | one thing | `does_it`, `does_it_again` |
| B2 | another | none yet |
text `with` quotes
";
        let row = |id: &str, tests: &[&str]| Promise {
            id: id.to_owned(),
            tests: tests.iter().map(|&name| name.to_owned()).collect(),
        };
        let expected = [row("A1", &["does_it", "does_it_again"]), row("B2", &[])];
        assert_eq!(promises(page), expected);
    }

    #[test]
    fn finds_tests_and_no_helpers() {
        let text =
            "#[test]\n/// Says why.\nfn is_one() {\nfn helper() {}\n#[test]\nfn holds(x: u8) {}";
        assert_eq!(tests_in(text), ["is_one", "holds"]);
    }
}
