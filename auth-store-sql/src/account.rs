//! The columns of an account, and how a row becomes an account.

use auth_core::{Account, AccountState, ErrorKind, Id, Lock, Login, Lookup, Result, SourceInfo, StoredHash};

use crate::statement::Statement;
use crate::value::{Cell, Read, Row, Unreadable};

/// What a column of the account query says. The list is here and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Login,
    Id,
    Hash,
    Scheme,
    Disabled,
    Locked,
    LockedUntil,
    NotBefore,
    ExpiresAt,
    PasswordExpiresAt,
    MustChange,
}

const COLUMNS: [(&str, Column); 11] = [
    ("login", Column::Login),
    ("id", Column::Id),
    ("hash", Column::Hash),
    ("scheme", Column::Scheme),
    ("disabled", Column::Disabled),
    ("locked", Column::Locked),
    ("locked_until", Column::LockedUntil),
    ("not_before", Column::NotBefore),
    ("expires_at", Column::ExpiresAt),
    ("password_expires_at", Column::PasswordExpiresAt),
    ("must_change", Column::MustChange),
];

/// Where the account query has which column.
#[derive(Debug)]
pub(crate) struct Columns(Vec<(&'static str, Column)>);

impl Columns {
    /// Reads the columns of a prepared account query.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for an unknown column, one that is there twice, or no `login`.
    pub(crate) fn read(statement: &Statement, names: &[String]) -> Result<Self> {
        let query = statement.name();
        let refuse = |fault: String| {
            Err(auth_core::Error::new(ErrorKind::Misconfigured, format!("the query `{query}` {fault}")))
        };
        let mut columns: Vec<(&'static str, Column)> = Vec::with_capacity(names.len());
        for name in names {
            let Some(known) = COLUMNS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
                let instead = did_you_mean(name);
                return refuse(format!(
                    "returns a column `{name}`, which says nothing about an account{instead}"
                ));
            };
            if columns.contains(known) {
                return refuse(format!("returns the column `{}` twice", known.0));
            }
            columns.push(*known);
        }
        let columns = Self(columns);
        if columns.has(Column::Login) {
            Ok(columns)
        } else {
            refuse("returns no column `login`: what is found is compared with what was asked for".to_owned())
        }
    }

    fn has(&self, column: Column) -> bool {
        self.0.iter().any(|(_, has)| *has == column)
    }

    /// Reports whether the scheme of a hash stands in a column of its own.
    pub(crate) fn has_scheme(&self) -> bool {
        self.has(Column::Scheme)
    }

    /// Reads a row of the account query: the account, or `NotFound` if the row is somebody else's.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) naming the query and the column, never the value.
    pub(crate) fn account(
        &self,
        source: &SourceInfo,
        login: &Login,
        statement: &Statement,
        row: Row,
    ) -> Result<Lookup<Account>> {
        let mut fields = Fields { columns: self, statement, row };
        let found = fields.get(Column::Login, Cell::name)?;
        if !login.is(&found) {
            // A stranger's row: what else is in it does not matter, unreadable or not.
            return Ok(Lookup::NotFound);
        }
        let (state, hash) = (fields.state()?, fields.hash()?);
        let id = if self.has(Column::Id) { fields.get(Column::Id, Cell::id)? } else { Id::text(&found) };
        Ok(Account::found(source, login, &found, id, state, hash))
    }

    /// Reads the login of a row, for lists.
    ///
    /// # Errors
    /// Like [`account`](Self::account).
    pub(crate) fn login(&self, statement: &Statement, row: &Row) -> Result<String> {
        let at = self.0.iter().position(|(_, column)| *column == Column::Login).unwrap_or(0);
        row.peek_text(at).ok_or_else(|| corrupt(statement, "login", Unreadable("no text"))).map(str::to_owned)
    }
}

/// Gives the nearest column, or all of them if none is near.
fn did_you_mean(word: &str) -> String {
    let word = word.to_ascii_lowercase();
    let nearest = COLUMNS
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(&word, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 1 + word.chars().count() / 3);
    match nearest {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => format!("; known: {}", COLUMNS.map(|(known, _)| format!("`{known}`")).join(", ")),
    }
}

/// A row of the account query, read column by column.
struct Fields<'a> {
    columns: &'a Columns,
    statement: &'a Statement,
    row: Row,
}

impl Fields<'_> {
    /// Reads a column; one that the query does not return reads as NULL.
    fn get<T>(&mut self, column: Column, read: fn(Cell) -> Read<T>) -> Result<T> {
        let at = self.columns.0.iter().position(|(_, has)| *has == column);
        let name = at.and_then(|at| self.columns.0.get(at)).map_or("", |(name, _)| name);
        let cell = at.map(|at| self.row.take(at)).unwrap_or_default();
        read(cell).map_err(|found| corrupt(self.statement, name, found))
    }

    fn state(&mut self) -> Result<AccountState> {
        let locked = self.get(Column::Locked, Cell::flag)?;
        let until = self.get(Column::LockedUntil, Cell::time)?;
        Ok(AccountState {
            disabled: self.get(Column::Disabled, Cell::flag)?,
            lock: match (locked, until) {
                // The flag outranks the time: somebody set it by hand.
                (true, _) => Lock::Locked,
                (false, Some(until)) => Lock::Until(until),
                (false, None) => Lock::Open,
            },
            not_before: self.get(Column::NotBefore, Cell::time)?,
            expires_at: self.get(Column::ExpiresAt, Cell::time)?,
            password_expires_at: self.get(Column::PasswordExpiresAt, Cell::time)?,
            must_change: self.get(Column::MustChange, Cell::flag)?,
        })
    }

    fn hash(&mut self) -> Result<Option<StoredHash>> {
        let hash = self.get(Column::Hash, Cell::filled_text)?;
        let scheme = self.get(Column::Scheme, Cell::filled_text)?;
        Ok(hash.map(|hash| StoredHash::new(hash, scheme.as_deref())))
    }
}

/// Makes the error of a value that can't be read.
pub(crate) fn corrupt(statement: &Statement, column: &str, found: Unreadable) -> auth_core::Error {
    statement
        .error(ErrorKind::Corrupt, format!("a value can't be read: it is {}", found.0))
        .with("column", column)
}
