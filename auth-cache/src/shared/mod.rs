//! What is kept where other processes can read it: how it is named, written and sealed.

mod codec;
mod keys;
#[cfg(feature = "_lab")]
mod lab;
mod seal;
#[cfg(test)]
mod tests;

pub use keys::CacheKeys;
#[cfg(feature = "_lab")]
pub use lab::Lab;
pub use seal::SealKind;
