//! The line formats, in both directions.
