//! Pieces of messages: counts in the singular and the plural, names that a shell takes as they are, and text from files,
//! which must not pass for the program's own.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

/// The program's name, once its command line has said so.
pub(crate) static PROGRAM: OnceLock<String> = OnceLock::new();

/// The program that a command to type begins with: a program of one's own, or `fewlabel`.
pub(crate) fn program() -> &'static str {
    PROGRAM.get().map_or("fewlabel", String::as_str)
}

/// `text` on one line, in the order in which it is written: line breaks and other control characters, the marks that turn
/// the direction of writing, and characters that nobody sees become escapes such as `\n` and `\u{202e}`. Whatever comes
/// from a file, a file's name included, is printed through this: a name must not end a line, move the cursor or hide.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    let shown = |c: char| match is_hidden(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect::<String>().into()
}

/// The value as JSON on one line, with escapes for what [`visible`] escapes.
pub fn json(value: &serde_json::Value) -> String {
    let escaped =
        |c: char| -> String { c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect() };
    let shown = |c: char| if is_hidden(c) { escaped(c) } else { c.to_string() };
    value.to_string().chars().map(shown).collect()
}

/// Control characters, line and paragraph separators, marks of direction (Unicode Standard Annex #9, table 4, and the
/// implicit ones), and characters without width but for the joiners that scripts and emoji need.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

/// The path as messages show it: [`visible`].
pub fn shown(path: &Path) -> String {
    visible(&path.display().to_string()).into_owned()
}

/// The text on a line of Markdown: [`visible`], and nothing in it makes a link, an image, code, HTML, emphasis by stars or
/// another cell of a table.
pub fn markdown(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let (before, after) = (&text[..at], &text[at..]);
        // Readers make links of bare addresses too.
        let is_address = after.starts_with(":/") || (c == '.' && before.to_ascii_lowercase().ends_with("www"));
        if r"\`*[]<>|".contains(c) || is_address {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// "1 stage", "2 stages", "0 classes".
pub fn count(n: usize, what: &str) -> String {
    let ending = match n {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{n} {what}{ending}")
}

/// The text as one word of a shell's command; with what [`visible`] escapes it is quoted as bash, zsh and ksh read it.
pub fn word(text: &str) -> String {
    if text.contains(is_hidden) {
        let quoted = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if is_hidden(c) => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
            c => c.to_string(),
        };
        return format!("$'{}'", text.chars().map(quoted).collect::<String>());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_plain = !text.is_empty() && text.chars().all(plain);
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The path as one word of a shell's command, where it cannot be taken for an option.
pub fn path_word(path: &Path) -> String {
    let text = path.display().to_string();
    word(&if text.starts_with('-') { format!("./{text}") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_nothing_else() {
        let of = |n| [count(n, "stage"), count(n, "class")];
        assert_eq!(
            [of(0), of(1), of(2)],
            [["0 stages", "0 classes"], ["1 stage", "1 class"], ["2 stages", "2 classes"]]
        );
    }

    #[test]
    fn nothing_in_a_text_ends_the_line_hides_or_turns_it() {
        assert_eq!(visible("x\nbit-identical: 6 stages"), r"x\nbit-identical: 6 stages");
        assert_eq!(visible("\r\t\u{1b}[2K\u{7f}\u{85}\u{2028}"), r"\r\t\u{1b}[2K\u{7f}\u{85}\u{2028}");
        assert_eq!(visible("a\u{202e}b\u{2066}c\u{200f}d\u{200b}e"), r"a\u{202e}b\u{2066}c\u{200f}d\u{200b}e");
        for plain in ["猫 and 🏴\u{200d}☠\u{fe0f}", "می\u{200c}خواهم", "naïve 1 × 2\\n", ""] {
            assert!(matches!(visible(plain), Cow::Borrowed(same) if same == plain));
        }
        assert_eq!(shown("a\nb/c".as_ref()), r"a\nb/c");
        let value = serde_json::json!({"a\n\u{202e}": "\u{7f}\u{85}猫\u{feff}"});
        assert_eq!(json(&value), r#"{"a\n\u202e":"\u007f\u0085猫\ufeff"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&value)).unwrap(), value);
    }

    #[test]
    fn a_name_in_markdown_stays_text() {
        assert_eq!(markdown("[a](b) ![c](d) <e> `f` g|h *i*"), r"\[a\](b) !\[c\](d) \<e\> \`f\` g\|h \*i\*");
        assert_eq!(markdown("https://a.b/c WWW.d.e c:/f"), r"https\://a.b/c WWW\.d.e c\:/f");
        assert_eq!(markdown("a\\|\n\u{202e}"), r"a\\\|\\n\\u{202e}");
        let plain = "largest class (müller's 猫): 50.0 % of the test images, ± 0.4 %";
        assert_eq!(markdown(plain), plain);
    }

    #[test]
    fn a_folder_is_one_word_for_a_shell() {
        assert_eq!(word("runs/quick-2_b.c"), "runs/quick-2_b.c");
        assert_eq!(word("my runs/it's $HOME"), r"'my runs/it'\''s $HOME'");
        assert_eq!(word(""), "''");
        assert_eq!(path_word("-rf".as_ref()), "./-rf");
        assert_eq!(path_word("a b/c".as_ref()), "'a b/c'");
        // bash 5.2 reads it back: printf '%s' $'…'.
        assert_eq!(word("a\nb'\\ \u{202e}"), r"$'a\x0ab\'\\ \xe2\x80\xae'");
    }
}
