//! Blobs over the wire: uploads, their resumption and corruption, and files that are taken.

use crate::support::{Agent, code, endless_job, id_of};
use edgewise_protocol::{AgentMessage, BlobId, BlobState, ErrorCode, HostMessage, MAX_CHUNK, Reply, Request, Stage};
use std::{fs, time::Duration};

fn noise(size: usize) -> Vec<u8> {
    (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn states(agent: &mut Agent, blobs: Vec<BlobId>) -> Vec<BlobState> {
    match agent.call(Request::Have { blobs }).unwrap() {
        Reply::Have(states) => states,
        other => panic!("{other:?}"),
    }
}

fn state(agent: &mut Agent, bytes: &[u8]) -> BlobState {
    states(agent, vec![id_of(bytes)])[0]
}

#[test]
fn an_upload_is_acknowledged_and_kept() {
    let mut agent = Agent::new();
    let bytes = noise(3 << 20);
    assert_eq!(state(&mut agent, &bytes), BlobState::Missing);
    let id = agent.ask(Request::Put { blob: id_of(&bytes), size: bytes.len() as u64 });
    assert_eq!(agent.next(), AgentMessage::Ack { id, received: 0 });
    agent.send_chunks(id, &bytes);
    for mebibytes in 1..=3 {
        assert_eq!(agent.next(), AgentMessage::Ack { id, received: mebibytes << 20 });
    }
    assert_eq!(agent.next(), AgentMessage::Reply { id, result: Ok(Reply::Stored) });
    assert_eq!(state(&mut agent, &bytes), BlobState::Complete);

    let again = agent.ask(Request::Put { blob: id_of(&bytes), size: bytes.len() as u64 });
    assert_eq!(agent.next(), AgentMessage::Ack { id: again, received: 3 << 20 }, "nothing is sent twice");
    assert_eq!(agent.next(), AgentMessage::Reply { id: again, result: Ok(Reply::Stored) });
    agent.put(b"");
}

#[test]
fn an_upload_survives_the_agent() {
    let mut agent = Agent::new();
    let bytes = noise(2_500_000);
    let id = agent.ask(Request::Put { blob: id_of(&bytes), size: bytes.len() as u64 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, &bytes[..1_100_000]);
    assert!(agent.wait_for_ack(id) >= 1 << 20);
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();

    let store = std::mem::replace(&mut agent.store, tempfile::tempdir().unwrap());
    let mut agent = Agent::in_store(store);
    let BlobState::Partial(have) = state(&mut agent, &bytes) else { panic!("nothing was kept") };
    assert!(have >= 1 << 20);
    let id = agent.ask(Request::Put { blob: id_of(&bytes), size: bytes.len() as u64 });
    assert_eq!(agent.wait_for_ack(id), have);
    agent.send_chunks(id, &bytes[have as usize..]);
    assert_eq!(agent.reply(id), Ok(Reply::Stored));
}

#[test]
fn corrupted_bytes_are_noticed_and_dropped() {
    let mut agent = Agent::new();
    let mut bytes = noise(600_000);
    let blob = id_of(&bytes);
    let id = agent.ask(Request::Put { blob, size: bytes.len() as u64 });
    agent.wait_for_ack(id);
    bytes[300_000] ^= 1;
    agent.send_chunks(id, &bytes);
    assert_eq!(code(agent.reply(id)), ErrorCode::HashMismatch);
    bytes[300_000] ^= 1;
    assert_eq!(state(&mut agent, &bytes), BlobState::Missing);
    agent.put(&bytes);
}

#[test]
fn a_chunk_that_comes_twice_does_no_harm() {
    let mut agent = Agent::new();
    let bytes = noise(2 * MAX_CHUNK + 1000);
    let blob = id_of(&bytes);
    let first = &bytes[..MAX_CHUNK];
    // In place of another one, the number of bytes is right and the hash is not.
    let id = agent.ask(Request::Put { blob, size: bytes.len() as u64 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, first);
    agent.send_chunks(id, first);
    agent.send_chunks(id, &bytes[2 * MAX_CHUNK..]);
    assert_eq!(code(agent.reply(id)), ErrorCode::HashMismatch);
    // Besides the others, there are more bytes than were announced; those that come after that are dropped.
    let id = agent.ask(Request::Put { blob, size: bytes.len() as u64 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, first);
    agent.send_chunks(id, &bytes);
    assert_eq!(code(agent.reply(id)), ErrorCode::BadRequest);
    assert_eq!(state(&mut agent, &bytes), BlobState::Missing);
    // After the end, what is stored stays as it is.
    let id = agent.ask(Request::Put { blob, size: bytes.len() as u64 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, &bytes);
    assert_eq!(agent.reply(id), Ok(Reply::Stored));
    agent.send_chunks(id, first);
    assert_eq!(state(&mut agent, &bytes), BlobState::Complete);
    assert_eq!(fs::read(agent.store.path().join("blobs").join(blob.to_string())).unwrap(), bytes);
}

#[test]
fn chunks_that_nobody_awaits_are_refused_once() {
    let mut agent = Agent::new();
    agent.send_chunks(77, &[0; 100]);
    agent.send_chunks(77, &[0; 100]);
    assert_eq!(code(agent.reply(77)), ErrorCode::BadRequest);

    let id = agent.ask(Request::Put { blob: id_of(b"abc"), size: 3 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, b"abcd");
    agent.send_chunks(id, b"more that was on the way");
    assert_eq!(code(agent.reply(id)), ErrorCode::BadRequest);
    assert_eq!(state(&mut agent, b"abc"), BlobState::Missing);
}

#[test]
fn one_blob_has_one_upload_at_a_time() {
    let mut agent = Agent::new();
    let first = agent.ask(Request::Put { blob: id_of(b"abc"), size: 3 });
    agent.wait_for_ack(first);
    assert_eq!(code(agent.call(Request::Put { blob: id_of(b"abc"), size: 3 })), ErrorCode::Busy);
    agent.send_chunks(first, b"abc");
    assert_eq!(agent.reply(first), Ok(Reply::Stored));
}

#[test]
fn many_small_uploads_are_open_at_once_and_their_number_is_bounded() {
    let mut agent = Agent::new();
    let blobs: Vec<Vec<u8>> = (0..64).map(|i| noise(1_000 + i)).collect();
    let ids: Vec<u32> =
        blobs.iter().map(|bytes| agent.ask(Request::Put { blob: id_of(bytes), size: bytes.len() as u64 })).collect();
    for _ in &ids {
        assert!(matches!(agent.next(), AgentMessage::Ack { received: 0, .. }));
    }
    let more = agent.call(Request::Put { blob: id_of(b"more"), size: 4 });
    assert_eq!(code(more), ErrorCode::Busy);
    ids.iter().zip(&blobs).for_each(|(id, bytes)| agent.send_chunks(*id, bytes));
    let mut stored: Vec<u32> = Vec::new();
    while stored.len() < ids.len() {
        match agent.next() {
            AgentMessage::Reply { id, result: Ok(Reply::Stored) } => stored.push(id),
            AgentMessage::Ack { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    stored.sort_unstable();
    assert_eq!(stored, ids);
    agent.put(b"more");
    assert!(states(&mut agent, blobs.iter().map(|bytes| id_of(bytes)).collect()).iter().all(|s| *s == BlobState::Complete));
}

#[test]
fn an_upload_can_be_given_up_and_taken_up_again() {
    let mut agent = Agent::new();
    let id = agent.ask(Request::Put { blob: id_of(b"abcdef"), size: 6 });
    agent.wait_for_ack(id);
    agent.send_chunks(id, b"abc");
    agent.send(&HostMessage::Cancel { id });
    agent.send_chunks(id, b"def");
    assert_eq!(code(agent.reply(id)), ErrorCode::Cancelled);
    assert_eq!(state(&mut agent, b"abcdef"), BlobState::Partial(3));
    agent.put(b"abcdef");
}

#[test]
fn a_blob_that_cannot_fit_is_refused_at_once() {
    let mut agent = Agent::new();
    assert_eq!(code(agent.call(Request::Put { blob: id_of(b"x"), size: 1 << 60 })), ErrorCode::NoSpace);
    assert!(agent.is_alive());
}

#[test]
fn a_file_on_the_device_is_taken() {
    let mut agent = Agent::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    fs::write(&path, "abc").unwrap();
    let take = |size, path: &std::path::Path| Request::Take { blob: id_of(b"abc"), size, path: path.to_str().unwrap().into() };
    assert_eq!(agent.call(take(3, &path)), Ok(Reply::Stored));
    assert_eq!(state(&mut agent, b"abc"), BlobState::Complete);
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, "xyz").unwrap();
    assert_eq!(state(&mut agent, b"abc"), BlobState::Missing, "the file is not what was taken any more");
    assert_eq!(code(agent.call(take(3, &path))), ErrorCode::HashMismatch);
    assert_eq!(code(agent.call(take(3, &dir.path().join("none")))), ErrorCode::Io);
}

#[test]
fn the_store_keeps_to_its_budget() {
    let mut agent = Agent::with_budget(1_000_000);
    let blobs: Vec<Vec<u8>> = (0..3).map(|i| noise(400_000 + i)).collect();
    agent.put(&blobs[0]);
    agent.put(&blobs[1]);
    assert_eq!(state(&mut agent, &blobs[0]), BlobState::Complete, "which makes it the one that is used last");
    agent.put(&blobs[2]);
    let ids = blobs.iter().map(|bytes| id_of(bytes)).collect();
    assert_eq!(states(&mut agent, ids), [BlobState::Complete, BlobState::Missing, BlobState::Complete]);

    // Bytes that are over it all by themselves are taken all the same, and those that are taken from a file count as well.
    let file = tempfile::NamedTempFile::new().unwrap();
    let large = noise(1_200_000);
    fs::write(file.path(), &large).unwrap();
    assert_eq!(state(&mut agent, &large), BlobState::Missing);
    let path = file.path().to_str().unwrap().to_owned();
    assert_eq!(agent.call(Request::Take { blob: id_of(&large), size: 1_200_000, path }), Ok(Reply::Stored));
    assert_eq!(fs::read_dir(agent.store.path().join("blobs")).unwrap().count(), 1);
    agent.put(&blobs[1]);
    assert_eq!(fs::read_dir(agent.store.path().join("blobs")).unwrap().count(), 2, "it was asked about last");
    assert_eq!(state(&mut agent, &blobs[1]), BlobState::Complete);
    agent.put(&blobs[2]);
    assert_eq!(state(&mut agent, &large), BlobState::Missing);
    assert_eq!(fs::read_dir(agent.store.path().join("taken")).unwrap().count(), 0);
}

#[test]
fn what_is_being_measured_is_not_driven_out() {
    let mut agent = Agent::with_budget(1);
    let named = {
        // Small as the budget is, the files of one artifact can be gathered under it once the host has named them.
        let folder = tempfile::tempdir().unwrap();
        edgewise_onnx::testing::write_tiny(folder.path()).unwrap();
        let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.unwrap().path()).unwrap();
        fs::read_dir(folder.path()).unwrap().map(|entry| id_of(&read(entry))).collect::<Vec<_>>()
    };
    states(&mut agent, named.clone());
    let files = agent.put_tiny();
    let id = agent.ask(Request::Measure(Box::new(endless_job(files))));
    agent.wait_for_stage(id, Stage::Warm);
    states(&mut agent, vec![id_of(b"something else")]);
    agent.put(&noise(300_000));
    let in_use = states(&mut agent, named.clone());
    assert!(in_use.iter().all(|state| *state == BlobState::Complete), "{in_use:?}");

    agent.send(&HostMessage::Cancel { id });
    assert_eq!(code(agent.reply(id)), ErrorCode::Cancelled);
    states(&mut agent, vec![id_of(b"something else")]);
    agent.put(&noise(300_001));
    let left = states(&mut agent, named);
    assert!(left.iter().all(|state| *state == BlobState::Missing), "{left:?}");
}
