//! The queries of a store, prepared and checked: from configuration, or those of the managed schema.

use std::collections::BTreeMap;

use auth_core::{Error, ErrorKind, Id, ObjectRef, Result, check_name};

use crate::account::Columns;
use crate::config::{ObjectConfig, ObjectId, ObjectIds, QueryConfig};
use crate::db::Conn;
use crate::managed;
use crate::scan::{Dialect, List};
use crate::statement::{Kind, Known, Statement, Value};

/// The parameters of an object's parts: `:object` is the only part or the first, `:object1` the first,
/// `:object2` the second.
pub(crate) const PARTS: [&str; 9] =
    ["object1", "object2", "object3", "object4", "object5", "object6", "object7", "object8", "object9"];

/// Everything that a store can ask.
#[derive(Debug)]
pub(crate) struct Schema {
    /// What a person's id is. Where the database does not mix types, a question with another would fail.
    person: Kind,
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
    pub(crate) many: Option<Many>,
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

/// The queries about many objects of a domain at once.
#[derive(Debug)]
pub(crate) struct Many {
    pub(crate) exists: Listing,
    pub(crate) access: Listing,
    pub(crate) any: Option<Listing>,
}

/// A query that returns the ids of a list for which something is so.
#[derive(Debug)]
pub(crate) struct Listing {
    /// By how many ids it asks for: a database prepares each length of its own.
    statements: Vec<(usize, Statement)>,
    /// Which column returns the id.
    pub(crate) id: usize,
}

/// How many objects one statement asks for. What is missing is filled up with the last.
const LENGTHS: [usize; 4] = [1, 8, 64, MOST_LISTED];

/// The most objects that one statement asks for.
pub(crate) const MOST_LISTED: usize = 256;

/// The parameter that stands for many objects.
pub(crate) const OBJECTS: &str = "objects";

impl Listing {
    /// Returns the statement for this many ids, and how many it takes.
    pub(crate) fn for_ids(&self, count: usize) -> Option<(usize, &Statement)> {
        let fits = self.statements.iter().find(|(length, _)| *length >= count);
        fits.map(|(length, statement)| (*length, statement))
    }

    /// Reports whether the statement has a parameter.
    pub(crate) fn uses(&self, parameter: &str) -> bool {
        self.statements.iter().any(|(_, statement)| statement.uses(parameter))
    }
}

/// How an object's id is bound.
#[derive(Debug, Clone)]
enum IdForm {
    /// Parts of these types.
    Parts(Vec<ObjectId>),
    /// All parts as one text; see [`managed::object_name`].
    OneText,
}

/// An object's id as it is bound, part by part.
pub(crate) struct BoundId(Vec<BoundPart>);

enum BoundPart {
    Int(i64),
    Text(String),
    Uuid([u8; 16]),
}

impl BoundId {
    /// Reports whether a part of the id reads so, byte for byte.
    pub(crate) fn is(&self, part: usize, text: &str) -> bool {
        match self.0.get(part) {
            Some(BoundPart::Text(asked)) => asked == text,
            Some(other) => other.spelled() == text,
            None => false,
        }
    }

    /// Returns how the only part of an id reads.
    pub(crate) fn only(&self) -> Option<String> {
        match self.0.as_slice() {
            [only] => Some(only.spelled()),
            _ => None,
        }
    }

    /// Returns the values of the parts.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.0.iter().map(|part| match part {
            BoundPart::Int(number) => Value::Key(*number),
            BoundPart::Text(text) => Value::Text(text),
            BoundPart::Uuid(bytes) => Value::Uuid(*bytes),
        })
    }
}

impl BoundPart {
    fn spelled(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Uuid(bytes) => Id::Uuid(*bytes).to_string(),
        }
    }

    /// Brings a part of an id to its type; nothing if it has not that type.
    fn new(id: &Id, kind: ObjectId) -> Option<Self> {
        match kind {
            ObjectId::Text => Some(Self::Text(id.to_string())),
            ObjectId::Int => whole_number(id).map(Self::Int),
            ObjectId::Uuid => uuid(id).map(Self::Uuid),
        }
    }
}

impl ObjectQueries {
    /// Brings an object's id to the form of the database; nothing if no object can have such an id.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it has another number of parts than the queries.
    pub(crate) fn bind(&self, object: &ObjectRef) -> Result<Option<BoundId>> {
        let kinds = match &self.id {
            IdForm::OneText => {
                return Ok(Some(BoundId(vec![BoundPart::Text(managed::object_name(object.id()))])));
            }
            IdForm::Parts(kinds) => kinds,
        };
        if object.id().len() != kinds.len() {
            let message =
                format!("an object of the domain {} has an id of {} parts", object.domain(), kinds.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let parts = object.id().iter().zip(kinds).map(|(id, kind)| BoundPart::new(id, *kind));
        Ok(parts.collect::<Option<_>>().map(BoundId))
    }
}

/// Reads a UUID in its one usual spelling: in small letters, with its dashes.
fn uuid(id: &Id) -> Option<[u8; 16]> {
    let text = match id {
        Id::Uuid(bytes) => return Some(*bytes),
        Id::Text(text) => text,
        _ => return None,
    };
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    let bytes = number.to_be_bytes();
    (Id::Uuid(bytes).to_string() == **text).then_some(bytes)
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

const LOGIN: (&str, Kind) = ("login", Kind::Text);
const PERSON: (&str, Kind) = ("id", Kind::Any);
const NOW: (&str, Kind) = ("now", Kind::Int);
const MODE: (&str, Kind) = ("mode", Kind::Text);
const DOMAIN: (&str, Kind) = ("domain", Kind::Text);

const ACCOUNT: Known<'_> = &[LOGIN, NOW];
const GROUPS: Known<'_> = &[LOGIN, PERSON, NOW];
const IS_MEMBER: Known<'_> = &[LOGIN, PERSON, ("group", Kind::Text), NOW];
const REPLACE_HASH: Known<'_> =
    &[LOGIN, PERSON, ("old", Kind::Text), ("new", Kind::Text), ("scheme", Kind::Text), NOW];
// The id is another source's, of any type.
const LINK: Known<'_> = &[LOGIN, ("id", Kind::Foreign), ("source", Kind::Text), NOW];

/// What the parts of a domain's ids are bound as.
struct PartKinds<'a>(&'a ObjectIds);

impl PartKinds<'_> {
    fn part(&self, n: usize) -> ObjectId {
        match self.0 {
            ObjectIds::All(kind) => *kind,
            ObjectIds::Each(kinds) => kinds.get(n).copied().unwrap_or_default(),
        }
    }

    fn kind(&self, n: usize) -> Kind {
        match self.part(n) {
            ObjectId::Text => Kind::Text,
            ObjectId::Int => Kind::Int,
            ObjectId::Uuid => Kind::Uuid,
        }
    }

    /// Adds the parameters of an object to those that a query has.
    fn known(&self, own: Known<'static>) -> Vec<(&'static str, Kind)> {
        let parts = PARTS.iter().enumerate().map(|(n, part)| (*part, self.kind(n)));
        own.iter().copied().chain([("object", self.kind(0))]).chain(parts).collect()
    }
}

/// Compiles and prepares queries, one after the other.
struct Preparer<'a> {
    dialect: Dialect,
    conn: &'a mut Conn,
    /// What a person's id is.
    person: Kind,
}

impl Preparer<'_> {
    /// Says what a person's id is.
    fn typed(&self, known: Known<'_>) -> Vec<(&'static str, Kind)> {
        let person = |kind: Kind| if kind == Kind::Any { self.person } else { kind };
        known.iter().map(|(name, kind)| (*name, person(*kind))).collect()
    }

    async fn account(&mut self, text: &str) -> Result<(Statement, Columns)> {
        let statement = Statement::compile(self.dialect, "account", text, ACCOUNT)?;
        let described = self.conn.columns(&statement).await?;
        if !statement.uses("login") {
            return refuse(&statement, "has no :login: it would return everybody");
        }
        let id = described.iter().find(|column| column.name.eq_ignore_ascii_case("id"));
        // Without an id the login is one; what is not told by all databases stays open.
        let without = if self.dialect == Dialect::Postgres { Kind::Text } else { Kind::Any };
        self.person = id.map_or(without, |column| column.kind);
        let names: Vec<String> = described.into_iter().map(|column| column.name).collect();
        let columns = Columns::read(&statement, &names)?;
        Ok((statement, columns))
    }

    async fn prepare(
        &mut self,
        name: &str,
        text: &str,
        known: Known<'_>,
    ) -> Result<(Statement, Vec<String>)> {
        let statement = Statement::compile(self.dialect, name, text, &self.typed(known))?;
        let columns = self.conn.columns(&statement).await?.into_iter().map(|column| column.name).collect();
        Ok((statement, columns))
    }

    /// Prepares a query whose answer is whether there is a row.
    async fn yes_or_no(&mut self, name: &str, text: &str, known: Known<'_>) -> Result<Statement> {
        self.select(name, text, known).await.map(|(statement, _)| statement)
    }

    /// Prepares a query that returns something.
    async fn select(&mut self, name: &str, text: &str, known: Known<'_>) -> Result<(Statement, Vec<String>)> {
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
        known: Known<'_>,
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
        let kinds = PartKinds(&config.id);
        let (plain, with_mode) =
            (kinds.known(&[LOGIN, PERSON, NOW]), kinds.known(&[LOGIN, PERSON, MODE, NOW]));
        let (exists, columns) = self.select(&name("exists"), &config.exists, &kinds.known(&[NOW])).await?;
        let access = self.yes_or_no(&name("access"), &config.access, &with_mode).await?;
        let any = match &config.any {
            Some(any) => Some(self.yes_or_no(&name("any"), any, &plain).await?),
            None => None,
        };
        let count = parts(domain, [Some(&exists), Some(&access), any.as_ref()])?;
        if let ObjectIds::Each(kinds) = &config.id
            && kinds.len() != count
        {
            let message = format!(
                "object.{domain}.id has {} types, and the ids in its queries have {count} parts",
                kinds.len()
            );
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        let many = match (&config.exists_many, &config.access_many) {
            (None, None) => None,
            (Some(exists), Some(access)) if count == 1 => Some(Many {
                exists: self.listing(&name("exists_many"), exists, &[NOW], kinds.kind(0)).await?,
                access: self
                    .listing(&name("access_many"), access, &[LOGIN, PERSON, MODE, NOW], kinds.kind(0))
                    .await?,
                any: None,
            }),
            (Some(_), Some(_)) => {
                let message =
                    format!("object.{domain} has ids of several parts, and can't list many objects");
                return Err(Error::new(ErrorKind::Misconfigured, message));
            }
            _ => {
                let message = format!("object.{domain} needs both `exists_many` and `access_many`, or none");
                return Err(Error::new(ErrorKind::Misconfigured, message));
            }
        };
        let exists = Exists { statement: exists, ids: id_columns(&columns, count) };
        let compared = |part: usize| exists.ids.iter().any(|(_, compared)| *compared == part);
        if self.dialect == Dialect::MySql
            && let Some(part) =
                (0..count).find(|part| kinds.part(*part) == ObjectId::Text && !compared(*part))
        {
            let column = if count == 1 { "id".to_owned() } else { format!("id{}", part + 1) };
            let fault = format!(
                "returns no column `{column}`: this database takes `Plans` for `plans` and `plans ` \
                 in most columns, so what is found is compared with what was asked for"
            );
            return refuse(&exists.statement, &fault);
        }
        let id = IdForm::Parts((0..count).map(|n| kinds.part(n)).collect());
        Ok(ObjectQueries { exists, access, any, many, id })
    }

    /// Prepares a query about many objects.
    async fn listing(&mut self, name: &str, text: &str, own: Known<'_>, kind: Kind) -> Result<Listing> {
        let known: Vec<(&'static str, Kind)> = self.typed(own).into_iter().chain([(OBJECTS, kind)]).collect();
        let mut statements = Vec::with_capacity(LENGTHS.len());
        let mut id = None;
        for length in LENGTHS {
            let list = List { name: OBJECTS, length };
            let statement = Statement::compile_list(self.dialect, name, text, &known, Some(list))?;
            if !statement.uses(OBJECTS) {
                return refuse(&statement, "has no :objects: it would list everything");
            }
            // They differ in nothing but the length of the list.
            if id.is_none() {
                let columns: Vec<String> =
                    self.conn.columns(&statement).await?.into_iter().map(|column| column.name).collect();
                let Some(at) = columns.iter().position(|column| column.eq_ignore_ascii_case("id")) else {
                    let found = format!(
                        "returns no column `id`, but {}: what is found is compared with what was asked for",
                        listed(&columns)
                    );
                    return refuse(&statement, &found);
                };
                id = Some(at);
            }
            statements.push((length, statement));
        }
        Ok(Listing { statements, id: id.unwrap_or(0) })
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
    /// Reports whether a person of this source can have such an id.
    pub(crate) fn may_be(&self, id: &Id) -> bool {
        matches!(
            (self.person, id),
            (Kind::Any, _) | (Kind::Int, Id::Int(_)) | (Kind::Text, Id::Text(_)) | (Kind::Uuid, Id::Uuid(_))
        )
    }

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
        let mut preparer = Preparer { dialect, conn, person: Kind::Any };
        let account = match &query.account {
            Some(text) => Some(preparer.account(text).await?),
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
        let person = preparer.person;
        let objects = Objects::Declared(declared);
        Ok(Self { person, account, groups, is_member, replace_hash, link, objects })
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
        let mut preparer = Preparer { dialect, conn, person: schema.person };
        let kinds = ObjectIds::default();
        let object = PartKinds(&kinds).known(&[DOMAIN, PERSON, MODE]);
        let domain = preparer.yes_or_no("domain", managed::DOMAIN, &[DOMAIN]).await?;
        let queries = ObjectQueries {
            exists: Exists {
                statement: preparer.yes_or_no("exists", managed::EXISTS, &object).await?,
                ids: Vec::new(),
            },
            access: preparer.yes_or_no("access", managed::ACCESS, &object).await?,
            any: Some(preparer.yes_or_no("any", managed::ANY, &object).await?),
            many: Some(Many {
                exists: preparer.listing("exists_many", managed::EXISTS_MANY, &[DOMAIN], Kind::Text).await?,
                access: preparer
                    .listing("access_many", managed::ACCESS_MANY, &[DOMAIN, PERSON, MODE], Kind::Text)
                    .await?,
                any: Some(
                    preparer.listing("any_many", managed::ANY_MANY, &[DOMAIN, PERSON], Kind::Text).await?,
                ),
            }),
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

    #[test]
    fn only_the_usual_spelling_of_a_uuid_is_one() {
        let usual = "0000000a-00ff-0000-0000-000000000001";
        let bytes = uuid(&Id::text(usual)).unwrap();
        assert_eq!(Id::Uuid(bytes).to_string(), usual);
        assert_eq!(uuid(&Id::Uuid(bytes)), Some(bytes));
        for other in [
            "0000000A-00ff-0000-0000-000000000001",
            "0000000a00ff00000000000000000001",
            "{0000000a-00ff-0000-0000-000000000001}",
            "+000000a-00ff-0000-0000-000000000001",
            "0000000a-00ff-0000-0000-00000000000",
            "",
            "-",
        ] {
            assert_eq!(uuid(&Id::text(other)), None, "{other}");
        }
        assert_eq!(uuid(&Id::from(7)), None);
    }
}
