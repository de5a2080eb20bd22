//! What a YAML reader finds wrong, in plain words and at the line where the mistake is.
//!
//! The reader stops where it cannot go on, which is often lines after the mistake, and speaks of tokens.

use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::stage_keys;
use crate::error::Error;
use crate::suggest::nearest;
use crate::text::visible;

/// What is wrong in a text, and where, from 1.
#[derive(Debug)]
pub(super) struct Fault {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Fault {
    fn new((line, column): (usize, usize), message: impl Into<String>) -> Fault {
        Fault { line, column, message: message.into() }
    }

    /// As the error of the file at `path`.
    pub fn of(self, path: &Path) -> Error {
        let Fault { line, column, message } = self;
        Error::Experiment { path: path.to_owned(), line: Some(line), column: Some(column), message }
    }
}

/// The text of a file, without a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Fault> {
    let is_zero =
        |offset: usize| bytes.len() > 1 && bytes.iter().skip(offset).step_by(2).take(32).all(|&byte| byte == 0);
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || is_zero(0) != is_zero(1);
    if is_utf16 {
        return Err(Fault::new((1, 1), "is not text in UTF-8 but in UTF-16: save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let byte = bytes[error.valid_up_to()];
        Fault::new(
            end_of(&before),
            format!("is not text in UTF-8: the byte {byte:#04x} is none of it; save it as UTF-8"),
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// The place right after `text`.
fn end_of(text: &str) -> (usize, usize) {
    let last = text.rsplit('\n').next().unwrap_or("");
    (text.matches('\n').count() + 1, last.chars().count() + 1)
}

/// Reads a text that holds one `T`.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    if text.lines().all(|line| code(line).trim().is_empty()) {
        return Err(Fault::new((1, 1), "is empty: an experiment has `name`, `dataset` and `stages` at least"));
    }
    serde_yaml::from_str(text).map_err(|error| match serde_yaml::from_str::<IgnoredAny>(text) {
        // Where the text is no YAML, what its first half seems to say is not the mistake.
        Err(syntax) => bad_syntax(text, &syntax),
        Ok(_) => bad_value(text, &error),
    })
}

/// A line without its comment, where `#` is in no string.
fn code(line: &str) -> &str {
    let begins = |at: usize| line[..at].ends_with([' ', '\t']) || at == 0;
    line.match_indices('#').find(|(at, _)| begins(*at)).map_or(line, |(at, _)| &line[..at])
}

/// "problem at line L column C, while doing this at line L column C".
fn parts(message: &str) -> [(&str, Option<(usize, usize)>); 2] {
    let place = |text| {
        let (what, place) = match str::rsplit_once(text, " at line ") {
            Some((what, place)) => (what, place.split_once(" column ")),
            None => (text, None),
        };
        (what, place.and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?))))
    };
    let (problem, context) = message.split_once(", while ").unwrap_or((message, ""));
    [place(problem), place(context)]
}

/// The error of a text that is no YAML.
fn bad_syntax(text: &str, error: &serde_yaml::Error) -> Fault {
    let message = visible(&error.to_string()).into_owned();
    let [(problem, place), (_, context)] = parts(&message);
    // The reader leaves out line 1, column 1.
    let (place, context) = (place.unwrap_or((1, 1)), context.unwrap_or((1, 1)));
    let lines: Vec<&str> = text.lines().collect();
    let line = |number: usize| lines.get(number - 1).copied().unwrap_or("");
    let at = |(number, column): (usize, usize)| line(number).chars().nth(column - 1);
    // `key:value` begins a text of several lines, which ends at the next `: `.
    let unspaced = |last: usize| {
        let first = last.saturating_sub(1).max(1);
        (first..=last).find_map(|number| Some((number, missing_space(line(number))?)))
    };
    if let Some(fault) = odd_space(text) {
        return fault;
    }
    if let Some((at, character)) = find(text, |c| c.is_control() && !matches!(c, '\n' | '\t' | '\u{85}')) {
        return Fault::new(at, format!("holds the control character U+{:04X}: delete it", u32::from(character)));
    }
    let is_closing = matches!(at(place), Some(']' | '}'));
    match problem {
        _ if problem.contains("more than one document") => Fault::new(
            (second_document(&lines), 1),
            "`---` begins a second document: an experiment is one, the rest must go",
        ),
        _ if at(place) == Some('\t') => Fault::new(place, "the line is indented with a tab: YAML takes spaces only"),
        "found character that cannot start any token" => {
            let character = at(place).map_or(String::new(), |c| format!(" with {c:?}"));
            Fault::new(place, format!("a value cannot begin{character}: put it in quotes"))
        }
        "found unexpected end of stream" | "found unexpected document indicator" => {
            let quote = at(context).map_or(String::new(), |c| format!(" {c}"));
            Fault::new(context, format!("the quote{quote} is not closed"))
        }
        "unknown anchor" | "did not find expected alphabetic or numeric character" => {
            Fault::new(place, "`*` and `&` begin an alias and an anchor, and this is none: put the value in quotes")
        }
        "mapping values are not allowed in this context" | "could not find expected ':'" => {
            let key = if problem.starts_with("could") { context } else { place };
            match unspaced(key.0) {
                Some((number, message)) => {
                    let indent = line(number).len() - line(number).trim_start().len();
                    Fault::new((number, indent + 1), message)
                }
                None if problem.starts_with("could") => Fault::new(key, "a key without `: ` and a value"),
                None => Fault::new(
                    place,
                    "a `:` is not expected here: indent the line as its neighbours are, or put a value that holds `: ` in \
                     quotes",
                ),
            }
        }
        "did not find expected ',' or '}'"
        | "did not find expected ',' or ']'"
        | "did not find expected node content" => match open_bracket(&lines) {
            Some((at, bracket)) => {
                // In `{background: #ff0000}` the bracket that closes is in a comment.
                let hidden =
                    lines[at.0 - 1].match_indices(" #").any(|(hash, _)| lines[at.0 - 1][hash..].contains(['}', ']']));
                let comment = if hidden { ": ` #` begins a comment, put a value with it in quotes" } else { "" };
                Fault::new(at, format!("the bracket {bracket} is not closed{comment}"))
            }
            None if is_closing => Fault::new(place, "this bracket closes nothing"),
            None => Fault::new(place, "a comma is missing before this, or the text before it must be in quotes"),
        },
        _ if is_closing => Fault::new(place, "this bracket closes nothing"),
        "did not find expected '-' indicator" => {
            Fault::new(place, "this is no entry of the list above: begin it with `- `, or check its indentation")
        }
        _ => {
            Fault::new(place, format!("this is not expected here ({problem}): check indentation, quotes and brackets"))
        }
    }
}

/// The error of YAML that is no `T`.
fn bad_value(text: &str, error: &serde_yaml::Error) -> Fault {
    let place = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    let message = visible(&error.to_string()).into_owned();
    let message = message.rsplit_once(" at line ").map_or(&*message, |(head, _)| head);
    if let Some(fault) = odd_space(text) {
        return fault;
    }
    if let Some((_, key)) = message.split_once("duplicate field `") {
        let key = key.trim_end_matches('`');
        let at = second_key(text, place, key).unwrap_or(place);
        return Fault::new(at, message.replace("duplicate field", "duplicate key"));
    }
    let (first, _) = message.split_once(", expected").unwrap_or((message, ""));
    let said = first.split(['`', '"']).nth(1).unwrap_or("");
    let hint = match missing_space(said) {
        Some(hint) if !message.contains("invalid value") => format!("; {hint}"),
        _ if message.ends_with("expected a sequence") => "; each of its entries begins with `- `".to_owned(),
        _ => suggestion(message),
    };
    Fault::new(place, in_words(message) + &hint)
}

/// What a reader says is wrong with a value, in words that users of YAML know.
pub(super) fn in_words(message: &str) -> String {
    let message = message.replace("a sequence", "a list").replace("type: sequence", "type: list");
    let mut message = message.replace("field identifier", "a key").replace("expected string or map", "expected a word");
    // A method's own keys are read as what they are in Rust.
    for (rust, word) in
        [("usize", "a whole number"), ("f64", "a number"), ("f32", "a number"), ("u32", "a whole number")]
    {
        message = message.replace(&format!("expected {rust}"), &format!("expected {word}"));
    }
    shortened(&message.replace("invalid type: null", "no value"))
}

/// What each part of an experiment has keys for.
fn homes() -> [(&'static str, Vec<&'static str>); 4] {
    // Names and labels are not a stage's alone.
    let of_stages = stage_keys().into_iter().filter(|key| !["name", "labels"].contains(key));
    [
        ("`dataset`", vec!["train", "test", "classes", "sha256", "background", "side"]),
        ("`labels`", vec!["count", "choose", "validation"]),
        ("`network`", vec!["backbone", "channels", "hidden", "projector", "predictor", "dropout"]),
        ("a stage", of_stages.filter(|key| *key != "predictor").collect()),
    ]
}

/// For an unknown key or value, the known one that is meant, or where the key belongs.
pub(super) fn suggestion(message: &str) -> String {
    let is_key = message.contains("unknown field `");
    if !is_key
        && !["unknown variant `", "unknown method `", "unknown data set `"].iter().any(|kind| message.contains(kind))
    {
        return String::new();
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let word = words.next().unwrap_or("");
    let known: Vec<&str> = words.collect();
    let home = || homes().into_iter().find_map(|(home, keys)| Some((home, nearest(word, keys)?)));
    match (nearest(word, known), home()) {
        (Some(known), _) => format!("; did you mean `{known}`?"),
        (None, Some((home, key))) if is_key => format!("; `{key}` belongs to {home}"),
        _ => String::new(),
    }
}

/// A space of another kind: to YAML a letter, to the eye a space.
fn odd_space(text: &str) -> Option<Fault> {
    let (at, space) = find(text, |c| c.is_whitespace() && !c.is_ascii())?;
    Some(Fault::new(at, format!("U+{:04X} is no ordinary space: type one instead", u32::from(space))))
}

/// What to say of a line, or a text, that begins with `key:value` or `-key: value`.
fn missing_space(line: &str) -> Option<String> {
    let line = line.trim_start();
    if line.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())) {
        return Some("a space is missing after `-`".to_owned());
    }
    let line = line.trim_start_matches("- ").trim_start();
    let (key, rest) = line.split_once(':')?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    (is_key && !rest.is_empty() && !rest.starts_with(char::is_whitespace))
        .then(|| format!("a space is missing after `{key}:`"))
}

/// The first such character outside comments, and its place.
fn find(text: &str, wanted: impl Fn(char) -> bool) -> Option<((usize, usize), char)> {
    text.split('\n').enumerate().find_map(|(number, line)| {
        let (column, character) = code(line).chars().enumerate().find(|(_, c)| wanted(*c))?;
        Some(((number + 1, column + 1), character))
    })
}

/// The line of the marker that ends the first document that says something.
fn second_document(lines: &[&str]) -> usize {
    let mut says = false;
    for (number, line) in lines.iter().enumerate() {
        let is_marker = *line == "---" || line.starts_with("--- ");
        if is_marker && says {
            return number + 1;
        }
        says |= is_marker || !(line.starts_with('%') || code(line).trim().is_empty());
    }
    lines.len()
}

/// The rest of the text from a place on, character by character with its place, without comments and what is in quotes:
/// of a quoted text, the first quote stands for it. A quote inside a word is an apostrophe.
fn bare<'a>(lines: &'a [&str], from: (usize, usize)) -> impl Iterator<Item = ((usize, usize), char)> + 'a {
    let mut quote = None;
    let numbered = lines.iter().enumerate().skip(from.0 - 1);
    let characters = numbered.flat_map(move |(number, line)| {
        let skipped = if number + 1 == from.0 { from.1 - 1 } else { 0 };
        code(line).chars().chain(['\n']).enumerate().skip(skipped).map(move |(column, c)| ((number + 1, column + 1), c))
    });
    let mut before = ' ';
    characters.filter(move |&(_, c)| {
        let is_outside = quote.is_none();
        quote = match quote {
            Some(open) => Some(open).filter(|open| c != *open),
            None => Some(c).filter(|c| matches!(c, '"' | '\'') && !before.is_alphanumeric()),
        };
        before = c;
        is_outside
    })
}

/// The first bracket that is not closed, or is by one of another kind, and its place.
fn open_bracket(lines: &[&str]) -> Option<((usize, usize), char)> {
    let mut open: Vec<((usize, usize), char)> = vec![];
    for (at, c) in bare(lines, (1, 1)) {
        match (c, open.last()) {
            ('[' | '{', _) => open.push((at, c)),
            (']', Some((_, '['))) | ('}', Some((_, '{'))) => drop(open.pop()),
            (']' | '}', Some(_)) => return open.pop(),
            _ => {}
        }
    }
    open.first().copied()
}

/// The place of the second `key` in the map that begins at `map`.
fn second_key(text: &str, map: (usize, usize), key: &str) -> Option<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_key = |(line, column): (usize, usize)| {
        let rest: String = lines[line - 1].chars().skip(column - 1).collect();
        let rest = rest.trim_start_matches(['"', '\'']);
        let rest = rest.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
        rest.is_some_and(|rest| rest.starts_with(':'))
    };
    let is_flow = lines.get(map.0 - 1)?.chars().nth(map.1 - 1) == Some('{');
    let mut depth = 0;
    let mut before = ' ';
    let mut keys = bare(&lines, map).filter(|&(at, c)| {
        // In braces a key comes after a brace or a comma; else it begins a line, or an entry of a list, at the column
        // of the first.
        let first = if is_flow { depth == 1 && matches!(before, '{' | ',') } else { depth == 0 && at.1 == map.1 };
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
        first && is_key(at)
    });
    keys.nth(1).map(|(at, _)| at)
}

/// What is quoted in a message, cut where it is long.
fn shortened(message: &str) -> String {
    const MOST: usize = 60;
    let Some(start) = message.find(['`', '"']) else { return message.to_owned() };
    let (head, rest) = message.split_at(start + 1);
    let Some(end) = rest.find(&head[start..]) else { return message.to_owned() };
    match rest[..end].char_indices().nth(MOST) {
        Some((cut, _)) if cut < end => format!("{head}{}…{}", &rest[..cut], &rest[end..]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
