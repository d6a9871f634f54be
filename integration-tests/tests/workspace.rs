//! The rules of ARCHITECTURE.md about who may use whom, and of CONTRIBUTING.md about every member.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The page whose code map is the rule.
const PAGE: &str = include_str!("../../ARCHITECTURE.md");

/// The one crate that any other may use in its tests.
const TESTKIT: &str = "auth-testkit";

/// Who uses whom: a crate, one that it uses, and what for.
type Uses = (String, String, DependencyKind);

/// Whom each crate may use.
type Rules = BTreeMap<String, BTreeSet<String>>;

/// Reads the code map: rows of "crate, what lives there, uses".
fn rules(page: &str) -> Rules {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells.as_slice() else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), (*uses).to_owned()))
    });
    let rows: Vec<_> = rows.collect();
    let names =
        |rows: &[(String, String)]| rows.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
    let full = |name: &str| {
        let name = name.trim().trim_matches('`');
        if name.starts_with("auth-") { name.to_owned() } else { format!("auth-{name}") }
    };
    let allowed = rows.iter().enumerate().map(|(at, (name, uses))| {
        let above = names(rows.get(..at).unwrap_or_default());
        let mut may = match uses.split_once(" but ").map_or(uses.as_str(), |(most, _)| most) {
            "nothing" => BTreeSet::new(),
            "all" => names(&rows),
            "all above" => above,
            listed => listed.split(',').map(full).collect(),
        };
        for but in uses.split_once(" but ").map(|(_, but)| but).into_iter().flat_map(|but| but.split(',')) {
            may.remove(&full(but));
        }
        may.remove(name);
        (name.clone(), may)
    });
    allowed.collect()
}

/// Lists what breaks the rules, in words.
fn violations(rules: &Rules, members: &BTreeSet<String>, uses: &[Uses]) -> Vec<String> {
    let unlisted = members.iter().filter(|name| !rules.contains_key(*name));
    let gone = rules.keys().filter(|name| !members.contains(*name));
    let mut found: Vec<_> = unlisted.map(|name| format!("{name} has no row")).collect();
    found.extend(gone.map(|name| format!("{name} has a row and is no member")));
    for (name, used, kind) in uses {
        let by_rule = rules.get(name).is_some_and(|may| may.contains(used));
        // Tests may use the testkit, and their own crate with features that it has not by default.
        let in_tests = *kind == DependencyKind::Development && (used == TESTKIT || used == name);
        if !by_rule && !in_tests {
            found.push(format!("{name} may not use {used} ({kind})"));
        }
    }
    found
}

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap()
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

fn names(packages: &[&Package]) -> BTreeSet<String> {
    packages.iter().map(|package| package.name.to_string()).collect()
}

fn uses(packages: &[&Package]) -> Vec<Uses> {
    let ours = names(packages);
    let of = |package: &&Package| {
        let name = package.name.to_string();
        let own = package.dependencies.iter().filter(|used| ours.contains(&used.name));
        own.map(|used| (name.clone(), used.name.clone(), used.kind)).collect::<Vec<_>>()
    };
    packages.iter().flat_map(of).collect()
}

#[test]
fn each_crate_uses_only_what_the_code_map_allows() {
    let metadata = metadata();
    let packages = members(&metadata);
    let uses = uses(&packages);
    assert!(uses.len() > packages.len(), "the members use each other");
    assert_eq!(violations(&rules(PAGE), &names(&packages), &uses), Vec::<String>::new());
}

#[test]
fn the_code_map_keeps_the_core_alone_and_the_stores_apart() {
    let rules = rules(PAGE);
    let core = BTreeSet::from(["auth-core".to_owned()]);
    assert_eq!(rules.get("auth-core"), Some(&BTreeSet::new()));
    let beside = |name: &&String| {
        name.starts_with("auth-store-")
            || ["auth-password", "auth-token", "auth-cache", TESTKIT].contains(&name.as_str())
    };
    let checked: Vec<_> = rules.keys().filter(beside).collect();
    assert!(checked.len() >= 5, "{checked:?}");
    for name in checked {
        assert_eq!(rules.get(name), Some(&core), "{name}");
    }
    let http = ["auth-core", "auth-token"].map(str::to_owned).into();
    assert!(rules.get("auth-http").is_some_and(|may| may.is_subset(&http)));
    assert!(rules.get("auth-stack").is_some_and(|may| !may.contains("auth-http")));
}

/// A made-up map.
const MADE_UP: &str = "
| crate | what lives there | uses, of ours |
| --- | --- | --- |
| `auth-core` | the traits | nothing |
| `auth-cache` | `Cached<…>` | core |
| `auth-store-a` | a store | core |
| `auth-http` | front ends | core, cache |
| `auth-stack` | everything | all above but auth-http |
| `auth-server` | the program | all above |
| `auth-testkit` | tests | core |
| `integration-tests` | tests | all |

| the source says | default | settable |
| unknown user | go on | |
";

#[track_caller]
fn check(user: &str, used: &str, kind: DependencyKind, allowed: bool) {
    let rules = rules(MADE_UP);
    let members = rules.keys().cloned().collect();
    let found = violations(&rules, &members, &[(user.to_owned(), used.to_owned(), kind)]);
    assert_eq!(found.is_empty(), allowed, "{found:?}");
}

#[test]
fn the_code_map_is_read_as_it_is_meant() {
    use DependencyKind::{Build, Development, Normal};
    assert_eq!(rules(MADE_UP).len(), 8);
    check("auth-cache", "auth-core", Normal, true);
    check("auth-core", "auth-cache", Normal, false);
    check("auth-cache", "auth-store-a", Normal, false);
    check("auth-store-a", "auth-cache", Normal, false);
    check("auth-store-a", "auth-core", Build, true);
    check("auth-http", "auth-cache", Normal, true);
    check("auth-http", "auth-store-a", Normal, false);
    check("auth-stack", "auth-store-a", Normal, true);
    check("auth-stack", "auth-http", Normal, false);
    check("auth-server", "auth-http", Normal, true);
    check("auth-server", "auth-testkit", Normal, false);
    check("integration-tests", "auth-testkit", Normal, true);
    check("auth-core", "auth-testkit", Development, true);
    check("auth-core", "auth-testkit", Normal, false);
    check("auth-cache", "auth-cache", Development, true);
    check("auth-core", "auth-testkit", Build, false);
    check("auth-store-a", "auth-cache", Development, false);
    check("auth-new", "auth-core", Normal, false);
}

#[test]
fn a_member_without_a_row_and_a_row_without_a_member_are_found() {
    let rules = rules(MADE_UP);
    let mut members: BTreeSet<_> = rules.keys().cloned().collect();
    members.remove("auth-cache");
    members.insert("auth-new".to_owned());
    let found = violations(&rules, &members, &[]);
    assert_eq!(found, ["auth-new has no row", "auth-cache has a row and is no member"]);
}

/// Lists what a member's manifest does not take from the workspace.
fn own_choices(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    let inherits = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    if !manifest.get("lints").is_some_and(inherits) {
        found.push("lints".to_owned());
    }
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let places = targets.into_iter().flat_map(|targets| targets.values().filter_map(toml::Value::as_table));
    for place in std::iter::once(manifest).chain(places) {
        for table in tables.iter().filter_map(|name| place.get(*name)?.as_table()) {
            let own = table.iter().filter(|(_, value)| !inherits(value));
            found.extend(own.map(|(name, _)| name.clone()));
        }
    }
    found
}

#[test]
fn each_member_takes_lints_and_versions_from_the_workspace() {
    for package in members(&metadata()) {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(own_choices(&manifest), Vec::<String>::new(), "{}", package.name);
    }
}

#[test]
fn a_manifest_that_chooses_for_itself_is_found() {
    let check = |text: &str, found: &[&str]| assert_eq!(own_choices(&text.parse().unwrap()), found, "{text}");
    check(
        "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }",
        &[],
    );
    check("", &["lints"]);
    check("[lints.rust]\nunsafe_code = 'allow'", &["lints"]);
    let lints = "[lints]\nworkspace = true\n";
    check(&format!("{lints}[dependencies]\na = '1'\nb = {{ path = '../b' }}"), &["a", "b"]);
    check(&format!("{lints}[dev-dependencies]\na = {{ workspace = false, version = '1' }}"), &["a"]);
    check(&format!("{lints}[target.'cfg(unix)'.dependencies]\nlibc = '0.2'"), &["libc"]);
    check(&format!("{lints}[build-dependencies]\ncc = '1'"), &["cc"]);
}

/// Reports whether a crate's root forbids unsafe code, in a line of its own and for the whole crate.
fn forbids_unsafe(root: &str) -> bool {
    root.lines().any(|line| line.trim_end() == "#![forbid(unsafe_code)]")
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let metadata = metadata();
    let roots = |package: &&Package| {
        let own = package.targets.iter().filter(|target| {
            target.is_lib() || target.is_bin() || target.is_custom_build() || target.is_proc_macro()
        });
        own.map(|target| target.src_path.clone()).collect::<Vec<_>>()
    };
    let packages = members(&metadata);
    let all: Vec<_> = packages.iter().flat_map(roots).collect();
    assert!(all.len() >= packages.len(), "each member has a root");
    for root in all {
        assert!(forbids_unsafe(&std::fs::read_to_string(&root).unwrap()), "{root}");
    }
    assert!(!forbids_unsafe("// #![forbid(unsafe_code)]\n#![deny(unsafe_code)]"));
}
