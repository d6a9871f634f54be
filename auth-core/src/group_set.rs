//! `GroupSet`: all groups of a person, packed.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::text::same;

/// All groups of a person, nested ones included, sorted. The unit of caching; cheap to clone.
///
/// It is one allocation, however many groups there are, and none if there is no group.
///
/// ```
/// use auth_core::GroupSet;
/// let groups: GroupSet = ["staff", "admin", "staff"].into_iter().collect();
/// assert!(groups.contains("admin") && !groups.contains("adm"));
/// assert_eq!(groups.iter().collect::<Vec<_>>(), ["admin", "staff"]);
/// ```
#[derive(Clone)]
pub struct GroupSet(Option<Arc<[u8]>>);

// The bytes: how wide a number is (2, 4 or 8 bytes, little-endian: the least that all fit in); how many names
// there are; a tag of each, which rules most of the others out at a glance; where each name ends, from the
// beginning of the first; the names, sorted, each once. Equal sets have equal bytes.

/// The parts of a packed set with numbers of `W` bytes.
struct Parts<'a, const W: usize> {
    ends: &'a [[u8; W]],
    texts: &'a [u8],
}

impl<'a, const W: usize> Parts<'a, W> {
    /// Takes packed bytes apart. What is not there is empty, which [`pack`] never leads to.
    #[inline]
    fn of(packed: &'a [u8]) -> Self {
        Self::split(packed).unwrap_or(Self { ends: &[], texts: &[] })
    }

    #[inline]
    fn split(packed: &'a [u8]) -> Option<Self> {
        let (count, rest) = packed.split_first_chunk::<W>()?;
        let (tags, rest) = rest.split_at_checked(number(count))?;
        let (ends, texts) = rest.split_at_checked(tags.len().checked_mul(W)?)?;
        Some(Self { ends: ends.as_chunks().0, texts })
    }

    #[inline]
    fn name(&self, at: usize) -> Option<&'a [u8]> {
        let end = number(self.ends.get(at)?);
        let start = match at {
            0 => 0,
            _ => number(self.ends.get(at - 1)?),
        };
        self.texts.get(start..end)
    }

    fn search(&self, group: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let Some(name) = self.name(middle) else { return false };
            match name.cmp(group) {
                Ordering::Equal => return true,
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        false
    }
}

/// How many tags are looked at one by one, which costs less than a search.
const FEW: usize = 32;

/// Looks a name up among few, whose numbers have two bytes, by their tags.
#[inline(always)]
fn is_in_few(count: usize, rest: &[u8], group: &[u8]) -> bool {
    let Some((tags, rest)) = rest.split_at_checked(count) else { return false };
    let wanted = tag(group);
    for (at, tag) in tags.iter().enumerate() {
        if *tag == wanted && is_at(at, count, rest, group) {
            return true;
        }
    }
    false
}

/// Compares the name at a place.
#[inline(never)]
fn is_at(at: usize, count: usize, rest: &[u8], group: &[u8]) -> bool {
    let Some((ends, texts)) = rest.split_at_checked(2 * count) else { return false };
    let Some(end) = ends.as_chunks::<2>().0.get(at) else { return false };
    // Names are told apart by their end: where one of this length ends that is equal.
    let end = number(end);
    let start = end.wrapping_sub(group.len());
    let starts = match at {
        0 => 0,
        _ => ends.as_chunks::<2>().0.get(at - 1).map_or(0, number),
    };
    start == starts && texts.get(start..end).is_some_and(|name| same(name, group))
}

#[cold]
fn is_in_many(width: u8, packed: &[u8], group: &[u8]) -> bool {
    match width {
        2 => Parts::<2>::of(packed).search(group),
        4 => Parts::<4>::of(packed).search(group),
        _ => Parts::<8>::of(packed).search(group),
    }
}

/// A byte of a name: of its length and its end, in which the names of one system mostly differ.
#[inline]
fn tag(name: &[u8]) -> u8 {
    let [length, ..] = name.len().to_le_bytes();
    match name.last_chunk::<2>() {
        Some([one, two]) => length ^ (one << 4) ^ two,
        None => name.first().map_or(0, |only| *only),
    }
}

#[inline]
fn number<const W: usize>(bytes: &[u8; W]) -> usize {
    let mut wide = [0; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    // What was written was a usize.
    usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX)
}

/// Packs names that are sorted, each there once.
fn pack<'a>(names: impl ExactSizeIterator<Item = &'a str> + Clone) -> Option<Arc<[u8]>> {
    let length: usize = names.clone().map(str::len).sum();
    let width = match names.len().max(length) {
        0..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    (names.len() > 0).then(|| pack_as(width, names, length))
}

/// Packs names with numbers of this width, which all fit in.
fn pack_as<'a>(width: u8, names: impl ExactSizeIterator<Item = &'a str> + Clone, length: usize) -> Arc<[u8]> {
    let wide = usize::from(width);
    let mut packed = Vec::with_capacity(1 + (1 + names.len()) * wide + names.len() + length);
    let write = |packed: &mut Vec<u8>, number: usize| {
        packed.extend(number.to_le_bytes().into_iter().take(wide));
    };
    packed.push(width);
    write(&mut packed, names.len());
    packed.extend(names.clone().map(|name| tag(name.as_bytes())));
    let mut end = 0;
    for name in names.clone() {
        end += name.len();
        write(&mut packed, end);
    }
    names.for_each(|name| packed.extend_from_slice(name.as_bytes()));
    packed.into()
}

impl GroupSet {
    /// Makes the empty set.
    #[must_use]
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Reports whether the group is in the set.
    #[must_use]
    #[inline(always)]
    pub fn contains(&self, group: &str) -> bool {
        let group = group.as_bytes();
        match self.0.as_deref() {
            Some([2, count, 0, rest @ ..]) if usize::from(*count) <= FEW => {
                is_in_few(usize::from(*count), rest, group)
            }
            Some([width, packed @ ..]) => is_in_many(*width, packed, group),
            Some([]) | None => false,
        }
    }

    /// Goes through the names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| {
            let name = match self.packed() {
                (2, packed) => Parts::<2>::of(packed).name(at),
                (4, packed) => Parts::<4>::of(packed).name(at),
                (_, packed) => Parts::<8>::of(packed).name(at),
            };
            // It was a text when it was packed.
            name.and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
        })
    }

    /// Returns how many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.packed() {
            (2, packed) => Parts::<2>::of(packed).ends.len(),
            (4, packed) => Parts::<4>::of(packed).ends.len(),
            (_, packed) => Parts::<8>::of(packed).ends.len(),
        }
    }

    /// Reports whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns how many bytes the set takes on the heap, shared by all its clones.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // The two counts of an `Arc` come before what it holds.
        self.0.as_ref().map_or(0, |packed| 2 * size_of::<usize>() + packed.len())
    }

    /// Joins two sets; allocates only if neither is empty.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            self.clone()
        } else if self.is_empty() {
            other.clone()
        } else {
            self.iter().chain(other.iter()).collect()
        }
    }

    /// The width of numbers, and the rest.
    #[inline]
    fn packed(&self) -> (u8, &[u8]) {
        let packed = self.0.as_deref().and_then(<[u8]>::split_first);
        packed.map_or((2, &[]), |(width, rest)| (*width, rest))
    }
}

impl FromIterator<Arc<str>> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        let mut names: Vec<Arc<str>> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(pack(names.iter().map(AsRef::as_ref)))
    }
}

impl<'a> FromIterator<&'a str> for GroupSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(pack(names.iter().copied()))
    }
}

impl PartialEq for GroupSet {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for GroupSet {}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Compares a set with the standard one of the same names.
    fn check(names: &[String], strangers: &[String]) {
        let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let set: GroupSet = names.iter().map(String::as_str).collect();
        assert!(set.iter().eq(expected.iter().copied()), "{set:?}");
        assert_eq!((set.len(), set.is_empty()), (expected.len(), expected.is_empty()));
        for name in names.iter().chain(strangers) {
            assert_eq!(set.contains(name), expected.contains(name.as_str()), "{name:?} in {set:?}");
        }
        let other: GroupSet = names.iter().rev().map(|name| Arc::from(name.as_str())).collect();
        assert_eq!(set, other, "neither the order nor how names are given matters");
        assert_eq!(format!("{set:?}"), format!("{expected:?}"));
        let more: GroupSet = strangers.iter().map(String::as_str).collect();
        let both: BTreeSet<&str> = names.iter().chain(strangers).map(String::as_str).collect();
        assert!(set.union(&more).iter().eq(both.iter().copied()));
        assert_eq!(set == more, set.iter().eq(more.iter()));
    }

    fn names() -> impl Strategy<Value = String> {
        // Few letters, so that names meet and begin one another; and any text at all.
        prop_oneof!["[ab]{0,3}", any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_packed_set_is_a_set(
            one in prop::collection::vec(names(), 0..12),
            other in prop::collection::vec(names(), 0..12),
        ) {
            check(&one, &other);
        }
    }

    #[test]
    fn sets_of_every_size_and_width_are_sets() {
        for count in [0, 1, 5, 1_000, 70_000] {
            let names: Vec<String> = (0..count).map(|n| format!("group{n}")).collect();
            check(&names, &["".to_owned(), "group".to_owned(), "group1x".to_owned(), "zebra".to_owned()]);
        }
        // Few names, whose ends are beyond 16 bits.
        let long: Vec<String> = ["a", "b", "c"].iter().map(|letter| letter.repeat(40_000)).collect();
        check(&long, &["a".repeat(39_999), "b".repeat(40_001)]);
        // The last that fits, and the first that does not.
        for length in [0xfffe, 0xffff, 0x1_0000] {
            check(&["a".repeat(length)], &["a".to_owned()]);
        }
        check(&["".to_owned()], &["a".to_owned()]);
        check(&["".to_owned(), "a".to_owned(), "ab".to_owned(), "\u{e9}".to_owned()], &["\u{ea}".to_owned()]);
    }

    #[test]
    fn the_widest_numbers_are_read_too() {
        let names = ["admin", "staff"];
        let set = GroupSet(Some(pack_as(8, names.into_iter(), 10)));
        assert!(set.iter().eq(names) && set.len() == 2);
        assert!(set.contains("admin") && set.contains("staff") && !set.contains("dev"));
    }

    #[test]
    fn five_groups_take_under_40_bytes_beside_their_names() {
        let names = ["admin", "dev", "ops", "staff", "wiki"];
        let set: GroupSet = names.into_iter().collect();
        let beside = set.heap_bytes() - names.map(str::len).iter().sum::<usize>();
        assert!(beside < 40, "{beside}");
        assert_eq!((GroupSet::empty().heap_bytes(), size_of::<GroupSet>()), (0, 16));
    }
}
