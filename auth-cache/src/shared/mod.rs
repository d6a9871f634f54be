//! What is kept where other processes can read it: how it is named, written and sealed.

mod codec;
mod keys;
mod seal;
#[cfg(test)]
mod tests;

pub use keys::CacheKeys;
pub use seal::SealKind;
