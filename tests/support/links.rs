//! The links of the documents: each leads to a file that is there, and to a heading that it has.
//!
//! Knows as much of Markdown as the documents use. What lies on other hosts is not asked for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The documents below `root`, which are what a visitor reads: those of the top, of `docs` and of the
/// tests.
pub fn documents(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions", "tests"] {
        let folder = root.join(folder);
        let reading = format!("reading {}", folder.display());
        for entry in fs::read_dir(&folder).map_err(Error::io(&reading))? {
            let path = entry.map_err(Error::io(&reading))?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The links of `document` that lead nowhere, each as it is written.
pub fn dead_links(document: &Path) -> Result<Vec<String>, Error> {
    let text = read(document)?;
    let mut dead = Vec::new();
    for link in links(&text) {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = match path {
            "" => document.to_owned(),
            path => document.with_file_name(path),
        };
        let has_headings = target.extension().is_some_and(|it| it == "md");
        let leads = match heading {
            "" => target.exists(),
            _ if !target.exists() => false,
            heading => !has_headings || headings(&read(&target)?).iter().any(|it| it == heading),
        };
        if !leads {
            dead.push(link.to_owned());
        }
    }
    Ok(dead)
}

fn read(document: &Path) -> Result<String, Error> {
    fs::read_to_string(document).map_err(Error::io(format!("reading {}", document.display())))
}

/// The targets of `[text](target)` that lie in the project.
fn links(text: &str) -> Vec<&str> {
    prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The names by which the headings are linked to: in lower case, blanks as hyphens, nothing else that
/// is no letter or digit.
fn headings(text: &str) -> Vec<String> {
    let kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|it| {
            it.chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_the_documents_leads_somewhere() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let documents = documents(&root).expect("the documents are readable");
        assert!(documents.len() > 40, "{documents:?}");
        for document in documents {
            let dead = dead_links(&document).expect("it is readable");
            assert!(dead.is_empty(), "{} names {dead:?}", document.display());
        }
    }

    #[test]
    fn link_to_a_file_or_a_heading_that_is_gone_is_found() {
        let place = tempfile::tempdir().expect("a directory");
        let text = "# What `top` shows\n[a](b.md) [b](#what-top-shows) [c](c.md#x), [d](#gone)\n\
                    ```\n# code\n[e](e.md)\n```\n[f](https://example.org/x) [g](b.md#two) [h](b.md#one)\n";
        let document = place.path().join("a.md");
        fs::write(&document, text).expect("the directory is ours");
        fs::write(place.path().join("b.md"), "## One\n").expect("the directory is ours");
        let dead = dead_links(&document).expect("it is readable");
        assert_eq!(dead, ["c.md#x", "#gone", "b.md#two"]);
    }
}
