//! The crate seen from outside: only what is public.

mod analysis;
