//! What the README says is so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use auth_store_ldap::LdapConfig;

const README: &str = include_str!("../README.md");

#[test]
fn every_configuration_of_the_readme_can_be_used() {
    let blocks = README.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("toml\n"));
    let mut sources = 0;
    for block in blocks {
        let table: toml::Table = toml::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        for (_, source) in table["source"].as_table().unwrap() {
            let mut source = source.as_table().unwrap().clone();
            assert_eq!(source.remove("kind").unwrap().as_str(), Some("ldap"));
            // A secret, which is resolved before the store sees it.
            source.insert("bind_password".to_owned(), "secret".into());
            let config: LdapConfig =
                toml::Value::Table(source).try_into().unwrap_or_else(|error| panic!("{error}: {block}"));
            config.validate().unwrap_or_else(|error| panic!("{error}: {block}"));
            sources += 1;
        }
    }
    assert_eq!(sources, 3, "one for each preset");
}

#[test]
fn every_key_is_in_the_readme_and_no_other() {
    // The keys, as the reader of the settings lists them when it meets one that it does not know.
    let known = |text: &str| {
        let error = toml::from_str::<LdapConfig>(text).expect_err("there is no such key").to_string();
        let listed = error.split_once("expected one of ").expect("a list of keys").1.to_owned();
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let least = "url = 'ldap://localhost'\nbase = ''\n";
    let mut keys = known(&format!("{least}nonsense = 1"));
    keys.retain(|key| key != "tls" && key != "pool");
    for table in ["tls", "pool"] {
        let inner = known(&format!("{least}[{table}]\nnonsense = 1"));
        keys.extend(inner.into_iter().map(|key| format!("{table}.{key}")));
    }
    let section = README.split("\n## ").find(|section| section.starts_with("Keys\n")).expect("the keys");
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |").map(|(cell, _)| cell));
    let told: Vec<&str> =
        rows.flat_map(|cell| cell.split('`').step_by(2)).filter(|cell| !cell.contains(',')).collect();
    for key in &keys {
        assert!(told.contains(&key.as_str()), "{key} is not in the README: {told:?}");
    }
    assert!(keys.len() > 25, "{keys:?}");
    for key in told.iter().filter(|key| key.contains('.') || key.starts_with("group_")) {
        assert!(keys.iter().any(|known| known == key), "{key} is in the README, and no key");
    }
}
