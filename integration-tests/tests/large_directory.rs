//! A directory of many people in groups nested five deep, through a composed stack: everybody asked gets in and is in
//! all their groups, and what an answer takes, cold and from memory. `DIRECTORY_PEOPLE=20000` says how many there are;
//! otherwise 2,000.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a panic is how a test says what is wrong, and figures are printed"
)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use auth_core::{Ctx, Member, Reject, Verdict};
use auth_stack::Stack;
use auth_testkit::servers::{Slapd, SlapdOptions, skipped, stopwatch};

use common::compose;

/// How many are asked about, spread over all.
const SAMPLE: usize = 1_000;
/// How many people are in a team, and groups in the group above.
const TEAM: usize = 20;
const ABOVE: usize = 10;
const LEVELS: usize = 5;

fn people() -> usize {
    std::env::var("DIRECTORY_PEOPLE").map_or(2_000, |text| text.parse().unwrap())
}

/// The group of a level that somebody is in.
fn group(person: usize, level: usize) -> String {
    let number = (0..level).fold(person / TEAM, |number, _| number / ABOVE);
    // At the top there is one, whatever the number of people.
    if level + 1 == LEVELS { "all".to_owned() } else { format!("group-{level}-{number}") }
}

/// Everybody's groups: one a level, of which the entry of a person is in the first alone.
fn groups(person: usize) -> BTreeSet<String> {
    (0..LEVELS).map(|level| group(person, level)).collect()
}

fn ldif(people: usize) -> String {
    let base = Slapd::BASE;
    let mut ldif =
        format!("dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n");
    for unit in ["people", "groups"] {
        let _ = write!(ldif, "dn: ou={unit},{base}\nobjectClass: organizationalUnit\nou: {unit}\n\n");
    }
    for person in 0..people {
        let _ = write!(
            ldif,
            "dn: uid=person-{person},ou=people,{base}\nobjectClass: inetOrgPerson\nuid: person-{person}\n\
             cn: Person {person}\nsn: {person}\nuserPassword: secret of {person}\n\n"
        );
    }
    for level in 0..LEVELS {
        let below = |person: usize| match level {
            0 => format!("uid=person-{person},ou=people,{base}"),
            _ => format!("cn={},ou=groups,{base}", group(person, level - 1)),
        };
        let mut members: Vec<(String, BTreeSet<String>)> = Vec::new();
        for person in 0..people {
            let (name, member) = (group(person, level), below(person));
            match members.last_mut() {
                Some((last, members)) if *last == name => drop(members.insert(member)),
                _ => members.push((name, BTreeSet::from([member]))),
            }
        }
        for (name, members) in members {
            let _ = write!(ldif, "dn: cn={name},ou=groups,{base}\nobjectClass: groupOfNames\ncn: {name}\n");
            for member in members {
                let _ = writeln!(ldif, "member: {member}");
            }
            ldif.push('\n');
        }
    }
    ldif
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |share: usize| times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
    println!("{what}: {} answers, p50 {:?}, p99 {:?}", times.len(), at(50), at(99));
}

/// Asks about everybody in the sample; returns how long each login and each list of groups took.
async fn ask(stack: &Stack, sample: &[usize]) -> (Vec<Duration>, Vec<Duration>) {
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let (mut logins, mut lists) = (Vec::new(), Vec::new());
    for person in sample {
        let (login, secret) = (format!("person-{person}"), format!("secret of {person}"));
        let began = stopwatch();
        let verdict = realm.attempt(&ctx, &login, secret.into_bytes()).await.unwrap();
        logins.push(began.elapsed());
        let Verdict::Accepted(who) = verdict else { panic!("{login}: {verdict:?}") };
        let began = stopwatch();
        let found = realm.groups(&ctx, &who).await.unwrap();
        lists.push(began.elapsed());
        assert_eq!(found.iter().map(str::to_owned).collect::<BTreeSet<_>>(), groups(*person), "{login}");
        assert_eq!(realm.is_member(&ctx, &who, "all").await.unwrap(), Member::Yes, "{login}");
        assert_eq!(realm.is_member(&ctx, &who, "group-0-none").await.unwrap(), Member::No, "{login}");
    }
    (logins, lists)
}

fn loads(stack: &Stack) -> u64 {
    stack.caches().iter().map(|(_, report)| report.stats.loads).sum()
}

#[tokio::test]
async fn everybody_of_a_large_directory_gets_in_and_is_in_all_groups_above_theirs() {
    if skipped("slapd") {
        return;
    }
    let people = people();
    let slapd = Slapd::start(&SlapdOptions {
        // Room for all.
        database: vec!["maxsize 2147483648".to_owned()],
        ..SlapdOptions::default()
    });
    let began = stopwatch();
    slapd.add(&ldif(people));
    println!("{people} people loaded in {:?}", began.elapsed());
    let config = format!(
        "[source.staff]\nkind = 'ldap'\nurl = '{}'\nbase = 'ou=people,{1}'\nbind_dn = '{2}'\nbind_password = '{3}'\n\
         group_base = 'ou=groups,{1}'\ngroup_strategy = 'recursive'\n\
         [realm.default]\npassword = ['staff']\ngroups = ['staff']\n",
        slapd.url(),
        Slapd::BASE,
        Slapd::ROOT,
        Slapd::PASSWORD
    );
    let stack = compose(&config, "ttl").await.unwrap();
    let step = (people / SAMPLE).max(1);
    let sample: Vec<usize> = (0..people).step_by(step).chain([people - 1]).collect();
    let mut loaded = Vec::new();
    for when in ["cold", "cached"] {
        let (logins, lists) = ask(&stack, &sample).await;
        show(&format!("{when} login"), logins);
        show(&format!("{when} list of groups"), lists);
        loaded.push(loads(&stack));
    }
    assert_eq!(loaded.first(), loaded.last(), "the second time all is remembered");

    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    for (login, reject) in
        [("person-0", Reject::BadPassword), (&format!("person-{people}"), Reject::UnknownUser)]
    {
        let verdict = realm.attempt(&ctx, login, b"secret of 1".to_vec()).await.unwrap();
        assert_eq!(verdict, Verdict::Rejected(reject), "{login}");
    }
}
