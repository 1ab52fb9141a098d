use super::*;
use crate::{cancel, store::Upload};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const AMPLE: u64 = 1 << 40;

/// A store of this budget, and where it is.
fn store(budget: u64) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Some(budget)).unwrap();
    (dir, store)
}

fn id(bytes: &[u8]) -> BlobId {
    BlobId(Sha256::digest(bytes).into())
}

/// Ten bytes that only this letter makes.
fn ten(letter: u8) -> [u8; 10] {
    [letter; 10]
}

fn begin(store: &Store, bytes: &[u8]) -> Upload {
    let (_keep, cancel) = cancel::pair();
    Upload::begin(store, id(bytes), bytes.len() as u64, &cancel).unwrap()
}

fn put(store: &Store, bytes: &[u8]) {
    let mut upload = begin(store, bytes);
    upload.append(bytes).unwrap();
    Upload::finish_all(vec![upload], store).remove(0).unwrap();
}

/// Puts ten bytes for each letter, the first the longest ago.
fn fill(store: &Store, letters: &[u8]) {
    for (&letter, age) in letters.iter().zip((1..=letters.len() as u64).rev()) {
        put(store, &ten(letter));
        set_age(&store.blob(id(&ten(letter))), age);
    }
}

fn set_age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::open(path).unwrap().set_modified(then).unwrap();
}

/// Which of these letters' blobs are there.
fn there(store: &Store, letters: &[u8]) -> String {
    letters.iter().filter(|letter| store.locate(id(&ten(**letter))).is_some()).map(|letter| char::from(*letter)).collect()
}

#[test]
fn the_budget_follows_from_the_disk_and_counts_what_is_stored() {
    assert_eq!(default_budget(100, 20), 60);
    assert_eq!(default_budget(1 << 50, 0), 8 << 30);
    assert_eq!(default_budget(u64::MAX, u64::MAX), 8 << 30);
}

#[test]
fn the_least_recently_used_goes_first() {
    let (_dir, store) = store(30);
    fill(&store, b"abc");
    drop(store.need(id(&ten(b'a')), 10).unwrap());
    put(&store, &ten(b'd'));
    assert_eq!(there(&store, b"abcd"), "acd", "b was used longest ago");
    assert_eq!(store.stored_bytes(), 30);
    put(&store, &[0; 15]);
    assert_eq!((there(&store, b"abcd").as_str(), store.stored_bytes()), ("d", 25));
}

#[test]
fn a_use_is_remembered_by_the_next_agent() {
    let (dir, store) = store(30);
    fill(&store, b"abc");
    drop(store.hold(id(&ten(b'a'))).unwrap().unwrap());
    drop(store);
    let store = Store::open(&dir.path().join("store"), Some(30)).unwrap();
    put(&store, &ten(b'd'));
    assert_eq!(there(&store, b"abcd"), "acd");
}

#[test]
fn what_is_held_stays_even_beyond_the_budget() {
    let (dir, store) = store(20);
    fill(&store, b"ab");
    let held = store.need(id(&ten(b'a')), 10).unwrap();
    set_age(held.path(), 9);
    // Another agent respects it, too.
    let other = Store::open(&dir.path().join("store"), Some(20)).unwrap();
    put(&other, &[0; 25]);
    assert_eq!((there(&store, b"ab").as_str(), store.stored_bytes()), ("a", 35));
    drop(held);
    put(&store, &ten(b'c'));
    assert_eq!((there(&store, b"ac").as_str(), store.stored_bytes()), ("c", 10), "the others were over the budget");
}

#[test]
fn what_the_host_asked_about_last_stays() {
    let (_dir, store) = store(20);
    fill(&store, b"ab");
    let named = vec![id(&ten(b'a')), id(&ten(b'b')), id(&ten(b'c'))];
    assert_eq!(store.ask(named), [BlobState::Complete, BlobState::Complete, BlobState::Missing]);
    assert_eq!(store.ask(vec![]), []);
    put(&store, &ten(b'c'));
    assert_eq!(there(&store, b"abc"), "abc", "the parts of one artifact do not drive each other out");
    store.ask(vec![id(b"another")]);
    put(&store, &ten(b'd'));
    assert_eq!(store.stored_bytes(), 20);
}

#[test]
fn the_runtime_that_was_used_last_stays() {
    let (_dir, store) = store(20);
    fill(&store, b"ab");
    assert_eq!(store.hold_library(id(b"none")).unwrap_err().code, ErrorCode::MissingBlob);
    drop(store.hold_library(id(&ten(b'a'))).unwrap());
    set_age(&store.blob(id(&ten(b'a'))), 9);
    put(&store, &[0; 25]);
    assert_eq!(there(&store, b"ab"), "a");
}

#[test]
fn broken_off_uploads_go_before_blobs_and_running_ones_stay() {
    let (dir, store) = store(40);
    fill(&store, b"a");
    let parts = [b'x', b'y'].map(|letter| {
        let mut upload = begin(&store, &ten(letter));
        upload.append(&[letter; 9]).unwrap();
        upload
    });
    let [broken_off, running] = parts;
    drop(broken_off);
    put(&store, &ten(b'b'));
    assert_eq!(store.state(id(&ten(b'x'))), BlobState::Partial(9), "38 and one promised of 40");
    put(&store, &ten(b'c'));
    assert_eq!(store.state(id(&ten(b'x'))), BlobState::Missing);
    assert_eq!((store.state(id(&ten(b'y'))), there(&store, b"abc").as_str()), (BlobState::Partial(9), "abc"));
    // Its own part is not what makes room for an upload.
    drop((running, store));
    let store = Store::open(&dir.path().join("store"), Some(39)).unwrap();
    let mut resumed = begin(&store, &ten(b'y'));
    assert_eq!(resumed.received(), 9);
    resumed.append(b"y").unwrap();
    Upload::finish_all(vec![resumed], &store).remove(0).unwrap();
    assert_eq!((there(&store, b"abcy").as_str(), store.stored_bytes()), ("bcy", 30));
}

#[test]
fn a_blob_over_the_budget_has_the_store_for_itself() {
    let (_dir, store) = store(20);
    fill(&store, b"ab");
    put(&store, &[0; 50]);
    assert_eq!(store.stored_bytes(), 50);
    put(&store, &ten(b'c'));
    assert_eq!(store.stored_bytes(), 10);
}

#[test]
fn a_full_disk_is_emptied_before_it_is_said_to_be_full() {
    let (_dir, store) = store(AMPLE);
    fill(&store, b"abc");
    let full = DISK_RESERVE + 5;
    let error = store.make_room_on(full, id(b"new"), 36, 36).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace);
    assert!(error.message.contains("36 bytes are needed") && error.message.contains("30 could be made free"), "{error}");
    assert_eq!(there(&store, b"abc"), "abc", "nothing is dropped for what cannot be had");
    store.make_room_on(full, id(b"new"), 16, 16).unwrap();
    assert_eq!(there(&store, b"abc"), "c", "room for 11 more");
    store.make_room_on(full, id(b"new"), 16, 0).unwrap();
    assert_eq!(there(&store, b"abc"), "c", "a link needs no room on the disk");
    assert_eq!(store.make_room(id(b"new"), u64::MAX, u64::MAX).unwrap_err().code, ErrorCode::NoSpace);
}

#[test]
fn links_go_without_harm_to_the_file_and_free_nothing() {
    let (dir, store) = store(20);
    let (_keep, cancel) = cancel::pair();
    let file = dir.path().join("weights");
    fs::write(&file, ten(b'l')).unwrap();
    set_age(&file, 9);
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    store.take(id(&ten(b'l')), 10, &file, &cancel).unwrap();
    fill(&store, b"a");
    assert_eq!(store.make_room_on(DISK_RESERVE, id(b"new"), 0, 11).unwrap_err().code, ErrorCode::NoSpace, "only a frees");

    // Taken just now, so the other one goes, and again at its next use.
    put(&store, &ten(b'b'));
    assert_eq!(there(&store, b"lab"), "lb");
    set_age(&store.stamp(id(&ten(b'l'))), 9);
    drop(store.need(id(&ten(b'l')), 10).unwrap());
    set_age(&store.blob(id(&ten(b'b'))), 1);
    put(&store, &ten(b'c'));
    assert_eq!(there(&store, b"lbc"), "lc");
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before, "the file's own time is left alone");

    set_age(&store.stamp(id(&ten(b'l'))), 9);
    put(&store, &ten(b'd'));
    assert_eq!(there(&store, b"lcd"), "cd");
    assert!(!store.stamp(id(&ten(b'l'))).exists());
    assert_eq!(fs::read(&file).unwrap(), ten(b'l'));
}

#[test]
fn what_is_taken_makes_room_too() {
    let (dir, store) = store(20);
    let (_keep, cancel) = cancel::pair();
    fill(&store, b"ab");
    let file = dir.path().join("weights");
    fs::write(&file, ten(b'l')).unwrap();
    let wrong = store.take(id(b"wrong"), 10, &file, &cancel).unwrap_err();
    assert_eq!((wrong.code, there(&store, b"ab").as_str()), (ErrorCode::HashMismatch, "ab"), "nothing goes for a wrong file");
    store.take(id(&ten(b'l')), 10, &file, &cancel).unwrap();
    assert_eq!(there(&store, b"abl"), "bl");
}

#[test]
fn a_blob_that_another_agent_only_looks_at_is_waited_for() {
    let (_dir, store) = store(AMPLE);
    fill(&store, b"a");
    let path = store.blob(id(&ten(b'a')));
    let looking = File::open(&path).unwrap();
    assert!(sys::try_lock(&looking, true).unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.need(id(&ten(b'a')), 10));
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(looking);
        waiting.join().unwrap().unwrap();
    });
    // And one that goes meanwhile is missing.
    let leaving = File::open(&path).unwrap();
    assert!(sys::try_lock(&leaving, true).unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.need(id(&ten(b'a')), 10));
        thread::sleep(Duration::from_millis(50));
        fs::remove_file(&path).unwrap();
        drop(leaving);
        assert_eq!(waiting.join().unwrap().unwrap_err().code, ErrorCode::MissingBlob);
    });
}

#[test]
fn open_uploads_do_not_overshoot_the_budget_together() {
    let (_dir, store) = store(30);
    fill(&store, b"a");
    let first = begin(&store, &ten(b'x'));
    let second = begin(&store, &ten(b'y'));
    assert_eq!(there(&store, b"a"), "a", "10 and 20 promised");
    let third = begin(&store, &ten(b'z'));
    assert_eq!(there(&store, b"a"), "", "what is promised counts before it is there");
    drop((first, second));
    fill(&store, b"b");
    assert_eq!(there(&store, b"b"), "b");
    drop(third);
}

#[test]
fn what_was_promised_counts_on_the_disk_too() {
    let (_dir, store) = store(AMPLE);
    let free = DISK_RESERVE + 25;
    let promised = store.make_room_on(free, id(b"x"), 20, 20).unwrap();
    assert_eq!(store.make_room_on(free, id(b"y"), 10, 10).unwrap_err().code, ErrorCode::NoSpace);
    drop(promised);
    store.make_room_on(free, id(b"y"), 10, 10).unwrap();
}

#[test]
fn an_artifact_made_here_fits_the_budget_or_is_refused() {
    let (_dir, store) = store(30);
    fill(&store, b"ab");
    store.ask(vec![id(&ten(b'a'))]);
    let folder = store.make_folder("made", 20).unwrap();
    assert_eq!(there(&store, b"ab"), "a", "what is not in use goes");
    assert!(folder.path().is_dir());
    let error = store.make_folder("made", 21).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
    drop(store.make_folder("made", 20).unwrap());
}

#[test]
fn thousands_of_blobs_are_taken_in_quickly() {
    let (_dir, store) = store(AMPLE);
    let blobs: Vec<[u8; 4]> = (0..8_000_u32).map(u32::to_le_bytes).collect();
    let start = Instant::now();
    for batch in blobs.chunks(64) {
        let uploads: Vec<Upload> = batch
            .iter()
            .map(|bytes| {
                let mut upload = begin(&store, bytes);
                upload.append(bytes).unwrap();
                upload
            })
            .collect();
        assert!(Upload::finish_all(uploads, &store).iter().all(Result::is_ok));
    }
    let stored = start.elapsed();
    let start = Instant::now();
    let states = store.ask(blobs.iter().map(|bytes| id(bytes)).collect());
    assert!(states.iter().all(|state| *state == BlobState::Complete));
    let asked = start.elapsed();
    // Looking at every blob for every blob would be 64 million looks.
    assert!(stored < Duration::from_secs(40) && asked < Duration::from_secs(5), "{stored:?} {asked:?}");
    let spares = store.spares(id(b"new")).unwrap();
    assert_eq!(spares.len(), 0, "all of them are near");
}

#[test]
fn clearing_is_done_in_bulk() {
    let (_dir, store) = store(640);
    fill(&store, &(0..64).collect::<Vec<u8>>());
    assert_eq!(store.stored_bytes(), 640);
    put(&store, b"x");
    assert_eq!(store.stored_bytes(), 640 - 20 + 1, "one of ten was enough for the byte, and one for a sixty-fourth");
}
