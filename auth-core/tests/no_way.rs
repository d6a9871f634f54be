//! There is no way from an error, a bool or nothing at all to an answer.

use std::marker::PhantomData;

use auth_core::{Access, Account, Error, GroupSet, Lookup, Member, Principal, Reject, Verdict};

/// Reports, by which of two constants the compiler finds first, whether `A: Into<B>`.
struct Way<A, B>(PhantomData<(A, B)>);

trait NoWay {
    const THERE_IS: bool = false;
}

impl<A, B> NoWay for Way<A, B> {}

impl<A: Into<B>, B> Way<A, B> {
    const THERE_IS: bool = true;
}

/// Likewise, whether a type has a default, to which an error could be turned by `unwrap_or_default`.
struct HasDefault<A>(PhantomData<A>);

trait NoDefault {
    const THERE_IS: bool = false;
}

impl<A> NoDefault for HasDefault<A> {}

impl<A: Default> HasDefault<A> {
    const THERE_IS: bool = true;
}

/// Lists every way from the first types to the second, except from a type to itself.
macro_rules! ways {
    ([$($from:ty),*] => $to:tt) => {
        [$(ways!(@ $from => $to)),*].concat()
    };
    (@ $from:ty => [$($to:ty),*]) => {
        [$((stringify!($from => $to), Way::<$from, $to>::THERE_IS)),*]
            .into_iter()
            .filter_map(|(name, there_is)| there_is.then_some(name))
            .collect::<Vec<_>>()
    };
}

macro_rules! defaults {
    ($($of:ty),*) => {
        [$((stringify!($of), HasDefault::<$of>::THERE_IS)),*]
            .into_iter()
            .filter_map(|(name, there_is)| there_is.then_some(name))
            .collect::<Vec<_>>()
    };
}

type Results = (auth_core::Result<Verdict>, auth_core::Result<Access>, auth_core::Result<Member>);
const NONE: Vec<&str> = Vec::new();

#[test]
fn no_error_becomes_an_answer() {
    let ways = ways!([Error, &Error, auth_core::ErrorKind, Results, auth_core::Result<Verdict>] =>
        [Verdict, Reject, Access, Member, Lookup<Account>, Lookup<GroupSet>, Lookup<Principal>, GroupSet, bool]);
    assert_eq!(ways, NONE);
}

#[test]
fn nothing_else_becomes_an_answer_either() {
    let ways = ways!([bool, (), Option<bool>, Option<Principal>, Option<Access>] =>
        [Verdict, Access, Member, Reject, Lookup<Principal>]);
    assert_eq!(ways, NONE);
}

#[test]
fn no_answer_becomes_a_bool() {
    assert_eq!(ways!([Verdict, Access, Member, Reject, Lookup<Principal>] => [bool]), NONE);
}

#[test]
fn no_answer_has_a_default() {
    let defaults = defaults!(Verdict, Access, Member, Reject, Lookup<Account>, GroupSet, Principal);
    assert_eq!(defaults, NONE);
}

#[test]
fn a_way_is_seen_where_there_is_one() {
    assert_eq!(ways!([u8, u64] => [u32, i8]), ["u8 => u32"]);
    assert_eq!(defaults!(u8, Error, Option<Error>), ["u8", "Option<Error>"]);
}
