//! A statement that is ready to be asked, and the values that are bound to it.

use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};

use crate::scan::{Dialect, List, Name, scan};

/// A value to bind. Values are bound and never become part of a statement's text.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    NoInt,
    NoText,
    Int(i64),
    /// A number that names something. It is not calculated with, and where a database would take 0 for any text, it
    /// is bound as its digits.
    Key(i64),
    Text(&'a str),
    Uuid([u8; 16]),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::NoText, Self::Text)
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::NoInt, Self::Int)
    }
}

/// The values of one question, by the parameters' names.
pub(crate) type Args<'a> = &'a [(&'static str, Value<'a>)];

/// What kind of value a parameter takes, where that is known before somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Uuid,
    /// The id of a person has the type that the database gave it.
    Any,
    /// The id of another source's person: a text, where the database does not mix types.
    Foreign,
}

/// A column of what a statement returns.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// What it holds, where the database tells and does not mix.
    pub(crate) kind: Kind,
}

/// A place in a statement where a value is bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    name: &'static str,
    /// Which value of a list.
    listed: Option<usize>,
    pub(crate) kind: Kind,
}

/// Which parameters a statement may have, and what they take.
pub(crate) type Known<'a> = &'a [(&'static str, Kind)];

/// A statement in the driver's form, with its parameters in order.
#[derive(Debug)]
pub(crate) struct Statement {
    name: Arc<str>,
    sql: Arc<str>,
    parameters: Box<[Parameter]>,
}

impl Statement {
    /// Reads a statement from configuration. `known` are the parameters that it may have.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the query and what is wrong with it.
    pub(crate) fn compile(dialect: Dialect, name: &str, text: &str, known: Known<'_>) -> Result<Self> {
        Self::compile_list(dialect, name, text, known, None)
    }

    /// Reads a statement in which one parameter stands for a list.
    ///
    /// # Errors
    /// Like [`compile`](Self::compile).
    pub(crate) fn compile_list(
        dialect: Dialect,
        name: &str,
        text: &str,
        known: Known<'_>,
        list: Option<List>,
    ) -> Result<Self> {
        let misconfigured =
            |fault: String| Error::new(ErrorKind::Misconfigured, format!("the query `{name}` {fault}"));
        let scanned = scan(dialect, text, list).map_err(|fault| misconfigured(fault.to_string()))?;
        let mut parameters = Vec::with_capacity(scanned.names.len());
        for asked in scanned.names {
            let (asked, listed) = match asked {
                Name::One(name) => (name, None),
                Name::Listed(name, n) => (name, Some(n)),
            };
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == asked) else {
                let known: Vec<String> = known.iter().map(|(known, _)| format!(":{known}")).collect();
                return Err(misconfigured(format!("has no parameter :{asked}; it has {}", known.join(", "))));
            };
            parameters.push(Parameter { name, listed, kind: *kind });
        }
        Ok(Self { name: name.into(), sql: scanned.sql.into(), parameters: parameters.into() })
    }

    /// Returns the name of the query in configuration, for errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text for the driver.
    pub(crate) fn sql(&self) -> Arc<str> {
        Arc::clone(&self.sql)
    }

    /// Returns the places where values are bound, in their order.
    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Reports whether the statement has a parameter.
    pub(crate) fn uses(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|has| has.name == parameter)
    }

    /// Returns the values in the order of their positions. The values of a list stand in `args` one after the other.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if one is not given: what is not bound would read as NULL.
    pub(crate) fn bind<'a>(&self, args: Args<'a>) -> Result<Vec<Value<'a>>> {
        let value = |parameter: &Parameter| {
            let first = args.iter().position(|(name, _)| *name == parameter.name);
            let found = first.and_then(|first| args.get(first + parameter.listed.unwrap_or(0)));
            found.filter(|(name, _)| *name == parameter.name).map(|(_, value)| *value).ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    format!("no value for :{} of `{}`", parameter.name, self.name),
                )
            })
        };
        self.parameters.iter().map(value).collect()
    }

    /// Makes an error about this query.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::new(kind, message).with("query", &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN_NOW: Known<'_> = &[("login", Kind::Text), ("now", Kind::Int)];

    #[test]
    fn an_unknown_parameter_is_refused_with_the_known_ones() {
        let error = Statement::compile(Dialect::Sqlite, "account", "SELECT :mode", LOGIN_NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(error.message(), "the query `account` has no parameter :mode; it has :login, :now");
    }

    #[test]
    fn a_value_that_is_not_given_is_an_error_and_not_a_null() {
        let statement = Statement::compile(Dialect::Sqlite, "a", "SELECT :login", LOGIN_NOW).unwrap();
        assert_eq!(statement.bind(&[]).map(|_| ()).unwrap_err().kind(), ErrorKind::Internal);
        assert!(matches!(
            *statement.bind(&[("now", Value::Int(1)), ("login", Value::Text("x"))]).unwrap(),
            [Value::Text("x")]
        ));
    }
}
