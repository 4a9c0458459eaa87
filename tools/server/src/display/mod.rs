//! Numbers, durations, costs and untrusted texts, as people read them: the same on pages and in programs.

mod clock;
mod duration;
mod entries;
mod escape;
pub mod losses;
mod money;
mod number;

pub use self::{
    clock::{clock_millis, clock_seconds},
    duration::{ago, duration, offset},
    entries::{entries, is_id, names_server, origin_entries, otlp_entries},
    escape::{escape, escape_name, found_in, must_escape},
    money::{MICROS_PER_USD, decimals, micro_usd, usd},
    number::{grouped, per_second, percent, size},
};
