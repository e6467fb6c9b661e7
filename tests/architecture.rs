//! The house rules that no lint knows, read from the source itself: which room may use which, where `unsafe`
//! may stand, and that every memory ordering says why it is there.

#[path = "architecture/lexer.rs"]
mod lexer;

use std::path::Path;
use std::{fs, io};

use lexer::{Token, lex, text};

/// Each room with the rooms that it may use. Whatever else it names of the crate is refused.
const TABLE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    // The status that a server answered with.
    ("error", &["wire"]),
    ("sync", &[]),
    ("sys", &[]),
    ("wait", &["sync"]),
    ("ring", &["sync", "wait", "wire"]),
    ("shm", &["ring", "wire", "sync", "sys"]),
    ("buffer", &[]),
    // Of `sync`, the transport only names the types of the native platform.
    ("transport", &["shm", "ring", "wait", "wire", "buffer", "sys", "sync"]),
    ("client", &["transport", "buffer", "wire"]),
    ("server", &["transport", "buffer", "wire"]),
    ("protocol", &["server"]),
    ("config", &[]),
    ("monitor", &["client", "server"]),
    // The command uses the crate by its name, as any program does; its `crate` is its own.
    ("bin", &[]),
];

/// The rooms below the public error types: their operations return small enums of their own.
const BELOW_ERROR: &[&str] = &["sync", "sys", "wait", "wire", "ring"];
const UNSAFE: &[&str] = &["sync", "sys", "ring", "shm"];
const ORDERED: &[&str] = &["ring", "wait"];
/// How far above its ordering an `// ORDER` comment may stand.
const ORDER_LINES: usize = 6;

#[test]
fn the_source_obeys_the_house_rules() -> io::Result<()> {
    let mut sources = Vec::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources)?;
    let broken = violations(&sources);
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
    Ok(())
}

/// A file with its path below `src`, as in `ring/mod.rs`.
struct Source {
    path: String,
    text: String,
}

fn read_sources(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_sources(&entry.path(), &format!("{path}/"), sources)?;
        } else if path.ends_with(".rs") {
            sources.push(Source { path, text: fs::read_to_string(entry.path())? });
        }
    }
    Ok(())
}

/// Every broken rule, as `path:line: what`.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    if !sources.iter().any(|source| source.path == "lib.rs") {
        broken.push("lib.rs:1: not found".to_owned());
    }
    for source in sources {
        let tokens = lex(&source.text);
        let found = if source.path == "lib.rs" { check_lib(&tokens) } else { check_file(source, &tokens) };
        broken.extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", source.path)));
    }
    broken
}

/// A line and what is wrong there.
type Finding = (usize, String);

fn check_file(source: &Source, tokens: &[Token]) -> Vec<Finding> {
    let room = room_of(&source.path);
    if allowed_by_table(room).is_none() {
        return vec![(1, format!("the table has no room `{room}`"))];
    }
    let mut found = Vec::new();
    if room == "bin" {
        let root = source.path.ends_with("/main.rs") || source.path.matches('/').count() == 1;
        if root && !attributes(tokens, &mut 0).contains(&"forbid(unsafe_code)".to_owned()) {
            found.push((1, "the binary lacks #![forbid(unsafe_code)]".to_owned()));
        }
    } else {
        found.extend(edges(source, tokens).into_iter().filter_map(|(line, to)| refusal(room, line, &to)));
    }
    if !UNSAFE.contains(&room) {
        let uses = tokens.iter().filter(|token| token.text == "unsafe");
        found.extend(uses.map(|token| (token.line, format!("`unsafe` in {room}"))));
    }
    if ORDERED.contains(&room) {
        let sites = unexplained_orderings(source, tokens).into_iter();
        found.extend(sites.map(|line| (line, format!("no `// ORDER` within {ORDER_LINES} lines above"))));
    }
    found
}

fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn allowed_by_table(room: &str) -> Option<&'static [&'static str]> {
    TABLE.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

fn refusal(room: &str, line: usize, to: &str) -> Option<Finding> {
    let allowed = to == room
        || allowed_by_table(room).is_some_and(|allowed| allowed.contains(&to))
        || to == "error" && !BELOW_ERROR.contains(&room);
    let what = match to {
        "super" => "`super::super`: name the path from `crate`".to_owned(),
        "" => "the crate's root as a whole: name a room".to_owned(),
        _ if allowed_by_table(to).is_none() => format!("`{to}` is no room: name it by its room's path"),
        _ => format!("{room} may not use {to}"),
    };
    (!allowed).then_some((line, what))
}

/// What the file names of the crate's root: a room each, "" for the root itself, "super" for `super::super`.
fn edges(source: &Source, tokens: &[Token]) -> Vec<(usize, String)> {
    let components = source.path.split('/').count();
    let file_depth = if source.path.ends_with("/mod.rs") { components - 1 } else { components };
    let mut found = Vec::new();
    let mut blocks: Vec<bool> = Vec::new(); // for each open brace, whether it is an inline module's
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => blocks.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => _ = blocks.pop(),
            "crate" | "super" => {
                let mut names = heads(tokens, at);
                // At depth 1, the room's own top level, `super` is the crate's root.
                let depth = file_depth + blocks.iter().filter(|is_module| **is_module).count();
                if token.text == "super" && depth > 1 {
                    names.retain(|name| *name == "super");
                } else if names.is_empty() && text(tokens, at + 1) != ")" {
                    names.push(""); // anything but the `pub(crate)` of a visibility
                }
                found.extend(names.into_iter().map(|name| (token.line, name.to_owned())));
            }
            _ => {}
        }
    }
    found
}

/// The names right behind the path segment `tokens[at]`: one, or one for each branch of a group.
fn heads<'a>(tokens: &[Token<'a>], at: usize) -> Vec<&'a str> {
    let mut names = Vec::new();
    if text(tokens, at + 1) != "::" {
        return names;
    }
    let mut groups = Vec::new(); // for each open group, whether its branches begin with a head
    let mut head_is_next = true;
    for token in &tokens[at + 2..] {
        match token.text {
            "{" => groups.push(head_is_next),
            "}" => _ = groups.pop(),
            "," => head_is_next = groups.last() == Some(&true),
            name if head_is_next => {
                names.push(name);
                head_is_next = false;
            }
            _ => {}
        }
        if groups.is_empty() {
            break;
        }
    }
    names
}

/// `lib.rs` holds docs, `mod` lines and re-exports; a room that may not be unsafe says so on its line.
fn check_lib(tokens: &[Token]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attributes = attributes(tokens, &mut at);
        if text(tokens, at) == "pub" {
            at += if text(tokens, at + 1) == "(" { closing(tokens, at + 1) + 1 - at } else { 1 };
        }
        let line = tokens.get(at).map_or(1, |token| token.line);
        match (text(tokens, at), text(tokens, at + 2)) {
            ("mod", ";") => found.extend(check_mod(line, text(tokens, at + 1), &attributes)),
            ("use", _) | ("", _) => {}
            (other, _) => {
                // Where the item ends depends on what it is; this finding is enough.
                found.push((line, format!("lib.rs holds only docs, `mod x;` and `use`: found `{other}`")));
                return found;
            }
        }
        at += tokens[at.min(tokens.len())..].iter().take_while(|token| token.text != ";").count() + 1;
    }
    found
}

fn check_mod(line: usize, room: &str, attributes: &[String]) -> Option<Finding> {
    let forbidden = attributes.iter().any(|attribute| attribute == "forbid(unsafe_code)");
    if allowed_by_table(room).is_none() {
        Some((line, format!("the table has no room `{room}`")))
    } else if attributes.iter().any(|attribute| attribute.starts_with("path")) {
        Some((line, format!("{room} is not in its own place")))
    } else if !forbidden && !UNSAFE.contains(&room) {
        Some((line, format!("{room} lacks #[forbid(unsafe_code)]")))
    } else {
        None
    }
}

/// The attributes that begin at `at`, without their brackets; `at` then stands behind them.
fn attributes(tokens: &[Token], at: &mut usize) -> Vec<String> {
    let mut found = Vec::new();
    while text(tokens, *at) == "#" {
        let open = *at + 1 + usize::from(text(tokens, *at + 1) == "!");
        let end = closing(tokens, open);
        found.push(tokens.get(open + 1..end).unwrap_or(&[]).iter().map(|token| token.text).collect());
        *at = end + 1;
    }
    found
}

/// Where the bracket that opens at `open` is closed.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Lines that use an ordering or a fence that nothing above them explains; importing a name is not using it.
fn unexplained_orderings(source: &Source, tokens: &[Token]) -> Vec<usize> {
    let lines: Vec<&str> = source.text.lines().collect();
    let explained = |line: usize| {
        let above = &lines[line.saturating_sub(1 + ORDER_LINES)..line];
        above.iter().any(|text| text.contains("// ORDER"))
    };
    let mut found = Vec::new();
    let mut in_use = false;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "use" => in_use = text(tokens, at + 1) != "<", // `use<'a>` is a bound
            ";" => in_use = false,
            _ => {}
        }
        let ordering = match token.text {
            "Acquire" | "Release" | "AcqRel" => !in_use,
            "fence" => at > 0 && tokens[at - 1].text == "::" && text(tokens, at + 1) == "(",
            _ => false,
        };
        if ordering && !explained(token.line) && found.last() != Some(&token.line) {
            found.push(token.line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file at `path`, beside a `lib.rs` that is in order.
    fn broken(path: &str, code: &str) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        violations(&[source("lib.rs", "mod ring;"), source(path, code)])
    }

    fn broken_lib(code: &str) -> Vec<String> {
        violations(&[Source { path: "lib.rs".to_owned(), text: code.to_owned() }])
    }

    #[track_caller]
    fn assert_accepted(path: &str, code: &str) {
        assert_eq!(broken(path, code), [""; 0]);
    }

    #[test]
    fn the_table_names_only_rooms_above_their_own() {
        for (row, (room, allowed)) in TABLE.iter().enumerate() {
            for name in *allowed {
                assert!(TABLE[..row].iter().any(|(above, _)| above == name), "{room} -> {name}");
            }
        }
    }

    #[test]
    fn an_edge_that_the_table_lacks_is_reported() {
        assert_eq!(broken("wire/mod.rs", "\nuse crate::ring::B;"), ["wire/mod.rs:2: wire may not use ring"]);
        for code in [
            "use crate::{wire::A, ring::B};",
            "use crate::{\n    wire::{A, b::{C, D}},\n    ring,\n};",
            "use crate::{{wire, ring::B}};",
            "fn f() { crate :: ring::g() }",
            "macro_rules! m { () => { $crate::ring::g() } }",
            "mod tests { use crate::ring::B; }",
            "use super::ring::B;",
        ] {
            let found = broken("wire.rs", code);
            assert!(found.len() == 1 && found[0].ends_with(": wire may not use ring"), "{code}: {found:?}");
        }
    }

    #[test]
    fn an_edge_that_the_table_holds_is_accepted() {
        assert_accepted("ring/mod.rs", "use crate::{ring::A, sync, wait::{B, server::C}, wire::*};");
        assert_accepted("shm/mod.rs", "pub(crate) use super::ring::A; mod x { use super::wait::B; }");
        assert_accepted("wire/header.rs", "use super::ring::A; pub(in crate::wire) fn f() {}");
    }

    #[test]
    fn comments_and_literals_make_no_edge() {
        assert_accepted("wire.rs", "/// [`A`](crate::ring::A)\n// unsafe\nconst B: &str = \"crate::ring\";");
    }

    #[test]
    fn the_public_errors_stay_above_the_lower_rooms() {
        assert_accepted("shm/mod.rs", "use crate::error::Error;");
        assert_eq!(broken("ring/mod.rs", "use crate::error::E;"), ["ring/mod.rs:1: ring may not use error"]);
    }

    #[test]
    fn ways_around_the_table_are_reported() {
        for (path, code) in [
            ("wire/header.rs", "use super::super::ring::A;"),
            ("wire/header.rs", "use super::{super::ring::A};"),
            ("wire/mod.rs", "mod x { use super::super::ring::A; }"),
            ("wire/mod.rs", "use crate as root;"),
            ("wire/mod.rs", "use crate::{self as root};"),
            ("wire/mod.rs", "use super::*;"),
            ("wire/mod.rs", "use crate::Reexported;"),
            ("attic/mod.rs", ""),
        ] {
            assert_eq!(broken(path, code).len(), 1, "{path}: {code}: {:?}", broken(path, code));
        }
    }

    #[test]
    fn unsafe_stands_only_in_the_rooms_for_it() {
        assert_eq!(broken("wait/mod.rs", "fn f() { unsafe {} }"), ["wait/mod.rs:1: `unsafe` in wait"]);
        assert_accepted("sys/mod.rs", "unsafe fn f() {}");
        assert_accepted("bin/ringwire/main.rs", "//! D.\n#![forbid(unsafe_code)]\nuse crate::x;");
        assert_eq!(broken("bin/ringwire/main.rs", "fn main() {}").len(), 1);
        assert_eq!(broken("bin/other.rs", "fn main() {}").len(), 1);
    }

    #[test]
    fn lib_holds_docs_modules_and_re_exports() {
        let code = "//! fn f() {}\n#![doc = include_str!(\"x\")]\n#[cfg(a)]\n#[forbid(unsafe_code)]\n\
                    pub(crate) mod wire; pub mod ring; #[doc(inline)] pub use ring::{A, B};";
        assert_eq!(broken_lib(code), [""; 0]);
        for code in [
            "fn f() {}",
            "pub struct S;",
            "pub use ring::A;\nimpl A {}",
            "pub(crate) trait T {}",
            "mod ring {}",
            "mod wire;",
            "#[cfg_attr(a, forbid(unsafe_code))] mod wire;",
            "#[path = \"wire.rs\"] mod ring;",
            "#[forbid(unsafe_code)] mod attic;",
        ] {
            assert_eq!(broken_lib(code).len(), 1, "{code}: {:?}", broken_lib(code));
        }
        assert_eq!(violations(&[]).len(), 1);
    }

    #[test]
    fn an_ordering_says_why() {
        for site in ["w.load(Acquire);", "w.store(1, Ordering::Release);", "P::fence();"] {
            let at_distance = |lines| format!("// ORDER: pair: why\n{}{site}", "\n".repeat(lines - 1));
            assert_accepted("ring/mod.rs", &at_distance(1));
            assert_accepted("wait/mod.rs", &at_distance(ORDER_LINES));
            assert_eq!(broken("ring/mod.rs", &at_distance(ORDER_LINES + 1)).len(), 1, "{site}");
            assert_eq!(broken("wait/mod.rs", site), ["wait/mod.rs:1: no `// ORDER` within 6 lines above"]);
            assert_accepted("sync/mod.rs", site);
        }
        assert_accepted("ring/mod.rs", "use x::{Acquire, Release};\n// Release\nfn fence() {}");
    }
}
