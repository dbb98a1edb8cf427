//! What a cache promises of its folder: nothing stale, nothing half written, nothing beyond its bound.

use super::*;

fn blob(numbers: &[f32]) -> Blob {
    Blob {
        dtype: Dtype::F32,
        shape: vec![numbers.len()],
        bytes: numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}

fn key(name: &str) -> Key {
    Key::of(name.as_bytes())
}

fn get(store: &Store, name: &str) -> Option<Blob> {
    store.get(key(name)).map(|blob| (*blob).clone())
}

/// The one file of a cache.
fn only_file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

#[test]
fn what_was_put_is_there_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), None).unwrap();
    let (one, two) = (blob(&[1.0, 2.0]), blob(&[3.0]));
    assert_eq!(get(&store, "one"), None);
    store.put(key("one"), one.clone());
    assert_eq!(get(&store, "one").as_ref(), Some(&one));
    store.flush();
    store.put(key("two"), two.clone());
    // The first to come stays: equal keys mean equal entries.
    store.put(key("one"), two.clone());
    assert_eq!(store.usage().entries, 2);
    drop(store);

    let store = Store::open(folder.path(), None).unwrap();
    assert_eq!(get(&store, "one"), Some(one));
    assert_eq!(get(&store, "two"), Some(two));
    assert!(!store.holds(key("three")));
    assert_eq!(store.usage().entries, 2);
    assert_eq!(store.notes(), []);
}

#[test]
fn it_stays_within_its_bound_whoever_fills_it() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = [(); 2].map(|()| Store::open(folder.path(), Some(1000)).unwrap());
    for (store, number) in [(&a, 1.0), (&b, 2.0)] {
        store.put(key(&format!("{number}")), blob(&[number; 100]));
        assert!(!store.is_closed());
        store.flush();
    }
    // Each had room for one, and there was room for one in all.
    assert!(!a.is_closed() && b.is_closed());
    assert!(matches!(b.notes()[..], [Note::Full { max_bytes: 1000, .. }]));
    let bytes = b.bytes_on_disk().unwrap();
    assert!((400..=1000).contains(&bytes), "{bytes}");
    b.put(key("later"), blob(&[0.0]));
    assert!(!b.holds(key("later")) && b.notes().is_empty());
    // One run's own entries count before they are written.
    a.put(key("more"), blob(&[0.0; 100]));
    assert!(a.is_closed() && !a.holds(key("more")));
}

#[test]
fn damaged_and_unfinished_files_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), None).unwrap();
    store.put(key("one"), blob(&[1.0; 100]));
    drop(store);
    let file = only_file(folder.path());
    let whole = fs::read(&file).unwrap();
    // Neither is a file of the cache.
    fs::write(folder.path().join(".unfinished-abc"), &whole).unwrap();
    fs::write(folder.path().join("model.safetensors"), "other").unwrap();
    for (damage, wanted) in [
        (
            whole[..whole.len() - 1].to_vec(),
            "it holds 399 bytes of tensors instead of 400",
        ),
        (whole[..5].to_vec(), "it ends within its header"),
        (
            [&u64::MAX.to_le_bytes(), &whole[8..]].concat(),
            "its header claims",
        ),
        (vec![0; 100], "EOF"),
        (b"not safetensors at all".to_vec(), "its header claims"),
    ] {
        fs::write(&file, damage).unwrap();
        let store = Store::open(folder.path(), None).unwrap();
        assert_eq!(store.usage().entries, 0);
        let notes = store.notes();
        assert!(
            matches!(&notes[..], [Note::Damaged { reason, .. }] if reason.contains(wanted)),
            "{notes:?}"
        );
        assert!(!file.exists());
        assert_eq!(Store::open(folder.path(), None).unwrap().notes(), []);
    }
    fs::write(&file, whole).unwrap();
    assert!(Store::open(folder.path(), None).unwrap().holds(key("one")));
    assert!(folder.path().join("model.safetensors").exists());
}

#[test]
fn a_changed_byte_is_a_miss_that_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), None).unwrap();
    store.put(key("one"), blob(&[1.0; 100]));
    drop(store);
    let file = only_file(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();

    let store = Store::open(folder.path(), None).unwrap();
    assert!(store.holds(key("one")));
    assert_eq!(get(&store, "one"), None);
    assert_eq!(get(&store, "one"), None);
    let notes = store.notes();
    assert!(
        matches!(&notes[..], [Note::Damaged { path, .. }] if *path == file),
        "{notes:?}"
    );
    store.put(key("one"), blob(&[1.0; 100]));
    drop(store);
    let store = Store::open(folder.path(), None).unwrap();
    assert_eq!(get(&store, "one"), Some(blob(&[1.0; 100])));
}

#[test]
fn two_runs_fill_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = [(); 2].map(|()| Store::open(folder.path(), None).unwrap());
    a.put(key("one"), blob(&[1.0]));
    b.put(key("two"), blob(&[2.0]));
    drop((a, b));
    assert_eq!(Store::open(folder.path(), None).unwrap().usage().entries, 2);
}
