//! Tables and facts as text for a terminal.

use comfy_table::{Table, presets};

use super::terminal::printable;

/// Returns a table without lines, or an empty text if it has no rows. Cells are made printable.
pub(in crate::cli) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    let mut empty = true;
    for row in rows {
        empty = false;
        table.add_row(row.map(|cell| printable(&cell)));
    }
    if empty { String::new() } else { format!("{}\n", table.trim_fmt()) }
}

/// Returns facts, one in a line after its label. Values are made printable.
#[cfg(feature = "daemon")]
pub(in crate::cli) fn facts(rows: &[(&str, String)]) -> String {
    let line = |(label, value): &(&str, String)| format!("{label:<12} {}\n", printable(value));
    rows.iter().map(line).collect()
}
