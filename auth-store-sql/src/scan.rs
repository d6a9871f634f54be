//! Turns named parameters into a driver's positional ones, and leaves everything else as it is.

use std::fmt;

/// How a database writes SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `?1`; `"…"`, `` `…` `` and `[…]` are identifiers; no escapes in literals but a doubled quote.
    Sqlite,
}

impl Dialect {
    fn placeholder(self, out: &mut String, position: usize) {
        match self {
            Self::Sqlite => out.push_str(&format!("?{position}")),
        }
    }
}

/// A statement in the driver's form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    /// The text to prepare.
    pub(crate) sql: String,
    /// The parameters' names in the order of their positions, each once.
    pub(crate) names: Vec<&'a str>,
}

/// Why a text is no statement that can be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    Nul,
    Unterminated(&'static str),
    Several,
    Foreign(char),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("has no statement"),
            Self::Nul => f.write_str("has a NUL"),
            Self::Unterminated(what) => write!(f, "has {what} without an end"),
            Self::Several => f.write_str("has more than one statement"),
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

/// Finds the parameters of one statement.
///
/// # Errors
/// A [`Fault`] if the text is not exactly one statement, or has another kind of placeholder: that would be
/// bound by position to whatever happens to stand there.
pub(crate) fn scan(dialect: Dialect, text: &str) -> Result<Scanned<'_>, Fault> {
    let mut sql = String::with_capacity(text.len());
    let mut names: Vec<&str> = Vec::new();
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
                let known = names.iter().position(|seen| *seen == name);
                let at = known.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                dialect.placeholder(&mut sql, at + 1);
            }
        }
    }
    if begun { Ok(Scanned { sql, names }) } else { Err(Fault::Empty) }
}

/// Returns the first token and its length in bytes. `text` is not empty, and neither is the token.
fn next(dialect: Dialect, text: &str) -> Result<(Token<'_>, usize), Fault> {
    let Dialect::Sqlite = dialect;
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return Err(Fault::Empty) };
    Ok(match (first, second) {
        ('\0', _) => return Err(Fault::Nul),
        ('\'', _) => (Token::Plain, quoted(text, '\'', "a string")?),
        ('"' | '`', _) => (Token::Plain, quoted(text, first, "a quoted name")?),
        ('[', _) => (Token::Plain, until(text, 1, "]").ok_or(Fault::Unterminated("a quoted name"))?),
        ('-', Some('-')) => (Token::Gap, until(text, 2, "\n").unwrap_or(text.len())),
        ('/', Some('*')) => (Token::Gap, until(text, 2, "*/").ok_or(Fault::Unterminated("a comment"))?),
        (':', Some(':')) => (Token::Plain, 2),
        (':', Some(second)) if is_word(second) => {
            let length = 1 + word(text.get(1..).unwrap_or_default());
            (Token::Parameter(text.get(1..length).unwrap_or_default()), length)
        }
        ('?' | '@' | '$', _) => return Err(Fault::Foreign(first)),
        (';', _) => (Token::Semicolon, 1),
        _ if first.is_ascii_whitespace() => (Token::Gap, 1),
        // A word at once, for a `$` inside of one begins no parameter.
        _ if is_word(first) => (Token::Plain, word(text)),
        _ => (Token::Plain, first.len_utf8()),
    })
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

    fn check(text: &str, sql: &str, names: &[&str]) {
        assert_eq!(
            scan(Dialect::Sqlite, text),
            Ok(Scanned { sql: sql.to_owned(), names: names.to_vec() }),
            "{text}"
        );
    }

    fn refused(text: &str, fault: Fault) {
        assert_eq!(scan(Dialect::Sqlite, text), Err(fault), "{text}");
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
            let _ = scan(Dialect::Sqlite, &text);
        }

        #[test]
        fn sql_like_noise_does_not_make_it_panic(text in "[:'\"`\\[\\]/*;?@$a-c \\n\u{e9}-]{0,40}") {
            let _ = scan(Dialect::Sqlite, &text);
        }

        #[test]
        fn a_literal_is_never_touched(text in "[^\\x00]{0,40}") {
            let literal = format!("'{}'", text.replace('\'', "''"));
            let sql = format!("SELECT {literal}, :login FROM {}", format_args!("\"{}\"", text.replace('"', "\"\"")));
            let scanned = scan(Dialect::Sqlite, &sql).unwrap();
            prop_assert_eq!(scanned.names, ["login"]);
            prop_assert_eq!(scanned.sql, sql.replacen(", :login FROM", ", ?1 FROM", 1));
        }

        #[test]
        fn a_scanned_statement_scans_to_no_parameters_but_positions(text in "[:'\"/* a-c,();-]{0,40}") {
            if let Ok(scanned) = scan(Dialect::Sqlite, &text) {
                // What is left of `:name` stands in a literal, a name, a comment or a cast.
                let again = scan(Dialect::Sqlite, &scanned.sql);
                prop_assert!(scanned.names.is_empty() == again.is_ok());
            }
        }
    }
}
