pub(crate) mod blocks;
pub(crate) mod row_tiers;
