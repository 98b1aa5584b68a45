//! Times as texts: RFC 3339 in UTC with exactly three digits after the second and `Z`, which the
//! parsers of all languages take.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// This moment.
pub fn now() -> String {
    of(SystemTime::now())
}

/// A moment; that of the epoch if the year has more than four digits.
pub fn of(at: SystemTime) -> String {
    OffsetDateTime::from(at)
        .format(FORMAT)
        .unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

/// Epoch milliseconds of a time as a text, if it is one of RFC 3339.
pub fn epoch_ms_of(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// F14
    #[test]
    fn times_have_three_digits_and_a_z() {
        let at = |ms| of(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_795_693_559_518), "2026-11-26T11:45:59.518Z");
        let fine = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999_999_999);
        assert_eq!(of(fine), "1970-01-01T00:00:01.999Z");
        assert_eq!(now().len(), 24);
        assert_eq!(
            epoch_ms_of("2026-11-26T11:45:59.518Z"),
            Some(1_795_693_559_518)
        );
        assert_eq!(epoch_ms_of("yesterday"), None);
    }
}
