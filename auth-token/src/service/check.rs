//! The check of access tokens: from memory, or in full.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use auth_core::{
    Ctx, Error, ErrorKind, FamilyId, Fingerprint, GroupSet, Id, Issued, Login, Lookup, Millis, Principal,
    Reject, Result, SourceInfo, Step, TokenCache, TokenId, TokenMark, TokenState, Watch,
};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use super::{Checked, Invalid, Standing, TokenService, millis};
use crate::{Ends, Refusal, Valid};

/// The longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 8_192;

impl TokenService {
    /// Tells whether an access token is good, and whose it is: from memory, or in full.
    ///
    /// # Errors
    /// Any kind: nobody could find out whether it was revoked, or whether its account may log in.
    pub async fn check(&self, ctx: &Ctx, token: &str) -> Result<Checked> {
        if token.len() > MAX_TOKEN_BYTES {
            return Ok(invalid(ctx, Invalid::Refused(Refusal::TooLarge)));
        }
        let id = self.cache_id(token);
        if let Some(state) = self.recall(ctx, &id) {
            return Ok(Checked::Valid(state));
        }
        // Boxed, so that what memory answers does not carry its room around.
        Box::pin(self.check_in_full(ctx, token, &id)).await
    }

    /// Answers from memory alone, without waiting.
    #[must_use]
    pub fn peek(&self, ctx: &Ctx, token: &str) -> Option<Arc<TokenState>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        self.recall(ctx, &self.cache_id(token))
    }

    fn recall(&self, ctx: &Ctx, id: &TokenId) -> Option<Arc<TokenState>> {
        ctx.trying(|ctx| self.parts.cache.peek_token(ctx, id)).and_then(Lookup::found)
    }

    async fn check_in_full(&self, ctx: &Ctx, token: &str, id: &TokenId) -> Result<Checked> {
        let invalid = |why: Invalid| Ok(invalid(ctx, why));
        // Verified before it is looked for elsewhere: what is forged costs no round trip.
        let wall = self.parts.clock.wall();
        let valid = match self.parts.format.verify(token, wall, Ends::Checked) {
            Ok(valid) => valid,
            // Not knowing is no "no".
            Err(Refusal::Unavailable) => {
                return Err(Error::new(ErrorKind::Unavailable, "there is no key to check tokens with"));
            }
            Err(refusal) => return invalid(Invalid::Refused(refusal)),
        };
        let ends = valid.expires_at + self.settings.leeway;
        // From when it was issued, where that is known, else from now.
        let from = valid.issued_ms.map_or(wall, |issued| wall.min(super::at(issued)));
        if valid.expires_at > from + self.settings.longest + self.settings.leeway {
            return invalid(Invalid::TooLong);
        }
        // A cache that fails is a miss.
        if let Ok(Lookup::Found(state)) = self.parts.cache.get(ctx, id).await {
            return Ok(Checked::Valid(state));
        }
        let watch = self.parts.fence.watch(self.parts.clock.now());
        let Ok(login) = Login::parse(self.parts.realm.id(), &valid.login) else {
            return invalid(Invalid::Account(Reject::UnknownUser));
        };
        let family = valid.family.map(FamilyId::new);
        let facts = match family {
            Some(family) => self.facts(ctx, family).await?,
            None => None,
        };
        let standing = match &facts {
            // Whoever has the login by now may not be who the token was given to.
            Some(facts) if facts.login == login => self.standing_of(ctx, facts).await?,
            Some(_) => Standing::Bad(Reject::UnknownUser),
            None => {
                // Who has it where no source can tell: whoever it was issued to.
                let source = SourceInfo::new("token", Fingerprint::default());
                let somebody = Principal::found(&source, &login, login.as_str(), Id::text(login.as_str()));
                self.standing(ctx, &login, somebody.as_ref()).await?
            }
        };
        let account = match standing {
            Standing::Good(account) => account,
            Standing::Bad(reject) => return invalid(Invalid::Account(reject)),
        };
        let now = millis_of(wall);
        // Where it does not say when it was issued: as early as it may have been.
        let issued = valid
            .issued_ms
            .unwrap_or_else(|| millis_of(valid.expires_at).saturating_sub(millis(self.settings.longest)));
        let issued = Issued {
            mark: mark(self.name(), token, &valid),
            family,
            login: login.as_str(),
            at: Some(issued),
        };
        if self.parts.families.is_revoked(ctx, self.name(), &issued, now).await? {
            return invalid(Invalid::Revoked);
        }
        self.seen(ctx, &valid, now).await;
        let state = Arc::new(TokenState {
            principal: account.principal().clone(),
            scopes: valid.scopes.iter().map(String::as_str).collect::<GroupSet>(),
            expires_at: ends,
            claims: valid.claims,
        });
        let left = ends.duration_since(wall).unwrap_or_default();
        // A cache that fails keeps nothing.
        let _kept = self.parts.cache.put(ctx, id, &state, left, watch).await;
        ctx.note(|| Step::new("token", "valid"));
        Ok(Checked::Valid(state))
    }

    /// Returns the session that a good access token came with.
    #[must_use]
    pub fn family_of(&self, state: &TokenState) -> Option<FamilyId> {
        let claims: Value = serde_json::from_str(state.claims.as_deref()?).ok()?;
        // Its name in each of the formats.
        ["sid", "rfid"].iter().find_map(|name| claims.get(name)?.as_str()?.parse().ok())
    }

    /// The key of a token in the cache: a keyed hash, the same in every process with the same secret.
    fn cache_id(&self, token: &str) -> TokenId {
        TokenId::new(*blake3::keyed_hash(&self.cache_key, token.as_bytes()).as_bytes())
    }

    /// Reads a token of which only the signature need hold, and whose it is.
    pub(super) fn authentic(&self, token: &str) -> Option<(Valid, Login)> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let valid = self.parts.format.verify(token, self.parts.clock.wall(), Ends::Ignored).ok()?;
        let login = Login::parse(self.parts.realm.id(), &valid.login).ok()?;
        Some((valid, login))
    }

    /// Notes that the newest token of a session has arrived, so that the one before is not taken again.
    async fn seen(&self, ctx: &Ctx, valid: &Valid, now: Millis) {
        let (Some(family), Some(generation)) = (valid.family.map(FamilyId::new), valid.generation) else {
            return;
        };
        let recent =
            valid.issued_ms.is_none_or(|issued| now.abs_diff(issued) < millis(self.settings.grace) + 1_000);
        if generation > 1
            && recent
            && self.parts.families.confirm(ctx, self.name(), family, generation).await.is_err()
        {
            // The token is good all the same; the window just stays open until it closes by itself.
            ctx.note(|| Step::new("token", "its use could not be noted"));
        }
    }
}

fn invalid(ctx: &Ctx, why: Invalid) -> Checked {
    ctx.note(|| Step::new("token", why.as_str()));
    Checked::Invalid(why)
}

/// What a token is revoked by: its `jti`, or what is signed of it, never its signature, which may have several spellings.
pub(super) fn mark(realm: &str, token: &str, valid: &Valid) -> TokenMark {
    let mut hash = Context::new(&SHA256);
    let mut part = |text: &[u8]| {
        hash.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    };
    part(b"gatepost token mark 1");
    part(realm.as_bytes());
    match &valid.id {
        Some(id) => {
            part(b"jti");
            part(id.as_bytes());
        }
        None => {
            part(b"text");
            let signed = token.rfind(['.', ':']).and_then(|at| token.get(..at)).unwrap_or(token);
            part(signed.as_bytes());
        }
    }
    let digest = hash.finish();
    let mut bytes = [0; 32];
    for (byte, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *byte = *from;
    }
    TokenMark::new(bytes)
}

/// Milliseconds since 1970; what is before is 1970.
pub(super) fn millis_of(time: SystemTime) -> Millis {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTokenCache;

#[async_trait]
impl TokenCache for NoTokenCache {
    async fn get(&self, _ctx: &Ctx, _id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        Ok(Lookup::NotFound)
    }

    async fn put(
        &self,
        _ctx: &Ctx,
        _id: &TokenId,
        _state: &Arc<TokenState>,
        _ttl: Duration,
        _watch: Watch,
    ) -> Result<()> {
        Ok(())
    }
}
