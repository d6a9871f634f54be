//! The vectors as people who log in.

use std::collections::BTreeSet;

use crate::{Expected, Gatepost, Vector};

/// Somebody with a hash from the vectors, and what they type.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Person {
    /// The login.
    pub login: String,
    /// The scheme of the hash.
    pub scheme: String,
    /// The hash.
    pub hash: String,
    /// Passwords, and whether they are right.
    pub attempts: Vec<(String, bool)>,
}

/// An attempt to log in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// Who.
    pub login: String,
    /// The scheme of their hash.
    pub scheme: String,
    /// What they type.
    pub password: String,
    /// Whether it is right.
    pub right: bool,
}

/// People who can be in one store together.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct People(
    /// Everybody.
    pub Vec<Person>,
);

impl People {
    /// Lists every attempt of everybody.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        let all = self.0.iter().flat_map(|person| {
            person.attempts.iter().map(|(password, right)| Attempt {
                login: person.login.clone(),
                scheme: person.scheme.clone(),
                password: password.clone(),
                right: *right,
            })
        });
        all.collect()
    }

    fn add(&mut self, vector: &Vector, login: String) {
        let attempt = (vector.password.clone(), vector.expected == Expected::Right);
        match self.0.iter_mut().find(|person| person.login == login) {
            Some(person) => person.attempts.push(attempt),
            None => self.0.push(Person {
                login,
                scheme: vector.scheme.clone(),
                hash: vector.hash.clone(),
                attempts: vec![attempt],
            }),
        }
    }
}

/// Spreads the vectors over stores: the hashes that are salted with a login need that login, and so a store
/// each; the first store has everybody else.
fn spread(takes: impl Fn(&Vector) -> bool) -> Vec<People> {
    let vectors = crate::all_vectors();
    let logs_in =
        |vector: &&Vector| vector.now.is_none() && vector.expected != Expected::Unreadable && takes(vector);
    let mut stores: Vec<People> = vec![People::default()];
    let mut salted: Vec<&str> = Vec::new();
    let mut known: Vec<(&str, &str)> = Vec::new();
    for vector in vectors.iter().filter(logs_in) {
        let store = match &vector.login {
            None => 0,
            Some(_) => match salted.iter().position(|hash| *hash == vector.hash) {
                Some(at) => at,
                None => {
                    salted.push(&vector.hash);
                    salted.len() - 1
                }
            },
        };
        let login = vector.login.clone().unwrap_or_else(|| {
            let of = (vector.scheme.as_str(), vector.hash.as_str());
            let number = known.iter().position(|known| *known == of).unwrap_or_else(|| {
                known.push(of);
                known.len() - 1
            });
            // A colon ends the login in HTTP Basic and in htpasswd.
            format!("{}-{number}", vector.scheme.replace([':', '_'], "-"))
        });
        while stores.len() <= store {
            stores.push(People::default());
        }
        if let Some(people) = stores.get_mut(store) {
            people.add(vector, login);
        }
    }
    stores
}

/// Where a realm is called as the hashes that are salted with it want, every scheme is accepted, and hashes
/// stay as they are.
const REALM: &str = "
[password]
accept_weak = true
upgrade = false
[server]
realm = \"acme\"
";

/// Puts every hash of the vectors into embedded SQLite stores, on the command line.
///
/// # Panics
/// If one can't be added.
#[must_use]
pub fn sqlite_people() -> Vec<(Gatepost, People)> {
    let store = |people: People| {
        let config = "[realm.acme]\npassword = [\"local\"]\ngroups = [\"local\"]\n";
        let gatepost = Gatepost::with_config(&format!("{config}{REALM}"));
        for person in &people.0 {
            gatepost.must(
                &[
                    "user",
                    "add",
                    &person.login,
                    "--hash",
                    &person.hash,
                    "--scheme",
                    &person.scheme,
                    "--realm",
                    "acme",
                ],
                b"",
            );
        }
        (gatepost, people)
    };
    spread(|_| true).into_iter().map(store).collect()
}

/// Puts every hash that names its own scheme into htpasswd files.
#[must_use]
pub fn htpasswd_people() -> Vec<(Gatepost, People)> {
    let names_itself = |vector: &Vector| {
        auth_password::identify(&vector.hash).is_some_and(|named| named.name() == vector.scheme)
    };
    let store = |people: People| {
        let config = "[source.office]\nkind = \"file\"\npath = \"FOLDER/htpasswd\"\n\
                      [realm.acme]\npassword = [\"office\"]\n";
        let gatepost = Gatepost::with_config(&format!("{config}{REALM}"));
        let lines: Vec<_> =
            people.0.iter().map(|person| format!("{}:{}\n", person.login, person.hash)).collect();
        let logins: BTreeSet<_> = people.0.iter().map(|person| &person.login).collect();
        assert_eq!(lines.len(), logins.len(), "one line a login");
        gatepost.write("htpasswd", &lines.concat());
        (gatepost, people)
    };
    spread(names_itself).into_iter().map(store).collect()
}
