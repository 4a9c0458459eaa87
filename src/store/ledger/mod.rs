pub(crate) mod losses;
