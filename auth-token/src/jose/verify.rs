//! Verifying tokens: nothing is believed before the signature, and little after it.

use std::time::{Duration, SystemTime};

use super::key::VerifyingKey;
use super::{Algorithm, Jwk, JwkSet, Node, Object, Purpose, unbase64};
use crate::access::{Ends, Refusal};

/// The largest number of seconds that a date may be: the last second of the year 9999.
pub const MAX_NUMERIC_DATE: u64 = 253_402_300_799;

/// What a token must be.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who must have made it: `iss`, byte for byte. Unchecked if `None`.
    pub issuer: Option<String>,
    /// For whom it must have been made: `aud` is this, or has it. If `None`, a token that is for anybody in
    /// particular is refused.
    pub audience: Option<String>,
    /// The kinds that are accepted: `typ`, in any case, with or without `application/` in front. Unchecked if `None`.
    pub types: Option<Vec<String>>,
    /// How much clocks may differ.
    pub leeway: Duration,
    /// The claims that must be there; `exp` always must.
    pub required: Vec<String>,
    /// The longest token, in bytes. A longer one is refused before anything of it is read.
    pub max_bytes: usize,
    /// The algorithms that are accepted; those of the keys if `None`.
    pub algorithms: Option<Vec<Algorithm>>,
}

impl Default for Policy {
    /// 30 seconds of leeway, at most 8 KiB, `exp`, and nothing else.
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            types: None,
            leeway: Duration::from_secs(30),
            required: Vec::new(),
            max_bytes: 8192,
            algorithms: None,
        }
    }
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// What it was signed with.
    pub algorithm: Algorithm,
    /// The name of the key.
    pub kid: Option<String>,
    /// All that was signed: the text of one JSON object without doubles.
    pub text: String,
    /// When it ends, without leeway.
    pub expires_at: SystemTime,
}

/// Verifies tokens with a set of keys under a policy.
#[derive(Debug)]
pub struct Verifier {
    policy: Policy,
    keys: Vec<Entry>,
    /// Headers that our own signers write, with what comes of reading them.
    known: Vec<(String, Found)>,
}

#[derive(Debug)]
struct Entry {
    kid: Option<String>,
    /// With which algorithms it verifies; none if it can't be used.
    with: Vec<(Algorithm, VerifyingKey)>,
    fit: bool,
}

/// Which key, and which algorithm of it.
#[derive(Debug, Clone, Copy)]
struct Found {
    key: usize,
    algorithm: usize,
}

/// The dates of a token, since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dates {
    pub(crate) exp: Duration,
    pub(crate) iat: Option<Duration>,
    pub(crate) nbf: Option<Duration>,
}

impl Verifier {
    /// Makes a verifier.
    ///
    /// A key without `alg` is used with those of the accepted algorithms that are for its kind; if none are named, with
    /// the usual one.
    #[must_use]
    pub fn new(set: &JwkSet, policy: Policy) -> Self {
        let mut keys: Vec<Entry> =
            set.keys().iter().map(|key| entry(key, policy.algorithms.as_deref())).collect();
        keys.extend(set.unfit().map(|(kid, _)| Entry {
            kid: kid.map(str::to_owned),
            with: Vec::new(),
            fit: false,
        }));
        Self { policy, keys, known: Vec::new() }
    }

    /// Reads a header once and for all.
    pub(crate) fn know(&mut self, header: &str) {
        if let Ok(found) = self.header(header.as_bytes()) {
            self.known.push((header.to_owned(), found));
        }
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, now: SystemTime, ends: Ends) -> Result<Claims, Refusal> {
        let (found, payload) = self.signed(token)?;
        let text = String::from_utf8(payload).map_err(|_| Refusal::Malformed)?;
        let object = Object::parse(&text).ok_or(Refusal::Malformed)?;
        let dates = check(&self.policy, &object, now, ends)?;
        drop(object);
        let key = self.keys.get(found.key).ok_or(Refusal::UnknownKey)?;
        let (algorithm, _) = key.with.get(found.algorithm).ok_or(Refusal::Alg)?;
        let expires_at = SystemTime::UNIX_EPOCH + dates.exp;
        Ok(Claims { algorithm: *algorithm, kid: key.kid.clone(), text, expires_at })
    }

    /// Checks the signature alone, and returns what was signed, whatever it is. Nothing else of the policy but the
    /// length, the header's rules and the algorithms is applied.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_signature(&self, token: &str) -> Result<Vec<u8>, Refusal> {
        self.signed(token).map(|(_, payload)| payload)
    }

    /// The signature holds: what was signed, and with which key.
    fn signed(&self, token: &str) -> Result<(Found, Vec<u8>), Refusal> {
        if token.len() > self.policy.max_bytes {
            return Err(Refusal::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // No segment has a dot in it, so that there are exactly three.
        let payload = unbase64(payload.as_bytes()).ok_or(Refusal::Malformed)?;
        let signature = unbase64(signature.as_bytes()).ok_or(Refusal::Malformed)?;
        let known = self.known.iter().find(|(own, _)| own == header);
        let found = match known {
            Some((_, found)) => *found,
            None => self.header(header.as_bytes())?,
        };
        let (_, key) = self
            .keys
            .get(found.key)
            .and_then(|key| key.with.get(found.algorithm))
            .ok_or(Refusal::UnknownKey)?;
        if !key.verify(message.as_bytes(), &signature) {
            return Err(Refusal::Signature);
        }
        Ok((found, payload))
    }

    fn header(&self, segment: &[u8]) -> Result<Found, Refusal> {
        let text =
            unbase64(segment).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Refusal::Malformed)?;
        let header = Object::parse(&text).ok_or(Refusal::Malformed)?;
        let (mut alg, mut kid, mut typ, mut extended) = (None, None, None, false);
        for (name, value) in header.iter() {
            let text = || value.text().map(Some).ok_or(Refusal::Malformed);
            match name {
                "alg" => alg = text()?,
                "kid" => kid = text()?,
                "typ" => typ = text()?,
                // No extension is understood. `b64` without `crit` would mean what it says to some and nothing to
                // others, and `zip` is not for signatures.
                "crit" | "b64" | "zip" => extended = true,
                _ => {}
            }
        }
        let alg = alg.ok_or(Refusal::Malformed)?;
        if extended {
            return Err(Refusal::Crit);
        }
        let algorithm = Algorithm::from_name(alg).ok_or(Refusal::Alg)?;
        if self
            .policy
            .algorithms
            .as_ref()
            .is_some_and(|accepted| !accepted.iter().any(|one| one.is(algorithm)))
        {
            return Err(Refusal::Alg);
        }
        let key = match (kid, self.keys.len()) {
            (Some(kid), _) => self.keys.iter().position(|key| key.kid.as_deref() == Some(kid)),
            (None, 1) => Some(0),
            // Which of several it is must be said: none is tried.
            (None, _) => None,
        };
        let (key, entry) = key.and_then(|key| Some((key, self.keys.get(key)?))).ok_or(Refusal::UnknownKey)?;
        if !entry.fit {
            return Err(Refusal::Key);
        }
        let position = entry.with.iter().position(|(own, _)| own.is(algorithm)).ok_or(Refusal::Alg)?;
        if let Some(types) = &self.policy.types {
            let is = |typ: &str| types.iter().any(|own| plain(own).eq_ignore_ascii_case(plain(typ)));
            if !typ.is_some_and(is) {
                return Err(Refusal::Typ);
            }
        }
        Ok(Found { key, algorithm: position })
    }

    /// Verifies a token, and has its claims read by `read`, which is also told the key's position in the set.
    pub(crate) fn read<T>(
        &self,
        token: &str,
        now: SystemTime,
        ends: Ends,
        read: impl FnOnce(&Object<'_>, Dates, usize) -> Result<T, Refusal>,
    ) -> Result<(T, String), Refusal> {
        let (found, payload) = self.signed(token)?;
        let text = String::from_utf8(payload).map_err(|_| Refusal::Malformed)?;
        let object = Object::parse(&text).ok_or(Refusal::Malformed)?;
        let dates = check(&self.policy, &object, now, ends)?;
        let said = read(&object, dates, found.key)?;
        drop(object);
        Ok((said, text))
    }
}

fn entry(key: &Jwk, accepted: Option<&[Algorithm]>) -> Entry {
    let own = [key.algorithm().unwrap_or_else(|| key.key_type().algorithm())];
    let candidates = match (key.algorithm(), accepted) {
        (None, Some(accepted)) => accepted,
        _ => &own,
    };
    let mut with: Vec<(Algorithm, VerifyingKey)> = Vec::with_capacity(1);
    for algorithm in candidates {
        if let (false, Some(verifying)) =
            (with.iter().any(|(own, _)| own.is(*algorithm)), key.verifying(*algorithm))
        {
            with.push((*algorithm, verifying));
        }
    }
    Entry { kid: key.kid().map(str::to_owned), with, fit: key.allows(Purpose::Verify).is_ok() }
}

/// A media type without the part that may be left out.
fn plain(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => typ,
    }
}

/// Checks claims: first that each is of its kind, then that none is missing, then what they say.
fn check(policy: &Policy, claims: &Object<'_>, now: SystemTime, ends: Ends) -> Result<Dates, Refusal> {
    let (mut exp, mut nbf, mut iat) = (None, None, None);
    let (mut issuer, mut audience) = (None, None);
    for (name, value) in claims.iter() {
        match name {
            "exp" => exp = Some(date(value)?),
            "nbf" => nbf = Some(date(value)?),
            "iat" => iat = Some(date(value)?),
            "iss" => issuer = Some(value.text().ok_or(Refusal::ClaimType)?),
            "sub" => {
                value.text().filter(|text| !text.is_empty()).ok_or(Refusal::ClaimType)?;
            }
            "jti" | "scope" => {
                value.text().ok_or(Refusal::ClaimType)?;
            }
            "aud" => {
                let right = match value {
                    Node::Text(_) => true,
                    Node::List(list) => list.iter().all(|one| one.text().is_some()),
                    _ => false,
                };
                if !right {
                    return Err(Refusal::ClaimType);
                }
                audience = Some(value);
            }
            _ => {}
        }
    }
    let exp = exp.ok_or(Refusal::MissingClaim)?;
    if policy.required.iter().any(|name| !claims.has(name)) {
        return Err(Refusal::MissingClaim);
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if ends == Ends::Checked && now >= exp.saturating_add(policy.leeway) {
        return Err(Refusal::Expired);
    }
    if nbf.is_some_and(|nbf| nbf > exp) {
        return Err(Refusal::ClaimType);
    }
    let soon = now.saturating_add(policy.leeway);
    if nbf.is_some_and(|nbf| soon < nbf) || iat.is_some_and(|iat| soon < iat) {
        return Err(Refusal::NotYetValid);
    }
    if let Some(wanted) = &policy.issuer {
        match issuer {
            None => return Err(Refusal::MissingClaim),
            Some(issuer) if issuer != wanted => return Err(Refusal::Issuer),
            Some(_) => {}
        }
    }
    match (&policy.audience, audience) {
        (Some(_), None) => return Err(Refusal::MissingClaim),
        (Some(wanted), Some(audience)) if !is_for(audience, wanted) => return Err(Refusal::Audience),
        (None, Some(_)) => return Err(Refusal::Audience),
        _ => {}
    }
    Ok(Dates { exp, iat, nbf })
}

fn is_for(audience: &Node<'_>, wanted: &str) -> bool {
    match audience {
        Node::List(list) => list.iter().any(|one| one.text() == Some(wanted)),
        one => one.text() == Some(wanted),
    }
}

/// A date of a token, since 1970: a number from 0 to the end of the year 9999.
pub(crate) fn date(value: &Node<'_>) -> Result<Duration, Refusal> {
    let date = match value {
        Node::Whole(seconds) => Some(Duration::from_secs(*seconds)),
        // Anything that is no length of time (negative, endless, too long for its type) is no date either.
        Node::Number(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        _ => None,
    };
    date.filter(|date| *date <= Duration::from_secs(MAX_NUMERIC_DATE)).ok_or(Refusal::ClaimType)
}
