//! Makes a table fit a terminal: without it every line would be wrapped, and no column be one. Pure
//! but for the home directory. A pipe gets whole values, so nothing is asked to fit there.

/// Width to which columns are cut first, the widest first.
const WIDE: usize = 12;
/// Width to which titles are cut, but not below what is under them.
const TITLE_MIN: usize = 4;
/// Width to which everything is cut where all that was not enough.
const LEAST: usize = 6;

/// Makes rows fit a width, each cell with a blank on both sides. Columns that say nothing go first;
/// then the last column is cut, which has the paths, then the widest of the others, and the first
/// one last, for it is what one types.
pub(super) fn fit(header: &mut Vec<String>, rows: &mut [Vec<String>], width: usize) {
    for row in rows.iter_mut() {
        if let Some(path) = row.last_mut() {
            *path = from_home(path);
        }
    }
    let mut widths = widths(header, rows);
    while over(&widths, width) > 0
        && let Some(at) = silent(header, rows)
    {
        header.remove(at);
        widths.remove(at);
        for row in rows.iter_mut() {
            drop(row.remove(at));
        }
    }
    let all = |least: usize| vec![least; widths.len()];
    let (wide, least) = (all(WIDE), all(LEAST));
    let cells = self::widths(&[], rows);
    let titles: Vec<usize> = cells.iter().map(|cell| (*cell).max(TITLE_MIN)).collect();
    shrink(&mut widths, width, &wide);
    shrink(&mut widths, width, &titles);
    shrink(&mut widths, width, &least);
    for row in rows.iter_mut() {
        row.iter_mut().zip(&widths).for_each(|(cell, width)| *cell = cut(cell, *width));
    }
    header.iter_mut().zip(&widths).for_each(|(title, width)| *title = cut_title(title, *width));
}

/// Returns the width of each column, of its cells alone without a header.
fn widths(header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(header.len(), Vec::len);
    let width = |at: usize| {
        let cells = rows.iter().map(Vec::as_slice).chain([header]).filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

/// Returns by how much columns are too wide.
fn over(widths: &[usize], width: usize) -> usize {
    let room = width.saturating_sub(2 * widths.len());
    widths.iter().sum::<usize>().saturating_sub(room)
}

/// Returns the last column but the first in which no row says anything.
fn silent(header: &[String], rows: &[Vec<String>]) -> Option<usize> {
    let says = |at: usize| rows.iter().any(|row| row.get(at).is_none_or(|cell| cell != "-"));
    (1..header.len()).rev().find(|at| !says(*at))
}

/// Makes columns narrower until they fit, none below its least width.
fn shrink(widths: &mut [usize], width: usize, least: &[usize]) {
    let excess = over(widths, width);
    if let (Some(last), Some(least)) = (widths.last_mut(), least.last()) {
        *last = last.saturating_sub(excess).max((*least).min(*last));
    }
    while over(widths, width) > 0 {
        let may_shrink = |at: &usize| widths.get(*at) > least.get(*at);
        let widest = (1..widths.len()).filter(may_shrink).max_by_key(|at| widths.get(*at).copied());
        let Some(at) = widest.or_else(|| Some(0).filter(may_shrink)) else { break };
        widths.iter_mut().skip(at).take(1).for_each(|width| *width -= 1);
    }
}

/// Returns a path with the home directory as `~`.
fn from_home(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    match path.strip_prefix(&home).filter(|rest| home.len() > 1 && rest.starts_with('/')) {
        Some(rest) => format!("~{rest}"),
        None => path.to_owned(),
    }
}

/// Cuts a text in the middle: its end says most, and its beginning where it is.
fn cut(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width || width < 2 {
        return text.to_owned();
    }
    let head = (width - 1) / 3;
    let tail = width - 1 - head;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}\u{2026}{end}")
}

/// Cuts a title at its end.
fn cut_title(title: &str, width: usize) -> String {
    if title.chars().count() <= width || width < 2 {
        return title.to_owned();
    }
    let begin: String = title.chars().take(width - 1).collect();
    format!("{begin}\u{2026}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    fn used(row: &[String]) -> usize {
        row.iter().map(|cell| cell.chars().count() + 2).sum()
    }

    /// However long names are: a line fits the terminal while it has room for the columns at all.
    #[test]
    fn rows_fit_width_and_keep_ends() {
        let path = format!("/home/u/{}/worktrees/fix/project", "deep/".repeat(20));
        for width in [60, 80, 120, 200] {
            let mut header = texts(&["ID", "BRANCH", "PATH"]);
            let branch = "feature/".to_owned() + &"long-".repeat(30);
            let mut rows = vec![texts(&["fix", &branch, &path]), texts(&["other", "main", "/x"])];
            fit(&mut header, &mut rows, width);
            for row in &rows {
                assert!(used(row) <= width, "{} of {width}: {row:?}", used(row));
            }
            assert!(rows[0][2].ends_with("/project") || width < 80, "{:?}", rows[0]);
            assert_eq!(rows[1], ["other", "main", "/x"], "what is short stays whole");
        }
    }

    #[test]
    fn columns_without_words_go_first() {
        let mut header = texts(&["ID", "LACKS", "REF"]);
        let mut rows = vec![texts(&["a", "-", &"r".repeat(60)])];
        fit(&mut header, &mut rows, 80);
        assert_eq!((header.len(), rows[0].len()), (3, 3), "there is room for all");
        fit(&mut header, &mut rows, 60);
        assert_eq!(header, ["ID", "REF"]);
        assert!(used(&rows[0]) <= 60, "{rows:?}");
    }

    /// Eight columns of common length at the width of half a screen.
    #[test]
    fn many_columns_fit_sixty() {
        let titles =
            ["ID", "BRANCH", "CHANGES", "LINES", "BASE", "UPSTREAM", "OPERATION", "CHANGED"];
        let mut header = texts(&titles);
        let name = "a-much-longer-name-for-an-environment";
        let branch = format!("gk/{name}");
        let mut rows =
            vec![texts(&[name, &branch, "~1 ?1", "+1 -0 ...", "even", "-", "-", "9s ago"])];
        fit(&mut header, &mut rows, 60);
        assert!(used(&rows[0]) <= 60 && used(&header) <= 60, "{header:?} {rows:?}");
    }

    #[test]
    fn text_is_cut_in_the_middle() {
        assert_eq!(cut("abcdefghij", 10), "abcdefghij");
        assert_eq!(cut("abcdefghij", 7), "ab\u{2026}ghij");
        assert_eq!(cut("\u{fc}\u{f6}\u{e4}abcdefg", 4), "\u{fc}\u{2026}fg");
    }
}
