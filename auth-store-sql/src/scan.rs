//! Turns named parameters into a driver's positional ones, and leaves everything else as it is.

use std::fmt;

/// How a database writes SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `?1`; `"…"`, `` `…` `` and `[…]` are identifiers; no escapes in literals but a doubled quote.
    Sqlite,
    /// `$1`; `E'…'` has escapes, `$tag$…$tag$` none; comments are nested.
    Postgres,
    /// `?`, once for each place; `'…'` and `"…"` are literals with escapes; `#` and `-- ` begin comments.
    MySql,
}

impl Dialect {
    /// Returns the position of a parameter that is in the statement already; a database that counts places has none.
    fn known(self, names: &[Name<'_>], name: Name<'_>) -> Option<usize> {
        match self {
            Self::Sqlite | Self::Postgres => names.iter().position(|seen| *seen == name),
            Self::MySql => None,
        }
    }

    fn placeholder(self, out: &mut String, position: usize) {
        // `LIMIT:n` must not become one word.
        if out.ends_with(is_word) {
            out.push(' ');
        }
        match self {
            Self::Sqlite => out.push_str(&format!("?{position}")),
            Self::Postgres => out.push_str(&format!("${position}")),
            Self::MySql => out.push('?'),
        }
    }
}

/// A parameter: by its name, or one of the list that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    One(&'a str),
    Listed(&'a str, usize),
}

/// A parameter that stands for a list of this length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    pub(crate) name: &'static str,
    pub(crate) length: usize,
}

/// A statement in the driver's form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    /// The text to prepare.
    pub(crate) sql: String,
    /// The parameters in the order of their positions.
    pub(crate) names: Vec<Name<'a>>,
}

/// Why a text is no statement that can be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    Nul,
    Unterminated(&'static str),
    Several,
    Foreign(char),
    /// What MySQL and MariaDB run although it stands in a comment is not read here.
    Executed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("has no statement"),
            Self::Nul => f.write_str("has a NUL"),
            Self::Unterminated(what) => write!(f, "has {what} without an end"),
            Self::Several => f.write_str("has more than one statement"),
            Self::Executed => f.write_str("has a comment that the database would run (/*!)"),
            Self::Foreign(sign) => {
                write!(f, "has a parameter that begins with {sign}; parameters are written :name")
            }
        }
    }
}

enum Token<'a> {
    /// Blanks and comments: part of no statement.
    Gap,
    /// Anything that is copied as it is.
    Plain,
    Semicolon,
    Parameter(&'a str),
}

/// Finds the parameters of one statement. One of the name of `list` becomes as many, with commas between them.
///
/// # Errors
/// A [`Fault`] if the text is not exactly one statement, or has another kind of placeholder: that would be
/// bound by position to whatever happens to stand there.
pub(crate) fn scan(dialect: Dialect, text: &str, list: Option<List>) -> Result<Scanned<'_>, Fault> {
    let mut sql = String::with_capacity(text.len());
    let mut names: Vec<Name<'_>> = Vec::new();
    let (mut begun, mut ended) = (false, false);
    let mut rest = text;
    while !rest.is_empty() {
        let (token, length) = next(dialect, rest)?;
        let (raw, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = after;
        match token {
            Token::Gap => sql.push_str(raw),
            Token::Semicolon => {
                ended = true;
                sql.push(' ');
            }
            Token::Plain | Token::Parameter(_) if ended => return Err(Fault::Several),
            Token::Plain => {
                begun = true;
                sql.push_str(raw);
            }
            Token::Parameter(name) => {
                begun = true;
                let length = list.filter(|list| list.name == name).map(|list| list.length);
                for n in 0..length.unwrap_or(1) {
                    if n > 0 {
                        sql.push_str(", ");
                    }
                    let name = length.map_or(Name::One(name), |_| Name::Listed(name, n));
                    let at = dialect.known(&names, name).unwrap_or(names.len());
                    dialect.placeholder(&mut sql, at + 1);
                    if at == names.len() {
                        names.push(name);
                    }
                }
            }
        }
    }
    if begun { Ok(Scanned { sql, names }) } else { Err(Fault::Empty) }
}

/// Returns the first token and its length in bytes. `text` is not empty, and neither is the token.
fn next(dialect: Dialect, text: &str) -> Result<(Token<'_>, usize), Fault> {
    use Dialect::{MySql, Postgres, Sqlite};
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return Err(Fault::Empty) };
    const NAME: &str = "a quoted name";
    Ok(match (dialect, first, second) {
        (_, '\0', _) => return Err(Fault::Nul),
        (MySql, '\'' | '"', _) => (Token::Plain, escaped(text, 1, first)?),
        (Postgres, 'e' | 'E', Some('\'')) => (Token::Plain, escaped(text, 2, '\'')?),
        (_, '\'', _) => (Token::Plain, quoted(text, '\'', "a string")?),
        (Sqlite | MySql, '`', _) | (Sqlite | Postgres, '"', _) => (Token::Plain, quoted(text, first, NAME)?),
        (Sqlite, '[', _) => (Token::Plain, until(text, 1, "]").ok_or(Fault::Unterminated(NAME))?),
        (MySql, '-', Some('-')) if !text.get(2..).is_none_or(begins_comment) => (Token::Plain, 1),
        (_, '-', Some('-')) | (MySql, '#', _) => (Token::Gap, until(text, 1, "\n").unwrap_or(text.len())),
        (Postgres, '/', Some('*')) => (Token::Gap, nested(text)?),
        (MySql, '/', Some('*'))
            if ["!", "M!"].iter().any(|sign| text.get(2..).is_some_and(|rest| rest.starts_with(sign))) =>
        {
            return Err(Fault::Executed);
        }
        (_, '/', Some('*')) => (Token::Gap, until(text, 2, "*/").ok_or(Fault::Unterminated("a comment"))?),
        (_, ':', Some(':')) => (Token::Plain, 2),
        (_, ':', Some(second)) if is_word(second) => {
            let length = 1 + word(text.get(1..).unwrap_or_default());
            (Token::Parameter(text.get(1..length).unwrap_or_default()), length)
        }
        (Postgres, '$', _) => (Token::Plain, dollars(text)?),
        (Sqlite | MySql, '?', _) | (Sqlite, '@' | '$', _) => return Err(Fault::Foreign(first)),
        (_, ';', _) => (Token::Semicolon, 1),
        _ if first.is_ascii_whitespace() => (Token::Gap, 1),
        // A word at once, for a `$` inside of one begins no parameter.
        _ if is_word(first) => (Token::Plain, word(text)),
        _ => (Token::Plain, first.len_utf8()),
    })
}

/// Reports whether what follows two dashes makes them a comment in MySQL: `5--:a` is a difference there.
fn begins_comment(rest: &str) -> bool {
    rest.chars().next().is_none_or(|c| c.is_ascii_whitespace() || c.is_ascii_control())
}

/// Returns the length of `$tag$…$tag$`.
fn dollars(text: &str) -> Result<usize, Fault> {
    let inner = text.get(1..).unwrap_or_default();
    let end = inner.find(|c: char| c == '$' || !is_word(c)).unwrap_or(inner.len());
    let tag = inner.get(..end).unwrap_or_default();
    if !inner.get(end..).is_some_and(|rest| rest.starts_with('$'))
        || tag.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(Fault::Foreign('$'));
    }
    let tag = format!("${tag}$");
    until(text, tag.len(), &tag).ok_or(Fault::Unterminated("a string"))
}

/// Returns the length of a comment with comments in it.
fn nested(text: &str) -> Result<usize, Fault> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth.saturating_sub(1), at + 2);
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Err(Fault::Unterminated("a comment"))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

fn word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// Returns the length of what begins with `from` bytes and ends with `end`.
fn until(text: &str, from: usize, end: &str) -> Option<usize> {
    text.get(from..)?.find(end).map(|at| from + at + end.len())
}

/// Returns the length of a string that begins with `from` bytes, in which a backslash takes the next sign along.
fn escaped(text: &str, from: usize, quote: char) -> Result<usize, Fault> {
    let mut chars = text.char_indices().skip(from).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, c)| *c == quote).is_none() {
            return Ok(at + 1);
        }
    }
    Err(Fault::Unterminated("a string"))
}

/// Returns the length of what is quoted; a doubled quote stands for one.
fn quoted(text: &str, quote: char, what: &'static str) -> Result<usize, Fault> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, c)| *c == quote).is_none() {
            return Ok(at + 1);
        }
    }
    Err(Fault::Unterminated(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::MySql];

    fn check_in(dialect: Dialect, text: &str, sql: &str, names: &[&str]) {
        let names = names.iter().map(|name| Name::One(name)).collect();
        assert_eq!(scan(dialect, text, None), Ok(Scanned { sql: sql.to_owned(), names }), "{text}");
    }

    fn check(text: &str, sql: &str, names: &[&str]) {
        check_in(Dialect::Sqlite, text, sql, names);
    }

    fn refused_in(dialect: Dialect, text: &str, fault: Fault) {
        assert_eq!(scan(dialect, text, None), Err(fault), "{text}");
    }

    fn refused(text: &str, fault: Fault) {
        refused_in(Dialect::Sqlite, text, fault);
    }

    #[test]
    fn each_database_counts_in_its_own_way() {
        let text = "SELECT :login, :id WHERE a=:login";
        check_in(Dialect::Postgres, text, "SELECT $1, $2 WHERE a=$1", &["login", "id"]);
        check_in(Dialect::MySql, text, "SELECT ?, ? WHERE a=?", &["login", "id", "login"]);
        check_in(Dialect::Postgres, "SELECT a LIMIT:limit", "SELECT a LIMIT $1", &["limit"]);
    }

    #[test]
    fn a_list_becomes_as_many_parameters() {
        let list = Some(List { name: "objects", length: 3 });
        let text = "SELECT :id WHERE a IN (:objects) OR b IN (:objects)";
        let listed = [0, 1, 2].map(|n| Name::Listed("objects", n));
        let check = |dialect, sql: &str, names: &[&[Name<'_>]]| {
            assert_eq!(scan(dialect, text, list), Ok(Scanned { sql: sql.to_owned(), names: names.concat() }));
        };
        let id: &[Name<'_>] = &[Name::One("id")];
        check(Dialect::Sqlite, "SELECT ?1 WHERE a IN (?2, ?3, ?4) OR b IN (?2, ?3, ?4)", &[id, &listed]);
        check(Dialect::Postgres, "SELECT $1 WHERE a IN ($2, $3, $4) OR b IN ($2, $3, $4)", &[id, &listed]);
        check(Dialect::MySql, "SELECT ? WHERE a IN (?, ?, ?) OR b IN (?, ?, ?)", &[id, &listed, &listed]);
    }

    #[test]
    fn strings_and_comments_end_where_the_database_says() {
        let postgres = |text: &str, names: &[&str], sql: &str| check_in(Dialect::Postgres, text, sql, names);
        postgres(r"SELECT E'\':a', :b", &["b"], r"SELECT E'\':a', $1");
        postgres(r"SELECT '\', :b", &["b"], r"SELECT '\', $1");
        postgres("SELECT $$ ' :a $$, $x$ $$ :a $x$, :b", &["b"], "SELECT $$ ' :a $$, $x$ $$ :a $x$, $1");
        postgres("SELECT 1 /* /* :a */ :a */ + :b", &["b"], "SELECT 1 /* /* :a */ :a */ + $1");
        postgres("SELECT a ? 'b', c @> d, e[1], f$1 = :b", &["b"], "SELECT a ? 'b', c @> d, e[1], f$1 = $1");
        refused_in(Dialect::Postgres, "SELECT $1", Fault::Foreign('$'));
        refused_in(Dialect::Postgres, "SELECT $a", Fault::Foreign('$'));
        refused_in(Dialect::Postgres, "SELECT $a$ :a $$", Fault::Unterminated("a string"));
        refused_in(Dialect::Postgres, r"SELECT E'a\'", Fault::Unterminated("a string"));
        refused_in(Dialect::Postgres, "SELECT 1 /* /* */", Fault::Unterminated("a comment"));
        refused_in(Dialect::Postgres, "SELECT 1; SELECT 2", Fault::Several);
        let mysql = |text: &str, names: &[&str], sql: &str| check_in(Dialect::MySql, text, sql, names);
        mysql(r"SELECT '\':a', :b", &["b"], r"SELECT '\':a', ?");
        mysql(r#"SELECT "\":a", :b"#, &["b"], r#"SELECT "\":a", ?"#);
        mysql("SELECT `:a``'`, :b # ':c", &["b"], "SELECT `:a``'`, ? # ':c");
        mysql("SELECT 5--:b", &["b"], "SELECT 5--?");
        mysql("SELECT 5-- :b", &[], "SELECT 5-- :b");
        mysql("SELECT @@time_zone, @a, :b", &["b"], "SELECT @@time_zone, @a, ?");
        refused_in(Dialect::MySql, "SELECT ?", Fault::Foreign('?'));
        refused_in(Dialect::MySql, "SELECT 1 /*! , :a */", Fault::Executed);
        refused_in(Dialect::MySql, "SELECT 1 /*M! , :a */", Fault::Executed);
        mysql("SELECT 1 /*Mine: :a */ + :b", &["b"], "SELECT 1 /*Mine: :a */ + ?");
        refused_in(Dialect::MySql, "SELECT 1; SELECT 2", Fault::Several);
    }

    #[test]
    fn each_name_has_one_position() {
        check("SELECT :login, :id WHERE a=:login", "SELECT ?1, ?2 WHERE a=?1", &["login", "id"]);
        check("SELECT(:a)+:b1,:_c", "SELECT(?1)+?2,?3", &["a", "b1", "_c"]);
        check("SELECT 1;", "SELECT 1 ", &[]);
        check("SELECT 1 ; ; -- done\n/* :x */", "SELECT 1     -- done\n/* :x */", &[]);
    }

    #[test]
    fn literals_names_comments_and_casts_are_left_alone() {
        for text in [
            "SELECT ':a'",
            "SELECT 'it''s :a', 'b'",
            "SELECT '\\'",
            "SELECT \":a\" FROM \"t\"\":b\"",
            "SELECT `:a`, [:b'c]",
            "SELECT 1 -- :a ' ; ?\n",
            "SELECT 1 /* :a ' ; ? */",
            "SELECT 1 -- :a",
            "SELECT a::text",
            "SELECT x':a'",
            "SELECT a$b, caf\u{e9}, 'caf\u{e9} :x'",
            "SELECT 1 - - 1 / 2 * 3",
            "SELECT ':' || '::'",
        ] {
            check(text, text, &[]);
        }
        check("SELECT a::text, :a", "SELECT a::text, ?1", &["a"]);
        check("SELECT ''':a', :b", "SELECT ''':a', ?1", &["b"]);
        check("SELECT 1--:a\n+:b", "SELECT 1--:a\n+?1", &["b"]);
    }

    #[test]
    fn other_placeholders_and_several_statements_are_refused() {
        refused("SELECT ?", Fault::Foreign('?'));
        refused("SELECT ?1", Fault::Foreign('?'));
        refused("SELECT @a", Fault::Foreign('@'));
        refused("SELECT $1", Fault::Foreign('$'));
        refused("SELECT 1; SELECT 2", Fault::Several);
        refused("SELECT 1; :a", Fault::Several);
        refused("", Fault::Empty);
        refused(" -- nothing\n ; ", Fault::Empty);
        refused("SELECT 'a", Fault::Unterminated("a string"));
        refused("SELECT 'a''", Fault::Unterminated("a string"));
        refused("SELECT \"a", Fault::Unterminated("a quoted name"));
        refused("SELECT [a", Fault::Unterminated("a quoted name"));
        refused("SELECT 1 /* a", Fault::Unterminated("a comment"));
        refused("SELECT \0", Fault::Nul);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in any::<String>()) {
            for dialect in ALL {
                let _ = scan(dialect, &text, None);
            }
        }

        #[test]
        fn sql_like_noise_does_not_make_it_panic(text in "[:'\"`\\[\\]/*;?@$#a-cE \\n\u{e9}-]{0,40}") {
            for dialect in ALL {
                let _ = scan(dialect, &text, Some(List { name: "a", length: 2 }));
            }
        }

        #[test]
        fn a_literal_is_never_touched(text in "[^\\x00]{0,40}") {
            let literal = format!("'{}'", text.replace('\'', "''"));
            let sql = format!("SELECT {literal}, :login FROM {}", format_args!("\"{}\"", text.replace('"', "\"\"")));
            for (dialect, position) in [(Dialect::Sqlite, "?1"), (Dialect::Postgres, "$1")] {
                let scanned = scan(dialect, &sql, None).unwrap();
                prop_assert_eq!(scanned.names, [Name::One("login")]);
                let expected = sql.replacen(", :login FROM", &format!(", {position} FROM"), 1);
                prop_assert_eq!(scanned.sql, expected);
            }
        }

        #[test]
        fn a_scanned_statement_scans_to_no_parameters_but_positions(text in "[:'\"/* a-c,();-]{0,40}") {
            if let Ok(scanned) = scan(Dialect::Sqlite, &text, None) {
                // What is left of `:name` stands in a literal, a name, a comment or a cast.
                let again = scan(Dialect::Sqlite, &scanned.sql, None);
                prop_assert!(scanned.names.is_empty() == again.is_ok());
            }
        }
    }
}
