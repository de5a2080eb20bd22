//! Pieces of messages: counts in the singular and the plural, names that a shell takes as they are.

use std::path::Path;

/// "1 stage", "2 stages", "0 classes".
pub fn count(n: usize, what: &str) -> String {
    let ending = match n {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{n} {what}{ending}")
}

/// The text as one word of a shell's command.
pub fn word(text: &str) -> String {
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
    fn a_folder_is_one_word_for_a_shell() {
        assert_eq!(word("runs/quick-2_b.c"), "runs/quick-2_b.c");
        assert_eq!(word("my runs/it's $HOME"), r"'my runs/it'\''s $HOME'");
        assert_eq!(word(""), "''");
        assert_eq!(path_word("-rf".as_ref()), "./-rf");
        assert_eq!(path_word("a b/c".as_ref()), "'a b/c'");
    }
}
