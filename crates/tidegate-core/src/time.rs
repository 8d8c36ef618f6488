//! Instants in UTC. The clock is an argument; the system clock is read in the binary only.

/// A point in time, UTC. Written as RFC 3339 with a `Z` everywhere.
pub use jiff::Timestamp;

/// Where a component that must know the time gets it from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}
