//! Numbers, durations, costs and untrusted texts, as people read them: the same on pages and in programs.

mod duration;
mod escape;
mod money;
mod number;

pub use self::{
    duration::duration,
    escape::{escape, escape_name, must_escape},
    money::{MICROS_PER_USD, decimals, micro_usd, usd},
    number::{grouped, per_second, percent, size},
};
