//! Comparing short texts: names are seldom longer than two words, for which a call costs more than the work.

/// Reports whether two texts are equal, in full.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && halves::<8>(one, other).or_else(|| halves::<4>(one, other)).unwrap_or_else(|| one == other)
}

/// Compares texts of one length by their first and last `N` bytes, which are all there are.
#[inline]
fn halves<const N: usize>(one: &[u8], other: &[u8]) -> Option<bool> {
    if one.len() > 2 * N {
        return None;
    }
    let first = one.first_chunk::<N>()? == other.first_chunk::<N>()?;
    Some(first && one.last_chunk::<N>()? == other.last_chunk::<N>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_one_byte_or_in_length_differ() {
        for length in 0..40_usize {
            let text = vec![b'x'; length];
            assert!(same(&text, &text.clone()), "{length}");
            assert!(!same(&text, &vec![b'x'; length + 1]), "{length}");
            for at in 0..length {
                let mut other = text.clone();
                other[at] = b'y';
                assert!(!same(&text, &other) && !same(&other, &text), "{length} {at}");
            }
        }
    }
}
