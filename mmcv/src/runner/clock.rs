//! Times as mmcv's logs write them. They are in UTC: the standard library knows no time zones.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment's date and time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
    milli: u32,
}

fn civil(time: SystemTime) -> Civil {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Days to date in the proleptic Gregorian calendar, years counted from March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as u32,
        day: (day_of_year - (153 * m + 2) / 5 + 1) as u32,
        hour: second / 3600,
        minute: second / 60 % 60,
        second: second % 60,
        milli: since.subsec_millis(),
    }
}

/// `20240131_235959`: the name of a run's logs.
pub fn timestamp(time: SystemTime) -> String {
    let c = civil(time);
    format!("{:04}{:02}{:02}_{:02}{:02}{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// `2024-01-31 23:59:59,123`: in front of each line of a log.
pub fn asctime(time: SystemTime) -> String {
    let c = civil(time);
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03}", c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli)
}

/// `1 day, 2:03:04`: Python's `str(timedelta(seconds=int(seconds)))`.
pub fn timedelta(seconds: f64) -> String {
    let total = seconds.max(0.0) as u64;
    let (days, rest) = (total / 86_400, total % 86_400);
    let clock = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        n => format!("{n} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    // datetime.utcfromtimestamp(t) for 1709251199.5, 951782400, 0
    #[test]
    fn dates_are_those_of_python() {
        let at = |s: f64| UNIX_EPOCH + Duration::from_secs_f64(s);
        assert_eq!(asctime(at(1_709_251_199.5)), "2024-02-29 23:59:59,500");
        assert_eq!(timestamp(at(951_782_400.0)), "20000229_000000");
        assert_eq!(timestamp(at(0.0)), "19700101_000000");
    }

    #[test]
    fn durations_are_those_of_python() {
        assert_eq!(timedelta(59.9), "0:00:59");
        assert_eq!(timedelta(86_400.0 + 3661.0), "1 day, 1:01:01");
        assert_eq!(timedelta(10.0 * 86_400.0), "10 days, 0:00:00");
    }
}
