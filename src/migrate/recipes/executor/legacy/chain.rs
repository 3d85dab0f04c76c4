//! The steps of the old generation's schema, and their execution in an open transaction.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;

use super::parts::Work as Kind;
use super::parts::{self, Part};
use crate::fail;
use crate::legacy::parts::LOSSES;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

/// A step of the schema: an SQL file made of parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Time of the step in the original's history, in milliseconds; a step later than the last
    /// recorded one is pending.
    pub(super) when: i64,
    /// Hash of the step in the original's history.
    pub(super) hash: &'static str,
    /// The SQL parts that do the step's work here.
    sql: &'static str,
}

/// Counts of parts that ran, and of parts that had nothing to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) applied: u64,
    pub(super) skipped: u64,
}

macro_rules! steps {
    ($($when:literal $hash:literal $file:literal;)*) => {
        /// All steps, oldest first.
        pub(super) const ALL: [Step; 13] = [$(Step {
            when: $when,
            hash: $hash,
            sql: include_str!(concat!("../../../../../schema/executor/legacy/", $file)),
        }),*];
    };
}

steps! {
    1_776_367_901_699 "a2ee2e503b57407857d69b2970f5b6b574ed20220bd2b4059a8a25b07e99b368" "0000.sql";
    1_776_680_432_025 "a7b2d800ba6f6d73d8d5a60d2c75eab875aaa49a02b89a553cf0690bed2f317f" "0001.sql";
    1_776_732_062_873 "9809c1e1f43e2a79490687b488a8888832825e243f2bfbde653c35d7598ea189" "0002.sql";
    1_776_976_132_767 "84cfe9f746871624218184600eb35cc9564ab92eecc9e62aab2189603a86c2cb" "0003.sql";
    1_777_800_000_000 "a7c90eb5bec35fb5bbb93048d52603fdbfd13572a1ee3fad2c9aef523c8a28e5" "0004.sql";
    1_777_850_000_000 "11680b481ad356cb042ecfecbf4be050f7c44f182ce3ecbab29267c11a48177f" "0005.sql";
    1_777_850_000_001 "1ae936839db0a176af4a3f166bed36b9a7b2c656a54b2b3d85093134d07e8022" "0006.sql";
    1_778_100_000_000 "739afa418aa40adf529fe9cf3e3f46a24164454c579dc0b8a87cfe4cfc6f7165" "0007.sql";
    1_778_128_200_000 "30dd2eca020f2da6b69934e36f11ab4a974b52bdaff36b7a41a180f471b0269b" "0008.sql";
    1_778_192_434_062 "4a7d5536769d9e76c612e20d50576ec12ce3b3d9030db8b19969a537f349081a" "0009.sql";
    1_778_192_434_063 "bf4874f41df946dee0d18b87d9feccd22ad738d53eec28bd55feb54a12a1267a" "0010.sql";
    1_779_087_600_000 "6f8a9fc3e96a158c019e215d9d7c51a3f5f3e2c65f081c17dbdaf7c0920b250b" "0011.sql";
    1_779_998_400_000 "eed0264e14a30cadfe3f96c96ffecf5124212165fe76639dc930191b7f69079a" "0012.sql";
}

const FAILED: &str = "upgrade the old schema";

/// Runs steps in the open transaction.
pub(super) fn replay(db: &Connection, steps: &[Step], work: &Work<'_>) -> Result<Counts, Fault> {
    let failed = fail::during(FAILED);
    functions(db, work.now_ms).map_err(&failed)?;
    let losses = format!("CREATE TABLE IF NOT EXISTS {LOSSES} (cause text NOT NULL, name text)");
    db.execute_batch(&losses).map_err(&failed)?;
    let mut counts = Counts::default();
    for step in steps {
        for part in parts::read(step.sql) {
            if (work.cancelled)() {
                return Err(fail::cancelled());
            }
            if part.applies(db)? {
                (work.progress)(part.name, counts.applied);
                run_part(db, &part)?;
                counts.applied += 1;
            } else {
                counts.skipped += 1;
            }
        }
    }
    Ok(counts)
}

fn run_part(db: &Connection, part: &Part<'_>) -> Result<(), Fault> {
    let failed = |error: rusqlite::Error| {
        fail::sqlite(&format!("upgrade the old schema ({})", part.name), &error)
    };
    match part.work {
        Kind::Change => db.execute_batch(part.sql).map_err(failed),
        Kind::Refusal => {
            let mut query = db.prepare(part.sql).map_err(failed)?;
            let mut rows = query.query([]).map_err(failed)?;
            let Some(row) = rows.next().map_err(failed)? else { return Ok(()) };
            let text = |at| -> Result<String, Fault> {
                let bytes = row.get_ref(at).map_err(failed)?.as_bytes_or_null().ok().flatten();
                Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
            };
            Err(fail::row(&text(0)?, &text(1)?, &text(2)?, text(3)?))
        }
    }
}

/// Registers the functions that the steps call: the slug of a slot, and the time of the migration
/// in whole seconds, as milliseconds.
fn functions(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function("slot_slug", 1, flags, |context| {
        Ok(match context.get_raw(0) {
            // The key of a member of a list is a number.
            ValueRef::Integer(n) => slot_slug(&n.to_string()),
            value => {
                let name = value.as_bytes_or_null().ok().flatten().unwrap_or_default();
                slot_slug(&String::from_utf8_lossy(name))
            }
        })
    })?;
    let now = now_ms.div_euclid(1_000) * 1_000;
    db.create_scalar_function("replay_now", 0, flags, move |_| Ok(now))
}

/// Returns the slug of a slot as the original's steps make it: ASCII in lower case, each run of
/// white space and punctuation as one dash, `default` when nothing is left.
fn slot_slug(name: &str) -> String {
    const DASHED: &str = "\t\n\r _.:/@+&?#%$,;()[]{}=~!\"'\\|*<>-";
    let name = name.trim_matches(' ').to_ascii_lowercase();
    let words = name.split(|c| DASHED.contains(c)).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { "default".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_slugs_match_original() {
        for (name, slug) in [
            ("DD_Application Key", "dd-application-key"),
            ("  Google OAuth_2.0 ", "google-oauth-2-0"),
            ("a^b`ÄÖ", "a^b`ÄÖ"),
            ("--", "default"),
            ("", "default"),
        ] {
            assert_eq!(slot_slug(name), slug, "{name}");
        }
    }
}
