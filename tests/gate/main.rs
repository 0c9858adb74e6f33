mod certificates_table;
#[path = "../support/raw/mod.rs"]
mod raw;
