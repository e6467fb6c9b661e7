//! Every ordering in the shipped code names the tests that fail without it, and every way to weaken it has one.
#![allow(clippy::unwrap_used, reason = "who cannot read the sources cannot check them")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let sources: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(!sources.is_empty(), "{} holds no sources", folder.display());
    sources
}

fn shipped() -> String {
    [sources("../src/ring"), sources("../src/wait")].concat().into_iter().map(|(_, text)| text).collect()
}

fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources("tests") {
        for test in text.split("#[test]\nfn ").skip(1) {
            names.insert(test.split('(').next().unwrap().to_owned());
        }
    }
    names
}

/// The comments that begin with `ORDER`, each on one line, with the line where it begins.
fn order_comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("// ") {
            Some(first) if first.starts_with("ORDER ") => {
                inside = true;
                comments.push((index + 1, first.to_owned()));
            }
            Some(more) if inside => comments.last_mut().unwrap().1 += &format!(" {more}"),
            _ => inside = false,
        }
    }
    comments
}

/// The names in `(control: a)` and `(controls: a, b)`.
fn controls(comment: &str) -> Vec<&str> {
    let lists = comment.split("(control").skip(1);
    let lists = lists.filter_map(|rest| rest.trim_start_matches('s').strip_prefix(": ")?.split(')').next());
    lists.flat_map(|list| list.split(", ")).collect()
}

#[test]
fn every_order_comment_names_tests_that_exist() {
    let tests = tests();
    let mut named = 0;
    for (path, text) in [sources("../src/ring"), sources("../src/wait")].concat() {
        for (line, comment) in order_comments(&text) {
            let place = format!("{}:{line}", path.display());
            assert!(!controls(&comment).is_empty(), "{place}: no `(control: ...)`");
            for control in controls(&comment) {
                assert!(tests.contains(control), "{place}: there is no test {control}");
                named += 1;
            }
        }
    }
    assert!(named >= 9, "only {named} controls are named: has the form of the comments changed?");
}

#[test]
fn every_weakening_has_a_site_and_a_test_that_must_fail() {
    let shipped = shipped();
    let port = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/sync/port.rs")).unwrap();
    let tests: String = sources("tests").into_iter().map(|(_, text)| text).collect();
    let sites = port.split("sites! {").nth(1).unwrap();
    let names: Vec<_> =
        sites.lines().filter_map(|line| line.trim().split_once(" = ")).map(|(name, _)| name).collect();
    assert!(names.len() >= 20, "only {} weakenings found: has the form of the list changed?", names.len());
    for name in names {
        let is_whole = |text: &str| text.split(&format!("weak::{name}")).skip(1).any(|rest| !continues(rest));
        assert!(is_whole(&shipped), "{name}: nobody asks for it");
        let must_fail =
            tests.split("must_fail(").skip(1).any(|call| is_whole(call.split(';').next().unwrap()));
        assert!(must_fail, "{name}: no test must fail with it");
    }
}

fn continues(rest: &str) -> bool {
    rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
}

#[test]
fn comments_are_found_and_taken_apart() {
    let text = "// before\n    // ORDER one: why (control: a).\n    // More (controls: b,\n    // c).\ncode();\n// after\n";
    let comments = order_comments(text);
    assert_eq!(comments.len(), 1);
    assert_eq!(comments[0].0, 2);
    assert_eq!(controls(&comments[0].1), ["a", "b", "c"]);
}
