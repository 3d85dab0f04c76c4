//! Compares the rows of the large recorded case, and prints time and memory of the migration.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rusqlite::Connection;

use super::harness::{Given, differences, fixtures, json, migrate};

/// Unpacks a recorded file with Python, which every machine that runs these tests has.
fn unpack(from: &Path, to: &Path) {
    let script = "import lzma, sys, tarfile, io\n\
                  data = lzma.open(sys.argv[1]).read()\n\
                  if '.tar.' in sys.argv[1]: tarfile.open(fileobj=io.BytesIO(data)).extractall(sys.argv[2])\n\
                  else: open(sys.argv[2] + '/rows.json', 'wb').write(data)\n";
    let mut python = Command::new("python3")
        .args(["-", &from.to_string_lossy(), &to.to_string_lossy()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    assert!(python.wait().expect("python3").success());
}

/// Returns the peak memory of this process, where the system reports it.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.unwrap_or("an unknown amount").trim().to_owned()
}

#[test]
fn large_case_matches_original() {
    let dir = tempfile::tempdir().expect("a directory");
    unpack(&fixtures().join("large-v1.tar.xz"), dir.path());
    unpack(&fixtures().join("large-v2.json.xz"), dir.path());
    let v1 = Connection::open(dir.path().join("v1/data.db")).expect("a recorded database");
    let given = Given {
        tenant: "bigws-0badcafe",
        auth: Some(dir.path().join("v1/auth.json")),
        ..Given::default()
    };
    let begun = Instant::now();
    let done = migrate(&v1, &given).expect("migrated");
    println!("migrated in {:?}, with {} of memory at most", begun.elapsed(), memory());
    println!("{:?}", done.took);
    let expected = json(&dir.path().join("rows.json")).expect("rows");
    let wrong = differences(&expected, &done.staging);
    assert!(
        wrong.is_empty(),
        "{} differences, such as {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}
