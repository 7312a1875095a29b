//! Snapshots in a folder of a test's own.

use super::*;

fn config(folder: &Path) -> DomainConfig {
    let text = format!(
        "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\n[[disk]]\nvdev = \"xvda\"\ntarget = \"{}\"\n",
        folder.join("disk.img").display()
    );
    DomainConfig::from_toml(&text, "test").unwrap()
}

fn content(fill: u8) -> Vec<u8> {
    let mut bytes = vec![0; 3 * CHUNK + 17];
    bytes[CHUNK + 5] = fill;
    bytes[3 * CHUNK + 16] = fill;
    bytes
}

#[test]
fn disks_go_back_to_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.img");
    fs::write(&disk, content(7)).unwrap();
    let config = config(folder.path());
    let snapshots = Snapshots::new(&folder.path().join("snapshots"));
    let name: SnapshotName = "one".parse().unwrap();
    let mut making = snapshots.begin(&name, &config, 65536).unwrap();
    fs::write(making.memory(), b"stream").unwrap();
    making.copy_disks().unwrap();
    making.finish().unwrap();

    fs::write(&disk, content(9)).unwrap();
    let (manifest, place) = snapshots.read(&config.name, &name).unwrap();
    assert_eq!(fs::read(manifest.memory(&place)).unwrap(), b"stream");
    manifest.restore_disks(&place).unwrap();
    assert_eq!(fs::read(&disk).unwrap(), content(7));
    assert_eq!(manifest.config, config);
    let list = snapshots.list(None);
    assert_eq!(list.len(), 1);
    assert_eq!((&*list[0].domain, &*list[0].name), ("web", "one"));
    assert!(matches!(
        snapshots.begin(&name, &config, 1),
        Err(SnapshotError::Exists { .. })
    ));
    snapshots.delete(&config.name, &name).unwrap();
    assert!(snapshots.list(Some(&config.name)).is_empty());
    assert!(matches!(
        snapshots.delete(&config.name, &name),
        Err(SnapshotError::Absent { .. })
    ));
}

#[test]
fn one_that_fails_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let snapshots = Snapshots::new(folder.path());
    let name: SnapshotName = "one".parse().unwrap();
    let mut making = snapshots.begin(&name, &config, 1).unwrap();
    // Its disk's file is missing.
    assert!(making.copy_disks().is_err());
    drop(making);
    assert!(snapshots.list(None).is_empty());
    assert!(entries(&folder.path().join("web")).is_empty());
}

#[test]
fn a_manifest_that_leads_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    fs::write(folder.path().join("disk.img"), b"x").unwrap();
    let snapshots = Snapshots::new(folder.path());
    let name: SnapshotName = "one".parse().unwrap();
    let mut making = snapshots.begin(&name, &config, 1).unwrap();
    making.copy_disks().unwrap();
    making.manifest.memory.file = "../../etc/shadow".into();
    making.finish().unwrap();
    let error = snapshots.read(&config.name, &name).unwrap_err();
    assert!(error.to_string().contains("no file of it"), "{error}");
}

#[test]
fn what_a_killed_daemon_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let disk = folder.path().join("disk.img");
    fs::write(&disk, b"x").unwrap();
    let snapshots = Snapshots::new(&folder.path().join("snapshots"));
    let name: SnapshotName = "one".parse().unwrap();
    let mut making = snapshots.begin(&name, &config, 1).unwrap();
    making.copy_disks().unwrap();
    making.finish().unwrap();
    let two = snapshots
        .begin(&"two".parse().unwrap(), &config, 1)
        .unwrap();
    // As if the process ended here.
    std::mem::forget(two);
    fs::write(reverting(&disk), b"half").unwrap();
    snapshots.sweep();
    assert!(disk.exists() && !reverting(&disk).exists());
    assert_eq!(entries(&folder.path().join("snapshots/web")).len(), 1);
    assert_eq!(snapshots.list(None).len(), 1);
}
