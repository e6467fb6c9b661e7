//! As much of Rust's grammar as telling code from comments and literals takes.

/// A word, a `::` or a single mark of the code proper: comments and literals in quotes leave none.
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// The token's text, or "" behind the last one.
pub(crate) fn text<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

pub(crate) fn lex(mut rest: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped_length(rest, first);
        let length = skipped.unwrap_or_else(|| token_length(rest, first));
        let (text, behind) = rest.split_at(length);
        if skipped.is_none() {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = behind;
    }
    tokens
}

fn token_length(rest: &str, first: char) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match first {
        _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        ':' if rest.starts_with("::") => 2,
        _ => first.len_utf8(),
    }
}

/// The length of the blank, the comment or the literal that `rest` begins with.
fn skipped_length(rest: &str, first: char) -> Option<usize> {
    match first {
        _ if first.is_whitespace() => Some(first.len_utf8()),
        '/' if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => Some(block_comment_length(rest)),
        '"' => Some(string_length(rest)),
        '\'' => char_length(rest),
        'r' | 'b' | 'c' => raw_string_length(rest),
        _ => None,
    }
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (1, 2);
    while depth > 0 {
        let Some(next) = rest[at..].find(['/', '*']).map(|offset| at + offset) else { return rest.len() };
        let (change, length) = match rest.get(next..next + 2) {
            Some("/*") => (1, 2),
            Some("*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        at = next + length;
    }
    at
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

/// None for a lifetime, which is a mark and a word.
fn char_length(rest: &str) -> Option<usize> {
    let mut chars = rest.chars().skip(1);
    match (chars.next()?, chars.next()?) {
        ('\\', _) => rest.get(3..)?.find('\'').map(|end| 3 + end + 1),
        (c, '\'') => Some(c.len_utf8() + 2),
        _ => None,
    }
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let marked = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let body = marked.trim_start_matches('#').strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marked.len() - body.len() - 1));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> String {
        lex(source).iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_are_words_and_double_colons() {
        assert_eq!(words("use crate::ring::{A, b_2};"), "use crate :: ring :: { A , b_2 } ;");
    }

    #[test]
    fn comments_leave_no_token() {
        assert_eq!(words("a // b\n/// [`c`](crate::c)\n//! d\ne /* f /* g */ h */ i /*/ j */ k"), "a e i k");
        assert_eq!(words("a / b * c /* never closed *"), "a / b * c");
    }

    #[test]
    fn quoted_literals_leave_no_token() {
        assert_eq!(words(r#"a "b \" c \\" d "e // f" g"#), "a d g");
        assert_eq!(words(r###"a r"b\" c r#"d " e"# f br##"g "# h"## i cr"j" k"###), "a c f i k");
        assert_eq!(words(r"a '\'' b '\u{1F}' c '{' d 'é' e '\\' f"), "a b c d e f");
        assert_eq!(words("a \"never closed"), "a");
    }

    #[test]
    fn a_lifetime_does_not_begin_a_literal() {
        assert_eq!(words("f::<'a>(x: &'a u8, y: 'b')"), "f :: < ' a > ( x : & ' a u8 , y : )");
    }

    #[test]
    fn words_may_begin_like_a_raw_string() {
        assert_eq!(words("ring r br b c r#match"), "ring r br b c r # match");
    }

    #[test]
    fn lines_are_counted_through_comments_and_literals() {
        let tokens = lex("a\n/* \n */ b \"\n\n\" c");
        assert_eq!(tokens.iter().map(|token| token.line).collect::<Vec<_>>(), [1, 3, 5]);
    }
}
