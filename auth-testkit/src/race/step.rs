//! What a schedule is made of.

use std::fmt;

use auth_core::ErrorKind;

pub use crate::trial::Scope;

/// One step of a schedule. Subjects are numbered from 0 to 2; questions that wait at the source and readers
/// that wait for an answer are counted from the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A reader asks.
    Read(usize),
    /// A reader asks for what the source says now.
    Fresh(usize),
    /// A reader asks for what is at most so many milliseconds old.
    MaxAge(usize, u16),
    /// A reader asks for several rights at once.
    Many,
    /// A reader asks memory alone.
    Peek(usize),
    /// The source's value is read for a question that waits; what changes from here on it does not say.
    Look(usize),
    /// The source answers a question.
    Answer(usize),
    /// The source fails a question.
    Fail(usize, ErrorKind),
    /// The source panics over a question.
    Panic(usize),
    /// The source's value changes, and nobody is told.
    Change(usize),
    /// The source's value changes, and then it is invalidated.
    Invalidate(Scope),
    /// The token is validated and put, in one step.
    Put(usize),
    /// A reader leaves.
    Leave(usize),
    /// So many milliseconds pass.
    Pass(u16),
    /// The newest answer comes to be so many thousandths of its life old; then a reader asks.
    Refresh(usize, u16),
    /// Every answer there is comes to the end of its life.
    Expire,
}

impl Step {
    /// Names its kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Fresh(_) => "fresh",
            Self::MaxAge(..) => "max age",
            Self::Many => "many",
            Self::Peek(_) => "peek",
            Self::Look(_) => "look",
            Self::Answer(_) => "answer",
            Self::Fail(..) => "fail",
            Self::Panic(_) => "panic",
            Self::Change(_) => "change",
            Self::Invalidate(_) => "invalidate",
            Self::Put(_) => "put",
            Self::Leave(_) => "leave",
            Self::Pass(_) => "pass",
            Self::Refresh(..) => "refresh",
            Self::Expire => "expire",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(subject) => write!(f, "a reader asks for subject {subject}"),
            Self::Fresh(subject) => write!(f, "a reader asks for subject {subject}, fresh"),
            Self::MaxAge(subject, age) => write!(f, "a reader asks for subject {subject}, {age} ms at most"),
            Self::Many => f.write_str("a reader asks for subjects 0 and 2 at once"),
            Self::Peek(subject) => write!(f, "a reader looks into memory for subject {subject}"),
            Self::Look(question) => write!(f, "the value is read for waiting question {question}"),
            Self::Answer(question) => write!(f, "waiting question {question} is answered"),
            Self::Fail(question, kind) => write!(f, "waiting question {question} fails: {kind}"),
            Self::Panic(question) => write!(f, "the source panics over waiting question {question}"),
            Self::Change(subject) => write!(f, "subject {subject} changes, nobody is told"),
            Self::Invalidate(scope) => write!(f, "a change, then invalidated: {scope}"),
            Self::Put(subject) => write!(f, "subject {subject} is validated and put"),
            Self::Leave(reader) => write!(f, "waiting reader {reader} leaves"),
            Self::Pass(millis) => write!(f, "{millis} ms pass"),
            Self::Refresh(subject, part) => {
                write!(
                    f,
                    "the newest answer on subject {subject} gets to {part}/1000 of its life; a reader asks"
                )
            }
            Self::Expire => f.write_str("every answer comes to the end of its life"),
        }
    }
}
