//! Comparing short texts: names are seldom longer than two words, for which a call costs more than the work.

/// Reports whether two texts are equal, in full.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        0..4 => one.iter().eq(other),
        4..=8 => same_ends::<4>(one, other),
        9..=16 => same_ends::<8>(one, other),
        _ => one == other,
    }
}

/// Compares texts of one length, between `N` and twice that, by their first and last `N` bytes.
#[inline]
fn same_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<N>() == other.first_chunk::<N>() && one.last_chunk::<N>() == other.last_chunk::<N>()
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
