//! The nearest right word.

/// Gives `; did you mean ...?`, or the list of what is known if nothing is near.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, candidate)) if distance <= 1 + word.chars().count() / 3 => {
            format!("; did you mean `{candidate}`?")
        }
        Some(_) => {
            let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("; known: {}", list.join(", "))
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_named_and_far_ones_listed() {
        assert_eq!(did_you_mean("pasword", &["groups", "password"]), "; did you mean `password`?");
        assert_eq!(did_you_mean("xyz", &["ttl", "lru"]), "; known: `ttl`, `lru`");
        assert_eq!(did_you_mean("xyz", &[]), "");
    }
}
