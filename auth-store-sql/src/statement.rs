//! A statement that is ready to be asked, and the values that are bound to it.

use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};

use crate::scan::{Dialect, scan};

/// A value to bind. Values are bound and never become part of a statement's text.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Text(&'a str),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Int)
    }
}

/// The values of one question, by the parameters' names.
pub(crate) type Args<'a> = &'a [(&'static str, Value<'a>)];

/// A statement in the driver's form, with its parameters in order.
#[derive(Debug)]
pub(crate) struct Statement {
    name: Arc<str>,
    sql: Arc<str>,
    parameters: Box<[&'static str]>,
}

impl Statement {
    /// Reads a statement from configuration. `known` are the parameters that it may have.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the query and what is wrong with it.
    pub(crate) fn compile(dialect: Dialect, name: &str, text: &str, known: &[&'static str]) -> Result<Self> {
        let misconfigured =
            |fault: String| Error::new(ErrorKind::Misconfigured, format!("the query `{name}` {fault}"));
        let scanned = scan(dialect, text).map_err(|fault| misconfigured(fault.to_string()))?;
        let mut parameters = Vec::with_capacity(scanned.names.len());
        for asked in scanned.names {
            let Some(parameter) = known.iter().find(|known| **known == asked) else {
                let known: Vec<String> = known.iter().map(|known| format!(":{known}")).collect();
                return Err(misconfigured(format!("has no parameter :{asked}; it has {}", known.join(", "))));
            };
            parameters.push(*parameter);
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

    /// Reports whether the statement has a parameter.
    pub(crate) fn uses(&self, parameter: &str) -> bool {
        self.parameters.contains(&parameter)
    }

    /// Returns the values in the order of their positions.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if one is not given: what is not bound would read as NULL.
    pub(crate) fn bind<'a>(&self, args: Args<'a>) -> Result<Vec<Value<'a>>> {
        let value = |parameter: &&'static str| {
            let found = args.iter().find(|(name, _)| name == parameter);
            found.map(|(_, value)| *value).ok_or_else(|| {
                Error::new(ErrorKind::Internal, format!("no value for :{parameter} of `{}`", self.name))
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

    #[test]
    fn an_unknown_parameter_is_refused_with_the_known_ones() {
        let error =
            Statement::compile(Dialect::Sqlite, "account", "SELECT :mode", &["login", "now"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(error.message(), "the query `account` has no parameter :mode; it has :login, :now");
    }

    #[test]
    fn a_value_that_is_not_given_is_an_error_and_not_a_null() {
        let statement = Statement::compile(Dialect::Sqlite, "a", "SELECT :login", &["login"]).unwrap();
        assert_eq!(statement.bind(&[]).map(|_| ()).unwrap_err().kind(), ErrorKind::Internal);
        assert!(matches!(
            *statement.bind(&[("now", Value::Int(1)), ("login", Value::Text("x"))]).unwrap(),
            [Value::Text("x")]
        ));
    }
}
