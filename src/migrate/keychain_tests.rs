//! Tests of roll-backs while the keychain is away: a session without one says nothing about what
//! was written in a session that had one.

use std::sync::atomic::Ordering;

use groundskeeper_core::{Code, Command, MigrationId, MigrationPhase};

use crate::files::Files;
use crate::keychain::NoKeychain;
use crate::manifest::{KeychainBackup, Manifest};
use crate::sample::Harness;
use crate::secrets;

/// Migrates until the keychain has the new values; then the process is gone.
fn interrupted(harness: &mut Harness) -> MigrationId {
    let id = harness.request("0123abcd");
    let keychain = harness.keychain;
    let written = || keychain.values.lock().expect("alone").contains_key("made");
    let runner = harness.runner(Files::default());
    harness.run(&runner, &id, &written);
    assert!(written(), "the case that is tested");
    id
}

fn value(harness: &Harness, account: &str) -> Option<String> {
    harness.keychain.values.lock().expect("alone").get(account).cloned()
}

/// The old file of secrets is put back at once. The entries stay noted until the keychain is there
/// again; then the next run puts them back.
#[test]
fn keychain_that_is_away_loses_no_old_value() {
    let mut harness = Harness::new();
    let id = interrupted(&mut harness);
    let away = &harness.keychain.away;
    away.store(true, Ordering::Relaxed);
    harness.command(Command::CancelMigration { migration: id.clone() });
    let runner = harness.runner(Files::default());
    harness.run(&runner, &id, &|| false);
    let migration = harness.migration(&id);
    assert_eq!(migration.phase, MigrationPhase::Failed);
    assert!(migration.leftovers.iter().any(|left| left.contains("there is no keychain now")));
    assert_eq!(std::fs::read_to_string(harness.auth()).expect("secrets"), "secret");
    assert!(!harness.is_new());
    let count = harness.keychain.values.lock().expect("alone").len();
    assert_eq!(count, 3, "two new values, and the copy of the old one");

    // Still away: the next run is refused, and changes nothing.
    let id = harness.request("0123abce");
    let runner = harness.runner(Files::default());
    harness.run(&runner, &id, &|| false);
    let fault = harness.migration(&id).fault.expect("refused");
    assert_eq!(fault.code, Code::KeychainFailed, "{fault}");
    assert_eq!(harness.keychain.values.lock().expect("alone").len(), 3);

    harness.keychain.away.store(false, Ordering::Relaxed);
    let id = harness.request("0123abcf");
    let runner = harness.runner(Files::default());
    // Off after its first step, which settles the earlier attempt.
    harness.run(&runner, &id, &|| true);
    drop(runner);
    assert_eq!(value(&harness, "kept").as_deref(), Some("old value"));
    assert_eq!(harness.keychain.values.lock().expect("alone").len(), 1);
    let runner = harness.runner(Files::default());
    harness.run(&runner, &id, &|| false);
    harness.check_end("after the keychain came back");
}

/// Entries that the migration created are no loss: they are named, and nothing else waits for them.
#[test]
fn new_entries_of_absent_keychain_are_named() {
    let entry = |existed: bool| KeychainBackup {
        id: "made".to_owned(),
        backup_id: existed.then(|| "v1-v2-migration-backup".to_owned()),
        existed,
    };
    let manifest = |entries: Vec<KeychainBackup>| {
        let text = r#"{"version":1,"source":"","normalizedSource":"","staging":"","backup":"",
            "authPath":"","authBackup":null,"authExisted":true,"nonce":"0123abcd",
            "phase":"building"}"#;
        let manifest: Manifest = serde_json::from_str(text).expect("a manifest");
        Manifest { keychain_backups: entries, ..manifest }
    };
    let files = Files::default();
    let restored = |entries| {
        secrets::restore(&files, &NoKeychain, &manifest(entries)).map(|left| left.keychain)
    };
    assert_eq!(restored(Vec::new()).expect("nothing to do"), None);
    let left = restored(vec![entry(false)]).expect("no loss").expect("named");
    assert!(left.contains("made"), "{left}");
    let fault = restored(vec![entry(false), entry(true)]).expect_err("an old value is there");
    assert_eq!(fault.code, Code::KeychainFailed);
}
