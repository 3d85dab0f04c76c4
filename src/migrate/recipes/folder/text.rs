//! Reads the text of a script as far as SQLite would silently skip parts of it: a comment that is
//! not closed, a NUL byte, a file without a statement. SQLite itself judges the statements.

/// Begins a comment that is a setting of the recipe.
const SETTING: &str = "groundskeeper:";
/// Setting of `build.sql`: the new database may have no rows although the old one has some.
const MAY_BE_EMPTY: &str = "may-be-empty";

/// Setting of `stamp.sql`: a table to which the application adds rows when it starts.
const STAMPS: &str = "stamps ";
/// Limit of the tables that a recipe may name in that way.
const STAMPS_MAX: usize = 16;

/// A reason why a script is not run at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Line of the script, from 1.
    pub(super) line: usize,
    pub(super) what: String,
}

/// Result of reading a script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Offset of the first byte that belongs to a statement; `None` for a script of comments.
    pub(super) first: Option<usize>,
    /// Whether the setting `may-be-empty` is there.
    pub(super) may_be_empty: bool,
    /// Tables that the settings `stamps` name.
    pub(super) stamps: Vec<String>,
}

/// Reads a script.
///
/// # Errors
/// The first flaw.
pub(super) fn scan(text: &str) -> Result<Scan, Flaw> {
    let mut scan = Scan::default();
    let (bytes, mut at) = (text.as_bytes(), 0);
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let length = match (byte, next) {
            (b'-', Some(b'-')) => {
                let rest = &text[at..];
                let comment = rest.lines().next().unwrap_or(rest);
                set(&mut scan, comment).map_err(|what| flaw(text, at, what))?;
                Some(comment.len())
            }
            (b'/', Some(b'*')) => closed(text, at, 2, "*/"),
            (b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b';', _) => Some(1),
            // A byte order mark, which SQLite skips too.
            (0xef, _) if text[at..].starts_with('\u{feff}') => Some('\u{feff}'.len_utf8()),
            _ => {
                scan.first = scan.first.or(Some(at));
                match byte {
                    // A doubled quote ends one string and begins the next, which is the same here.
                    b'\'' => closed(text, at, 1, "'"),
                    b'"' => closed(text, at, 1, "\""),
                    b'`' => closed(text, at, 1, "`"),
                    b'[' => closed(text, at, 1, "]"),
                    _ => Some(1),
                }
            }
        };
        let what = if byte == b'/' { "a comment is not closed" } else { "a string is not closed" };
        at += length.ok_or_else(|| flaw(text, at, what.to_owned()))?;
    }
    match text.find('\0') {
        // SQLite takes it for the end of the script.
        Some(at) => Err(flaw(text, at, "a NUL byte".to_owned())),
        None => Ok(scan),
    }
}

/// Returns the length of the part that begins at `at` with a mark of `open` bytes and ends with
/// `close`; `None` when it has no end.
fn closed(text: &str, at: usize, open: usize, close: &str) -> Option<usize> {
    let inside = text.as_bytes().get(at + open..)?;
    let end = inside.windows(close.len()).position(|part| part == close.as_bytes())?;
    Some(open + end + close.len())
}

/// Takes over a comment that is a setting. Returns what is wrong with it.
fn set(scan: &mut Scan, comment: &str) -> Result<(), String> {
    let comment = comment.trim_start_matches('-').trim();
    let Some(setting) = comment.strip_prefix(SETTING) else { return Ok(()) };
    let setting = setting.trim();
    if setting == MAY_BE_EMPTY {
        scan.may_be_empty = true;
        return Ok(());
    }
    match setting.strip_prefix(STAMPS).map(str::trim) {
        Some(table) if scan.stamps.len() < STAMPS_MAX => {
            scan.stamps.push(table.to_owned());
            Ok(())
        }
        Some(_) => Err(format!("more than {STAMPS_MAX} tables are named by \"stamps\"")),
        None => {
            let known = format!("only {MAY_BE_EMPTY:?} and \"stamps TABLE\"");
            Err(format!("there is no setting {setting:?}, {known}"))
        }
    }
}

fn flaw(text: &str, at: usize, what: String) -> Flaw {
    Flaw { line: line_of(text, at), what }
}

/// Returns the number of the line that holds a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.split(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quotes in comments, comments in quotes, and SQLite's forms of quotes.
    #[test]
    fn closed_text_is_accepted() {
        let texts = [
            "SELECT 'a -- b', \"c /* d\", `e ' f`, [g ' h] -- i ' j",
            "/* a ' b -- c */ SELECT 1 /**/",
            "SELECT 'it''s', 1 - -1, 6 / 2 * 3",
            "\u{feff}SELECT 'ä'; -- ü",
            "SELECT 1 --",
        ];
        for text in texts {
            assert!(scan(text).is_ok_and(|scan| scan.first.is_some()), "{text}");
        }
    }

    #[test]
    fn flaw_has_its_line() {
        let texts = [
            ("a;\nb /* c", 2, "a comment is not closed"),
            ("/*/ a", 1, "a comment is not closed"),
            ("a\n\n'b''", 3, "a string is not closed"),
            ("\"a", 1, "a string is not closed"),
            ("\n`a", 2, "a string is not closed"),
            ("[a", 1, "a string is not closed"),
            ("a;\n\0b", 2, "a NUL byte"),
            ("-- a\0b", 1, "a NUL byte"),
            ("a;\n-- groundskeeper: may-be", 2, "there is no setting \"may-be\""),
        ];
        for (text, line, what) in texts {
            let flaw = scan(text).expect_err(text);
            assert!(flaw.line == line && flaw.what.starts_with(what), "{text:?}: {flaw:?}");
        }
    }

    #[test]
    fn comments_are_no_statement() {
        for text in ["", " ;\n;", "-- a", "/* a; */ -- b\n", "\u{feff}"] {
            assert_eq!(scan(text).expect(text).first, None, "{text:?}");
        }
        let quoted = "SELECT '\n-- groundskeeper: may-be-empty\n'";
        assert!(!scan(quoted).expect("closed").may_be_empty, "it is in a string");
        let set = scan("--groundskeeper:may-be-empty\r\nSELECT 1").expect("closed");
        assert!(set.may_be_empty);
        let set = scan("-- groundskeeper: stamps a\n-- groundskeeper: stamps b c\nSELECT 1");
        assert_eq!(set.expect("closed").stamps, ["a", "b c"]);
        assert!(scan(&"-- groundskeeper: stamps a\n".repeat(STAMPS_MAX + 1)).is_err());
    }
}
