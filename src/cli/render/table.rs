//! Tables and facts as text for a terminal.

use comfy_table::{Table, presets};

#[cfg(feature = "daemon")]
use super::fit::fit;
use super::terminal::printable;
#[cfg(feature = "daemon")]
use super::terminal::terminal_width;

/// Returns a table without lines, or an empty text if it has no rows. Cells are made printable, and
/// at a terminal they are cut so that no line is wrapped.
pub(in crate::cli) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)).to_vec());
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = header.map(str::to_owned).to_vec();
    #[cfg(feature = "daemon")]
    if let Some(width) = terminal_width() {
        let (mut header, mut rows) = (header, rows);
        fit(&mut header, &mut rows, width);
        return lines_of(header, rows);
    }
    lines_of(header, rows)
}

/// Returns the lines of a table as it is.
pub(super) fn lines_of(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    format!("{}\n", table.trim_fmt())
}

/// Returns facts, one in a line after its label. Values are made printable.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn facts(rows: &[(&str, String)]) -> String {
    let line = |(label, value): &(&str, String)| format!("{label:<12} {}\n", printable(value));
    rows.iter().map(line).collect()
}
