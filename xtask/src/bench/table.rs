//! Tables of plain text.

/// Prints rows in aligned columns, the first to the left and the others to the right.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let all = || {
        std::iter::once(head.iter().map(|s| (*s).to_owned()).collect()).chain(rows.iter().cloned())
    };
    let width = |column: usize| {
        all()
            .map(|row: Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count()))
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        println!("| {} |", cells.join(" | "));
    }
    println!();
}

/// A number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What is said of a row: nothing, or that Oxen is behind.
pub fn behind(oxen: f64, xen: f64) -> String {
    if oxen > xen {
        "behind".into()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
