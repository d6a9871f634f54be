//! The queries of a store, prepared and checked: from configuration, or those of the managed schema.

use std::collections::BTreeMap;

use auth_core::{Error, ErrorKind, Id, ObjectRef, Result, check_name};

use crate::account::Columns;
use crate::config::{ObjectConfig, ObjectId, QueryConfig};
use crate::db::Conn;
use crate::managed;
use crate::scan::Dialect;
use crate::statement::Statement;

/// The parameters of an object's parts: `:object` is the only part or the first, `:object1` the first,
/// `:object2` the second.
pub(crate) const PARTS: [&str; 9] =
    ["object1", "object2", "object3", "object4", "object5", "object6", "object7", "object8", "object9"];

/// Everything that a store can ask.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) account: Option<(Statement, Columns)>,
    pub(crate) groups: Option<Statement>,
    pub(crate) is_member: Option<MemberQuery>,
    pub(crate) replace_hash: Option<Statement>,
    pub(crate) link: Option<Statement>,
    pub(crate) objects: Objects,
}

/// Tells whether somebody is in a group.
#[derive(Debug)]
pub(crate) struct MemberQuery {
    pub(crate) statement: Statement,
    /// Where the answer has the group's name, if it has: it is compared then, for collations fold.
    pub(crate) name: Option<usize>,
}

/// The domains of a store.
#[derive(Debug)]
pub(crate) enum Objects {
    /// Each with its own queries.
    Declared(BTreeMap<String, ObjectQueries>),
    /// All with the same ones; a table says which there are.
    Table { domain: Statement, queries: Box<ObjectQueries> },
}

/// The queries about the objects of a domain.
#[derive(Debug)]
pub(crate) struct ObjectQueries {
    pub(crate) exists: Exists,
    pub(crate) access: Statement,
    pub(crate) any: Option<Statement>,
    id: IdForm,
}

/// Tells whether an object is there.
#[derive(Debug)]
pub(crate) struct Exists {
    pub(crate) statement: Statement,
    /// Which column returns which part of the id. They are compared with what was asked for: a column that
    /// folds, or turns a text into a number, would show one object under many names.
    pub(crate) ids: Vec<(usize, usize)>,
}

/// How an object's id is bound.
#[derive(Debug, Clone, Copy)]
enum IdForm {
    /// This many parts of this type.
    Parts(usize, ObjectId),
    /// All parts as one text; see [`managed::object_name`].
    OneText,
}

/// An object's id as it is bound.
pub(crate) enum BoundId {
    Int(Vec<i64>),
    Text(Vec<String>),
}

impl BoundId {
    /// Reports whether a part of the id reads so, byte for byte.
    pub(crate) fn is(&self, part: usize, text: &str) -> bool {
        match self {
            Self::Int(numbers) => numbers.get(part).is_some_and(|number| number.to_string() == text),
            Self::Text(texts) => texts.get(part).is_some_and(|asked| asked == text),
        }
    }
}

impl ObjectQueries {
    /// Brings an object's id to the form of the database; nothing if no object can have such an id.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it has another number of parts than the queries.
    pub(crate) fn bind(&self, object: &ObjectRef) -> Result<Option<BoundId>> {
        let (count, form) = match self.id {
            IdForm::OneText => return Ok(Some(BoundId::Text(vec![managed::object_name(object.id())]))),
            IdForm::Parts(count, form) => (count, form),
        };
        if object.id().len() != count {
            let message = format!("an object of the domain {} has an id of {count} parts", object.domain());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(match form {
            ObjectId::Text => Some(BoundId::Text(object.id().iter().map(ToString::to_string).collect())),
            ObjectId::Int => object.id().iter().map(whole_number).collect::<Option<_>>().map(BoundId::Int),
        })
    }
}

/// Reads a whole number in its one usual spelling: "01" and "+1" are not the id 1, since what is cached and
/// voided under one name must not be reached by another.
fn whole_number(id: &Id) -> Option<i64> {
    match id {
        Id::Int(number) => Some(*number),
        Id::Text(text) => text.parse().ok().filter(|number: &i64| *number.to_string() == **text),
        _ => None,
    }
}

const ACCOUNT: &[&str] = &["login", "now"];
const GROUPS: &[&str] = &["login", "id", "now"];
const IS_MEMBER: &[&str] = &["login", "id", "group", "now"];
const REPLACE_HASH: &[&str] = &["login", "id", "old", "new", "scheme", "now"];
const LINK: &[&str] = &["login", "id", "source", "now"];

fn parameters(own: &[&'static str]) -> Vec<&'static str> {
    own.iter().chain(&["object"]).chain(&PARTS).copied().collect()
}

/// Compiles and prepares queries, one after the other.
struct Preparer<'a> {
    dialect: Dialect,
    conn: &'a mut Conn,
}

impl Preparer<'_> {
    async fn prepare(
        &mut self,
        name: &str,
        text: &str,
        known: &[&'static str],
    ) -> Result<(Statement, Vec<String>)> {
        let statement = Statement::compile(self.dialect, name, text, known)?;
        let columns = self.conn.columns(&statement).await?;
        Ok((statement, columns))
    }

    /// Prepares a query whose answer is whether there is a row.
    async fn yes_or_no(&mut self, name: &str, text: &str, known: &[&'static str]) -> Result<Statement> {
        self.select(name, text, known).await.map(|(statement, _)| statement)
    }

    /// Prepares a query that returns something.
    async fn select(
        &mut self,
        name: &str,
        text: &str,
        known: &[&'static str],
    ) -> Result<(Statement, Vec<String>)> {
        let (statement, columns) = self.prepare(name, text, known).await?;
        if columns.is_empty() {
            return refuse(&statement, "returns nothing: it must be a SELECT");
        }
        Ok((statement, columns))
    }

    /// Prepares a query that returns one column.
    async fn one_column(
        &mut self,
        name: &str,
        text: &str,
        known: &[&'static str],
        column: &str,
    ) -> Result<Statement> {
        let (statement, columns) = self.prepare(name, text, known).await?;
        match columns.as_slice() {
            [only] if only.eq_ignore_ascii_case(column) => Ok(statement),
            _ => refuse(
                &statement,
                &format!("must return one column `{column}`, and returns {}", listed(&columns)),
            ),
        }
    }

    async fn replace_hash(
        &mut self,
        text: &str,
        account: Option<&(Statement, Columns)>,
    ) -> Result<Statement> {
        let (statement, columns) = self.prepare("replace_hash", text, REPLACE_HASH).await?;
        if !columns.is_empty() {
            return refuse(&statement, "returns rows: it must be an UPDATE without RETURNING");
        }
        if let Some(missing) = ["old", "new"].into_iter().find(|needed| !statement.uses(needed)) {
            // Without `:old` it would overwrite a password that was changed meanwhile.
            return refuse(
                &statement,
                &format!("has no :{missing}: it must replace :old by :new in one step"),
            );
        }
        if !statement.uses("id") && !statement.uses("login") {
            return refuse(
                &statement,
                "has neither :id nor :login: it would change everybody with that hash",
            );
        }
        let Some((_, columns)) = account else {
            return refuse(&statement, "is of no use without `account`");
        };
        if columns.has_scheme() && !statement.uses("scheme") {
            return refuse(
                &statement,
                "has no :scheme, but `account` returns a scheme: the new hash would stand under the old scheme",
            );
        }
        Ok(statement)
    }

    async fn object(&mut self, domain: &str, config: &ObjectConfig) -> Result<ObjectQueries> {
        check_name("domain", domain)
            .map_err(|error| Error::new(ErrorKind::Misconfigured, error.message().to_owned()))?;
        let name = |query: &str| format!("object.{domain}.{query}");
        let (plain, with_mode) = (["login", "id", "now"], ["login", "id", "mode", "now"]);
        let (exists, columns) = self.select(&name("exists"), &config.exists, &parameters(&["now"])).await?;
        let access = self.yes_or_no(&name("access"), &config.access, &parameters(&with_mode)).await?;
        let any = match &config.any {
            Some(any) => Some(self.yes_or_no(&name("any"), any, &parameters(&plain)).await?),
            None => None,
        };
        let count = parts(domain, [Some(&exists), Some(&access), any.as_ref()])?;
        let exists = Exists { statement: exists, ids: id_columns(&columns, count) };
        Ok(ObjectQueries { exists, access, any, id: IdForm::Parts(count, config.id) })
    }
}

/// Finds the columns that return the id: `id`, or `id1`, `id2` and so on if it has several parts. There
/// `id` alone may be anything, such as the number of the row.
fn id_columns(columns: &[String], count: usize) -> Vec<(usize, usize)> {
    let names: Vec<String> = if count == 1 {
        vec!["id".to_owned()]
    } else {
        (1..=count).map(|part| format!("id{part}")).collect()
    };
    let part = |column: &String| names.iter().position(|name| name.eq_ignore_ascii_case(column));
    columns.iter().enumerate().filter_map(|(at, column)| Some((at, part(column)?))).collect()
}

/// Counts the parts of a domain's ids by what its queries ask for.
fn parts(domain: &str, queries: [Option<&Statement>; 3]) -> Result<usize> {
    let uses = |parameter: &str| queries.iter().flatten().any(|query| query.uses(parameter));
    let count = PARTS.iter().rposition(|part| uses(part)).map_or(1, |last| last + 1);
    for (n, part) in PARTS.iter().take(count).enumerate() {
        if !uses(part) && (n > 0 || (count > 1 && !uses("object"))) {
            let message = format!(
                "the queries of object.{domain} ask for :object{count} and never for :{part}: \
                 all objects would share what is kept about one"
            );
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
    }
    Ok(count)
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        return "none".to_owned();
    }
    columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ")
}

fn refuse<T>(statement: &Statement, fault: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Misconfigured, format!("the query `{}` {fault}", statement.name())))
}

impl Schema {
    /// Prepares the queries of configuration and checks what they return.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured), naming the query; otherwise any kind.
    pub(crate) async fn yours(
        dialect: Dialect,
        conn: &mut Conn,
        query: &QueryConfig,
        object: &BTreeMap<String, ObjectConfig>,
    ) -> Result<Self> {
        let mut preparer = Preparer { dialect, conn };
        let account = match &query.account {
            Some(text) => {
                let (statement, names) = preparer.prepare("account", text, ACCOUNT).await?;
                if !statement.uses("login") {
                    return refuse(&statement, "has no :login: it would return everybody");
                }
                let columns = Columns::read(&statement, &names)?;
                Some((statement, columns))
            }
            None => None,
        };
        let groups = match &query.groups {
            Some(text) => Some(preparer.one_column("groups", text, GROUPS, "name").await?),
            None => None,
        };
        let is_member = match &query.is_member {
            Some(text) => {
                let (statement, columns) = preparer.select("is_member", text, IS_MEMBER).await?;
                if !statement.uses("group") {
                    return refuse(&statement, "has no :group: it would say the same of every group");
                }
                let name = columns.iter().position(|column| column.eq_ignore_ascii_case("name"));
                Some(MemberQuery { statement, name })
            }
            None => None,
        };
        let replace_hash = match &query.replace_hash {
            Some(text) => Some(preparer.replace_hash(text, account.as_ref()).await?),
            None => None,
        };
        let link = match &query.link {
            Some(text) => {
                let statement = preparer.one_column("link", text, LINK, "login").await?;
                if account.is_none() {
                    return refuse(&statement, "is of no use without `account`");
                }
                Some(statement)
            }
            None => None,
        };
        for (statement, needed) in [
            (groups.as_ref(), ["id", "login"]),
            (is_member.as_ref().map(|query| &query.statement), ["id", "login"]),
            (link.as_ref(), ["id", "login"]),
        ] {
            if let Some(statement) = statement
                && !needed.iter().any(|parameter| statement.uses(parameter))
            {
                return refuse(statement, "has neither :id nor :login: it would say the same of everybody");
            }
        }
        let mut declared = BTreeMap::new();
        for (domain, config) in object {
            declared.insert(domain.clone(), preparer.object(domain, config).await?);
        }
        Ok(Self { account, groups, is_member, replace_hash, link, objects: Objects::Declared(declared) })
    }

    /// Prepares the queries of the managed schema.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn managed(dialect: Dialect, conn: &mut Conn) -> Result<Self> {
        let query = QueryConfig {
            account: Some(managed::ACCOUNT.to_owned()),
            groups: Some(managed::GROUPS.to_owned()),
            replace_hash: Some(managed::REPLACE_HASH.to_owned()),
            ..QueryConfig::default()
        };
        let schema = Self::yours(dialect, conn, &query, &BTreeMap::new()).await?;
        let mut preparer = Preparer { dialect, conn };
        let object = ["domain", "object", "id", "mode"];
        let domain = preparer.yes_or_no("domain", managed::DOMAIN, &["domain"]).await?;
        let queries = ObjectQueries {
            exists: Exists {
                statement: preparer.yes_or_no("exists", managed::EXISTS, &object).await?,
                ids: Vec::new(),
            },
            access: preparer.yes_or_no("access", managed::ACCESS, &object).await?,
            any: Some(preparer.yes_or_no("any", managed::ANY, &object).await?),
            id: IdForm::OneText,
        };
        Ok(Self { objects: Objects::Table { domain, queries: Box::new(queries) }, ..schema })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_spelling_of_a_number_is_one() {
        let check =
            |text: &str, number: Option<i64>| assert_eq!(whole_number(&Id::from(text)), number, "{text}");
        check("7", Some(7));
        check("-7", Some(-7));
        for other in ["07", "+7", " 7", "7 ", "7.0", "0x7", "seven", "9223372036854775808", "7;", "-0"] {
            check(other, None);
        }
        assert_eq!(whole_number(&Id::from(7)), Some(7));
        assert_eq!(whole_number(&Id::uuid(7)), None);
    }
}
