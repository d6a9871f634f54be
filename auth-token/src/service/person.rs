//! Who somebody was at the login, as it is kept with the session: source and id.

use auth_core::{Family, Fingerprint, Id, Login, Principal, SourceInfo};
use aws_lc_rs::digest::{SHA256, digest};

/// Parts the source from the id; no name of a source has it.
const BETWEEN: char = '\u{1f}';

/// Writes source and id; a longer one than is kept as its hash.
pub(super) fn text(who: &Principal) -> String {
    let id = match who.id() {
        Id::Int(number) => format!("i{number}"),
        Id::Text(text) => format!("t{text}"),
        Id::Uuid(bits) => format!("u{:032x}", u128::from_be_bytes(*bits)),
        other => format!("o{other}"),
    };
    let text = format!("{}{BETWEEN}{id}", who.source());
    if text.len() <= Family::MAX_PERSON_BYTES {
        return text;
    }
    let hash = digest(&SHA256, text.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("#{hex}")
}

/// Reads who that was; nothing if only a hash is kept.
pub(super) fn principal(login: &Login, text: &str) -> Option<Principal> {
    let (source, id) = text.split_once(BETWEEN)?;
    let id = match id.split_at_checked(1)? {
        ("i", number) => Id::Int(number.parse().ok()?),
        ("t", text) => Id::text(text),
        ("u", hex) => Id::uuid(u128::from_str_radix(hex, 16).ok()?),
        _ => return None,
    };
    // Whoever issued the id: only the name matters.
    let source = SourceInfo::new(source, Fingerprint::default());
    Principal::found(&source, login, login.as_str(), id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::{LoginRule, RealmId};

    #[test]
    fn who_somebody_was_is_read_as_it_was_written() {
        let realm = RealmId::new("default", LoginRule::default()).unwrap();
        let login = Login::parse(&realm, "calvin").unwrap();
        let who = |source: &'static str, id: Id| {
            let source = SourceInfo::new(source, Fingerprint::default());
            Principal::found(&source, &login, "calvin", id).unwrap()
        };
        let ids = [Id::Int(-7), Id::text("7"), Id::text(""), Id::text("a\u{1f}b"), Id::uuid(7), Id::Int(7)];
        let mut texts = std::collections::HashSet::new();
        for id in ids {
            for source in ["app", "staff"] {
                let who = who(source, id.clone());
                let written = text(&who);
                assert_eq!(principal(&login, &written), Some(who));
                assert!(texts.insert(written));
            }
        }
        let long = who("app", Id::text(&"x".repeat(600)));
        assert!(text(&long).len() == 65 && principal(&login, &text(&long)).is_none());
        assert_ne!(text(&long), text(&who("app", Id::text(&"x".repeat(601)))));
        // As long as is kept: source, mark, kind and id.
        let most = Family::MAX_PERSON_BYTES - "app".len() - 2;
        let longest = who("app", Id::text(&"x".repeat(most)));
        assert_eq!(principal(&login, &text(&longest)), Some(longest));
        assert_eq!(text(&who("app", Id::text(&"x".repeat(most + 1)))).len(), 65);
    }
}
