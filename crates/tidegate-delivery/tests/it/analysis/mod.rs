//! Verdicts: the traps, the promised error rates by simulation, and how soon a decision comes.

mod bounds;
mod custom;
mod error_rates;
mod shadow;
mod table;
mod traps;
mod world;
