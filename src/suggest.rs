//! The right word beside a misspelt one.

/// The known word that `word` is most likely meant to be, if any is close: a third of its letters wrong at most
/// (Damerau and Levenshtein's distance).
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(word, other);
    let most = (word.chars().count() + 1) / 3;
    known.into_iter().min_by_key(distance).filter(|other| distance(other) <= most)
}

/// "; did you mean `epochs`?", or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["epochs", "batch", "lr", "weight_decay"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("bacth", known), Some("batch"));
        assert_eq!(nearest("wieght-decay", known), Some("weight_decay"));
        assert_eq!(nearest("dropout", known), None);
        assert_eq!(nearest("rl", known), Some("lr"));
        assert_eq!(nearest("", []), None);
        assert_eq!(did_you_mean("epoch", known), "; did you mean `epochs`?");
        assert_eq!(did_you_mean("dropout", known), "");
    }
}
