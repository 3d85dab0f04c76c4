//! The tables of the redb file. Their names and types are part of the file format.

use redb::TableDefinition;

/// Maps the seq of a record to its envelope.
pub(super) const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("records");
/// Maps the seq of a record to the framed snapshot of the state after that record.
pub(super) const SNAPSHOTS: TableDefinition<'static, u64, &[u8]> =
    TableDefinition::new("snapshots");
/// Maps a name to bytes. The names are `format`, `log_id` and `head`.
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// The file format of a log that was never trimmed.
pub(super) const FORMAT: u32 = 1;
/// The file format of a trimmed log: programs that know no base must not read it.
pub(super) const FORMAT_BASED: u32 = 2;
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_LOG_ID: &str = "log_id";
pub(super) const META_HEAD: &str = "head";

/// Position and checksum of the last record of a log, or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Seq of the record; 0 in an empty log.
    pub seq: u64,
    /// Checksum of the record, which the next record stores; 0 in an empty log, or if not known.
    pub crc: u32,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.seq.to_le_bytes());
        out[8..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let seq = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let crc = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        (bytes.len() == 12).then_some(Self { seq, crc })
    }
}
