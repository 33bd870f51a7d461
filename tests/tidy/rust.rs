//! As much of Rust's grammar as the rules need: comments and literals, and paths.

/// The text with comments and literals blanked. Lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        let blank = |char: &char| if *char == '\n' { '\n' } else { ' ' };
        code.extend(chars[at..end].iter().map(blank));
        at = end;
        if at < chars.len() && literal_end(&chars, at) == at {
            // A whole word at once, so that the `r` of `for` opens no raw string.
            let word = word_end(&chars, at).max(at + 1);
            code.extend(&chars[at..word]);
            at = word;
        }
    }
    code
}

/// Where the comment or literal ends that starts here; `at` itself where none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let find = |from: usize, what: &str| {
        let what: Vec<char> = what.chars().collect();
        let rest = chars.get(from..).unwrap_or_default();
        let found = rest.windows(what.len()).position(|window| window == what);
        found.map_or(chars.len(), |found| from + found + what.len())
    };
    let starts = |what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    if starts("//") {
        return find(at, "\n") - usize::from(chars[find(at, "\n") - 1] == '\n');
    }
    if starts("/*") {
        return find(at + 2, "*/");
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let open = format!("{prefix}\"");
        starts(&open) || (prefix.ends_with('r') && starts(&format!("{prefix}#")) && raw(chars, at))
    });
    match prefix {
        Some(prefix) if prefix.ends_with('r') => {
            let from = at + prefix.len();
            let hashes = chars[from..].iter().take_while(|&&char| char == '#').count();
            find(from + hashes + 1, &format!("\"{}", "#".repeat(hashes)))
        }
        Some(prefix) => quoted_end(chars, at + prefix.len() + 1, '"'),
        None if starts("'\\") => quoted_end(chars, at + 1, '\''),
        None if starts("'") && chars.get(at + 2) == Some(&'\'') => at + 3,
        None => at,
    }
}

/// Whether the hashes here open a raw string, not a raw identifier.
fn raw(chars: &[char], at: usize) -> bool {
    chars[at..].iter().skip_while(|char| char.is_alphabetic()).find(|&&char| char != '#')
        == Some(&'"')
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn word_end(chars: &[char], at: usize) -> usize {
    let is_word = |char: &&char| char.is_alphanumeric() || **char == '_';
    at + chars[at..].iter().take_while(is_word).count()
}

/// The part of the code before its tests, which stand last.
pub(crate) fn before_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests {").map_or(code, |tests| &code[..tests])
}

/// All paths of more than one segment, with their lines; braces are spelt out.
pub(crate) fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let mut paths = Vec::new();
        let end = path(&chars, at, &mut Vec::new(), &mut paths).max(at + 1);
        found.extend(paths.into_iter().filter(|path| path.len() > 1).map(|path| (line, path)));
        line += chars[at..end].iter().filter(|&&char| char == '\n').count();
        at = end;
    }
    found
}

/// Reads the path that starts at `at`, if one does; returns where it ends.
fn path(
    chars: &[char],
    at: usize,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> usize {
    let depth = before.len();
    let mut at = at;
    loop {
        let end = word_end(chars, at);
        if end == at {
            break;
        }
        before.push(chars[at..end].iter().collect());
        at = end;
        if !(chars.get(at) == Some(&':') && chars.get(at + 1) == Some(&':')) {
            break;
        }
        at += 2;
        if chars.get(at) == Some(&'{') {
            at = group(chars, at + 1, before, found);
            before.truncate(depth);
            return at;
        }
    }
    if before.len() > depth {
        found.push(before.clone());
    }
    before.truncate(depth);
    at
}

fn group(
    chars: &[char],
    mut at: usize,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> usize {
    while at < chars.len() && chars[at] != '}' {
        at = path(chars, at, before, found).max(at + 1);
    }
    at + 1
}

#[test]
fn comments_and_literals_are_no_code() {
    let check = |text: &str, expected: &str| {
        let words: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.join(" "), expected, "{text}");
    };
    check("a // b\nc", "a c");
    check("a /* b \n */ c", "a c");
    check("a \"b \\\" // \" c", "a c");
    check("a r#\"b \" c\"# d", "a d");
    check("a br\"\\\" c", "a c");
    check("a '\"' b '\\'' c '\\u{1F}' d", "a b c d");
    check("fn f<'a>(a: &'a str) {}", "fn f<'a>(a: &'a str) {}");
    check("for r#type in x", "for r#type in x");
    check("a b\"c\" d", "a d");
    check("last // word", "last");
    assert_eq!(code("a\n\"b\n\"\nc").matches('\n').count(), 3);
}

#[test]
fn braces_are_spelt_out() {
    let check = |code: &str, expected: &[&str]| {
        let paths: Vec<String> = paths(code).into_iter().map(|(_, path)| path.join("::")).collect();
        assert_eq!(paths, expected, "{code}");
    };
    check("use crate::clock;", &["crate::clock"]);
    check(
        "use crate::{a, b::{c, d}, f::*};",
        &["crate::a", "crate::b::c", "crate::b::d", "crate::f"],
    );
    check("let x = crate::a::f(super::b::G);", &["crate::a::f", "super::b::G"]);
    check("x", &[]);
    assert_eq!(paths("\n\nuse a::{\n b,\n};\na::c").pop(), Some((6, vec!["a".into(), "c".into()])));
}
