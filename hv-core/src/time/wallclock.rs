//! The date of the battery clock (MC146818) as Unix time.

use crate::arch::clock::RtcFields;

/// Seconds since 1970-01-01 00:00 UTC, taking the clock to run in UTC.
///
/// `None` if the fields are no date.
#[must_use]
pub fn unix_seconds(rtc: &RtcFields) -> Option<u64> {
    let binary = rtc.status_b & 4 != 0;
    let number = |raw: u8| {
        if binary {
            Some(u64::from(raw))
        } else {
            let (high, low) = (raw >> 4, raw & 0xf);
            (high < 10 && low < 10).then(|| u64::from(high) * 10 + u64::from(low))
        }
    };
    let mut hour = if rtc.status_b & 2 != 0 {
        number(rtc.hour)?
    } else {
        let pm = u64::from(rtc.hour >> 7) * 12;
        number(rtc.hour & 0x7f)? % 12 + pm
    };
    let (second, minute) = (number(rtc.second)?, number(rtc.minute)?);
    let (day, month) = (number(rtc.day)?, number(rtc.month)?);
    let year = number(rtc.year)?;
    let century = match number(rtc.century) {
        Some(c) if (19..=29).contains(&c) => c,
        // No century register: a two-digit year as POSIX strptime reads it.
        _ if year >= 70 => 19,
        _ => 20,
    };
    if second > 60 || minute > 59 || hour > 23 || !(1..=31).contains(&day) || year > 99 {
        return None;
    }
    hour += 24 * days_since_1970(century * 100 + year, month, day)?;
    Some((hour * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    // Day of the year before each month, in a year that begins with March, so that
    // the leap day is last.
    const BEFORE: [u64; 12] = [306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275];
    let before = BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let y = if month <= 2 { year - 1 } else { year };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + before + day - 1;
    // 1970-01-01 by the same count.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bcd(text: [u8; 7], status_b: u8) -> RtcFields {
        let [century, year, month, day, hour, minute, second] = text;
        RtcFields {
            second,
            minute,
            hour,
            day,
            month,
            year,
            century,
            status_b,
        }
    }

    #[test]
    fn known_dates() {
        let epoch = bcd([0x19, 0x70, 1, 1, 0, 0, 0], 2);
        assert_eq!(unix_seconds(&epoch), Some(0));
        let leap = bcd([0x20, 0x24, 2, 0x29, 0x12, 0x34, 0x56], 2);
        assert_eq!(unix_seconds(&leap), Some(1_709_210_096));
        let later = bcd([0x20, 0x38, 1, 0x19, 3, 0x14, 7], 2);
        assert_eq!(unix_seconds(&later), Some(i32::MAX as u64));
    }

    #[test]
    fn twelve_hours_binary_and_missing_century() {
        // 12 a.m. is midnight, 12 p.m. noon.
        let midnight = bcd([0x20, 0, 3, 1, 0x12, 0, 0], 0);
        assert_eq!(unix_seconds(&midnight), Some(951_868_800));
        let noon = bcd([0, 0, 3, 1, 0x92, 0, 0], 0);
        assert_eq!(unix_seconds(&noon), Some(951_868_800 + 43_200));
        let binary = bcd([20, 0, 3, 1, 12, 0, 0], 6);
        assert_eq!(unix_seconds(&binary), Some(951_868_800 + 43_200));
    }

    #[test]
    fn nonsense_is_no_date() {
        assert_eq!(unix_seconds(&bcd([0x20, 0x24, 0x13, 1, 0, 0, 0], 2)), None);
        assert_eq!(unix_seconds(&bcd([0x20, 0x24, 0, 1, 0, 0, 0], 2)), None);
        assert_eq!(unix_seconds(&bcd([0x20, 0x24, 1, 0, 0, 0, 0], 2)), None);
        assert_eq!(unix_seconds(&bcd([0xff; 7], 0xff)), None);
        assert_eq!(unix_seconds(&bcd([0xff; 7], 2)), None);
    }
}
