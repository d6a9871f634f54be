//! Keys as JSON (RFC 7517, 7518, 8037): read with every check there is, written, made.

use std::borrow::Cow;
use std::fmt;

use auth_core::{Error, ErrorKind, Result};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPairComponents, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::alg::sha256;
use super::key::{SigningKey, VerifyingKey};
use super::{Algorithm, KeyType, Node, Object, base64, pem, unbase64};

/// The longest text of a key: one of RSA with 8,192 bits has about 6 KiB.
const MAX_TEXT: usize = 32 * 1024;

/// What a key is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be kept.
    Import,
    /// To verify signatures: `use` and `key_ops` must let it.
    Verify,
    /// To sign: there must be a private part, and `use` and `key_ops` must let it.
    Sign,
}

/// What is done with secrets of HMAC that are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// A secret is at least as long as the hash that it is used with (RFC 7518, 3.2).
    Refused,
    /// 32 bytes are enough, whatever the hash.
    From32,
    /// Any that is not empty is taken: for what others have set up.
    Accepted,
}

/// What a key may be used for, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    verify: bool,
    sign: bool,
}

/// A number or a coordinate that everybody may know.
pub(super) type Public = Vec<u8>;
/// One that nobody may know.
pub(super) type Private = Zeroizing<Vec<u8>>;

/// The numbers of a key.
#[derive(Clone)]
pub(super) enum Material {
    Oct(Private),
    Okp { x: Public, d: Option<Private> },
    Ec { curve: KeyType, x: Public, y: Public, d: Option<Private> },
    Rsa { n: Public, e: Public, private: RsaPart },
}

/// How much of an RSA key there is besides what is public.
#[derive(Clone)]
pub(super) enum RsaPart {
    Public,
    /// Only `d`, which may be (RFC 7518, 6.3.2): it is kept, but nothing is signed without the others.
    Bare(Private),
    Private(Box<RsaPrivate>),
}

/// The private numbers of an RSA key.
#[derive(Clone)]
pub(super) struct RsaPrivate {
    pub(super) d: Private,
    pub(super) p: Private,
    pub(super) q: Private,
    pub(super) dp: Private,
    pub(super) dq: Private,
    pub(super) qi: Private,
}

/// A key of one of the kinds that tokens are signed with.
///
/// What there is has passed every check: lengths to the byte, a point that is on its curve, a modulus of 2,048 to 8,192
/// bits, a private part that belongs to the public one, an `alg` that fits. Private parts are wiped when dropped, and
/// nothing of them is printed.
///
/// ```
/// use auth_token::{Jwk, KeyType, Short};
/// let key = Jwk::generate(KeyType::Ed25519, None)?;
/// assert_eq!(key.kid(), Some(key.thumbprint().as_str()));
/// let public = Jwk::parse(&key.public().unwrap().to_json(), Short::Refused)?;
/// assert!(!public.is_private());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Jwk {
    kid: Option<String>,
    alg: Option<Algorithm>,
    /// `alg` of a key that is for encryption: kept, never used.
    foreign: Option<String>,
    declared_use: Option<String>,
    key_ops: Option<Vec<String>>,
    usage: Usage,
    /// What else stands in a public key, such as its certificates: handed on, never looked at.
    others: Map<String, Value>,
    material: Material,
}

/// The members that are known.
const KNOWN: [&str; 18] = [
    "kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "d", "k", "n", "e", "p", "q", "dp", "dq", "qi",
    "oth",
];

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

impl Jwk {
    /// Reads a key.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) with what is wrong about it, and nothing of what stands in it.
    pub fn parse(text: &str, short: Short) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(invalid("the key is longer than 32 KiB"));
        }
        let object =
            Object::parse(text).ok_or_else(|| invalid("a key is one JSON object, with no name twice"))?;
        let mut key = Self::from_object(&object, short)?;
        if !key.is_private() && object.iter().any(|(name, _)| !KNOWN.contains(&name)) {
            key.others = serde_json::from_str(text).unwrap_or_default();
            key.others.retain(|name, _| !KNOWN.contains(&name.as_str()));
        }
        Ok(key)
    }

    pub(crate) fn from_object(object: &Object<'_>, short: Short) -> Result<Self> {
        let fields = Fields(object);
        let kty = fields.text("kty")?.ok_or_else(|| invalid("kty is missing"))?;
        let kid = fields.text("kid")?.map(str::to_owned);
        let declared_use = fields.text("use")?.map(str::to_owned);
        let key_ops = fields.key_ops()?;
        let usage = usage(declared_use.as_deref(), key_ops.as_deref())?;
        let (alg, foreign) = match fields.text("alg")? {
            None => (None, None),
            Some(name) => match Algorithm::from_name(name) {
                Some(algorithm) => (Some(algorithm), None),
                None if declared_use.as_deref() == Some("enc") => (None, Some(name.to_owned())),
                None => return Err(invalid("alg is none that signatures are made with")),
            },
        };
        let material = match kty {
            // How long a secret for encryption is, is not for us to say.
            "oct" => fields.oct(alg, if foreign.is_some() { Short::Accepted } else { short })?,
            "OKP" => fields.okp()?,
            "EC" => fields.ec()?,
            "RSA" => fields.rsa()?,
            _ => return Err(invalid("kty is none of oct, OKP, EC and RSA")),
        };
        let key = Self { kid, alg, foreign, declared_use, key_ops, usage, others: Map::new(), material };
        if alg.is_some_and(|algorithm| algorithm.key_type() != key.key_type()) {
            return Err(invalid("alg needs a key of another kind"));
        }
        key.check()?;
        Ok(key)
    }

    /// Makes a key from random bits; `algorithm` decides how long a secret is, and stands in `alg`.
    ///
    /// A secret has no other members than `k` and `kty` unless an algorithm is named; the others have `kid` (their
    /// thumbprint; of a secret a random text), `alg` and `use`. RSA has 2,048 bits; [`generate_rsa`](Self::generate_rsa) makes longer ones.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the algorithm needs a key of another kind;
    /// [`Unavailable`](ErrorKind::Unavailable) if the system has no random bits.
    pub fn generate(kind: KeyType, algorithm: Option<Algorithm>) -> Result<Self> {
        let no_random = || Error::new(ErrorKind::Unavailable, "no key could be made");
        let material = match kind {
            KeyType::Oct => {
                let length = algorithm.map_or(32, Algorithm::secret_bytes);
                Material::Oct(random(length)?)
            }
            KeyType::Ed25519 => {
                let seed = random(32)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| no_random())?;
                Material::Okp { x: pair.public_key().as_ref().to_vec(), d: Some(seed) }
            }
            KeyType::Rsa => return Self::generate_rsa(2048, algorithm),
            KeyType::P256 | KeyType::P384 | KeyType::P521 => {
                let (_, signing) = kind.algorithm().ecdsa().ok_or_else(no_random)?;
                let pair = EcdsaKeyPair::generate(signing).map_err(|_| no_random())?;
                pem::of_ec(kind, &pair).ok_or_else(no_random)?
            }
        };
        Self::made(material, algorithm)
    }

    /// Makes an RSA key of 2,048, 3,072, 4,096 or 8,192 bits; see [`generate`](Self::generate).
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and [`Invalid`](ErrorKind::Invalid) for any other number of bits.
    pub fn generate_rsa(bits: u32, algorithm: Option<Algorithm>) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => return Err(invalid("an RSA key has 2048, 3072, 4096 or 8192 bits")),
        };
        let no_random = || Error::new(ErrorKind::Unavailable, "no key could be made");
        let pair = RsaKeyPair::generate(size).map_err(|_| no_random())?;
        let pkcs8 = pair.as_der().map_err(|_| no_random())?;
        Self::made(pem::rsa_of_pkcs8(pkcs8.as_ref()).ok_or_else(no_random)?, algorithm)
    }

    fn made(material: Material, algorithm: Option<Algorithm>) -> Result<Self> {
        let mut key = Self::plain(material, None);
        if algorithm.is_some_and(|algorithm| algorithm.key_type() != key.key_type()) {
            return Err(invalid("the algorithm needs a key of another kind"));
        }
        if !key.key_type().is_symmetric() || algorithm.is_some() {
            // The thumbprint of a secret would tell a hash of it to everybody who sees a token.
            let symmetric = key.key_type().is_symmetric();
            key.kid = Some(if symmetric { base64(&random(16)?) } else { key.thumbprint() });
            key.alg = Some(algorithm.unwrap_or_else(|| key.key_type().algorithm()));
            key.declared_use = Some("sig".to_owned());
        }
        key.check()?;
        Ok(key)
    }

    /// Makes a key of a shared secret, for HMAC. Its bytes are the key as they are.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it is too short.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm, short: Short) -> Result<Self> {
        if !algorithm.key_type().is_symmetric() {
            return Err(invalid("the algorithm needs a key of another kind"));
        }
        long_enough(secret.len(), Some(algorithm), short)?;
        Ok(Self::plain(Material::Oct(Zeroizing::new(secret.to_vec())), Some(algorithm)))
    }

    /// A key that says nothing about itself.
    fn plain(material: Material, alg: Option<Algorithm>) -> Self {
        Self {
            kid: None,
            alg,
            foreign: None,
            declared_use: None,
            key_ops: None,
            usage: Usage { verify: true, sign: true },
            others: Map::new(),
            material,
        }
    }

    /// Reads a key in PEM: PKCS#8, SPKI, PKCS#1 or SEC 1. It has no `kid` and no `alg`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) with what is wrong about it.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(invalid("the key is longer than 32 KiB"));
        }
        let (label, der) = pem::decode(text).ok_or_else(|| invalid("this is no PEM, or more than one"))?;
        let material = pem::material(&label, &der).ok_or_else(|| {
            invalid("of PEM only keys are read: RSA, Ed25519, and EC on P-256, P-384 and P-521")
        })?;
        // Written and read, so that it passes the checks that every other key passes.
        Self::parse(&Self::plain(material, None).to_json(), Short::Refused)
    }

    /// Returns the name that tokens call it by.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Gives it a name.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Returns the one algorithm that it says it is for.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.alg
    }

    /// Returns what kind of key it is.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match &self.material {
            Material::Oct(_) => KeyType::Oct,
            Material::Okp { .. } => KeyType::Ed25519,
            Material::Ec { curve, .. } => *curve,
            Material::Rsa { .. } => KeyType::Rsa,
        }
    }

    /// Reports whether it can sign: it is a secret, or has a private part.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match &self.material {
            Material::Oct(_) => true,
            Material::Okp { d, .. } | Material::Ec { d, .. } => d.is_some(),
            Material::Rsa { private, .. } => !matches!(private, RsaPart::Public),
        }
    }

    /// Reports whether it is an RSA key with `d` alone.
    fn is_bare(&self) -> bool {
        matches!(self.material, Material::Rsa { private: RsaPart::Bare(_), .. })
    }

    /// Reports whether it may be used so.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) with the reason if not.
    pub fn allows(&self, purpose: Purpose) -> Result<()> {
        match purpose {
            Purpose::Import => Ok(()),
            Purpose::Verify if !self.usage.verify => Err(invalid("use or key_ops do not let it verify")),
            Purpose::Verify => Ok(()),
            Purpose::Sign if !self.is_private() => Err(invalid("there is no private part to sign with")),
            Purpose::Sign if self.is_bare() => {
                Err(invalid("to sign with RSA it takes p, q, dp, dq and qi too"))
            }
            Purpose::Sign if !self.usage.sign => Err(invalid("use or key_ops do not let it sign")),
            Purpose::Sign => Ok(()),
        }
    }

    /// Returns the public half; `None` for a secret, which has none.
    #[must_use]
    pub fn public(&self) -> Option<Self> {
        let material = match &self.material {
            Material::Oct(_) => return None,
            Material::Okp { x, .. } => Material::Okp { x: x.clone(), d: None },
            Material::Ec { curve, x, y, .. } => {
                Material::Ec { curve: *curve, x: x.clone(), y: y.clone(), d: None }
            }
            Material::Rsa { n, e, .. } => {
                Material::Rsa { n: n.clone(), e: e.clone(), private: RsaPart::Public }
            }
        };
        // What the private half does the public half undoes.
        let key_ops = self.key_ops.as_ref().map(|ops| {
            let ops = ops.iter().map(|op| if op == "sign" { "verify" } else { op.as_str() });
            let mut public: Vec<String> = Vec::new();
            for op in ops {
                if !public.iter().any(|other| other == op) {
                    public.push(op.to_owned());
                }
            }
            public
        });
        let usage = Usage { verify: self.usage.verify || self.usage.sign, sign: false };
        Some(Self {
            kid: self.kid.clone(),
            alg: self.alg,
            foreign: self.foreign.clone(),
            declared_use: self.declared_use.clone(),
            key_ops,
            usage,
            others: self.others.clone(),
            material,
        })
    }

    /// Returns the thumbprint of RFC 7638 with SHA-256, which is the same for both halves.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let mut members: Vec<(&str, Cow<'_, str>)> = vec![("kty", self.key_type().kty().into())];
        members.extend(self.key_type().crv().map(|crv| ("crv", crv.into())));
        let secret;
        match &self.material {
            Material::Oct(k) => {
                secret = Zeroizing::new(base64(k));
                members.push(("k", secret.as_str().into()));
            }
            Material::Okp { x, .. } => members.push(("x", base64(x).into())),
            Material::Ec { x, y, .. } => members.extend([("x", base64(x).into()), ("y", base64(y).into())]),
            Material::Rsa { n, e, .. } => members.extend([("e", base64(e).into()), ("n", base64(n).into())]),
        }
        base64(sha256(written(members).as_bytes()).as_ref())
    }

    /// Writes it as JSON in one line, private part and all, texts in alphabetical order.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let text = |bytes: &[u8]| Zeroizing::new(base64(bytes));
        let mut parts: Vec<(&str, Zeroizing<String>)> = Vec::new();
        match &self.material {
            Material::Oct(k) => parts.push(("k", text(k))),
            Material::Okp { x, d } => {
                parts.push(("x", text(x)));
                parts.extend(d.as_ref().map(|d| ("d", text(d))));
            }
            Material::Ec { x, y, d, .. } => {
                parts.extend([("x", text(x)), ("y", text(y))]);
                parts.extend(d.as_ref().map(|d| ("d", text(d))));
            }
            Material::Rsa { n, e, private } => {
                parts.extend([("n", text(n)), ("e", text(e))]);
                match private {
                    RsaPart::Public => {}
                    RsaPart::Bare(d) => parts.push(("d", text(d))),
                    RsaPart::Private(private) => {
                        let RsaPrivate { d, p, q, dp, dq, qi } = private.as_ref();
                        for (name, part) in [("d", d), ("p", p), ("q", q), ("dp", dp), ("dq", dq), ("qi", qi)]
                        {
                            parts.push((name, text(part)));
                        }
                    }
                }
            }
        }
        let mut members: Vec<(&str, Cow<'_, str>)> =
            parts.iter().map(|(name, part)| (*name, part.as_str().into())).collect();
        members.push(("kty", self.key_type().kty().into()));
        members.extend(self.key_type().crv().map(|crv| ("crv", crv.into())));
        members.extend(self.kid.as_deref().map(|kid| ("kid", kid.into())));
        members.extend(self.alg.map(|algorithm| ("alg", algorithm.name().into())));
        members.extend(self.foreign.as_deref().map(|name| ("alg", name.into())));
        members.extend(self.declared_use.as_deref().map(|declared| ("use", declared.into())));
        let mut written = written(members);
        // Members that are no texts come last.
        let ops = self.key_ops.iter().map(|ops| ("key_ops", Value::from(ops.as_slice())));
        for (name, value) in ops.chain(self.others.iter().map(|(name, value)| (name.as_str(), value.clone())))
        {
            written.pop();
            written.push_str(&format!(",{}:{value}}}", quoted(name)));
        }
        written
    }

    /// What it verifies with this algorithm.
    pub(crate) fn verifying(&self, algorithm: Algorithm) -> Option<VerifyingKey> {
        if self.alg.is_some_and(|own| !own.is(algorithm)) || algorithm.key_type() != self.key_type() {
            return None;
        }
        let public = |key: ParsedPublicKey| VerifyingKey::Public(Box::new(key));
        match &self.material {
            Material::Oct(k) => Some(VerifyingKey::Secret(Box::new(hmac::Key::new(algorithm.hmac()?, k)))),
            Material::Okp { x, .. } => ParsedPublicKey::new(&signature::ED25519, x).ok().map(public),
            Material::Ec { x, y, .. } => {
                ParsedPublicKey::new(algorithm.ecdsa()?.0, uncompressed(x, y)).ok().map(public)
            }
            Material::Rsa { n, e, .. } => {
                let components = RsaPublicKeyComponents { n, e };
                components.to_parsed_public_key(algorithm.rsa()?.0).ok().map(public)
            }
        }
    }

    /// What it signs with.
    pub(crate) fn signing(&self, algorithm: Algorithm) -> Option<SigningKey> {
        if self.alg.is_some_and(|own| !own.is(algorithm)) || algorithm.key_type() != self.key_type() {
            return None;
        }
        match &self.material {
            Material::Oct(k) => Some(SigningKey::Secret(Box::new(hmac::Key::new(algorithm.hmac()?, k)))),
            Material::Okp { x, d } => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(d.as_ref()?, x).ok()?;
                Some(SigningKey::Ed25519(Box::new(pair)))
            }
            Material::Ec { x, y, d, .. } => {
                let signing = algorithm.ecdsa()?.1;
                let point = uncompressed(x, y);
                let pair =
                    EcdsaKeyPair::from_private_key_and_public_key(signing, d.as_ref()?, &point).ok()?;
                Some(SigningKey::Ecdsa(Box::new(pair)))
            }
            Material::Rsa { n, e, private } => {
                let RsaPart::Private(private) = private else { return None };
                let RsaPrivate { d, p, q, dp, dq, qi } = private.as_ref();
                let components = KeyPairComponents {
                    public_key: RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
                    d: d.as_slice(),
                    p: p.as_slice(),
                    q: q.as_slice(),
                    dP: dp.as_slice(),
                    dQ: dq.as_slice(),
                    qInv: qi.as_slice(),
                };
                let pair = RsaKeyPair::from_components(&components).ok()?;
                Some(SigningKey::Rsa(Box::new(pair), algorithm.rsa()?.1))
            }
        }
    }

    /// Has the library parse both halves, so that a key that is there can be used.
    fn check(&self) -> Result<()> {
        let algorithm = self.alg.unwrap_or_else(|| self.key_type().algorithm());
        if self.verifying(algorithm).is_none() {
            return Err(invalid(
                "the public part is no key: its point is not on the curve, or its numbers can't be",
            ));
        }
        if self.is_private() && !self.is_bare() && self.signing(algorithm).is_none() {
            return Err(invalid("the private part is no key, or does not belong to the public part"));
        }
        Ok(())
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk")
            .field("kty", &self.key_type())
            .field("kid", &self.kid)
            .field("alg", &self.alg)
            .field("private", &self.is_private())
            .finish_non_exhaustive()
    }
}

/// The members of an object that is to be a key.
struct Fields<'a>(&'a Object<'a>);

impl<'a> Fields<'a> {
    fn text(&self, name: &'static str) -> Result<Option<&'a str>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(_) => Err(invalid("a member that must be a string is none").with("member", name)),
        }
    }

    fn key_ops(&self) -> Result<Option<Vec<String>>> {
        let wrong = || invalid("key_ops is a list of different strings");
        let list = match self.0.get("key_ops") {
            None => return Ok(None),
            Some(Node::List(list)) => list,
            Some(_) => return Err(wrong()),
        };
        let mut ops: Vec<String> = Vec::with_capacity(list.len().min(8));
        for op in list {
            let op = op.text().filter(|op| ops.len() < 16 && !ops.iter().any(|other| other == op));
            ops.push(op.ok_or_else(wrong)?.to_owned());
        }
        Ok(Some(ops))
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = unbase64(text.as_bytes());
        let bytes =
            bytes.ok_or_else(|| invalid("a member is no base64url without padding").with("member", name))?;
        Ok(Some(bytes))
    }

    fn public(&self, name: &'static str) -> Result<Vec<u8>> {
        self.bytes(name)?.ok_or_else(|| invalid("a member is missing").with("member", name))
    }

    fn private(&self, name: &'static str) -> Result<Option<Private>> {
        Ok(self.bytes(name)?.map(Zeroizing::new))
    }

    fn none_of(&self, names: &[&'static str]) -> Result<()> {
        match names.iter().find(|name| self.0.has(name)) {
            Some(name) => Err(invalid("a member does not belong to this kind of key").with("member", name)),
            None => Ok(()),
        }
    }

    fn oct(&self, alg: Option<Algorithm>, short: Short) -> Result<Material> {
        self.none_of(&["d", "p", "q", "dp", "dq", "qi", "oth", "n", "e", "x", "y", "crv"])?;
        let k = self.private("k")?.ok_or_else(|| invalid("a member is missing").with("member", "k"))?;
        long_enough(k.len(), alg, short)?;
        Ok(Material::Oct(k))
    }

    fn okp(&self) -> Result<Material> {
        self.none_of(&["k", "p", "q", "dp", "dq", "qi", "oth", "n", "e", "y"])?;
        if self.text("crv")? != Some("Ed25519") {
            return Err(invalid("crv is not Ed25519"));
        }
        let (x, d) = (self.public("x")?, self.private("d")?);
        if x.len() != 32 || d.as_ref().is_some_and(|d| d.len() != 32) {
            return Err(invalid("both parts of an Ed25519 key have 32 bytes"));
        }
        if of_small_order(&x) {
            return Err(invalid("with this public key anything has a signature"));
        }
        Ok(Material::Okp { x, d })
    }

    fn ec(&self) -> Result<Material> {
        self.none_of(&["k", "p", "q", "dp", "dq", "qi", "oth", "n", "e"])?;
        let curves = [KeyType::P256, KeyType::P384, KeyType::P521];
        let crv = self.text("crv")?;
        let curve = curves.into_iter().find(|curve| curve.crv() == crv);
        let curve = curve.ok_or_else(|| invalid("crv is none of P-256, P-384 and P-521"))?;
        let (x, y, d) = (self.public("x")?, self.public("y")?, self.private("d")?);
        let length = curve.field_bytes();
        if x.len() != length || y.len() != length || d.as_ref().is_some_and(|d| d.len() != length) {
            return Err(invalid("a part of the key has not the length of its curve"));
        }
        Ok(Material::Ec { curve, x, y, d })
    }

    fn rsa(&self) -> Result<Material> {
        self.none_of(&["k", "x", "y", "crv", "oth"])?;
        let (n, e) = (self.public("n")?, self.public("e")?);
        if [&n, &e].into_iter().any(|number| number.first().is_none_or(|first| *first == 0)) {
            return Err(invalid("n and e have no zero in front"));
        }
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(invalid("an RSA key has 2048 to 8192 bits"));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        if !odd(&n) || !odd(&e) || e == [1] || e.len() > 5 {
            return Err(invalid("n is odd; e is odd, from 3, and has at most 33 bits"));
        }
        let d = self.private("d")?;
        let mut parts = Vec::with_capacity(5);
        for name in ["p", "q", "dp", "dq", "qi"] {
            parts.extend(self.private(name)?);
        }
        let private = match (d, <[Private; 5]>::try_from(parts)) {
            (Some(d), Ok([p, q, dp, dq, qi])) => {
                RsaPart::Private(Box::new(RsaPrivate { d, p, q, dp, dq, qi }))
            }
            (None, Err(parts)) if parts.is_empty() => RsaPart::Public,
            // As wide as n at most, so that nothing else hides in it.
            (Some(d), Err(parts)) if parts.is_empty() && (1..=n.len()).contains(&d.len()) => RsaPart::Bare(d),
            _ => return Err(invalid("a private RSA key has d, or d, p, q, dp, dq and qi")),
        };
        Ok(Material::Rsa { n, e, private })
    }
}

fn usage(declared: Option<&str>, ops: Option<&[String]>) -> Result<Usage> {
    let by_use = declared.is_none_or(|declared| declared == "sig");
    let Some(ops) = ops else { return Ok(Usage { verify: by_use, sign: by_use }) };
    let has = |name: &str| ops.iter().any(|op| op == name);
    let for_signatures = has("sign") || has("verify");
    let for_encryption = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"].map(has);
    let conflict = match declared {
        Some("sig") => for_encryption.contains(&true),
        Some("enc") => for_signatures,
        _ => false,
    };
    if conflict {
        return Err(invalid("use and key_ops contradict each other"));
    }
    Ok(Usage { verify: by_use && for_signatures, sign: by_use && has("sign") })
}

fn long_enough(bytes: usize, alg: Option<Algorithm>, short: Short) -> Result<()> {
    let least = match short {
        Short::Refused => alg.map_or(32, Algorithm::secret_bytes),
        Short::From32 => 32,
        Short::Accepted => 1,
    };
    if bytes < least {
        return Err(invalid("the secret is too short").with("bytes", bytes).with("least", least));
    }
    Ok(())
}

/// Reports whether an Ed25519 public key is one of the few points with which anybody can sign anything.
fn of_small_order(x: &[u8]) -> bool {
    /// The y-coordinates of the points of order 1, 2, 4 and 8, some of them in two spellings, without the sign bit.
    const BAD: [[u8; 32]; 7] = [
        hex("0000000000000000000000000000000000000000000000000000000000000000"),
        hex("0100000000000000000000000000000000000000000000000000000000000000"),
        hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let Ok(mut y) = <[u8; 32]>::try_from(x) else { return false };
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    BAD.contains(&y)
}

/// 32 bytes that are written in hexadecimal, at compile time.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn hex(text: &str) -> [u8; 32] {
    const fn digit(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    let (text, mut bytes, mut at) = (text.as_bytes(), [0; 32], 0);
    while at < 32 {
        bytes[at] = digit(text[2 * at]) * 16 + digit(text[2 * at + 1]);
        at += 1;
    }
    bytes
}

fn random(length: usize) -> Result<Private> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the system has no random bits").because(error)
    })?;
    Ok(bytes)
}

fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// An object of strings in one line, in alphabetical order.
fn written(mut members: Vec<(&str, Cow<'_, str>)>) -> Zeroizing<String> {
    members.sort_unstable_by_key(|(name, _)| *name);
    // Long enough, so that no part is left behind where the text would have grown.
    let length = members.iter().map(|(name, value)| name.len() + 6 * value.len() + 8).sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    for (at, (name, value)) in members.iter().enumerate() {
        text.push_str(if at == 0 { "{\"" } else { ",\"" });
        text.push_str(name);
        text.push_str("\":");
        text.push_str(&Zeroizing::new(quoted(value)));
    }
    text.push('}');
    text
}
