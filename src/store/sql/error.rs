//! What a database's error means to who asked.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

use super::super::StoreError;

/// Maps a database error to what the caller should conclude from it.
pub fn failed(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    let doubtful = match error.as_database_error() {
        Some(database) => doubtful(database),
        None => matches!(
            error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::TypeNotFound { .. }
        ),
    };
    match doubtful {
        true => StoreError::Corrupt(text),
        false => StoreError::Unavailable(text),
    }
}

/// Whether the state itself is in doubt, and not only out of reach.
fn doubtful(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        const NO_SUCH_DATABASE: &str = "3D000";
        const NO_PRIVILEGE: &str = "42501";
        // Data, constraints, tables and columns that are not there, damage.
        let classes = ["22", "23", "42", "XX"];
        return code == NO_SUCH_DATABASE
            || (code != NO_PRIVILEGE && classes.iter().any(|class| code.starts_with(class)));
    }
    // Primary result codes, https://sqlite.org/rescode.html. Busy, locked, I/O,
    // full, read-only, cannot open and out of memory leave the state as it is.
    const ERROR: i32 = 1;
    const CORRUPT: i32 = 11;
    const CONSTRAINT: i32 = 19;
    const NOT_A_DATABASE: i32 = 26;
    let primary = code.parse::<i32>().unwrap_or(0) & 0xff;
    matches!(primary, ERROR | CORRUPT | CONSTRAINT | NOT_A_DATABASE)
}

/// [`failed`], but a taken key is `what` that exists and a missing one it needs is not found.
pub(super) fn insert_failed(what: impl FnOnce() -> String) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error() {
        Some(database) if database.is_unique_violation() => StoreError::Exists(what()),
        Some(database) if database.is_foreign_key_violation() => {
            StoreError::NotFound(format!("something that {} refers to", what()))
        }
        _ => failed(error),
    }
}

/// What it means that the tables cannot be brought up to date.
pub fn migration_failed(error: MigrateError) -> StoreError {
    // MigrateError is non-exhaustive: what is not about reaching the database
    // is about what stands in it.
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return failed(error);
    }
    StoreError::Corrupt(format!(
        "its tables are not those of this version of portcullis: {error}; run the version that wrote it, or restore a backup"
    ))
}
