use super::{
    fake::Fake,
    tests::{NEVER, greeted},
    *,
};
use edgewise_protocol::ErrorCode;
use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::{Arc, mpsc},
};

/// A blob whose bytes are in a file that lives as long as the folder does.
struct Filed {
    _folder: tempfile::TempDir,
    blob: Blob<'static>,
}

fn filed(n: u8, content: &[u8]) -> Filed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    std::fs::write(&path, content).unwrap();
    Filed { _folder: folder, blob: Blob::file(BlobId([n; 32]), content.len() as u64, &path) }
}

/// Uploads one blob; the bytes sent.
fn put(client: &mut DeviceClient, blob: &Blob<'_>, cancel: &AtomicBool) -> Result<u64, Error> {
    let mut sent = 0;
    client.put(&[blob], &mut sent, cancel)?;
    Ok(sent)
}

/// Takes an upload, acknowledging each `step` bytes; gives what came and the most that was ever unacknowledged.
fn receive_upload(agent: &mut Fake, offset: u64, step: u64) -> (Vec<u8>, u64) {
    let Some((id, Request::Put { size, .. })) = agent.request() else { panic!("no upload") };
    agent.say(&AgentMessage::Ack { id, received: offset });
    let (mut got, mut acked, mut most) = (Vec::new(), offset, 0);
    loop {
        let total = offset + got.len() as u64;
        if total == size {
            agent.reply(id, Reply::Stored);
            return (got, most);
        }
        // Nothing more comes: the window is full.
        match agent.frame(Duration::from_millis(if acked == total { 20_000 } else { 150 })) {
            Some(Frame::Chunk { id: of, bytes }) => {
                assert_eq!(of, id);
                got.extend_from_slice(&bytes);
                most = most.max(offset + got.len() as u64 - acked);
            }
            Some(Frame::Control(body)) => {
                assert_eq!(from_control::<HostMessage>(&body), Ok(HostMessage::Ping));
                agent.say(&AgentMessage::Heartbeat);
            }
            None => {
                acked = (acked + step).min(total);
                agent.say(&AgentMessage::Ack { id, received: acked });
            }
        }
    }
}

#[test]
fn an_upload_resumes_and_keeps_its_window() {
    let data: Vec<u8> = (0..(9u32 << 20) + 321).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let size = data.len() as u64;
    let offset = 1_000_001;
    let (report, reported) = mpsc::channel();
    let mut client = greeted(move |agent| {
        report.send(receive_upload(agent, offset, 3 << 20)).unwrap();
        agent.request();
    });
    let sent = put(&mut client, &filed(1, &data).blob, &NEVER).unwrap();
    let (got, most) = reported.recv().unwrap();
    assert_eq!(sent, size - offset);
    assert!(got == data[offset as usize..], "other bytes arrived");
    let window = 4 << 20;
    assert!(most <= window + (256 << 10), "{most} bytes were under way");
    assert!(most > window - (512 << 10), "only {most} bytes were under way");
}

#[test]
fn only_what_is_missing_is_sent_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    };
    let blob = |n: u8, path: PathBuf, size: u64| Blob::file(BlobId([n; 32]), size, &path);
    let blobs = [
        blob(1, file("a", b"aaa"), 3),
        // The path of a blob that is there already is never opened.
        blob(2, dir.path().join("missing"), 99),
        blob(3, file("c", b"ccccc"), 5),
        blob(1, file("a", b"aaa"), 3),
    ];
    let script = |agent: &mut Fake| {
        let Some((id, Request::Have { blobs })) = agent.request() else { panic!("no question") };
        assert_eq!(blobs, [BlobId([1; 32]), BlobId([2; 32]), BlobId([3; 32])]);
        agent.reply(id, Reply::Have(vec![BlobState::Missing, BlobState::Complete, BlobState::Partial(2)]));
    };
    let mut client = greeted(move |agent| {
        script(agent);
        let got = receive_uploads(agent, 2, |blob| u64::from(blob == BlobId([3; 32])) * 2);
        assert_eq!(got, BTreeMap::from([(BlobId([1; 32]), b"aaa".to_vec()), (BlobId([3; 32]), b"ccc".to_vec())]));
        agent.request();
    });
    let mut sent = 0;
    client.ensure_blobs(&blobs, false, &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 6);

    let (seen, paths) = mpsc::channel();
    let mut client = greeted(move |agent| {
        script(agent);
        for _ in 0..2 {
            let Some((id, Request::Take { path, .. })) = agent.request() else { panic!("no take") };
            seen.send(PathBuf::from(path)).unwrap();
            agent.reply(id, Reply::Stored);
        }
        agent.request();
    });
    let mut sent = 0;
    client.ensure_blobs(&blobs, true, &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 0);
    assert_eq!(paths.iter().take(2).collect::<Vec<_>>(), [dir.path().join("a"), dir.path().join("c")]);
}

/// Takes `count` uploads, acknowledging nothing but where they start; what came of each.
fn receive_uploads(agent: &mut Fake, count: usize, offset: impl Fn(BlobId) -> u64) -> BTreeMap<BlobId, Vec<u8>> {
    let (mut open, mut got) = (BTreeMap::new(), BTreeMap::new());
    while got.len() < count {
        match agent.frame(Duration::from_secs(20)).expect("the host is gone") {
            Frame::Chunk { id, bytes } => {
                let (blob, size, have): &mut (BlobId, u64, Vec<u8>) = open.get_mut(&id).expect("a chunk nobody announced");
                have.extend_from_slice(&bytes);
                if offset(*blob) + have.len() as u64 == *size {
                    agent.reply(id, Reply::Stored);
                    got.insert(*blob, std::mem::take(have));
                }
            }
            Frame::Control(body) => match from_control(&body).unwrap() {
                HostMessage::Request { id, request: Request::Put { blob, size } } => {
                    open.insert(id, (blob, size, Vec::new()));
                    agent.say(&AgentMessage::Ack { id, received: offset(blob) });
                }
                HostMessage::Ping => agent.say(&AgentMessage::Heartbeat),
                HostMessage::Hello(_) => {}
                other => panic!("{other:?}"),
            },
        }
    }
    got
}

#[test]
fn many_uploads_go_at_once_and_pieces_make_a_blob() {
    let all: Vec<u8> = (0..40_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let memory = |n: u8, pieces: Vec<&'static [u8]>| Blob {
        id: BlobId([n; 32]),
        size: pieces.iter().map(|p| p.len() as u64).sum(),
        content: Content::Memory(pieces),
    };
    let all: &'static [u8] = all.leak();
    let mut blobs: Vec<Blob<'_>> = (0..200_u8).map(|n| memory(n, vec![&all[usize::from(n) * 200..][..200]])).collect();
    blobs.push(memory(250, vec![&all[39_990..], &[], &all[5..25]]));
    let mut client = greeted(|agent| {
        // Nothing is stored before several were announced: one after the other would wait here for ever.
        let mut announced = Vec::new();
        while announced.len() < 8 {
            let Some((id, Request::Put { blob, size })) = agent.request() else { panic!("no upload") };
            announced.push((id, blob, size));
        }
        for (id, ..) in &announced {
            agent.fail(*id, ErrorCode::Io, "the disk is broken");
        }
        while let Some(HostMessage::Cancel { id } | HostMessage::Request { id, .. }) = agent.message() {
            agent.fail(id, ErrorCode::Cancelled, "given up");
        }
    });
    let error = client.put(&blobs.iter().collect::<Vec<_>>(), &mut 0, &NEVER).unwrap_err();
    assert!(matches!(&error, Error::Device { code: ErrorCode::Io, .. }), "{error}");
    drop(client);

    let (report, reported) = mpsc::channel();
    let mut client = greeted(move |agent| {
        report.send(receive_uploads(agent, 201, |_| 0)).unwrap();
        agent.request();
    });
    let mut sent = 0;
    client.put(&blobs.iter().collect::<Vec<_>>(), &mut sent, &NEVER).unwrap();
    assert_eq!(sent, 40_030);
    let got = reported.recv().unwrap();
    assert_eq!(got[&BlobId([250; 32])], [&all[39_990..], &all[5..25]].concat());
    assert!((0..200_u8).all(|n| got[&BlobId([n; 32])] == all[usize::from(n) * 200..][..200]));
}

#[test]
fn a_file_of_another_size_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    std::fs::write(&path, "1234").unwrap();
    let mut client = greeted(|agent| assert_eq!(agent.request(), None));
    let error = put(&mut client, &Blob::file(BlobId([1; 32]), 5, &path), &NEVER).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}

#[test]
fn the_devices_own_error_ends_an_upload_with_its_code() {
    let mut client = greeted(|agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Ack { id, received: 0 });
        agent.frame(Duration::from_secs(20));
        agent.fail(id, ErrorCode::NoSpace, "no space\x1b[31m left");
        agent.request();
    });
    let error = put(&mut client, &filed(1, &vec![0; 20 << 20]).blob, &NEVER).unwrap_err();
    assert!(
        matches!(&error, Error::Device { code: ErrorCode::NoSpace, message, .. } if message == "no space[31m left"),
        "{error}"
    );
    assert!(error.hint().is_some() && !error.breaks_connection());
}

#[test]
fn an_upload_can_be_cancelled_and_the_connection_lives_on() {
    let cancel = Arc::new(AtomicBool::new(false));
    let setter = Arc::clone(&cancel);
    let mut client = greeted(move |agent| {
        let (id, _) = agent.request().unwrap();
        agent.say(&AgentMessage::Ack { id, received: 0 });
        setter.store(true, Ordering::Relaxed);
        assert_eq!(agent.message(), Some(HostMessage::Cancel { id }));
        agent.fail(id, ErrorCode::Cancelled, "cancelled");
        let (id, _) = agent.request().unwrap();
        agent.reply(id, Reply::Have(vec![BlobState::Partial(1)]));
        agent.request();
    });
    let error = put(&mut client, &filed(1, &vec![0; 64 << 20]).blob, &cancel).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(client.have(&[BlobId([1; 32])]).unwrap(), [BlobState::Partial(1)]);
}
