//! How far the operation of a request has come, beside the view of it. Knows no status numbers.

/// Result of a use case, for the answer to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// The operation has ended.
    Done(T),
    /// The operation has ended and made something new.
    Created(T),
    /// The request is durable; the operation goes on.
    Started(T),
    /// The operation has ended; there is nothing to show.
    Empty,
}
