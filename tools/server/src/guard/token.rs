//! The token that requests from beyond this machine need, the sessions that a browser gets for it, and the
//! tokens of pages.

use crate::{problem::Problem, state::Server};
use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    collections::VecDeque,
    fmt, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use subtle::ConstantTimeEq;

/// The least length of a token, in bytes: a shorter one can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// The greatest length of a token, in bytes, which a header has room for.
const TOKEN_BYTES_MAX: usize = 1024;
/// The number of sessions that are kept. The oldest ends when there are more.
const SESSIONS_MAX: usize = 256;
/// The random bytes of a session's id and of a page token.
const SECRET_BYTES: usize = 32;

/// The secret that a request must show.
#[derive(Clone)]
pub struct Token(String);

/// Why a [`Token`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or change the file.
    #[error("the token file {} has the mode {mode:04o}: run `chmod 600` on it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("the token file {} belongs to another user", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
    },
    /// The token is too short, too long, or has characters that a header cannot hold.
    #[error(
        "a token must be {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters without spaces: \
         `openssl rand -hex 32` prints one"
    )]
    Unsuitable,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token of 16 to 1,024 visible ASCII characters.
    ///
    /// # Errors
    ///
    /// [`TokenError::Unsuitable`].
    pub fn new(token: impl Into<String>) -> Result<Token, TokenError> {
        let token = token.into();
        let is_suitable = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_suitable
            .then_some(Token(token))
            .ok_or(TokenError::Unsuitable)
    }

    /// The token in a file, which only its owner may read or write (mode 0600). White space around the token
    /// is ignored.
    ///
    /// # Errors
    ///
    /// All of [`TokenError`].
    pub fn from_file(path: &Path) -> Result<Token, TokenError> {
        let failed = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::TooOpen {
                path: path.to_owned(),
                mode,
            });
        }
        if about.uid() != rustix::process::geteuid().as_raw() {
            return Err(TokenError::ForeignOwner {
                path: path.to_owned(),
            });
        }
        let mut text = String::new();
        // A larger file is no token, and `new` says so.
        io::Read::read_to_string(
            &mut io::Read::take(file, 2 * TOKEN_BYTES_MAX as u64),
            &mut text,
        )
        .map_err(failed)?;
        Token::new(text.trim())
    }

    /// Whether `given` is this token. The time that takes tells nothing but the length.
    pub(super) fn is(&self, given: &str) -> bool {
        same(&self.0, given)
    }
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// A secret of this process: 32 random bytes as text. Fails when the system has no random numbers.
fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Who sends a request. The guard puts it into the request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// No token is required. The page token is that of the process.
    Open(PageToken),
    /// A program that showed the token, which no page of another origin can make a browser do.
    Bearer(PageToken),
    /// A browser with a session. The page token is that of the session.
    Session(PageToken),
}

/// The token that the forms and scripts of our pages send back with each request that deletes records. A page
/// of another origin cannot read it.
///
/// It is random, of this process, and that of the caller's session, if there is one. As an argument of a
/// handler it is the token of the request's caller.
///
/// ```ignore
/// async fn wipe(page_token: PageToken, Form(form): Form<WipeForm>) -> Result<…, Problem> {
///     page_token.check(Some(&form.page_token))?;
/// ```
#[derive(Debug, Clone)]
pub(crate) struct PageToken {
    token: String,
    is_bearer: bool,
}

impl PageToken {
    fn new() -> Result<PageToken, getrandom::Error> {
        Ok(PageToken {
            token: secret()?,
            is_bearer: false,
        })
    }

    /// The token, for the page that is made for this request.
    pub(crate) fn as_str(&self) -> &str {
        &self.token
    }

    /// Checks the token that came with a request, in constant time. A program that authenticates with
    /// `Authorization: Bearer` needs none.
    ///
    /// # Errors
    ///
    /// 403 if it is missing, or that of another session or of an earlier process.
    pub(crate) fn check(&self, given: Option<&str>) -> Result<(), Problem> {
        if self.is_bearer || given.is_some_and(|given| same(&self.token, given)) {
            return Ok(());
        }
        let detail = "the page is out of date: load it again, then repeat what you did";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

impl FromRequestParts<Server> for PageToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<PageToken, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(Caller::Open(token) | Caller::Session(token)) => Ok(token.clone()),
            Some(Caller::Bearer(token)) => Ok(PageToken {
                is_bearer: true,
                ..token.clone()
            }),
            None => Err(Problem::internal("the request did not pass the guard")),
        }
    }
}

/// The sessions of browsers, and the page token of callers without one. They end with the process.
#[derive(Debug)]
pub(crate) struct Sessions {
    page_token: PageToken,
    /// The oldest first.
    sessions: Mutex<VecDeque<(String, PageToken)>>,
}

impl Sessions {
    pub(crate) fn new() -> Result<Sessions, getrandom::Error> {
        Ok(Sessions {
            page_token: PageToken::new()?,
            sessions: Mutex::default(),
        })
    }

    pub(super) fn page_token(&self) -> PageToken {
        self.page_token.clone()
    }

    /// Begins a session and returns its id.
    pub(super) fn begin(&self) -> Result<String, getrandom::Error> {
        let (id, page_token) = (secret()?, PageToken::new()?);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() == SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back((id.clone(), page_token));
        Ok(id)
    }

    /// The page token of the session `id`, if it has not ended.
    pub(super) fn find(&self, id: &str) -> Option<PageToken> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sessions.iter().find(|(other, _)| same(other, id))?;
        Some(found.1.clone())
    }
}
