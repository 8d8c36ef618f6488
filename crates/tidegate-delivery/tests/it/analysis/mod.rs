//! Verdicts: the traps, the promised error rates by simulation, and how soon a decision comes.

mod error_rates;
mod table;
mod traps;
mod world;
