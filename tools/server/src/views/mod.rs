//! What pages and the API both show.
