//! Tables as mmdet's logs have them (those of Python's `terminaltables`).

use std::fmt::Write as _;

/// A table of left-aligned cells with a line under the header and, with `footer`, one above the last row.
/// Every row has as many cells as the first, which is the header.
pub(crate) fn ascii_table(rows: &[Vec<String>], footer: bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = widths.iter().fold("+".to_owned(), |line, w| line + &"-".repeat(w + 2) + "+");
    let mut text = format!("{line}\n");
    for (i, row) in rows.iter().enumerate() {
        if i == 1 || (footer && i > 1 && i + 1 == rows.len()) {
            let _ = writeln!(text, "{line}");
        }
        text.push('|');
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, " {cell:<width$} |");
        }
        text.push('\n');
    }
    text + &line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_in_terminaltables() {
        let rows: Vec<Vec<String>> =
            ["class gts ap", "c0 3 0.2", "mAP - 0.333"].map(|r| r.split(' ').map(str::to_owned).collect()).to_vec();
        let line = "+-------+-----+-------+\n";
        let [a, b, c] = ["| class | gts | ap    |\n", "| c0    | 3   | 0.2   |\n", "| mAP   | -   | 0.333 |\n"];
        assert_eq!(ascii_table(&rows, false), format!("{line}{a}{line}{b}{c}{}", line.trim_end()));
        assert_eq!(ascii_table(&rows, true), format!("{line}{a}{line}{b}{line}{c}{}", line.trim_end()));
    }
}
